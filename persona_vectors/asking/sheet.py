"""One answers CSV in the making: which answers are planned, which exist, which scores are still to be asked for.

Knows the table and its journal; knows nothing of engines or HTTP. A row is (question, sample, layer, coefficient);
unsteered rows (coefficient 0) are the same at every layer, so they are made and judged once and shown at each.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from persona_vectors.errors import NothingScored, UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import of_json
from persona_vectors.files.journal import Journal
from persona_vectors.files.jsonfile import to_json
from persona_vectors.files.tables import ANSWER_COLUMNS, write_table
from persona_vectors.steering.sweep import Cell
from persona_vectors.traits.artifact import Question, Trait

logger = logging.getLogger(__name__)

RESERVED = {
    *ANSWER_COLUMNS,
    "coherence",
    "coef",
    "layer",
    "control",
    "dose",
    "condition",
    "reasoning",
    "finish",
    "messages",
}
CUT_OFF = "length"  # the finish of an answer that max_tokens ended
UNJUDGED = "none"  # the judge_model of answers that are only made


@dataclass(frozen=True)
class PlannedAnswer:
    """One answer to make: a question under a cell, and its repetition index. ``key`` names it in the journal."""

    question: Question
    sample: int
    cell: Cell

    @property
    def key(self) -> str:
        """Unique within a sheet; the same for all layers where nothing is steered."""
        steered = "".join(f"|{part}" for part in self.cell.key) if self.cell.coef else ""
        return f"{self.question.key or self.question.id}|{self.sample}{steered}"

    @property
    def draw(self) -> str:
        """What the random draw depends on: not the cell, so that coefficients are compared on equal luck."""
        return f"{self.question.id}|{self.sample}"


class AnswerSheet:
    """The answers and scores of one trait, one instruction type and one output file.

    Args:
        grid: cells of the steering sweep; more than one adds the columns coef and layer, controls the column control.
        judge_prompts: metric -> prompt with {question} and {answer}; the metrics are the score columns.
        settings: whatever the answers and scores depend on, the model by its content; neither an unfinished run with
            other settings nor a table that was made with them is taken up.
    """

    def __init__(
        self,
        output_path: str,
        trait: Trait,
        questions: Sequence[Question],
        n_per_question: int,
        grid: Sequence[Cell],
        judge_prompts: dict[str, str],
        settings: dict,
    ) -> None:
        if trait.name in RESERVED:
            raise UserError(f"'{trait.name}' names a column of the answers file already; rename the trait")
        self.output_path, self.trait, self.grid, self.judge_prompts = output_path, trait, list(grid), judge_prompts
        self.rows = [PlannedAnswer(q, k, cell) for cell in self.grid for q in questions for k in range(n_per_question)]
        self.planned = list({row.key: row for row in self.rows}.values())
        asked = [
            [q.text, q.system, *([q.shots] if q.shots else []), *([q.chat, q.columns] if q.chat else [])]
            for q in questions
        ]
        artifact = of_json(trait.name, [*asked, judge_prompts])
        self.settings = provenance.record(**settings, trait=trait.name, artifact=artifact)
        self.answers: dict[str, dict] = {}
        self.scores: dict[tuple[str, str], float | None] = {}
        self.further: list[str] = []  # score columns beside the metrics, in their order
        self.journal: Journal | None = None
        self.judge: str | None = None
        self.batches: list[dict] = []
        self.paces: list[dict] = []

    @property
    def metrics(self) -> tuple[str, ...]:
        """The score columns: the trait, and coherence."""
        return tuple(self.judge_prompts)

    @property
    def is_judged(self) -> bool:
        """Whether the answers are to be scored at all."""
        return self.settings.get("judge_model") != UNJUDGED

    @property
    def is_done(self) -> bool:
        """True where the CSV is there and no journal of answers says that something is missing from it.

        A journal may also be of a projection that was adding its column to the finished CSV.
        """
        return Path(self.output_path).exists() and "artifact" not in Journal.settings_of(self.output_path)

    def take_up(self) -> bool:
        """Whether the CSV that is there may be used for these settings; see :func:`provenance.take_up`.

        Raises:
            UserError: it was made with others, or scores in it were made anew by ``eval.judge``.
        """
        for metric in self.metrics if self.is_judged else ():
            anew = provenance.read(self.output_path).get("parts", {}).get(metric)
            if anew is not None:
                judge = f" by {anew.get('judge_model')}" if isinstance(anew, dict) else ""
                raise UserError(
                    f"the scores '{metric}' in {self.output_path} were made anew{judge} (eval.judge); {provenance.REMEDY}"
                )
        return provenance.take_up(self.output_path, self.settings)

    def open(self, overwrite: bool = False) -> None:
        """Open the journal and take up what an earlier run left.

        ``overwrite`` begins anew, except where the unfinished run is one with the same settings (then it is this
        very command that was interrupted).
        """
        self.journal = Journal(self.output_path, self.settings, overwrite=overwrite)
        if not self.journal.records and not overwrite and Path(self.output_path).exists():
            self.journal.close(remove=True)
            raise UserError(f"{self.output_path} has appeared since this run began; --overwrite makes it anew")
        self._take(self.journal.records)

    def look(self, overwrite: bool = False) -> None:
        """Take up what :meth:`open` would, and leave everything on disk as it is."""
        self._take(Journal.look(self.output_path, self.settings, overwrite))

    def _take(self, records: Sequence[dict]) -> None:
        for record in records:
            if "answer" in record:
                self.answers[record["key"]] = record
            elif "metric" in record:
                self.scores[record["key"], record["metric"]] = record["score"]
            elif "judge" in record:
                self.judge = record["judge"]
            elif "batch" in record:  # see judge/batch_files.py
                self.batches.append(record)
            elif "pace" in record:
                self.paces.append(record["pace"])
        if not self.has_scores:  # a judge that never gave a number has not judged: all are asked for again
            self.scores = {place: score for place, score in self.scores.items() if score is not None}

    def judged_by(self, how: str) -> None:
        """Say how the scores to come are made, which goes with them; raises :class:`UserError` where the journal's came about otherwise."""
        if self.judge not in (None, how) and self.scores:
            raise UserError(
                f"the scores of {self.output_path} were made otherwise (judge was {self.judge!r}, now {how!r}) and cannot be "
                "mixed; judge as before, choose another output, or pass --overwrite to begin anew"
            )
        self.judge = how

    @property
    def has_scores(self) -> bool:
        """Whether any answer has a score in a column of the trait or of coherence."""
        return any(score is not None for (_, metric), score in self.scores.items() if metric in self.judge_prompts)

    def unanswered(self) -> list[PlannedAnswer]:
        """Answers still to be generated."""
        return [planned for planned in self.planned if planned.key not in self.answers]

    def unscored(self, key: str) -> dict[str, str]:
        """Filled-in judge prompts of an answer's missing scores, by metric; none for an empty answer or without a judge."""
        record = self.answers[key]
        if not record["answer"].strip() or not self.is_judged:
            return {}
        return {
            metric: prompt.format(question=record["question"], answer=record["answer"])
            for metric, prompt in self.judge_prompts.items()
            if (key, metric) not in self.scores
        }

    def add_answer(
        self, planned: PlannedAnswer, prompt: str, answer: str, reasoning: str = "", finish: str = ""
    ) -> None:
        """Keep a finished answer; a thinking model's reasoning goes into a column of its own.

        ``finish`` is why it ended, ``stop`` or ``length``; "" where that is not known, as in journals that are older.
        """
        record = {"key": planned.key, "question": planned.question.text, "prompt": prompt, "answer": answer}
        if reasoning:
            record["reasoning"] = reasoning
        if finish:
            record["finish"] = finish
        self.journal.append(record)
        self.answers[planned.key] = record

    def add_score(self, key: str, metric: str, score: float | None) -> None:
        """Keep a score; None is a refusal, which is not asked for again."""
        if not self.scores:
            self.journal.append({"judge": self.judge})
        self.journal.append({"key": key, "metric": metric, "score": score})
        self.scores[key, metric] = score

    def table(self):
        """The DataFrame of the CSV: one row per planned row, in the order of cells, questions, samples."""
        import pandas

        swept, controlled = len(self.grid) > 1, any(cell.control for cell in self.grid)
        dosed = swept and any(cell.dose for cell in self.grid)
        reasoned = any("reasoning" in record for record in self.answers.values())
        cut = any(record.get("finish") == CUT_OFF for record in self.answers.values())
        conversed = any(row.question.turns for row in self.rows)
        others = [metric for _, metric in self.scores if metric not in self.judge_prompts]
        further = dict.fromkeys([*self.further, *others])
        lines = []
        for row in self.rows:
            record = self.answers[row.key]
            line = {column: record.get(column) for column in ANSWER_COLUMNS}
            line["question_id"] = row.question.id
            line |= {metric: self.scores.get((row.key, metric)) for metric in [*self.judge_prompts, *further]}
            line |= {"condition": row.question.condition} if row.question.condition else {}
            line |= {"coef": row.cell.coef, "layer": row.cell.layer} if swept else {}
            line |= {"control": row.cell.control_name} if controlled else {}
            line |= {"dose": row.cell.dose} if dosed else {}
            line |= {"reasoning": record.get("reasoning", "")} if reasoned else {}
            line |= {"finish": record.get("finish", "")} if cut else {}
            line |= {"messages": to_json(row.question.turns) if row.question.turns else ""} if conversed else {}
            line |= row.question.columns
            lines.append(line)
        return pandas.DataFrame(lines)

    def write(self) -> None:
        """Write the CSV. The journal goes, unless calls were given up: then a rerun asks for just those.

        Raises:
            NothingScored: there are answers and not one score; the answers stay in the journal.
        """
        if self.is_judged and not self.has_scores and any(record["answer"].strip() for record in self.answers.values()):
            self.journal.close(remove=False)
            raise NothingScored(
                f"not one of {len(self.answers)} answers of {self.output_path} was scored: the judge gave no number (see "
                "above); the answers are kept, and the same command has them judged again"
            )
        made_from = None if self.journal.is_older else {**self.settings, "judge": self.judge}
        with provenance.writing(self.output_path, made_from):
            write_table(self.table(), self.output_path)
        missing = any(self.unscored(key) for key in self.answers)
        if missing:
            self.journal.append({"finished": True})
        self.journal.close(remove=not missing)


def summarise(table, metrics: Sequence[str]) -> None:
    """Log mean and spread of each score, per coefficient and layer where there are several, and how many answers are empty,
    cut off or without a score.
    """
    empty = int((table["answer"].astype(str).str.strip() == "").sum()) if "answer" in table else 0
    if empty:
        logger.info(f"{empty} of {len(table)} answers are empty: they have no scores")
    cut = int((table["finish"] == CUT_OFF).sum()) if "finish" in table else 0
    if cut:
        logger.info(f"{cut} of {len(table)} answers were cut off at max_tokens (column finish: {CUT_OFF})")
    for metric in metrics:
        if not table[metric].notna().any():
            logger.info(f"{metric}:  none of {len(table)} scored")
    metrics = [metric for metric in metrics if table[metric].notna().any()]
    if not metrics:
        return
    if "control" in table:  # their mean is one row beside the trait's own vector
        table = table.assign(control=table["control"].fillna("").str.replace(r" \d+$", "", regex=True))
    swept = [name for name in ("layer", "coef", "control") if name in table and table[name].nunique() > 1]
    if not swept:
        for metric in metrics:
            scores = table[metric]
            spread = f" +- {scores.std():.2f}" if scores.count() > 1 else ""
            logger.info(f"{metric}:  {scores.mean():.2f}{spread}  ({scores.count()} of {len(scores)} scored)")
        return
    groups = table.groupby(swept, dropna=False)
    means = groups[list(metrics)].mean().round(2)
    if "dose" in table:
        means.insert(0, "dose", groups["dose"].first())
    logger.info(means.to_string(na_rep="-"))
