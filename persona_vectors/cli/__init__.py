"""From a stage's ``main`` function to a command.

A stage is a typed function and ends with ``cli.run(main)``: its parameters are the flags, its annotations say what they
take. Python Fire draws ``--help`` and parses, but runs a function first and complains about a flag that it did not know
afterwards. A stage costs money and hours, so flags and values are checked here before it is called. Knows flags and their
values; knows nothing of models, traits or files.
"""

import errno
import inspect
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from persona_vectors import interrupts
from persona_vectors.cli.command import command, for_fire
from persona_vectors.cli.flags import check_flags, full_names, join_several
from persona_vectors.cli.values import Between, Count, Distinct, Files, InFull, Score, Several
from persona_vectors.errors import UserError, suggest

__all__ = [
    "Between", "Count", "Distinct", "Files", "InFull", "Score", "Several", "call", "check_flags", "command", "disk_trouble",
    "full_names", "join_several", "run", "run_one_of",
]  # fmt: skip


class _PlainLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr if record.levelno > logging.INFO else sys.stdout)


def show_log() -> None:
    """From here on, what the library logs is shown: notices on stdout, warnings on stderr, as plain lines."""
    logger = logging.getLogger("persona_vectors")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _PlainLines) for handler in logger.handlers):
        logger.addHandler(_PlainLines())


def call(main: Callable, words: Sequence[str]) -> Any:
    """What ``main`` returns for the words of a command line; flags and values are checked first.

    Raises:
        UserError: a flag or a value that cannot be.

    Example:
        >>> def main(layer: Distinct[int]): return layer
        >>> call(main, ["--layer", "16,20"])
        (16, 20)
    """
    import fire

    fire.helptext._GetShortFlags = lambda flags: []  # letters that Fire makes up are not the beginnings that are taken
    program = command(main)
    returned: list = []
    typed = for_fire(program, returned.append)
    if check_flags(program.flags, words):
        fire.decorators.SetParseFn(str)(typed)  # values as they were typed (Fire's help would list this)
    fire.Fire(typed, command=join_several(program.flags, full_names(program.flags, words)))
    return returned[0] if returned else None


def run(main: Callable) -> None:
    """Run ``main`` as a command: check flags and values, call it through Fire, turn :class:`UserError` into exit code 2.

    Values are converted by the annotations of ``main`` (:mod:`persona_vectors.cli.values`). A number that it returns is
    the exit code. Output lines are flushed as they are written, so that a log file can be followed.

    Example:
        >>> def main(file_path: str, layer: Distinct[int], threshold: Score = 50.0): ...
        >>> cli.run(main)
    """
    sys.stdout.reconfigure(line_buffering=True)
    show_log()
    try:
        code = call(main, sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, Exception) as error:
        if interrupts.caused(error):
            print(interrupts.SAID, file=sys.stderr)
            sys.exit(130)
        refused = disk_trouble(error)
        if refused is None:
            raise
        # on a line of its own: a progress bar may be under way
        print(f"\nerror: {refused}; finished work is kept, and the same command goes on from there", file=sys.stderr)
        sys.exit(2)
    if isinstance(code, int) and code:
        sys.exit(code)


_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}


def disk_trouble(error: BaseException | None) -> str | None:
    """What an error says of a disk that is full or not ours to write to (or read), None for any other error.

    Libraries in Rust and C++ have texts of their own for it.
    """
    while error is not None:
        code = error.errno if isinstance(error, OSError) else None
        inside = re.search(r"\(os error (\d+)\)", str(error))
        code = int(inside[1]) if code is None and inside else code
        if code in _OF_THE_DISK:
            where = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
            return os.strerror(code) + where
        if re.search(r"PytorchStreamWriter failed|inline_container\.cc.* unexpected pos", str(error)):
            return "a file could not be written (is the disk full?)"
        error = error.__cause__ or error.__context__
    return None


def run_one_of(commands: dict[str, Callable[..., None]]) -> None:
    """:func:`run` for a script with several commands: the first word says which; without one they are listed."""
    word = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if word in commands:
        sys.argv[:2] = [f"{sys.argv[0]} {word}"]
        return run(commands[word])
    script = sys.argv[0].rsplit("/", 1)[-1]
    if word in ("--help", "-h"):
        print(f"usage: {script} COMMAND --name value ...   (COMMAND --help lists its flags)")
        for name, command in commands.items():
            print(f"  {name:8} {inspect.getdoc(command).splitlines()[0]}")
        return None
    print(f"error: {script} has no command '{word}'{suggest(word, commands)}: {', '.join(commands)}", file=sys.stderr)
    sys.exit(2)
