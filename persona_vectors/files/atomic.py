"""Files that appear whole or not at all, and locks against two runs at once."""

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from persona_vectors.errors import UserError


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
    """The same for a folder: the block fills the one that it is given, which then takes the place of ``path``.

    Where ``path`` is a link, the folder that it leads to is replaced, and the link stays.

    Raises:
        UserError: the working folder cannot be replaced: whoever stands in it would be left in one that is gone.
    """
    path = Path(path).resolve()
    if path == Path.cwd():
        raise UserError(f"{path} is the working folder, which cannot be replaced; name another one")
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
