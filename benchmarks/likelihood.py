"""Benchmark the likelihood score against ground truth in the toy world, where the grammar determines the trait score.

    python benchmarks/likelihood.py
    python benchmarks/likelihood.py --traits evil --per_question 4 --randoms 5

The toy model (models/toy, built by scripts/quickstart.sh) answers the evaluation questions without an instruction,
under the eight graded system prompts for monitoring, steered by its own vector, and steered by random vectors of the
same norm. Every answer is scored by likelihood (with the unsteered toy model as scorer) and by the grammar. The first
table has their correlation and AUC; the second has the effect of steering and, in brackets, the random vectors'
fraction of it.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

TRAIT_DIR = str(ROOT / "data_generation" / "toy")
COEFS, LAYER, MAX_TOKENS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5), 2, 128


@dataclass
class Answered:
    """One answer with its true scores and its likelihood scores."""

    condition: object
    truth: float
    true_coherence: float
    score: float
    coherence: float
    llr: float


class Toy:
    """The toy model as subject and as scorer; with other artifacts, any model.

    Args:
        trait_dir: the folder of the trait's artifacts.
        batch_size: answers at a time.
    """

    layer, max_tokens = LAYER, MAX_TOKENS

    def __init__(self, folder: str, trait: str, trait_dir: str = TRAIT_DIR, batch_size: int = 200) -> None:
        from persona_vectors import models
        from persona_vectors.engines.hf import HFEngine
        from persona_vectors.likelihood.scores import LikelihoodScorer

        self.trait_dir = trait_dir
        self.take(trait)
        self.engine = HFEngine(models.resolve(folder), "float32", batch_size)
        self.scorer = LikelihoodScorer(self.engine.model, self.engine.tokenizer)
        self.seconds, self.answers, self.largest_difference = {"asking": 0.0, "reading": 0.0}, 0, 0.0

    def take(self, trait: str) -> None:
        """Go on with another trait."""
        from persona_vectors.traits.artifact import load_trait

        self.extract, self.eval = (load_trait(trait, version, self.trait_dir) for version in ("extract", "eval"))

    def ask(self, questions, per_question: int, steering=None) -> list:
        """``per_question`` sampled answers to every question, as (question, answer); ``steering``: (vector, coef)."""
        asked = [(question, k, steering) for question in questions for k in range(per_question)]
        return [(asked[place][0], answer) for place, answer in self.ask_each(asked)]

    def ask_each(self, asked: list) -> list[tuple[int, str]]:
        """One sampled answer to each (question, number of the answer, steering or None), as (place in ``asked``, answer).

        Equal questions and numbers are sampled with the same seed, however they are steered. Empty answers are left out.
        """
        from persona_vectors.engines import Request, Sampling, request_seed
        from persona_vectors.models import chat_template
        from persona_vectors.steering.intervention import Intervention

        tokenizer = self.engine.tokenizer
        requests = [
            Request(
                str(place),
                chat_template.token_ids(tokenizer, chat_template.render(tokenizer, question.messages)),
                (Intervention(self.layer, *steering),) if steering and steering[1] else (),
                request_seed(0, f"{question.id}|{k}"),
            )
            for place, (question, k, steering) in enumerate(asked)
        ]
        begin = time.perf_counter()
        found = [(int(a.key), a.text) for a in self.engine.generate(requests, Sampling(self.max_tokens))]
        self.seconds["asking"] += time.perf_counter() - begin
        return [(place, answer) for place, answer in found if answer.strip()]

    def vectors(self):
        """[layers + 1, hidden]: mean activation of positive minus negative extraction answers; no judge filters."""
        import torch

        from persona_vectors.files.rows import Exchange
        from persona_vectors.traits.artifact import make_questions
        from persona_vectors.vectors.activations import pooled_activations
        from persona_vectors.vectors.samples import make_samples

        means = []
        for sign in ("pos", "neg"):
            answered = self.ask(make_questions(self.extract, sign), 1)
            exchanges = [Exchange(question.messages, answer, reasoning="") for question, answer in answered]
            samples, _ = make_samples(self.engine.tokenizer, exchanges, None)
            pooled = pooled_activations(self.engine.model, samples, ["response_avg"])
            means.append(torch.cat([rows["response_avg"] for _, rows in pooled]).mean(0))
        return means[0] - means[1]

    def read(self, answered: list, condition=lambda question: None) -> list[Answered]:
        """Both scores of every (question, answer). Reads twice and keeps the largest difference."""
        from data_generation.toy.scoring import coherence, trait_score
        from persona_vectors.likelihood.scores import Spoken

        spoken = [Spoken(question.text, answer, question.system) for question, answer in answered]
        begin = time.perf_counter()
        once = self.scorer.score(self.eval, spoken)
        self.seconds["reading"] += time.perf_counter() - begin
        self.answers += len(once)
        again = self.scorer.score(self.eval, spoken)
        difference = max(
            abs(a.score - b.score) + abs(a.coherence - b.coherence) for a, b in zip(once, again, strict=True)
        )
        self.largest_difference = max(self.largest_difference, difference)
        return [
            Answered(
                condition(question),
                trait_score(answer, self.eval.name),
                coherence(question.text, answer),
                found.score,
                found.coherence,
                found.llr,
            )
            for (question, answer), found in zip(answered, once, strict=True)
        ]


def agreement(trait: str, what: str, rows: list[Answered]) -> str:
    """One line of the first table."""
    import torch

    from persona_vectors.analysis.correlation import pearson
    from persona_vectors.vectors.separation import auc

    def r(ours: str, true: str) -> str:
        found = pearson([getattr(row, ours) for row in rows], [getattr(row, true) for row in rows]).r
        return "-" if found is None else f"{found:.2f}"

    def area(ours: str) -> str:
        high, low = ([getattr(x, ours) for x in rows if kept(x.truth)] for kept in (lambda t: t > 80, lambda t: t < 20))
        return f"{auc(torch.tensor(high), torch.tensor(low)):.3f}" if high and low else "-"

    means = [sum(getattr(row, name) for row in rows) / len(rows) for name in ("truth", "score")]
    cells = [trait, what, len(rows), f"{means[0]:.0f}", f"{means[1]:.0f}", r("score", "truth"), r("llr", "truth")]
    return f"| {' | '.join(map(str, [*cells, area('score'), area('llr'), r('coherence', 'true_coherence')]))} |"


def effect(trait: str, steered: dict, random: dict) -> list[str]:
    """The lines of the second table: means by coefficient, and the random vectors' fraction of the effect."""

    def mean(rows: list[Answered], name: str) -> float:
        return sum(getattr(row, name) for row in rows) / len(rows)

    lines = []
    for coef, rows in steered.items():
        cells = [f"{mean(rows, name):.0f}" for name in ("truth", "score", "true_coherence", "coherence")]
        for name in ("truth", "score"):
            cells.append(f"{mean(random[coef], name):.0f}" if coef else "")
            if coef > 0:  # below 0 the effect is a decrease, and a fraction of it would mean little
                base = mean(steered[0.0], name)
                cells[-1] += f" ({(mean(random[coef], name) - base) / (mean(rows, name) - base):+.2f})"
        lines.append(f"| {trait} | {coef:g} | {' | '.join(cells)} |")
    return lines


def main(
    model: str = "models/toy",
    traits: str = "evil,sycophantic,hallucinating",
    per_question: int = 2,
    randoms: int = 3,
) -> None:
    """Print both tables and append them to benchmarks/RESULTS.md."""
    import torch
    from report import report

    from persona_vectors.traits.artifact import make_questions
    from persona_vectors.traits.conditions import load_system_prompts, under_system_prompts

    first, second, about = [], [], []
    for trait in traits if isinstance(traits, tuple | list) else traits.split(","):
        toy = Toy(model, trait)
        vector = toy.vectors()[LAYER]
        draws = [torch.randn(vector.shape, generator=torch.Generator().manual_seed(k)) for k in range(randoms)]
        questions = make_questions(toy.eval)
        graded = under_system_prompts(toy.eval, load_system_prompts(trait, TRAIT_DIR))
        plain = toy.read(toy.ask(questions, 2 * per_question))
        under = toy.read(toy.ask(graded, per_question), lambda question: question.condition)
        steered = {c: toy.read(toy.ask(questions, per_question, (vector, c))) for c in COEFS}
        random = {
            c: [
                row
                for draw in draws
                for row in toy.read(toy.ask(questions, per_question, (draw / draw.norm() * vector.norm(), c)))
            ]
            for c in COEFS
            if c
        }
        of_sweep = [row for rows in steered.values() for row in rows]
        first += [
            agreement(trait, "without an instruction", plain),
            agreement(trait, "under graded instructions", under),
            agreement(trait, f"steered, {COEFS[0]:g} to {COEFS[-1]:g}", of_sweep),
            agreement(trait, "steered, coherent", [row for row in of_sweep if row.true_coherence >= 50]),
        ]
        second += effect(trait, steered, random)
        milliseconds = 1000 * toy.seconds["reading"] / toy.answers
        about.append(
            f"{trait}: {toy.answers} answers read in {toy.seconds['reading']:.1f} s, {milliseconds:.0f} ms each (making them "
            f"took {toy.seconds['asking']:.1f} s); read twice, the scores differ by {toy.largest_difference:g} at most."
        )
    lines = [
        *about,
        "",
        "| trait | answers | n | mean truth | mean score | r of the score | r of the LLR per token | AUC, > 80 against < 20 "
        "| AUC of the LLR | r of coherence |",
        "|---" * 10 + "|",
        *first,
        "",
        f"| trait | coefficient, layer {LAYER} | truth | score | true coherence | coherence | truth, {randoms} random vectors "
        "(part) | score, random vectors (part) |",
        "|---" * 8 + "|",
        *second,
    ]
    report("Likelihood in the place of a judge", lines)


if __name__ == "__main__":
    from persona_vectors import cli

    cli.run(main)
