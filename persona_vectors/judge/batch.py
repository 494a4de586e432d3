"""A chat client whose calls are answered through the batch API: for half the price, some time within a day.

:class:`BatchClient` stands where :class:`~persona_vectors.judge.endpoint.ChatClient` stands for a
:class:`~persona_vectors.judge.judge.Judge`, so that scores are made by the same lines. A call waits; when all calls that can
be made wait, they go into batches together. A request is named by its content: equal ones are sent once, and a run that
takes up the journal of another finds the results of what that one sent.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from persona_vectors.errors import UserError
from persona_vectors.files.fingerprints import sha256
from persona_vectors.judge.batch_files import BatchFiles, Sent, line_of, taken_up
from persona_vectors.judge.endpoint import ChatClient, Counts, GivenUp, Refused, choices_of
from persona_vectors.judge.judge import request_options
from persona_vectors.judge.prices import Budget

if TYPE_CHECKING:
    from openai.types import Batch

MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000  # of one batch, as the API has it
TRIES = 3  # batches that a request goes into before it is given up
POLLS = (1.0, 60.0)  # seconds between looks, from the first to the longest
ENDED = ("completed", "expired", "cancelled", "failed")


@dataclass
class Waiting:
    """A request without a reply, and the calls that wait for it."""

    body: dict
    options: dict
    futures: list[asyncio.Future] = field(default_factory=list)
    tries: int = 0


class BatchClient:
    """Answers calls to a model in batches. Use from one event loop: start tasks that ``call``, then ``await run(tasks)``.

    Args:
        client: opened and settled; its key, endpoint, model, abilities and counts are used.
        records: what earlier runs have recorded.
        record: keeps one more record, before this returns.
        what: whose calls they are, for messages.
        budget: the limit of the run, or None.
        progress: called with the number of answered requests of the batches under way and the number of all in them.
    """

    def __init__(
        self,
        client: ChatClient,
        records: Sequence[dict],
        record: Callable[[dict], object],
        what: str,
        budget: Budget | None = None,
        progress: Callable[[int, int], object] = lambda _done, _all: None,
    ) -> None:
        self.client, self.budget, self.progress, self.what = client, budget, progress, what
        self.files = BatchFiles(client, record)
        self.sent = taken_up(records, self.files.endpoint, what, client.variable)
        self.waiting: dict[str, Waiting] = {}
        self.most = MOST_REQUESTS
        self._reserved: dict[str, float] = {}
        self.base_url, self.abilities = client.base_url, client.abilities

    @property
    def counts(self) -> Counts:
        """What happened to the calls of the run."""
        return self.client.counts

    async def call(self, messages: list[dict], **options: Any) -> list[dict]:
        """As :meth:`ChatClient.call`; returns when a batch has brought the reply."""
        name = name_of(self.client.model, messages, options)
        if name not in self.waiting:
            body = {"model": self.client.model, "messages": messages, **self.client.abilities.fit(options)}
            self.waiting[name] = Waiting(body, options)
        future = asyncio.get_running_loop().create_future()
        self.waiting[name].futures.append(future)
        return await future

    async def run(self, tasks: Iterable[asyncio.Task]) -> None:
        """Have all calls of ``tasks`` answered, those that follow from replies included.

        Raises:
            UserError: no batch can succeed, or the endpoint keeps failing. Everything so far is kept.
            TooExpensive: what is left would cost more than the budget allows.
        """
        alive = await self._settled(set(tasks))
        wait = POLLS[0]
        while alive:
            under_way = await self._under_way()
            read = 0
            for sent in under_way:
                batch = await self.files.state(sent)
                self._show(batch, under_way)
                if batch.status in ENDED:
                    await self._read(sent, batch)
                    read += 1
                    alive = await self._settled(alive)
                    self._check(sent, batch)
            if not read:
                await asyncio.sleep(wait)
            wait = POLLS[0] if read else min(POLLS[1], wait * 1.5)
        for sent in self.sent:  # what has no score now is asked for anew by the next run
            if not sent.dropped:
                self.files.drop(sent)

    async def _settled(self, tasks: set[asyncio.Task]) -> set[asyncio.Task]:
        """The tasks that are not done, when each of them waits for a reply: they await nothing else."""
        before, unchanged = None, 0
        while unchanged < 10:
            now = (len(self.waiting), sum(task.done() for task in tasks))
            unchanged, before = (unchanged + 1 if now == before else 0), now
            await asyncio.sleep(0)
        for task in tasks:
            if task.done():
                task.result()
        return {task for task in tasks if not task.done()}

    async def _under_way(self) -> list[Sent]:
        """The batches that hold what is waited for; new ones of what is in none."""
        wanted = self.waiting.keys()
        known = [sent for sent in self.sent if not sent.read and sent.requests & wanted]
        arrived = [sent for sent in known if sent.id or await self.files.arrive(sent, self._bodies)]
        covered = frozenset().union(*(sent.requests for sent in arrived))
        left = [name for name in wanted if name not in covered]
        if self.most < MOST_REQUESTS and arrived:  # the API has enough for now
            left = []
        for names in self._chunks(left):
            if not self._affordable(names):
                if not arrived and self.budget is not None:
                    raise self.budget.stopped(f"the next batch, of {len(names):,} requests,")
                break  # those under way are collected first
            sent = self.files.begin(names)
            self.sent.append(sent)
            self.counts.calls += len(names)
            await self.files.arrive(sent, self._bodies)
            arrived.append(sent)
            if self.most < MOST_REQUESTS:
                break
        return arrived

    def _bodies(self, sent: Sent) -> dict[str, dict] | None:
        """The bodies of a batch's requests; None where one is not waited for (any more)."""
        if not sent.requests <= self.waiting.keys():
            return None
        return {name: self.waiting[name].body for name in sent.requests}

    def _chunks(self, names: list[str]) -> Iterable[list[str]]:
        """Requests by batch, each within the API's limits."""
        chunk: list[str] = []
        size = 0
        for name in names:
            length = len(line_of(name, self.waiting[name].body))
            if chunk and (len(chunk) >= self.most or size + length > MOST_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append(name)
            size += length
        if chunk:
            yield chunk

    def _affordable(self, names: list[str]) -> bool:
        """Count requests against the budget, all or none."""
        if self.budget is None:
            return True
        amounts: dict[str, float] = {}
        for name in names:
            waiting = self.waiting[name]
            prompt = "\n".join(str(message["content"]) for message in waiting.body["messages"])
            out = (waiting.options.get("max_tokens") or 1) * (waiting.options.get("n") or 1)
            amount = self.budget.reserve(prompt, out)
            if amount is None:
                for taken in amounts.values():
                    self.budget.settle(taken, made=False)
                return False
            amounts[name] = amount
        self._reserved |= amounts
        return True

    def _show(self, batch: "Batch", under_way: list[Sent]) -> None:
        done = batch.request_counts.completed if batch.request_counts else 0
        self.progress(done, sum(len(sent.requests) for sent in under_way))

    async def _read(self, sent: Sent, batch: "Batch") -> None:
        """Give a batch's results to the calls that wait for them."""
        for line in await self.files.results(batch):
            name = line.get("custom_id")
            if isinstance(name, str) and name in sent.requests and name in self.waiting:
                self._take(name, line, sent.fresh)
        sent.read = True
        for name in sent.requests & self.waiting.keys():
            if name in self._reserved and self.budget is not None:  # it goes into a batch again, and is counted again
                self.budget.settle(self._reserved.pop(name), made=False)
            if sent.fresh and batch.status != "failed":
                self.waiting[name].tries += 1
                if self.waiting[name].tries >= TRIES:
                    self._answer(name, error=GivenUp(f"no result in {TRIES} batches"))

    def _check(self, sent: Sent, batch: "Batch") -> None:
        """What follows from the end of a batch of this run: too much at once is sent in smaller ones, all else is the user's to mend."""
        if not sent.fresh or batch.status in ("completed", "expired"):
            return
        if batch.status == "cancelled":
            raise UserError(
                f"batch {batch.id} was cancelled; what it brought is kept, and the same command sends the rest anew"
            )
        first = next(iter((batch.errors.data if batch.errors else None) or []), None)
        code, message = (first.code or "", first.message or "") if first else ("", "no reason given")
        if code == "token_limit_exceeded" and len(sent.requests) > 1:
            self.most = max(1, len(sent.requests) // 2)
            return
        if code in ("", "server_error", "internal_error"):
            for name in sent.requests & self.waiting.keys():
                self.waiting[name].tries += 1
            if all(self.waiting[name].tries < TRIES for name in sent.requests & self.waiting.keys()):
                return
        raise UserError(
            f"the batch API at {self.files.endpoint} refuses batch {batch.id}: {' '.join(message.split())[:200]} ({code or 'no code'})"
        )

    def _take(self, name: str, line: dict, paid_now: bool) -> None:
        """One line of results: a reply, a refusal of this request, or a fault that may pass (it stays waited for)."""
        response, fault = (line.get(part) or {} for part in ("response", "error"))
        if not isinstance(response, dict):  # of a server that has it otherwise
            response, fault = {}, {"message": str(response)}
        fault = fault if isinstance(fault, dict) else {"message": str(fault)}
        status = response.get("status_code")
        if status == 200:
            reply = response.get("body")
            if paid_now:
                self.counts.meter(reply)
            try:
                self._answer(name, choices_of(reply, self.client.key))
            except GivenUp as error:
                self.counts.last_error = str(error)
                self._answer(name, error=error)
            return
        held = (response.get("body") or {}).get("error") if isinstance(response.get("body"), dict) else None
        said = held if isinstance(held, dict) else fault
        self.counts.last_error = why = f"HTTP {status}: {said.get('message') or said.get('code') or 'no reason given'}"[
            :200
        ]
        if status in (400, 401, 403, 404, 422):
            self._answer(name, error=Refused(why))

    def _answer(self, name: str, choices: list[dict] | None = None, error: Exception | None = None) -> None:
        """Give a request's reply to all who wait for it."""
        if name in self._reserved and self.budget is not None:
            self.budget.settle(self._reserved.pop(name))
        for future in self.waiting.pop(name).futures:
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(choices)


def name_of(model: str, messages: list[dict], options: dict) -> str:
    """What a request is called: by its content, before the endpoint's abilities change how it is made."""
    return sha256(json.dumps([model, messages, options], sort_keys=True))[:32]


def unsent(model: str, prompts: Iterable[str], records: Sequence[dict]) -> list[str]:
    """The judge prompts that no batch of a journal holds."""
    sent = {name for record in records for name in record.get("requests", ())}
    dropped = {record["batch"] for record in records if record.get("dropped")}
    sent -= {name for record in records if record["batch"] in dropped for name in record.get("requests", ())}
    return [
        prompt
        for prompt in prompts
        if not any(name_of(model, [{"role": "user", "content": prompt}], way) in sent for way in request_options())
    ]
