"""Do a vector's numbers foretell how well it steers? In the toy world, where the grammar scores, and on any model, by likelihood.

    python benchmarks/steerability.py
    python benchmarks/steerability.py --model models/smollm2 --output output/steerability.json

Toy (models/toy, built by scripts/quickstart.sh): of each trait's extraction answers, random sets of 4 to 32 pairs, of which 0, 20 or
40 % have their two answers exchanged: worse vectors in a known way. Each vector is measured by eval.vector_quality's numbers on its
own pairs, and then steers the evaluation questions at three doses, the same for all. The table has Pearson's r of each number
with the points gained per dose, and with the share of questions moved the wrong way.

Any other model: of each trait in data_generation, the vector of all pairs and those of random halves of them; no judge filters. The
unsteered model scores all answers by likelihood: two instruction pairs that did not make the answer, as --judge_model
likelihood does. Steered answers have no instruction, so the two pairs that score them are also among those that made the vector. The
table has r over traits (vectors of all pairs), within traits (over their halves) and over all vectors. Everything is kept in --output
after each trait; the same command goes on with what is missing there, and draws the tables again where nothing is.
"""

import os
import random
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

DOSES, SIZES, EXCHANGED = (0.2, 0.35, 0.5), (4, 8, 16, 32), (0.0, 0.2, 0.4)
NUMBERS = {
    "cosine of two pairs": "pair_cosine",
    "held-out AUC": "auc",
    "held-out d'": "d_prime",
    "cosine of two halves": "half_cosine",
    "dose of coefficient 1": "dose_of_1",
}


def pairs_of(toy) -> tuple:
    """Activations [pairs, layers + 1, hidden] of positive and negative answers, the questions' numbers, mean norms, and

    the answers: {sign: {number of the pair: (question, answer)}}.
    """
    import torch

    from persona_vectors.files.rows import Exchange
    from persona_vectors.traits.artifact import make_questions
    from persona_vectors.vectors.activations import pooled_activations
    from persona_vectors.vectors.norms import mean_norms
    from persona_vectors.vectors.samples import make_samples

    answers = {}
    for sign in ("pos", "neg"):
        asked = make_questions(toy.extract, sign)
        answers[sign] = {asked.index(question): (question, answer) for question, answer in toy.ask(asked, 1)}
    both = sorted(answers["pos"].keys() & answers["neg"].keys())
    rows, everything = [], []
    for sign in ("pos", "neg"):
        exchanges = [Exchange(answers[sign][k][0].messages, answers[sign][k][1], reasoning="") for k in both]
        samples, _ = make_samples(toy.engine.tokenizer, exchanges, None)
        pooled = torch.empty(0)
        for indices, found in pooled_activations(toy.engine.model, samples, ["response_avg"]):
            pooled = pooled if len(pooled) else torch.empty(len(samples), *found["response_avg"].shape[1:])
            pooled[indices] = found["response_avg"]
        rows.append(pooled)
        everything += samples
    texts = [answers["pos"][k][0].text for k in both]
    return *rows, [sorted(set(texts)).index(text) for text in texts], mean_norms(toy.engine.model, everything), answers


def steered(toy, vector, norm: float, plain):
    """The sweep's table of one vector at one layer: unsteered answers, and those at each dose."""
    import pandas

    tables = [plain]
    for dose in DOSES:
        coef = dose * norm / float(vector.norm())
        tables.append(scored(toy, toy.ask(toy.questions, 1, (vector, coef)), coef))
    return pandas.concat(tables)


def scored(toy, answered: list, coef: float):
    """Answers with the grammar's scores, as :func:`persona_vectors.analysis.sweeps.read_sweep` has a sweep."""
    import pandas
    from likelihood import LAYER

    from data_generation.toy.scoring import coherence, trait_score

    rows = [(q.text, trait_score(answer, toy.eval.name), coherence(q.text, answer)) for q, answer in answered]
    table = pandas.DataFrame(rows, columns=["question", "trait", "coherence"])
    return table.assign(layer=LAYER, coef=coef, control="", file="toy")


def main(
    model: str = "models/toy",
    traits: str = "",
    layer: int | None = None,
    splits: int = 10,
    n_questions: int = 20,
    per_question: int = 1,
    max_tokens: int = 60,
    output: str = "output/steerability.json",
) -> None:
    """Print the table and append it to benchmarks/RESULTS.md.

    Args:
        traits: by default all that there are.
        layer: by default three fifths of the way up. This and what follows are for models other than the toy.
        splits: random halves of each trait's pairs.
        n_questions: the first questions of each artifact, to find vectors as well as to steer.
        per_question: steered answers to each question, at each dose.
        output: where answers and numbers are kept, as JSON.
    """
    names = list(traits) if isinstance(traits, tuple | list) else [name for name in traits.split(",") if name]
    if (Path(model) / "toy_model.json").exists():
        toy_world(model, names or ["evil", "sycophantic", "hallucinating"])
    else:
        from steerability_real import real_model

        real_model(model, names, layer, splits, n_questions, per_question, max_tokens, output)


def toy_world(model: str, traits: list[str]) -> None:
    """The toy's table."""
    import torch
    from likelihood import LAYER, Toy
    from report import report

    from persona_vectors.analysis.correlation import pearson
    from persona_vectors.analysis.steerability import steerability
    from persona_vectors.analysis.vector_quality import of_pairs
    from persona_vectors.traits.artifact import make_questions

    found: list[dict] = []
    for trait in traits:
        toy = Toy(model, trait)
        toy.questions = make_questions(toy.eval)
        positive, negative, numbers, norms, _ = pairs_of(toy)
        plain = scored(toy, toy.ask(toy.questions, 1), 0.0)
        draw = random.Random(0)
        for size in SIZES:
            for share in EXCHANGED:
                chosen = draw.sample(range(len(numbers)), size)
                flip = torch.zeros(size, dtype=torch.bool)
                flip[draw.sample(range(size), round(share * size))] = True
                pos, neg = positive[chosen], negative[chosen]
                pos, neg = torch.where(flip[:, None, None], neg, pos), torch.where(flip[:, None, None], pos, neg)
                vector = (pos - neg).mean(0)
                quality = of_pairs(pos, neg, [numbers[k] for k in chosen], vector)
                unit = float(vector[LAYER].norm() / norms[LAYER])
                table = steered(toy, vector[LAYER], float(norms[LAYER]), plain)
                sweep = steerability(table, "trait", lambda _, unit=unit: unit, min_coherence=0)
                layer = sweep["layers"][str(LAYER)]
                row = {name: (quality | {"dose_of_1": [unit] * 9})[name][LAYER] for name in NUMBERS.values()}
                found.append(
                    row | {"trait": trait, **{name: layer[name]["value"] for name in ("per_dose", "wrong_way")}}
                )
                print(
                    trait,
                    size,
                    share,
                    {k: v if isinstance(v, str) or v is None else round(v, 2) for k, v in found[-1].items()},
                )

    gains = [row["per_dose"] / 10 for row in found]
    lines = [
        f"{len(found)} vectors of {len({row['trait'] for row in found})} traits, of {SIZES[0]} to {SIZES[-1]} pairs with 0 to "
        f"{100 * max(EXCHANGED):.0f} % exchanged; layer {LAYER}, doses {', '.join(map(str, DOSES))}, {len(toy.questions)} "
        f"questions each. Points gained per 0.1 of dose: {min(gains):.1f} to {max(gains):.1f}.",
        "",
        "| number | r with points per dose | r with the share moved the wrong way |",
        "|---|---|---|",
    ]
    for label, name in NUMBERS.items():
        values = [row[name] for row in found]
        per_dose, wrong = (pearson(values, [row[target] for row in found]) for target in ("per_dose", "wrong_way"))
        lines.append(f"| {label} | {str(per_dose).removeprefix('r = ')} | {str(wrong).removeprefix('r = ')} |")
    report("What foretells how well a vector steers", lines)


if __name__ == "__main__":
    from persona_vectors import cli

    cli.run(main)
