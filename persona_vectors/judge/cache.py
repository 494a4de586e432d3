"""Scores that were paid for once, kept for every later run of this user, whatever its output is called.

One SQLite file in the user's cache folder (:mod:`persona_vectors.files.user_cache`). An entry is found by a digest of
the endpoint's address, the judge model, the method of scoring and the whole filled-in prompt; no prompt, answer or key is
stored. A mean of sampled numbers is kept as that mean. Calls that failed are never kept, nor replies that are neither a
number nor a refusal.

The cache never ends a run: one that cannot be opened, read or written is left aside with one warning. Several processes
may use it at once. Knows keys and values; knows nothing of endpoints.
"""

import contextlib
import json
import logging
import math
import sqlite3
import time
from pathlib import Path
from typing import Any

from persona_vectors.files.fingerprints import sha256
from persona_vectors.files.user_cache import cache_folder, is_off
from persona_vectors.settings import load_dotenv

logger = logging.getLogger(__name__)

MISSING = object()
VERSION = 1  # raised when the same replies give other scores than before
TOGETHER, SECONDS = 256, 1.0  # new entries are written after so many, or so long: a write waits for the disk
PATIENCE = 2.0  # seconds that a write waits for other processes; closing a judge may take 5


def key_of(*parts: object) -> str:
    """What an entry is found by: a digest of JSON values.

    Example:
        key_of("score", "https://api.openai.com/v1", "gpt-4.1-mini", "0_100", "Rate this: ...")
    """
    return sha256(json.dumps([VERSION, *parts], sort_keys=True))


class ScoreCache:
    """Keys and small JSON values in an SQLite file; use from one thread at a time.

    Args:
        path: the file; it and its folder are made.
        look: only read what is there; nothing is made or kept.

    Example:
        >>> cache = ScoreCache(folder / "scores.sqlite")
        >>> cache.put(key_of("score", "m", "Rate this."), 57.0)
        >>> cache.get(key_of("score", "m", "Rate this."))
        57.0
        >>> cache.close()
    """

    def __init__(self, path: Path, look: bool = False) -> None:
        self.path = path
        self._new: dict[str, object] = {}
        self._refusals: list[str] = []
        self._has_number = self._warned = False
        self._written = time.monotonic()
        self._base: sqlite3.Connection | None = None
        self._writable = not look
        try:
            if look:
                if path.exists():
                    self._base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=PATIENCE, uri=True)
                    self._base.execute("SELECT value FROM kept LIMIT 1")
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
            self._base.execute("PRAGMA schema_version")  # a file that is no database is found out now
        except (OSError, sqlite3.Error) as error:
            if not _is_busy(error):
                self._give_up(error)

    @classmethod
    def of_user(cls, look: bool = False) -> "ScoreCache | None":
        """The user's own, or a ``look`` at it; None where PERSONA_VECTORS_CACHE is ``off``, or there is no home folder."""
        load_dotenv()
        try:
            return None if is_off() else cls(cache_folder() / "scores.sqlite", look)
        except RuntimeError:
            return None

    def get(self, key: str) -> Any:
        """The value of a key, :data:`MISSING` where there is none; a damaged value counts as none."""
        if key in self._new:
            return self._new[key]
        if self._base is None:
            return MISSING
        try:
            found = self._base.execute("SELECT value FROM kept WHERE key = ?", (key,)).fetchone()
            return MISSING if found is None else json.loads(found[0])
        except sqlite3.Error as error:
            if not _is_busy(error) and "no such table" not in str(error):  # of a file that nobody has written to yet
                self._give_up(error)
        except (ValueError, TypeError):
            pass
        return MISSING

    def score(self, key: str) -> Any:
        """The score of a key: a number, None for a refusal, :data:`MISSING` where there is none."""
        found = self.get(key)
        is_number = isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)
        return found if found is None or is_number else MISSING

    def put(self, key: str, value: object) -> None:
        """Keep a value; it is on disk about a second later, or after :meth:`close`."""
        self._new[key] = value
        if len(self._new) >= TOGETHER or time.monotonic() - self._written > SECONDS:
            self.write()

    def put_score(self, key: str, score: float | None) -> None:
        """Keep a score, or a refusal (None).

        A judge that has given no number yet has not judged: its refusals wait until it gives one.
        """
        if score is None and not self._has_number:
            self._refusals.append(key)
            return
        self._has_number = True
        self.put(key, score)
        for refused in self._refusals:
            self.put(refused, None)
        self._refusals.clear()

    def write(self) -> None:
        """Put the new entries on disk; where another process is writing for long, they wait for the next time."""
        self._written = time.monotonic()
        if self._base is None or not self._writable or not self._new:
            return
        rows = [(key, json.dumps(value)) for key, value in self._new.items()]
        try:
            self._base.execute("BEGIN IMMEDIATE")  # waits for other writers; a read that becomes a write would not
            self._base.execute("CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
            self._base.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?)", rows)
            self._base.execute("COMMIT")
            self._new.clear()
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._base.execute("ROLLBACK")
            if not _is_busy(error):
                self._writable = False  # it may still be read
                self._warn(error)

    def close(self) -> None:
        """Write what is new and close the file."""
        self.write()
        self.write()  # once more, if another process was at it all the time
        self._close()

    def _close(self) -> None:
        if self._base is not None:
            with contextlib.suppress(sqlite3.Error):
                self._base.close()
            self._base = None

    def _give_up(self, error: Exception) -> None:
        self._close()
        self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            logger.warning(
                f"warning: the cache of scores at {self.path} cannot be used ({error}); this run goes on without it. Remove "
                "the file if it is damaged; --no_cache does without one"
            )
        self._warned = True


def _is_busy(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
