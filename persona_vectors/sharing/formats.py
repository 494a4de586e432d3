"""Vectors that say what they are: safetensors files with metadata, beside the .pt files of the published toolkit.

One file per vector, ``<trait>_<kind>.safetensors``, with one float32 tensor [layers + 1, hidden_size] and, in its
header, which model, trait and method it belongs to. Knows files and their metadata; knows nothing of hubs.
"""

import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from persona_vectors import __version__
from persona_vectors.errors import UserError
from persona_vectors.files.atomic import replacing
from persona_vectors.traits.artifact import check_name
from persona_vectors.vectors.storage import (
    KINDS,
    check_vector_folder,
    load_vectors,
    save_vectors,
    split_key,
    vector_name,
)

LAYERS = (
    "row l is the output of decoder block l-1, blocks counted from 0; row 0 is the embedding, the last row after the "
    "final norm"
)
METHOD = "mean over effective positive answers minus mean over negative ones (arXiv 2507.21509, section 2.2)"
ENDINGS = (".pt", ".safetensors")  # of a vector in both formats the first is read: other tools rewrite that one alone


@dataclass(frozen=True)
class About:
    """What a vector file says of itself; "" is what nobody knows any more. All of it is text, as safetensors demands.

    Attributes:
        model: as the user named it; ``revision``: its commit on the hub; ``architecture``: transformers' model_type.
        kind: ``response_avg_diff``, ``prompt_avg_diff`` or ``prompt_last_diff``.
        dtype: in which the model ran; the vector itself is float32.
        threshold: of the trait score that made a pair count; ``effective_pairs`` of ``pairs`` did.
    """

    model: str = ""
    revision: str = ""
    architecture: str = ""
    trait: str = ""
    kind: str = ""
    layers: str = LAYERS
    method: str = METHOD
    threshold: str = ""
    effective_pairs: str = ""
    pairs: str = ""
    dtype: str = ""
    library: str = f"persona_vectors {__version__}"


def name_of(path: str | Path) -> tuple[str, str]:
    """``(trait, kind)`` in a file name ``<trait>_<kind>.<ending>``.

    Raises:
        UserError: the name is not of that form.
    """
    stem = vector_name(path)
    for kind in KINDS:
        if stem.endswith(f"_{kind}") and len(stem) > len(kind) + 1:
            return stem.removesuffix(f"_{kind}"), kind
    raise UserError(f"{path}: the name of a vector file is <trait>_<kind>, kind one of {', '.join(KINDS)}")


def about_model(path, config, dtype: str) -> dict[str, str]:
    """The part of :class:`About` that a loaded model knows: name, revision on the hub, architecture, dtype."""
    revision = getattr(config, "_commit_hash", None) or ""
    name = path.basename if Path(path.name).exists() else path.name  # where it lies is nobody else's business
    return {"model": name, "revision": revision, "architecture": config.model_type, "dtype": dtype}


def save_shared(vectors, path: str | Path, about: About) -> None:
    """Write float32 [layers + 1, hidden] with its metadata as safetensors, whole or not at all."""
    from safetensors.torch import save

    if not vectors.isfinite().all():
        raise ValueError(f"refusing to save NaN or infinity to {path}")
    check_vector_folder(Path(path).parent)
    with replacing(path) as beside:
        beside.write_bytes(_ordered(save({"vectors": vectors.float().contiguous()}, metadata=asdict(about))))


def _ordered(content: bytes) -> bytes:
    """A safetensors file with its header's keys sorted: the library writes metadata in another order every time."""
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # as the format has it: tensors begin at a multiple of 8
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def save_both(vectors, folder: str | Path, about: About) -> list[Path]:
    """Write ``<trait>_<kind>.pt`` and ``.safetensors``; returns both paths."""
    stem = Path(folder) / f"{about.trait}_{about.kind}"
    paths = [stem.with_name(f"{stem.name}.pt"), stem.with_name(f"{stem.name}.safetensors")]
    save_vectors(vectors, paths[0])
    save_shared(vectors, paths[1], about)
    return paths


def read_about(path: str | Path) -> About | None:
    """The metadata of a safetensors file; None where it has none of ours. Further entries are left aside."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file: {error}") from error
    return about_from(metadata, path)


def about_from(metadata: dict[str, str], path: str | Path) -> About | None:
    """The metadata that came with ``path``, which may be anybody's; None where it is not ours."""
    known = {field.name: metadata[field.name] for field in fields(About) if field.name in metadata}
    if "trait" not in known or "kind" not in known:
        return None
    check_name(known["trait"])  # both become parts of file names
    if known["kind"] not in KINDS:
        raise UserError(f"{path}: its metadata says kind '{known['kind'][:40]}'; known are {', '.join(KINDS)}")
    return About(**known)


def read_shared(path: str | Path):
    """``(vectors, about)`` of a .pt or .safetensors file.

    A .pt file has no room for metadata: the safetensors file beside it speaks for it if it holds the same numbers.
    ``about`` is None where nothing is known but what the file is called.
    """
    vectors = load_vectors(path)
    path, key = split_key(path)
    described = path.with_suffix(".safetensors")
    if key or not described.is_file() or not (path == described or load_vectors(described).equal(vectors)):
        return vectors, None
    return vectors, read_about(described)


def vector_files(folder: str | Path, kind: str | None = None) -> list[Path]:
    """The vector files of a folder, by name; of a vector in both formats the .pt file.

    Raises:
        UserError: there is no such folder, or no vector in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; scripts/generate_vec.sh makes persona_vectors/<model>/")
    kinds = KINDS if kind is None else (kind,)
    pattern = re.compile(rf".+_({'|'.join(kinds)})")
    found: dict[str, Path] = {}
    for ending in ENDINGS:
        for path in sorted(folder.glob(f"*{ending}")):
            if pattern.fullmatch(path.stem):
                found.setdefault(path.stem, path)
    if not found:
        raise UserError(f"{folder} holds no vector file <trait>_{{{','.join(kinds)}}}.pt or .safetensors")
    return [found[stem] for stem in sorted(found)]
