"""What an OpenAI-compatible endpoint allows, found out step by step from what it refuses.

Endpoints differ: at most 5 alternatives instead of 20, no logprobs, the limit of tokens under another name, no seed, one
temperature only, one reply a call. Knows the parameters of a chat completion and how refusals speak of them; makes no call.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

TOP_LOGPROBS = 20  # as many as OpenAI gives; the published number
FEWER = 5  # what other endpoints allow
DROPPABLE = ("seed", "temperature", "n")


@dataclass(frozen=True)
class Abilities:
    """How a call has to be made.

    Attributes:
        limit: the name of the limit of tokens, ``max_tokens`` or ``max_completion_tokens``.
        top_logprobs: how many alternatives a token may have; 0 where there are no logprobs.
        left_out: which of :data:`DROPPABLE` are not sent.
    """

    limit: str = "max_tokens"
    top_logprobs: int = TOP_LOGPROBS
    left_out: frozenset[str] = frozenset()

    def fit(self, options: dict) -> dict:
        """The options of a call as the endpoint takes them; those that are None are not sent.

        Example:
            >>> Abilities(limit="max_completion_tokens", left_out=frozenset({"seed"})).fit({"max_tokens": 1, "seed": 0})
            {'max_completion_tokens': 1}
        """
        options = {name: value for name, value in options.items() if value is not None and name not in self.left_out}
        if "max_tokens" in options:
            options[self.limit] = options.pop("max_tokens")
        if "top_logprobs" in options:
            options["top_logprobs"] = min(options["top_logprobs"], self.top_logprobs)
            if not self.top_logprobs:
                del options["top_logprobs"], options["logprobs"]
        return options

    def after(self, refusal: str, sent: dict) -> "Abilities | None":
        """The abilities less what a refusal speaks of; None where it speaks of nothing that was sent.

        Example:
            >>> Abilities().after("Unsupported parameter: 'seed'", {"seed": 0}).left_out
            frozenset({'seed'})
        """
        text = refusal.lower()
        if speaks_of_excess(refusal):  # names the limit of tokens, and means its size
            return None
        if "top_logprobs" in sent and "logprob" in text:
            bound = re.search(
                r"(?:less than or equal to|at most|between 0 and|maximum(?: of| is|:)?|up to|<=)\s*(\d+)", text
            )
            fewer = int(bound[1]) if bound else FEWER if "top_logprobs" in text else 0
            return replace(self, top_logprobs=fewer if fewer < sent["top_logprobs"] else 0)
        if "max_completion_tokens" in text and "max_tokens" in sent:
            return replace(self, limit="max_completion_tokens")
        if self.limit in sent and re.search(rf"\b{self.limit}\b", text) and not speaks_of_room(refusal):
            other = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
            return replace(self, limit=other[self.limit])
        for name in DROPPABLE:
            word = (
                rf"\b{name}\b"
                if len(name) > 1
                else rf"['\"`]{name}['\"`]|^{name}\b|\b{name} (?:must|should|has to|>|=)"
            )
            if name in sent and re.search(word, text):
                return replace(self, left_out=self.left_out | {name})
        return None

    def guesses(self) -> Iterator["Abilities"]:
        """What a refusal without a name may have meant: one change at a time, then all of them."""
        if self.top_logprobs > FEWER:
            yield replace(self, top_logprobs=FEWER)
        if self.top_logprobs:
            yield replace(self, top_logprobs=0)
        for name in DROPPABLE:
            if name not in self.left_out:
                yield replace(self, left_out=self.left_out | {name})
        if self.limit == "max_tokens":
            yield replace(self, limit="max_completion_tokens")
        yield Abilities("max_completion_tokens", 0, frozenset(DROPPABLE))

    def __str__(self) -> str:
        """What is not as asked for, in a few words; empty where all is."""
        words = [f"without {name}" for name in DROPPABLE[:2] if name in self.left_out]
        return ", ".join(words)


def speaks_of_room(refusal: str) -> bool:
    """Whether a refusal says that the limit of tokens was too low for an answer (reasoning models)."""
    return bool(
        re.search(r"output limit was reached|higher max_|at least \d+ .*tokens|increase .*max_", refusal.lower())
    )


def speaks_of_excess(refusal: str) -> bool:
    """Whether a refusal says that the limit of tokens was more than the model has room for.

    Example:
        >>> speaks_of_excess("max_tokens is too large: 4096. This model supports at most 2048 completion tokens")
        True
    """
    text = refusal.lower()
    return "token" in text and bool(
        re.search(
            r"too large|(?:cannot|must not) be (?:greater|larger|more) than|maximum context length|\bexceeds?\b", text
        )
    )
