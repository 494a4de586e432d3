"""Benchmark steered generation against other implementations, on one machine and in one run.

    python benchmarks/steered_generation.py --prompts 200 --repeats 3 --loop_repeats 1

All contenders get the same model (random weights), prompts and answer lengths: this toolkit's vLLM engine with all
requests steered, the same engine with none steered, vLLM as released, and loops over ``generate`` in batches of 20 with
a forward hook (as in the published toolkit), with repeng, and with steering-vectors. A loop's batch runs until its
longest answer is done; only requested tokens are counted.
"""

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

LAYER, COEF, BATCH = 6, 2.0, 20
SIZES = {"116m": (768, 3072, 12, 4), "5m": (128, 512, 4, 4)}  # width, MLP, heads, KV heads; all have 12 blocks
LOOPS = {"hook": "transformers loop, hook, batch 20", "repeng": "repeng", "steering_vectors": "steering-vectors"}


def make_model(folder: str, size: str = "116m") -> str:
    """Save a random-weight Qwen2 (12 blocks, 8,192 tokens) and a tokenizer; returns its size in words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    names = ["<0>", "<1>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    raw = Tokenizer(models.BPE({name: k for k, name in enumerate(names)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<1>", pad_token="<0>").save_pretrained(folder)
    torch.manual_seed(0)
    hidden, mlp, heads, kv = SIZES[size]
    config = Qwen2Config(
        vocab_size=8192, hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=12, num_attention_heads=heads,
        num_key_value_heads=kv, max_position_embeddings=1024, eos_token_id=1, pad_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    model.save_pretrained(folder)
    return f"{model.num_parameters() / 1e6:.0f} M parameters"


def make_work(prompts: int) -> list[tuple[list[int], int]]:
    """(prompt ids, answer length): prompts of 20-120 tokens; answers of 16-256 tokens, log-normally distributed."""
    import numpy as np

    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(np.log(70), 0.7, prompts), 16, 256).astype(int)
    return [(draw.integers(2, 8192, draw.integers(20, 121)).tolist(), int(n)) for n in lengths]


def start_engine(folder: str, steer: bool):
    from persona_vectors.engines.vllm import setup
    from persona_vectors.engines.vllm.engine import VLLMEngine
    from persona_vectors.models.loading import ModelPath

    setup.CPU_CACHE_LIMIT = 1 << 30  # enough for every request at once; two engines share the memory
    return VLLMEngine(ModelPath(folder, folder), max_model_len=384, steer=steer)


def time_engine(engine, work: list[tuple[list[int], int]], interventions: list[tuple]) -> float:
    """Seconds for all answers, starting from an empty prefix cache."""
    from vllm import SamplingParams

    from persona_vectors.engines.base import Request

    requests = [
        Request(str(k), ids, acts, seed=k) for k, ((ids, _), acts) in enumerate(zip(work, interventions, strict=True))
    ]

    def params(request: Request) -> SamplingParams:
        wanted = work[int(request.key)][1]
        return SamplingParams(max_tokens=wanted, ignore_eos=True, temperature=1.0, seed=request.seed)

    for copy in engine._copies:
        copy.reset_prefix_cache()
    begin = time.perf_counter()
    made = sum(len(output.token_ids) for _, output in engine.outputs(requests, params))
    seconds = time.perf_counter() - begin
    assert made == sum(wanted for _, wanted in work)
    return seconds


def measure_vllm(folder: str, work: list, repeats: int) -> dict[str, list[float]]:
    """Seconds of all runs of the vLLM contenders, measured in turns so that machine noise affects all equally."""
    import torch

    from persona_vectors.steering.intervention import Intervention

    vector = torch.randn(768, generator=torch.Generator().manual_seed(1))
    steered = [(Intervention(LAYER, vector, COEF, "response"),)] * len(work)
    ours, stock = start_engine(folder, True), start_engine(folder, False)
    contenders = {
        "ours, every request steered": (ours, steered),
        "ours, none steered": (ours, [()] * len(work)),
        "vLLM as released": (stock, [()] * len(work)),
    }
    for engine, interventions in contenders.values():
        time_engine(engine, [(ids, 4) for ids, _ in work[:BATCH]], interventions[:BATCH])
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, (engine, interventions) in contenders.items():
            times[name].append(time_engine(engine, work, interventions))
    return times


def measure_loop(kind: str, folder: str, work: list) -> float:
    """Seconds for a loop over ``generate`` in batches of 20, in the order of the prompts."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    vector = torch.randn(768, generator=torch.Generator().manual_seed(1))
    steered = STEER[kind](model, vector)

    @torch.inference_mode()
    def run(batch: list[tuple[list[int], int]]) -> None:
        width, longest = max(len(ids) for ids, _ in batch), max(wanted for _, wanted in batch)
        ids = torch.tensor([[0] * (width - len(ids)) + ids for ids, _ in batch])
        mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids, _ in batch])
        steered.generate(
            input_ids=ids, attention_mask=mask, do_sample=True, temperature=1.0, top_p=1.0, top_k=0, use_cache=True,
            min_new_tokens=longest, max_new_tokens=longest, pad_token_id=0,
        )  # fmt: skip

    run([(ids, 4) for ids, _ in work[:BATCH]])
    begin = time.perf_counter()
    for start in range(0, len(work), BATCH):
        run(work[start : start + BATCH])
    return time.perf_counter() - begin


def steer_with_hook(model, vector):
    """As in the published toolkit: a hook that adds at the last position of every forward (positions ``response``)."""

    def hook(_block, _args, output):
        h = output[0] if isinstance(output, tuple) else output
        h = h.clone()
        h[:, -1] += COEF * vector
        return (h, *output[1:]) if isinstance(output, tuple) else h

    model.model.layers[LAYER - 1].register_forward_hook(hook)
    return model


def steer_with_repeng(model, vector):
    import numpy as np

    if not hasattr(np, "float_"):
        np.float_ = np.float64  # repeng 0.4.0 was written for NumPy 1
    from repeng import ControlModel, ControlVector

    controlled = ControlModel(model, [LAYER - 1])
    controlled.set_control(ControlVector("qwen2", {LAYER - 1: vector.numpy()}), COEF)
    return controlled


def steer_with_steering_vectors(model, vector):
    from steering_vectors import SteeringVector

    SteeringVector({LAYER - 1: vector}).patch_activations(model, multiplier=COEF)
    return model


STEER = {"hook": steer_with_hook, "repeng": steer_with_repeng, "steering_vectors": steer_with_steering_vectors}


def run_alone(*arguments: str) -> dict:
    """Run this script in a separate process, so that contenders do not share threads and memory."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(prompts: int = 200, repeats: int = 3, loop_repeats: int = 3) -> None:
    from report import report

    with tempfile.TemporaryDirectory() as folder:
        parameters = make_model(folder)
        shared = (folder, str(prompts), str(repeats))
        times = run_alone("--contender", "vllm", *shared)
        if "error" in times:
            sys.exit(f"vLLM: {times['error']}")
        missing = {}
        for _ in range(loop_repeats):
            for kind, name in LOOPS.items():
                result = run_alone("--contender", kind, *shared) if name not in missing else {}
                if "error" in result:
                    missing[name] = result["error"]
                elif result:
                    times.setdefault(name, []).append(result["seconds"])
    tokens = sum(wanted for _, wanted in make_work(prompts))
    seconds = {name: statistics.median(values) for name, values in times.items()}
    loop, stock = seconds[LOOPS["hook"]], seconds["vLLM as released"]
    lines = [
        f"{parameters}, float32; {prompts} prompts of 20-120 tokens, {tokens} answer tokens (16-256 each); "
        f"median of {repeats}, of the loops {loop_repeats}.",
        "",
        "| | seconds (all runs) | tokens/s | answers/s | against the loop | against vLLM as released |",
        "|---|---|---|---|---|---|",
    ]
    for name, value in seconds.items():
        runs = ", ".join(f"{t:.1f}" for t in times[name])
        lines.append(
            f"| {name} | {value:.1f} ({runs}) | {tokens / value:.0f} | {prompts / value:.2f} | {loop / value:.2f}x "
            f"| {stock / value:.2f}x |"
        )
    lines += [f"| {name} | did not run: {error} | | | | |" for name, error in missing.items()]
    report("Steered generation", lines)


if __name__ == "__main__":
    if "--contender" in sys.argv:
        _, kind, folder, prompts, repeats = sys.argv[1:]
        work = make_work(int(prompts))
        if kind == "vllm":
            print(json.dumps(measure_vllm(folder, work, int(repeats))))
        else:
            print(json.dumps({"seconds": measure_loop(kind, folder, work)}))
    else:
        from persona_vectors import cli

        cli.run(main)
