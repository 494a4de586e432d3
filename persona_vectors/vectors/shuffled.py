"""The control with shuffled labels: a vector of the same answers, half of whose pairs have exchanged their labels.

    v_l = mean_i d_i          d_i = h_l of the i-th positive answer minus h_l of the negative answer to it
    c_l = mean_i s_i d_i      s_i = -1 in half of the pairs (rounded down), drawn at random, +1 in the others

rescaled, row by row, to the norm of v_l. Half, and not each pair by a coin: what all pairs have in common, the trait, cancels,
where an uneven draw would leave a part of v_l itself in the control. What is left is how answers differ for other reasons.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from persona_vectors.errors import UserError
from persona_vectors.files.atomic import replacing
from persona_vectors.vectors.storage import fingerprint, load_vectors, split_key, vector_name

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import Tensor

METHOD = "the labels of half of the effective pairs exchanged, rescaled to the norm of each row"
MADE_BY = "generate_vec.py --shuffled N makes them"


def check_count(count: int, pairs: int) -> None:
    """Refuse more shuffled vectors than there are halves of so many pairs (a half and its complement are one)."""
    possible = math.comb(pairs, pairs // 2) // (2 - pairs % 2) if pairs > 1 else 0
    if count > possible:
        raise UserError(
            f"--shuffled {count}: {pairs} effective pairs can be shuffled in {possible} ways; ask for fewer"
        )


def draw_signs(pairs: int, count: int) -> "Tensor":
    """``count`` different draws of s, [count, pairs] of 1.0 and -1.0; the k-th is the same whatever ``count`` is."""
    import torch

    check_count(count, pairs)
    draws: list[list[float]] = []
    for seed in range(1, count + 1):
        generator = torch.Generator().manual_seed(seed)
        while True:
            signs = torch.ones(pairs)
            signs[torch.randperm(pairs, generator=generator)[: pairs // 2]] = -1
            if signs.tolist() not in draws and (-signs).tolist() not in draws:
                draws.append(signs.tolist())
                break
    return torch.tensor(draws).view(count, pairs)


class ShuffledLabels:
    """Sums the activations of positive and negative answers under shuffled labels, while they are read.

    Example:
        shuffled = ShuffledLabels(pairs=len(effective), count=5)
        means, _ = mean_activations(model, positive, seen=shuffled.positive)
        ...
        controls = shuffled.of("response_avg", vectors["response_avg"])  # [5, layers + 1, hidden]
    """

    def __init__(self, pairs: int, count: int) -> None:
        self.signs = draw_signs(pairs, count).double()
        self.sums: dict[str, Tensor] = {}

    def positive(self, indices: Sequence[int], pooled: "dict[str, Tensor]", label: float = 1.0) -> None:
        """Count in the positive answers of the pairs ``indices``: {pool: [len(indices), layers + 1, hidden]}."""
        import torch

        for pool, rows in pooled.items():
            signed = torch.tensordot(self.signs[:, list(indices)] * label, rows.double(), dims=1)
            self.sums[pool] = self.sums.get(pool, torch.zeros(())) + signed

    def negative(self, indices: Sequence[int], pooled: "dict[str, Tensor]") -> None:
        """The same for negative answers."""
        self.positive(indices, pooled, -1.0)

    def of(self, pool: str, vector: "Tensor") -> "Tensor":
        """The controls of a pool's ``vector`` [layers + 1, hidden]: [count, layers + 1, hidden] float32 of its rows' norms.

        Raises:
            UserError: the pairs differ all alike, so that nothing is left of them.
        """
        return rescaled(self.sums[pool], vector, pool)


def rescaled(shuffled: "Tensor", vector: "Tensor", name: str) -> "Tensor":
    """``shuffled`` [count, layers + 1, hidden], each row with the norm of its row of ``vector``, as float32."""
    lengths = shuffled.double().norm(dim=-1, keepdim=True)
    wanted = vector.double().norm(dim=-1, keepdim=True)
    if ((lengths == 0) & (wanted > 0)).any():
        raise UserError(f"nothing is left of {name} under shuffled labels: the pairs differ all alike")
    return (shuffled.double() / lengths.clamp_min(1e-300) * wanted).float()


def shuffled_path(path: str | Path) -> Path:
    """Where the shuffled vectors of a vector file are: beside it, evil_response_avg_diff_shuffled.safetensors."""
    return split_key(path)[0].with_name(f"{vector_name(path)}_shuffled.safetensors")


def save_shuffled(shuffled: "Tensor", path: str | Path, vector: "Tensor") -> None:
    """Write the controls [count, layers + 1, hidden] of the vector file at ``path``, as tensors called 1, 2, ..."""
    from safetensors.torch import save

    told = {"method": METHOD, "vector": fingerprint(path, vector).id}
    tensors = {f"{number}": rows.contiguous().clone() for number, rows in enumerate(shuffled, 1)}
    with replacing(shuffled_path(path)) as beside:
        beside.write_bytes(save(tensors, metadata=told))


def read_shuffled(path: str | Path, vector: "Tensor") -> "list[Tensor]":
    """The controls of the vector file at ``path``, which holds ``vector`` [layers + 1, hidden].

    Raises:
        UserError: there are none, they are another vector's, or they have not its norms.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    file = shuffled_path(path)
    if not file.is_file():
        raise UserError(f"no shuffled vectors at {file}: {MADE_BY}")
    try:
        with safe_open(file, framework="pt") as opened:
            told, names = opened.metadata() or {}, list(opened.keys())
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is not a readable safetensors file: {error}") from error
    if told.get("vector") != fingerprint(path, vector).id:
        raise UserError(f"{file} was not made for {path}, as that is now: {MADE_BY}")
    found = [load_vectors(f"{file}:{number}") for number in range(1, len(names) + 1)]
    for number, rows in enumerate(found, 1):
        if rows.shape != vector.shape or not torch.allclose(rows.norm(dim=-1), vector.norm(dim=-1), rtol=1e-5, atol=0):
            raise UserError(f"{file}: vector {number} has not the norms of {path}: {MADE_BY}")
    return found
