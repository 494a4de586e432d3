"""One measured number with its standard error and its interval, and how such numbers come from parts. Needs no torch."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Value:
    """What one measure of one task came to.

    Attributes:
        task: whose measure it is, as lm-eval or we call it.
        measure: ``acc``, ``exact_match (strict-match)``, ``kl``, ...
        value: in the measure's own unit; None where nothing could be measured.
        standard_error: of the value over questions, texts or requests; None where none can be told.
        n: how many questions, texts or requests.
    """

    task: str
    measure: str
    value: float | None
    standard_error: float | None
    n: int

    def as_dict(self) -> dict:
        """For JSON."""
        return asdict(self)


def ratio(sums: Sequence[float], sizes: Sequence[float]) -> tuple[float | None, float | None]:
    """The mean over all tokens (or answers) of several texts, and its standard error: the texts are the sample.

    mean = sum s_i / sum n_i;  error = sqrt(G / (G - 1) sum (s_i - mean n_i)^2) / sum n_i for G texts (Cochran, Sampling
    Techniques, section 6.3), which is sqrt(p (1 - p) / (n - 1)) for a share p of n answers.

    Args:
        sums: of each text, over its tokens.
        sizes: tokens of each text; 1 for answers.

    Example:
        >>> ratio([1, 0, 1, 1], [1, 1, 1, 1])
        (0.75, 0.25)
    """
    total = sum(sizes)
    if not total:
        return None, None
    mean, texts = sum(sums) / total, len(sizes)
    if texts < 2:
        return mean, None
    spread = sum((s - mean * n) ** 2 for s, n in zip(sums, sizes, strict=True))
    return mean, math.sqrt(texts / (texts - 1) * spread) / total


SHARES = (
    "acc",
    "exact_match",
    "harmless refused",
    "harmful not refused",
)  # beginnings of measures: shares of n questions


def interval(task: str, measure: str, value: float, error: float, n: float) -> tuple[float, float]:
    """The ends of a measure's 95 % interval; NaN where none can be told.

    Shares have :func:`of_share`; perplexities that of their logarithm; kl does not go below 0; all others are value +- 1.96
    standard errors.

    Example:
        >>> [round(end, 3) for end in interval("refusals", "harmless refused", 0.0, 0.0, 20)]
        [0.0, 0.161]
    """
    if value is None or value != value:
        return math.nan, math.nan
    if measure.startswith(SHARES) and 0 <= value <= 1 and n:
        return of_share(value, n)
    if error is None or error != error:
        return math.nan, math.nan
    if "perplexity" in measure and value > 0:
        factor = math.exp(min(1.96 * error / value, 700))
        return value / factor, value * factor
    low, high = value - 1.96 * error, value + 1.96 * error
    return (max(0.0, low), high) if task == "kl" else (low, high)


def of_share(share: float, n: float) -> tuple[float, float]:
    """The ends of the 95 % interval of a share of n questions: Wilson's (1927), wide enough where none, or all, of few count.

    Example:
        >>> [round(end, 3) for end in of_share(0.0, 20)]
        [0.0, 0.161]
    """
    z = 1.96**2 / n
    half = math.sqrt(z * (share * (1 - share) + z / 4))
    return max(0.0, (share + z / 2 - half) / (1 + z)), min(1.0, (share + z / 2 + half) / (1 + z))
