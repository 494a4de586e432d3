"""Benchmark lm-evaluation-harness on a steered model against its own class unsteered, side by side in one run.

    python benchmarks/capability.py --model models/smollm2 --layer 18 --questions 24 --repeats 5

Both sides get the same loaded model and the same questions, of the form of MMLU: a text and four answers of one letter,
and as many with answers of several words. They take turns, so that whatever else the machine does hits both; the ratio is
the median over turns. Processor time is told beside wall time, for machines that are shared.
"""

import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]


def make_pairs(questions: int) -> list[tuple[str, str]]:
    """(context, continuation): sentences of our own plain text, with letters and with parts of sentences as answers."""
    from persona_vectors.capability.texts import pages

    sentences = [sentence for _, text in pages() for sentence in text.split(". ")]
    pairs = []
    for k in range(questions):
        context = ". ".join(sentences[(3 * k + j) % len(sentences)] for j in range(2 + k % 5))
        pairs += [(f"{context}.\nAnswer:", f" {letter}") for letter in "ABCD"]
        pairs += [(f"{context}.", f" {sentences[(3 * k + 7 + j) % len(sentences)]}") for j in range(4)]
    return pairs


def timed(scorer, pairs: list[tuple[str, str]]) -> tuple[float, float, list]:
    """(wall seconds, processor seconds, answers) of all likelihoods."""
    from lm_eval.api.instance import Instance

    requests = [Instance("loglikelihood", {}, pair, k) for k, pair in enumerate(pairs)]
    wall, cpu = time.perf_counter(), time.process_time()
    found = scorer.loglikelihood(requests, disable_tqdm=True)
    return time.perf_counter() - wall, time.process_time() - cpu, found


def main(
    model: str = "models/smollm2",
    layer: int = 18,
    coef: float = 2.0,
    questions: int = 24,
    repeats: int = 5,
    batch_size: int = 4,
):
    """Time both sides and print the ratios.

    Args:
        model: folder or hub id.
        layer: where a random vector is added.
        coef: times a vector of length 10.
        questions: of each form.
        repeats: turns.
        batch_size: requests per forward.
    """
    import torch
    from lm_eval.models.huggingface import HFLM
    from report import report

    from persona_vectors import models
    from persona_vectors.capability.harness import SteeredLM
    from persona_vectors.steering.intervention import Intervention

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    path = models.resolve(model)
    loaded, tokenizer = models.load_model(path, "float32"), models.load_tokenizer(path)
    vector = torch.randn(models.shape_of(loaded.config).hidden, generator=torch.Generator().manual_seed(0))
    theirs = HFLM(pretrained=loaded, tokenizer=tokenizer, batch_size=batch_size)
    ours = SteeredLM(loaded, tokenizer, batch_size)
    ours.interventions = (Intervention(layer, vector / vector.norm() * 10, coef),)
    pairs = make_pairs(questions)
    timed(theirs, pairs[:16]), timed(ours, pairs[:16])
    turns = []
    for turn in range(repeats):
        sides = {}
        for name, scorer in [("lm-eval, unsteered", theirs), ("steered", ours)][:: 1 if turn % 2 == 0 else -1]:
            sides[name] = timed(scorer, pairs)
        turns.append(sides)
        print(
            f"turn {turn + 1}: "
            + ", ".join(f"{n} {w:.1f} s ({c:.1f} s of processor)" for n, (w, c, _) in sides.items())
        )
    assert turns[0]["steered"][2] != turns[0]["lm-eval, unsteered"][2], "nothing was steered"
    lines = ["| | wall seconds | processor seconds |", "|---|---|---|"]
    for name in ("lm-eval, unsteered", "steered"):
        wall, cpu = (statistics.median(sides[name][k] for sides in turns) for k in (0, 1))
        lines.append(f"| {name} | {wall:.2f} | {cpu:.2f} |")
    ratios = [statistics.median(s["steered"][k] / s["lm-eval, unsteered"][k] for s in turns) for k in (0, 1)]
    lines.append(f"| steered / unsteered, median of {repeats} turns | **{ratios[0]:.3f}** | **{ratios[1]:.3f}** |")
    report(
        "lm-evaluation-harness on a steered model",
        [f"{len(pairs)} requests, {len(pairs) // 8} contexts of each form.", "", *lines],
    )


if __name__ == "__main__":
    from persona_vectors import cli

    cli.run(main)
