"""Which engine: vLLM where it can run, transformers elsewhere, and never another one than was asked for."""

import logging

from persona_vectors.engines.base import Engine
from persona_vectors.errors import UserError
from persona_vectors.models.loading import ModelPath

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "hf", "vllm")


def choose_backend(backend: str) -> str:
    """``hf`` or ``vllm`` for the ``--backend`` given; says what ``auto`` took and why. Cheap: loads no model."""
    if backend == "hf":
        return "hf"
    from persona_vectors.engines.vllm.setup import available

    reason = available()
    if backend == "vllm" and reason:
        raise UserError(f"--backend vllm cannot run here: {reason}; --backend hf runs anywhere")
    if backend == "auto":
        logger.info(f"backend: {'vllm' if reason is None else f'hf ({reason})'}")
    return "hf" if reason else "vllm"


def open_engine(backend: str, path: ModelPath, dtype: str, trust_remote_code: bool, **options) -> Engine:
    """Load the model into the engine ``hf`` or ``vllm`` (from :func:`choose_backend`); ``options`` are its own."""
    if backend == "hf":
        from persona_vectors.engines.hf import HFEngine as engine
    else:
        from persona_vectors.engines.vllm.engine import VLLMEngine as engine
    return engine(path, dtype=dtype, trust_remote_code=trust_remote_code, **options)
