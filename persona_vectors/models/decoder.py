"""Where a model keeps its decoder blocks: the one place that knows.

Found by structure, not by a list of attribute paths, so that an architecture new to transformers works the day it
arrives: the decoder holds exactly one outermost ``ModuleList`` with as many entries as the config says.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from persona_vectors.errors import UserError
from persona_vectors.models.adapters import check_kind


def find_decoder(model: nn.Module) -> nn.Module:
    """The module that maps token ids to ``last_hidden_state`` (after the final norm), without the language-model head.

    Looks through a PEFT wrapper and, in models that also see or hear, takes the text decoder.

    Raises:
        UserError: something else than a model of transformers, or an adapter that acts outside of it.
    """
    get_base = getattr(model, "get_base_model", None)
    base = get_base() if get_base is not None else model
    configs: Any = model.peft_config if get_base is not None else {}
    for config in configs.values():
        check_kind(vars(config), f"what is over {type(base).__name__}")
    if not hasattr(base, "get_decoder"):
        raise UserError(
            f"{type(model).__name__} is not a language model of transformers: it has no decoder blocks to find"
        )
    decoder = base.get_decoder()
    if not hasattr(decoder, "config"):  # where a head goes by the name of decoder
        decoder = base.base_model
    # Llama 4 and Llama 3.2 Vision give the language model with its head
    while getattr(decoder, "get_output_embeddings", lambda: None)() is not None:
        decoder = next(child for child in decoder.children() if hasattr(child, "get_decoder"))
    return decoder


def embedding(model: Any) -> Tensor:
    """The weights of the token embedding, [vocabulary, hidden]; token ids go to where they are."""
    return model.get_input_embeddings().weight


def of_this_thread(hook: Callable) -> Callable:
    """A forward (pre-)hook for forwards of the thread that calls this one; those of other threads are left as they are.

    Hooks hang on the model, which threads may share: without this, one thread's steering would reach the answers of
    all others.
    """
    ours = threading.get_ident()

    @functools.wraps(hook, assigned=())
    def guarded(*args, **kwargs):
        return hook(*args, **kwargs) if threading.get_ident() == ours else None

    return guarded


def is_causal(blocks: nn.ModuleList) -> bool:
    """Whether no token sees those after it: False where every attention says so, as in BERT or EmbeddingGemma."""
    told = [part.is_causal for block in blocks for part in block.modules() if hasattr(part, "is_causal")]
    return any(told) or not told


def find_blocks(model: nn.Module) -> nn.ModuleList:
    """The decoder blocks of any decoder-only transformers model, PEFT-wrapped or not; row l is the output of ``blocks[l-1]``.

    Raises:
        UserError: if no list of blocks, or more than one, fits. Never guesses: a hook in the wrong place would
            look like a vector that does nothing.
    """
    decoder = find_decoder(model)
    count = getattr(decoder.config.get_text_config(decoder=True), "num_hidden_layers", None)
    found: dict[str, nn.ModuleList] = {}
    for name, module in decoder.named_modules():
        inside_a_list = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and len(module) == count and not inside_a_list:
            found[name] = module
    if len(found) != 1:
        names = ", ".join(found) or "none"
        raise UserError(
            f"cannot tell where {type(model).__name__} keeps its decoder blocks (candidates: {names}); "
            "this architecture is not supported"
        )
    return next(iter(found.values()))
