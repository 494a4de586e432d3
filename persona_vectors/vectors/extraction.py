"""Persona vectors from answers: the mean activation over positive answers minus that over negative ones (section 2.2).

    v_l = mean_pos h_l - mean_neg h_l,    l = 0..L

for each of three activations of an answer (appendix A.3): the mean over its own tokens (response_avg, the one the paper uses), the mean
over its prompt's tokens (prompt_avg), and the last prompt token (prompt_last). The activations themselves are
:mod:`persona_vectors.vectors.activations`'s. Knows models and samples of token ids; knows nothing of traits or files.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from persona_vectors.models.decoder import embedding
from persona_vectors.vectors.activations import NORM, check_finite, pooled_activations
from persona_vectors.vectors.batches import Sample
from persona_vectors.vectors.norms import MeanNorms


def mean_activations(
    model: nn.Module,
    samples: Sequence[Sample],
    token_budget: int | None = None,
    label: str | None = None,
    seen: Callable[[list[int], dict[str, Tensor]], object] = lambda indices, pooled: None,
    norms: MeanNorms | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """Means over samples by pool, float32 [layers + 1, hidden], and each answer's own mean in half precision.

    The single answers, [samples, layers + 1, hidden] bfloat16, only serve to measure separation.

    Args:
        samples: each with an answer of at least one token.
        token_budget: padded tokens per batch; None is what suits the device.
        label: of the progress bar; None shows none.
        seen: gets every batch: indices of samples, and their activations by pool, [batch, layers + 1, hidden].
        norms: collects how long the activations of these answers are, a part of all that it counts.

    Raises:
        UserError: activations that overflow in the model's dtype.

    Example:
        means, answers = mean_activations(model, samples)
        means["response_avg"][20]  # the mean at layer 20
    """
    from tqdm import tqdm

    sums: dict[str, Tensor] = {}
    answers = torch.empty(0)
    with tqdm(total=len(samples), desc=label, disable=label is None) as bar:
        batches = pooled_activations(model, samples, token_budget=token_budget, norms=norms is not None)
        for indices, pooled in batches:
            if norms is not None:
                norms.add(indices, pooled.pop(NORM))
            for pool, rows in pooled.items():
                check_finite(rows, embedding(model).dtype)
                sums[pool] = sums.get(pool, torch.zeros(())) + rows.double().sum(0)
            rows = pooled["response_avg"]
            if not len(answers):
                answers = torch.empty(len(samples), *rows.shape[1:], dtype=torch.bfloat16)
            answers[indices] = rows.bfloat16()
            seen(indices, pooled)
            bar.update(len(indices))
    if norms is not None:
        norms.end_part(len(samples))
    return {pool: (total / len(samples)).float() for pool, total in sums.items()}, answers


def differences(positive: dict[str, Tensor], negative: dict[str, Tensor]) -> dict[str, Tensor]:
    """The vectors: the means over positive answers minus those over negative ones, by pool."""
    return {pool: positive[pool] - negative[pool] for pool in positive}
