"""Vector files and the projection maths.

A vector file holds a float tensor [layers + 1, hidden_size]; row l is the mean difference at the output of block
l-1, row 0 at the embedding. The maths is the paper's, written once (section 3.3, appendix C).
"""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

from persona_vectors.errors import UserError
from persona_vectors.fingerprints import Fingerprint, of_bytes, sha256

KINDS = ("prompt_avg_diff", "response_avg_diff", "prompt_last_diff")
PROJECTION_TYPES = ("proj", "prompt_last_proj", "prompt_avg_proj", "cos_sim")


def load_vectors(path: str | Path):
    """Read a vector file (.pt or .safetensors) as float32 [layers + 1, hidden] on the CPU.

    Never unpickles code. Raises :class:`UserError` for a file that is missing, unreadable, of another shape, or
    that holds NaN or infinity.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise UserError(f"no vector file at {path}; generate_vec.py makes one")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            tensors = list(load_file(path).values())
            vectors = tensors[0] if len(tensors) == 1 else None
        else:
            vectors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken or hostile file makes the readers raise
        reason = str(error).strip().split("\n")[0][:200]
        raise UserError(f"{path} is not a readable tensor file: {type(error).__name__} {reason}".rstrip()) from error
    if not isinstance(vectors, torch.Tensor) or vectors.ndim != 2 or not vectors.is_floating_point():
        raise UserError(f"{path} must hold one float tensor [layers + 1, hidden_size]")
    vectors = vectors.detach().float()
    if not vectors.isfinite().all():
        raise UserError(f"{path} holds NaN or infinity; it came from no or broken answers: make it again")
    return vectors


def fingerprint(path: str | Path, vectors) -> Fingerprint:
    """What a vector file holds, [layers + 1, hidden], whatever its format, precision and name."""
    content = of_bytes(Path(path).name, str(tuple(vectors.shape)), vectors.float().contiguous().numpy().tobytes())
    return replace(content, older=(sha256(Path(path).read_bytes())[:16],)) if Path(path).is_file() else content


def check_fit(
    path: str | Path, vectors, layers: int, hidden: int, used_layers: list[int], lowest: int = 1, flag: str = "--layer"
) -> None:
    """Refuse a vector file of another model, and layers (given by ``flag``) that this one has not or that are zero."""
    if vectors.shape[1] != hidden:
        raise UserError(f"{path} is {vectors.shape[1]} wide but the model's residual stream is {hidden}: wrong model?")
    if vectors.shape[0] != layers + 1:
        raise UserError(
            f"{path} has {vectors.shape[0]} rows, a model of {layers} layers needs {layers + 1}: wrong model?"
        )
    for layer in used_layers:
        if not lowest <= layer <= layers:
            raise UserError(f"{flag} {layer} does not exist: this model has layers {lowest}..{layers}")
        if not vectors[layer].any():
            raise UserError(f"row {layer} of {path} is zero: nothing can be projected onto it or steered with it")


def short_names(paths: list[str]) -> list[str]:
    """Names of vector files for figures: without folders and endings, and without the kind where all share it."""
    names = [Path(path).stem for path in paths]
    for kind in KINDS:
        if all(name.endswith(f"_{kind}") for name in names):
            names = [name.removesuffix(f"_{kind}") for name in names]
    if len(set(names)) < len(names):
        names = [f"{Path(path).parent.name}/{name}" for path, name in zip(paths, names, strict=True)]
    return names


def chosen_layer(value: object, trait: str) -> int:
    """A trait's layer from ``--layer``: a number, or the JSON of eval.select_layer ({trait} is filled in)."""
    text = str(value).strip().replace("{trait}", trait)
    if not text.endswith(".json"):
        if not re.fullmatch(r"\d{1,9}", text):
            raise UserError(f"--layer takes one whole number or a best.json of eval.select_layer, not '{text[:80]}'")
        return int(text)
    try:
        layer = json.loads(Path(text).read_text())["layer"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{text} is not a recommendation of eval.select_layer: {error}") from error
    if not isinstance(layer, int):
        raise UserError(f"{text} recommends no single layer for {trait} (it says {layer}); give --layer as a number")
    return layer


def save_vectors(vectors, path: str | Path) -> None:
    """Write a float32 tensor [layers + 1, hidden] so that the file appears whole or not at all."""
    import torch

    from persona_vectors.results import replacing

    if not vectors.isfinite().all():
        raise ValueError(f"refusing to save NaN or infinity to {path}")
    content = io.BytesIO()  # torch writes a file's name into it, and of a full disk it says something else
    torch.save(vectors.float().contiguous(), content)
    with replacing(path) as beside:
        beside.write_bytes(content.getbuffer())


def incremental(vectors):
    """Layer-incremental vectors for steering all layers at once: v_l - v_(l-1) (section J.3).

    [L + 1, hidden] -> [L - 1, hidden]: row l-1 is to be added at layer l, for l = 1..L-1; they sum to v_(L-1) - v_0,
    so each depth gets in total what one vector would have added there. Layer L is left out: its row is taken
    after the final norm, in another scale than the stream that a block writes to.
    """
    return vectors[1:-1] - vectors[:-2]


def project(activations, vector):
    """Projection of a onto v, a.v / |v|: [..., hidden] and [hidden] -> [...]."""
    return (activations * vector).sum(dim=-1) / vector.norm(dim=-1)


def cosine(activations, vector):
    """Cosine of the angle between a and v: [..., hidden] and [hidden] -> [...]."""
    return project(activations, vector) / activations.norm(dim=-1)
