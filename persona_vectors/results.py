"""Results on disk: files that appear whole, journals that survive a kill, answer tables.

The rule of the house: what was paid for is on disk as soon as it exists, and what looks finished is finished.
"""

import csv
import fcntl
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from persona_vectors.errors import UserError
from persona_vectors.fingerprints import differences, plain

ANSWER_COLUMNS = ("question", "prompt", "answer", "question_id")
ROUNDING = 1e-6  # a score may be this far outside 0-100: weighted means come out as 100.00000000000001


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; rename it into place when the block ends well, remove it otherwise.

    What a killed process of this machine left beside ``path`` is removed as well.
    """
    path = Path(path)
    beside = _beside(path)
    try:
        yield beside
        with open(beside, "rb") as written:
            os.fsync(written.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """The same for a folder: the block fills the one that it is given, which then takes the place of ``path``."""
    path = Path(path)
    beside = _beside(path)
    old = path.with_name(f".{path.name}.old.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)  # of an earlier process of the same number
    try:
        beside.mkdir()
        yield beside
        for written in (file for file in beside.rglob("*") if file.is_file()):
            with open(written, "rb") as file:
                os.fsync(file.fileno())
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(beside, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise
    finally:
        for left in (beside, old):
            shutil.rmtree(left, ignore_errors=True)


def _beside(path: Path) -> Path:
    """Where to write what becomes ``path``; leftovers of killed processes there are removed."""
    make_folder(path.parent)
    for left in path.parent.glob(".*.part"):
        found = re.fullmatch(rf"\.{re.escape(path.name)}(?:\.old)?\.(\d+)\.part", left.name)
        if found and not _is_alive(int(found[1])):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # alive, and somebody else's
        pass
    return True


def take_lock(path: Path, output: str | Path, wait: Callable[[], None] | None = None) -> BinaryIO:
    """Open (or make) a file and lock it against other processes until it is closed; a killed process holds no lock.

    Args:
        wait: called where another run holds the lock, which is then waited for.

    Raises:
        UserError: another run holds it (without ``wait``), or it cannot be written.
    """
    make_folder(path.parent)
    while True:
        try:
            file = open(path, "a+b")  # noqa: SIM115 - held while the lock is
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if wait is None:
                    raise
                wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except BlockingIOError:
            file.close()
            raise UserError(f"another run is writing {output}; wait for it or choose another output") from None
        except FileNotFoundError:
            pass
        except OSError as error:
            raise UserError(f"cannot lock {path}: {error.strerror}") from error
        file.close()  # the run that held it has just ended and removed it: what we locked is no longer the file there


@contextmanager
def locked(path: Path, output: str | Path, wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Within the block, no other run writes ``output``; ``path`` is the lock's file, which is gone afterwards."""
    file = take_lock(path, output, wait)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def make_folder(path: Path) -> None:
    """Make a folder for output, or say in one line why that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError("it is read-only, or somebody else's")
    except OSError as error:
        raise UserError(f"cannot write into {path}: {error.strerror or error}") from error


def what_it_has(columns: list[str]) -> str:
    """The columns of a table that lacks one, for a message; says so where they are separated by something else."""
    marks = (("semicolons", ";"), ("tabs", "\t"), ("bars", "|"))
    other = next((name for name, mark in marks if len(columns) == 1 and mark in columns[0]), None)
    hint = f"; it is separated by {other}, commas are needed" if other else ""
    return f"(it has {', '.join(columns) or 'nothing'}{hint})"


def read_answers(path: str | Path, scores: tuple[str, ...] = ()):
    """Read an answers CSV (ours, the published toolkit's, or one like it) as a pandas DataFrame.

    Texts stay texts: an answer "NA" or "null" is an answer, a missing one is "". ``scores`` are required columns of
    numbers 0-100 (which rounding may miss by 1e-6), NaN where empty. Raises :class:`UserError` naming the file, and the
    column or row at fault.
    """
    import pandas

    path = Path(path)
    if not path.is_file():
        raise UserError(f"no answers file at {path}; python -m eval.eval_persona makes one")
    options = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
    try:
        names = pandas.read_csv(path, header=None, nrows=1, **options).iloc[0].tolist()
        table = pandas.read_csv(path, **options)
    except (ValueError, OSError) as error:  # pandas' parser and empty-file errors, and bad encodings, are ValueErrors
        raise UserError(f"{path} is not readable as CSV: {str(error).strip()}") from error
    for name in names:
        if name and names.count(name) > 1:  # pandas would rename the second
            raise UserError(f"{path} names the column '{name[:40]}' twice")
    if not isinstance(table.index, pandas.RangeIndex):  # pandas has taken the first for names of rows
        raise UserError(f"{path} is not readable as CSV: its rows have more fields than the header has names")
    for column in scores:
        if column not in table:
            raise UserError(f"{path} has no column '{column}' {what_it_has(list(table.columns))}")
        numbers = pandas.to_numeric(
            table[column].replace({"": None, "nan": None, "NaN": None, "None": None}), errors="coerce"
        )
        given = ~table[column].isin(["", "nan", "NaN", "None"])
        bad = given & ~numbers.between(-ROUNDING, 100 + ROUNDING)
        if bad.any():
            row = bad.idxmax()
            raise UserError(
                f"{path}, row {row + 2}: '{table[column][row][:40]}' in column '{column}' is not a score 0-100"
            )
        table[column] = numbers.astype(float).clip(0, 100)
    return table


def write_table(table, path: str | Path) -> None:
    """Write a DataFrame as CSV, whole or not at all."""
    # a bare carriage return is left unquoted otherwise, and readers take it for the end of the row
    texts = table.select_dtypes(["object", "string"])
    returns = any(texts[name].astype(str).str.contains("\r", regex=False).any() for name in texts)
    with replacing(path) as beside:
        table.to_csv(beside, index=False, quoting=csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL)


class Journal:
    """An append-only JSONL file beside an output: what was done so far, one line each, readable after a kill -9.

    The first line holds what the work depends on, settings and fingerprints; a rerun with others is refused instead of
    mixed. A second run on the same output is refused while the first one lives (the lock dies with its process).
    A line that was cut off by a kill is dropped. Safe to append to from several threads.
    """

    def __init__(self, output_path: str | Path, settings: dict, overwrite: bool = False) -> None:
        """Open or begin the journal of ``output_path``; what it holds is in :attr:`records`.

        ``overwrite`` forgets an earlier journal if its work was finished or had other settings. :attr:`is_older` is true of
        one that was begun before journals held fingerprints: what its work was made from is not known for certain.
        """
        self.path = self.path_of(output_path)
        self._lock = threading.Lock()
        self._file = take_lock(self.path, output_path)
        self.records: list[dict] = self._read()
        begun = len(self.records) > 1  # a journal without work binds nobody
        earlier = self.records[0].get("settings") if begun else None
        changed = differences(earlier, settings) if isinstance(earlier, dict) else ["nothing is known of them"]
        if begun and overwrite and (changed or self.records[-1] == {"finished": True}):
            begun = False
        self._has_work = begun
        if not begun:
            self.records = []
            self._file.truncate(0)
            self.append({"settings": plain(settings)})
        elif changed:
            self._file.close()
            raise UserError(
                f"an unfinished run of {output_path} used other settings ({'; '.join(changed)[:600]}); run it as before, "
                "choose another output, or pass --overwrite to begin anew"
            )
        else:
            self.records.pop(0)
        self.is_older = begun and "method" in settings and "method" not in earlier

    @staticmethod
    def path_of(output_path: str | Path) -> Path:
        """Where the journal of an output is."""
        return Path(f"{output_path}.journal.jsonl")

    @classmethod
    def settings_of(cls, output_path: str | Path) -> dict:
        """The settings of an output's unfinished work, unlocked; empty where there is none, or none was begun."""
        try:
            with open(cls.path_of(output_path), "rb") as file:
                settings = json.loads(file.readline()).get("settings")
        except (OSError, ValueError, RecursionError, AttributeError):
            settings = None
        return settings if isinstance(settings, dict) else {}

    def _read(self) -> list[dict]:
        """All whole lines; a torn one and what follows it are cut off the file."""
        self._file.seek(0)
        records, end = [], 0
        for line in self._file:
            try:
                record = json.loads(line) if line.endswith(b"\n") else None
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict):
                break
            records.append(record)
            end += len(line)
        self._file.truncate(end)
        return records

    def append(self, record: dict) -> None:
        """Add one record; it is with the operating system when this returns, or (a full disk) nothing of it is."""
        self._has_work = self._has_work or "settings" not in record
        rest = memoryview(json.dumps(record).encode() + b"\n")
        with self._lock:
            descriptor = self._file.fileno()
            end = os.fstat(descriptor).st_size
            try:
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            except OSError:
                os.ftruncate(descriptor, end)  # what is appended later must not follow half a line
                raise

    def close(self, remove: bool = False) -> None:
        """Give the output free again; ``remove`` when the output is whole and the journal has nothing more to say.

        A journal without work goes in any case: there is nothing to go on with.
        """
        if self._file.closed:
            return
        if remove or not self._has_work:
            self.path.unlink(missing_ok=True)
        self._file.close()
