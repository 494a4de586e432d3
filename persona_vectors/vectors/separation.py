"""How well a mean-difference direction separates positive from negative answers that it has not seen."""

from collections.abc import Callable

import torch
from torch import Tensor


def auc(pos: Tensor, neg: Tensor) -> Tensor:
    """Probability that a positive value is above a negative one, ties half: [n, ...] and [m, ...] -> [...]."""
    above = (pos[:, None] > neg[None]).float().mean(dim=(0, 1))
    return above + (pos[:, None] == neg[None]).float().mean(dim=(0, 1)) / 2


def d_prime(pos: Tensor, neg: Tensor) -> Tensor:
    """The difference of the means in standard deviations of one class: [n, ...] and [m, ...] -> [...].

    The standard deviation is the root of the two classes' mean variance; NaN where a class has one value.
    """
    if min(len(pos), len(neg)) < 2:
        return torch.full(pos.shape[1:], torch.nan)
    return (pos.mean(0) - neg.mean(0)) / ((pos.var(0) + neg.var(0)) / 2).sqrt()


def held_out(pos: Tensor, neg: Tensor, fold: Tensor, measure: Callable[[Tensor, Tensor], Tensor] = auc) -> Tensor:
    """A measure per layer of the projections onto directions made from the other half of the questions.

    Args:
        pos, neg: activations of the pairs' answers, [pairs, layers + 1, hidden].
        fold: [pairs] bool; pairs of the same question belong to the same half.
        measure: :func:`auc` or :func:`d_prime`.

    Returns:
        [layers + 1], the mean of both halves; NaN where a half is empty.
    """
    scores = []
    for half in (fold, ~fold):
        if not half.any() or half.all():
            return torch.full((pos.shape[1],), torch.nan)
        rows = []
        for layer in range(pos.shape[1]):  # one layer at a time: the whole in float32 could be gigabytes
            p, n = pos[:, layer].float(), neg[:, layer].float()
            direction = torch.nn.functional.normalize(p[~half].mean(0) - n[~half].mean(0), dim=0)
            rows.append(measure(p[half] @ direction, n[half] @ direction))
        scores.append(torch.stack(rows))
    return torch.stack(scores).mean(0)
