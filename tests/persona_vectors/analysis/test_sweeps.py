"""Intervals of a sweep's cells are over questions; what is recommended where scores are missing; doses of two norms."""

import logging
import math

import numpy
import pandas
import pytest

from persona_vectors.analysis.comparison import difference
from persona_vectors.analysis.recommendation import in_words, recommend
from persona_vectors.analysis.sweeps import cell_means, warn_of_doses
from persona_vectors.analysis.trade_off import PER_NAT, numbers_at, trade_off


def answers(per_question=10, questions=8, seed=0):
    """Unsteered and steered answers whose spread is nearly all between questions."""
    draw, rows = numpy.random.default_rng(seed), []
    for q in range(questions):
        base, gain = draw.normal(40, 10), draw.normal(20, 6)
        for coef in (0.0, 1.0):
            for _ in range(per_question):
                score = base + coef * gain + draw.normal(0, 1)
                rows.append((20, coef, "", f"q{q}", score, 90.0, "sweep.csv"))
    return pandas.DataFrame(rows, columns=["layer", "coef", "control", "question", "evil", "coherence", "file"])


def slow_error(scores, questions) -> float:
    """Half the interval of a mean over clusters of answers, in loops."""
    mean = sum(scores) / len(scores)
    sums: dict = {}
    for score, question in zip(scores, questions, strict=True):
        sums[question] = sums.get(question, 0.0) + score - mean
    count = len(sums)
    return 1.96 * math.sqrt(count / (count - 1) * sum(s * s for s in sums.values())) / len(scores)


def test_questions_are_the_sample():
    table = answers().drop(index=[3, 17, 40])  # of unequal numbers of answers
    table.loc[5, "evil"] = math.nan
    means = cell_means(table, "evil").set_index("coef")
    for coef, own in table.dropna(subset=["evil"]).groupby("coef"):
        assert means.loc[coef, "trait_error"] == pytest.approx(
            slow_error(own["evil"].tolist(), own["question"].tolist())
        )
        over_answers = 1.96 * own["evil"].std() / len(own) ** 0.5
        assert means.loc[coef, "trait_error"] > 2 * over_answers
    one_each = table.drop_duplicates(["question", "coef"]).dropna(subset=["evil"])
    for coef, own in one_each.groupby("coef"):  # of one answer a question as ever
        error = cell_means(one_each, "evil").set_index("coef").loc[coef, "trait_error"]
        assert error == pytest.approx(1.96 * own["evil"].std() / len(own) ** 0.5)
    untold = cell_means(table.drop(columns="question"), "evil").set_index("coef").loc[1.0, "trait_error"]
    scores = table.loc[table["coef"] == 1, "evil"].dropna()
    assert untold == pytest.approx(1.96 * scores.std() / len(scores) ** 0.5)
    assert cell_means(table.assign(question="q"), "evil")["trait_error"].isna().all()


COSTS = {"layer": 20, "control": "", "task": "kl", "measure": "kl", "what": "kl", "n": 20}


def test_points_per_nat_have_the_interval_of_the_gain():
    table = answers()
    costs = pandas.DataFrame(
        [COSTS | {"coef": c, "value": c / 2, "low": c * 0.49, "high": c * 0.51} for c in (0.0, 1.0)]
    )
    found = numbers_at(trade_off(table, costs, "evil"), 20, 1.0)[PER_NAT]
    gain = difference(table[table["coef"] == 0], table[table["coef"] == 1], "evil")
    half = math.hypot((gain["high"] - gain["low"]) / 2, gain["value"] * 0.01 / 0.5) / 0.5
    assert found["value"] == pytest.approx(gain["value"] / 0.5)
    assert (found["low"], found["high"]) == pytest.approx((found["value"] - half, found["value"] + half))
    for change in ({"question": "q"}, {"evil": math.nan}):  # one question; no score
        less = trade_off(table.assign(**change), costs, "evil")
        left = numbers_at(less, 20, 1.0).get(PER_NAT)
        assert (left is None) if "evil" in change else (left["value"] == found["value"] and left["low"] is None)
    bare = numbers_at(trade_off(table.drop(columns="question"), costs, "evil"), 20, 1.0)[PER_NAT]
    assert bare["value"] == found["value"] and bare["low"] is not None


def cells(coherence: dict, scores=None) -> pandas.DataFrame:
    table = pandas.DataFrame({"coef": list(coherence), "coherence_mean": list(coherence.values()), "layer": 20})
    return table.assign(trait_mean=[(scores or {}).get(coef, 10 * coef) for coef in coherence])


@pytest.mark.parametrize(
    ("coherence", "wanted"),
    [
        ({0.0: 90, 1.0: 90, 2.0: 20, 3.0: 80}, [3, 3]),  # 2 is between, and is not coherent
        ({-2.0: 90, -1.0: 10, 0.0: 90, 1.0: 90, 2.0: 80, 3.0: 10}, [1, 2]),
        ({-2.0: 10, -1.0: 90, 0.0: 90, 1.0: 90, 2.0: 80}, [-1, 2]),
        ({3.0: 80, 0.0: 90, 1.0: 90, 2.0: 80}, [1, 3]),
    ],
)
def test_the_range_ends_where_coherence_breaks(coherence, wanted):
    assert recommend(cells(coherence), 75)["coef_range"] == wanted


def test_cells_without_a_score():
    none = recommend(cells({0.0: 90, 1.0: 90}, {1.0: math.nan}), 75)
    assert none["layer"] is None and none["unsteered"] == 0 and "no steered cell" in in_words(none | {"trait": "evil"})
    some = recommend(cells({0.0: 90, 1.0: 90, 2.0: 90, 3.0: 90}, {0.0: math.nan, 2.0: math.nan, 3.0: 5.0}), 75)
    assert (some["coef"], some["unsteered"], some["coef_range"]) == (1.0, None, [1, 3])
    assert "nan" not in in_words(some | {"trait": "evil"})


@pytest.mark.parametrize(
    ("doses", "told"),
    [
        ([0.3, 0.6, -0.3], ""),
        ([0.3, 0.6, -0.35], "is dose 0.3 here and 0.35 there"),
        ([0.3, 0.9, -0.3], "a.csv and b.csv tell doses by different mean norms: coefficient 1 at layer 20"),
        ([math.nan, 0.6, -0.3001], ""),
    ],
)
def test_doses_by_two_norms_are_told(doses, told, caplog):
    table = pandas.DataFrame({"layer": 20, "coef": [1.0, 2.0, -1.0, 0.0], "dose": [*doses, 0.0], "file": list("abaa")})
    with caplog.at_level(logging.WARNING, "persona_vectors"):
        warn_of_doses(table.assign(file=table["file"] + ".csv"))
    assert (told in caplog.text) if told else not caplog.text
