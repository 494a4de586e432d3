"""The batch API as it is: a file of requests up, a batch of it, its results down; at half the price, within a day.

What was sent is recorded before it is sent (:class:`Sent`), so that a run that was killed at any point finds what had
arrived: a batch by the name in its metadata, a file by its name. Nothing is made twice, also not after a call whose reply was
lost. Knows HTTP and records; knows nothing of scores.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from persona_vectors.errors import UserError
from persona_vectors.judge.endpoint import ChatClient, reason
from persona_vectors.settings import without_secrets

if TYPE_CHECKING:
    from openai.types import Batch

CHAT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
LABEL = "persona_vectors"  # in a batch's metadata: the name that it was recorded by
TRIES = 8  # of one step; the waits between them double from FIRST_WAIT seconds
FIRST_WAIT = 0.5
DAY = 24 * 3600
UPLOAD_SECONDS = 600.0


@dataclass
class Sent:
    """A batch that was sent, or was about to be.

    Attributes:
        name: unique; recorded before anything is sent.
        requests: the names (``custom_id``) of its requests.
        began: Unix time of the record.
        fresh: of this process: what is not recorded was not sent either.
        file, id: what the API calls its file and the batch itself; None until known.
        read: its results were taken in this process, or there are none.
        dropped: recorded as having nothing (more) to collect.
    """

    name: str
    requests: frozenset[str]
    began: float
    fresh: bool = False
    file: str | None = None
    id: str | None = None
    read: bool = False
    dropped: bool = False


def taken_up(records: Iterable[dict], endpoint: str, what: str, variable: str) -> list[Sent]:
    """The batches that a journal tells of; ``variable`` begins the name of the endpoint's own.

    Raises:
        UserError: they were sent to another endpoint.
    """
    found: dict[str, Sent] = {}
    for record in records:
        if "requests" in record:
            if record["endpoint"] != endpoint:
                raise UserError(
                    f"scores of {what} are under way in a batch at {record['endpoint']}, and the endpoint is now {endpoint}: "
                    f"set {variable}_BASE_URL as before to collect them"
                )
            found[record["batch"]] = Sent(record["batch"], frozenset(record["requests"]), record["began"])
        elif record["batch"] in found:
            sent = found[record["batch"]]
            sent.file, sent.id = record.get("file", sent.file), record.get("id", sent.id)
            sent.read = sent.dropped = record.get("dropped", False)
    return list(found.values())


class BatchFiles:
    """Uploads, creates, finds, polls and reads batches through the openai client of a :class:`ChatClient`.

    Args:
        client: opened; says which endpoint and model.
        record: keeps a line of the journal before this returns.
    """

    def __init__(self, client: ChatClient, record: Callable[[dict], object]) -> None:
        self.client, self.record = client, record
        self.endpoint = without_secrets(client.base_url)
        self._api = client.api
        # A step that makes something is never repeated by the client itself: it might have arrived.
        self._once = self._api.with_options(max_retries=0, timeout=UPLOAD_SECONDS)

    def begin(self, requests: Iterable[str]) -> Sent:
        """Record that a batch is about to be sent."""
        sent = Sent(uuid.uuid4().hex, frozenset(requests), time.time(), fresh=True)
        record = {"batch": sent.name, "requests": sorted(sent.requests), "endpoint": self.endpoint, "began": sent.began}
        self.record(record)
        return sent

    async def arrive(self, sent: Sent, bodies: Callable[[Sent], dict[str, dict] | None]) -> bool:
        """See to it that a batch is with the API; False (and recorded as dropped) where it never came to be and cannot be made.

        Args:
            bodies: gives {request: its body} of the batch, for the upload; None if they are not known any more.
        """
        looking, wait, why = not sent.fresh, FIRST_WAIT, ""
        for _ in range(TRIES):
            try:
                if sent.id is None and looking:
                    await self._look(sent)
                if sent.id is None and sent.file is None:
                    content = bodies(sent)
                    if content is None:
                        return self.drop(sent)
                    await self._upload(sent, content)
                if sent.id is None:
                    batch = await self._once.batches.create(
                        input_file_id=str(sent.file),
                        endpoint=CHAT,
                        completion_window="24h",
                        metadata={LABEL: sent.name},
                    )
                    self._note(sent, id=_id_of(batch))
                return True
            except Exception as error:
                passing = self._passing(error)
                if sent.file is not None and not sent.fresh and getattr(error, "status_code", None) in (400, 404):
                    return self.drop(sent)  # the file was deleted, or has expired
                if passing is None:
                    raise self._refused(error) from error
                why = passing
            looking = True
            await asyncio.sleep(wait)
            wait *= 2
        raise self._keeps_failing(why)

    async def _upload(self, sent: Sent, bodies: dict[str, dict]) -> None:
        lines = (line_of(name, bodies[name]) for name in sorted(sent.requests))
        file = await self._once.files.create(file=(_file_name(sent), b"".join(lines)), purpose="batch")
        self._note(sent, file=_id_of(file))

    def drop(self, sent: Sent) -> bool:
        """Record that there is nothing (more) to collect of a batch: its requests may go into another."""
        self.record({"batch": sent.name, "dropped": True})
        sent.read = sent.dropped = True
        return False

    async def _look(self, sent: Sent) -> None:
        """Find a batch, or at least its file, of which it is not known whether it arrived."""
        async for batch in self._since(sent, self._api.batches.list(limit=100)):
            if (batch.metadata or {}).get(LABEL) == sent.name:
                return self._note(sent, id=batch.id)
        if sent.file is None:
            async for file in self._since(sent, self._api.files.list(limit=100, purpose="batch", order="desc")):
                if file.filename == _file_name(sent):
                    return self._note(sent, file=file.id)
        return None

    async def _since(self, sent: Sent, listed: Any) -> AsyncIterator[Any]:
        """What is listed, newest first, down to a day before the record (clocks differ)."""
        async for one in listed:
            if one.created_at < sent.began - DAY:
                return
            yield one

    def _note(self, sent: Sent, **what: str) -> None:
        self.record({"batch": sent.name, **what})
        for name, value in what.items():
            setattr(sent, name, value)

    async def state(self, sent: Sent) -> "Batch":
        """The batch as it stands.

        Raises:
            UserError: the endpoint does not know it, or keeps failing.
        """

        async def retrieve() -> "Batch":
            batch = await self._api.batches.retrieve(str(sent.id))
            _id_of(batch)
            return batch

        return await self._patiently(retrieve, f"batch {sent.id}")

    async def results(self, batch: "Batch") -> list[dict]:
        """One object for each request that has a result: ``custom_id``, ``response``, ``error``. Order is anything."""
        found: list[dict] = []
        for file in filter(None, (batch.output_file_id, batch.error_file_id)):

            async def read(file: str = file) -> list[dict]:
                content = (await self._api.files.content(file)).content
                return [json.loads(line) for line in content.splitlines() if line.strip()]

            found += await self._patiently(read, f"the results of batch {batch.id} ({file})")
        return [line for line in found if isinstance(line, dict)]

    async def _patiently(self, step: Callable[[], Any], what: str) -> Any:
        """A step that changes nothing, again and again."""
        wait, why = FIRST_WAIT, ""
        for _ in range(TRIES):
            try:
                return await step()
            except Exception as error:
                if getattr(error, "status_code", None) == 404:
                    raise UserError(
                        f"{self.endpoint} does not know {what} (HTTP 404): use the key that sent it; --overwrite, with other "
                        "settings or another output, has everything judged anew"
                    ) from error
                passing = self._passing(error)
                if passing is None:
                    raise self._refused(error) from error
                why = passing
            await asyncio.sleep(wait)
            wait *= 2
        raise self._keeps_failing(why)

    def _passing(self, error: Exception) -> str | None:
        """What failed for the moment; None for what will fail again. Raises what is no fault of the endpoint."""
        import openai

        status = getattr(error, "status_code", None)
        if not isinstance(error, openai.OpenAIError | ValueError) or isinstance(error, UserError):
            raise error
        return None if 400 <= (status or 0) < 500 and status not in (408, 409, 425, 429) else self._why(error)

    def _why(self, error: Exception) -> str:
        return reason(error, self.client.key)

    def _refused(self, error: Exception) -> UserError:
        status = getattr(error, "status_code", None)
        if status in (401, 403):
            return UserError(
                f"{self.client.who} at {self.endpoint} refuses the key (HTTP {status}); check {self.client.variable}_API_KEY"
            )
        hint = "; without --judge_batch scores are asked for one by one" if status in (404, 405, 501) else ""
        return UserError(f"the batch API at {self.endpoint} refuses: {self._why(error)}{hint}")

    def _keeps_failing(self, why: str) -> UserError:
        return UserError(f"the batch API at {self.endpoint} keeps failing: {why}; what is done is kept, run again")


def line_of(name: str, body: dict) -> bytes:
    """One request as a line of a batch's file."""
    return json.dumps({"custom_id": name, "method": "POST", "url": CHAT, "body": body}).encode() + b"\n"


def _id_of(made: Any) -> str:
    """What the API calls what it has made; a reply without that is a fault of the moment."""
    if not isinstance(getattr(made, "id", None), str):
        raise ValueError("the reply holds no id")
    return str(made.id)


def _file_name(sent: Sent) -> str:
    return f"{LABEL}-{sent.name}.jsonl"
