"""Pearson correlation as in section 3.3: with a confidence interval, over all points and within conditions.

Works on numbers only.
"""

import contextlib
import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist, StatisticsError, correlation, fmean, stdev

ROUNDING = 1e-9  # the part of a number by which equal ones may differ: a judge's scores are weighted means
MIN_SPREAD = 1.0  # conditions whose scores have a lower standard deviation are left out (section 3.3)


@dataclass(frozen=True)
class Correlation:
    """Pearson's r over ``n`` points with its confidence interval; None where undefined (no spread, too few points)."""

    r: float | None
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        if self.r is None:
            return f"r not defined (n = {self.n})"
        interval = "" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"r = {self.r:.3f}{interval} (n = {self.n})"

    def as_dict(self) -> dict:
        """For JSON."""
        return asdict(self)


def pearson(x: Sequence[float], y: Sequence[float], confidence: float = 0.95) -> Correlation:
    """Pearson's r of two sequences of equal length; its interval is Fisher's z (four points and \\|r\\| < 1 needed).

    Points with a missing value (None, NaN) are left out.

    Example:
        pearson([1, 2, 3, 4], [2, 4, 5, 9]).r  # 0.965
    """
    points = [(float(a), float(b)) for a, b in zip(x, y, strict=True) if _is_number(a) and _is_number(b)]
    n = len(points)
    r = None
    if n >= 2 and all(map(_varies, zip(*points, strict=True))):
        with contextlib.suppress(StatisticsError):  # one of them varies by less than a square can say
            r = max(-1.0, min(1.0, correlation(*zip(*points, strict=True))))
    if r is None or n < 4 or abs(r) >= 1:
        return Correlation(r, None, None, n)
    half = NormalDist().inv_cdf((1 + confidence) / 2) / math.sqrt(n - 3)
    return Correlation(r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half), n)


def _varies(values: Sequence[float]) -> bool:
    """Whether they are not all equal, but for rounding."""
    low, high = min(values), max(values)
    return high - low > ROUNDING * max(abs(low), abs(high))


@dataclass(frozen=True)
class WithinConditions:
    """The mean of r over conditions.

    Attributes:
        r: the mean; None without any usable condition.
        low, high: its 95 % interval.
        conditions: r of each condition.
        left_out: conditions without enough spread, or without an r.
    """

    r: float | None
    low: float | None
    high: float | None
    conditions: dict[str, float]
    left_out: list[str]

    def as_dict(self) -> dict:
        """For JSON."""
        return asdict(self)


def within_conditions(
    x: Sequence[float], y: Sequence[float], condition: Sequence[Hashable], min_spread: float = MIN_SPREAD
) -> WithinConditions:
    """Pearson's r of x and y within each condition, averaged over conditions (section 3.3).

    Conditions in which y has a standard deviation below ``min_spread``, or no r, are left out. The 95 % interval is
    that of the mean over conditions (normal approximation); None with fewer than two conditions.

    Example:
        within_conditions([1, 2, 3, 1, 2, 3], [10, 20, 30, 9, 8, 1], ["a"] * 3 + ["b"] * 3).conditions
    """
    groups: dict[Hashable, list[tuple[float, float]]] = {}
    for a, b, c in zip(x, y, condition, strict=True):
        points = groups.setdefault(c, [])
        if _is_number(a) and _is_number(b):
            points.append((float(a), float(b)))
    found, left_out = {}, []
    for name, points in groups.items():
        spread = stdev(b for _, b in points) if len(points) > 1 else 0.0
        r = pearson([a for a, _ in points], [b for _, b in points]).r if spread >= min_spread else None
        if r is None:
            left_out.append(str(name))
        else:
            found[str(name)] = r
    if not found:
        return WithinConditions(None, None, None, found, left_out)
    mean = fmean(found.values())
    if len(found) < 2:
        return WithinConditions(mean, None, None, found, left_out)
    half = NormalDist().inv_cdf(0.975) * stdev(found.values()) / math.sqrt(len(found))
    return WithinConditions(mean, max(mean - half, -1.0), min(mean + half, 1.0), found, left_out)


def ceiling(
    y: Sequence[float], condition: Sequence[Hashable], prompt: Sequence[Hashable], min_spread: float = MIN_SPREAD
) -> float | None:
    """Upper bound on the r within conditions between the score and anything read from the prompt.

    A value read from the prompt is the same for all its answers. At best it predicts the prompts' mean scores, so r is
    at most the square root of the share of between-prompt variance in the scores of a condition. That share is
    estimated by a one-way random-effects ANOVA per condition, summed over the conditions that
    :func:`within_conditions` uses. None if every prompt has one answer.

    Example:
        ceiling([10, 12, 90, 88], ["a"] * 4, [1, 1, 2, 2])  # nearly 1: the prompt determines the score
    """
    groups: dict[Hashable, dict[Hashable, list[float]]] = {}
    for score, c, p in zip(y, condition, prompt, strict=True):
        if _is_number(score):
            groups.setdefault(c, {}).setdefault(p, []).append(float(score))
    between = within = 0.0
    for prompts in groups.values():
        answers = [score for scores in prompts.values() for score in scores]
        n, k = len(answers), len(prompts)
        if k < 2 or n == k or stdev(answers) < min_spread:
            continue
        of_answers = sum((score - fmean(scores)) ** 2 for scores in prompts.values() for score in scores) / (n - k)
        of_prompts = sum(len(scores) * (fmean(scores) - fmean(answers)) ** 2 for scores in prompts.values()) / (k - 1)
        size = (n - sum(len(scores) ** 2 for scores in prompts.values()) / n) / (k - 1)  # answers per prompt
        between += (of_prompts - of_answers) / size
        within += of_answers
    between = max(0.0, between)  # clipped only after the sum: a single estimate may be negative
    return math.sqrt(between / (between + within)) if between + within else None


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(float(value))
