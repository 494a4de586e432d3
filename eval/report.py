"""Stage: what scripts/reproduce.sh made -> one self-contained HTML page: figures, numbers beside the paper's, links.

    python -m eval.report --model toy --trait evil,sycophantic --folder output/reproduce/toy \\
        --steering 'eval_persona_eval/toy/{trait}_steering_layer1,2,3_coef0,1' --output output/reproduce/toy/report.html

An experiment whose files are not there has a line that says so. Figures are inside the page; tables link to their CSVs.
"""

import base64
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from persona_vectors import cli
from persona_vectors.analysis.layout import refuse_mixed_results
from persona_vectors.errors import UserError
from persona_vectors.files import jsonfile
from persona_vectors.files.atomic import replacing
from persona_vectors.plots import DPI

# The paper's numbers (arXiv 2507.21509v3): Qwen2.5-7B-Instruct, where it reports both models.
PAPER_LAYER = {"evil": 20, "sycophantic": 20, "hallucinating": 16}
PAPER_MONITORING = {
    ("evil", "system_prompts"): (0.747, 0.511),
    ("sycophantic", "system_prompts"): (0.798, 0.669),
    ("hallucinating", "system_prompts"): (0.830, 0.245),
    ("evil", "many_shot"): (0.755, 0.735),
    ("sycophantic", "many_shot"): (0.817, 0.813),
    ("hallucinating", "many_shot"): (0.634, 0.400),
}
PAPER_SHIFT_OWN, PAPER_SHIFT_ACROSS = ".76 to .97", ".34 to .86"
PAPER_DIFFERENCE = {"evil": 0.839, "sycophantic": 0.745, "hallucinating": 0.408}


@dataclass
class Section:
    """One experiment: what it is, its tables (title, columns, rows), figures (caption, path) and files to link."""

    title: str
    text: str
    tables: list[tuple[str, list[str], list[list]]] = field(default_factory=list)
    figures: list[tuple[str, Path]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@cli.command
def main(
    model: str,
    trait: cli.Several[str],
    folder: str,
    steering: str | None = None,
    mitigation: str | None = None,
    output: str | None = None,
):
    """Write the report of a reproduction.

    Args:
        model: the model's name, for the title.
        trait: trait(s), in the order to show.
        folder: what scripts/reproduce.sh filled: monitoring/, shift.*, screening/, selected/, similarity*.
        steering: beginning of eval.select_layer's files; {trait} is filled in.
        mitigation: beginning of eval.mitigation's files.
        output: HTML to write; by default report.html in the folder.
    """
    traits, root = list(trait), Path(folder)
    if not root.is_dir():
        raise UserError(f"no folder {folder}; scripts/reproduce.sh makes it")
    output = Path(output or root / "report.html")
    unknown = refuse_mixed_results(traits, root, steering, mitigation)
    if unknown:
        print(f"{len(unknown)} of these results have no record of what they were made from: {', '.join(unknown)[:400]}")

    import jinja2

    sections = [
        made(steering_section, traits, steering),
        made(monitoring_section, traits, root / "monitoring"),
        made(similarity_section, root),
        made(finetuning_section, traits, root),
        made(mitigation_section, mitigation),
        made(screening_section, root),
        made(selection_section, traits, root / "selected"),
    ]
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"embedded": embedded, "drawn_width": drawn_width, "cell": cell}
    template = environment.from_string((Path(__file__).parent / "report.html.jinja").read_text())
    page = template.render(
        model=model, traits=traits, sections=sections, made=time.strftime("%Y-%m-%d %H:%M"),
        link=lambda path: os.path.relpath(path, output.parent), number_of=len,
    )  # fmt: skip
    with replacing(output) as beside:
        beside.write_text(page, encoding="utf-8")
    found = sum(not section.missing or bool(section.tables or section.figures) for section in sections)
    print(f"wrote {output}: {found} of {len(sections)} experiments, {len(page) / 1e6:.1f} MB, everything inside")


def embedded(path: Path) -> str:
    """A PNG as a data URL."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def drawn_width(path: Path) -> int:
    """The width of a PNG on the page, in CSS pixels: every figure at the size it was drawn at, so that all have one type size."""
    return round(int.from_bytes(path.read_bytes()[16:20]) * 96 / DPI)


def cell(value: object) -> str:
    """A number with three digits (of one near nothing: 0), everything else as it is, nothing for nothing."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and abs(value) < 1000:
        return f"{value if abs(value) >= 5e-5 else 0:.3g}"
    return str(value)


def made(section, *where) -> "Section":
    """``section(*where)``; a file in it that is not as its stage writes it is one line."""
    try:
        return section(*where)
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise UserError(
            f"a result at {where[-1]} is not as its stage writes it ({type(error).__name__}: {error}); make it anew, or move it away"
        ) from error


def read_json(path: Path) -> dict | None:
    """The object in a JSON file, None where there is no such file."""
    return jsonfile.read_json(path) if path.is_file() else None


def read_table(path: Path) -> Iterator[dict]:
    """Rows of a small CSV as dictionaries; numbers as numbers, missing ones as None."""
    import pandas

    table = pandas.read_csv(path)
    yield from table.astype(object).where(table.notna(), None).to_dict("records")


def steering_section(traits: list[str], pattern: str | None) -> Section:
    section = Section(
        "Steering: which layer, which coefficient",
        "The vector is added to the residual stream while the model answers (section 3.2). Recommended is the coherent cell "
        "with the highest trait score; the coefficients named stay above that coherence at its layer.",
    )
    rows = []
    for trait in traits:
        prefix = (pattern or "").replace("{trait}", trait)
        best = read_json(Path(f"{prefix}_best.json"))
        if not best or best["layer"] is None:
            section.missing.append(f"{trait}: {'no steered cell is coherent' if best else f'no {prefix}_best.json'}")
            continue
        low, high = best["coef_range"]
        rows.append([
            trait, best["layer"], best["coef"], best["unsteered"], best["trait_score"], best["coherence"],
            f"{low:g} to {high:g}", PAPER_LAYER.get(trait),
        ])  # fmt: skip
        section.figures += [
            (f"{trait}: score and coherence by coefficient", Path(f"{prefix}_curves.png")),
            (f"{trait}: score by layer and coefficient", Path(f"{prefix}_heatmap.png")),
        ]
        section.files.append(Path(f"{prefix}.csv"))
    columns = [
        "trait",
        "layer",
        "coefficient",
        "score unsteered",
        "score",
        "coherence",
        "coherent coefficients",
        "paper's layer",
    ]
    section.tables += [("Best coherent setting", columns, rows)] if rows else []
    return section


def monitoring_section(traits: list[str], folder: Path) -> Section:
    section = Section(
        "Monitoring: the projection before the answer",
        "The last prompt token's projection against the answer's trait score (section 3.3), under system prompts graded from "
        "eliciting to suppressing and after exemplars of the trait. The projection is the same for every answer to a prompt, so "
        "that within a condition r can be at most what the prompts differ in (at most: by analysis of variance).",
    )
    rows = []
    for kind in ("system_prompts", "many_shot"):
        for trait in traits:
            found = read_json(folder / f"{trait}_{kind}.json")
            if not found:
                section.missing.append(f"{trait}, {kind}: not made")
                continue
            overall, within = found["overall"], found["within"]
            paper = PAPER_MONITORING.get((trait, kind), (None, None))
            rows.append([
                trait, kind.replace("_", " "), overall["r"], interval(overall), paper[0], within["r"], interval(within),
                within.get("ceiling"), paper[1], overall["n"],
            ])  # fmt: skip
            section.figures.append((f"{trait}, {kind.replace('_', ' ')}", folder / f"{trait}_{kind}.png"))
            section.files.append(folder / f"{trait}_{kind}.csv")
    columns = ["trait", "conditions", "r overall", "95 %", "paper", "r within", "95 %", "at most", "paper", "answers"]
    section.tables += [("Correlation", columns, rows)] if rows else []
    return section


def interval(found: dict) -> str:
    return "" if found.get("low") is None else f"{found['low']:.2f} to {found['high']:.2f}"


def similarity_section(root: Path) -> Section:
    section = Section(
        "The vectors beside each other", "Cosines between the traits' vectors, and between a vector's layers."
    )
    for name, caption in (("traits", "across traits"), ("layers", "across layers")):
        path = root / f"similarity_{name}.png"
        section.figures += [(caption, path)] if path.is_file() else []
    section.files += [path for path in [root / "similarity.csv"] if path.is_file()]
    section.missing += [] if section.figures else ["not made (it takes two traits)"]
    return section


def finetuning_section(traits: list[str], root: Path) -> Section:
    section = Section(
        "Finetuning: families of training sets, and the shift that tells of them",
        "Trait scores of the finetuned models, and how far finetuning moved the mean activation at the last prompt token along "
        "each vector (section 4).",
    )
    found = read_json(root / "shift.json")
    if not found or not found["correlations"]:
        section.missing.append("not made: no training sets, or no answers of the finetuned models")
        return section
    table = list(read_table(root / "shift.csv"))
    by_model: dict[str, dict[str, dict]] = {}
    for row in table:
        by_model.setdefault(row["model"], {})[row["trait"]] = row
    columns = ["training set"] + [f"{trait}: {what}" for trait in traits for what in ("score", "shift")]
    rows = [
        [model] + [own.get(trait, {}).get(what) for trait in traits for what in ("score", "shift")]
        for model, own in by_model.items()
    ]
    section.tables.append(("Finetuned models", columns, rows))
    r = {v: {s: found["correlations"][v][s]["r"] for s in traits} for v in traits}
    section.tables.append((
        f"r of shift and score over {len(by_model)} models (paper: own trait {PAPER_SHIFT_OWN}, across {PAPER_SHIFT_ACROSS})",
        ["shift along the vector of", *(f"score: {trait}" for trait in traits)],
        [[vector, *(r[vector][score] for score in traits)] for vector in traits],
    ))  # fmt: skip
    section.figures.append(("shift against score, own trait", root / "shift.png"))
    section.files.append(root / "shift.csv")
    return section


def mitigation_section(prefix: str | None) -> Section:
    section = Section(
        "Mitigation: preventing what finetuning would do, or undoing it",
        "Training on level II plainly; with the vector added during training (preventative steering); with a random vector of the "
        "same norm (the control); with the direction ablated (CAFT); and the plain finetune steered at inference (section 5).",
    )
    path = Path(f"{prefix}.csv")
    if not path.is_file():
        section.missing.append("not made")
        return section
    columns = ["trait", "model", "coefficient", "trait score", "coherence", "training loss, first", "last", "seeds"]
    rows = [
        [row["trait"], row["model"], row["coef"] or None, row["score"], row["coherence"], row.get("loss_first"),
         row.get("loss_last"), int(row["seeds"])]
        for row in read_table(path)
    ]  # fmt: skip
    section.tables.append(("Means over seeds", columns, rows))
    section.figures.append(("trait score and coherence by coefficient", Path(f"{prefix}.png")))
    section.files += [path, Path(f"{prefix}_runs.csv")]
    return section


def screening_section(root: Path) -> Section:
    section = Section(
        "Screening: the projection difference of training sets",
        "How far a set's answers lie from the model's own along a vector, before any training (section 6), against the shift of "
        "the model trained on it.",
    )
    folder = root / "screening"
    path = folder / "sets.csv"
    if not path.is_file():
        section.missing.append("not made")
        return section
    rows = list(read_table(path))
    columns = list(rows[0])
    section.tables.append(("Sets", columns, [[row[name] for name in columns] for row in rows]))
    found = read_json(folder / "sets.json") or {}
    lines = [
        [vector, r["r"], interval(r), PAPER_DIFFERENCE.get(vector.split("_response_avg")[0]), r["n"]]
        for vector, r in found.get("against_shift", {}).items()
    ]
    if lines:
        section.tables.append(
            ("r of projection difference and shift", ["vector", "r", "95 %", "paper (Qwen)", "sets"], lines)
        )
    section.figures += [
        (caption, folder / name)
        for caption, name in (
            ("rows by projection difference", "histogram.png"),
            ("difference against shift", "shift.png"),
        )
        if (folder / name).is_file()
    ]
    section.files.append(path)
    return section


def selection_section(traits: list[str], folder: Path) -> Section:
    section = Section(
        "Screening, the test: training on the highest, the lowest and any rows",
        "From a set in which some rows show the trait more than others, the rows with the highest and the lowest projection "
        "difference and as many drawn at random; each is trained on. The paper finds high > random > low.",
    )
    rows = []
    for trait in traits:
        means = {end: selected_score(folder / trait / f"{end}.csv", trait) for end in ("high", "random", "low")}
        if None in means.values():
            section.missing.append(f"{trait}: not made")
            continue
        ordered = "yes" if means["high"] > means["random"] > means["low"] else "no"
        rows.append([trait, means["high"], means["random"], means["low"], ordered])
        section.files += [folder / trait / f"{end}.csv" for end in means]
    columns = ["trait", "score: high", "score: random", "score: low", "high > random > low"]
    section.tables += [("Trait score after training", columns, rows)] if rows else []
    return section


def selected_score(path: Path, trait: str) -> float | None:
    from persona_vectors.files.tables import read_answers

    return float(read_answers(path, (trait,))[trait].mean()) if path.is_file() else None


if __name__ == "__main__":
    cli.run(main)
