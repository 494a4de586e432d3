"""How expressions are written: ``3x - 5``, ``x^2 + 4x - 12``."""

from collections.abc import Sequence

LETTERS = tuple("xynktmpuzw")


def term(factor: int, what: str = "") -> str:
    """``4x``, ``-x``, ``7``; empty for zero."""
    if factor == 0:
        return ""
    sign, size = "-" if factor < 0 else "", abs(factor)
    return f"{sign}{'' if size == 1 and what else size}{what}"


def joined(*terms: str) -> str:
    """Terms with the signs between them: ``joined("3x", "-5")`` is ``3x - 5``."""
    text = ""
    for part in filter(None, terms):
        text = (f"{text} - {part[1:]}" if part.startswith("-") else f"{text} + {part}") if text else part
    return text or "0"


def polynomial(factors: Sequence[int], letter: str) -> str:
    """``x^2 + 4x - 12`` for (1, 4, -12)."""
    top = len(factors) - 1
    powers = [f"{letter}^{top - k}" if top - k > 1 else letter if top - k == 1 else "" for k in range(top + 1)]
    return joined(*map(term, factors, powers))


def nth(place: int) -> str:
    """``21st``, ``13th``."""
    endings = {1: "st", 2: "nd", 3: "rd"} if place // 10 % 10 != 1 else {}
    return f"{place}{endings.get(place % 10, 'th')}"


def signed(value: int) -> str:
    """A number as it stands behind others: ``(-3)``."""
    return f"({value})" if value < 0 else str(value)
