"""New vectors from old ones: sums, differences, means, and what is left without a direction; row by row.

    base = mean(average) + sum(add) - sum(subtract)
    v_l  = base_l - P_l base_l        P_l: the projection onto the span of row l of the vectors in orthogonal_to

The recipe goes with the result: what went in, by content.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from persona_vectors.errors import UserError
from persona_vectors.files.fingerprints import Fingerprint, plain
from persona_vectors.files.jsonfile import to_json
from persona_vectors.sharing.formats import About, read_shared
from persona_vectors.vectors.storage import fingerprint

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import Tensor

ROLES = ("add", "subtract", "average", "orthogonal_to")
COMMON = ("model", "revision", "architecture", "dtype")  # of the metadata, what holds for the result if all agree


def read(
    roles: Mapping[str, Sequence[str]],
) -> "tuple[dict[str, list[Tensor]], dict[str, list[Fingerprint]], list[About | None]]":
    """The vector files of each role: their vectors, what these are by content, and all that the files say of themselves.

    Raises:
        UserError: a file that cannot be read, or that has another shape than the first.

    Example:
        vectors, recipe, abouts = read({"add": ["evil.pt"], "orthogonal_to": ["sycophantic.pt"]})
    """
    vectors: dict[str, list[Tensor]] = {}
    recipe: dict[str, list[Fingerprint]] = {}
    abouts: list[About | None] = []
    first: tuple[str, list[int]] | None = None
    for role, paths in roles.items():
        for path in paths:
            rows, about = read_shared(path)
            first = first or (path, list(rows.shape))
            if list(rows.shape) != first[1]:
                raise UserError(
                    f"{path} is {list(rows.shape)}, {first[0]} {first[1]}: all must have the same rows and width"
                )
            vectors.setdefault(role, []).append(rows)
            recipe.setdefault(role, []).append(fingerprint(path, rows))
            abouts.append(about)
    return vectors, recipe, abouts


def combine(vectors: "Mapping[str, Sequence[Tensor]]") -> "Tensor":
    """The combination of vectors [layers + 1, hidden] by role (:data:`ROLES`), in float64; float32 comes back.

    Several vectors in ``orthogonal_to`` go as the subspace that they span. A row of zeros spans nothing.

    Raises:
        UserError: nothing is left at any layer.

    Example:
        combine({"add": [evil], "subtract": [sycophantic]})
    """
    import torch

    given = {role: torch.stack(list(rows)).double() for role, rows in vectors.items() if len(rows)}
    zero = torch.zeros((), dtype=torch.float64)
    signed = (given["average"].mean(0) if "average" in given else zero) + given.get("add", zero[None]).sum(0)
    made = signed - given.get("subtract", zero[None]).sum(0)
    size = sum(rows.norm(dim=-1).sum(0) for rows in given.values())  # what rounding is measured by
    if "orthogonal_to" in given:
        away = torch.nn.functional.normalize(given["orthogonal_to"], dim=-1).transpose(0, 1)  # [layers + 1, k, hidden]
        inside = torch.linalg.pinv(away, rtol=1e-6) @ (away @ made[..., None])
        made = made - inside[..., 0]
    made = torch.where(made.norm(dim=-1, keepdim=True) > 1e-9 * size[:, None], made, zero)
    if not made.any():
        raise UserError("nothing is left of these vectors: the combination is zero at every layer")
    return made.float()


def describe(
    recipe: Mapping[str, Sequence[Fingerprint]], abouts: Sequence[About | None], trait: str, kind: str
) -> About:
    """The metadata of a combination: its recipe as the method, and of the model what all vectors that went in agree on.

    Args:
        recipe: by role, what went in.
        abouts: of all that went in.
    """
    told = {}
    for name in COMMON:
        values = {getattr(about, name) if about else "" for about in abouts}
        told[name] = values.pop() if len(values) == 1 else ""
    return About(trait=trait, kind=kind, method=f"share_vectors.py combine {to_json(plain(recipe))}", **told)
