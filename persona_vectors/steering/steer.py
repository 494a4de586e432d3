"""The library's steering of any loaded model: one ``with`` block, whatever runs the model inside."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from persona_vectors.errors import UserError
from persona_vectors.models.decoder import find_blocks
from persona_vectors.steering.hooks import check, steered_forwards
from persona_vectors.steering.intervention import Intervention


def steer(
    model: nn.Module,
    vector: "Tensor | Mapping[int, Tensor] | Intervention | Sequence[Intervention]",
    *,
    layer: int | None = None,
    coef: float = 1.0,
    positions: str = "response",
    kind: str = "add",
) -> AbstractContextManager:
    """Within the block, every forward and every ``generate`` of ``model`` is steered; afterwards it is as it was.

    Which tokens are which is read from each forward: padding (on either side, as the attention mask tells) is never
    steered, and

    - inside ``model.generate`` the prompt is what ``generate`` was given, also without a cache (``use_cache=False``), in
      chunks (``prefill_chunk_size``), with beams or a draft model, or after a cache that holds its beginning;
    - in any other forward, an empty cache or none means a prompt, and its last real token in each row is the last
      prompt token. A forward after a cache that is not empty is generation: several tokens at once count as generated.
      So a loop of your own that decodes without a cache shows each time a new, longer prompt.
    - In training, and where a whole text is scored at once (multiple choice in lm-evaluation-harness), nothing is
      generated: ``all`` and ``prompt`` steer every token. Take one of them there, or say where each prompt ends with
      :func:`persona_vectors.steering.tokens.prompts_told`: otherwise ``response`` steers the last token of each row alone
      (of each sequence, where several are packed into a row), whose logits no next-token loss reads, and no score but
      that of the longest text of a batch. Without a mask padding cannot be told.

    Blocks nest: all act. Threads that enter blocks of their own on one model steer each their own way. A thread that
    enters none is steered by the one that does, as where ``generate`` runs in a thread beside a streamer;
    ``steer(model, [])`` steers nothing and keeps a thread as it is.
    Gradients flow through the model, not into the vector. ``output_hidden_states`` shows row ``layer`` as it was before the
    steering on most architectures, for transformers takes it first; later rows and logits are steered.

    Args:
        model: a decoder-only language model of transformers, wrapped by PEFT or not.
        vector: [hidden] of any float dtype; or a whole [L + 1, hidden], of which row ``layer`` is taken; or one
            [hidden] per layer, as a dict; or interventions, which say everything themselves.
        layer: l in 1..L: acts on the output of block l-1, before any later block. The last layer, L, acts before the
            final norm, whereas row L of a vector file was read after it.
        coef: the factor of an addition; an ablation has none.
        positions: ``response``: the last prompt token and every generated one; ``prompt``: every prompt token and no
            generated one; ``all``: both.
        kind: ``add`` the vector, or ``ablate`` its direction.

    Raises:
        UserError: at once, for a layer, vector, coefficient or model that does not fit.
        RuntimeError: in a forward that does not tell which tokens are which (an attention mask of an unknown kind,
            continuous batching, a prompt in several chunks that is padded on the right), or of a thread that has entered
            no block while several others have.

    Example:
        with pv.steer(model, vectors[20], layer=20, coef=1.5):
            model.generate(**tokenizer("How do I start with roses?", return_tensors="pt"), max_new_tokens=100)
    """
    interventions = _interventions(model, vector, layer, coef, positions, kind)
    check(model, interventions)
    if getattr(model.config, "is_encoder_decoder", False):
        raise UserError(f"{type(model).__name__} has an encoder of its own; decoder-only models can be steered")
    adapter: Any = getattr(model, "active_peft_config", None)
    if getattr(adapter, "is_prompt_learning", False):
        raise UserError(
            f"an adapter of type {adapter.peft_type} puts tokens of its own into the prompt: it cannot be steered"
        )
    return steered_forwards(model, interventions)


def _interventions(model: nn.Module, vector: object, layer: Any, coef: float, positions: str, kind: str) -> list:
    """What acts, whichever way it was said."""
    if isinstance(vector, Intervention):
        vector = [vector]
    if isinstance(vector, Sequence) and all(isinstance(each, Intervention) for each in vector):
        if (layer, coef, positions, kind) != (None, 1.0, "response", "add"):
            raise UserError(
                "interventions have a layer, coef, positions and kind of their own: leave these arguments out"
            )
        return list(vector)
    if isinstance(vector, Mapping):
        if layer is not None:
            raise UserError("a dict of vectors says the layers itself: leave layer out")
        return [Intervention(at, _tensor(each), coef, positions, kind) for at, each in vector.items()]
    if layer is None:
        raise UserError("say which layer to steer, as in layer=20")
    vector = _tensor(getattr(vector, "response_avg", vector))  # what find_vectors gives
    if vector.ndim == 2:
        count = len(find_blocks(model))
        if len(vector) != count + 1:
            raise UserError(f"vectors of all layers have {count + 1} rows for this model, not {len(vector)}")
        if layer not in range(1, count + 1):
            raise UserError(f"layer {layer} does not exist: this model has layers 1..{count}")
        vector = vector[int(layer)]
    return [Intervention(layer, vector, coef, positions, kind)]


def _tensor(vector: object) -> Tensor:
    try:
        return torch.as_tensor(vector)
    except (TypeError, ValueError, RuntimeError) as e:
        raise UserError(f"a steering vector is a tensor of numbers, not {type(vector).__name__} ({e})") from None
