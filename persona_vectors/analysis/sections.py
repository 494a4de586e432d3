"""Sections of the report on what vectors do: steering and its price, what vectors are worth, monitoring, similarity.

Each says what it is, shows what is there, and names what is missing. Depends on where scripts/reproduce.sh puts results;
knows nothing of models. Those on finetuning are in :mod:`persona_vectors.analysis.finetuning_sections`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from persona_vectors.analysis.steerability import best_cell
from persona_vectors.analysis.trade_off import numbers_at, of_controls, read_trade_off
from persona_vectors.files import jsonfile

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


@dataclass
class Section:
    """One experiment: what it is, its tables (title, columns, rows), figures (caption, path), lines and files to link."""

    title: str
    text: str
    tables: list[tuple[str, list[str], list[list]]] = field(default_factory=list)
    figures: list[tuple[str, Path]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def read_json(path: Path) -> dict | None:
    """The object in a JSON file, None where there is no such file."""
    return jsonfile.read_json(path) if path.is_file() else None


def read_table(path: Path) -> Iterator[dict]:
    """Rows of a small CSV as dictionaries; numbers as numbers, missing ones as None."""
    import pandas

    table = pandas.read_csv(path)
    yield from table.astype(object).where(table.notna(), None).to_dict("records")


def digits(value: float) -> str:
    """A number with three digits; of one near nothing 0, of a large one all before the point.

    Example:
        >>> digits(0.12345), digits(1526236.06)
        ('0.123', '1526236')
    """
    return f"{value if abs(value) >= 5e-5 else 0:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def interval(found: dict, write: Callable[[float], str] = "{:.2f}".format) -> str:
    """The ends of an interval, {low, high}; nothing where it is not known.

    Example:
        interval({"low": 0.7, "high": 0.9})  # "0.70 to 0.90"
    """
    if found.get("low") is None or found.get("high") is None:
        return ""
    return f"{write(found['low'])} to {write(found['high'])}"


def steering_section(traits: list[str], pattern: str | None) -> Section:
    """Which layer and coefficient: eval.select_layer, its files beginning with ``pattern``."""
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


def costs_section(traits: list[str], pattern: str | None) -> Section:
    """The price of a steering: eval.select_layer --capability."""
    section = Section(
        "What steering costs",
        "Trait score and coherence beside what the same steering does to the model: how far it moves the next token's "
        "distribution (kl), the perplexity of plain English, requests refused, tasks. Bars and brackets are 95 % intervals; the "
        "dashed lines are random vectors of the same norm, whose bars hold the intervals of all of them.",
    )
    for trait in traits:
        prefix = (pattern or "").replace("{trait}", trait)
        best, path = read_json(Path(f"{prefix}_best.json")), Path(f"{prefix}_tradeoff.csv")
        if not best or "price" not in best or not path.is_file():
            section.missing.append(f"{trait}: not made (eval.capability, then eval.select_layer --capability)")
            continue
        section.figures.append((f"{trait}: what steering gives, and costs", Path(f"{prefix}_tradeoff.png")))
        section.files.append(path)
        if not best["price"]:
            section.missing.append(f"{trait}: not measured at the recommended setting")
            continue
        found = numbers_at(read_trade_off(path), best["layer"], best["coef"])
        kinds = list(dict.fromkeys(kind for numbers in found.values() for kind in of_controls(numbers)))
        rows = [
            [what, n["unsteered"], n["value"], interval(n, digits), *(n.get(kind) for kind in kinds)]
            for what, n in found.items()
        ]
        columns = ["measure", "unsteered", "steered", "95 %", *kinds]
        section.tables.append((f"{trait}, layer {best['layer']}, coefficient {best['coef']:g}", columns, rows))
    return section


def worth_section(traits: list[str], pattern: str) -> Section:
    """What vectors are worth: the cards of eval.vector_quality, whose files begin with ``pattern``."""
    section = Section(
        "What the vectors are worth",
        "What foretells how steerable a trait is: the cosine between single pairs' differences and the separation of held-out "
        "answers, at the layer where pairs agree most; how stable the direction is over halves of the pairs; and what the sweep "
        "gave, beside its controls and beside the prompt that asks for the trait.",
    )
    rows = []
    for trait in traits:
        prefix = pattern.replace("{trait}", trait)
        card = read_json(Path(f"{prefix}.json"))
        if not card:
            section.missing.append(f"{trait}: not made (eval.vector_quality)")
            continue
        read, prompt = card["pairs"], card.get("prompt")
        cosines = [-2.0 if cosine is None else cosine for cosine in read["pair_cosine"]]
        layer = max(range(1, len(cosines) - 1), key=cosines.__getitem__)
        cell = best_cell(card["sweep"]) if "sweep" in card else None
        rows.append([
            trait, read["count"], layer, *(read[name][layer] for name in ("pair_cosine", "auc", "half_cosine")),
            *([cell["gain"]["value"], interval(cell["gain"], digits), cell["wrong_way"]["value"]] if cell else [None, "", None]),
            *([prompt["score"], (prompt["steering_less_prompt"] or {}).get("value")] if prompt else [None, None]),
        ])  # fmt: skip
        section.said.append(f"{trait}: {card['verdict']}")
        section.figures.append((f"{trait}: the card", Path(f"{prefix}.png")))
        section.files.append(Path(f"{prefix}.json"))
    columns = ["trait", "pairs", "layer", "pair cosine", "held-out AUC", "halves", "gain of the best cell", "95 %"]
    columns += ["share moved the wrong way", "score by the prompt", "steering less prompt"]
    section.tables += [("Vectors", columns, rows)] if rows else []
    return section


def monitoring_section(traits: list[str], folder: Path) -> Section:
    """Projections before the answer: eval.monitor."""
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


def similarity_section(root: Path) -> Section:
    """Cosines of vectors: eval.vector_similarity."""
    section = Section(
        "The vectors beside each other", "Cosines between the traits' vectors, and between a vector's layers."
    )
    for name, caption in (("traits", "across traits"), ("layers", "across layers")):
        path = root / f"similarity_{name}.png"
        section.figures += [(caption, path)] if path.is_file() else []
    section.files += [path for path in [root / "similarity.csv"] if path.is_file()]
    section.missing += [] if section.figures else ["not made (it takes two traits)"]
    return section
