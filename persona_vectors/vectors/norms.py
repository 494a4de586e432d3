"""How long activations are: the mean norm of the residual stream per layer, which a steering's dose is measured by.

    mean |h_l| = the mean over answers of the mean over their tokens of |h_l[t]|,    l = 0..L

Row l is taken where steering acts: the output of block l-1, of the last block too, before the final norm. Tokens of
prompts do not count: the first token of a sequence is often many times longer than all others. Knows models and samples.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from persona_vectors.models.decoder import embedding
from persona_vectors.vectors.activations import NORM, check_finite, pooled_activations
from persona_vectors.vectors.batches import Sample

ENOUGH = 64  # answers: means over so many differ by about a percent


class MeanNorms:
    """The mean norm of the activations of answers' tokens, collected while the answers are read for something else.

    At most :data:`ENOUGH` of the answers count, evenly spread over all of them, which may come in several parts.

    Args:
        count: answers in all.

    Example:
        norms = MeanNorms(len(positive) + len(negative))
        mean_activations(model, positive, norms=norms), mean_activations(model, negative, norms=norms)
        norms.mean(model)  # float32 [layers + 1]
    """

    def __init__(self, count: int) -> None:
        step = max(1, count / ENOUGH)
        self.chosen = [int(k * step) for k in range(min(count, ENOUGH))]
        self._wanted, self._start, self._read = set(self.chosen), 0, 0
        self._total = torch.zeros((), dtype=torch.double)

    def add(self, indices: Sequence[int], norms: Tensor) -> None:
        """Take those that count of a batch: indices into the part, and their norms [batch, layers + 1]."""
        rows = [row for row, index in enumerate(indices) if self._start + index in self._wanted]
        self._total = self._total + norms[rows].double().sum(0)
        self._read += len(rows)

    def end_part(self, count: int) -> None:
        """A part of so many answers has been read; the next begins."""
        self._start += count

    def mean(self, model: nn.Module) -> Tensor:
        """The mean of what was read: float32 [layers + 1].

        Raises:
            UserError: activations that overflow in the model's dtype.
        """
        assert self._read == len(self.chosen), (self._read, len(self.chosen))
        check_finite(self._total, embedding(model).dtype)
        return (self._total / self._read).float()


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
    read = [samples[index] for index in MeanNorms(len(samples)).chosen]
    norms = MeanNorms(len(read))
    for indices, pooled in pooled_activations(model, read, ("response_avg",), token_budget, norms=True):
        norms.add(indices, pooled[NORM])
    return norms.mean(model)
