"""Benchmark extraction and projection against other implementations: samples per second and memory.

    python benchmarks/extraction.py --sizes toy,100m,100m-150k --prompts 4 --repeats 5
    python benchmarks/extraction.py --work projection --sizes toy,100m,100m-150k --prompts 40 --repeats 5

Every contender gets the same random-weight model and token ids: prompts of 40-100 tokens, ten answers of 50-250 tokens
to each, as in section 2.2. It computes prompt mean, answer mean and last prompt token at every layer. Contenders:

- this toolkit, in float32 and in bfloat16;
- the published toolkit's loop (reimplemented): one sample at a time, all hidden states kept, the language-model head
  run, activations saved for a backward pass, since gradients are not switched off there;
- the same loop without gradients;
- the recorders of other libraries, one sample at a time as intended, with pooling of what they record.

Contenders run in turns, in one process each. The table has each result's difference from the published loop's.
Projection: one answer to each prompt; the mean activation at half depth is projected onto a vector.
"""

import contextlib
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

#        hidden, blocks, MLP, heads, KV heads, vocabulary
SIZES = {
    "toy": (128, 4, 256, 4, 4, 1536),
    "25m": (512, 8, 1536, 8, 4, 8192),
    "100m": (768, 12, 3072, 12, 4, 8192),
    "100m-150k": (768, 12, 3072, 12, 4, 151936),
    "500m": (1280, 22, 4864, 20, 4, 8192),
    "7b": (3584, 28, 18944, 28, 4, 152064),
}


def make_model(size: str, dtype: str = "float32"):
    """A Qwen2 with random weights and tied embeddings."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    hidden, blocks, mlp, heads, kv, vocabulary = SIZES[size]
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=blocks,
        num_attention_heads=heads, num_key_value_heads=kv, max_position_embeddings=1024, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()


def make_samples(prompts: int, each: int, answer: tuple[int, int] = (50, 250)) -> list[tuple[list[int], list[int]]]:
    """(prompt ids, answer ids): ``each`` answers to every prompt, with lengths in the range ``answer``."""
    import numpy as np

    draw = np.random.default_rng(0)
    ids = lambda low, high: draw.integers(2, 1500, draw.integers(low, high + 1)).tolist()  # noqa: E731
    return [(prompt, ids(*answer)) for prompt in (ids(40, 100) for _ in range(prompts)) for _ in range(each)]


def tokens(samples) -> int:
    return sum(len(prompt) + len(answer) for prompt, answer in samples)


def ours(model, samples, dtype: str, budget: int | None = None, layers: list[int] | None = None):
    """This toolkit. Token budget per batch: ``budget``, else the benchmark's, else the stages' default (None)."""
    import torch

    from persona_vectors.vectors.activations import POOLS, Sample, pooled_activations

    total = 0
    samples, budget = [Sample(*sample) for sample in samples], budget or BUDGET
    for _, pooled in pooled_activations(model, samples, token_budget=budget, layers=layers):
        total = total + torch.stack([pooled[pool].double().sum(0) for pool in POOLS])
    return (total / len(samples)).float()


def one_by_one(samples, states_of, gradients: bool = False, device: str = "cpu"):
    """The published way from hidden states to means: keep the rows of all samples, and average at the end."""
    import torch

    ways = (lambda h, p: h[:p].float().mean(0), lambda h, p: h[p:].float().mean(0), lambda h, p: h[p - 1].float())
    rows = []
    for prompt, answer in samples:
        with torch.set_grad_enabled(gradients):
            states = states_of(torch.tensor([prompt + answer], device=device))
            rows.append([torch.stack([way(h, len(prompt)).detach().cpu() for h in states]) for way in ways])
        del states
    return torch.stack([torch.stack(pool).mean(0) for pool in zip(*rows, strict=True)])


def make_vector(model):
    """(layer, vector [hidden]) for the projections, at half depth."""
    import torch

    hidden = model.config.hidden_size
    return model.config.num_hidden_layers // 2, torch.randn(hidden, generator=torch.Generator().manual_seed(1))


def ours_projecting(model, samples, dtype: str):
    import torch

    from persona_vectors.vectors.activations import Sample
    from persona_vectors.vectors.projection import Column, Projector

    layer, vector = make_vector(model)
    projector = Projector(model, [Column("x", "proj", layer, vector)], token_budget=BUDGET)
    return torch.from_numpy(projector([Sample(*sample) for sample in samples])[:, 0])


def published_projecting(model, samples, dtype: str, gradients: bool = True):
    """One sample at a time through the whole model with its head; all hidden states kept, one layer's mean used."""
    import torch

    layer, vector = make_vector(model)
    values = []
    for prompt, answer in samples:
        with torch.set_grad_enabled(gradients):
            ids = torch.tensor([prompt + answer], device=model.device)
            states = model(ids, output_hidden_states=True).hidden_states
            mean = states[layer][0, len(prompt) :].float().mean(0).detach().cpu()
        values.append(mean @ vector / vector.norm())
        del states
    return torch.stack(values)


def published(model, samples, dtype: str, gradients: bool = True):
    states_of = lambda ids: [h[0] for h in model(ids, output_hidden_states=True).hidden_states]  # noqa: E731
    return one_by_one(samples, states_of, gradients, model.device)


def steering_vectors(model, samples, dtype: str):
    from steering_vectors import record_activations

    def states_of(ids):
        with record_activations(model, layer_type="decoder_block") as recorded:
            model(ids)
        return [recorded[layer][0][0] for layer in sorted(recorded)]

    return one_by_one(samples, states_of)


def nnsight(model, samples, dtype: str):
    import nnsight as library
    from nnsight import LanguageModel

    wrapped = LanguageModel(model, tokenizer=make_tokenizer())

    def states_of(ids):
        with wrapped.trace(ids):
            saved = library.save([block.output if PLAIN else block.output[0] for block in wrapped.model.layers])
        return [h[0] for h in saved]

    return one_by_one(samples, states_of)


def transformer_lens(model, samples, dtype: str):
    import torch
    from transformer_lens.model_bridge import TransformerBridge  # TransformerLens 3 wraps the Hugging Face model

    bridge = TransformerBridge.boot_transformers(FOLDER, dtype=getattr(torch, dtype), hf_model=model)

    def states_of(ids):
        _, cache = bridge.run_with_cache(ids, names_filter=lambda name: name.endswith("hook_resid_post"))
        return [h[0] for h in cache.values()]

    return one_by_one(samples, states_of)


def make_tokenizer():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"<{k}>": k for k in range(1500)}
    raw = Tokenizer(models.WordLevel(words, unk_token="<0>"))
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<1>", pad_token="<0>")


WITHOUT = "published loop without gradients"
HALF = "ours in bfloat16"
CONTENDERS = {
    "ours": ours,
    HALF: ours,
    "published loop": published,
    WITHOUT: functools.partial(published, gradients=False),
    "steering-vectors": steering_vectors,
    "nnsight": nnsight,
    "TransformerLens": transformer_lens,
}
PROJECTING = {
    "ours": ours_projecting,
    HALF: ours_projecting,
    "published loop": published_projecting,
    WITHOUT: functools.partial(published_projecting, gradients=False),
}
WORK = {"extraction": (CONTENDERS, 10), "projection": (PROJECTING, 1)}  # (contenders, answers per prompt)
BUDGET, FOLDER = None, ""  # set in a worker's process
PLAIN = True  # a block of transformers 5 returns the hidden states themselves, not a tuple


def serve(work: str, name: str, folder: str, prompts: int, dtype: str, budget: int) -> None:
    """A contender's process: load the model, then time one run for every line on standard input."""
    global BUDGET, FOLDER
    BUDGET, FOLDER = budget, folder
    import torch
    from transformers import AutoModelForCausalLM

    dtype = "bfloat16" if name == HALF else dtype
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    contenders, each = WORK[work]
    samples, contender = make_samples(prompts, each), contenders[name]
    contender(model, samples[:2], dtype)
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak memory, so that loading does not count
    before = memory("VmRSS")
    for line in sys.stdin:
        begin = time.perf_counter()
        rows = contender(model, samples, dtype)
        seconds = time.perf_counter() - begin
        # Compare layers 1..L-1: some recorders lack the embedding, and their last row is before the final norm.
        layers = model.config.num_hidden_layers
        if line.strip() and work == "projection":
            torch.save(rows[None, :, None], line.strip())
        elif line.strip():
            torch.save(rows[:, :-1] if rows.shape[1] == layers else rows[:, 1:-1], line.strip())
        print(json.dumps({"seconds": seconds, "extra_mb": memory("VmHWM") - before}), flush=True)


def memory(name: str) -> float:
    """This process's VmRSS (now) or VmHWM (highest so far), in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def measure(work: str, size: str, names: list[str], prompts: int, repeats: int, dtype: str, budget: int) -> list[str]:
    """The table's lines for one model size."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        make_model(size).save_pretrained(folder)
        start = [sys.executable, __file__, "--serve", work]
        with contextlib.ExitStack() as files:
            workers = {
                name: subprocess.Popen(
                    [*start, name, folder, str(prompts), dtype, str(budget)], stdin=subprocess.PIPE, text=True,
                    stdout=subprocess.PIPE, stderr=files.enter_context(open(f"{folder}/{name}.errors", "w")),
                )
                for name in names
            }  # fmt: skip
            runs: dict[str, list[dict]] = {name: [] for name in names}
            for repeat in range(repeats):
                for name, worker in workers.items():
                    if worker.poll() is None:
                        worker.stdin.write(f"{folder}/{name}.rows\n" if repeat == 0 else "\n")
                        worker.stdin.flush()
                        line = worker.stdout.readline()
                        runs[name] += [json.loads(line)] if line.strip() else []
            for worker in workers.values():
                worker.stdin.close()
                worker.wait()
        lines = []
        reference = torch.load(f"{folder}/published loop.rows", weights_only=True)
        base = statistics.median(run["seconds"] for run in runs["published loop"])
        base_extra = max(run["extra_mb"] for run in runs["published loop"])
        for name in names:
            if len(runs[name]) < repeats:
                reason = Path(f"{folder}/{name}.errors").read_text().strip().splitlines()
                lines.append(f"| {size} | {name} | did not run: {reason[-1] if reason else 'no message'} | | | | |")
                continue
            rows = torch.load(f"{folder}/{name}.rows", weights_only=True)
            difference = ((rows - reference).abs().amax((1, 2)) / reference.abs().amax((1, 2))).max().item()
            seconds = [run["seconds"] for run in runs[name]]
            middle, extra = statistics.median(seconds), max(run["extra_mb"] for run in runs[name])
            lines.append(
                f"| {size} | {name} | {middle:.2f} ({min(seconds):.2f}-{max(seconds):.2f}) "
                f"| {WORK[work][1] * prompts / middle:.1f} | {base / middle:.2f}x | {extra:.0f} MB ({extra / max(base_extra, 1):.2f}) "
                f"| {difference:.0e} |"
            )
    return lines


def main(
    work: str = "extraction", sizes: str = "toy,100m,100m-150k", contenders: str = "all", prompts: int = 4, repeats: int = 5,
    dtype: str = "float32", budget: int = 512,
):  # fmt: skip
    from report import report

    names = list(WORK[work][0]) if contenders == "all" else contenders.split(",")
    lines = [
        f"{prompts} prompts of 40-100 tokens, answers to each: {WORK[work][1]} of 50-250, {dtype}; median (and range) of {repeats}; "
        f"token budget of ours {budget}. Memory: peak above the process with the model loaded.",
        "",
        "| model | | seconds | samples/s | against the published loop | extra memory (of the loop's) | largest relative difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for size in sizes.split(","):
        lines += measure(work, size, names, prompts, repeats, dtype, budget)
    report(work.capitalize(), lines)


if __name__ == "__main__":
    if "--serve" in sys.argv:
        _, _, work, name, folder, prompts, dtype, budget = sys.argv
        serve(work, name, folder, int(prompts), dtype, int(budget))
    else:
        from persona_vectors import cli

        cli.run(main)
