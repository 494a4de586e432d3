"""A journal beside an output: what was paid for is on disk as soon as it exists, and survives a kill."""

import json
import os
import threading
from pathlib import Path

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
        self.is_older = begun and "method" in settings and "method" not in (earlier or {})

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

    def _read(self) -> list[dict]:
        """All whole lines; a torn one and what follows it are cut off the file."""
        self._file.seek(0)
        records, end = [], 0
        for line in self._file:
            record = json_object(line) if line.endswith(b"\n") else None
            if record is None:
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
