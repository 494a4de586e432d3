"""Correlations against numpy and against simulation."""

import math
import random

import numpy
import pytest

from persona_vectors.analysis.correlation import ceiling, pearson, within_conditions


def draw(n, r, seed):
    rng = random.Random(seed)
    x = [rng.gauss(0, 1) for _ in range(n)]
    return x, [r * a + math.sqrt(1 - r * r) * rng.gauss(0, 1) for a in x]


def test_r_is_numpys_and_missing_points_are_left_out():
    x, y = draw(50, 0.6, 0)
    found = pearson([*x, None, float("nan"), 1], [*y, 1, 2, None])
    assert found.r == pytest.approx(numpy.corrcoef(x, y)[0, 1]) and found.n == 50
    assert found.low < found.r < found.high


def test_the_interval_covers_the_truth_as_often_as_it_says():
    intervals = [pearson(*draw(40, 0.7, seed)) for seed in range(1000)]
    covered = sum(found.low <= 0.7 <= found.high for found in intervals) / len(intervals)
    assert 0.93 <= covered <= 0.97


def test_what_cannot_be_said_is_none():
    for x, y in (([], []), ([1], [1]), ([1, 2, 3], [5, 5, 5])):
        assert pearson(x, y).r is None and "not defined" in str(pearson(x, y))
    line = pearson([1, 2, 3, 4, 5], [2, 4, 6, 8, 10])
    assert line.r == pytest.approx(1)
    three = pearson([1, 2, 4], [1, 3, 2])
    assert three.r is not None and three.low is None and str(three).endswith("(n = 3)")


def test_what_is_constant_but_for_rounding_has_no_r():
    y = [0.1 * k for k in range(30)]
    for constant in (66.6, 100 / 3, 0.1, 99.7, 0.0):
        assert pearson([constant] * 30, y).r is None and pearson(y, [constant] * 30).r is None
        assert pearson([math.nextafter(constant, k % 2) for k in range(30)], y).r is None or constant == 0
    assert pearson([66.6 + 1e-6 * k for k in y], y).r == pytest.approx(1)
    assert pearson([1e-15 * k for k in y], y).r == pytest.approx(1)


def test_within_conditions_averages_the_conditions_that_vary():
    x, y, condition, expected = [], [], [], []
    for k, r in enumerate((0.9, 0.3, -0.2)):
        a, b = draw(30, r, k)
        x, y, condition = x + [v + 10 * k for v in a], y + [20 * v for v in b], condition + [f"level {k}"] * 30
        expected.append(numpy.corrcoef(a, b)[0, 1])
    flat_x, flat_y = draw(30, 0.9, 9)
    x, y, condition = x + flat_x, y + [0.1 * v for v in flat_y], condition + ["flat"] * 30
    found = within_conditions(x, y, condition)
    assert found.r == pytest.approx(numpy.mean(expected)) and found.left_out == ["flat"]
    assert list(found.conditions.values()) == pytest.approx(expected)
    assert found.low < found.r < found.high
    nothing = within_conditions([1, 2], [3, 3], ["a", "a"])
    assert nothing.r is None and nothing.left_out == ["a"]


def test_the_ceiling_is_what_prompts_could_tell():
    """Planted: a quarter of the variance within conditions is the prompt's; what knows the prompt reaches r = .5 at most."""
    rng = random.Random(0)
    known, scores, conditions, prompts = [], [], [], []
    for condition in range(40):
        for prompt in range(25):
            mean = rng.gauss(50 + condition, 5)
            for _ in range(2):
                known.append(mean)
                scores.append(rng.gauss(mean, 5 * math.sqrt(3)))
                conditions.append(condition)
                prompts.append((condition, prompt))
    found = ceiling(scores, conditions, prompts)
    assert found == pytest.approx(0.5, abs=0.04)
    assert within_conditions(known, scores, conditions).r == pytest.approx(found, abs=0.06)
    noise = ceiling([rng.gauss(50, 5) for _ in scores], conditions, prompts)
    assert noise < 0.2 and ceiling(known, conditions, prompts) == pytest.approx(1)
    assert ceiling([1, 5, 9], [0, 0, 0], [1, 2, 3]) is None, "one answer a prompt: nobody can tell"
    assert ceiling([5, None, 5, 5], [0] * 4, [1, 1, 2, 2]) is None, "no spread"
