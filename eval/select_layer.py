"""Stage: a steering sweep's answers -> curves, a heat map, and the layer and coefficients to use.

    python -m eval.select_layer --file_path sweep.csv --trait evil

Appendix B.4 of the paper: the layer is the one that raises the trait most; here among cells whose answers stay coherent.
Several traits: --file_path with {trait}. Writes <file>_curves.png, <file>_heatmap.png and <file>_best.json beside the sweep.
"""

import json
from pathlib import Path

from persona_vectors import cli
from persona_vectors.errors import UserError
from persona_vectors.results import read_answers, replacing


def main(file_path: str, trait: cli.Several, min_coherence: float = 75, output: str = None):
    """Draw a steering sweep and recommend a layer and coefficients.

    Args:
        file_path: answers CSV of eval_persona with the columns coef and layer; {trait} is filled in.
        trait: name of the score column; several need {trait} in file_path.
        min_coherence: cells whose mean coherence is lower are not recommended.
        output: beginning of the files to write; by default the CSV's name without its ending. {trait} is filled in.
    """
    min_coherence = cli.as_number("min_coherence", min_coherence, 0, 100)
    traits = cli.as_words(trait)
    if len(traits) > 1 and any("{trait}" not in path for path in (file_path, output) if path is not None):
        raise UserError("several traits need {trait} in --file_path (and in --output)")
    sweeps = {}
    for name in traits:
        path = file_path.replace("{trait}", name)
        sweeps[name] = path, cell_means(read_answers(path, (name, "coherence")), name, path)

    written, rows = [], []
    for name, (path, cells) in sweeps.items():
        prefix = output.replace("{trait}", name) if output else str(Path(path).with_suffix(""))
        best = {"trait": name, "file": path, **recommend(cells, min_coherence)}
        written += draw(cells, best, prefix)
        rows += [(name, best["layer"], *cell) for cell in table_rows(cells, best["layer"])]
        print(in_words(best))
    print(f"\n{'trait':15s} {'layer':>5s} {'coefficient':>11s} {'trait score':>11s} {'coherence':>9s}")
    for name, layer, coef, score, coherence in rows:
        print(f"{name:15s} {layer!s:>5s} {coef:11g} {score:11.1f} {coherence:9.1f}")
    print("wrote " + ", ".join(written))


def draw(cells, best: dict, prefix: str) -> list[str]:
    """Write curves, heat map and recommendation of one trait; returns the paths."""
    from persona_vectors.plots import heat_map, steering_curves

    paths = [f"{prefix}_{kind}" for kind in ("curves.png", "heatmap.png", "best.json")]
    lines = [(f"layer {layer_name(layer)}", line) for layer, line in cells.groupby("layer")]
    steering_curves(lines, best["trait"], paths[0], f"Steering with the {best['trait']} vector")
    grid = cells.pivot(index="layer", columns="coef", values="trait_mean").rename(index=layer_name)
    heat_map(grid, paths[1], xlabel="coefficient", ylabel="layer", title=f"{best['trait']} score")
    with replacing(paths[2]) as beside:
        beside.write_text(json.dumps(best, indent=2) + "\n")
    return paths


def table_rows(cells, layer: int | str | None) -> list[tuple[float, float, float]]:
    """(coefficient, trait score, coherence) along one layer, or along the first where none is recommended."""
    number = cells["layer"].min() if layer is None else EVERY if layer == "all" else layer
    line = cells[cells["layer"] == number].sort_values("coef")
    return list(line[["coef", "trait_mean", "coherence_mean"]].itertuples(index=False, name=None))


def in_words(best: dict) -> str:
    """The recommendation as one line."""
    if best["layer"] is None:
        return f"{best['trait']}: no steered cell has a mean coherence of {best['min_coherence']:g}; try smaller coefficients"
    low, high = best["coef_range"]
    start = "" if best["unsteered"] is None else f" from {best['unsteered']:.1f} unsteered"
    return (
        f"{best['trait']}: best at layer {best['layer']}, coefficient {best['coef']:g}: {best['trait_score']:.1f}{start}, "
        f"coherence {best['coherence']:.1f}; coherent coefficients of this layer: {low:g} to {high:g}"
    )


EVERY = 10**6  # sorts the layer "all" behind the others


def layer_name(layer: int) -> int | str:
    """The layer as the answers file has it."""
    return "all" if layer == EVERY else int(layer)


def cell_means(answers, trait: str, file_path: str):
    """Mean, and half the 95 % interval, of both scores per (layer, coef): a DataFrame of one row a cell."""
    import pandas

    for column in ("coef", "layer"):
        if column not in answers:
            raise UserError(f"{file_path} has no column '{column}': make it with several coefficients or layers")
    answers["coef"] = pandas.to_numeric(answers["coef"], errors="coerce")
    layers = pandas.to_numeric(answers["layer"].replace("all", str(EVERY)), errors="coerce")
    if answers["coef"].isna().any() or layers.isna().any():
        raise UserError(f"{file_path} has rows without a number in 'coef' or 'layer'")
    groups = answers.assign(layer=layers.astype(int)).groupby(["layer", "coef"])
    cells = pandas.DataFrame({"n": groups.size()})
    for name, column in (("trait", trait), ("coherence", "coherence")):
        scores = groups[column]
        cells[f"{name}_mean"] = scores.mean()
        cells[f"{name}_error"] = 1.96 * scores.std() / scores.count() ** 0.5
    return cells.reset_index()


def recommend(cells, min_coherence: float) -> dict:
    """The coherent cell with the highest trait score, and the coefficients of its layer that stay coherent.

    ``layer`` is None where no steered cell is coherent. ``coef_range`` is [lowest, highest] around 0.
    """
    unsteered = cells.loc[cells["coef"] == 0, "trait_mean"]
    result = {"unsteered": float(unsteered.mean()) if len(unsteered) else None, "min_coherence": min_coherence}
    usable = cells[(cells["coherence_mean"] >= min_coherence) & (cells["coef"] != 0)]
    if usable.empty:
        return {"layer": None, "coef": None, **result}
    best = usable.loc[usable["trait_mean"].idxmax()]
    coefs = usable.loc[usable["layer"] == best["layer"], "coef"]
    return {
        "layer": layer_name(best["layer"]),
        "coef": float(best["coef"]),
        "trait_score": float(best["trait_mean"]),
        "coherence": float(best["coherence_mean"]),
        "coef_range": [float(coefs.min()), float(coefs.max())],
        **result,
    }


if __name__ == "__main__":
    cli.run(main)
