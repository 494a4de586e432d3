"""Differences of scores: planted ones are found, and intervals cover the truth as often as they say."""

import numpy
import pytest

from persona_vectors.analysis.comparison import compare


def planted(seed: int, difference: float, questions: int = 20, answers: int = 3, same: bool = True):
    """Scores of two sets over questions that differ by 10, answers by 8; b is ``difference`` higher."""
    random = numpy.random.default_rng(seed)
    levels = [random.normal(50, 10, questions)]
    levels.append(levels[0] if same else random.normal(50, 10, questions))
    sides = []
    for side, level in enumerate(levels):
        names = [f"{k}" if same else f"{side}/{k}" for k in range(questions) for _ in range(answers)]
        sides += [numpy.repeat(level, answers) + random.normal(side * difference, 8, questions * answers), names]
    return sides


@pytest.mark.parametrize("same", [True, False])
def test_the_interval_covers_the_planted_difference_as_often_as_it_says(same):
    found = [compare(*planted(seed, 6.0, same=same)) for seed in range(1000)]
    covered = sum(one.low <= 6 <= one.high for one in found) / len(found)
    assert 0.92 <= covered <= 0.98, covered
    assert numpy.mean([one.difference for one in found]) == pytest.approx(6, abs=0.3)
    assert all(one.paired == same and one.questions == 20 for one in found)


def test_pairing_tells_smaller_differences():
    widths = [numpy.mean([(one.high - one.low) for one in (compare(*planted(s, 0, same=same)) for s in range(20))])
              for same in (True, False)]  # fmt: skip
    assert widths[0] < widths[1] / 2


def test_the_numbers_by_hand():
    found = compare([10, 20, None, 30], ["x", "y", "y", "z"], [15, 25, 38], ["x", "y", "z"])
    assert (found.mean_a, found.mean_b, found.difference) == (20, 26, 6) and found.paired and found.questions == 3
    assert found.effect == pytest.approx(6 / numpy.sqrt((100 + 133) / 2)) and found.low < 6 < found.high
    few = compare([1, 2], ["x", "y"], [1, 2], ["x", "y"])
    assert few.low is None and few.high is None and few.effect == 0
    assert compare([5, 5, 5], "xyz", [5, 5, 5], "xyz").effect is None
    with pytest.raises(ValueError, match="without a score"):
        compare([None], ["x"], [1], ["x"])


def test_the_same_seed_gives_the_same_interval():
    sides = planted(1, 3.0)
    assert compare(*sides) == compare(*sides) != compare(*sides, seed=1)
