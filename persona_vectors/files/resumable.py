"""Work on a long file, window by window: finished windows are on disk, a kill loses one, processes share the rest.

What a window gave is a small file of its own beside the input (``<file>.parts/``); when all are there, the input is
written anew with the columns added. Knows arrays and files; what the numbers mean is the stage's business.
"""

import contextlib
import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.atomic import make_folder, replacing, take_lock
from persona_vectors.files.fingerprints import of_file
from persona_vectors.files.journal import Journal
from persona_vectors.files.rows import WINDOW_ROWS, Rows, Window, fingerprint, windows

if TYPE_CHECKING:  # --help needs none of it
    import numpy

logger = logging.getLogger(__name__)

WRITTEN = {"written": True}  # in a journal: the columns are in the file


class WindowedWork:
    """New columns for a file of rows, one part per window.

    One process begins and finishes; any number of them, on machines that share the folder, keep windows in between.
    Another number of processes may take up what earlier ones left.

    Args:
        columns: {name of a column to add: what its values are made from}, besides the rows.
        settings: what all of them depend on; an unfinished run with others is refused, not mixed in.
        also: a further field of JSONL rows that the values depend on.
    """

    def __init__(
        self,
        rows: Rows,
        columns: Mapping[str, Mapping],
        settings: dict,
        most_rows: int = WINDOW_ROWS,
        also: str = "",
    ) -> None:
        self.rows, self.columns, self.settings, self.most_rows = rows, list(columns), settings, most_rows
        self.records, self.also = columns, also
        self.folder = Path(f"{rows.path}.parts")
        self.journal: Journal  # from begin() on
        self._state = self._file_state()

    def begin(self, overwrite: bool = False) -> list[int]:
        """Lock the output, drop what other settings left; returns how many rows each window has."""
        sizes = [len(window.records) for window in windows(self.rows, self.most_rows)]  # refuses a file that is broken
        made_from = replace(fingerprint(self.rows, self.also), older=(of_file(self.rows.path).digest[:16],))
        self.records = {name: {"file": made_from, **record} for name, record in self.records.items()}
        settings = {**self.settings, "file": made_from, "columns": self.columns, "most_rows": self.most_rows}
        self.journal = Journal(self.rows.path, settings, overwrite=overwrite)
        if self._file_state() != self._state:  # another run has ended in between
            self.journal.close(remove=not self.journal.records)
            raise UserError(f"{self.rows.path} was changed since this run began; run the command again")
        if not self.journal.records:  # nothing of ours was begun
            shutil.rmtree(self.folder, ignore_errors=True)
            self.journal.append({"parts": self.folder.name})
        make_folder(self.folder)
        return sizes

    def _file_state(self) -> tuple[int, int]:
        state = self.rows.path.stat()
        return state.st_size, state.st_mtime_ns

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"

    def is_kept(self, number: int) -> bool:
        """True where the window is finished."""
        return self._path(number).exists()

    def unfinished(self, rank: int = 0, world: int = 1) -> Iterator[Window]:
        """The windows of process ``rank`` of ``world`` that are still to be done."""
        for window in windows(self.rows, self.most_rows):
            if window.number % world == rank and not self.is_kept(window.number):
                yield window

    def keep(self, number: int, values: "numpy.ndarray | list", problems: Sequence[str]) -> None:
        """Put a window's values on disk, and a problem or "" per row.

        ``values`` are float32 [rows, columns], NaN where there is none, or as many lists of texts, None where none is.
        """
        import numpy

        if not isinstance(values, numpy.ndarray):
            values = numpy.frombuffer(json.dumps(values).encode(), dtype=numpy.uint8)
        with replacing(self._path(number)) as beside, open(beside, "wb") as file:
            numpy.savez(file, values=values, problems=numpy.array(problems, dtype=str))

    def parts(self) -> Iterator[tuple["numpy.ndarray | list", list[str]]]:
        """(values, problems) of every window, in order."""
        import numpy

        for number in range(len(list(self.folder.glob("*.npz")))):
            with numpy.load(self._path(number), allow_pickle=False) as part:
                values = part["values"]
                yield json.loads(values.tobytes()) if values.dtype == numpy.uint8 else values, part["problems"].tolist()

    def finish(self) -> tuple[int, Counter]:
        """Write the file with its new columns; returns the number of rows, and how many had which problem."""
        if self._file_state() != self._state:
            raise UserError(f"{self.rows.path} was changed while it was worked on; run the command again")
        problems: Counter = Counter()
        count = 0

        def all_values() -> Iterator[Sequence]:
            nonlocal count
            for values, reasons in self.parts():
                count += len(values)
                problems.update(reason for reason in reasons if reason)
                yield from values

        records = dict.fromkeys(self.columns) if self.journal.is_older else self.records
        with provenance.writing(self.rows.path, parts=records):
            self.rows.write_extended(self.columns, all_values())
            self.journal.append(WRITTEN)
        self.clear()
        return count, problems

    def report(self, count: int, problems: Counter) -> None:
        """Say what was written, and how many rows have no value for which reason."""
        for problem, number in problems.most_common():
            logger.info(f"  {number} of {count} rows have no value (or not all): {problem}")
        logger.info(f"wrote {', '.join(self.columns)} for {count} rows to {self.rows.path}")

    def clear(self) -> None:
        """Remove the parts and give the output free."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.journal.close(remove=True)


def tidy(path: str | Path) -> None:
    """Remove what a run left beside a file that was stopped when its columns were in the file, and recorded."""
    columns = Journal.settings_of(path).get("columns")
    if not columns or any(provenance.is_unfinished(path, column) for column in columns):
        return
    with (
        contextlib.suppress(UserError),
        contextlib.closing(take_lock(Journal.path_of(path), path)) as journal,
    ):  # else it is at work
        journal.seek(0)
        if json.dumps(WRITTEN).encode() in journal.read().splitlines():
            shutil.rmtree(f"{path}.parts", ignore_errors=True)
            Journal.path_of(path).unlink(missing_ok=True)


def missing(
    rows: Rows,
    columns: Mapping[str, Mapping],
    also: str = "",
    say: Callable[[str], object] = logger.info,
    remedy: str = provenance.REMEDY,
) -> list[str]:
    """The columns that a file lacks; those that it has are made from the same, or from what nobody knows (``say``).

    Raises:
        UserError: one of them is made from something else, the rows' own texts among it.
    """
    there = [name for name in columns if name in rows.columns]
    made_from = fingerprint(rows, also) if there and provenance.read(rows.path) else None
    lacking = [name for name in columns if name not in there]
    for name in there:
        if not provenance.take_up(rows.path, {"file": made_from, **columns[name]}, name, say, remedy=remedy):
            lacking.append(name)
    return lacking


def ahead(items: Iterator) -> Iterator:
    """The same items, each made in a thread while the one before it is used: tokenising beside the model."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item
