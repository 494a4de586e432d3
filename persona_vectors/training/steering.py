"""The steering that a training config asks for, as interventions on all tokens.

Knows configs and vector files; the hooks are in :mod:`persona_vectors.steering.hooks`.
"""

from persona_vectors.errors import UserError
from persona_vectors.models.loading import Shape
from persona_vectors.steering.intervention import Intervention
from persona_vectors.steering.vector_rows import VectorRows
from persona_vectors.training.config import SteeringConfig
from persona_vectors.vectors.storage import check_fit


def interventions(steering: SteeringConfig | None, shape: Shape) -> list[Intervention]:
    """One intervention per layer and vector; none where ``steering`` is None.

    ``steer`` (section 5.2): add coef * v_l at the output of block l-1; ``incremental`` (J.3): coef * (v_l - v_(l-1)),
    at every layer 1..L-1 unless ``layers`` says which. ``ablate`` (CAFT): project the vectors' directions out; several of
    one layer are made orthonormal first, so that the whole subspace goes, whatever the angle between them.

    Raises:
        UserError: a vector file that is missing, broken or of another model, or a layer that does not exist.
    """
    made: list[Intervention] = []
    if steering is None:
        return made
    layers = steering.layers or list(range(1, shape.layers))
    files = [VectorRows.load(path) for path in steering.paths]
    highest = shape.layers - 1 if steering.incremental else shape.layers  # the last row has no increment
    for file in files:
        check_fit(file.path, file.vectors, shape.layers, shape.hidden, layers, flag="steering_config.layers:")
    if max(layers) > highest:
        raise UserError(f"steering_config.layers: incremental steering ends at layer {highest}, not {max(layers)}")
    for layer in layers:
        if steering.type == "ablate":
            made += [Intervention(layer, unit, positions="all", kind="ablate") for unit in _orthonormal(files, layer)]
            continue
        for file, coef in zip(files, steering.coefs, strict=True):
            file.check_product(coef, "steering_coef")
            made += file.interventions(layer, coef, "all", steering.incremental)
    return made


def doses(steering: SteeringConfig) -> list[float]:
    """The dose of each vector at each layer (:meth:`VectorRows.dose_of_one`); none where one of them is not known.

    An ablation has none, nor have increments.

    Example:
        doses(read_config("config.json", []).steering)  # [0.62]
    """
    if steering.type == "ablate" or steering.incremental:
        return []
    files = [VectorRows.load(path) for path in steering.paths]
    of_one = [
        (file.dose_of_one(layer), coef)
        for file, coef in zip(files, steering.coefs, strict=True)
        for layer in steering.layers or ()
    ]
    found = [coef * unit for unit, coef in of_one if unit is not None]
    return found if len(found) == len(of_one) else []


def _orthonormal(files: list[VectorRows], layer: int) -> list:
    """An orthonormal basis of what the files' rows span at a layer, [hidden] each."""
    import torch

    rows = torch.stack([file.vectors[layer].double() for file in files])
    _, sizes, basis = torch.linalg.svd(rows / rows.norm(dim=-1, keepdim=True).clamp_min(1e-12), full_matrices=False)
    return [unit.float() for unit, size in zip(basis, sizes, strict=True) if size > 1e-6]
