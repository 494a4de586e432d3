"""The figure of a vector's card: the pairs, overlaps, doses, and of a sweep scores, questions moved the wrong way and the price."""

import math
from pathlib import Path

from persona_vectors.analysis.steerability import is_coherent
from persona_vectors.analysis.trade_off import of_controls
from persona_vectors.plots import COLOURS, new_figure, save_figure


def draw(card: dict, path: str, min_coherence: float) -> None:
    """One page: what foretells, what it overlaps with, how long it is, and what the sweep gave.

    Args:
        card: of eval.vector_quality.
        min_coherence: cells whose mean coherence is lower are drawn hollow.

    Example:
        draw(read_json("evil_response_avg_diff_quality.json"), "card.png", 75)
    """
    read, swept = card["pairs"], "sweep" in card
    priced = [cell for cell in card["sweep"]["cells"] if (cell.get("price") or {}).get("kl")] if swept else []
    figure, axes = new_figure(columns=3 + 2 * swept + bool(priced), width=3.6, per_row=2)
    layers = range(len(card["norm"]))
    for name, label in (("pair_cosine", "cosine of two pairs"), ("auc", "held-out AUC"), ("half_cosine", "halves")):
        axes[0].plot(layers, read[name], marker=".", label=label)
    axes[0].set(title="the pairs", xlabel="layer", ylim=(-0.05, 1.05))
    lines = {**card["overlap"], **({"other seeds": card["seed_cosine"]} if card["seed_cosine"] else {})}
    for name, cosines in {"these pairs": read["agreement"], **lines}.items():
        axes[1].plot(layers, cosines, marker=".", label=name)
    axes[1].axhline(0, color="grey", linewidth=0.8, linestyle=":")
    axes[1].set(title="cosine with", xlabel="layer", ylim=(-1.05, 1.05))
    axes[2].plot(layers, card["dose_of_1"], marker=".", label="norm / mean |h|")
    axes[2].set(title="dose of coefficient 1", xlabel="layer", ylim=(0, None))
    if swept:
        _sweep(card, axes[3], axes[4], min_coherence)
    if priced:
        _price(card, priced, axes[5])
    for axis in axes:
        axis.title.set_fontsize(8)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=7)
    figure.suptitle(f"{card['trait']}: {Path(card['vector']).name}", fontsize=10)
    save_figure(figure, path)


def _sweep(card: dict, score, wrong, min_coherence: float) -> None:
    """Scores, and the share of questions moved the wrong way, over the dose; a line a layer, hollow where not coherent."""
    cells = [cell for cell in card["sweep"]["cells"] if cell["dose"] is not None]
    for k, layer in enumerate(dict.fromkeys(cell["layer"] for cell in cells)):
        line, colour = [cell for cell in cells if cell["layer"] == layer], COLOURS[k % len(COLOURS)]
        doses = [cell["dose"] for cell in line]
        score.plot(doses, [cell["score"] for cell in line], color=colour, label=f"layer {layer}")
        shares = [100 * cell["wrong_way"]["value"] if cell["wrong_way"] else math.nan for cell in line]
        wrong.plot(doses, shares, ".-", color=colour)
        for cell in line:
            fill = colour if is_coherent(cell, min_coherence) else "white"
            score.plot(cell["dose"], cell["score"], "o", color=colour, markerfacecolor=fill, markersize=4)
        compared = [cell for cell in line if cell["over_controls"]]
        controls = [cell["score"] - cell["over_controls"]["value"] for cell in compared]
        score.plot([cell["dose"] for cell in compared], controls, "--", color=colour, linewidth=1)
    if card["prompt"]:
        score.axhline(card["prompt"]["score"], color="black", linewidth=0.8, label="the prompt alone")
    score.axhline(card["sweep"]["unsteered"], color="grey", linewidth=0.8, linestyle=":", label="unsteered")
    score.set(title=f"{card['trait']} (dashed: controls, hollow: incoherent)", xlabel="dose", ylim=(-3, 103))
    wrong.set(title="questions moved the wrong way, %", xlabel="dose", ylim=(-3, 103))


def _price(card: dict, cells: list[dict], axis) -> None:
    """Scores over how far the model is moved, the vector's and its controls': what lies higher costs less."""
    layers = list(dict.fromkeys(cell["layer"] for cell in card["sweep"]["cells"]))
    for layer, sign in ((layer, sign) for layer in layers for sign in (-1, 1)):
        line = [cell for cell in cells if cell["layer"] == layer and cell["coef"] * sign > 0]
        own = [(cell["price"]["kl"]["value"], cell["score"]) for cell in line]
        compared = [cell for cell in line if cell["over_controls"]]
        controls = [
            (kl, cell["score"] - cell["over_controls"]["value"])
            for cell in compared
            for kl in of_controls(cell["price"]["kl"]).values()
        ]
        for style, points in ((".-", own), (".--", controls)):
            x, y = zip((0, card["sweep"]["unsteered"]), *sorted(points), strict=True)
            axis.plot(x, y, style, color=COLOURS[layers.index(layer) % len(COLOURS)], linewidth=1)
    axis.set(title="score by cost (dashed: controls)", xlabel="KL, nats per token", ylim=(-3, 103))
