"""What extraction costs as batches, answers, samples, layers and answers per prompt grow.

    python benchmarks/scaling.py --size 25m --repeats 5

One random-weight model in one process; every table changes one thing and keeps the rest: ten prompts of 40-100 tokens, four
answers of 50-250 to each, all layers, the stages' own token budget. Times are medians; the values of a table are measured
turn by turn, so that noise of the machine meets them alike.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]


def extract(model, samples: list, budget: int | None = None, layers: list[int] | None = None) -> None:
    """This toolkit: every pool of all samples."""
    from persona_vectors.activations import Sample, pooled_activations

    for _ in pooled_activations(model, [Sample(*s) for s in samples], token_budget=budget, layers=layers):
        pass


def turn_by_turn(runs: dict[object, Callable[[], object]], repeats: int) -> dict[object, float]:
    """Median seconds of each run, after one round that is not counted."""
    seconds: dict[object, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def tokens(samples: list) -> int:
    return sum(len(prompt) + len(answer) for prompt, answer in samples)


def main(size: str = "25m", repeats: int = 5) -> None:
    """Measure and print five tables."""
    from extraction import make_model, make_samples, published
    from report import report

    model = make_model(size)
    lines = [f"{size} model, float32; median of {repeats}."]

    def table(head: str, rows: list[str]) -> None:
        lines.extend(["", head, "|" + "---|" * head.count(" | ") + "---|", *rows])

    samples = make_samples(10, 4)
    budgets = (128, 256, 512, 1024, 2048, 4096)
    taken = turn_by_turn({b: lambda b=b: extract(model, samples, b) for b in budgets}, repeats)
    table("| token budget | tokens/s | against 512 |", [
        f"| {b} | {tokens(samples) / s:,.0f} | {taken[512] / s:.2f}x |" for b, s in taken.items()
    ])  # fmt: skip

    rows = []
    for length in (25, 50, 100, 200, 400):
        answers = make_samples(5, 4, (length, length))
        runs = {"ours": lambda a=answers: extract(model, a), "loop": lambda a=answers: published(model, a, "float32")}
        taken = turn_by_turn(runs, repeats)
        rows.append(
            f"| {length} | {tokens(answers) / taken['ours']:,.0f} | {tokens(answers) / taken['loop']:,.0f} "
            f"| {taken['loop'] / taken['ours']:.2f}x |"
        )
    table("| tokens of an answer | tokens/s, ours | published loop | ratio |", rows)

    rows = []
    for prompts in (2, 8, 32):
        some = make_samples(prompts, 4)
        taken = turn_by_turn({0: lambda some=some: extract(model, some)}, repeats)
        rows.append(f"| {len(some)} | {taken[0]:.2f} | {1e6 * taken[0] / tokens(some):.0f} |")
    table("| samples | seconds | microseconds a token |", rows)

    depth = model.config.num_hidden_layers
    wanted = {f"layer {k}": [k] for k in (depth // 4, depth // 2, 3 * depth // 4, depth)}
    wanted["all"] = list(range(depth + 1))
    taken = turn_by_turn({name: lambda k=k: extract(model, samples, layers=k) for name, k in wanted.items()}, repeats)
    table(f"| layers of {depth} | seconds | part of all |", [
        f"| {name} | {s:.2f} | {s / taken['all']:.2f} |" for name, s in taken.items()
    ])  # fmt: skip

    rows = []
    for each in (1, 2, 5, 10):
        some = make_samples(40 // each, each)
        taken = turn_by_turn({0: lambda some=some: extract(model, some)}, repeats)
        rows.append(f"| {each} | {taken[0]:.2f} | {tokens(some) / taken[0]:,.0f} |")
    table("| answers to a prompt (40 in all) | seconds | tokens/s |", rows)
    report("Cost of extraction", lines)


if __name__ == "__main__":
    import fire

    fire.Fire(main)
