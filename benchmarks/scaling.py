"""Benchmark how the cost of extraction scales with batch size, answer length, samples, layers and answers per prompt.

    python benchmarks/scaling.py --size 25m --repeats 5

One random-weight model in one process. Every table varies one quantity of the same base case: ten prompts of 40-100
tokens, four answers of 50-250 tokens to each, all layers, the stages' own token budget. Times are medians. The values
of a table are measured in turns, so that machine noise affects all of them equally.
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


def turn_by_turn(runs: dict[object, Callable[[], object]], repeats: int) -> dict[object, float]:
    """Median seconds of each run, after one warm-up round."""
    seconds: dict[object, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main(size: str = "25m", repeats: int = 5) -> None:
    """Measure and print five tables."""
    from extraction import make_model, make_samples, ours, published, tokens
    from report import report

    model = make_model(size)
    lines = [f"{size} model, float32; median of {repeats}."]

    def table(head: str, rows: list[str]) -> None:
        lines.extend(["", head, "|" + "---|" * head.count(" | ") + "---|", *rows])

    def of_ours(sets: dict[object, list]) -> dict[object, float]:
        return turn_by_turn({name: lambda s=some: ours(model, s, "") for name, some in sets.items()}, repeats)

    samples = make_samples(10, 4)
    budgets = (128, 256, 512, 1024, 2048, 4096)
    taken = turn_by_turn({b: lambda b=b: ours(model, samples, "", budget=b) for b in budgets}, repeats)
    table("| token budget | tokens/s | against 512 |", [
        f"| {b} | {tokens(samples) / s:,.0f} | {taken[512] / s:.2f}x |" for b, s in taken.items()
    ])  # fmt: skip

    sets = {length: make_samples(5, 4, (length, length)) for length in (25, 50, 100, 200, 400)}
    runs = {
        (n, run): lambda s=some, run=run: run(model, s, "") for n, some in sets.items() for run in (ours, published)
    }
    taken = turn_by_turn(runs, repeats)
    rows = []
    for length, some in sets.items():
        mine, loop = taken[length, ours], taken[length, published]
        rows.append(f"| {length} | {tokens(some) / mine:,.0f} | {tokens(some) / loop:,.0f} | {loop / mine:.2f}x |")
    table("| tokens of an answer | tokens/s, ours | published loop | ratio |", rows)

    sets = {4 * prompts: make_samples(prompts, 4) for prompts in (2, 8, 32)}
    table("| samples | seconds | microseconds a token |", [
        f"| {n} | {s:.2f} | {1e6 * s / tokens(sets[n]):.0f} |" for n, s in of_ours(sets).items()
    ])  # fmt: skip

    depth = model.config.num_hidden_layers
    wanted = {f"layer {k}": [k] for k in (depth // 4, depth // 2, 3 * depth // 4, depth)} | {"all": None}
    taken = turn_by_turn({n: lambda k=k: ours(model, samples, "", layers=k) for n, k in wanted.items()}, repeats)
    table(f"| layers of {depth} | seconds | part of all |", [
        f"| {name} | {s:.2f} | {s / taken['all']:.2f} |" for name, s in taken.items()
    ])  # fmt: skip

    sets = {each: make_samples(40 // each, each) for each in (1, 2, 5, 10)}
    table("| answers to a prompt (40 in all) | seconds | tokens/s |", [
        f"| {n} | {s:.2f} | {tokens(sets[n]) / s:,.0f} |" for n, s in of_ours(sets).items()
    ])  # fmt: skip
    report("Cost of extraction", lines)


if __name__ == "__main__":
    from persona_vectors import cli

    cli.run(main)
