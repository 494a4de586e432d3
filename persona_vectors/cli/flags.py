"""The words of a command line: which flags there are, in full, and which are unknown, missing or given twice.

Fire would call the function first and complain afterwards. Knows the names of flags and how many words each takes; what
the words mean is :mod:`persona_vectors.cli.values`'s.
"""

import inspect
import re
from collections.abc import Sequence

from persona_vectors.cli.values import InFull, is_switch, separator
from persona_vectors.errors import UserError, suggest

_FLAG = re.compile(r"^--?[A-Za-z]")  # "-0.5" and "-1,0,1" are values


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
    """The command line with the values that follow a flag of several joined by commas, or line breaks."""
    joined: list[str] = []
    between = None  # of the last flag's values, where it takes several
    for token in argv:
        if _FLAG.match(token) or token == "--":
            name = token.lstrip("-").replace("-", "_")
            between = separator(parameters[name].annotation) if name in parameters else None
        elif between and not _FLAG.match(joined[-1]):
            joined[-1] += f"{between}{token}"
            continue
        joined.append(token)
    return joined


def check_flags(parameters: dict[str, inspect.Parameter], argv: Sequence[str]) -> bool:
    """Raise :class:`UserError` for an unknown flag, a surplus or missing argument, or a flag without its value.

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
        if not is_switch(parameters[name].annotation) and not value.strip():
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
            several = separator(parameters[before.strip("-=")].annotation)
            why = f"{before} takes one value" if not several else f"without =, {before[:-1]} takes several values"
        elif required:
            why = f"only {', '.join(f'--{name}' for name in required)} may go without their names"
        raise UserError(f"unexpected argument '{surplus}'; {why}")
    if len(positional) < len(free):
        joined = next((f" (--{name} has taken every word that follows it)" for name in given if given[name]), "")
        raise UserError(f"--{free[len(positional)]} is missing{joined}; see --help")


def _full_name(parameters: dict[str, inspect.Parameter], flag: str) -> str:
    """The name that a flag as typed stands for: a parameter, ``help``, or ``no`` and a boolean parameter.

    An exact name wins, then a beginning of one name only, as argparse has it. (``x_list`` is another name of ``x``;
    names marked :class:`InFull` have no beginnings.)

    Raises:
        UserError: no name begins so (with the nearest one), or several do.
    """
    flags = [name for name, parameter in parameters.items() if parameter.kind is not parameter.VAR_POSITIONAL]
    negations = [f"no{name}" for name in flags if is_switch(parameters[name].annotation)]
    word = flag.lstrip("-").replace("-", "_")
    asked = "help" if word == "h" else word
    for names in ([*flags, "help"], negations):
        if asked in names:
            return asked
    short = [name for name in flags if InFull not in getattr(parameters[name].annotation, "__metadata__", ())]
    for names in ([*short, "help"], negations):
        begun = [name for name in names if name.startswith(asked)]
        begun = [name for name in begun if name.removesuffix("_list") not in begun or not name.endswith("_list")]
        if len(begun) == 1:
            return begun[0]
        if begun:
            raise UserError(f"{flag} is ambiguous: it is how {', '.join(f'--{name}' for name in begun)} begin")
    raise UserError(f"unknown flag {flag}{suggest(asked, flags, '--')}; --help lists all flags")
