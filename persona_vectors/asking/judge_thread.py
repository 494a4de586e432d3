"""Judging beside generation: an event loop in a thread of its own, fed while the model works.

Knows threads and bars; the scores come from :mod:`persona_vectors.judge.judge`.
"""

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

from tqdm import tqdm

from persona_vectors.asking.sheet import AnswerSheet
from persona_vectors.judge.endpoint import Counts
from persona_vectors.judge.judge import GivenUp, Judge
from persona_vectors.judge.prices import Budget, Unaffordable

logger = logging.getLogger(__name__)


class JudgeThread:
    """Runs a :class:`Judge` in the background. Construct it before the model is loaded: the probe happens here.

    ``submit`` returns at once; ``on_score`` is called from the judge's thread as scores arrive (it should only write
    a line somewhere). The first error that no retry can mend is raised by the next ``submit`` or by ``finish``.
    """

    def __init__(self, judge: Judge, budget: Budget | None = None) -> None:
        self.judge, self.budget = judge, budget
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="judge", daemon=True)
        self._thread.start()
        self._pending: set[Future] = set()
        self._error: Exception | None = None
        self._stopped, self._slots = False, asyncio.Semaphore(judge.max_concurrent)
        if budget is not None:
            judge.paying = self._paying
        try:
            asyncio.run_coroutine_threadsafe(judge.connect(), self._loop).result()
        except BaseException:
            self.close()
            raise
        self.how = how_of(judge)
        self.bar: dict = {"desc": "scores", "position": 1}
        if judge.kind == "0_100":
            logger.info(f"judge: {self.how}")

    def submit(
        self,
        prompt: str,
        on_score: Callable[[float | None], None],
        on_done: Callable[[], None],
        on_lost: Callable[[GivenUp], None] = lambda _: None,
    ) -> None:
        """Ask for one score. ``on_score`` gets the number, or None for a refusal; ``on_lost`` why the call was given up."""
        self.check()
        future = asyncio.run_coroutine_threadsafe(self._score(prompt, on_score, on_done, on_lost), self._loop)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)

    @contextlib.asynccontextmanager
    async def _paying(self, prompt: str) -> AsyncIterator[None]:
        """Around the calls for one score: counted when they are made, by what the calls before them have used."""
        async with self._slots:
            amount = None if self._stopped else await self.budget.afford(prompt, self.judge.most_out)
            if amount is None:
                self._stopped = True
                raise Unaffordable
            try:
                yield
            finally:
                self.budget.settle(amount)

    async def _score(self, prompt: str, on_score: Callable, on_done: Callable, on_lost: Callable) -> None:
        if self._error is not None:
            return
        try:
            on_score(await self.judge.score(prompt))
        except Unaffordable:
            return
        except GivenUp as error:
            self.judge.counts.given_up += 1
            self.judge.counts.last_error = str(error)
            on_lost(error)
        except Exception as error:
            self._error = self._error or error
            for future in self._pending.copy():  # no call more is paid for whose reply cannot be kept
                future.cancel()
        on_done()

    def scoring(self, sheets: Sequence[AnswerSheet]) -> "ScoreBar":
        """The bar of the sheets' scores."""
        return ScoreBar(self, sheets)

    def check(self) -> None:
        """Raise the error that ended judging, if one did; or that the budget would not do, once the calls under way have ended."""
        if self._error is not None:
            raise self._error
        if self._stopped and self.budget is not None:
            while self._pending and self._error is None:
                wait(self._pending.copy(), return_when=FIRST_COMPLETED)
            raise self._error or self.budget.stopped()

    def finish(self) -> None:
        """Wait for every score that was asked for."""
        while self._pending:
            wait(self._pending.copy(), return_when=FIRST_COMPLETED)
            self.check()
        self.check()

    def close(self) -> None:
        """Stop at once; calls under way are dropped."""
        for future in self._pending.copy():
            future.cancel()
        asyncio.run_coroutine_threadsafe(self.judge.close(), self._loop).result(timeout=5)
        self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    def summary(self) -> str:
        """One line on what happened to the calls of this run."""
        return summary_of(self.judge.counts)


def how_of(judge: Judge) -> str:
    """Which judge scored and how, as it is recorded with the scores."""
    return f"{judge.model} ({judge.how})"


def summary_of(counts: Counts) -> str:
    """One line on what happened to the calls of a run."""
    line = (
        f"judge calls: {counts.calls}, retried {counts.retried}, no score {counts.unscored}, given up {counts.given_up}"
    )
    if counts.unreadable:
        line += f"; {counts.unreadable} of those without a score are no refusal but not a number either, such as {counts.said}"
    if counts.cached:
        line += f"; {counts.cached} scores came from the cache"
    if counts.given_up:
        line += f" (last: {counts.last_error}; the same command asks for just those again)"
    return line


class ScoreBar:
    """Sends answers to the judge and shows how many scores have come back."""

    def __init__(self, judge: JudgeThread, sheets: Sequence[AnswerSheet]) -> None:
        self.judge = judge
        missing = sum(len(sheet.planned) * len(sheet.metrics) for sheet in sheets)
        self.bar = tqdm(total=missing - sum(len(sheet.scores) for sheet in sheets), **judge.bar)

    def __enter__(self) -> "ScoreBar":
        return self

    def __exit__(self, *_error) -> None:
        self.bar.close()

    def ask(self, sheet: AnswerSheet, key: str) -> None:
        """Ask for every score that the answer lacks; an empty answer gets none."""
        prompts = sheet.unscored(key)
        if not prompts and not sheet.answers[key]["answer"].strip():
            self.bar.update(len(sheet.metrics))
        for metric, prompt in prompts.items():
            self.judge.submit(prompt, functools.partial(sheet.add_score, key, metric), self.bar.update)

    def finish(self, engine: object = None) -> None:
        """Wait for every score that was asked for; not yet while an ``engine`` is open, which has its own memory to give back."""
        if engine is None:
            self.judge.finish()
