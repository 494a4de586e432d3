"""Chat completions from an OpenAI-compatible endpoint, with its faults sorted.

What can go wrong with a call is one of three things: the client's own retries mend it; this call alone is lost
(:class:`GivenUp`); or no call can succeed (:class:`UserError`). Knows HTTP and that sorting; knows nothing of scores,
traits or files. Reports hold neither request bodies nor keys.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona_vectors.errors import UserError
from persona_vectors.judge.abilities import Abilities, speaks_of_excess, speaks_of_room
from persona_vectors.models.chat_template import split_reasoning
from persona_vectors.settings import judge_endpoint, without_secrets

if TYPE_CHECKING:
    import openai

# Seconds between the beginnings of two calls: about what one costs this process. Calls that begin together end together,
# and a hundred replies that come at once are all read before the first new call is made, wave after wave.
GAP = 0.001


@dataclass
class Counts:
    """What happened to the calls of a run.

    Attributes:
        calls: HTTP calls; retried: retries among them; given_up: calls that failed for good.
        unscored: replies without a score; unreadable: those among them that are no refusal; said: one of these.
        cached: scores, refusals among them, that were paid for earlier.
        tokens_in, tokens_out: read and written, as the endpoint says; unmetered: replies of which it says nothing.
    """

    calls: int = 0
    retried: int = 0
    unscored: int = 0
    unreadable: int = 0
    said: str = ""
    given_up: int = 0
    last_error: str = ""
    cached: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    unmetered: int = 0

    def meter(self, reply: object) -> None:
        """Add the tokens that a reply says it used."""
        usage = reply.get("usage") if isinstance(reply, dict) else None
        read, written = (
            (usage.get("prompt_tokens"), usage.get("completion_tokens")) if isinstance(usage, dict) else (None, None)
        )
        if isinstance(read, int) and isinstance(written, int):
            self.tokens_in, self.tokens_out = self.tokens_in + read, self.tokens_out + written
        else:
            self.unmetered += 1


class GivenUp(Exception):
    """One call failed for good; what it was to bring stays missing and a rerun asks again."""


class Refused(GivenUp):
    """The endpoint refuses the request itself (HTTP 400 and the like), not its moment; ``sent`` are its options."""

    sent: dict


class ChatClient:
    """One model behind an endpoint. Use from one event loop: ``open()``, then any number of ``call(...)`` at once.

    Args:
        model: as the endpoint names it; ``name:model`` for another endpoint than OPENAI_BASE_URL's, see
            :func:`persona_vectors.settings.judge_endpoint`.
        max_concurrent: calls under way at a time.
        timeout: seconds after which a call counts as failed and is tried again.
        who: what the model is to the user, in reports ("the judge ...").
        needs_key: False for a client that makes no call.

    Attributes:
        model, base_url, key, variable: of its :class:`persona_vectors.settings.Endpoint`.
        abilities: what the endpoint allows. Until they are :attr:`settled`, a refused parameter is changed or left out
            and the call is made again; afterwards every call is made alike, since scores of other calls would differ.
    """

    def __init__(self, model: str, max_concurrent: int, timeout: float, who: str, needs_key: bool = True) -> None:
        endpoint = judge_endpoint(model, needs_key)
        self.model, self.base_url, self.key = endpoint.model, endpoint.base_url, endpoint.key
        self.variable = endpoint.variable
        self.max_concurrent, self.timeout, self.who = max_concurrent, timeout, who
        self.counts = Counts()
        self._failures_in_a_row = 0
        self.abilities, self.settled = Abilities(), False

    def open(self) -> None:
        """Open the client; no call is made yet."""
        import openai

        # The client's own retries: connection errors, time-outs, 408, 409, 429 and 5xx, with jitter and Retry-After.
        # Over aiohttp: with a hundred connections the default transport spends several times as long on each call.
        self.api = openai.AsyncOpenAI(
            base_url=self.base_url,
            api_key=self.key,
            max_retries=6,
            timeout=self.timeout,
            http_client=openai.DefaultAioHttpClient(),
        )
        self._raw = openai.HttpxBinaryResponseContent  # the reply's bytes as they are
        self._next = 0.0
        self._slots = asyncio.Semaphore(self.max_concurrent)

    async def close(self) -> None:
        """Close the client's connections."""
        await self.api.close()

    async def call(self, messages: list[dict], **options: Any) -> list[dict]:
        """One chat completion's choices, as the endpoint's JSON has them; options that are None are not sent.

        Raises:
            GivenUp: this call failed for good (after retries).
            UserError: no call can succeed (key or model refused, or a long row of failures).
        """
        while True:
            try:
                return await self._post(messages, options)
            except Refused as error:
                if self.settled:
                    raise
                if self.abilities.fit(options) == error.sent:  # else another call has learnt it meanwhile
                    fewer = self.abilities.after(str(error), error.sent)
                    if fewer is None:
                        raise
                    self.abilities = fewer

    async def settle(self, messages: list[dict], **options: Any) -> list[dict]:
        """:meth:`call` that also guesses which parameter a refusal without a name may have meant."""
        try:
            return await self.call(messages, **options)
        except Refused as error:
            if speaks_of_room(str(error)) or speaks_of_excess(str(error)):
                raise
            known, first = self.abilities, error
        for self.abilities in known.guesses():
            try:
                return await self.call(messages, **options)
            except Refused:
                continue
        self.abilities = known
        raise first

    async def _post(self, messages: list[dict], options: dict) -> list[dict]:
        import openai

        self.counts.calls += 1
        sent: dict = {}
        try:
            # The client's plain post: chat.completions.create checks every request and reply against its types first,
            # twice the processor time a call, and with a hundred calls under way that is what bounds them.
            async with self._slots:
                await self._turn()
                sent = self.abilities.fit(options)
                body = json.dumps({"model": self.model, "messages": messages, **sent}).encode()
                response = await self.api.post("/chat/completions", content=body, cast_to=self._raw)
            self.counts.retried += int(response.response.request.headers.get("x-stainless-retry-count", 0))
            reply = json.loads(response.content)
            self.counts.meter(reply)
            choices = choices_of(reply, self.key)
        except openai.APIStatusError as error:
            raise self._sorted(error, sent) from error
        except Refused as error:
            error.sent = sent
            self._count_failure(str(error))
            raise
        except (openai.OpenAIError, GivenUp, ValueError, TypeError, LookupError) as error:
            why = str(error) if isinstance(error, GivenUp) else reason(error, self.key)
            self._count_failure(why)
            raise GivenUp(why) from error
        self._failures_in_a_row = 0
        return choices

    def _sorted(self, error: "openai.APIStatusError", sent: dict) -> Exception:
        """What an HTTP status means for this call, and for the others."""
        why, status = reason(error, self.key), error.status_code
        of_request = status in (400, 422) or "logprob" in why.lower() or (status == 404 and "parameter" in why.lower())
        if not of_request and status in (401, 403):
            return UserError(
                f"{self.who} at {without_secrets(self.base_url)} refuses the key (HTTP {status}); check {self.variable}_API_KEY"
            )
        if not of_request and status == 404:
            return UserError(
                f"{self.who} at {without_secrets(self.base_url)} does not know the model '{self.model}' (HTTP 404)"
            )
        self._count_failure(why)
        if not of_request:
            return GivenUp(why)
        refused = Refused(why)
        refused.sent = sent
        return refused

    def _count_failure(self, why: str) -> None:
        self.counts.last_error = why
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= 5 * max(4, self.max_concurrent):
            raise UserError(
                f"{self.who} at {without_secrets(self.base_url)} keeps failing: {why}; answers are kept, run again"
            )

    async def _turn(self) -> None:
        """Wait until the call before this one is ``GAP`` old."""
        now = asyncio.get_running_loop().time()
        self._next = max(now, self._next + GAP)
        if self._next > now:
            await asyncio.sleep(self._next - now)

    async def write(self, messages: list[dict], max_tokens: int) -> tuple[str, str]:
        """``(text, finish_reason)`` of one reply, drawn at the endpoint's own temperature; reasoning is left out."""
        choice = (await self.call(messages, max_tokens=max_tokens))[0]
        return split_reasoning(message_text(choice), "")[1].strip(), choice.get("finish_reason") or "stop"


def message_text(choice: dict) -> str:
    """The text of a choice, without what stands in reasoning fields of its own; raises :class:`GivenUp` for none."""
    try:
        return str(choice["message"]["content"] or "")
    except (TypeError, LookupError) as error:
        raise GivenUp(f"the reply holds no message: {error}") from error


def choices_of(reply: object, key: str) -> list[dict]:
    """The choices of a reply with status 200, which may hold an error instead (of the reply, or of its first choice)."""
    choices = reply.get("choices") if isinstance(reply, dict) else None
    held = reply.get("error") if isinstance(reply, dict) else None
    if not held and isinstance(choices, list) and choices and isinstance(choices[0], dict):
        held = choices[0].get("error")
    if held:
        message = held.get("message") if isinstance(held, dict) else None
        code = held.get("code") if isinstance(held, dict) else None
        text = _one_line(str(message or held), key)
        raise (Refused if code in (400, 422, "400", "422") or "logprob" in text.lower() else GivenUp)(
            f"HTTP 200 with an error inside: {text}"
        )
    if not choices:
        raise GivenUp("the reply holds no choices")
    return choices


def _detail(detail: object) -> str | None:
    """What FastAPI's replies say: a text, or a list of places and messages (with what was sent, which is left out)."""
    if isinstance(detail, list) and all(isinstance(entry, dict) for entry in detail):
        return "; ".join(f"{'.'.join(map(str, entry.get('loc') or []))}: {entry.get('msg')}" for entry in detail)
    return detail if isinstance(detail, str) else None


def _one_line(text: str, key: str) -> str:
    text = text.strip().split("\n")[0]
    return (text.replace(key, "***") if len(key) > 5 else text)[:200]


def reason(error: Exception, key: str = "") -> str:
    """An API error in a few words, without request bodies or keys (some servers repeat the ``key`` they were sent)."""
    status = getattr(error, "status_code", None)
    body = getattr(error, "body", None)
    body = body if isinstance(body, dict) else {}
    message, parameter = body.get("message") or _detail(body.get("detail")), body.get("param")
    text = _one_line(str(message or error or type(error).__name__), key)
    if isinstance(parameter, str) and parameter not in text:
        text = f"{text} ({parameter})"
    return f"HTTP {status}: {text}" if status else f"{type(error).__name__}: {text}"
