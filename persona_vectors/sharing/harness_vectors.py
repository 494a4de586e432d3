"""Write and read the steering files of lm-evaluation-harness (its model type ``steered``).

A ``.pt`` file: a dict of places in the model, ``layers.3``, each with ``steering_vector`` [hidden],
``steering_coefficient`` and ``action`` (``add``). lm-eval adds coefficient times vector to the output of that block,
blocks counted from 0, at every position of prompt and answer, padding too: ``layers.k`` is row k + 1 of a vector file, and
the steering is our ``all``. Our own files also hold, beside these, which model and trait they are of.
"""

import io
import re
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_vectors.errors import UserError, first_line
from persona_vectors.files.atomic import replacing
from persona_vectors.sharing.formats import About, about_from

if TYPE_CHECKING:
    from torch import Tensor

ENDING = "lm_eval.pt"
ABOUT_KEY = "persona_vectors"


@lru_cache(16)
def blocks_name(architecture: str) -> str:
    """What a model of an architecture (transformers' ``model_type``) calls its decoder blocks, below its base model.

    Example:
        >>> blocks_name("qwen2"), blocks_name("gpt2")
        ('layers', 'h')
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from persona_vectors.models.decoder import find_blocks

    try:
        config = AutoConfig.for_model(architecture)
        with torch.device("meta"):  # no weights
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # whatever a model says of a config that it does not know
        raise UserError(
            f"lm-eval needs the name of the blocks, and of {architecture} it is not known: {first_line(error)}"
        ) from error
    blocks = find_blocks(model)
    return next(name for name, module in model.base_model.named_modules() if module is blocks)


def save_harness_vector(vectors: "Tensor", path: str | Path, about: About, layer: int, coef: float = 1.0) -> None:
    """Write row ``layer`` of [layers + 1, hidden] with a coefficient.

    Raises:
        UserError: a layer that does not exist, or no architecture to name the place in the model by.

    Example:
        save_harness_vector(vectors, "evil_layer20.lm_eval.pt", about, layer=20, coef=1.5)
    """
    import torch

    last = len(vectors) - 1
    if not 1 <= layer <= last:
        raise UserError(f"--layer {layer} does not exist: this model has layers 1..{last}")
    if not vectors[layer].any():
        raise UserError(f"row {layer} of the vector is zero: {path} would steer nothing")
    if not about.architecture:
        raise UserError(f"{path} needs the name of an architecture, which the vector file does not know: --model_name")
    place = {
        "steering_vector": vectors[layer].float().clone(),
        "steering_coefficient": float(coef),
        "action": "add",
        ABOUT_KEY: asdict(about) | {"rows": str(last + 1), "quality": ""},  # a card is of all layers
    }
    content = io.BytesIO()
    torch.save({f"{blocks_name(about.architecture)}.{layer - 1}": place}, content)
    with replacing(path) as beside:
        beside.write_bytes(content.getbuffer())


def read_harness_content(path: str | Path) -> dict | None:
    """What a steering file of lm-eval holds; None for any other file."""
    import torch

    if Path(path).suffix not in (".pt", ".pth") or not Path(path).is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # said by whoever reads it as a vector file
        return None
    places = list(content.values()) if isinstance(content, dict) else []
    return content if places and all(isinstance(p, dict) and "steering_vector" in p for p in places) else None


def read_harness_vector(
    content: dict, path: str | Path, rows: int | None = None
) -> "tuple[Tensor, About | None, dict[int, float]]":
    """The vectors of a steering file; rows that it lacks are zero.

    Args:
        content: of :func:`read_harness_content`.
        rows: L + 1 of the model; required for files of others, which do not record it.

    Returns:
        ``(vectors, about, coefs)``: float32 [rows, hidden]; an :class:`About`, or None of another's file; the coefficient
        at each layer that the file has, which is not multiplied in.

    Raises:
        UserError: a place that is no decoder block, another action than ``add``, vectors that fit neither each other nor ``rows``.
    """
    import torch

    found: dict[int, Tensor] = {}
    coefs: dict[int, float] = {}
    told: Any = {}
    for name, place in content.items():
        block = re.fullmatch(r"(?:[^\W\d]\w*\.)*(\d+)", str(name))  # one number: experts of a block have two
        if block is None:
            raise UserError(f"{path}: '{name}' is no decoder block, as layers.3 is; blocks alone can be steered here")
        if place.get("action") != "add" or place.get("bias") is not None or place.get("head_index") is not None:
            raise UserError(f"{path}: {name} does something else than to add a vector to the residual stream")
        vector, coef = place["steering_vector"], place.get("steering_coefficient", 1.0)
        flat = isinstance(vector, torch.Tensor) and vector.is_floating_point() and vector.numel() == vector.shape[-1]
        if not flat or not vector.isfinite().all() or not isinstance(coef, int | float):
            raise UserError(f"{path}: {name} must hold a float tensor [hidden] of finite numbers and a coefficient")
        layer = int(block[1]) + 1
        if layer in found:
            raise UserError(f"{path} has two vectors for block {layer - 1}: {name} is the second")
        found[layer], coefs[layer] = vector.detach().float().flatten(), float(coef)
        told = place.get(ABOUT_KEY) or told
    if len({len(vector) for vector in found.values()}) != 1:
        raise UserError(f"{path} must hold vectors of one width")
    about = {str(key): str(text) for key, text in told.items()} if isinstance(told, dict) else {}
    said = int(about.pop("rows", "0")) or None if about.get("rows", "0").isdecimal() else None
    if said and rows and said != rows:
        raise UserError(f"{path} is of a model of {said - 1} layers, not {rows - 1}: wrong model?")
    rows = rows or said
    if rows is None:
        raise UserError(f"{path} does not say how many layers its model has: pass --model_name")
    if max(found) > rows - 1:
        raise UserError(f"{path} steers block {max(found) - 1}, but a model of {rows - 1} layers ends at {rows - 2}")
    vectors = torch.zeros(rows, len(next(iter(found.values()))))
    for layer, vector in found.items():
        vectors[layer] = vector
    return vectors, about_from(about, path), dict(sorted(coefs.items()))
