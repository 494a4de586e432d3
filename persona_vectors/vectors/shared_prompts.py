"""The fast path for answers that share a prompt: the prompt is run once, and each answer goes on from its keys and values.

Extraction has ten answers to a prompt (section 2.2), and a likelihood scorer reads many answers after one prompt. The
numbers are those of the plain way (:mod:`persona_vectors.vectors.activations`), but for the order of floating-point sums.
"""

import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from persona_vectors.vectors.batches import Sample, batches_by_length

if TYPE_CHECKING:
    from transformers.cache_utils import Cache

SHARED_SHARE = 0.1  # of all tokens; below it one pass over everything is quicker than two


def sharing_pays(decoder: Any, samples: Sequence[Sample]) -> bool:
    """Whether many of the tokens are prompts that several samples share, and the model can go on from a prompt's cache.

    Refused to caches that are more than keys and values of every token (recurrent states, windows shorter than a sample).
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    prompts = {tuple(sample.prompt_ids) for sample in samples}
    repeated = sum(len(sample.prompt_ids) for sample in samples) - sum(map(len, prompts))
    if repeated < SHARED_SHARE * sum(map(len, samples)):
        return False
    taken = inspect.signature(decoder.forward).parameters
    if getattr(decoder, "_is_stateful", False) or not {"past_key_values", "position_ids", "attention_mask"} <= set(
        taken
    ):
        return False
    longest = max(map(len, prompts)) + max(len(sample.written_ids) for sample in samples)
    return all(
        type(layer) is DynamicLayer or (type(layer) is DynamicSlidingWindowLayer and longest < layer.sliding_window)
        for layer in DynamicCache(config=decoder.config).layers
    )


def prompts_for_answers(prompts: Any, rows: Tensor) -> "Cache":
    """A batch of prompts' cache as the answers to ``rows`` of it need it, one layer at a time.

    What a cache is usually for, the tokens to come, is not wanted here: the answers' keys and values are forgotten as
    soon as their layer has used them, and the prompts' are not repeated in more than one layer at a time.
    """
    from transformers.cache_utils import Cache, DynamicLayer

    class Repeated(DynamicLayer):
        def __init__(self, prompt: Any) -> None:
            DynamicLayer.__init__(self)
            self.keys, self.values, self.is_initialized = prompt.keys, prompt.values, True
            self.dtype, self.device = prompt.keys.dtype, prompt.keys.device

        def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
            assert self.keys is not None and self.values is not None
            return torch.cat([self.keys[rows], key_states], dim=-2), torch.cat(
                [self.values[rows], value_states], dim=-2
            )

    return Cache(layers=[Repeated(layer) if layer.is_initialized else DynamicLayer() for layer in prompts.layers])


def shared_batches(
    forward: Any, samples: Sequence[Sample], token_budget: int
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Each prompt once for all answers to it: prompts of one batch first, then their answers in order of length.

    ``forward`` is a :class:`persona_vectors.vectors.activations.PooledForward`.
    """
    from transformers.cache_utils import DynamicCache

    answers_to: dict[tuple[int, ...], list[int]] = {}
    for index, sample in enumerate(samples):
        answers_to.setdefault(tuple(sample.prompt_ids), []).append(index)
    prompts, pools, device = list(answers_to), forward.pools, forward.device
    for chosen in batches_by_length(list(map(len, prompts)), token_budget):
        batch = [prompts[k] for k in chosen]
        spans = {"prompt_avg": [(0, len(p)) for p in batch], "prompt_last": [(len(p) - 1, len(p)) for p in batch]}
        cache = DynamicCache(config=forward.decoder.config)
        of_prompts = forward(batch, {pool: spans[pool] for pool in pools if pool in spans}, past_key_values=cache)
        answers = [(row, index) for row, prompt in enumerate(batch) for index in answers_to[prompt]]
        prompt_tokens = _mask(batch, device)
        for some in batches_by_length([len(samples[index].written_ids) for _, index in answers], token_budget):
            rows = torch.tensor([answers[k][0] for k in some], device=device)
            indices = [answers[k][1] for k in some]
            written = [samples[index].written_ids for index in indices]
            answer_tokens, before = _mask(written, device), prompt_tokens[rows]
            pooled = forward(
                written,
                {"response_avg": [samples[index].answer_span for index in indices]},
                past_key_values=prompts_for_answers(cache, rows),
                attention_mask=torch.cat([before, answer_tokens], dim=1),
                position_ids=before.sum(1, keepdim=True) + torch.arange(answer_tokens.shape[1], device=device),
            )
            both = {pool: pooled[pool] if pool in pooled else of_prompts[pool][rows] for pool in pools}
            yield indices, both | pooled  # and what comes beside the pools


def _mask(sequences: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Which of the tokens, padded on the right, are tokens (1) and which are padding (0): int64 [batch, width]."""
    lengths = torch.tensor(list(map(len, sequences)), device=device)
    return (torch.arange(int(lengths.max()), device=device) < lengths[:, None]).long()
