"""Sections of the report on finetuning: shifts, mitigation, screening of training data and its test.

Depends on where scripts/reproduce.sh puts results; see :mod:`persona_vectors.analysis.sections`.
"""

from pathlib import Path

from persona_vectors.analysis.sections import Section, interval, read_json, read_table

# The paper's numbers (arXiv 2507.21509v3)
PAPER_SHIFT_OWN, PAPER_SHIFT_ACROSS = ".76 to .97", ".34 to .86"
PAPER_DIFFERENCE = {"evil": 0.839, "sycophantic": 0.745, "hallucinating": 0.408}


def finetuning_section(traits: list[str], root: Path) -> Section:
    """Scores and shifts of finetuned models: eval.finetuning_shift."""
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
    """Finetunes with and without a mitigation: eval.mitigation."""
    section = Section(
        "Mitigation: preventing what finetuning would do, or undoing it",
        "Training on level II plainly; with the vector added during training (preventative steering); with a random vector of the "
        "same norm (the control); with the direction ablated (CAFT); and the plain finetune steered at inference (section 5).",
    )
    path = Path(f"{prefix}.csv")
    if not path.is_file():
        section.missing.append("not made")
        return section
    found = list(read_table(path))
    names = list(found[0])
    costs = [name for name in names[names.index("model") + 1 :] if not name.endswith(("_low", "_high"))]
    columns = [
        "trait",
        "model",
        "coefficient",
        "trait score",
        "coherence",
        "training loss, first",
        "last",
        "seeds",
        *costs,
    ]
    rows = [
        [row["trait"], row["model"], row["coef"] or None, row["score"], row["coherence"], row.get("loss_first"),
         row.get("loss_last"), int(row["seeds"]), *(row[name] for name in costs)]
        for row in found
    ]  # fmt: skip
    section.tables.append(("Means over seeds", columns, rows))
    section.figures.append(("trait score and coherence by coefficient", Path(f"{prefix}.png")))
    section.files += [path, Path(f"{prefix}_runs.csv")]
    return section


def screening_section(root: Path) -> Section:
    """Projection differences of training sets: eval.projection_difference."""
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
    """Finetunes on selected rows: scripts/screening.sh."""
    section = Section(
        "Screening, the test: training on the highest, the lowest and any rows",
        "From a set in which some rows show the trait more than others, the rows with the highest and the lowest projection "
        "difference and as many drawn at random; each is trained on. The paper finds high > random > low.",
    )
    from persona_vectors.analysis.comparison import difference
    from persona_vectors.files.tables import read_answers

    def step(found: dict | None) -> str:
        ends = interval(found, "{:+.1f}".format) if found else ""
        return f"{found['value']:+.1f}{ends and f' ({ends})'}" if found else ""

    rows = []
    for trait in traits:
        files = [folder / trait / f"{end}.csv" for end in ("high", "random", "low")]
        if not all(file.is_file() for file in files):
            section.missing.append(f"{trait}: not made")
            continue
        high, middle, low = (read_answers(file, (trait,)) for file in files)
        means = [float(answers[trait].mean()) for answers in (high, middle, low)]
        steps = [difference(*pair, trait) for pair in ((middle, high), (low, middle))]
        rows.append([trait, *means, *map(step, steps)])
        section.files += files
    columns = [
        "trait",
        "score: high",
        "score: random",
        "score: low",
        "high less random (95 %)",
        "random less low (95 %)",
    ]
    section.tables += [("Trait score after training", columns, rows)] if rows else []
    return section
