"""Fetch a model from the Hugging Face hub into a folder: the files that inference needs, and no others.

    python download_hf_models.py --model_name Qwen/Qwen3-1.7B --local_dir models/Qwen/Qwen3-1.7B

Files that are there already are not fetched again, so the same command goes on after an interruption. Gated and
private models need HF_TOKEN in .env (see .env.example).
"""

import os
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from persona_vectors import cli
from persona_vectors.errors import UserError
from persona_vectors.results import make_folder
from persona_vectors.settings import load_dotenv

# Config, tokenizer, chat template, and the code of models that bring their own (it runs with --trust_remote_code only).
BESIDES = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.py", "LICENSE*", "README.md")
SAFETENSORS = ("*.safetensors",)
PICKLED = ("pytorch_model*.bin", "adapter_model*.bin")
# Second copies of the weights, in the layout of the maker's own code.
COPIES = ("consolidated*", "*.fp16.*", "*.fp32.*")


def main(model_name: str, local_dir: str, revision: str = "main"):
    """Download a model.

    Args:
        model_name: the model on the hub, owner/name.
        local_dir: folder to put it in.
        revision: branch, tag or commit.
    """
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", model_name):
        raise UserError(f"'{model_name}' is not a model on the hub: owner/name, e.g. Qwen/Qwen3-1.7B")
    load_dotenv()  # before huggingface_hub is imported: it reads HF_ENDPOINT and HF_HUB_OFFLINE then
    if not os.environ.get("HF_TOKEN", "").strip():
        os.environ.pop("HF_TOKEN", None)  # an empty line of .env is no token
    folder = Path(local_dir)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--local_dir {local_dir} is a file")

    from huggingface_hub import HfApi, snapshot_download

    with _sorting_errors(model_name, revision):
        info = HfApi().model_info(model_name, revision=revision, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        names = needed(list(sizes))
        if not any(fnmatch(name, pattern) for name in names for pattern in (*SAFETENSORS, *PICKLED)):
            raise UserError(
                f"{model_name} holds no weights that can be used here (*.safetensors or pytorch_model*.bin)"
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


class _sorting_errors:
    """Turns what the hub's client says of a model that cannot be had into one line that says what to do."""

    def __init__(self, model_name: str, revision: str) -> None:
        self.name, self.revision = model_name, revision

    def __enter__(self) -> None: ...

    def __exit__(self, kind, error, _traceback) -> None:
        if error is None or not isinstance(error, Exception) or isinstance(error, UserError):
            return
        told = self._tell(error)
        if told:
            raise UserError(told) from error

    def _tell(self, error: Exception) -> str | None:
        from huggingface_hub import constants, errors, get_token

        page = f"{constants.ENDPOINT}/{self.name}"
        token = get_token()
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, errors.GatedRepoError):
            do = "wait for access, or ask for it there" if token else "put HF_TOKEN into .env (see .env.example)"
            return f"{self.name} is gated: accept its terms at {page} and {do}"
        if isinstance(error, errors.RevisionNotFoundError):
            return f"{self.name} has no revision '{self.revision}'; {page}/tree/main lists its branches and tags"
        if isinstance(error, errors.RepositoryNotFoundError) or (status == 401 and not token):
            known = "HF_TOKEN may not see it" if token else "it is private: then put HF_TOKEN into .env"
            return f"{constants.ENDPOINT} has no model {self.name}; check the name, or {known}"
        if status == 401:
            return f"{constants.ENDPOINT} refuses the token; check HF_TOKEN"
        if status is not None:
            return f"{constants.ENDPOINT} answered HTTP {status} for {self.name}; try again later: the command goes on"
        if isinstance(error, errors.OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
            return f"cannot fetch {self.name}: HF_HUB_OFFLINE is set; unset it, or use a folder that has the model"
        if isinstance(error, (OSError, *_connection_errors())):
            first_line = str(error).strip().split("\n")[0]
            return (
                f"cannot fetch {self.name} from {constants.ENDPOINT}: {first_line}; the same command goes on from there"
            )
        return None


def _connection_errors() -> tuple[type[Exception], ...]:
    """What the hub client's HTTP library raises without a network; which library that is, is the client's choice."""
    from huggingface_hub.errors import HfHubHTTPError

    return tuple(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")


if __name__ == "__main__":
    cli.run(main)
