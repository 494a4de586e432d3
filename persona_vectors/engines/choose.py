"""Which engine: vLLM where it can run, transformers elsewhere, and never another one than was asked for."""

from persona_vectors.engines.base import Engine
from persona_vectors.errors import UserError
from persona_vectors.models import ModelPath

BACKENDS = ("auto", "hf", "vllm")


def choose_backend(backend: str) -> str:
    """``hf`` or ``vllm`` for the ``--backend`` given; says what ``auto`` took and why. Cheap: loads no model."""
    from persona_vectors.engines.vllm_setup import available

    if backend == "hf":
        return "hf"
    reason = available()
    if backend == "vllm" and reason:
        raise UserError(f"--backend vllm cannot run here: {reason}; --backend hf runs anywhere")
    if backend == "auto":
        print(f"backend: {'vllm' if reason is None else f'hf ({reason})'}")
    return "hf" if reason else "vllm"


def open_engine(
    backend: str, path: ModelPath, dtype: str, batch_size: int, longest: int, trust_remote_code: bool
) -> Engine:
    """Load the model into the chosen engine.

    Args:
        backend: ``hf`` or ``vllm``, from :func:`choose_backend`.
        batch_size: sequences per batch (hf; vLLM packs its own).
        longest: tokens of the longest prompt and answer together (vllm reserves for as much; hf needs no bound).
    """
    if backend == "hf":
        from persona_vectors.engines.hf import HFEngine

        return HFEngine(path, dtype=dtype, batch_size=batch_size, trust_remote_code=trust_remote_code)
    from persona_vectors.engines.vllm import VLLMEngine

    return VLLMEngine(path, dtype=dtype, max_model_len=longest, trust_remote_code=trust_remote_code)
