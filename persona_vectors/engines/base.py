"""What every engine takes and gives: requests in, finished answers out as they finish.

An engine turns token ids into token ids. It knows nothing of traits, judges or files, and it alone knows whether
transformers or vLLM does the work.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from persona_vectors.errors import UserError
from persona_vectors.files.fingerprints import sha256
from persona_vectors.files.messages import Message
from persona_vectors.models import chat_template
from persona_vectors.models.reasoning import declared_by

if TYPE_CHECKING:  # torch takes seconds to import, and a command line is checked without it
    from persona_vectors.steering.intervention import Intervention


OVERFLOW = (
    "the model's activations overflow in {dtype}, or its steering is too strong: its logits are no numbers; use "
    "--dtype bfloat16 or float32, or smaller coefficients"
)


@dataclass(frozen=True)
class Sampling:
    """How to draw tokens. The method's own: temperature 1 (0 for single greedy answers), the whole distribution.

    ``max_tokens`` bounds the answer; it ends earlier at any of the model's own stop tokens
    (all ``eos_token_id`` of its generation config), never before ``min_tokens``.
    """

    max_tokens: int = 1000
    temperature: float = 1.0
    top_p: float = 1.0
    min_tokens: int = 1


@dataclass(frozen=True, eq=False)
class Request:
    """One answer to make.

    Attributes:
        key: the caller's name for it, given back with the answer.
        prompt_ids: token ids of the whole templated prompt, special tokens included.
        interventions: what is done to this sequence alone; other requests of the same batch have their own.
        seed: draws the answer's tokens, so that it does not depend on what else is in the batch.
    """

    key: str
    prompt_ids: list[int]
    interventions: "tuple[Intervention, ...]" = ()
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """One finished answer: its text without special tokens and without the thoughts before it, which are ``reasoning``;
    the ids of all tokens, and ``stop`` or ``length``."""

    key: str
    text: str
    token_ids: list[int]
    finish_reason: str
    reasoning: str = ""

    @classmethod
    def of(cls, request: Request, token_ids: list[int], finish_reason: str, tokenizer) -> "Answer":
        """The answer to a request that these tokens are: the one place where engines make text."""
        reasoning, text = declared_by(tokenizer).split(request.prompt_ids, token_ids)
        return cls(request.key, text, token_ids, finish_reason, reasoning)


class Engine(Protocol):
    """Implemented by :mod:`persona_vectors.engines.hf` and :mod:`persona_vectors.engines.vllm.engine`."""

    name: str
    tokenizer: object

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Answer]:
        """Yield every request's answer once, in the order in which they finish."""
        ...

    def close(self) -> None:
        """Give memory and processes back. The engine is of no use afterwards."""
        ...


def request_seed(seed: int, key: str) -> int:
    """A seed of 63 bits for one request, the same on every machine and in every batch."""
    return int(sha256(f"{seed}|{key}")[:16], 16) >> 1


def stop_ids(own: int | list[int] | None, tokenizer) -> list[int]:
    """The tokens that end an answer: the model's own (its generation config's ``eos_token_id``) and the tokenizer's."""
    own = own if isinstance(own, list) else [own]
    return sorted({token for token in [*own, tokenizer.eos_token_id] if token is not None})


def prompts_of(
    tokenizer,
    conversations: Sequence[list[Message]],
    longest: int | None,
    name: str = "conversation {}",
    enable_thinking: bool = False,
) -> tuple[list[str], list[list[int]]]:
    """The templated prompts and their token ids; refuses one that leaves no room for an answer within ``longest`` tokens."""
    prompts = [chat_template.render(tokenizer, messages, enable_thinking) for messages in conversations]
    ids = chat_template.token_ids_of(tokenizer, prompts)
    for number, row in enumerate(ids):
        if longest is not None and len(row) >= longest:
            raise UserError(f"{name.format(number)} has {len(row)} tokens: the model takes {longest}, answer included")
    return prompts, ids
