"""The layer and the coefficients that a steering sweep recommends (appendix B.4): the most of the trait among coherent cells.

Where the answers tell doses (coef * |v_l| / mean |h_l|), so does the recommendation, and from which dose on coherence broke.
"""

import math
from collections.abc import Iterable

from persona_vectors.analysis.sweeps import layer_name


def recommend(cells, min_coherence: float, lowest: bool = False, max_kl: float | None = None) -> dict:
    """The coherent cell with the highest trait score (or the ``lowest``), and the coefficients of its layer that stay coherent.

    ``layer`` is None where no steered cell is coherent and has a score. ``coef_range`` is [lowest, highest] of the steered cells
    around the best one up to the first that is not coherent, across 0 as well. Where doses are known:
    ``dose`` and ``dose_range`` the same, and where coherence broke (:func:`broken_doses`). With ``max_kl`` the cells have a column kl, those above it are taken for
    incoherent ones, and ``max_kl`` and the best cell's ``kl`` are told.

    Example:
        recommend(cells, min_coherence=75)["layer"]  # 20
    """
    unsteered = cells.loc[cells["coef"] == 0, "trait_mean"].dropna()
    result: dict = {
        "unsteered": float(unsteered.mean()) if len(unsteered) else None,
        "min_coherence": min_coherence,
    }
    dosed = "dose" in cells and cells["dose"].any()
    if dosed:
        result |= broken_doses(
            zip(cells["layer"].map(layer_name), cells["dose"], cells["coherence_mean"], strict=True), min_coherence
        )
    is_coherent = (cells["coherence_mean"] >= min_coherence) | (min_coherence == 0)
    if max_kl is not None:
        result["max_kl"] = max_kl
        is_coherent &= cells["kl"] <= max_kl
    usable = cells[is_coherent & (cells["coef"] != 0) & cells["trait_mean"].notna()]
    if usable.empty:
        return {"layer": None, "coef": None, **result}
    scores = usable["trait_mean"]
    best = usable.loc[scores.idxmin() if lowest else scores.idxmax()]
    steered = cells[(cells["layer"] == best["layer"]) & (cells["coef"] != 0)].sort_values("coef")
    breaks = (~is_coherent[steered.index]).cumsum()
    of_layer = steered[is_coherent[steered.index] & (breaks == breaks[best.name])]
    if max_kl is not None:
        result["kl"] = float(best["kl"])
    if dosed and best["dose"] == best["dose"]:
        result["dose"] = float(best["dose"])
        result["dose_range"] = [float(of_layer["dose"].min()), float(of_layer["dose"].max())]
    return {
        "layer": layer_name(best["layer"]),
        "coef": float(best["coef"]),
        "trait_score": float(best["trait_mean"]),
        "coherence": None if math.isnan(best["coherence_mean"]) else float(best["coherence_mean"]),
        "coef_range": [float(of_layer["coef"].min()), float(of_layer["coef"].max())],
        **result,
    }


def broken_doses(
    cells: Iterable[tuple[int | str, float | None, float | None]], min_coherence: float
) -> dict[str, dict[str, float]]:
    """Per layer the steered cells nearest to 0, on either side of it, whose mean coherence is lower than ``min_coherence``.

    Args:
        cells: (layer, dose, mean coherence); one without a dose, or a coherence, tells nothing.

    Returns:
        ``broken_from``: the smallest positive doses, by layer; ``broken_below``: the negative ones nearest to 0.

    Example:
        >>> broken_doses([(20, 0.4, 90.0), (20, 0.8, 60.0), (20, 1.2, 10.0), (20, -0.4, 30.0)], 75)
        {'broken_from': {'20': 0.8}, 'broken_below': {'20': -0.4}}
    """
    found: dict[str, dict[str, float]] = {"broken_from": {}, "broken_below": {}}
    for layer, dose, coherence in cells:
        if dose and dose == dose and coherence is not None and coherence < min_coherence:
            side = found["broken_from" if dose > 0 else "broken_below"]
            side[str(layer)] = min(float(dose), side.get(str(layer), math.inf * dose), key=abs)
    return found


def in_words(best: dict) -> str:
    """A recommendation as one line, and a second one where it is known from which dose on coherence broke.

    Example:
        in_words(recommend(cells, 75) | {"trait": "evil"})  # "evil: best at layer 20, coefficient 1.5 (dose 0.31): ..."
    """
    sides = [best.get(side, {}) for side in ("broken_from", "broken_below")]
    broken = ", ".join(f"{dose:.3g} at layer {layer}" for side in sides for layer, dose in side.items())
    warning = (
        f"\n  do not steer beyond: coherence fell below {best['min_coherence']:g} from dose {broken}" if broken else ""
    )
    if best["layer"] is None:
        ceiling = f" and a KL of at most {best['max_kl']:g}" if "max_kl" in best else ""
        return (
            f"{best['trait']}: no steered cell has a mean coherence of {best['min_coherence']:g}{ceiling}; try smaller "
            f"coefficients{warning}"
        )
    low, high = best["coef_range"]
    start = "" if best["unsteered"] is None else f" from {best['unsteered']:.1f} unsteered"
    coherence = "without coherence" if best["coherence"] is None else f"coherence {best['coherence']:.1f}"
    coherence += f", KL {best['kl']:.3g}" if "kl" in best else ""
    coherent = "coherent " if best["min_coherence"] else ""
    dose, doses = "", ""
    if "dose" in best:
        dose, doses = (
            f" (dose {best['dose']:.3g})",
            f" (doses {best['dose_range'][0]:.3g} to {best['dose_range'][1]:.3g})",
        )
    return (
        f"{best['trait']}: best at layer {best['layer']}, coefficient {best['coef']:g}{dose}: {best['trait_score']:.1f}{start}, "
        f"{coherence}; {coherent}coefficients of this layer: {low:g} to {high:g}{doses}{warning}"
    )
