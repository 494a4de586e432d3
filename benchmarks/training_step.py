"""Benchmark the cost of steering in a training step, against unsteered steps in the same process.

    python benchmarks/training_step.py --repeats 20

Steered and unsteered steps use the same model (random weights), LoRA, batch and optimizer. They alternate, so that
machine noise affects both equally; the ratio is the median over pairs of neighbouring steps. On a GPU, the model is
larger and in bfloat16.
"""

import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SIZES = {  # width, feed-forward, blocks, heads, key-value heads
    "cpu": (768, 3072, 12, 12, 4),
    "gpu": (2048, 8192, 24, 16, 4),
}


def make_model(device: str, checkpointing: bool):
    """A random-weight Qwen2 with rank-32 LoRA on all linear layers, in training mode."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    hidden, inner, blocks, heads, kv = SIZES["gpu" if device == "cuda" else "cpu"]
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=8192, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=blocks,
        num_attention_heads=heads, num_key_value_heads=kv, max_position_embeddings=2048,
    )  # fmt: skip
    with torch.device(device):
        model = Qwen2ForCausalLM(config).to(torch.bfloat16 if device == "cuda" else torch.float32)
    model = get_peft_model(model, LoraConfig(r=32, lora_alpha=64, use_rslora=True, target_modules="all-linear"))
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    return model.train()


def one_step(model, optimizer, batch: dict) -> float:
    """Seconds of forward, backward and update: wall-clock time on a GPU, CPU time without one.

    CPU time excludes what other programs on the machine use.
    """
    import torch

    def now() -> float:
        if not torch.cuda.is_available():
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    begin = now()
    model(**batch, use_cache=False).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return now() - begin


def main(repeats: int = 20, rows: int = 2, tokens: int = 256, checkpointing: bool = False) -> None:
    """Measure and print; ``rows`` sequences of up to ``tokens`` tokens, the last one padded."""
    import torch
    from report import report

    from persona_vectors.steering.hooks import steered_training
    from persona_vectors.steering.intervention import Intervention

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = make_model(device, checkpointing)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    ids = torch.randint(8192, (rows, tokens), device=device)
    mask = torch.ones_like(ids)
    mask[-1, tokens * 3 // 4 :] = 0
    batch = {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}
    width, layers = model.config.hidden_size, model.config.num_hidden_layers
    vectors = torch.randn(layers + 1, width)
    ways = {
        "unsteered": [],
        "steer, one layer": [Intervention(layers * 2 // 3, vectors[layers * 2 // 3], 5.0, "all")],
        "steer, every layer": [Intervention(k, vectors[k], 1.0, "all") for k in range(1, layers)],
        "ablate, one layer": [Intervention(layers * 2 // 3, vectors[layers * 2 // 3], kind="ablate", positions="all")],
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 2):
        for name, interventions in ways.items():
            with steered_training(model, interventions):
                seconds = one_step(model, optimizer, batch)
            if turn >= 2:
                times[name].append(seconds)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    lines = [
        f"{millions:.0f} M parameters, LoRA r 32, {rows} x {tokens} tokens, "
        f"{'with' if checkpointing else 'without'} gradient checkpointing; median of {repeats} steps, "
        "ratio: median over pairs of neighbouring steps.",
        "",
        f"| | ms a step{'' if device == 'cuda' else ' (processor time)'} | ratio to unsteered |",
        "|---|---|---|",
    ]
    for name, values in times.items():
        ratio = statistics.median(a / b for a, b in zip(values, times["unsteered"], strict=True))
        lines.append(f"| {name} | {1000 * statistics.median(values):.1f} | {ratio:.3f} |")
    report("Steering a training step", lines)


if __name__ == "__main__":
    from persona_vectors import cli

    cli.run(main)
