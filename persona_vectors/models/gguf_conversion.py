"""GGUF files as models: converted once into an ordinary folder, which every stage and both engines load.

    model.gguf -> model.transformers/   config.json, model.safetensors, tokenizer, chat template, gguf.provenance.json

The folder lies beside the file, or in the user's cache folder where that cannot be written (and for files of the hub).
It appears whole or not at all, and is taken up again only if its record has the file's SHA-256 and the versions of the
libraries that converted it. What is in the file, and what is refused of it, is :mod:`persona_vectors.models.gguf_reading`'s.
"""

import logging
import os
import re
import shutil
import time
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from persona_vectors.errors import UserError, first_line
from persona_vectors.files.atomic import locked, replacing_folder
from persona_vectors.files.fingerprints import file_digests
from persona_vectors.files.jsonfile import read_json, write_json
from persona_vectors.models.gguf_reading import IN_PARTS, read_header, read_model, read_tokenizer
from persona_vectors.models.hub import load_hub_settings, sorting_errors

logger = logging.getLogger(__name__)

METHOD = 2  # raised when the same file gives another folder than before
RECORD = "gguf.provenance.json"
LIBRARIES = ("transformers", "gguf")
LARGE = 1_000_000_000  # weights from which bfloat16 is written: a model of 7 billion takes 14 GB instead of 28
ENDING = ".gguf"  # in capitals as well
ON_THE_HUB = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w.-]+):(?P<file>(?:[\w-][^/:]*/)*[\w-][^/:]*\.(?i:gguf))")
PART = re.compile(
    r"(.*)-(\d{5})-of-(\d{5})\.(?i:gguf)"
)  # as llama-gguf-split calls them; only the first says what it is


def is_gguf(name: str) -> bool:
    """Whether a model's name stands for a GGUF file, by its ending: on this machine, or owner/name:file.gguf."""
    return name.rstrip("/").lower().endswith(ENDING) and not Path(name).is_dir()


def check_name(name: str) -> None:
    """Refuse a name that ends in .gguf where there is no such file, nor can be one on the hub; and a part of a file.

    A first part that is on this machine is left to its own metadata.
    """
    there = Path(name).is_file()
    if not there and not ON_THE_HUB.fullmatch(name):
        raise UserError(f"no file at {name}; one on the Hugging Face hub is written owner/name:file.gguf")
    part = PART.fullmatch(name)
    if part and int(part[3]) > 1 and not (there and int(part[2]) == 1):
        raise UserError(IN_PARTS.format(file=name, parts=int(part[3])))


def stem(name: str) -> str:
    """What a GGUF file is called in file and column names: its own name, without folder, repository and ending."""
    return name.rstrip("/").rpartition("/")[2].rpartition(":")[2][: -len(ENDING)]


def files_in(folder: Path) -> list[Path]:
    """The GGUF files of a folder."""
    return sorted(file for file in folder.iterdir() if file.suffix.lower() == ENDING and not file.is_dir())


def only_file_in(folder: Path) -> str | None:
    """The GGUF file of a folder, None where there is none.

    Raises:
        UserError: there are several, or the one is in parts.
    """
    found = files_in(folder)
    parts = [PART.fullmatch(str(file)) for file in found]
    if found and len({part and part[1] for part in parts}) == 1 and parts[0]:
        check_name(str(found[0]))
        return str(found[0])
    if len(found) > 1:
        raise UserError(f"{folder} holds {len(found)} GGUF files; name one: {', '.join(file.name for file in found)}")
    return str(found[0]) if found else None


def folder_of(source: str) -> str:
    """The folder that a GGUF file (a path, or owner/name:file.gguf) is converted into; converts it where need be.

    Raises:
        UserError: no such file, or one that cannot be read or converted.
    """
    match = None if Path(source).is_file() else ON_THE_HUB.fullmatch(source)
    file = fetched(**match.groupdict()) if match else Path(source).absolute()
    return _folder_of(file, bool(match), _state(file))


@lru_cache
def _folder_of(file: Path, of_hub: bool, state: tuple) -> str:
    """:func:`folder_of` a file of this machine, looked up once per process and state of the file."""
    import_gguf()
    digest = sha256(file)
    cached = _cache() / digest[:16] / f"{file.stem}.transformers"
    places = [cached] if of_hub else [file.with_name(f"{file.stem}.transformers"), cached]
    for place in places:
        if is_conversion(place, digest):
            return str(place)
    place = places[0] if os.access(places[0].parent, os.W_OK) else cached

    def wait() -> None:
        logger.warning(f"another run is converting {file.name}; waiting for it")

    with locked(place.with_name(f".{place.name}.lock"), place, wait):
        if not is_conversion(place, digest):  # the run that was waited for has made it
            if place.exists() and not (place / RECORD).is_file():
                raise UserError(f"{place}, where {file.name} is to be converted to, holds something else; move it away")
            started = time.monotonic()
            with replacing_folder(place) as beside:
                size = convert(file, beside, digest, place)
                if _state(file) != state:
                    raise UserError(f"{file} was changed while it was read; run the command again when it is whole")
            logger.warning(f"wrote {place}: {size / 1e6:.0f} MB in {time.monotonic() - started:.0f} s")
    return str(place)


def convert(file: Path, folder: Path, digest: str, place: Path) -> int:
    """Write the model of a GGUF file into ``folder``, with a record; says that it begins. Returns the size in bytes.

    Args:
        digest: the file's SHA-256.
        place: what the folder will be called.

    Raises:
        UserError: the file cannot be read, something in it would be lost, or the disk has no room.
    """
    header = read_header(file)
    dtype = "float32" if header.weights <= LARGE else "bfloat16"
    needed = header.weights * (4 if dtype == "float32" else 2)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{file.name} takes {needed / 1e9:.1f} GB as {dtype}, and {free / 1e9:.1f} GB are free in {place.parent}"
        )
    kinds = ", ".join(header.quantisation)
    logger.warning(f"converting {file.name} ({kinds}) to {dtype}, once: {place}")
    tokenizer = read_tokenizer(file, header)
    model = read_model(file, header, dtype, len(tokenizer))
    before = set(folder.iterdir())
    try:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except Exception as error:  # safetensors and tokenizers have errors of their own for a disk that is full
        raise UserError(f"cannot write {place}: {first_line(error)}") from error
    record = {
        "file": file.name, "sha256": digest, "architecture": header.architecture, "quantisation": header.quantisation,
        "dtype": dtype, "method": METHOD, "libraries": _libraries(),
        "files": {path.name: path.stat().st_size for path in sorted({*folder.iterdir()} - before)},
    }  # fmt: skip
    write_json(folder / RECORD, record)
    return sum(record["files"].values())


def is_conversion(folder: Path, digest: str) -> bool:
    """Whether a folder holds the conversion of the file with this SHA-256 by the libraries of today, all of it."""
    try:
        record = read_json(folder / RECORD)
        files = {folder / name: size for name, size in record["files"].items()}
        whole = all(path.stat().st_size == size for path, size in files.items())
    except (UserError, OSError, KeyError, TypeError, AttributeError):
        return False
    made = {"sha256": digest, "method": METHOD, "libraries": _libraries()}
    return whole and {name: record.get(name) for name in made} == made


def _state(file: Path) -> tuple[int, int, int]:
    try:
        stat = file.stat()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def sha256(file: Path) -> str:
    """The file's SHA-256, in hex; of a large one it is kept for later runs."""
    return file_digests([file])[0]


def fetched(repo: str, file: str) -> Path:
    """A file of a repository on the hub, downloaded unless this machine has it."""
    load_hub_settings()
    from huggingface_hub import constants, errors, hf_hub_download

    with sorting_errors(repo, "main"):
        try:
            return Path(hf_hub_download(repo, file))
        except errors.RemoteEntryNotFoundError as error:
            page = f"{constants.ENDPOINT}/{repo}/tree/main"
            raise UserError(f"{repo} has no file {file}; {page} lists its files") from error


def import_gguf() -> None:
    """Say what to install where the gguf package is missing."""
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise UserError("GGUF files need the package gguf: pip install -r requirements.txt") from error


def _libraries() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES}


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "persona_vectors" / "gguf"
