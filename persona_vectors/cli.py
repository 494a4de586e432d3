"""From a stage's ``main`` function to a command.

Python Fire turns a function into a command line, but runs the function first and complains about a flag that
it did not know afterwards. A stage costs money and hours, so flags are checked here before Fire sees them.
Knows flags and their values; knows nothing of models, traits or files.
"""

import errno
import inspect
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Sequence

from persona_vectors import interrupts
from persona_vectors.errors import UserError, suggest

_FLAG = re.compile(r"^--?[A-Za-z]")  # "-0.5" and "-1,0,1" are values


class Several(str):
    """Annotation of a flag that takes several values: ``--layer 16,20`` or, as argparse has it, ``--layer 16 20``."""


class Files(Several):
    """:class:`Several` file names, by spaces: a name may have a comma in it. :func:`as_files` takes them apart."""


class _PlainLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr if record.levelno > logging.INFO else sys.stdout)


def show_log() -> None:
    """From here on, what the library logs is shown: notices on stdout, warnings on stderr, as plain lines."""
    logger = logging.getLogger("persona_vectors")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _PlainLines) for handler in logger.handlers):
        logger.addHandler(_PlainLines())


_SEPARATOR = {Several: ",", Files: "\n"}


def run(main: Callable[..., None]) -> None:
    """Run ``main`` as a command: check the flags, call it through Fire, turn :class:`UserError` into exit code 2.

    Parameters annotated ``str`` or :class:`Several` reach ``main`` exactly as typed (Fire would read ``1_000`` as a
    number and ``a,b`` as a tuple), values of the latter separated by commas. Output lines are flushed as they are
    written, so that a log file can be followed.
    """
    import fire

    sys.stdout.reconfigure(line_buffering=True)
    show_log()
    parameters = inspect.signature(main).parameters
    verbatim = [name for name, parameter in parameters.items() if parameter.annotation in (str, *_SEPARATOR)]
    try:
        if check_flags(parameters, sys.argv[1:]):
            fire.decorators.SetParseFns(**dict.fromkeys(verbatim, _verbatim))(main)
        fire.Fire(main, command=join_several(parameters, full_names(parameters, sys.argv[1:])))
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


def _verbatim(value: str) -> str | None:
    return None if value == "None" else value


def full_names(parameters: dict[str, inspect.Parameter], argv: Sequence[str]) -> list[str]:
    """The command line with flags in full: ``--pos p.csv`` as ``--pos_path p.csv``, ``--noflag`` as ``--flag=False``.

    Where help is asked for, only ``--help`` is left. Raises :class:`UserError` for a flag that is unknown or ambiguous.
    """
    end = argv.index("--") if "--" in argv else len(argv)
    written = []
    for token in argv[:end]:
        if _FLAG.match(token):
            flag, equals, value = token.partition("=")
            name = _full_name(parameters, flag)
            if name == "help":
                return ["--help"]
            if name in parameters:
                token = f"--{name}{equals}{value}"
            elif equals:
                raise UserError(f"{flag} takes no value: --{name[2:]} does")
            else:
                token = f"--{name[2:]}=False"
        written.append(token)
    return [*written, *argv[end:]]


def join_several(parameters: dict[str, inspect.Parameter], argv: Sequence[str]) -> list[str]:
    """The command line with the values that follow a flag of :class:`Several` joined by commas, or line breaks."""
    joined: list[str] = []
    separator = None  # of the last flag's values, where it takes several
    for token in argv:
        if _FLAG.match(token) or token == "--":
            name = token.lstrip("-").replace("-", "_")
            separator = _SEPARATOR.get(parameters[name].annotation) if name in parameters else None
        elif separator and not _FLAG.match(joined[-1]):
            joined[-1] += f"{separator}{token}"
            continue
        joined.append(token)
    return joined


def check_flags(parameters: dict[str, inspect.Parameter], argv: Sequence[str]) -> bool:
    """Raise :class:`UserError` for an unknown flag, a surplus or missing argument, or a text flag without a value.

    ``--flag=value``, ``--flag value``, ``--flag`` and ``--noflag`` (booleans), hyphens for underscores and beginnings
    of one name only are understood. Required flags may be given by position, in their order; no others may.
    Returns False where help is asked for.
    """
    given: dict[str, bool] = {}  # is its value several words, joined?
    positional = []  # (word, the flag before it)
    before = ""
    tokens = join_several(parameters, full_names(parameters, argv))
    while tokens:
        token = tokens.pop(0)
        if token == "--":
            break
        if not _FLAG.match(token):
            positional.append((token, before))
            before = ""
            continue
        before, equals, value = token.partition("=")
        name = before.removeprefix("--")
        if name == "help":
            return False
        if not equals and tokens and tokens[0] != "--" and not _FLAG.match(tokens[0]):
            value = tokens.pop(0)
        if parameters[name].annotation in (str, *_SEPARATOR) and not value.strip():
            raise UserError(f"--{name} needs a value; see --help")
        if name in given:
            raise UserError(f"--{name} is given more than once; several values go in one flag, separated by commas")
        given[name] = bool(value) and not equals and value not in argv
        before += equals
    _check_positions(parameters, given, positional)
    return "--help" not in tokens


def _check_positions(
    parameters: dict[str, inspect.Parameter], given: dict[str, bool], positional: list[tuple[str, str]]
) -> None:
    """The words without a flag must be the required flags that were not given, one each (see :func:`check_flags`)."""
    required = [n for n, p in parameters.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    free = [name for name in required if name not in given]
    any_number = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    if len(positional) > len(free) and not any_number:
        surplus, before = positional[len(free)]
        why = "every option is --name value"
        if before:
            several = parameters[before.strip("-=")].annotation in _SEPARATOR
            why = f"{before} takes one value" if not several else f"without =, {before[:-1]} takes several values"
        elif required:
            why = f"only {', '.join(f'--{name}' for name in required)} may go without their names"
        raise UserError(f"unexpected argument '{surplus}'; {why}")
    if len(positional) < len(free):
        joined = next((f" (--{name} has taken every word that follows it)" for name in given if given[name]), "")
        raise UserError(f"--{free[len(positional)]} is missing{joined}; see --help")


def _full_name(parameters: dict[str, inspect.Parameter], flag: str) -> str:
    """The name that a flag as typed stands for: a parameter, ``help``, or ``no`` and a boolean parameter.

    An exact name wins, then a beginning of one name only, as argparse has it. (``x_list`` is another name of ``x``.)

    Raises:
        UserError: no name begins so (with the nearest one), or several do.
    """
    flags = [name for name, parameter in parameters.items() if parameter.kind is not parameter.VAR_POSITIONAL]
    negations = [f"no{name}" for name in flags if parameters[name].annotation is bool]
    word = flag.lstrip("-").replace("-", "_")
    asked = "help" if word == "h" else word
    for names in ([*flags, "help"], negations):
        if asked in names:
            return asked
    for names in ([*flags, "help"], negations):
        begun = [name for name in names if name.startswith(asked)]
        begun = [name for name in begun if name.removesuffix("_list") not in begun or not name.endswith("_list")]
        if len(begun) == 1:
            return begun[0]
        if begun:
            raise UserError(f"{flag} is ambiguous: it is how {', '.join(f'--{name}' for name in begun)} begin")
    raise UserError(f"unknown flag {flag}{suggest(asked, flags, '--')}; --help lists all flags")


def as_bool(name: str, value: object) -> bool:
    """A flag's value as true or false: ``--flag``, ``--flag true``, ``--flag False``, ``--flag 0``."""
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if str(value).strip().lower() not in words:
        raise UserError(f"--{name} takes true or false, not '{value}'")
    return words[str(value).strip().lower()]


def as_int(name: str, value: object, minimum: int | None = None) -> int:
    """A flag's value as a whole number, at least ``minimum``."""
    number = as_numbers(name, value, int)
    if len(number) != 1:
        raise UserError(f"--{name} takes one whole number, not '{value}'")
    if minimum is not None and number[0] < minimum:
        raise UserError(f"--{name} must be at least {minimum}, not {number[0]}")
    return number[0]


def as_number(name: str, value: object, minimum: float = -math.inf, maximum: float = math.inf) -> float:
    """A flag's value as one number between ``minimum`` and ``maximum``, both included."""
    number = as_numbers(name, value)
    if len(number) != 1:
        raise UserError(f"--{name} takes one number, not '{value}'")
    if not minimum <= number[0] <= maximum:
        raise UserError(f"--{name} lies between {minimum:g} and {maximum:g}; {number[0]:g} does not")
    return number[0]


def optional(read: Callable, name: str, value: object, *limits):
    """``read(name, value, *limits)``, None where the flag was not given."""
    return None if value is None else read(name, value, *limits)


def as_words(value: object) -> list[str]:
    """``"a,b"``, ``("a", "b")`` or ``"a"`` as a list of words without the spaces around them."""
    items = value if isinstance(value, list | tuple) else str(value).split(",")
    return [str(item).strip() for item in items if str(item).strip()]


def as_files(value: str) -> list[str]:
    """The file names of a flag of :class:`Files`. One with commas that is no file is several, if all of those are."""
    files = []
    for name in value.split("\n"):
        parts = [part.strip() for part in name.split(",")]
        files += parts if not os.path.exists(name) and all(map(os.path.exists, parts)) else [name]
    return files


def as_numbers(name: str, value: object, kind: type = float) -> list:
    """``"0,1,2"``, ``(0, 1, 2)`` or ``1`` as a list of finite numbers of ``kind``; duplicates are an error."""
    try:
        numbers = [kind(word) for word in as_words(value)]
        finite = all(abs(number) < float("inf") for number in numbers)
    except ValueError:
        numbers, finite = [], False
    if not numbers or not finite:
        what = "whole numbers" if kind is int else "numbers"
        shown = value if isinstance(value, str) else ",".join(as_words(value))
        raise UserError(f"--{name} takes {what} separated by commas, not '{shown[:80]}'")
    if len(set(numbers)) < len(numbers):
        raise UserError(f"--{name} names a value twice: '{value}'")
    return numbers


def as_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """``value`` if it is one of ``choices``."""
    if value not in choices:
        raise UserError(f"--{name} takes one of {', '.join(choices)}, not '{value}'{suggest(str(value), choices)}")
    return str(value)
