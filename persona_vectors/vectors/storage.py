"""Vector files and the projection maths.

A vector file holds a float tensor [layers + 1, hidden_size]; row l is the mean difference at the output of block
l-1, row 0 at the embedding. The maths is the paper's, written once (section 3.3, appendix C).
"""

import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_vectors.errors import UserError, first_line, suggest
from persona_vectors.files.fingerprints import Fingerprint, of_bytes, sha256
from persona_vectors.files.jsonfile import read_json

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import Tensor

KINDS = ("prompt_avg_diff", "response_avg_diff", "prompt_last_diff")
PROJECTION_TYPES = ("proj", "prompt_last_proj", "prompt_avg_proj", "cos_sim")


def split_key(path: str | Path) -> tuple[Path, str]:
    """The file and the key of a vector's path: ``all.pt:evil`` is the tensor evil of all.pt, ``evil.pt`` has no key ("").

    A file that is called so as a whole, colon and all, is that file.
    """
    text = str(path)
    ends = [match.start() for match in re.finditer(":", text)]
    end = next((end for end in [len(text), *reversed(ends)] if Path(text[:end]).is_file()), len(text))
    return Path(text[:end]), text[end + 1 :]


def is_missing(path: str | Path) -> bool:
    """Whether there is no file at a vector's path.

    Example:
        is_missing("persona_vectors/toy/evil_response_avg_diff.pt")
    """
    return not split_key(path)[0].is_file()


def vector_name(path: str | Path) -> str:
    """A vector's name in columns and figures: its file's, without the ending, or its key in the file."""
    file, key = split_key(path)
    return re.sub(r"[^\w.+-]+", "_", key) if key else file.stem


def digest(path: str | Path) -> str:
    """The sha256 of a vector file's bytes, and of the key in it where one is named, in hex."""
    file, key = split_key(path)
    return sha256(file.read_bytes(), f":{key}" if key else "")


def load_vectors(path: str | Path) -> "Tensor":
    """Read a vector file (.pt or .safetensors) as float32 [layers + 1, hidden] on the CPU.

    Of a file with a dict of tensors, ``path:key`` is one of them (``path:key:key`` in a dict of dicts).
    Never unpickles code. Raises :class:`UserError` for a file that is missing, unreadable, of another shape, or
    that holds NaN or infinity.
    """
    import torch

    file, key = split_key(path)
    if not file.is_file():
        raise UserError(f"no vector file at {file}; generate_vec.py makes one")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: object = load_file(file)
            if isinstance(content, dict) and len(content) == 1 and not key:
                content = next(iter(content.values()))
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken or hostile file makes the readers raise
        raise UserError(f"{file} is not a readable tensor file: {_unreadable(error, file)}") from error
    vectors, path = (_under(content, key, file), path) if key else (content, file)
    if (
        not isinstance(vectors, torch.Tensor)
        or not (vectors.layout == torch.strided and not vectors.is_meta)
        or not (vectors.ndim == 2 and vectors.is_floating_point())
    ):
        raise UserError(f"{path} must hold one float tensor [layers + 1, hidden_size]{_other_content(vectors, path)}")
    vectors = vectors.detach().float()
    if not vectors.isfinite().all():
        raise UserError(f"{path} holds NaN or infinity; it came from no or broken answers: make it again")
    return vectors


def _unreadable(error: Exception, file: Path) -> str:
    """Why a file could not be read, and what to do where that is known."""
    if file.suffix in (".npy", ".npz"):
        return "it is NumPy's; save it as torch.save(torch.from_numpy(array), 'vector.pt')"
    if type(error).__name__ == "UnpicklingError":  # of pickle, which nothing here imports
        return (
            "it holds more than tensors, and files are not allowed to run code here; where you trust it, open it by its own "
            "program and save the tensor alone (torch.save)"
        )
    return " ".join(dict.fromkeys((type(error).__name__, first_line(error, 200))))


def _under(content: object, key: str, file: Path) -> object:
    """What a file's dict has under a key, or under keys separated by colons."""
    found = _flat(content)
    if not found:
        raise UserError(f"{file} holds no dict of tensors: leave ':{key}' out")
    if key not in found:
        raise UserError(f"{file} has no key '{key}'{suggest(key, found)}: it has {_some(found)}")
    return found[key]


def _flat(content: object, before: str = "") -> dict[str, object]:
    """Everything in a dict, and in dicts inside it, by its keys put together with colons."""
    found: dict[str, object] = {}
    for key, value in content.items() if isinstance(content, dict) else ():
        found[f"{before}{key}"] = value
        if before.count(":") < 4:  # deeper is no vector file, and may be a dict that holds itself
            found |= _flat(value, f"{before}{key}:")
    return found


def _other_content(content: object, path: str | Path) -> str:
    """What was found where a tensor [layers + 1, hidden] should be, and what to do, to end a refusal with."""
    import torch

    inside: Mapping[Any, object] = _flat(content) or (
        dict(enumerate(content)) if isinstance(content, list | tuple) else {}
    )
    tensors = {key: value for key, value in inside.items() if isinstance(value, torch.Tensor)}
    fitting = [key for key, tensor in tensors.items() if tensor.ndim == 2 and len(tensor) > 1 and isinstance(key, str)]
    if fitting:
        return f"; it holds a dict: say which as {path}:{fitting[0]} (it has {_some(fitting)})"
    if len(tensors) > 1 and all(tensor.ndim and tensor.numel() == tensor.shape[-1] for tensor in tensors.values()):
        return (
            f", not one vector per layer (it has {_some(tensors)}): stack them, row l for the output of block l (counted from 1) "
            "and row 0 for the embedding, and save that tensor"
        )
    if isinstance(content, torch.Tensor) and (content.layout != torch.strided or content.is_meta):
        return f", not a {'tensor without values' if content.is_meta else 'sparse tensor (.to_dense() makes it a plain one)'}"
    if isinstance(content, torch.Tensor):
        one = ", one layer's vector" if content.ndim == 1 else ""
        return f", not a tensor {list(content.shape)} of {str(content.dtype).removeprefix('torch.')}{one}"
    if isinstance(content, dict):
        return f", not a dict without such a tensor (it has {_some(content)})"
    return f", not something of type {type(content).__name__}"


def _some(keys: Iterable[object]) -> str:
    names = [str(key)[:40] for key in keys]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def fingerprint(path: str | Path, vectors: "Tensor") -> Fingerprint:
    """What a vector file holds, [layers + 1, hidden], whatever its format, precision and name."""
    content = of_bytes(Path(path).name, str(tuple(vectors.shape)), vectors.float().contiguous().numpy().tobytes())
    file, _ = split_key(path)
    return replace(content, older=(digest(path)[:16],)) if Path(file).is_file() else content


def check_fit(
    path: str | Path,
    vectors: "Tensor",
    layers: int,
    hidden: int,
    used_layers: list[int],
    lowest: int = 1,
    flag: str = "--layer",
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
    from persona_vectors.plots import labels

    names = [vector_name(path) for path in paths]
    for kind in KINDS:
        if all(name.endswith(f"_{kind}") for name in names):
            names = [name.removesuffix(f"_{kind}") for name in names]
    return labels(paths, names)


def chosen_layer(value: object, trait: str) -> int:
    """A trait's layer from ``--layer``: a number, or the JSON of eval.select_layer ({trait} is filled in)."""
    text = str(value).strip().replace("{trait}", trait)
    if not text.endswith(".json"):
        if not re.fullmatch(r"\d{1,9}", text):
            raise UserError(f"--layer takes one whole number or a best.json of eval.select_layer, not '{text[:80]}'")
        return int(text)
    recommendation = read_json(
        text, missing="{path} is not a recommendation of eval.select_layer: there is no such file"
    )
    if "layer" not in recommendation:
        raise UserError(f"{text} is not a recommendation of eval.select_layer: it has no 'layer'")
    layer = recommendation["layer"]
    if not isinstance(layer, int):
        raise UserError(f"{text} recommends no single layer for {trait} (it says {layer}); give --layer as a number")
    return layer


def check_vector_folder(folder: str | Path) -> None:
    """Refuse to write vectors into a folder of the package's code.

    Vectors lie in ``persona_vectors/<model>/``, beside those folders: a model may be called like one of them.
    """
    whole = Path(folder).resolve()
    inside = [part for part in (whole, *whole.parents) if (part / "__init__.py").is_file()]
    roots = [part for part in inside if part.name == "persona_vectors"]
    if roots and (inside[0] != roots[0] or whole == roots[0]):
        name = "<model>" if whole == roots[0] else f"{inside[0].name}-vectors"
        raise UserError(
            f"{folder} is a folder of this toolkit's code; vectors need one of their own, as {roots[0].name}/{name}"
        )


def save_vectors(vectors: "Tensor", path: str | Path) -> None:
    """Write a tensor [layers + 1, hidden] as float32 into a ``.pt`` file, which appears whole or not at all.

    Raises:
        UserError: a folder of the toolkit's own code, a name that promises another format, no such tensor, NaN or
            infinity.

    Example:
        >>> pv.save_vectors(loaded, "output/example/cheerful.pt")
    """
    import torch

    from persona_vectors.files.atomic import replacing

    check_vector_folder(Path(path).parent)
    if Path(path).suffix in (".safetensors", ".gguf"):
        raise UserError(f"{path}: vectors are saved as .pt; share_vectors.py export writes {Path(path).suffix}")
    if not isinstance(vectors, torch.Tensor) or vectors.ndim != 2 or not vectors.is_floating_point():
        raise UserError(f"{path} is to hold one float tensor [layers + 1, hidden_size]{_other_content(vectors, path)}")
    if not vectors.isfinite().all():
        raise UserError(f"refusing to save NaN or infinity to {path}")
    content = io.BytesIO()  # torch writes a file's name into it, and of a full disk it says something else
    torch.save(vectors.detach().cpu().float().contiguous(), content)
    with replacing(path) as beside:
        beside.write_bytes(content.getbuffer())


def random_like(vectors: "Tensor", seed: int) -> "Tensor":
    """The control of a steering: random directions, each with the norm of its row of ``vectors`` [layers + 1, hidden].

    Example:
        control = random_like(load_vectors("evil_response_avg_diff.pt"), seed=1)
    """
    import torch

    drawn = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm(dim=-1, keepdim=True) * vectors.norm(dim=-1, keepdim=True)


def incremental(vectors: "Tensor") -> "Tensor":
    """Layer-incremental vectors for steering all layers at once: v_l - v_(l-1) (section J.3).

    [L + 1, hidden] -> [L - 1, hidden]: row l-1 is to be added at layer l, for l = 1..L-1; they sum to v_(L-1) - v_0,
    so each depth gets in total what one vector would have added there. Layer L is left out: its row is taken
    after the final norm, in another scale than the stream that a block writes to.
    """
    return vectors[1:-1] - vectors[:-2]


def project(activations: "Tensor", vector: "Tensor") -> "Tensor":
    """Projection of a onto v, a.v / |v|: [..., hidden] and [hidden] -> [...]."""
    return (activations * vector).sum(dim=-1) / vector.norm(dim=-1)


def cosine(activations: "Tensor", vector: "Tensor") -> "Tensor":
    """Cosine of the angle between a and v: [..., hidden] and [hidden] -> [...]."""
    return project(activations, vector) / activations.norm(dim=-1)
