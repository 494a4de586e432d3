"""Vectors from wherever they are: a file of this toolkit, of llama.cpp, or of a repository on the hub."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from persona_vectors.errors import UserError, suggest
from persona_vectors.sharing.control_vectors import read_control_vector
from persona_vectors.sharing.formats import ENDINGS
from persona_vectors.vectors import storage

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import Tensor

FILES = (*ENDINGS, ".gguf")
_ON_HUB = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?::(?P<file>[^:]+)(?P<key>:.+)?)?")


def load_vectors(path: str | Path, rows: int | None = None, revision: str = "main") -> "Tensor":
    """Vectors as float32 [layers + 1, hidden] on the CPU: row l belongs to the output of block l-1.

    Args:
        path: a ``.pt`` or ``.safetensors`` file, ``file.pt:key`` for one tensor of a dict; a GGUF control vector, of which rows that
            it lacks are zero; or, where no such file exists, ``owner/name`` or ``owner/name:file`` on the Hugging Face hub, which
            is downloaded. Code in a file is never run.
        rows: layers + 1 of the model, for a control vector of another program, which does not say.
        revision: on the hub: branch, tag or commit.

    Raises:
        UserError: nothing there, not readable, of another shape, with NaN or infinity; a repository with several vectors,
            which are named.

    Example:
        >>> loaded = pv.load_vectors("output/example/cheerful_response_avg_diff.safetensors")
        >>> loaded.dtype
        torch.float32
    """
    file, key = storage.split_key(path)
    if Path(path).is_dir():
        found = sorted(each.name for each in Path(path).iterdir() if each.suffix in FILES)
        raise UserError(f"{path} is a folder: name a file in it{_listed(found)}")
    on_hub = _ON_HUB.fullmatch(str(path))
    named = Path(str(path).split(":")[0]).suffix in FILES  # a file's name, and no repository's
    if not file.is_file() and on_hub and not named:
        try:
            file = _fetched(on_hub["repo"], on_hub["file"], revision)
        except UserError as error:
            raise UserError(f"no file at {path}, and as a repository on the hub: {error}") from error
        key = (on_hub["key"] or "").removeprefix(":")
        path = f"{file}:{key}" if key else file
    if file.suffix == ".gguf":
        if key:
            raise UserError(f"{path}: a GGUF control vector holds one vector: leave ':{key}' out")
        return read_control_vector(file, rows)[0]
    return storage.load_vectors(path)


def _fetched(repo: str, file: str | None, revision: str) -> Path:
    """A vector file of a repository on the hub, on this machine; asks what there is only where no whole name is given."""
    from persona_vectors.models.hub import load_hub_settings, sorting_errors

    load_hub_settings()
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    with sorting_errors(repo, revision):
        if file and file.endswith(FILES):
            try:
                return Path(hf_hub_download(repo, file, revision=revision))
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                pass  # said below, with what there is
        names = [name for name in HfApi().list_repo_files(repo, revision=revision) if name.endswith(FILES)]
        stems: dict[str, str] = {}
        for ending in FILES:  # one vector in two formats is one vector
            for name in names:
                if name.endswith(ending):
                    stems.setdefault(name.removesuffix(ending), name)
        if file is None and len(stems) == 1:
            return Path(hf_hub_download(repo, *stems.values(), revision=revision))
        if file in stems:
            return Path(hf_hub_download(repo, stems[file], revision=revision))
    if file is not None:
        raise UserError(
            f"{repo} on the hub has no vector file '{file}'{suggest(Path(file).stem, stems)}{_listed(names)}"
        )
    if not names:
        raise UserError(f"{repo} on the hub holds no vector file ({', '.join(FILES)})")
    raise UserError(f"{repo} on the hub holds {len(stems)} vectors: say which, as {repo}:{names[0]}{_listed(names)}")


def _listed(names: list[str]) -> str:
    return f" (it has {', '.join(names[:12])}{' ...' if len(names) > 12 else ''})" if names else ""
