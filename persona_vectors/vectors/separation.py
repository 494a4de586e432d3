"""How well a mean-difference direction separates positive from negative answers that it has not seen."""

import torch
from torch import Tensor


def auc(pos: Tensor, neg: Tensor) -> Tensor:
    """Probability that a positive value is above a negative one, ties half: [n, ...] and [m, ...] -> [...]."""
    above = (pos[:, None] > neg[None]).float().mean(dim=(0, 1))
    return above + (pos[:, None] == neg[None]).float().mean(dim=(0, 1)) / 2


def held_out_auc(pos: Tensor, neg: Tensor, fold: Tensor) -> Tensor:
    """AUC per layer of the projection onto directions made from the other half of the questions.

    Args:
        pos, neg: activations of the pairs' answers, [pairs, layers + 1, hidden].
        fold: [pairs] bool; pairs of the same question belong to the same half.

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
            direction = p[~half].mean(0) - n[~half].mean(0)
            rows.append(auc(p[half] @ direction, n[half] @ direction))
        scores.append(torch.stack(rows))
    return torch.stack(scores).mean(0)
