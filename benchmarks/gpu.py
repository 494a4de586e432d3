"""Benchmark extraction and projection on a GPU: tokens/s, share of the GPU's matrix rate, ratio to the published loop.

    python benchmarks/gpu.py --size 7b --prompts 40 --repeats 5

The model is a random-weight Qwen2 in bfloat16, created on the GPU. The matrix rate is that of large bfloat16 products,
measured in the same run. A sample's tokens are those of its prompt and answer. The share counts the floating-point
operations of matrix products and attention that were necessary: no padding, a shared prompt once. The published loop
gets every tenth sample. ``--device cpu --size toy`` tries the script without a GPU.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from extraction import make_model, make_samples, ours, ours_projecting, published, published_projecting, tokens  # noqa: E402


def timed(device: str, run: Callable[[], object]) -> tuple[float, object]:
    """(seconds until the device has finished, result) of a call."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    result = run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin, result


def matrix_rate(device: str, width: int = 8192) -> float:
    """Floating-point operations per second of a bfloat16 product of two [width, width] matrices, best of 20."""
    import torch

    a = torch.randn(width, width, device=device, dtype=torch.bfloat16)
    return 2 * width**3 / min(timed(device, lambda: a @ a)[0] for _ in range(20))


def operations(config, lengths: list[tuple[int, int]], layers: int) -> float:
    """Floating-point operations of ``layers`` blocks: two per weight and token, plus causal attention.

    ``lengths``: (tokens in context before, new tokens) of each forward pass.
    """
    hidden, head = config.hidden_size, config.hidden_size // config.num_attention_heads
    weights = hidden * (2 * hidden + 2 * config.num_key_value_heads * head + 3 * config.intermediate_size)
    seen = sum(n * before + n * (n + 1) / 2 for before, n in lengths)  # pairs of tokens
    return layers * (2 * weights * sum(n for _, n in lengths) + 4 * hidden * seen)


def measured(device: str, run: Callable[[list], object], samples: list, repeats: int) -> tuple[float, str]:
    """(tokens per second of the median run, the table's cells)."""
    seconds = [timed(device, lambda: run(samples))[0] for _ in range(repeats)]
    middle = statistics.median(seconds)
    rate = tokens(samples) / middle
    return rate, f"{len(samples)} | {middle:.3f} ({min(seconds):.3f}-{max(seconds):.3f}) | {rate:,.0f}"


def main(size: str = "7b", prompts: int = 40, repeats: int = 5, device: str = "cuda") -> None:
    """Measure and print."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py: there is no GPU here; --device cpu --size toy tries the script")
    from report import report

    with torch.device(device):
        model = make_model(size, "bfloat16")
    rate, config = matrix_rate(device, 8192 if device == "cuda" else 1024), model.config
    lines = [
        f"{size} model, bfloat16; matrix rate {rate / 1e12:.1f} TFLOP/s; median (and range) of {repeats}.",
        "",
        "| work | | samples | seconds | tokens/s | share of the matrix rate | against the published loop | largest relative difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for work, each, blocks, mine, loop in (
        ("extraction", 10, config.num_hidden_layers, ours, published),
        ("projection at half depth", 1, config.num_hidden_layers // 2, ours_projecting, published_projecting),
    ):
        samples = make_samples(prompts * (10 // each), each)
        few = samples[::10]
        once = {tuple(p): (0, len(p)) for p, _ in samples} if each > 1 else {}
        stretches = [*once.values(), *((len(p), len(a)) if once else (0, len(p) + len(a)) for p, a in samples)]
        expected, small = loop(model, few, ""), mine(model, few, "")  # also the warm-up
        difference = ((small - expected).abs().max() / expected.abs().max()).item()
        loop_rate, cells = measured(device, lambda some, loop=loop: loop(model, some, ""), few, repeats)
        lines.append(f"| {work} | published loop | {cells} | | 1.00x | |")
        our_rate, cells = measured(device, lambda some, mine=mine: mine(model, some, ""), samples, repeats)
        share = operations(config, stretches, blocks) / tokens(samples) * our_rate / rate
        lines.append(f"| {work} | ours | {cells} | {share:.0%} | {our_rate / loop_rate:.2f}x | {difference:.0e} |")
    report("Extraction on a GPU", lines)


if __name__ == "__main__":
    from persona_vectors import cli

    cli.run(main)
