"""Several judges of the same answers at once: a column for each score of each judge, and their mean.

The mean stands in the published columns <trait> and coherence, where all judges gave a number; it is empty where one
refused. The judges' own are <trait>_<judge> and coherence_<judge>, after those. Each judge sees a sheet of its own
(:class:`SheetOfOne`), so that it need not know of the others.
"""

import contextlib
import threading
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from persona_vectors.asking.sheet import AnswerSheet


class SheetOfOne:
    """A sheet as one of its judges sees it: its scores are this judge's.

    Attributes:
        scores: this judge's, by answer and metric.
    """

    def __init__(self, sheet: AnswerSheet, judge: str, judges: Sequence[str], lock: threading.Lock) -> None:
        self.sheet, self.judge, self.judges, self._lock = sheet, judge, judges, lock
        self.trait, self.planned, self.metrics, self.answers = sheet.trait, sheet.planned, sheet.metrics, sheet.answers
        self.settings, self.judge_prompts, self.batches = sheet.settings, sheet.judge_prompts, sheet.batches
        own = {self._column(metric): metric for metric in sheet.metrics}
        self.scores = {(key, own[column]): score for (key, column), score in sheet.scores.items() if column in own}

    def _column(self, metric: str, judge: str | None = None) -> str:
        """The judge's own column of a metric; what is not asked of every judge (<trait>_llr) is called as it is."""
        return f"{metric}_{judge or self.judge}" if metric in self.metrics else metric

    def unscored(self, key: str) -> dict[str, str]:
        """Filled-in judge prompts of the scores that this judge has not given, by metric."""
        return {m: prompt for m, prompt in self.sheet.unscored(key).items() if (key, m) not in self.scores}

    def add_score(self, key: str, metric: str, score: float | None) -> None:
        """Keep this judge's score, and the mean if it is the last one."""
        with self._lock:
            self.scores[key, metric] = score
            self.sheet.add_score(key, self._column(metric), score)
            self._add_mean(key, metric)

    def add_means(self) -> None:
        """Add the means that a run lacks which was stopped just before."""
        with self._lock:
            for key, metric in list(self.scores):
                self._add_mean(key, metric)

    def _add_mean(self, key: str, metric: str) -> None:
        places = [(key, self._column(metric, judge)) for judge in self.judges]
        kept = self.sheet.scores
        if metric in self.metrics and (key, metric) not in kept and all(place in kept for place in places):
            scores = [kept[place] for place in places]
            self.sheet.add_score(key, metric, None if None in scores else fmean(scores))


def views_of(sheets: Sequence[AnswerSheet], names: Sequence[str]) -> dict[str, list[SheetOfOne]]:
    """{judge: the sheets as it sees them}."""
    locks = [threading.Lock() for _ in sheets]
    return {
        name: [SheetOfOne(sheet, name, names, lock) for sheet, lock in zip(sheets, locks, strict=True)]
        for name in names
    }


class SeveralJudges:
    """Judges in the place of one: every answer goes to each.

    Args:
        names: of the judges, as they are typed; the endings of their columns.
        open_one: makes a judge of a name and its sheets.

    Raises:
        UserError: one of them cannot be used.
    """

    def __init__(
        self, names: Sequence[str], open_one: Callable[[str, Sequence[SheetOfOne]], Any], sheets: Sequence[AnswerSheet]
    ) -> None:
        for sheet in sheets:
            sheet.further = [f"{metric}_{name}" for metric in sheet.metrics for name in names]
        self.sheets = views_of(sheets, names)
        self.judges: dict[str, Any] = {}
        try:
            for place, name in enumerate(names, 1):
                self.judges[name] = judge = open_one(name, self.sheets[name])
                judge.bar = {"desc": f"scores, {name}", "position": place}
        except BaseException:
            self.close()
            raise
        self.how = "; ".join(judge.how for judge in self.judges.values())

    @contextlib.contextmanager
    def scoring(self, sheets: Sequence[AnswerSheet]):
        """The bars of all judges, as one."""
        for views in self.sheets.values():
            for view in views:
                view.add_means()
        with contextlib.ExitStack() as opened:
            bars = {name: opened.enter_context(j.scoring(self.sheets[name])) for name, j in self.judges.items()}
            yield _Bars(bars, self.sheets)

    def close(self) -> None:
        """Stop at once; calls under way are dropped."""
        with contextlib.ExitStack() as closing:
            for judge in self.judges.values():
                closing.callback(judge.close)

    def summary(self) -> str:
        """A line a judge on what happened to its calls."""
        return "\n".join(f"{name}: {judge.summary()}" for name, judge in self.judges.items())


class _Bars:
    """Sends answers to every judge."""

    def __init__(self, bars: dict[str, Any], sheets: dict[str, list[SheetOfOne]]) -> None:
        self.bars = bars
        self.views = {name: {id(view.sheet): view for view in views} for name, views in sheets.items()}

    def ask(self, sheet: AnswerSheet, key: str) -> None:
        """Ask every judge for the scores that it has not given."""
        for name, bar in self.bars.items():
            bar.ask(self.views[name][id(sheet)], key)

    def finish(self, engine: object = None) -> None:
        """Wait for every score; see :class:`persona_vectors.asking.judge_thread.ScoreBar`."""
        for bar in self.bars.values():
            bar.finish(engine)
