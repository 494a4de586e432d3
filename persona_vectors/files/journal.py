"""A journal beside an output: what was paid for is on disk as soon as it exists, and survives a kill."""

import json
import os
import threading
from pathlib import Path
from typing import BinaryIO

from persona_vectors.errors import UserError
from persona_vectors.files.atomic import take_lock
from persona_vectors.files.fingerprints import differences, plain
from persona_vectors.files.jsonfile import json_object


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
        records, end = _whole_lines(self._file)
        self._file.truncate(end)  # a torn line and what follows it
        try:
            begun = _goes_on(output_path, records, settings, overwrite)
        except UserError:
            self._file.close()
            raise
        self._has_work = begun
        self.records: list[dict] = records[1:] if begun else []
        if not begun:
            self._file.truncate(0)
            self.append({"settings": plain(settings)})
        self.is_older = begun and "method" in settings and "method" not in records[0]["settings"]

    @staticmethod
    def path_of(output_path: str | Path) -> Path:
        """Where the journal of an output is."""
        return Path(f"{output_path}.journal.jsonl")

    @classmethod
    def settings_of(cls, output_path: str | Path) -> dict:
        """The settings of an output's unfinished work, unlocked; empty where there is none, or none was begun."""
        try:
            with open(cls.path_of(output_path), "rb") as file:
                settings = (json_object(file.readline()) or {}).get("settings")
        except OSError:
            settings = None
        return settings if isinstance(settings, dict) else {}

    @classmethod
    def look(cls, output_path: str | Path, settings: dict, overwrite: bool = False) -> list[dict]:
        """The :attr:`records` that opening would find; nothing is locked or changed. Refuses what opening refuses."""
        try:
            with open(cls.path_of(output_path), "rb") as file:
                records, _ = _whole_lines(file)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"cannot read {cls.path_of(output_path)}: {error.strerror}") from error
        return records[1:] if _goes_on(output_path, records, settings, overwrite) else []

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


def _whole_lines(file: BinaryIO) -> tuple[list[dict], int]:
    """All whole lines of a journal, up to one that a kill has torn; and the bytes that they take."""
    file.seek(0)
    records, end = [], 0
    for line in file:
        record = json_object(line) if line.endswith(b"\n") else None
        if record is None:
            break
        records.append(record)
        end += len(line)
    return records, end


def _goes_on(output_path: str | Path, records: list[dict], settings: dict, overwrite: bool) -> bool:
    """Whether a run goes on with a journal; False where it begins anew. Refuses one that was begun with other settings."""
    if len(records) < 2:  # a journal without work binds nobody
        return False
    earlier = records[0].get("settings")
    changed = differences(earlier, settings) if isinstance(earlier, dict) else ["nothing is known of them"]
    if overwrite and (changed or records[-1] == {"finished": True}):
        return False
    if changed:
        raise UserError(
            f"an unfinished run of {output_path} used other settings ({'; '.join(changed)[:600]}); run it as before, "
            "choose another output, or pass --overwrite to begin anew"
        )
    return True
