"""What a vector is worth, from the activations that it is made of and from other vectors: before anything is steered.

The cosine between single pairs' differences and the separation of the two classes foretell how steerable a trait is
(arXiv 2505.22637, 2602.17881); halves of the pairs, and vectors of other seeds, say how stable the direction is. Knows
tensors of activations; knows nothing of models or files.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from persona_vectors.vectors.separation import auc, d_prime, held_out

SPLITS = 20  # random halves


def of_pairs(positive: Tensor, negative: Tensor, questions: Sequence[int], vector: Tensor, seed: int = 0) -> dict:
    """What the pairs say of their direction at each layer.

    Args:
        positive, negative: mean activations of the pairs' answers, [pairs, layers + 1, hidden] of any float dtype.
        questions: a number a pair; pairs of one question have the same and stay together.
        vector: the vector that is asked about, [layers + 1, hidden].
        seed: draws the halves.

    Returns:
        Lists of layers + 1 numbers, None where there are too few pairs or questions:

        - ``pair_cosine``: mean cosine between the differences (positive - negative) of two pairs;
        - ``auc``, ``d_prime``: how well the mean difference of half of the questions separates the answers to the others;
        - ``half_cosine``, ``half_cosine_lowest``: cosine between the vectors of two random halves of the questions, mean
          and lowest of :data:`SPLITS` splits;
        - ``agreement``: cosine between ``vector`` and the mean difference of these pairs; 1 where it is made of them.

    Example:
        of_pairs(positive, negative, [0, 0, 1, 1], vector)["pair_cosine"][20]  # 0.41
    """
    numbers = torch.tensor(questions)
    odd = numbers % 2 == 1
    found: dict[str, list] = {
        "pair_cosine": [],
        "auc": held_out(positive, negative, odd, auc).tolist(),
        "d_prime": held_out(positive, negative, odd, d_prime).tolist(),
        "half_cosine": [],
        "half_cosine_lowest": [],
        "agreement": [],
    }
    halves = _halves(numbers, seed)
    for layer in range(positive.shape[1]):  # one layer at a time: the whole in float32 could be gigabytes
        differences = positive[:, layer].float() - negative[:, layer].float()
        found["pair_cosine"].append(mean_cosine(differences))
        splits = [
            float(cosine_similarity(differences[half].mean(0), differences[~half].mean(0), dim=0)) for half in halves
        ]
        found["half_cosine"].append(sum(splits) / len(splits) if splits else torch.nan)
        found["half_cosine_lowest"].append(min(splits, default=torch.nan))
        found["agreement"].append(float(cosine_similarity(differences.mean(0), vector[layer], dim=0)))
    return {name: [None if math.isnan(number) else number for number in numbers] for name, numbers in found.items()}


def mean_cosine(directions: Tensor) -> float:
    """The mean cosine between two different rows of ``directions`` [n, hidden]; NaN of fewer than two.

    With unit rows u_i: (|sum u_i|^2 - n) / (n (n - 1)), which needs no n x n matrix. A row of zeros has cosine 0.

    Example:
        mean_cosine(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))  # 0.0
    """
    unit = normalize(directions.double(), dim=-1)
    n = len(unit)
    return float((unit.sum(0).square().sum() - unit.square().sum()) / (n * (n - 1))) if n > 1 else torch.nan


def _halves(questions: Tensor, seed: int) -> list[Tensor]:
    """Random halves of the questions, each as a mask of the pairs; none of fewer than two questions."""
    different = questions.unique()
    if len(different) < 2:
        return []
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(different), generator=generator) for _ in range(SPLITS)]
    return [torch.isin(questions, different[order[: len(different) // 2]]) for order in orders]


def overlaps(vector: Tensor, others: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """The cosine with each other vector, by name, per layer; all are [layers + 1, hidden].

    Example:
        overlaps(evil, {"refusal": refusal})["refusal"][20]  # -0.35
    """
    return {name: cosine_similarity(vector, other, dim=-1).tolist() for name, other in others.items()}


def over_seeds(vectors: Sequence[Tensor]) -> list[float]:
    """The mean cosine between two of several vectors of one trait, per layer.

    Example:
        over_seeds([seed0, seed1, seed2])[20]  # 0.97
    """
    return [mean_cosine(torch.stack(rows)) for rows in zip(*vectors, strict=True)]
