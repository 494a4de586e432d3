"""What a flag's annotation means: words of a command line -> typed values, and what is said of words that do not fit.

pydantic converts and checks; it is imported when there are values, not for ``--help``.
"""

import math
import os
import types
import typing
from typing import Annotated, Any, Literal, TypeVar

from persona_vectors.errors import UserError, suggest

T = TypeVar("T")


class Between:
    """Limits of a number, both included: ``Annotated[int, Between(1)]``."""

    def __init__(self, low: float = -math.inf, high: float = math.inf) -> None:
        self.low, self.high = low, high

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> dict:
        limits = {"ge": self.low, "le": self.high}
        return {**handler(source), **{name: limit for name, limit in limits.items() if math.isfinite(limit)}}


class Split:
    """Several values in one flag: ``--layer 16,20`` or, as argparse has it, ``--layer 16 20``.

    Attributes:
        separator: what stands between words that the shell had apart.
        distinct: refuse a value that is there twice.
    """

    def __init__(self, separator: str = ",", distinct: bool = False) -> None:
        self.separator, self.distinct = separator, distinct

    def words(self, value: object) -> list:
        """``"a,b"``, ``("a", "b")`` or ``"a"`` as a list of words without the spaces around them."""
        items = value if isinstance(value, list | tuple) else str(value).split(self.separator)
        return [str(item).strip() for item in items if str(item).strip()]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> dict:
        from pydantic_core import core_schema

        several = core_schema.no_info_before_validator_function(self.words, {**handler(source), "min_length": 1})
        return core_schema.no_info_after_validator_function(self._check, several)

    def _check(self, values: tuple) -> tuple:
        if self.distinct and len(set(values)) < len(values):
            raise ValueError("names a value twice")
        return values


class SplitFiles(Split):
    """File names, by spaces: a name may have a comma in it. One with commas that is no file is several, if all of
    those are."""

    def words(self, value: object) -> list:
        names = value if isinstance(value, list | tuple) else str(value).split(self.separator)
        files = []
        for name in map(str, names):
            parts = [part.strip() for part in name.split(",")]
            files += parts if not os.path.exists(name) and all(map(os.path.exists, parts)) else [name]
        return files


class InFull:
    """Marks a flag that only its whole name stands for, so that shortened names of older flags stay unambiguous."""


Several = Annotated[tuple[T, ...], Split()]
Distinct = Annotated[tuple[T, ...], Split(distinct=True)]
Files = Annotated[tuple[str, ...], SplitFiles("\n")]
Count = Annotated[int, Between(1)]
Score = Annotated[float, Between(0, 100)]


def taken_apart(annotation: Any) -> tuple[list, list]:
    """(what one value may be, the :class:`Between` and :class:`Split` that go with it); None is left out.

    Example:
        >>> taken_apart(Several[int] | None)[0]
        [<class 'int'>]
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        kinds, markers = taken_apart(inner[0])
        return kinds, [*markers, *(mark for mark in inner[1:] if isinstance(mark, Between | Split))]
    if origin is tuple:
        return taken_apart(inner[0])
    if origin in (typing.Union, types.UnionType):
        parts = [taken_apart(part) for part in inner if part is not type(None)]
        return [kind for kinds, _ in parts for kind in kinds], [mark for _, marks in parts for mark in marks]
    return [annotation], []


def separator(annotation: Any) -> str | None:
    """What stands between the values of a flag that takes several; None of one that takes one."""
    return next((mark.separator for mark in taken_apart(annotation)[1] if isinstance(mark, Split)), None)


def is_switch(annotation: Any) -> bool:
    """Whether a flag is true or false, so that it may stand without a value."""
    return taken_apart(annotation)[0] == [bool]


def convert(name: str, annotation: Any, value: object) -> Any:
    """The value that ``annotation`` asks for; raises :class:`UserError` in one line that names the flag.

    Example:
        >>> convert("layer", Distinct[int], "16, 20")
        (16, 20)
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str) and str not in taken_apart(annotation)[0]:
        value = value.strip()
    config = ConfigDict(allow_inf_nan=False, coerce_numbers_to_str=True, arbitrary_types_allowed=True)
    try:
        return at_home(TypeAdapter(annotation, config=config).validate_python(value))
    except ValidationError as error:
        raise UserError(f"--{name} {_refusal(annotation, value, error.errors()[0])}") from None


def at_home(value: Any) -> Any:
    """A path, or several, with ~/ written out; any other value as it is. A shell leaves the ~ of --flag=~/file alone.

    Example:
        at_home("~/evil.csv")  # "/home/me/evil.csv"
    """
    if isinstance(value, tuple | list):
        return type(value)(map(at_home, value))
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~/") else value


def _refusal(annotation: Any, value: object, error: dict) -> str:
    """What follows the flag's name in the refusal of a value."""
    kinds, markers = taken_apart(annotation)
    shown = value if isinstance(value, str) else ",".join(Split().words(value))
    if error["type"] == "value_error":
        return f"{error['ctx']['error']}: '{shown}'"
    if error["type"] in ("greater_than_equal", "less_than_equal"):
        (limits,) = (mark for mark in markers if isinstance(mark, Between))
        if math.isinf(limits.high):
            return f"must be at least {limits.low}, not {error['input']}"
        if kinds[0] is int:
            return f"takes a whole number {limits.low}..{limits.high}, not {error['input']}"
        return f"lies between {limits.low:g} and {limits.high:g}; {float(error['input']):g} does not"
    kind = kinds[0]
    if kind is bool:
        return f"takes true or false, not '{shown}'"
    if typing.get_origin(kind) is Literal:
        word, choices = str(error["input"] if error["loc"] else shown), typing.get_args(kind)
        return f"takes one of {', '.join(choices)}, not '{word}'{suggest(word, choices)}"
    if kind not in (int, float):
        return "needs a value; see --help"
    what = "whole number" if kind is int else "number"
    if separator(annotation) is None and "," in shown:
        return f"takes one {what}, not '{shown[:80]}'"
    return f"takes {what}s separated by commas, not '{shown[:80]}'"


_NAMES = {bool: "true or false", int: "whole number", float: "number", str: "text"}


def in_words(annotation: Any) -> str:
    """What a flag takes, as ``--help`` says it.

    Example:
        >>> in_words(Count), in_words(Several[Literal["pos", "neg"]])
        ('whole number, at least 1', 'one or more of pos, neg')
    """
    kinds, markers = taken_apart(annotation)
    several = separator(annotation) is not None
    choices = [str(choice) for kind in kinds if typing.get_origin(kind) is Literal for choice in typing.get_args(kind)]
    names = [_NAMES.get(kind, "text") for kind in kinds if typing.get_origin(kind) is not Literal]
    if not names:
        return f"{'one or more of' if several else 'one of'} {', '.join(choices)}"
    name = "file" if any(isinstance(mark, SplitFiles) for mark in markers) else names[0]
    said = " or ".join([f"one or more {name}s" if several else name, *choices])
    for limits in (mark for mark in markers if isinstance(mark, Between)):
        said += f", at least {limits.low:g}" if math.isinf(limits.high) else f", {limits.low:g} to {limits.high:g}"
    return said


def shown(value: object) -> str:
    """A default as one would type it; nothing for None."""
    if isinstance(value, tuple):
        return ",".join(map(shown, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
