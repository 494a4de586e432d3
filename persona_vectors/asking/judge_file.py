"""Scores for the answers of a file that is there: new columns, window by window.

Knows files of rows, judges and their threads; what the columns are is the stage's business. A window of rows is kept when
all of it is judged; one of which a call was given up is asked for again by the next run. An answer whose prompt the
endpoint itself refuses (HTTP 400: too long, or filtered) has no score.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from persona_vectors.asking.choose_judge import JudgeSettings
from persona_vectors.asking.judge_thread import JudgeThread
from persona_vectors.errors import NothingScored, UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import of_bytes, plain
from persona_vectors.files.resumable import WindowedWork
from persona_vectors.files.rows import Exchange, Rows, Window, fingerprint
from persona_vectors.judge.endpoint import Refused
from persona_vectors.models.chat_template import split_reasoning

if TYPE_CHECKING:
    from tqdm import tqdm

MOST_ROWS = 256  # of a window: what a kill loses at most, where there is no cache of scores
EMPTY = "empty answer"


@dataclass(frozen=True)
class ScoreColumn:
    """A column to add: its name, the judge's prompt with {answer} and perhaps {question}, and the kind of its scores."""

    name: str
    prompt: str
    kind: str = "0_100"

    def made_from(self, judge_model: str) -> dict:
        """What goes on record of the column."""
        prompt = of_bytes(self.name, self.prompt)
        return provenance.record(judge_model=judge_model, judge_kind=self.kind, judge_prompt=prompt)


def answer_of(exchange: Exchange) -> str:
    """What is judged of a row: its answer without thoughts, also where a file has them in the answer's text."""
    return split_reasoning(exchange.answer, "")[1] if exchange.reasoning is None else exchange.answer


def lacking(rows: Rows, records: Mapping[str, Mapping], say) -> list[str]:
    """The columns that are to be made: those that the file lacks, and those whose writing was broken off.

    One that is there and was made from the very same is done; ``say`` gets a line.

    Raises:
        UserError: one is there that was made otherwise, or of which that is not known.
    """
    there, found = [name for name in records if name in rows.columns], []
    file = fingerprint(rows, "question") if there else None
    for name in records:
        verdict = provenance.compare(rows.path, {"file": file, **records[name]}, name) if name in there else None
        if verdict is None or (verdict.recorded and not verdict.finished):
            found.append(name)
        elif verdict.matches:
            say(f"{name} in {rows.path} exists already, from this judge and prompt: skipped (--overwrite asks anew)")
        else:
            why = "; ".join(verdict.differences) or (
                "the file was changed since" if verdict.recorded else "nobody knows how it was made"
            )
            raise UserError(
                f"{rows.path} has a column '{name}' already ({why}); --name calls the new one otherwise, --overwrite "
                "makes it anew"
            )
    return found


@contextlib.contextmanager
def opened(works: Sequence[WindowedWork], overwrite: bool) -> Iterator[int]:
    """Lock all files; gives the number of scores to come. Where no window was kept, nothing is left behind."""
    with contextlib.ExitStack() as stack:
        scores = 0
        for work in works:
            sizes = work.begin(overwrite)
            stack.callback(_leave, work)
            scores += sum(size for k, size in enumerate(sizes) if not work.is_kept(k)) * len(work.columns)
        yield scores


def _leave(work: WindowedWork) -> None:
    if any(work.folder.glob("*.npz")):
        work.journal.close()
    else:
        work.clear()


def judged_by(work: WindowedWork, how: Mapping[str, str]) -> None:
    """Put on record how the columns' scores come about; raises :class:`UserError` where those of kept windows did otherwise."""
    earlier = [entry["judge"] for entry in work.journal.records if "judge" in entry]
    if earlier and earlier[-1] != dict(how) and any(work.folder.glob("*.npz")):
        raise UserError(
            f"an unfinished run of {work.rows.path} was judged otherwise (judge was {earlier[-1]}, now {dict(how)}); judge as "
            "before, or pass --overwrite to begin anew"
        )
    if earlier[-1:] != [dict(how)]:
        work.journal.append({"judge": dict(how)})
    work.records = {name: {**record, "judge": how[name]} for name, record in work.records.items()}


def finish(work: WindowedWork) -> None:
    """Write the file with its columns, and report.

    Raises:
        NothingScored: there are answers, and not one score.
    """
    problems = [problem for _, problems in work.parts() for problem in problems]
    is_scored = any(value is not None for rows, _ in work.parts() for row in rows for value in row)
    if not is_scored and any(problem != EMPTY for problem in problems):
        work.clear()
        raise NothingScored(f"not one answer of {work.rows.path} was scored (see above): the file is as it was")
    work.report(*work.finish())


class _Asked:
    """A window under way: its values and problems, and how many replies are still to come."""

    def __init__(self, number: int, rows: int, columns: int) -> None:
        self.number, self.is_lost = number, 0
        self.values: list[list[float | None]] = [[None] * columns for _ in range(rows)]
        self.problems = [""] * rows
        self.left, self.is_done, self._lock = 0, threading.Event(), threading.Lock()

    def expect(self, count: int) -> None:
        with self._lock:
            self.left += count
            if not self.left:
                self.is_done.set()

    def lose(self, row: int, error: Exception) -> None:
        if isinstance(error, Refused):
            self.problems[row] = "the endpoint refuses to judge the answer"
        else:
            self.is_lost += 1


class PromptJudge:
    """Scores of files by the judge that ``judging`` names, one thread per kind of score.

    Args:
        work: what makes it the same work again, as JSON.

    Example:
        judge = PromptJudge(JudgeSettings("gpt-4.1-mini-2025-04-14"), columns, [])
    """

    def __init__(self, judging: JudgeSettings, columns: Sequence[ScoreColumn], work: object) -> None:
        self.columns, self.most = {column.name: column for column in columns}, 4 * judging.max_concurrent
        self._threads: dict[str, JudgeThread] = {}
        try:
            for kind in dict.fromkeys(column.kind for column in columns):
                self._threads[kind] = judging.connect(kind, plain(work))
        except BaseException:
            self.close()
            raise
        self.how = {column.name: self._threads[column.kind].how for column in columns}

    def fill(self, work: WindowedWork, bar: "tqdm") -> int:
        """Judge a file's unfinished windows; returns how many calls were given up."""
        under_way: deque[_Asked] = deque()
        lost = 0
        for window in work.unfinished():
            under_way.append(self._ask(work, window, bar))
            while sum(asked.left for asked in under_way) > self.most:
                lost += self._keep(work, under_way.popleft())
        while under_way:
            lost += self._keep(work, under_way.popleft())
        return lost

    def _ask(self, work: WindowedWork, window: Window, bar: "tqdm") -> _Asked:
        asked, calls = _Asked(window.number, len(window.records), len(work.columns)), []
        for row, record in enumerate(window.records):
            exchange = work.rows.exchange(record)
            if isinstance(exchange, str) or not answer_of(exchange).strip():
                asked.problems[row] = exchange if isinstance(exchange, str) else EMPTY
                continue
            for place, column in enumerate(map(self.columns.__getitem__, work.columns)):
                if "{question}" in column.prompt and not exchange.question.strip():
                    asked.problems[row] = "no question"
                else:
                    calls.append((column, exchange, row, place))
        bar.update(len(window.records) * len(work.columns) - len(calls))
        asked.expect(len(calls))
        for column, exchange, row, place in calls:
            self._submit(asked, column, exchange, row, place, bar)
        return asked

    def _submit(
        self, asked: _Asked, column: ScoreColumn, exchange: Exchange, row: int, place: int, bar: "tqdm"
    ) -> None:
        def done() -> None:
            bar.update()
            asked.expect(-1)

        self._threads[column.kind].submit(
            column.prompt.format(question=exchange.question, answer=answer_of(exchange)),
            lambda score: asked.values[row].__setitem__(place, score),
            done,
            lambda error: asked.lose(row, error),
        )

    def _keep(self, work: WindowedWork, asked: _Asked) -> int:
        """Wait for a window; keep it if no call of it was given up, else say how many were."""
        while not asked.is_done.wait(0.1):
            self._check()
        self._check()
        if not asked.is_lost:
            for row, values in enumerate(asked.values):
                if None in values and not asked.problems[row]:
                    asked.problems[row] = "the judge refused, or gave no number"
            work.keep(asked.number, asked.values, asked.problems)
        return asked.is_lost

    def _check(self) -> None:
        for thread in self._threads.values():
            thread.check()

    @property
    def last_error(self) -> str:
        """What the last call that was given up ended with."""
        return next(filter(None, (thread.judge.counts.last_error for thread in self._threads.values())), "")

    def summary(self) -> str:
        """One line per kind of score on what happened to its calls."""
        return "\n".join(thread.summary() for thread in self._threads.values())

    def close(self) -> None:
        """Stop at once; calls under way are dropped."""
        for thread in self._threads.values():
            thread.close()
