"""Models that the caller has loaded: what they must be, and how they must stand while they are read."""

import contextlib
from collections.abc import Iterator

from persona_vectors.errors import UserError


def check_loaded(model) -> None:
    """Refuse what is no loaded model, such as a name."""
    if not hasattr(model, "get_input_embeddings"):
        found = f"{model!r}"[:80] if isinstance(model, str) else f"something of type {type(model).__name__}"
        raise UserError(f"this takes a loaded model of transformers, not {found}: model, tokenizer = load(name)")


@contextlib.contextmanager
def evaluating(model) -> Iterator[None]:
    """Within the block the loaded model is in evaluation mode (no dropout); afterwards as it was, module by module."""
    check_loaded(model)
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
