"""Stage: a steering sweep's answers -> curves, a heat map, and the layer and coefficients to use.

    python -m eval.select_layer --file_path sweep.csv --trait evil
    python -m eval.select_layer --file_path out/evil_steer_response_layer*_coef*.csv --trait evil
    python -m eval.select_layer --file_path 'out/{trait}/l{layer}_a{coef}.csv' --trait evil sycophantic
    python -m eval.select_layer --file_path sweep.csv --trait evil --capability capability.csv

Appendix B.4 of the paper: the layer is the one that raises the trait most; here among cells whose answers stay coherent.
A sweep with controls (eval_persona --controls) is drawn with them: random or shuffled vectors of the same norm. Where the
answers tell doses, so do the table and the recommendation, with the doses from which on coherence broke. With the table of
eval.capability for the same model and vector, <file>_tradeoff.png and .csv show what steering costs beside what it gives,
by dose and beside the random vectors, and best.json has the price of the chosen cell.
Several traits: --file_path with {trait}. Writes <file>_curves.png, <file>_heatmap.png and <file>_best.json beside the
sweep; where that is several files, <trait>_sweep_... in the folder that all of them are in.
"""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

from persona_vectors import cli
from persona_vectors.analysis.recommendation import in_words, recommend
from persona_vectors.analysis.sweeps import MIN_COHERENCE, cell_means, layer_name, layer_number, read_sweep
from persona_vectors.analysis.trade_off import TradeOff
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import of_file
from persona_vectors.files.jsonfile import write_json


@cli.command
def main(
    file_path: cli.Files,
    trait: cli.Several[str],
    min_coherence: cli.Score = MIN_COHERENCE,
    output: str | None = None,
    capability: str | None = None,
):
    """Draw a steering sweep and recommend a layer and coefficients.

    Args:
        file_path: answers CSV of eval_persona with the columns coef and layer; or one CSV per cell, several files with
            layer20 and coef1.5 or the like in their names, or a pattern in quotes that says where layer and
            coefficient stand: 'out/l{layer}_a{coef}.csv'. {trait} is filled in.
        trait: name of the score column; several need {trait} in file_path.
        min_coherence: cells whose mean coherence is lower are not recommended; 0 takes them as they are, scored for coherence or not.
        output: beginning of the files to write; by default the CSV's name without its ending. {trait} is filled in.
        capability: CSV of eval.capability, at layers and coefficients of the sweep; {trait} is filled in.
    """
    if len(trait) > 1 and any("{trait}" not in path for path in (*file_path, output) if path is not None):
        raise UserError("several traits need {trait} in --file_path (and in --output)")
    if len(trait) > 1 and capability is not None and "{trait}" not in capability:
        raise UserError("several traits need {trait} in --capability: it is of one vector")
    import pandas

    sweeps, costs = {}, {}
    for name in trait:
        paths = [path.replace("{trait}", name) for path in file_path]
        answers = read_sweep(paths, name, min_coherence)
        sweeps[name] = paths, answers
    made_from = {name: belong_together(answers["file"].unique(), name) for name, (_, answers) in sweeps.items()}
    for name, (_, answers) in sweeps.items() if capability is not None else ():
        costs[name] = TradeOff.of(answers, capability.replace("{trait}", name), name)
        made_from[name] |= {"capability": of_file(costs[name].path)}

    written, rows = [], []
    for name, (paths, answers) in sweeps.items():
        prefix = output.replace("{trait}", name) if output else beginning(answers["file"].unique(), name)
        kinds = answers["control"].str.replace(r" \d+$", "", regex=True)
        cells = {kind: cell_means(part, name) for kind, part in answers.groupby(kinds)}  # "" is the trait's own
        own, controls = cells.pop("", cell_means(answers[:0], name)), cells
        best = {"trait": name, "file": paths[0] if len(paths) == 1 else paths, **recommend(own, min_coherence)}
        if name in costs:
            best["price"] = costs[name].price(best)
            written += costs[name].write(prefix, made_from[name])
        written += draw(own, controls, best, prefix, made_from[name])
        rows.append(along_layer(own, controls, best["layer"]).assign(trait=name))
        print(in_words(best))
        if name in costs:
            print(costs[name].in_words(best))
        print(side_by_side(answers[answers["control"] == ""], best))
    table = pandas.concat(rows).dropna(axis=1, how="all")
    table.insert(0, "trait", table.pop("trait"))
    print("\n" + table.to_string(index=False, float_format=lambda number: f"{number:.1f}", na_rep=""))
    print("wrote " + ", ".join(written))


def belong_together(files: Sequence[str], trait: str) -> dict:
    """What a recommendation from these answers is made from; refuses answers of different models, vectors or judges."""
    records = {file: provenance.result_of(file, trait) for file in files}
    made_of = ("model", "adapter", "vector", "positions", "steering", "shuffled")
    names = (*made_of, "trait", "artifact", "judge_model", "judge", "judge_prompt")
    provenance.refuse_mixture(records, names)
    common = {name: record[name] for record in records.values() if record for name in names if name in record}
    return provenance.record(**common, answers=[of_file(file) for file in files])


def draw(cells, controls: dict, best: dict, prefix: str, made_from: dict) -> list[str]:
    """Write curves, heat map and recommendation of one trait; returns the paths."""
    from persona_vectors.plots import heat_map, steering_curves

    paths = [f"{prefix}_{kind}" for kind in ("curves.png", "heatmap.png", "best.json")]
    lines = [(f"layer {layer_name(layer)}", line) for layer, line in cells.groupby("layer")]
    x, named = ("dose", "dose") if is_by_dose(cells) else ("coef", "coefficient")
    dashed = [
        (f"layer {layer_name(layer)}, {kind}", line)
        for kind, means in controls.items()
        for layer, line in means.groupby("layer")
    ]
    title = f"Steering with the {best['trait']} vector"
    steering_curves(lines, best["trait"], paths[0], title, dashed, best["min_coherence"], x, f"steering {named}")
    grid = cells.pivot(index="layer", columns=x, values="trait_mean").rename(index=layer_name)
    heat_map(grid, paths[1], xlabel=named, ylabel="layer", title=f"{best['trait']} score")
    with provenance.writing(paths[2], made_from):
        write_json(paths[2], best)
    return paths


def is_by_dose(cells) -> bool:
    """Whether layers were steered by the same doses, with coefficients of their own."""
    return "dose" in cells and cells["dose"].notna().all() and cells["dose"].nunique() < cells["coef"].nunique()


def along_layer(own, controls: dict, layer: int | str | None):
    """Scores by coefficient along one layer, or along the first where none is recommended; beside them the controls'."""
    number = own["layer"].min() if layer is None else layer_number(layer)
    line = own[own["layer"] == number].set_index("coef")
    columns = ["layer", *(["dose"] if "dose" in line else []), "trait_mean", "trait_error", "coherence_mean"]
    table = line[columns].sort_index()
    if "dose" in table:
        table["dose"] = table["dose"].map("{:.3g}".format, na_action="ignore")
    table["layer"] = table["layer"].map(layer_name)
    for kind, cells in controls.items():
        control = cells[cells["layer"] == number].set_index("coef")
        table[kind], table[f"{kind} coherence"] = control["trait_mean"], control["coherence_mean"]
    names = {"coef": "coefficient", "trait_mean": "score", "trait_error": "+-", "coherence_mean": "coherence"}
    return table.reset_index().rename(columns=names)


LONGEST = 280  # characters of an answer that are shown


def side_by_side(answers, best: dict) -> str:
    """One question answered at the lowest coefficient, unsteered and at the best one; nothing where one of them is missing.

    It is the question of median gain, neither the best nor the worst example.
    """
    if best["layer"] is None or not {"question", "answer"} <= set(answers):
        return ""
    answers = answers[answers["layer"] == layer_number(best["layer"])].drop_duplicates(["question", "coef"])
    by_coef = answers.pivot(index="question", columns="coef", values=best["trait"])
    coefs = sorted({by_coef.columns.min(), 0.0, best["coef"]} & set(by_coef.columns))
    gains = (by_coef[best["coef"]] - by_coef[coefs[0]]).dropna().sort_values()
    if len(coefs) < 2 or gains.empty:
        return ""
    question = gains.index[len(gains) // 2]
    told = answers[answers["question"] == question].set_index("coef")["answer"]
    lines = [f"{coef:+g}:  {textwrap.shorten(told[coef], LONGEST, placeholder=' ...')}" for coef in coefs]
    return "\n".join([f"  {question}", *(f"    {line}" for line in lines)])


def beginning(files: Sequence[str], trait: str) -> str:
    """What the files to write begin with: the CSV's name, or of several CSVs <trait>_sweep in their common folder."""
    if len(files) == 1:
        return str(Path(files[0]).with_suffix(""))
    common = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files])
    if not any(map(os.path.isabs, files)):
        common = os.path.relpath(common)
    return os.path.normpath(os.path.join(common, f"{trait}_sweep"))


if __name__ == "__main__":
    cli.run(main)
