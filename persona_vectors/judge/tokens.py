"""How many tokens a model behind an endpoint reads: counted without asking it, and without a download.

By the first of these that is there: the model's own tokenizer on this machine (a local folder, or in the hub's cache),
OpenAI's encoding of it (tiktoken, if its file has been fetched before), a tokenizer that is at hand anyway, four characters
to a token. Only the first two are exact; :attr:`Counter.said` says which it is.
"""

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona_vectors.files.fingerprints import sha1
from persona_vectors.models import chat_template
from persona_vectors.settings import endpoint_of

# Of a chat with one message at OpenAI: three around the message, its role, and three that open the reply.
AROUND_A_MESSAGE = 7
CHARACTERS_PER_TOKEN = 4  # of English, roughly
ENCODINGS = "https://openaipublic.blob.core.windows.net/encodings/"


@dataclass(frozen=True)
class Counter:
    """Counts the tokens of calls with one message each.

    Attributes:
        lengths: texts -> tokens of each, nothing added.
        around: tokens that a call adds to its text.
        said: what counts, in words.
        exact: whether the model counts alike.
    """

    lengths: Callable[[Sequence[str]], list[int]]
    around: int
    said: str
    exact: bool

    def total(self, prompts: Sequence[str]) -> int:
        """Tokens that a model reads for so many calls, one for each prompt."""
        return sum(self.lengths(prompts)) + self.around * len(prompts)

    def __call__(self, prompt: str) -> int:
        """Tokens that a model reads for one call."""
        return self.total([prompt])


def counter_of(model: str, at_hand: Any = None, name: str = "") -> Counter:
    """What counts the tokens of calls to ``model`` (as its endpoint names it).

    Args:
        at_hand: a tokenizer that is used where the model's own is not here.
        name: whose it is.

    Example:
        counter = counter_of("gpt-4.1-mini-2025-04-14", tokenizer, "models/toy")
        counter.total(["How evil is this answer?"])
    """
    model = endpoint_of(model).model
    own = _own_tokenizer(model)
    if own is not None:
        return _by_template(own, model)
    encoding = _encoding(model)
    if encoding is not None:
        return Counter(
            lambda texts: [len(ids) for ids in encoding.encode_ordinary_batch(list(texts))],
            AROUND_A_MESSAGE, f"tiktoken's {encoding.name}", True,
        )  # fmt: skip
    if at_hand is not None:
        return Counter(
            lambda texts: [len(ids) for ids in chat_template.token_ids_of(at_hand, texts)],
            AROUND_A_MESSAGE, f"the tokenizer of {name}, since that of {model} is not here: an estimate", False,
        )  # fmt: skip
    return Counter(
        lambda texts: [math.ceil(len(text) / CHARACTERS_PER_TOKEN) for text in texts],
        AROUND_A_MESSAGE, f"{CHARACTERS_PER_TOKEN} characters to a token, since no tokenizer of {model} is here: an estimate", False,
    )  # fmt: skip


def _by_template(tokenizer: Any, model: str) -> Counter:
    def lengths(texts: Sequence[str]) -> list[int]:
        rendered = [chat_template.render(tokenizer, [{"role": "user", "content": text}]) for text in texts]
        return [len(ids) for ids in chat_template.token_ids_of(tokenizer, rendered)]

    return Counter(lengths, 0, f"the tokenizer of {model}", True)


def _own_tokenizer(model: str) -> Any:
    """The tokenizer of a model that is on this machine, with its chat template; None otherwise."""
    if "/" not in model and not Path(model).is_dir():  # a name of an API, and no model of a hub
        return None
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
        chat_template.render(tokenizer, [{"role": "user", "content": "-"}])
    except (OSError, ValueError, KeyError, ImportError):  # what transformers raises for one that is not there
        return None
    return tokenizer


def _encoding(model: str) -> Any:
    """tiktoken's encoding of a model if it is on this machine; None otherwise, and nothing is fetched."""
    try:
        import tiktoken

        name = tiktoken.encoding_name_for_model(model)
    except (ImportError, KeyError):
        return None
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    folder = str(Path(tempfile.gettempdir()) / "data-gym-cache") if folder is None else folder
    fetched = Path(folder) / sha1(f"{ENCODINGS}{name}.tiktoken")  # as tiktoken calls it
    return tiktoken.get_encoding(name) if folder and fetched.is_file() else None
