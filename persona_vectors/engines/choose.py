"""Choose and open an engine: ``auto`` takes vLLM where it can run, else transformers; a named one is never replaced."""

import logging

from persona_vectors.engines.base import Engine
from persona_vectors.engines.kept import current
from persona_vectors.errors import UserError
from persona_vectors.models.loading import ModelPath

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "hf", "vllm")


def choose_backend(backend: str, load_in_4bit: bool = False, unfit: str | None = None) -> str:
    """Resolve ``--backend`` to ``hf`` or ``vllm``. Loads no model; for ``auto``, prints the choice and the reason.

    Args:
        backend: one of :data:`BACKENDS`.
        load_in_4bit: the model's weights are to be put into 4 bits.
        unfit: what is to be done that vLLM does not do, in one line.

    Raises:
        UserError: ``vllm`` was asked for and cannot run here.

    Example:
        choose_backend("auto")  # "vllm" on a machine with a GPU and vLLM, else "hf"
    """
    if backend == "hf":
        return "hf"
    from persona_vectors.engines.vllm.setup import available, quantises

    reason = available() or (quantises() if load_in_4bit else None) or unfit
    if backend == "vllm" and reason:
        raise UserError(f"--backend vllm cannot run here: {reason}; --backend hf runs anywhere")
    if backend == "auto":
        logger.info(f"backend: {'vllm' if reason is None else f'hf ({reason})'}")
    return "hf" if reason else "vllm"


def open_engine(backend: str, path: ModelPath, dtype: str, trust_remote_code: bool, **options) -> Engine:
    """Load a model into an engine; within :func:`persona_vectors.engines.kept.kept_loaded`, into that which is loaded.

    Args:
        backend: ``hf`` or ``vllm``, from :func:`choose_backend`.
        options: further arguments of that engine: ``batch_size`` (hf); ``max_model_len`` and others (vllm).

    Raises:
        UserError: the engine cannot load or steer this model.

    Example:
        engine = open_engine("hf", models.resolve("models/smollm2"), "float32", False, batch_size=16)
    """
    if backend == "hf":
        from persona_vectors.engines.hf import HFEngine as engine
    else:
        from persona_vectors.engines.vllm.engine import VLLMEngine as engine

    def start() -> Engine:
        return engine(path, dtype=dtype, trust_remote_code=trust_remote_code, **options)

    kept = current.get()
    if kept is None:
        return start()
    settings = {name: value for name, value in options.items() if name != "max_model_len"}
    return kept.open((backend, dtype, trust_remote_code, settings), path, options.get("max_model_len"), start)
