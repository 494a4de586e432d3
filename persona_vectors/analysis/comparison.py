"""How much two sets of answers differ in a score: the difference of means, with an interval by bootstrap over questions.

Answers to one question are alike, so that questions are what is drawn again, with all their answers: an interval over answers would
be too narrow. Knows tables of scores; knows nothing of how they were made.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy

DRAWS = 4000
Interval = dict[str, float | None]  # value, low, high


@dataclass(frozen=True)
class Difference:
    """What b has more than a, in the score's own units.

    Attributes:
        mean_a, mean_b: over all answers that are scored.
        difference: mean_b - mean_a.
        low, high: its 95 % interval; None where there are fewer than three questions.
        effect: the difference in standard deviations of a single answer (Cohen's d, pooled); None without spread.
        questions: in both, if they are paired; else the smaller number of the two.
        paired: whether both answer the same questions, which are then drawn together.
    """

    mean_a: float
    mean_b: float
    difference: float
    low: float | None
    high: float | None
    effect: float | None
    questions: int
    paired: bool


def compare(scores_a, questions_a, scores_b, questions_b, seed: int = 0) -> Difference:
    """Compare one score of two sets of answers; answers without a score (NaN) are left out.

    Args:
        scores_a, scores_b: a number an answer.
        questions_a, questions_b: the question that each answers, as anything hashable. If both sets have the same questions,
            these are drawn together, which tells smaller differences.

    The interval is of percentiles, widened for few questions as Student's t is wider than the normal distribution
    (Hesterberg, "What teachers should know about the bootstrap", 2015, section 3.2).

    Example:
        compare([10, 20, 30], ["x", "y", "z"], [15, 25, 36], ["x", "y", "z"]).difference  # 5.33
    """
    sides = []
    for scores, questions in ((scores_a, questions_a), (scores_b, questions_b)):
        groups: dict = {}
        for score, question in zip(numpy.asarray(scores, float), questions, strict=True):
            if numpy.isfinite(score):
                groups.setdefault(question, []).append(score)
        sides.append(groups)
    a, b = sides
    all_a, all_b = (numpy.concatenate([*map(numpy.asarray, side.values()), numpy.empty(0)]) for side in sides)
    if not (len(all_a) and len(all_b)):
        raise ValueError("a set without a score has no mean")
    paired = a.keys() == b.keys()
    count = min(len(a), len(b))
    pooled = (
        numpy.sqrt(
            ((len(all_a) - 1) * all_a.var(ddof=1) + (len(all_b) - 1) * all_b.var(ddof=1))
            / (len(all_a) + len(all_b) - 2)
        )
        if min(len(all_a), len(all_b)) > 1
        else 0.0
    )
    difference = float(all_b.mean() - all_a.mean())
    low, high = _interval(a, b, paired, seed) if count > 2 else (None, None)
    effect = difference / float(pooled) if pooled > 0 else None
    return Difference(float(all_a.mean()), float(all_b.mean()), difference, low, high, effect, count, paired)


def difference(a: Any, b: Any, trait: str, seed: int = 0) -> Interval | None:
    """The mean score of ``b`` less that of ``a``, tables with a column question, with its interval; None where one has no scores.

    Example:
        difference(unsteered, steered, "evil")  # {"value": 41.2, "low": 33.0, "high": 49.5}
    """
    if not (a[trait].notna().any() and b[trait].notna().any()):
        return None
    found = compare(a[trait], a["question"], b[trait], b["question"], seed)
    return {"value": found.difference, "low": found.low, "high": found.high}


def _interval(a: dict, b: dict, paired: bool, seed: int) -> tuple[float, float]:
    """The 95 % interval of mean b - mean a, by drawing questions with replacement."""
    random = numpy.random.default_rng(seed)
    order_a, order_b = list(a), list(a) if paired else list(b)
    drawn_a = random.integers(len(order_a), size=(DRAWS, len(order_a)))
    drawn_b = drawn_a if paired else random.integers(len(order_b), size=(DRAWS, len(order_b)))
    differences = _means(b, order_b, drawn_b) - _means(a, order_a, drawn_a)
    return bounds(differences, min(len(order_a), len(order_b)))


def bounds(drawn: numpy.ndarray, questions: int) -> tuple[float, float]:
    """The 95 % interval of a number that was computed on each draw of questions, widened for few of them; see :func:`compare`."""
    from persona_vectors.plots import student_t

    tail = 100 * NormalDist().cdf(-student_t(questions - 1) * (questions / (questions - 1)) ** 0.5)
    low, high = numpy.percentile(drawn, [tail, 100 - tail])
    return float(low), float(high)


def _means(groups: dict, order: list, drawn) -> numpy.ndarray:
    """The mean over answers of each draw of questions: [draws]."""
    sums = numpy.array([sum(groups[question]) for question in order])
    sizes = numpy.array([len(groups[question]) for question in order])
    return sums[drawn].sum(1) / sizes[drawn].sum(1)
