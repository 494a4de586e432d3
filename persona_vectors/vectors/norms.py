"""How long activations are: the mean norm of the residual stream per layer, which a steering's dose is measured by.

    mean |h_l| = the mean over answers of the mean over their tokens of |h_l[t]|,    l = 0..L

Row l is taken where steering acts: the output of block l-1, of the last block too, before the final norm. Tokens of
prompts do not count: the first token of a sequence is often many times longer than all others. Knows models and samples.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from persona_vectors.models.decoder import embedding, find_blocks, find_decoder, of_this_thread
from persona_vectors.vectors.activations import check_finite
from persona_vectors.vectors.batches import Sample, batches_by_length, token_budget_for

ENOUGH = 64  # answers: means over so many differ by about a percent


@torch.inference_mode()
def mean_norms(model: nn.Module, samples: Sequence[Sample], token_budget: int | None = None) -> Tensor:
    """The mean norm of the activations of answers' tokens: float32 [layers + 1].

    Reads at most :data:`ENOUGH` of the samples, evenly spread over them.

    Args:
        samples: each with an answer of at least one token.
        token_budget: padded tokens per batch; None is what suits the device.

    Raises:
        UserError: activations that overflow in the model's dtype.

    Example:
        dose = abs(coef) * vectors[20].norm() / mean_norms(model, samples)[20]
    """
    decoder, blocks = find_decoder(model), find_blocks(model)
    device = embedding(model).device
    step = max(1, len(samples) / ENOUGH)
    read = [samples[int(k * step)] for k in range(min(len(samples), ENOUGH))]
    total = torch.zeros(len(blocks) + 1, dtype=torch.double)
    for indices in batches_by_length(list(map(len, read)), token_budget_for(device, token_budget)):
        batch = [read[index] for index in indices]
        width = max(map(len, batch))
        ids, weights = torch.zeros(len(batch), width, dtype=torch.long), torch.zeros(len(batch), width)
        for row, sample in enumerate(batch):
            tokens = sample.prompt_ids + sample.written_ids
            ids[row, : len(tokens)] = torch.tensor(tokens)
            start, end = (len(sample.prompt_ids) + place for place in sample.answer_span)
            weights[row, start:end] = 1 / (end - start)
        rows: list[Tensor] = [torch.zeros(())] * (len(blocks) + 1)

        def keep(row: int, rows: list[Tensor] = rows, weights: Tensor = weights) -> Callable:
            def hook(_block: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
                h = output[0] if isinstance(output, tuple) else output
                if row == 1:
                    rows[0] = _sum(args[0] if args else kwargs["hidden_states"], weights)
                rows[row] = _sum(h, weights)

            return of_this_thread(hook)

        handles = [block.register_forward_hook(keep(row), with_kwargs=True) for row, block in enumerate(blocks, 1)]
        try:
            decoder(input_ids=ids.to(device), use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        total += torch.stack(rows).double()
    check_finite(total, embedding(model).dtype)
    return (total / len(read)).float()


def _sum(h: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of the norms of ``h`` [batch, tokens, hidden], on the CPU."""
    return (h.float().norm(dim=-1) * weights.to(h.device)).sum().cpu()
