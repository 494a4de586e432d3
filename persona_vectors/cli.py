"""From a stage's ``main`` function to a command.

Python Fire turns a function into a command line, but runs the function first and complains about a flag that
it did not know afterwards. A stage costs money and hours, so flags are checked here before Fire sees them.
Knows flags and their values; knows nothing of models, traits or files.
"""

import difflib
import errno
import inspect
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence

from persona_vectors import interrupts
from persona_vectors.errors import UserError

_FLAG = re.compile(r"^--?[A-Za-z]")  # "-0.5" and "-1,0,1" are values


class Several(str):
    """Annotation of a flag that takes several values: ``--layer 16,20`` or, as argparse has it, ``--layer 16 20``."""


def run(main: Callable[..., None]) -> None:
    """Run ``main`` as a command: check the flags, call it through Fire, turn :class:`UserError` into exit code 2.

    Parameters annotated ``str`` or :class:`Several` reach ``main`` exactly as typed (Fire would read ``1_000`` as a
    number and ``a,b`` as a tuple), values of the latter separated by commas. Output lines are flushed as they are
    written, so that a log file can be followed.
    """
    import fire

    sys.stdout.reconfigure(line_buffering=True)
    parameters = inspect.signature(main).parameters
    verbatim = [name for name, parameter in parameters.items() if parameter.annotation in (str, Several)]
    sys.argv[1:] = join_several(parameters, sys.argv[1:])
    try:
        if check_flags(parameters, sys.argv[1:]):
            fire.decorators.SetParseFns(**dict.fromkeys(verbatim, _verbatim))(main)
        fire.Fire(main)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, Exception) as error:
        if interrupts.caused(error):
            print(f"{interrupts.SAID}", file=sys.stderr)
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


def join_several(parameters: dict[str, inspect.Parameter], argv: Sequence[str]) -> list[str]:
    """The command line with the values that follow a flag of :class:`Several` joined by commas."""
    joined: list[str] = []
    several = False  # the last flag takes several values and has one
    for token in argv:
        name = token.lstrip("-").split("=")[0].replace("-", "_") if _FLAG.match(token) else None
        if name is None and several and token != "--" and _FLAG.match(joined[-1]) is None:
            joined[-1] += f",{token}"
            continue
        if name is not None or token == "--":
            several = name in parameters and parameters[name].annotation is Several and "=" not in token
        joined.append(token)
    return joined


def check_flags(parameters: dict[str, inspect.Parameter], argv: Sequence[str]) -> bool:
    """Raise :class:`UserError` for an unknown flag, a surplus or missing argument, or a text flag without a value.

    ``--flag=value``, ``--flag value``, ``--flag`` and ``--noflag`` (booleans), hyphens for underscores and a single
    letter that begins one name only are understood, as Fire understands them. Returns False where help is asked for.
    """
    given, positional = [], []
    tokens = list(argv)
    while tokens:
        token = tokens.pop(0)
        if token == "--":
            break
        if not _FLAG.match(token):
            positional.append(token)
            continue
        word, equals, value = token.lstrip("-").partition("=")
        if word in ("help", "h"):
            return False
        name = _flag_name(parameters, token.split("=")[0], word.replace("-", "_"))
        has_value = bool(equals) or bool(tokens and tokens[0] != "--" and not _FLAG.match(tokens[0]))
        if has_value and not equals:
            value = tokens.pop(0)
        if parameters[name].annotation in (str, Several) and not value.strip():
            raise UserError(f"--{name} needs a value; see --help")
        given.append(name)
    for name in (n for n in given if given.count(n) > 1):
        raise UserError(f"--{name} is given more than once; several values go in one flag, separated by commas")
    several = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters.values())
    free = [name for name, p in parameters.items() if name not in given and p.kind is p.POSITIONAL_OR_KEYWORD]
    if len(positional) > len(free) and not several:
        raise UserError(f"unexpected argument '{positional[len(free)]}'; every option is written --name value")
    for name in free[len(positional) :]:
        if parameters[name].default is inspect.Parameter.empty:
            raise UserError(f"--{name} is missing; see --help")
    return "--help" not in tokens


def _flag_name(parameters: dict[str, inspect.Parameter], token: str, word: str) -> str:
    """The parameter that the flag ``word`` means; raises :class:`UserError` naming the nearest one."""
    if word in parameters:
        return word
    if word.startswith("no") and word[2:] in parameters:
        return word[2:]
    if len(word) == 1:
        beginning = [name for name in parameters if name.startswith(word)]
        if len(beginning) == 1:
            return beginning[0]
    raise UserError(f"unknown flag {token}{suggest(word, parameters, '--')}; --help lists all flags")


def suggest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """``" (did you mean X?)"`` for the known word nearest to ``word``, or an empty string."""
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {prefix}{nearest[0]}?)" if nearest else ""


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


def as_numbers(name: str, value: object, kind: type = float) -> list:
    """``"0,1,2"``, ``(0, 1, 2)`` or ``1`` as a list of finite numbers of ``kind``; duplicates are an error."""
    try:
        numbers = [kind(word) for word in as_words(value)]
        finite = all(abs(number) < float("inf") for number in numbers)
    except ValueError:
        numbers, finite = [], False
    if not numbers or not finite:
        what = "whole numbers" if kind is int else "numbers"
        raise UserError(f"--{name} takes {what} separated by commas, not '{str(value)[:80]}'")
    if len(set(numbers)) < len(numbers):
        raise UserError(f"--{name} names a value twice: '{value}'")
    return numbers


def as_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """``value`` if it is one of ``choices``."""
    if value not in choices:
        raise UserError(f"--{name} takes one of {', '.join(choices)}, not '{value}'{suggest(str(value), choices)}")
    return str(value)
