"""What something is, by its content: files, model folders, texts; and in what two descriptions differ.

A description is a dictionary of names and values; a value that stands for bytes is a :class:`Fingerprint`. What something
is called and where it lies is told to people and never compared: copied, moved or touched, it stays what it is.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona_vectors.errors import UserError
from persona_vectors.files.jsonfile import json_object, write_json
from persona_vectors.files.user_cache import cache_folder

LARGE = 1 << 20  # bytes from which a file's digest is kept for later runs
SETTLED = 5.0  # seconds; a file changed more recently could change again without its times telling
# Files of a model's folder from which nothing is loaded: what a training, a stage, a person or git put there.
BYSTANDER = re.compile(
    r"\..*|LICEN[CS]E.*|NOTICE.*|.*\.(md|png|jpe?g|csv|jsonl|html|log|lock|part|zip|pdf|ipynb|sh)|(.*\.)?provenance\.json"
    r"|training_config\.json|training_args\.bin|trainer_state\.json|toy_model\.json|(optimizer|scheduler|rng_state).*"
)
NOT_COMPARED = ("toolkit", "judge")  # told by a record; how a judge scores is known only when it has been asked


@dataclass(frozen=True)
class Fingerprint:
    """What a file, a folder, a tensor or a text is.

    Attributes:
        name: what people call it.
        id: ``sha256:...`` of its content, or ``commit:...`` of a repository on the hub.
        older: how the toolkit named the same thing in its journals before there were fingerprints.
    """

    name: str
    id: str
    older: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The id without its kind, in hex."""
        return self.id.partition(":")[2]


def sha256(*parts: bytes | str) -> str:
    """The digest of texts and bytes put end to end, in hex."""
    return sha256_of(parts)


def sha1(text: str) -> str:
    """The SHA-1 of a text, in hex: what some caches of other tools call their files. Fingerprints are SHA-256."""
    return hashlib.sha1(text.encode()).hexdigest()


def sha256_of(parts: Iterable[bytes | str]) -> str:
    """:func:`sha256` of parts that come one after another, none of which is kept."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part)
    return digest.hexdigest()


def of_bytes(name: str, *parts: bytes | str) -> Fingerprint:
    """Bytes and texts put end to end."""
    return Fingerprint(name, f"sha256:{sha256(*parts)}")


def of_json(name: str, value: object) -> Fingerprint:
    """A value by its JSON; the order of keys does not count."""
    return of_bytes(name, json.dumps(value, sort_keys=True))


def of_file(path: str | Path) -> Fingerprint:
    """A file by its bytes."""
    return Fingerprint(Path(path).name, f"sha256:{file_digests([path])[0]}")


def of_folder(folder: str | Path, name: str | None = None) -> Fingerprint:
    """The folder of a model or an adapter: config, weights, tokenizer, chat templates, code; every byte of them.

    What else lies there (see ``BYSTANDER``) does not count, nor where an adapter's base lies: the base has a
    fingerprint of its own.
    """
    folder = Path(folder)
    files = [*folder.iterdir(), *folder.glob("additional_chat_templates/*")]
    files = sorted(path for path in files if path.is_file() and not BYSTANDER.fullmatch(path.name))
    digests = dict(zip(files, file_digests(files), strict=True))
    config = folder / "adapter_config.json"
    if config in digests:
        digests[config] = _without_base(config) or digests[config]
    lines = [f"{path.relative_to(folder).as_posix()} {digest}\n" for path, digest in digests.items()]
    return Fingerprint(name or folder.resolve().name, f"sha256:{sha256(*lines)}")


def _without_base(config: Path) -> str | None:
    """The digest of an ``adapter_config.json`` but for the place of its base; None where it cannot be read."""
    content = json_object(config.read_bytes())
    if content is None:
        return None
    content.pop("base_model_name_or_path", None)
    return sha256(json.dumps(content, sort_keys=True))


def of_hub(repository: str) -> Fingerprint:
    """A model on the hub by the commit of its snapshot on this machine, which is the one that would be loaded now.

    The hub is asked whether there is a newer one, as loading asks it; without a network, or offline, the snapshot counts.
    """
    from huggingface_hub import hf_hub_download

    config = hf_hub_download(repository, "config.json")
    return Fingerprint(repository, f"commit:{Path(config).parent.name}")


def file_digests(paths: Sequence[str | Path]) -> list[str]:
    """The sha256 of each file, in hex.

    Digests of large files are kept in the user's cache folder, so that the weights of a model are read once per machine.
    An entry holds for the real path, device, inode, size and both times of a file; the time of its last change cannot
    be set back, and a file that has just been changed is not entered.
    """
    cache = _read_cache()
    found: dict[str, str] = {}
    todo: dict[str, list[int]] = {}
    real = [os.path.realpath(path) for path in paths]
    for path in dict.fromkeys(real):
        state = _state(path)
        if state[0] >= LARGE and cache.get(path, [])[:-1] == state:
            found[path] = cache[path][-1]
        else:
            todo[path] = state
    now = time.time_ns()
    found.update(zip(todo, _digest(todo), strict=True))
    for path, state in todo.items():
        if _state(path) != state:
            raise UserError(f"{path} was changed while it was read; run the command again when it is whole")
    settled = {
        path: [*state, found[path]]
        for path, state in todo.items()
        if state[0] >= LARGE and now - max(state[1:3]) > SETTLED * 1e9
    }
    if settled:
        _write_cache(cache | settled)
    return [found[path] for path in real]


def _state(path: str) -> list[int]:
    try:
        stat = os.stat(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]


def _digest(states: Mapping[str, list[int]]) -> Iterable[str]:
    """Read the files, four at a time; a bar where that takes long."""
    from tqdm import tqdm

    size = sum(state[0] for state in states.values())
    bar = tqdm(total=size, unit="B", unit_scale=True, desc="fingerprints", disable=size < 1 << 30)

    def one(path: str) -> str:
        digest = hashlib.sha256()
        try:
            with open(path, "rb") as file:
                while chunk := file.read(1 << 22):
                    digest.update(chunk)
                    bar.update(len(chunk))
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        return digest.hexdigest()

    with bar, ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, states))


def _cache_path() -> Path:
    return cache_folder() / "fingerprints.json"


def _read_cache() -> dict[str, list]:
    """{real path: [size, times, inode, device, digest]}; what is damaged is left out."""
    try:
        content = json_object(_cache_path().read_bytes()) or {}
        return {path: entry for path, entry in content.items() if re.fullmatch("[0-9a-f]{64}", str(entry[-1]))}
    except (OSError, RuntimeError, LookupError, TypeError):
        return {}


def _write_cache(entries: dict[str, list]) -> None:
    """Keep the entries of files that are still there; a folder that cannot be written is no reason to stop."""
    with suppress(UserError, OSError, RuntimeError):
        write_json(_cache_path(), {file: entry for file, entry in entries.items() if os.path.exists(file)}, None)


def plain(value: object) -> Any:
    """A value of a description as JSON has it."""
    if isinstance(value, Fingerprint):
        return {"name": value.name, "id": value.id}
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def differences(earlier: Mapping, now: Mapping) -> list[str]:
    """What two descriptions differ in, each as "vector was a.pt (1f2e3d), now a.pt (99a8b7)".

    Of records within them, and of parts by the same names, it is what differs there: "judged.evil.scorer was ...".

    Args:
        earlier: as it was read from a file. One without ``method`` was written before there were fingerprints, and is
            compared in what it says.
        now: as it is made now.
    """
    older = "method" in now and "method" not in earlier
    told = NOT_COMPARED if "method" in now else ()  # elsewhere these may be names of columns
    names = [name for name in dict.fromkeys([*now, *earlier]) if name not in told]
    found = []
    for name in names:
        before, after = earlier.get(name), now.get(name)
        if (older and name not in earlier) or same(before, after):
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping) and _are_descriptions(before, after):
            found += [f"{name}.{inner}" for inner in differences(before, after)]
        else:
            found.append(f"{name} was {in_words(before)}, now {in_words(after)}")
    return found


def _are_descriptions(before: Mapping, after: Mapping) -> bool:
    """Whether two values are records, or hold parts by the same names; fingerprints are neither."""
    return ("method" in before and "method" in after) or before.keys() == after.keys() != {"name", "id"}


def same(before: object, now: object) -> bool:
    """Whether a value that was read from a file is the one that it is now."""
    if isinstance(now, Fingerprint) and isinstance(before, str):
        return before in now.older or bool(re.fullmatch("[0-9a-f]{16}", before) and f":{before}" in now.id)
    if isinstance(now, Fingerprint) and isinstance(before, Mapping) and before.get("id") in now.older:
        return True
    if isinstance(now, list | tuple) and isinstance(before, list):
        return len(before) == len(now) and all(map(same, before, now))
    return _bare(before) == _bare(plain(now))


def _bare(value: object) -> object:
    """The JSON of a value without the names in its fingerprints."""
    if isinstance(value, dict):
        return value["id"] if value.keys() == {"name", "id"} else {k: _bare(v) for k, v in value.items()}
    return [_bare(inner) for inner in value] if isinstance(value, list) else value


def in_words(value: object) -> str:
    """A value of a description for people."""
    value = plain(value)
    if isinstance(value, dict) and value.keys() == {"name", "id"}:
        return f"{value['name']} ({value['id'].partition(':')[2][:12]})"
    if isinstance(value, list):
        return f"[{', '.join(map(in_words, value))}]"
    text = "none" if value is None else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
