"""Scoring answer sheets through the batch API: for half the price, when all answers are there.

Each sheet has batches of its own, whose ids are in its journal: a run that is stopped while it waits is resumed by the same
command, which collects what has been scored meanwhile. Knows sheets and bars; the batches are
:mod:`persona_vectors.judge.batch`'s.
"""

import asyncio
import copy
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from persona_vectors.asking.judge_thread import how_of, summary_of
from persona_vectors.asking.sheet import AnswerSheet
from persona_vectors.engines.kept import release
from persona_vectors.errors import UserError
from persona_vectors.judge.batch import BatchClient
from persona_vectors.judge.cache import MISSING
from persona_vectors.judge.cached import CachedJudge
from persona_vectors.judge.judge import GivenUp
from persona_vectors.judge.prices import Budget

if TYPE_CHECKING:
    from persona_vectors.engines import Engine

logger = logging.getLogger(__name__)


class BatchJudge:
    """What :class:`persona_vectors.asking.judge_thread.JudgeThread` is for a judge that answers at once, and its bar as well.

    The probe happens here, before a model is loaded, and is the one call at the full price. Scores that the cache of scores has
    are not sent; those that batches bring go there.
    """

    def __init__(self, judge: CachedJudge, sheets: Sequence[AnswerSheet], budget: Budget | None = None) -> None:
        self.judge, self.sheets, self.budget = judge, sheets, budget
        self._runner = asyncio.Runner()
        try:
            self._runner.run(judge.connect())
        except BaseException:
            self.close()
            raise
        self.how = how_of(judge)
        logger.info(f"judge: {self.how}, in batches")

    def scoring(self, _sheets: Sequence[AnswerSheet]) -> "BatchJudge":
        """The bar of scores; see :class:`persona_vectors.asking.judge_thread.ScoreBar`."""
        return self

    def __enter__(self) -> "BatchJudge":
        return self

    def __exit__(self, *_error: object) -> None: ...

    def ask(self, sheet: AnswerSheet, key: str) -> None:
        """Nothing yet: answers are scored when all are there."""

    def finish(self, engine: "Engine | None" = None) -> None:
        """Score what is unscored; not yet while an ``engine`` is open, which would wait beside it for hours."""
        if engine is None:
            self._runner.run(self._score_all())

    async def _score_all(self) -> None:
        from tqdm import tqdm

        missing = {
            sheet: [(key, *asked) for key in sheet.answers for asked in sheet.unscored(key).items()]
            for sheet in self.sheets
        }
        todo = {sheet: left for sheet, scores in missing.items() if (left := self._not_held(sheet, scores))}
        if todo:
            release()  # for as long as this takes
            await self.judge.make_sure()
        with tqdm(total=sum(map(len, todo.values())), desc="scores") as bar:
            roads = [asyncio.create_task(self._score(sheet, scores, bar)) for sheet, scores in todo.items()]
            try:
                await asyncio.gather(*roads)
            finally:
                for road in roads:
                    road.cancel()
                await asyncio.gather(*roads, return_exceptions=True)

    def _not_held(self, sheet: AnswerSheet, scores: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
        """The scores that the cache lacks; the others are taken from it."""
        left = []
        for key, metric, prompt in scores:
            score = self.judge.held(prompt)
            if score is MISSING:
                left.append((key, metric, prompt))
            else:
                self.judge.counts.cached += 1
                sheet.add_score(key, metric, score)
        return left

    async def _score(self, sheet: AnswerSheet, scores: list[tuple[str, str, str]], bar: Any) -> None:
        """The missing (key, metric, prompt) of one sheet."""

        def progress(done: int, together: int) -> None:
            bar.set_postfix_str(f"{done:,} of {together:,} answered in the batches under way")

        client = BatchClient(
            self.judge.client, sheet.batches, sheet.journal.append, sheet.output_path, self.budget, progress
        )
        judge = copy.copy(self.judge)
        judge.client = client

        async def one(key: str, metric: str, prompt: str) -> None:
            try:
                score = await judge.score_anew(prompt)
            except GivenUp as error:
                judge.counts.given_up += 1
                judge.counts.last_error = str(error)
            else:
                sheet.add_score(key, metric, score)
            bar.update()

        tasks = [asyncio.create_task(one(*score)) for score in scores]
        try:
            await client.run(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """Close the connections. Batches under way go on: the same command collects them."""
        try:
            self._runner.run(self.judge.close())
        finally:
            self._runner.close()

    def summary(self) -> str:
        """One line on what happened to the requests of this run."""
        return summary_of(self.judge.counts)


def refuse_under_way(sheets: Sequence[AnswerSheet]) -> None:
    """Refuse to ask one by one for scores that are under way in batches: they would be paid for twice."""
    for sheet in sheets:
        waiting = {record["batch"] for record in sheet.batches if "requests" in record}
        waiting -= {record["batch"] for record in sheet.batches if record.get("dropped")}
        if waiting and any(sheet.unscored(key) for key in sheet.answers):
            raise UserError(
                f"scores of {sheet.output_path} are under way in {len(waiting)} batch{'es' * (len(waiting) > 1)}: pass --judge_batch, which "
                "collects them"
            )
