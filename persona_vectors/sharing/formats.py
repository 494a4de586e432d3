"""Vector files with metadata: a safetensors file beside each .pt file of the published toolkit.

There is one file per vector, ``<trait>_<kind>.safetensors``, with one float32 tensor [layers + 1, hidden_size]. Its
header records model, trait and method. Works on local files; knows nothing about hubs.
"""

import json
import logging
import math
import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from persona_vectors import __version__
from persona_vectors.errors import UserError
from persona_vectors.files.atomic import replacing
from persona_vectors.models import basename
from persona_vectors.sharing.quality import parse
from persona_vectors.traits.artifact import check_name
from persona_vectors.vectors.storage import (
    KINDS,
    check_vector_folder,
    load_vectors,
    save_vectors,
    split_key,
    vector_name,
)

logger = logging.getLogger(__name__)

LAYERS = (
    "row l is the output of decoder block l-1, blocks counted from 0; row 0 is the embedding, the last row after the "
    "final norm"
)
METHOD = "mean over effective positive answers minus mean over negative ones (arXiv 2507.21509, section 2.2)"
ENDINGS = (".pt", ".safetensors")  # if both exist, the .pt file is read: other tools rewrite only that one


@dataclass(frozen=True)
class About:
    """The metadata of a vector file. All values are text, as safetensors requires; "" means unknown.

    Attributes:
        model: as the user named it.
        revision: the model's commit on the hub.
        architecture: transformers' ``model_type``.
        kind: ``response_avg_diff``, ``prompt_avg_diff`` or ``prompt_last_diff``.
        threshold: trait score that makes a pair effective; ``effective_pairs`` of ``pairs`` were.
        min_coherence: least coherence of both answers of an effective pair; 0 where it was not looked at.
        dtype: the dtype in which the model ran; the vector itself is float32.
        mean_norms: the mean norm of the model's activations by row, separated by commas; see :func:`read_norms`.
        quality: the vector's card as JSON; see :mod:`persona_vectors.sharing.quality`.

    Example:
        About(model="Qwen/Qwen2.5-7B-Instruct", trait="evil", kind="response_avg_diff", threshold="50")
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
    min_coherence: str = ""
    mean_norms: str = ""
    quality: str = ""
    library: str = f"persona_vectors {__version__}"


def name_of(path: str | Path) -> tuple[str, str]:
    """``(trait, kind)`` of a file name ``<trait>_<kind>.<ending>``.

    Raises:
        UserError: the name is not of that form.

    Example:
        name_of("vectors/evil_response_avg_diff.pt")  # ("evil", "response_avg_diff")
    """
    stem = vector_name(path)
    for kind in KINDS:
        if stem.endswith(f"_{kind}") and len(stem) > len(kind) + 1:
            return stem.removesuffix(f"_{kind}"), kind
    raise UserError(f"{path}: the name of a vector file is <trait>_<kind>, kind one of {', '.join(KINDS)}")


def about_model(path, config, dtype: str) -> dict[str, str]:
    """The fields of :class:`About` that come from a loaded model: name, revision on the hub, architecture, dtype.

    Example:
        About(trait="evil", kind="response_avg_diff", **about_model(path, model.config, "bfloat16"))
    """
    revision = getattr(config, "_commit_hash", None) or ""
    name = path.basename if Path(path.name).exists() else path.name  # do not publish a local path
    dtype = f"{dtype}, weights in 4 bits" if path.load_in_4bit else dtype
    return {"model": name, "revision": revision, "architecture": config.model_type, "dtype": dtype}


def save_shared(vectors, path: str | Path, about: About) -> None:
    """Write float32 [layers + 1, hidden] and its metadata as safetensors, atomically.

    Raises:
        ValueError: the vectors hold NaN or infinity.

    Example:
        save_shared(vectors, "evil_response_avg_diff.safetensors", About(trait="evil", kind="response_avg_diff"))
    """
    if not vectors.isfinite().all():
        raise ValueError(f"refusing to save NaN or infinity to {path}")
    check_vector_folder(Path(path).parent)
    with replacing(path) as beside:
        beside.write_bytes(shared_content(vectors, about))


def shared_content(vectors, about: About) -> bytes:
    """The bytes of the safetensors file of float32 [layers + 1, hidden] and its metadata; the same in every process.

    Example:
        Path("evil_response_avg_diff.safetensors").write_bytes(shared_content(vectors, about))
    """
    from safetensors.torch import save

    return _ordered(save({"vectors": vectors.float().contiguous()}, metadata=asdict(about)))


def _ordered(content: bytes) -> bytes:
    """A safetensors file with sorted header keys, for reproducible bytes: the library varies the metadata's order."""
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the format starts tensors at a multiple of 8 bytes
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def save_both(vectors, folder: str | Path, about: About) -> list[Path]:
    """Write ``<trait>_<kind>.pt`` and ``.safetensors``; returns both paths.

    Example:
        pt, safetensors = save_both(vectors, "my_vectors", About(trait="evil", kind="response_avg_diff"))
    """
    stem = Path(folder) / f"{about.trait}_{about.kind}"
    paths = [stem.with_name(f"{stem.name}.pt"), stem.with_name(f"{stem.name}.safetensors")]
    save_vectors(vectors, paths[0])
    save_shared(vectors, paths[1], about)
    return paths


def read_about(path: str | Path) -> About | None:
    """The metadata of a safetensors file; None if it is not this toolkit's. Other entries are ignored.

    Raises:
        UserError: the file cannot be read, or its metadata names an impossible trait or kind.

    Example:
        read_about("persona_vectors/toy/evil_response_avg_diff.safetensors").model
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file: {error}") from error
    return about_from(metadata, path)


def about_from(metadata: dict[str, str], path: str | Path) -> About | None:
    """Parse the metadata read from ``path``, which may come from any program; None if it is not this toolkit's."""
    known = {field.name: metadata[field.name] for field in fields(About) if field.name in metadata}
    if "trait" not in known or "kind" not in known:
        return None
    check_name(known["trait"])  # both become parts of file names
    if known["kind"] not in KINDS:
        raise UserError(f"{path}: its metadata says kind '{known['kind'][:40]}'; known are {', '.join(KINDS)}")
    return About(**known)


def read_shared(path: str | Path):
    """``(vectors, about)`` of a .pt or .safetensors file: float32 [layers + 1, hidden] and an :class:`About` or None.

    A .pt file has no metadata of its own; it gets that of the safetensors file beside it, if both hold equal numbers. A card
    (``quality``) of other vectors is left out, which is logged.

    Example:
        vectors, about = read_shared("persona_vectors/toy/evil_response_avg_diff.pt")
    """
    vectors = load_vectors(path)
    path, key = split_key(path)
    described = path.with_suffix(".safetensors")
    if key or not described.is_file() or not (path == described or load_vectors(described).equal(vectors)):
        return vectors, None
    about = read_about(described)
    if about and about.quality and parse(about.quality, vectors) is None:
        logger.warning(f"{described}: the card in its metadata is left out: it is none of this vector")
        about = replace(about, quality="")
    return vectors, about


def norms_text(norms) -> str:
    """Mean norms [layers + 1] as :attr:`About.mean_norms` has them.

    Example:
        norms_text([1.5, 20.25])  # "1.5,20.25"
    """
    return ",".join(f"{float(norm):.6g}" for norm in norms)


def read_norms(path: str | Path) -> list[float] | None:
    """The mean norm of the model's activations at each row of a vector file, as its metadata tells it; None if it does not.

    They are those of :func:`persona_vectors.vectors.norms.mean_norms`. Metadata that cannot be read tells nothing.

    Example:
        read_norms("persona_vectors/toy/evil_response_avg_diff.pt")  # [3.1, 4.9, ...]
    """
    try:
        vectors, about = read_shared(path)
        norms = [float(text) for text in about.mean_norms.split(",")] if about and about.mean_norms else []
    except ValueError:  # UserError is one
        return None
    return norms if len(norms) == len(vectors) and all(0 < norm < math.inf for norm in norms) else None


def check_recordable(path: str | Path) -> Path:
    """The file beside a vector file that its metadata go into, or would.

    Raises:
        UserError: a name that is not <trait>_<kind>, one tensor of a dict, or a file there that is of another vector.

    Example:
        check_recordable("evil_response_avg_diff.pt")  # Path("evil_response_avg_diff.safetensors")
    """
    file, key = split_key(path)
    beside = file.with_suffix(".safetensors")
    if key or file.suffix not in ENDINGS:
        raise UserError(f"{path}: metadata go beside a file of one vector; share_vectors.py import makes one")
    name_of(file)
    if beside.is_file() and read_shared(path)[1] is None:
        raise UserError(f"{beside} is of another vector than {path}, or of another program: nothing is written into it")
    return beside


def record_norms(path: str | Path, norms, told: dict[str, str]) -> Path:
    """Add mean norms [layers + 1] to the metadata beside a vector file, which is made if there is none; returns its path.

    Args:
        told: of :func:`about_model`, for a file that has none yet.

    Example:
        record_norms("evil_response_avg_diff.pt", norms, about_model(path, model.config, "bfloat16"))
    """
    beside = check_recordable(path)
    vectors, about = read_shared(path)
    if about is None:
        trait, kind = name_of(path)
        about = About(trait=trait, kind=kind, method="", **told)
    elif about.model and basename(about.model) != basename(told["model"]):
        logger.warning(
            f"{beside} says that its vector is of {about.model}; the norms written into it are of {told['model']}"
        )
    save_shared(vectors, beside, replace(about, mean_norms=norms_text(norms)))
    return beside


def vector_files(folder: str | Path, kind: str | None = None) -> list[Path]:
    """The vector files of a folder, sorted by name; for a vector in both formats, the .pt file.

    Raises:
        UserError: there is no such folder, or no vector in it.

    Example:
        vector_files("persona_vectors/toy", kind="response_avg_diff")
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
