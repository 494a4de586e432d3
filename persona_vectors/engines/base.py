"""The interface that all engines share: requests in, answers out as each one finishes.

An engine turns token ids into token ids. It knows nothing about traits, judges or files. Nothing outside it depends on
whether transformers or vLLM does the work.
"""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from persona_vectors.errors import UserError
from persona_vectors.files.fingerprints import sha256
from persona_vectors.files.messages import Message
from persona_vectors.models import chat_template
from persona_vectors.models.reasoning import declared_by

if TYPE_CHECKING:  # torch takes seconds to import; command lines are checked without it
    from persona_vectors.models.loading import ModelPath
    from persona_vectors.steering.intervention import Intervention


OVERFLOW = (
    "the model's activations overflow in {dtype}, or its steering is too strong: its logits are no numbers; use "
    "--dtype bfloat16 or float32, or smaller coefficients"
)


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters. The defaults are the paper's: temperature 1, the full distribution.

    Attributes:
        max_tokens: longest answer, in tokens. It ends earlier at a stop token (see :func:`stop_ids`).
        temperature: 0 is greedy decoding.
        top_p: probability mass of nucleus sampling; 1 keeps the whole distribution.
        min_tokens: no stop token is drawn before this many tokens.

    Example:
        Sampling(max_tokens=200, temperature=0.0)
    """

    max_tokens: int = 1000
    temperature: float = 1.0
    top_p: float = 1.0
    min_tokens: int = 1


@dataclass(frozen=True, eq=False)
class Request:
    """A request for one answer.

    Attributes:
        key: the caller's name for the request, returned with the answer.
        prompt_ids: token ids of the whole templated prompt, special tokens included.
        interventions: steering of this sequence only; other requests of the batch have their own.
        seed: seeds the sampling of this answer, so that it does not depend on the rest of the batch.

    Example:
        Request("evil_0|0", prompt_ids, (Intervention(20, vectors[20], coef=1.5),), seed=request_seed(0, "evil_0|0"))
    """

    key: str
    prompt_ids: list[int]
    interventions: "tuple[Intervention, ...]" = ()
    seed: int = 0

    @property
    def prompt_length(self) -> int:
        """How many of the tokens count as the prompt."""
        return len(self.prompt_ids)


@dataclass(frozen=True)
class Answer:
    """One finished answer.

    Attributes:
        key: the request's key.
        text: the answer, without special tokens and without ``reasoning``.
        token_ids: all generated tokens, those of the reasoning included.
        finish_reason: ``stop`` (at a stop token) or ``length``.
        reasoning: the thoughts before the answer, or "".
    """

    key: str
    text: str
    token_ids: list[int]
    finish_reason: str
    reasoning: str = ""

    @classmethod
    def of(cls, request: Request, token_ids: list[int], finish_reason: str, tokenizer) -> "Answer":
        """Decode generated tokens into an answer; engines make text nowhere else.

        It ends before a text that begins the next question (:func:`chat_template.stop_texts`), whatever follows.
        """
        number = tokens_to_stop(tokenizer, request.prompt_ids, token_ids)
        if number is None:
            last = tokenizer.added_tokens_decoder.get(token_ids[-1]) if finish_reason == "stop" and token_ids else None
            # decoding leaves an end that is not marked special in the text
            said = token_ids if last is None or last.special else token_ids[:-1]
            reasoning, text = declared_by(tokenizer).split(request.prompt_ids, said)
            return cls(request.key, text, token_ids, finish_reason, reasoning)
        token_ids = token_ids[:number]
        reasoning, text = declared_by(tokenizer).split(request.prompt_ids, token_ids)
        answer = before_stop(tokenizer, request.prompt_ids, text)
        return cls(request.key, text if answer is None else answer, token_ids, "stop", reasoning)


class Engine(Protocol):
    """The protocol that :class:`HFEngine` (``engines.hf``) and :class:`VLLMEngine` (``engines.vllm.engine``) implement.

    Example:
        for answer in engine.generate(requests, Sampling(max_tokens=200)):
            print(answer.key, answer.text)
    """

    name: str
    tokenizer: object

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Answer]:
        """Yield one answer for each request, in the order in which they finish."""
        ...

    def switch_to(self, path: "ModelPath", longest: int | None) -> bool:
        """Go on with another model, sequences of at most ``longest`` tokens; False (and as before) where that cannot be."""
        ...

    def close(self) -> None:
        """Release memory and processes. The engine cannot be used afterwards."""
        ...


def request_seed(seed: int, key: str) -> int:
    """A seed of 63 bits for one request, the same on every machine and in every batch."""
    return int(sha256(f"{seed}|{key}")[:16], 16) >> 1


def named_stop_ids(own: int | list[int] | None, tokenizer) -> list[int]:
    """Ids of the tokens that a model's files call ends, sorted: the model's and the tokenizer's.

    Args:
        own: ``eos_token_id`` of the model's generation config: an id, several, or None.
    """
    own = own if isinstance(own, list) else [own]
    return sorted({token for token in [*own, tokenizer.eos_token_id] if token is not None})


def stop_ids(own: int | list[int] | None, tokenizer) -> list[int]:
    """Ids of the tokens that end an answer, sorted: those of :func:`named_stop_ids`, and the end of a turn.

    Files may name the end of a text alone (Phi 3 and early Llama 3, base models under a chat template): the model would
    go on with turns of its own making. So where the chat template writes none of their ends between an answer and the
    next question, the first special token that it writes there is one, unless it may stand between thoughts and answer.

    Args:
        own: ``eos_token_id`` of the model's generation config: an id, several, or None.

    Example:
        stop_ids(model.generation_config.eos_token_id, tokenizer)
    """
    named = named_stop_ids(own, tokenizer)
    following = chat_template.special_after_an_answer(tokenizer)
    if not following or set(following) & set(named) or declared_by(tokenizer).marks.code_of(following[0]) is not None:
        return named
    return sorted([*named, following[0]])


def tokens_to_stop(tokenizer, prompt_ids: Sequence[int], ids: Sequence[int]) -> int | None:
    """How many of the generated tokens there are up to the one that completes a stop text; None without any.

    The line break that a prompt ends with counts as the beginning of a stop text.
    """
    stops = chat_template.stop_texts(tokenizer)
    if not stops:
        return None
    lead = _lead(tokenizer, prompt_ids)

    def stopped(number: int) -> bool:
        text = lead + tokenizer.decode(ids[:number], skip_special_tokens=True)
        return any(stop in text for stop in stops)

    return bisect.bisect_left(range(len(ids)), True, key=stopped) if stopped(len(ids)) else None


def before_stop(tokenizer, prompt_ids: Sequence[int], text: str) -> str | None:
    """A generated text up to the first stop text, without the white space before that; None without any."""
    lead = _lead(tokenizer, prompt_ids)
    places = [(lead + text).find(stop) for stop in chat_template.stop_texts(tokenizer)]
    found = [place for place in places if place >= 0]
    return text[: max(0, min(found) - len(lead))].rstrip() if found else None


def _lead(tokenizer, prompt_ids: Sequence[int]) -> str:
    return "\n" if tokenizer.decode(prompt_ids[-1:]).endswith("\n") else ""


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
