"""The part of benchmarks/steerability.py for models other than the toy: answers and scores into a file, tables out of it."""

import random
import time
from dataclasses import replace
from pathlib import Path

from likelihood import Toy
from steerability import DOSES, NUMBERS, ROOT, pairs_of

TRAIT_DIR = str(ROOT / "data_generation")
ALL = "all pairs"


def real_model(
    model: str,
    traits: list[str],
    layer: int | None,
    splits: int,
    n_questions: int,
    per_question: int,
    max_tokens: int,
    output: str,
) -> None:
    """Run the traits that ``output`` lacks, and report."""
    from report import machine

    from persona_vectors import models
    from persona_vectors.errors import UserError
    from persona_vectors.files.jsonfile import read_json, write_json
    from persona_vectors.processes import accelerator
    from persona_vectors.traits.artifact import load_trait

    if n_questions < 2 or min(per_question, max_tokens) < 1 or splits < 0:
        raise UserError(
            "--n_questions is 2 or more, --per_question and --max_tokens are 1 or more, --splits is 0 or more"
        )
    traits = traits or sorted(path.stem for path in Path(TRAIT_DIR, "trait_data_eval").glob("*.json"))
    for trait in traits:
        for version in ("extract", "eval"):
            load_trait(trait, version, TRAIT_DIR)
    shape = models.describe(models.resolve(model))
    layer = round(0.6 * shape.layers) if layer is None else layer
    if not 1 <= layer <= shape.layers:
        raise UserError(f"--layer {layer} does not exist: this model has layers 1..{shape.layers}")
    settings = {
        "model": model,
        "layer": layer,
        "doses": list(DOSES),
        "splits": splits,
        "n_questions": n_questions,
        "per_question": per_question,
        "max_tokens": max_tokens,
    }
    found = {"settings": settings, "machine": machine(), "seconds": {}, "vectors": [], "answers": []}
    if Path(output).exists():
        found = read_json(output)
        if found["settings"] != settings:
            raise UserError(f"{output} is of other settings, {found['settings']}; name another --output")
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    subject = None
    for trait in traits:
        if trait in found["seconds"]:
            continue
        subject = subject or Toy(model, trait, TRAIT_DIR, 64 if accelerator() == "cpu" else 700)
        subject.layer, subject.max_tokens = layer, max_tokens
        subject.take(trait)
        subject.extract, subject.eval = (
            replace(part, questions=part.questions[:n_questions]) for part in (subject.extract, subject.eval)
        )
        begin = time.perf_counter()
        vectors, answers = one_trait(subject, splits, per_question)
        found["vectors"] += vectors
        found["answers"] += answers
        found["seconds"][trait] = round(time.perf_counter() - begin, 1)
        write_json(output, found, None)
        print(trait, found["seconds"][trait], "s", flush=True)
    draw(found, traits)


def one_trait(subject: Toy, splits: int, per_question: int) -> tuple[list[dict], list[dict]]:
    """A trait's vectors with their numbers, and all its answers with their scores."""
    import torch

    from persona_vectors.analysis.vector_quality import of_pairs
    from persona_vectors.likelihood.scores import Spoken
    from persona_vectors.traits.artifact import make_questions

    trait, layer, numbers_of, directions = subject.eval.name, subject.layer, [], {}
    positive, negative, questions, norms, instructed = pairs_of(subject)
    positive, negative, norm = positive[:, layer, None], negative[:, layer, None], float(norms[layer])
    chance = random.Random(trait)
    chosen = {ALL: list(range(len(questions)))} | {
        f"half {k}": sorted(chance.sample(range(len(questions)), len(questions) // 2)) for k in range(splits)
    }
    for name, pairs in chosen.items():
        vector = (positive[pairs] - negative[pairs]).mean(0)
        quality = of_pairs(positive[pairs], negative[pairs], [questions[k] for k in pairs], vector)
        quality |= {"dose_of_1": [float(vector.norm()) / norm]}
        numbers = {number: quality[number][0] for number in NUMBERS.values()}
        numbers_of.append({"trait": trait, "vector": name, "pairs": len(pairs), **numbers})
        directions[name] = vector[0]
    whole = directions[ALL]
    for row in numbers_of:
        row["cosine_with_all"] = float(torch.cosine_similarity(directions[row["vector"]], whole, dim=0))

    rows, spoken, asked = [], [], []
    for sign, answered in instructed.items():
        for question, answer in answered.values():
            rows.append({"trait": trait, "vector": "", "sign": sign, "dose": 0.0, "question": question.text})
            spoken.append(Spoken(question.text, answer, question.system))
    plan = [("", 0.0), *((name, dose) for name in directions for dose in DOSES)]
    for name, dose in plan:
        steering = (directions[name], dose * norm / float(directions[name].norm())) if dose else None
        asked += [
            (name, dose, (question, k, steering))
            for question in make_questions(subject.eval)
            for k in range(per_question)
        ]
    for place, answer in sorted(subject.ask_each([one[2] for one in asked])):
        name, dose, (question, _, _) = asked[place]
        rows.append({"trait": trait, "vector": name, "sign": "", "dose": dose, "question": question.text})
        spoken.append(Spoken(question.text, answer))
    for row, said, scored in zip(rows, spoken, subject.scorer.score(subject.eval, spoken), strict=True):
        row |= {"answer": said.answer, "score": scored.score, "coherence": scored.coherence, "llr": scored.llr}
    return numbers_of, rows


def outcomes(found: dict) -> list[dict]:
    """Each vector's numbers with what its steering did."""
    import pandas
    import torch

    from persona_vectors.analysis.steerability import steerability
    from persona_vectors.vectors.separation import auc

    answers, layer, rows = pandas.DataFrame(found["answers"]), found["settings"]["layer"], []
    answers = answers.assign(layer=layer, coef=answers["dose"], control="", file=found["settings"]["model"])
    for trait, of_trait in answers.groupby("trait"):
        high, low = (
            torch.tensor(of_trait.loc[of_trait["sign"] == sign, "score"].dropna().values) for sign in ("pos", "neg")
        )
        own = of_trait[of_trait["sign"] == ""]
        place = own["question"].rank(method="dense").astype(int)
        for vector in (row for row in found["vectors"] if row["trait"] == trait):
            table = own[own["vector"].isin(["", vector["vector"]])]
            sweep = steerability(table, "score", lambda _: 1.0, min_coherence=0)
            slopes = sweep["layers"][str(layer)]
            parts = [
                steerability(table[place[table.index] % 2 == odd], "score", lambda _: 1.0, min_coherence=0)["layers"]
                for odd in (0, 1)
            ]
            rows.append(
                vector
                | {name: slopes[name]["value"] for name in ("per_dose", "wrong_way")}
                | {f"part {odd}": part[str(layer)]["per_dose"]["value"] for odd, part in enumerate(parts)}
                | {
                    "unsteered": sweep["unsteered"],
                    "cells": [(c["dose"], c["gain"]["value"], c["coherence"]) for c in sweep["cells"]],
                    "span": float(high.mean() - low.mean()),
                    "score_auc": float(auc(high, low)),
                }
            )
    return rows


def draw(found: dict, traits: list[str]) -> None:
    """Both tables, from what the file holds of the traits."""
    from report import report

    from persona_vectors.analysis.correlation import pearson, within_conditions

    rows = [row for row in outcomes(found) if row["trait"] in traits]
    whole, halves = ([row for row in rows if (row["vector"] == ALL) is is_whole] for is_whole in (True, False))
    settings = found["settings"]

    def over(some: list[dict], x: str, y: str = "per_dose") -> str:
        return str(pearson([row[x] for row in some], [row[y] for row in some])).removeprefix("r = ")

    def within(x: str, y: str = "per_dose") -> str:
        r = within_conditions(*([row[name] for row in halves] for name in (x, y, "trait")), min_spread=0)
        if r.r is None:
            return f"r not defined (n = {len(halves)})"
        interval = "" if r.low is None else f" [{r.low:.3f}, {r.high:.3f}]"
        return f"{r.r:.3f}{interval} ({len(r.conditions)} traits, n = {len(halves)})"

    lines = [
        f"{settings['model']}, layer {settings['layer']}, doses {', '.join(map(str, settings['doses']))}; answers of "
        f"{settings['max_tokens']} tokens at most to {settings['n_questions']} questions ({settings['per_question']} each), scored "
        f"by likelihood. {len(whole)} traits; per trait the vector of all pairs and {settings['splits']} of random halves of them. "
        f"Ran on {found['machine']} in {sum(found['seconds'][trait] for trait in traits):.0f} s.",
        "",
        "| number | r with points per dose, over traits (all pairs) | within traits, mean r over halves | over all vectors |",
        "|---|---|---|---|",
        *(
            f"| {label} | {over(whole, name)} | {within(name)} | {over(rows, name)} |"
            for label, name in {**NUMBERS, "cosine with the vector of all pairs": "cosine_with_all"}.items()
        ),
        f"| the score's span (instructed pos - neg) | {over(whole, 'span')} | | {over(rows, 'span')} |",
        f"| points per dose: one half of the questions with the other | {over(whole, 'part 0', 'part 1')} | "
        f"{within('part 0', 'part 1')} | {over(rows, 'part 0', 'part 1')} |",
        "",
        "| trait | pairs | "
        + " | ".join(NUMBERS)
        + " | AUC of the score, instructed answers | its span | unsteered | points per 0.1 "
        "of dose | halves: lowest, highest | moved the wrong way | coherence by dose |",
        "|---" * (9 + len(NUMBERS)) + "|",
    ]
    for row in whole:
        others = [other["per_dose"] / 10 for other in halves if other["trait"] == row["trait"]]
        cells = [
            row["trait"],
            row["pairs"],
            *("-" if row[name] is None else f"{row[name]:.3f}" for name in NUMBERS.values()),
            f"{row['score_auc']:.3f}",
            f"{row['span']:.1f}",
            f"{row['unsteered']:.1f}",
            f"{row['per_dose'] / 10:+.2f}",
            f"{min(others):+.2f}, {max(others):+.2f}" if others else "-",
            f"{row['wrong_way']:.0%}",
            ", ".join(f"{coherence:.0f}" for _, _, coherence in row["cells"]),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    report("What foretells how well a vector steers, scored by likelihood", lines)
