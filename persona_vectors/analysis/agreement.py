"""How far two scores of the same answers agree: a judge's and another's, or a judge's and people's.

    r       Pearson's correlation; rho Spearman's, the same of ranks (ties share their mean rank)
    kappa   Cohen's: (p_o - p_e) / (1 - p_e) of the decisions "at least the threshold", p_o the share of answers on which both
            decide alike, p_e the share that would be expected of independent decisions (Cohen 1960)
    bias    the mean of b - a, and limits bias +- 1.96 standard deviations between which 95 % of the differences
            lie (Bland and Altman 1986)

Intervals are by bootstrap over questions, as in :mod:`persona_vectors.analysis.comparison`: answers to one question are
alike. Works on numbers only.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy

from persona_vectors.analysis.comparison import DRAWS, bounds
from persona_vectors.analysis.correlation import ROUNDING

LONG = 20_000  # answers from which the draws take so long that a bar is shown
MEASURES = ("pearson", "spearman", "kappa", "alike", "bias", "lower", "upper")


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; None where it is not defined, or there are fewer than three questions."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "not defined"
        return f"{self.value:.3f}" + ("" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]")

    def as_dict(self) -> dict:
        """For JSON."""
        return asdict(self)


def agreement(
    a: Sequence[float],
    b: Sequence[float],
    questions: Sequence[Hashable],
    thresholds: tuple[float, float] = (50, 50),
    comparable: bool = True,
    seed: int = 0,
) -> dict[str, Estimate]:
    """:data:`MEASURES` of two scores of the same answers: ``alike`` is the share of answers decided alike.

    Args:
        a, b: a finite number an answer.
        questions: the question that each answers.
        thresholds: from where on a's score is a yes, and b's.
        comparable: false where the two have different units: then no bias and limits.

    Raises:
        ValueError: no answers, or not as many of each.

    Example:
        agreement([10, 20, 80, 90], [12, 60, 85, 70], ["w", "x", "y", "z"])["kappa"].value  # 0.5
    """
    x, y = numpy.asarray(a, float), numpy.asarray(b, float)
    if not len(x) or len(x) != len(y):
        raise ValueError("two scores of the same answers are needed")
    yes = x >= thresholds[0], y >= thresholds[1]
    ordered = [numpy.unique(score.round(9), return_inverse=True)[1] for score in (x, y)]

    def measures(w: numpy.ndarray) -> list[float]:
        ranks = [_ranks(order, w) for order in ordered]
        found = [_pearson(x, y, w), _pearson(ranks[0], ranks[1], w), *_kappa(*yes, w)]
        return [*found, *(_limits(y - x, w) if comparable else [numpy.nan] * 3)]

    names, of_row = numpy.unique([str(question) for question in questions], return_inverse=True)
    values = measures(numpy.ones(len(x)))
    drawn = numpy.array([measures(w[of_row]) for w in _draws(len(names), seed, len(x))]) if len(names) > 2 else None
    return {
        name: _estimate(values[k], None if drawn is None else drawn[:, k], len(names))
        for k, name in enumerate(MEASURES)
    }


def choices_alike(
    difference: Sequence[float], second: Sequence[bool], questions: Sequence[Hashable], seed: int = 0
) -> Estimate:
    """The share of pairs of answers in which people chose the one that the judge scores higher.

    Args:
        difference: the judge's score of the second answer minus that of the first; pairs of equal scores count half.
        second: whether the second answer was chosen.
        questions: the question of each pair.

    Example:
        choices_alike([70, -80, 5], [True, False, False], ["x", "y", "z"]).value  # 2/3
    """
    gap, chosen = numpy.asarray(difference, float), numpy.asarray(second, bool)
    alike = numpy.where(gap == 0, 0.5, (gap > 0) == chosen)
    names, of_row = numpy.unique([str(question) for question in questions], return_inverse=True)
    drawn = None
    if len(names) > 2:
        drawn = numpy.array([numpy.average(alike, weights=w[of_row]) for w in _draws(len(names), seed, len(gap))])
    return _estimate(float(alike.mean()), drawn, len(names))


def _draws(count: int, seed: int, rows: int) -> Iterator[numpy.ndarray]:
    """How often each of ``count`` questions is in a draw, draw by draw."""
    from tqdm import tqdm

    random = numpy.random.default_rng(seed)
    for _ in tqdm(range(DRAWS), desc="bootstrap", disable=rows < LONG):
        yield numpy.bincount(random.integers(count, size=count), minlength=count).astype(float)


def _estimate(value: float, drawn: numpy.ndarray | None, questions: int) -> Estimate:
    """The value with its interval, over the draws in which it is defined; none where a tenth of them have none."""
    if not numpy.isfinite(value):
        return Estimate(None)
    defined = drawn[numpy.isfinite(drawn)] if drawn is not None else numpy.empty(0)
    if len(defined) < 0.9 * DRAWS:
        return Estimate(float(value))
    return Estimate(float(value), *bounds(defined, questions))


def _pearson(x: numpy.ndarray, y: numpy.ndarray, w: numpy.ndarray) -> float:
    """Pearson's r of weighted points; NaN where one of them does not vary, but for rounding."""
    means = [numpy.average(score, weights=w) for score in (x, y)]
    x, y = x - means[0], y - means[1]
    spreads = [float(numpy.average(score * score, weights=w)) ** 0.5 for score in (x, y)]
    if any(spread <= ROUNDING * abs(mean) for spread, mean in zip(spreads, means, strict=True)):
        return numpy.nan
    return float(numpy.average(x * y, weights=w)) / (spreads[0] * spreads[1])


def _ranks(order: numpy.ndarray, w: numpy.ndarray) -> numpy.ndarray:
    """The mean rank of each point, of weighted points whose place among the distinct values is ``order``."""
    counts = numpy.bincount(order, w)
    return (numpy.cumsum(counts) - counts / 2)[order]


def _kappa(yes_a: numpy.ndarray, yes_b: numpy.ndarray, w: numpy.ndarray) -> tuple[float, float]:
    """(Cohen's kappa, the share decided alike); kappa is NaN where everything is decided alike by chance alone."""
    total = w.sum()
    observed = w[yes_a == yes_b].sum() / total
    p, q = w[yes_a].sum() / total, w[yes_b].sum() / total
    expected = p * q + (1 - p) * (1 - q)
    return float((observed - expected) / (1 - expected)) if expected < 1 - 1e-12 else numpy.nan, float(observed)


def _limits(difference: numpy.ndarray, w: numpy.ndarray) -> list[float]:
    """Bias, and the lower and upper limit of agreement."""
    bias = float(numpy.average(difference, weights=w))
    spread = float((w * (difference - bias) ** 2).sum() / max(w.sum() - 1, 1)) ** 0.5
    return [bias, bias - 1.96 * spread, bias + 1.96 * spread]
