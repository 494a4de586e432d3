"""The judge: expected scores from a model behind an OpenAI-compatible endpoint.

Appendix B of the paper: the judge is asked for one number, and the score is the mean of the numbers 0-100 among the
top 20 first tokens, weighted by probability. That needs a tokenizer that writes 57 as one token. Most open models
write 5, 7; :meth:`Judge.connect` finds out with a probe and takes a method that is right for them.

Knows what to ask for and the arithmetic of scores; knows nothing of traits or files. The endpoint and its faults are
:mod:`persona_vectors.chat_client`'s.
"""

import asyncio
import math
import re
from dataclasses import dataclass

from persona_vectors.chat_client import ChatClient, Counts, GivenUp
from persona_vectors.errors import UserError
from persona_vectors.settings import shown

KINDS = ("0_100", "0_10", "binary", "binary_text")
MINIMUM_MASS = 0.25  # less probability than this on usable replies is no score (published code)
METHODS = {
    "token": "expected value over the first token's top 20 logprobs",
    "digits": "this judge splits numbers into digits: expected value over whole numbers, digit by digit",
    "samples": "this judge gives no usable logprobs: mean of 20 sampled numbers",
}


def expected_number(weights: dict[str, float], highest: int) -> float | None:
    """Mean of the whole numbers 0..``highest`` among the replies, weighted by probability; None under 0.25 mass.

    It lies between the smallest and the largest of them, as a mean does: without rounding's 100.00000000000001.
    """
    numbers = [(int(text), p) for text, p in weights.items() if re.fullmatch(r"[0-9]{1,3}", text)]
    numbers = [(number, p) for number, p in numbers if number <= highest]
    mass = math.fsum(p for _, p in numbers)
    if mass < MINIMUM_MASS:
        return None
    mean = math.fsum(number * p for number, p in numbers) / mass
    return float(min(max(mean, min(numbers)[0]), max(numbers)[0]))


def score_0_100(weights: dict[str, float]) -> float | None:
    """The method's score, 0-100."""
    return expected_number(weights, 100)


def score_0_10(weights: dict[str, float]) -> float | None:
    """Published kind ``0_10``: digits 0-9; None where REFUSAL is likelier than any of them."""
    if weights.get("REFUSAL", 0) > max((weights.get(str(digit), 0) for digit in range(10)), default=0):
        return None
    return expected_number(weights, 9)


def score_binary(weights: dict[str, float]) -> float | None:
    """Published kind ``binary``: P(YES) / (P(YES) + P(NO)); None where REFUSAL is likelier than both."""
    yes, no, refusal = (weights.get(word, 0.0) for word in ("YES", "NO", "REFUSAL"))
    if refusal > max(yes, no) or yes + no < MINIMUM_MASS:
        return None
    return yes / (yes + no)


def score_binary_text(text: str) -> float | None:
    """Published kind ``binary_text``: 1 for ``<answer>YES</answer>``, 0 for NO, None for REFUSAL or anything else."""
    found = re.search(r"<answer>(REFUSAL|NO|YES)</answer>", text)
    return {"YES": 1.0, "NO": 0.0}.get(found.group(1)) if found else None


@dataclass
class Judge:
    """A judge model. Use from one event loop: ``await connect()``, then any number of ``await score(...)`` at once.

    Attributes:
        model: as the endpoint names it.
        kind: one of :data:`KINDS`.
        max_concurrent: calls under way at a time.
    """

    model: str
    kind: str = "0_100"
    max_concurrent: int = 100
    method: str = "token"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"the judge knows the kinds {', '.join(KINDS)}, not '{self.kind}'")
        self.client = ChatClient(self.model, self.max_concurrent, timeout=60, who="the judge")

    @property
    def counts(self) -> Counts:
        """What happened to the calls of this run."""
        return self.client.counts

    async def connect(self) -> None:
        """Open the client and probe the judge: wrong key, unknown model or dead server end here, before any work.

        Sets :attr:`method`. The probe asks for the number 57: a judge that writes it as one token is scored as
        published; one that begins with 5 is scored digit by digit if the endpoint can go on from a given beginning
        (``continue_final_message``: vLLM, SGLang), else by sampling.
        """
        self.client.open()
        if self.kind == "binary_text":
            return
        ask = [{"role": "user", "content": "Reply with the number 57 and nothing else."}]
        try:
            weights = await self._first_token(ask)
            if weights is None:
                self.method = "samples"
            elif weights.get("5", 0) > weights.get("57", 0):
                self.method = "samples"
                following = await self._first_token(ask, beginning="5")
                if following and following.get("7", 0) >= 0.5:
                    self.method = "digits"
        except GivenUp as error:
            where = f"{self.model} at {shown(self.client.base_url)}"
            raise UserError(f"the judge {where} cannot be used: {error}") from error

    async def close(self) -> None:
        """Close the client's connections."""
        await self.client.close()

    async def score(self, prompt: str) -> float | None:
        """The judge's score for a filled-in judge prompt; None where it refuses or gives no number.

        Raises:
            GivenUp: this call failed for good (after retries).
            UserError: no call can succeed (key or model refused, or a long row of failures).
        """
        messages = [{"role": "user", "content": prompt}]
        if self.kind == "binary_text":
            score = score_binary_text((await self._texts(messages, n=1))[0])
        elif self.kind in ("binary", "0_10") or self.method == "token":
            function = {"0_100": score_0_100, "0_10": score_0_10, "binary": score_binary}[self.kind]
            score = function(await self._weights(messages))
        elif self.method == "digits":
            score = score_0_100(await self._numbers(messages, "", 1.0))
        else:
            texts = await self._texts(messages, n=20, max_tokens=8)
            numbers = [re.match(r"\s*([0-9]{1,3})(?![0-9])", text) for text in texts]
            weights: dict[str, float] = {}
            for number in filter(None, numbers):
                weights[number.group(1)] = weights.get(number.group(1), 0) + 1 / len(texts)
            score = score_0_100(weights)
        self.counts.unscored += score is None
        return score

    async def _numbers(self, messages: list[dict], beginning: str, p: float) -> dict[str, float]:
        """Probability of every whole number that begins with ``beginning``, itself of probability ``p``.

        A number ends where the next token is not a digit. Branches under 1 % are left out.
        """
        following = await self._weights(messages, beginning)
        digits = {t: q for t, q in following.items() if re.fullmatch("[0-9]+", t) and int(beginning + t) <= 100}
        weights = {beginning: p * max(0.0, 1 - sum(digits.values()))} if beginning else {}
        longer = []
        for token, q in digits.items():
            number = beginning + token
            if number.startswith("0") or int(number) * 10 > 100:  # no digit can follow
                weights[number] = weights.get(number, 0) + p * q
            elif p * q >= 0.01:
                longer.append(self._numbers(messages, number, p * q))
        for branch in await asyncio.gather(*longer):
            for number, q in branch.items():
                weights[number] = weights.get(number, 0) + q
        return weights

    async def _weights(self, messages: list[dict], beginning: str = "") -> dict[str, float]:
        """:meth:`_first_token` of a judge that gives logprobs; a reply without them is a fault, not a refusal."""
        weights = await self._first_token(messages, beginning)
        if weights is None:
            raise GivenUp("the reply holds no logprobs")
        return weights

    async def _first_token(self, messages: list[dict], beginning: str = "") -> dict[str, float] | None:
        """Probability of each of the 20 likeliest first tokens (stripped of spaces); None if there are no logprobs.

        ``beginning`` is text that the answer has already, for endpoints that can go on from it.
        """
        further = {}
        if beginning:
            messages = [*messages, {"role": "assistant", "content": beginning}]
            further = {"continue_final_message": True, "add_generation_prompt": False}
        choices = await self._call(messages, max_tokens=1, logprobs=True, top_logprobs=20, **further)
        weights: dict[str, float] = {}
        try:
            logprobs = choices[0].get("logprobs")
            if logprobs is None or not logprobs.get("content"):
                return None
            for entry in logprobs["content"][0]["top_logprobs"] or []:
                token, logprob = entry["token"].strip(), entry["logprob"]
                p = math.exp(min(0.0, logprob)) if math.isfinite(logprob) else 0.0
                weights[token] = weights.get(token, 0) + p
        except (AttributeError, TypeError, LookupError) as error:  # a server may reply anything
            raise GivenUp(f"the reply's logprobs cannot be read: {error}") from error
        return weights or None

    async def _texts(self, messages: list[dict], n: int, max_tokens: int | None = None) -> list[str]:
        """``n`` replies; asked for one by one where the endpoint gives fewer than ``n`` at a time."""
        temperature = 0 if n == 1 else 1
        choices = await self._call(messages, temperature=temperature, n=n, max_tokens=max_tokens)
        rest = [
            self._call(messages, temperature=temperature, max_tokens=max_tokens, seed=k)
            for k in range(1, n - len(choices) + 1)
        ]
        for more in await asyncio.gather(*rest):
            choices = [*choices, *more]
        try:
            return [str(choice["message"]["content"] or "") for choice in choices]
        except (TypeError, LookupError) as error:
            raise GivenUp(f"the reply holds no message: {error}") from error

    async def _call(self, messages: list[dict], **options) -> list:
        """One chat completion's choices, as certain and repeatable as the endpoint can be unless told otherwise."""
        return await self.client.call(messages, **{"temperature": 0, "seed": 0, **options})
