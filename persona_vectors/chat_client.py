"""Chat completions from an OpenAI-compatible endpoint, with its faults sorted.

What can go wrong with a call is one of three things: the client's own retries mend it; this call alone is lost
(:class:`GivenUp`); or no call can succeed (:class:`UserError`). Knows HTTP and that sorting; knows nothing of scores,
traits or files. Reports hold neither request bodies nor keys.
"""

import asyncio
import json
from dataclasses import dataclass

from persona_vectors.chat import split_reasoning
from persona_vectors.errors import UserError
from persona_vectors.settings import judge_endpoint, shown

# Seconds between the beginnings of two calls: about what one costs this process. Calls that begin together end together,
# and a hundred replies that come at once are all read before the first new call is made, wave after wave.
GAP = 0.001


@dataclass
class Counts:
    """What happened to the calls of a run: HTTP calls, retries among them, replies without a score, calls given up."""

    calls: int = 0
    retried: int = 0
    unscored: int = 0
    given_up: int = 0
    last_error: str = ""


class GivenUp(Exception):
    """One call failed for good; what it was to bring stays missing and a rerun asks again."""


class ChatClient:
    """One model behind an endpoint. Use from one event loop: ``open()``, then any number of ``call(...)`` at once.

    Args:
        model: as the endpoint names it.
        max_concurrent: calls under way at a time.
        timeout: seconds after which a call counts as failed and is tried again.
        who: what the model is to the user, in reports ("the judge ...").
    """

    def __init__(self, model: str, max_concurrent: int, timeout: float, who: str) -> None:
        self.model, self.max_concurrent, self.timeout, self.who = model, max_concurrent, timeout, who
        self.base_url, self._key = judge_endpoint()
        self.counts = Counts()
        self._failures_in_a_row = 0
        self._limit_name = "max_tokens"

    def open(self) -> None:
        """Open the client; no call is made yet."""
        import openai

        # The client's own retries: connection errors, time-outs, 408, 409, 429 and 5xx, with jitter and Retry-After.
        # Over aiohttp: with a hundred connections the default transport spends several times as long on each call.
        self._client = openai.AsyncOpenAI(
            base_url=self.base_url,
            api_key=self._key,
            max_retries=6,
            timeout=self.timeout,
            http_client=openai.DefaultAioHttpClient(),
        )
        self._raw = openai.HttpxBinaryResponseContent  # the reply's bytes as they are
        self._next = 0.0
        self._slots = asyncio.Semaphore(self.max_concurrent)

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    async def call(self, messages: list[dict], **options) -> list[dict]:
        """One chat completion's choices, as the endpoint's JSON has them; options that are None are not sent.

        Raises:
            GivenUp: this call failed for good (after retries).
            UserError: no call can succeed (key or model refused, or a long row of failures).
        """
        import openai

        options = {name: value for name, value in options.items() if value is not None}
        self.counts.calls += 1
        try:
            # The client's plain post: chat.completions.create checks every request and reply against its types first,
            # twice the processor time a call, and with a hundred calls under way that is what bounds them.
            async with self._slots:
                await self._turn()
                body = json.dumps({"model": self.model, "messages": messages, **options}).encode()
                response = await self._client.post("/chat/completions", content=body, cast_to=self._raw)
            self.counts.retried += int(response.response.request.headers.get("x-stainless-retry-count", 0))
            choices = json.loads(response.content)["choices"]
            if not choices:
                raise GivenUp("the reply holds no choices")
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise UserError(
                f"{self.who} at {shown(self.base_url)} refuses the key (HTTP {error.status_code}); check OPENAI_API_KEY"
            ) from error
        except openai.NotFoundError as error:
            raise UserError(
                f"{self.who} at {shown(self.base_url)} does not know the model '{self.model}' (HTTP 404)"
            ) from error
        except (openai.OpenAIError, GivenUp, ValueError, TypeError, LookupError) as error:
            self._failures_in_a_row += 1
            self.counts.last_error = why = reason(error, self._key)
            if self._failures_in_a_row >= 5 * max(4, self.max_concurrent):
                raise UserError(
                    f"{self.who} at {shown(self.base_url)} keeps failing: {why}; answers are kept, run again"
                ) from error
            raise GivenUp(why) from error
        self._failures_in_a_row = 0
        return choices

    async def _turn(self) -> None:
        """Wait until the call before this one is ``GAP`` old."""
        now = asyncio.get_running_loop().time()
        self._next = max(now, self._next + GAP)
        if self._next > now:
            await asyncio.sleep(self._next - now)

    async def write(self, messages: list[dict], max_tokens: int) -> tuple[str, str]:
        """``(text, finish_reason)`` of one reply, drawn at the endpoint's own temperature; reasoning is left out.

        Newer models of OpenAI take the limit under another name and say so in an HTTP 400; then that is used.
        """
        name = self._limit_name
        try:
            choice = (await self.call(messages, **{name: max_tokens}))[0]
        except GivenUp as error:
            if name != "max_tokens" or "max_completion_tokens" not in str(error):
                raise
            self._limit_name = "max_completion_tokens"
            choice = (await self.call(messages, max_completion_tokens=max_tokens))[0]
        try:
            text, finish = choice["message"]["content"] or "", choice.get("finish_reason") or "stop"
        except (TypeError, LookupError) as error:
            raise GivenUp("the reply holds no message") from error
        return split_reasoning(text, "")[1].strip(), finish


def reason(error: Exception, key: str = "") -> str:
    """An API error in a few words, without request bodies or keys (some servers repeat the ``key`` they were sent)."""
    status = getattr(error, "status_code", None)
    body = getattr(error, "body", None)
    message = body.get("message") if isinstance(body, dict) else None
    text = str(message or error or type(error).__name__).strip().split("\n")[0]
    text = (text.replace(key, "***") if len(key) > 5 else text)[:200]
    return f"HTTP {status}: {text}" if status else f"{type(error).__name__}: {text}"
