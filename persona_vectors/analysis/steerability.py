"""How well a vector steers, from a sweep's answers: gain, gain per dose, questions moved the wrong way, and the controls.

All intervals are of 95 %, by bootstrap over questions (:mod:`persona_vectors.analysis.comparison`), those of shares of questions
Wilson's: where no question of twenty moves the wrong way, no draw of them does, and up to 16 % may. A question's slope is that
of its score over the dose, through its unsteered score; a question whose slope is negative moves the wrong way, as up to half of
them do for some vectors (arXiv 2407.12404). Knows tables of answers; knows nothing of models.
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy

from persona_vectors.analysis.comparison import Interval, compare, difference
from persona_vectors.analysis.recommendation import broken_doses
from persona_vectors.analysis.sweeps import NAMES, layer_name, layer_number, unsteered_at
from persona_vectors.analysis.trade_off import PER_NAT, of_controls
from persona_vectors.capability.figure import kind_of
from persona_vectors.capability.values import of_share
from persona_vectors.errors import UserError


def steerability(
    answers: Any, trait: str, dose_of_one: Callable[[int], float], min_coherence: float = 75.0, seed: int = 0
) -> dict:
    """What a sweep says of a vector.

    Args:
        answers: of :func:`persona_vectors.analysis.sweeps.read_sweep`, with questions, and with unsteered answers.
        dose_of_one: the dose of coefficient 1 at a layer.
        min_coherence: cells whose mean coherence is lower count for nothing; 0 takes all as they are, scored for coherence or not.
        seed: draws the bootstrap.

    Returns:
        ``unsteered``: the mean score. ``cells``, one a steered (layer, coefficient): ``dose`` (None where it has none:
        all layers, or a list, are steered), ``score``, ``coherence`` (None where none is known), ``gain`` over the unsteered answers, ``wrong_way`` (share of questions that move
        against the sign of the coefficient), ``over_controls`` (the score less that of the controls; None without any),
        ``over_strongest`` (less that of the one control that does most in the coefficient's direction: random vectors differ), and
        ``works``: coherent, and gain and advantage over the strongest control have the coefficient's sign in all of
        their interval. ``layers``: per layer ``per_dose``, the mean slope over the coherent cells, and ``wrong_way``, the share
        of negative slopes. ``broken_from`` and ``broken_below``: where coherence broke
        (:func:`persona_vectors.analysis.recommendation.broken_doses`). ``control_vectors``: how many, ``controls``: of which kinds, as ["random"]. An interval is {value, low, high}; low and high are None of fewer than three questions.

    Raises:
        UserError: no questions, or no unsteered answers.

    Example:
        found = steerability(read_sweep(["sweep.csv"], "evil"), "evil", lambda layer: 0.35)
        found["layers"]["20"]["wrong_way"]["value"]  # 0.12
    """
    if "question" not in answers:
        raise UserError(f"{answers['file'].iloc[0]} has no column 'question', which tells whose score moved")
    answers = answers.dropna(subset=[trait])
    own, controlled = (answers[answers["control"].eq("") == is_own] for is_own in (True, False))
    if not (own["coef"] == 0).any():
        raise UserError(f"{answers['file'].iloc[0]} has no unsteered answers (coefficient 0) to measure a gain from")
    cells, layers = [], {}
    for layer, of_layer in own.groupby("layer"):
        unsteered = unsteered_at(own, layer)
        unit = None if layer in NAMES else dose_of_one(int(layer))
        found, slopes = [], []
        start = unsteered.groupby("question")[trait].mean()
        for coef, steered in of_layer[of_layer["coef"] != 0].groupby("coef"):
            controls = controlled[(controlled["layer"] == layer) & (controlled["coef"] == coef)]
            sign = numpy.sign(coef)
            each = [difference(one, steered, trait, seed) for _, one in controls.groupby("control")]
            moved = (steered.groupby("question")[trait].mean() - start).dropna()
            cell: dict[str, Any] = {
                "layer": layer_name(layer),
                "coef": float(coef),
                "dose": None if unit is None else float(coef) * unit,
                "score": float(steered[trait].mean()),
                "coherence": _mean(steered["coherence"]),
                "gain": difference(unsteered, steered, trait, seed),
                "wrong_way": share_of(moved * sign < 0),
                "over_controls": difference(controls, steered, trait, seed) if len(controls) else None,
                "over_strongest": _least(each, sign),
            }
            cell["works"] = _works(cell, min_coherence)
            if unit and is_coherent(cell, min_coherence):
                slopes.append((coef * unit, moved))
            found.append(cell)
        cells += found
        if slopes:
            squares = sum(dose * dose for dose, _ in slopes)
            slope = (sum(dose * moved for dose, moved in slopes) / squares).dropna()
            layers[str(layer_name(layer))] = {"per_dose": mean_of(slope, seed), "wrong_way": share_of(slope < 0)}
    return {
        "unsteered": float(own.loc[own["coef"] == 0, trait].mean()),
        "cells": cells,
        "layers": layers,
        "min_coherence": min_coherence,
        **broken_doses(((cell["layer"], cell["dose"], cell["coherence"]) for cell in cells), min_coherence),
        "control_vectors": controlled["control"].nunique(),
        "controls": sorted(kind_of(controlled["control"]).unique()),
    }


def mean_of(values: Any, seed: int = 0) -> Interval | None:
    """The mean of one number a question, a pandas Series, with its interval; None of nothing.

    Example:
        mean_of(slope)  # {"value": 41.2, "low": 33.0, "high": 49.5}
    """
    if not len(values):
        return None
    found = compare(numpy.zeros(len(values)), values.index, values.astype(float), values.index, seed)
    return {"value": found.difference, "low": found.low, "high": found.high}


def share_of(truths: Any) -> Interval | None:
    """The share of questions of which something is true, a pandas Series, with its interval; None of nothing.

    Example:
        share_of(slope < 0)  # {"value": 0.12, "low": 0.04, "high": 0.3}
    """
    if not len(truths):
        return None
    share = float(truths.mean())
    low, high = of_share(share, len(truths)) if len(truths) > 2 else (None, None)
    return {"value": share, "low": low, "high": high}


def _least(advantages: Sequence[Interval | None], sign: float) -> Interval | None:
    """The smallest of the advantages that are known, in a direction."""

    def much(advantage: Any) -> float:
        return sign * advantage["value"]

    return min(filter(None, advantages), key=much, default=None)


def _works(cell: dict, min_coherence: float) -> bool:
    sign = numpy.sign(cell["coef"])
    said = [cell["gain"], *([cell["over_strongest"]] if cell["over_strongest"] else [])]
    return bool(is_coherent(cell, min_coherence) and all(_beyond_zero(interval, sign) for interval in said))


def is_coherent(cell: dict, min_coherence: float) -> bool:
    """Whether a cell's mean coherence suffices; at 0 it is not looked at.

    Example:
        is_coherent(found["cells"][0], 75)
    """
    return min_coherence == 0 or (cell["coherence"] is not None and cell["coherence"] >= min_coherence)


def _mean(scores: Any) -> float | None:
    mean = float(scores.mean())
    return None if math.isnan(mean) else mean


def _beyond_zero(interval: Interval | None, sign: float) -> bool:
    """Whether all of an interval has a sign; one that is not known has none."""
    ends = [interval[end] for end in ("low", "high")] if interval else [None]
    return all(end is not None and end * sign > 0 for end in ends)


def against_prompt(answers: Any, prompted: Any, trait: str, best: dict | None, seed: int = 0) -> dict:
    """The prompt baseline: the scores of answers under instructions that ask for the trait, beside the best steered cell's.

    Args:
        prompted: answers with scores and questions.
        best: the cell that they are compared with, one that raises the trait as the prompt does, or None.

    Returns:
        ``score``, ``coherence``, and ``steering_less_prompt``, an interval or None.
    """
    less = None
    if best is not None:
        layer = layer_number(best["layer"])
        own = answers[(answers["control"] == "") & (answers["layer"] == layer) & (answers["coef"] == best["coef"])]
        less = difference(prompted, own, trait, seed)
    return {
        "score": float(prompted[trait].mean()),
        "coherence": _mean(prompted["coherence"]),
        "steering_less_prompt": less,
    }


def best_cell(found: dict, raises: bool = False) -> dict | None:
    """Of the cells that work, or of those that raise the trait, the one with the largest gain in the direction of its
    coefficient; None where none works.
    """
    working = [cell for cell in found["cells"] if cell["works"] and (cell["coef"] > 0 or not raises)]
    return max(working, key=lambda cell: abs(cell["gain"]["value"]), default=None)


def in_words(found: dict, prompt: dict | None = None, min_coherence: float = 75.0) -> str:
    """A sweep's verdict in one line.

    Example:
        in_words(found)  # "works at layers 16-20, dose 0.3 to 0.6; 12 % of questions move the wrong way; ..."
    """
    best = best_cell(found)
    said = []
    coherent = [cell for cell in found["cells"] if is_coherent(cell, min_coherence)]
    control = f"{'the strongest' if found['control_vectors'] > 1 else 'a'} {' or '.join(found['controls'])} vector"
    if not found["cells"]:
        said.append("not known to work: the sweep has no steered answers with a score")
    elif coherent and all(cell["gain"] is None or cell["gain"]["low"] is None for cell in coherent):
        said.append("not known to work: fewer than three questions tell nothing of others")
    elif best is None:
        why = "in its 95 % interval, no cell moves the trait" if coherent else "no steered cell is coherent"
        said.append(f"does not work: {why}{f' more than {control} does' * _has_controls(coherent)}")
    else:
        working = [cell for cell in found["cells"] if cell["works"]]
        said.append(f"works at {_layers(working)}{_doses(working)}")
        if not any(_beyond_chance(cell, len(coherent)) for cell in working):
            said.append(f"but of {len(coherent)} coherent cells chance alone makes one as good")
        wrong = best["wrong_way"]
        if wrong is not None:
            said.append(
                f"{_share(wrong)} of questions move the wrong way at the best cell (layer {best['layer']}, coefficient "
                f"{best['coef']:g}, {best['gain']['value']:+.1f})"
            )
        slope = found["layers"].get(str(best["layer"]), {}).get("per_dose")
        if slope is not None:
            said.append(f"{slope['value'] / 10:+.1f} points per 0.1 of dose there{_interval(slope, 10)}")
        if per_nat := (best.get("price") or {}).get(PER_NAT):
            said.append(f"{per_nat['value']:+.1f} {PER_NAT}{_interval(per_nat)}{_of_controls(per_nat)}")
    no_better = [
        cell
        for cell in coherent
        if cell["over_strongest"] and not _beyond_zero(cell["over_strongest"], numpy.sign(cell["coef"]))
    ]
    if no_better and best is not None:
        said.append(f"no better than {control} at {_layers(no_better)}{_doses(no_better)}")
    if coherent and not _has_controls(coherent):
        said.append("not compared with random vectors (--controls)")
    if prompt is not None:
        less = prompt["steering_less_prompt"]
        said.append(
            f"the prompt alone reaches {prompt['score']:.1f}"
            + ("" if prompt["coherence"] is None else f" (coherence {prompt['coherence']:.1f})")
            + ("" if less is None else f", steering {less['value']:+.1f} from there{_interval(less)}")
        )
    return "; ".join(said)


def _beyond_chance(cell: dict, cells: int) -> bool:
    """Whether a cell would work with intervals that are wide enough for all ``cells`` at once (Bonferroni)."""
    wider = NormalDist().inv_cdf(1 - 0.025 / cells) / NormalDist().inv_cdf(0.975)
    intervals = [cell["gain"], *([cell["over_strongest"]] if cell["over_strongest"] else [])]
    return all(abs(i["value"]) > wider * (i["high"] - i["low"]) / 2 for i in intervals)


def _has_controls(cells: Sequence[dict]) -> bool:
    return any(cell["over_strongest"] for cell in cells)


def _layers(cells: Sequence[dict]) -> str:
    """The layers of cells: "layers 2-4, 8", runs of neighbours put together."""
    numbers = sorted({cell["layer"] for cell in cells if isinstance(cell["layer"], int)})
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    words += sorted({cell["layer"] for cell in cells if isinstance(cell["layer"], str)})
    return f"layer{'s' if len(numbers) > 1 else ''} {', '.join(words)}"


def _doses(cells: Sequence[dict]) -> str:
    """The doses of cells: ", dose -0.4 to -0.2 and 0.3", those that lower apart from those that raise."""
    doses = [cell["dose"] for cell in cells if cell["dose"] is not None]
    sides = [side for side in ([d for d in doses if d < 0], [d for d in doses if d >= 0]) if side]
    words = [" to ".join(dict.fromkeys(f"{end:.2g}" for end in (min(side), max(side)))) for side in sides]
    return f", dose {' and '.join(words)}" if words else ""


def _share(interval: Interval) -> str:
    low, high = interval["low"], interval["high"]
    ends = "" if low is None or high is None else f" [{max(0, low):.0%}, {min(1, high):.0%}]"
    return f"{interval['value']:.0%}{ends}"


def _of_controls(measured: dict) -> str:
    """The means of the controls' kinds, which follow a measure's own numbers in a price."""
    told = [f"{kind} {mean:+.1f}" for kind, mean in of_controls(measured).items() if mean is not None]
    return f" ({', '.join(told)})" if told else ""


def _interval(interval: Interval, over: float = 1) -> str:
    low, high = interval["low"], interval["high"]
    return "" if low is None or high is None else f" [{low / over:+.1f}, {high / over:+.1f}]"
