"""Benchmark a sweep of layers x coefficients x questions as one batch, against one run per setting.

    python benchmarks/sweep.py --size 5m --separate 30
    python benchmarks/sweep.py --size 116m --separate 3

Three wall-clock times for the same work, each from a fresh process to its last answer: the whole sweep in one engine;
as many unsteered requests in the released vLLM; and one process per setting. ``--separate 5`` measures five of the 30
settings and extrapolates. One batch loads the model once, and its steps carry hundreds of answers instead of 20. How
much that saves depends on how long the answers themselves take (``--size``).
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time

from report import report
from steered_generation import SIZES, make_model, start_engine

LAYERS, COEFS, QUESTIONS, MAX_TOKENS = (2, 4, 6, 8, 10), (0.0, 0.5, 1.0, 1.5, 2.0, 2.5), 20, 64


def sweep(folder: str, hidden: int, settings: list[tuple[int, float]], steer: bool) -> dict[str, float]:
    """``{"answers": seconds}`` for all questions under all settings with one loaded model, without its loading."""
    import numpy as np
    import torch

    from persona_vectors.engines.base import Request, Sampling
    from persona_vectors.steering.intervention import Intervention

    vector = torch.randn(hidden, generator=torch.Generator().manual_seed(1))
    draw = np.random.default_rng(0)
    questions = [draw.integers(2, 8192, draw.integers(20, 121)).tolist() for _ in range(QUESTIONS)]
    engine = start_engine(folder, steer)
    engine._stop_ids = []  # random weights: every answer has MAX_TOKENS tokens, steered or not
    requests = [
        Request(f"{layer} {coef} {k}", ids, (Intervention(layer, vector, coef),) if steer else (), seed=k)
        for layer, coef in settings
        for k, ids in enumerate(questions)
    ]
    begin = time.perf_counter()
    answers = list(engine.generate(requests, Sampling(MAX_TOKENS)))
    assert len(answers) == len(requests)
    return {"answers": time.perf_counter() - begin}


def wall(*arguments: str) -> tuple[float, float]:
    """(seconds of one whole process, seconds of its answers alone)."""
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - begin, json.loads(done.stdout.strip().splitlines()[-1])["answers"]


def main(size: str = "5m", separate: int = 30, repeats: int = 1) -> None:
    settings = [(layer, coef) for layer in LAYERS for coef in COEFS]
    count = len(settings) * QUESTIONS
    with tempfile.TemporaryDirectory() as folder:
        parameters, given = make_model(folder, size), ("--worker", folder, str(SIZES[size][0]))
        pairs = [
            (wall(*given, json.dumps(settings), "1"), wall(*given, json.dumps(settings), "")) for _ in range(repeats)
        ]
        step = len(settings) // separate
        runs = [wall(*given, json.dumps([setting]), "1") for setting in settings[::step][:separate]]
    one, unsteered = (
        tuple(statistics.median(values) for values in zip(*side, strict=True)) for side in zip(*pairs, strict=True)
    )
    apart = sum(seconds for seconds, _ in runs) * len(settings) / len(runs)
    all_of_them = len(runs) == len(settings)
    measured = "all measured" if all_of_them else f"{len(runs)} measured, times {len(settings) / len(runs):.0f}"
    lines = [
        f"{parameters}, float32; {len(LAYERS)} layers x {len(COEFS)} coefficients x {QUESTIONS} questions = {count} "
        f"answers of {MAX_TOKENS} tokens; median of {repeats}.",
        "",
        "| | seconds from start to end | answers alone | against the one batch |",
        "|---|---|---|---|",
        f"| the sweep as one batch | {one[0]:.1f} | {one[1]:.1f} | 1 |",
        f"| {count} unsteered requests, vLLM as released | {unsteered[0]:.1f} | {unsteered[1]:.1f} "
        f"| {one[1] / unsteered[1]:.2f} (answers of the sweep / these) |",
        f"| {len(settings)} separate runs ({measured}) | {apart:.1f} | | {apart / one[0]:.1f}x |",
    ]
    report("Sweep", lines)


if __name__ == "__main__":
    if "--worker" in sys.argv:
        _, _, folder, hidden, settings, steer = sys.argv
        print(json.dumps(sweep(folder, int(hidden), [tuple(setting) for setting in json.loads(settings)], bool(steer))))
    else:
        from persona_vectors import cli

        cli.run(main)
