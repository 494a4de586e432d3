"""Agreement of two scores against plain formulas, and planted noise recovered."""

import math
from statistics import NormalDist, correlation

import numpy
import pandas
import pytest

from persona_vectors.analysis import agreement as module
from persona_vectors.analysis.agreement import agreement, choices_alike


def plain_kappa(yes_a, yes_b):
    n = len(yes_a)
    table = {
        (p, q): sum(1 for a, b in zip(yes_a, yes_b, strict=True) if (a, b) == (p, q)) for p in (0, 1) for q in (0, 1)
    }
    observed = (table[0, 0] + table[1, 1]) / n
    expected = sum((table[k, 0] + table[k, 1]) * (table[0, k] + table[1, k]) for k in (0, 1)) / n**2
    return (observed - expected) / (1 - expected)


@pytest.mark.parametrize("seed", range(3))
def test_the_measures_are_those_of_plain_formulas(seed):
    random = numpy.random.default_rng(seed)
    a = random.integers(0, 12, 60) * 9.0  # with ties
    b = numpy.clip(a + random.normal(4, 25, 60).round(), 0, 100)
    found = agreement(a, b, range(60), (50, 60))
    assert found["pearson"].value == pytest.approx(correlation(a, b))
    ranked = (pandas.Series(score).rank() for score in (a, b))
    assert found["spearman"].value == pytest.approx(correlation(*ranked))
    yes_a, yes_b = [int(x >= 50) for x in a], [int(x >= 60) for x in b]
    assert found["kappa"].value == pytest.approx(plain_kappa(yes_a, yes_b))
    assert found["alike"].value == pytest.approx(numpy.mean([x == y for x, y in zip(yes_a, yes_b, strict=True)]))
    assert found["bias"].value == pytest.approx((b - a).mean())
    assert found["upper"].value - found["bias"].value == pytest.approx(1.96 * (b - a).std(ddof=1))
    for estimate in found.values():
        assert estimate.low <= estimate.value <= estimate.high


def test_a_published_table():
    """Cohen's kappa of a 2 x 2 table with 20 yes/yes, 5 and 10 of the one alone, 15 no/no is 0.4."""
    a = [90] * 25 + [10] * 25
    b = [90] * 20 + [10] * 5 + [90] * 10 + [10] * 15
    assert agreement(a, b, range(50))["kappa"].value == pytest.approx(0.4)


def test_kappa_of_planted_noise_is_recovered(monkeypatch):
    """b repeats a's decision, but for a share of random ones: kappa is what is not random. It lies in about 95 % of the intervals."""
    monkeypatch.setattr(module, "DRAWS", 500)
    inside, values = 0, []
    for seed in range(25):
        random = numpy.random.default_rng(seed)
        a = random.choice([10.0, 90.0], 300)
        b = numpy.where(random.random(300) < 0.3, random.choice([10.0, 90.0], 300), a)
        kappa = agreement(a, b, numpy.arange(300) // 3, seed=seed)["kappa"]
        inside += kappa.low <= 0.7 <= kappa.high
        values.append(kappa.value)
    assert abs(numpy.mean(values) - 0.7) < 0.03 and inside >= 21


def test_kappa_of_normal_noise_is_the_probability_of_the_same_side(monkeypatch):
    monkeypatch.setattr(module, "DRAWS", 10)
    random = numpy.random.default_rng(0)
    truth = random.normal(0, 10, 20_000)
    a, b = (50 + truth + random.normal(0, 5, 20_000) for _ in range(2))
    r = 1 / (1 + 0.25)
    alike = 0.5 + math.asin(r) / math.pi  # of a bivariate normal distribution
    found = agreement(a, b, numpy.arange(20_000) // 10)
    assert found["pearson"].value == pytest.approx(r, abs=0.01)
    assert found["kappa"].value == pytest.approx(2 * alike - 1, abs=0.02)
    half = NormalDist().inv_cdf(0.975) * (2 * 25) ** 0.5
    assert found["upper"].value == pytest.approx(half, abs=0.3)


def test_questions_are_what_is_drawn():
    """Answers to a question that are copies of each other make an interval no narrower."""
    random = numpy.random.default_rng(1)
    a = random.uniform(0, 100, 30)
    b = a + random.normal(0, 20, 30)
    once = agreement(a, b, range(30))
    copied = agreement(numpy.repeat(a, 5), numpy.repeat(b, 5), numpy.repeat(numpy.arange(30), 5))
    for name in ("pearson", "spearman", "kappa", "bias"):
        assert copied[name].value == pytest.approx(once[name].value, abs=0.01)
        width = [estimate.high - estimate.low for estimate in (once[name], copied[name])]
        assert width[1] == pytest.approx(width[0], rel=0.1), name


@pytest.mark.parametrize(
    ("a", "b", "undefined"),
    [
        ([50, 50, 50, 50], [10, 60, 70, 20], {"pearson", "spearman"}),
        ([60, 70, 80, 90], [70, 60, 80, 95], {"kappa"}),
        ([60, 60, 60, 60], [70, 70, 70, 70], {"pearson", "spearman", "kappa"}),
    ],
)
def test_what_is_not_defined_is_none(a, b, undefined):
    found = agreement(a, b, range(4))
    assert {name for name, estimate in found.items() if estimate.value is None} == undefined


def test_other_units_have_no_bias_and_few_questions_no_interval():
    found = agreement([10, 60, 90, 20], [-1.5, 0.2, 3, -0.1], ["x", "x", "y", "y"], (50, 0), comparable=False)
    assert found["bias"].value is None and found["kappa"].value == 1 and found["pearson"].low is None
    with pytest.raises(ValueError, match="two scores"):
        agreement([], [], [])


def test_choices():
    found = choices_alike([70, -80, 5, 0], [True, False, False, True], "wxyz")
    assert found.value == pytest.approx(2.5 / 4) and found.low <= found.value <= found.high
    sure = choices_alike([70] * 10, [True] * 10, range(10))
    assert (sure.value, sure.low, sure.high) == (1, 1, 1)


@pytest.mark.parametrize("constant", [66.6, 100 / 3, 99.7])
def test_a_constant_of_many_rows_or_with_rounding_has_no_correlation(monkeypatch, constant):
    monkeypatch.setattr(module, "DRAWS", 20)
    random = numpy.random.default_rng(0)
    a, b = numpy.full(20_000, constant), random.uniform(0, 100, 20_000)
    rounded = numpy.where(random.random(20_000) < 0.5, constant, numpy.nextafter(constant, 100))
    for score in (a, rounded):
        found = agreement(score, b, numpy.arange(20_000) % 7)
        assert found["pearson"].value is None and found["spearman"].value is None
    narrow = agreement(constant + 1e-3 * b, b, numpy.arange(20_000) % 7)
    assert narrow["pearson"].value == pytest.approx(1) and narrow["spearman"].value == pytest.approx(1)
