"""Scoring answer sheets by likelihood, in the place of a judge: after the answers, with the engine's own model if it can.

The scorer runs on transformers. Where it is the model that has just answered with transformers, or that model without its
adapter, nothing is loaded twice; otherwise it is loaded when the answers are there and their engine is gone.
Knows sheets, engines and models; the scores are :mod:`persona_vectors.likelihood.scores`'s.
"""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from persona_vectors import models
from persona_vectors.asking.sheet import AnswerSheet, PlannedAnswer
from persona_vectors.asking.subject import Subject
from persona_vectors.engines import Engine
from persona_vectors.engines.kept import release
from persona_vectors.errors import UserError
from persona_vectors.files.fingerprints import in_words
from persona_vectors.likelihood.scores import LikelihoodScorer, Scored, Spoken, held_out_pairs
from persona_vectors.models import chat_template

logger = logging.getLogger(__name__)

TOGETHER = 64  # answers scored at a time: what a kill loses at most
NAME_OF_RATIO = "{trait}_llr"  # the column of the log-likelihood ratio


class LikelihoodJudge:
    """What :class:`persona_vectors.asking.judge_thread.JudgeThread` is for a judge, and its bar as well.

    Answers are scored in groups that depend on the sheet alone, and a group of which a score is missing is read again:
    a run that was stopped gives the numbers of one that was not.

    Raises:
        UserError: the scorer has no chat template, or a trait too few instruction pairs.
    """

    def __init__(self, scorer: models.ModelPath, pairs: int, sheets: Sequence[AnswerSheet], subject: Subject) -> None:
        self.path, self.pairs, self.sheets, self.subject = scorer, pairs, sheets, subject
        for sheet in sheets:
            for planned in sheet.planned:
                held_out_pairs(sheet.trait, spoken_of(planned, "").before, pairs)
        self.tokenizer = models.load_tokenizer(scorer, subject.trust_remote_code)
        if not self.tokenizer.chat_template and subject.path.chat_template:  # --scorer names another base model
            subject.path.chat_template.put_on(self.tokenizer)
        chat_template.check_template(self.tokenizer)
        self.made_of = models.made_of(scorer)
        name, adapter = (self.made_of[part] for part in ("model", "adapter"))
        who = in_words(name) + (f" with {in_words(adapter)}" if adapter else "")
        self.how = f"likelihood under {pairs} held-out instruction pairs, read by {who}"
        logger.info(f"judge: {self.how}")
        self.seconds, self.count, self.problems = 0.0, 0, Counter()

    def scoring(self, _sheets: Sequence[AnswerSheet]) -> "LikelihoodJudge":
        """The bar of scores; see :class:`persona_vectors.asking.judge_thread.ScoreBar`."""
        return self

    def __enter__(self) -> "LikelihoodJudge":
        return self

    def __exit__(self, *_error) -> None: ...

    def ask(self, sheet: AnswerSheet, key: str) -> None:
        """Nothing yet: answers are scored when all are there."""

    def finish(self, engine: Engine | None = None) -> None:
        """Score what is unscored; with an ``engine`` that is still open, only if its model is the scorer."""
        if not any(self._missing(sheet) for sheet in self.sheets):
            return
        if engine is None:
            release()  # two models at a time may be one too many
            self._score_with(
                models.load_model(self.path, self.subject.generation.dtype, self.subject.trust_remote_code)
            )
        else:
            with self._model_of(engine) as model:
                if model is not None:
                    self._score_with(model)

    @contextlib.contextmanager
    def _model_of(self, engine: Engine) -> Iterator:
        """The engine's model as the scorer, or None where it is another."""
        from persona_vectors.models.adapters import changes_base

        answered, reads = (
            [part and part.id for part in (made_of["model"], made_of["adapter"])]
            for made_of in (models.made_of(self.subject.path), self.made_of)
        )
        if engine.name == "hf" and answered == reads:
            yield engine.model
        elif engine.name == "hf" and reads == [answered[0], None] and not changes_base(self.subject.path.adapter):
            with engine.model.disable_adapter():
                yield engine.model
        else:
            yield None

    def _missing(self, sheet: AnswerSheet) -> bool:
        return any(sheet.unscored(key) for key in sheet.answers)

    def _score_with(self, model) -> None:
        from tqdm import tqdm

        scorer = LikelihoodScorer(model, self.tokenizer, self.pairs)
        begin = time.monotonic()
        groups = [(sheet, group) for sheet in self.sheets for group in groups_of(sheet)]
        with tqdm(total=sum(len(group) for _, group in groups), desc="scores") as bar:
            for sheet, group in groups:
                if any(sheet.unscored(planned.key) for planned in group):
                    spoken = [spoken_of(planned, sheet.answers[planned.key]["answer"]) for planned in group]
                    for planned, scored in zip(group, scorer.score(sheet.trait, spoken), strict=True):
                        self._keep(sheet, planned.key, scored)
                bar.update(len(group))
        self.seconds += time.monotonic() - begin

    def _keep(self, sheet: AnswerSheet, key: str, scored: Scored) -> None:
        """Add those of an answer's numbers that the sheet lacks, the ratio first: it is not asked for."""
        if not sheet.unscored(key):
            return
        self.count += 1
        self.problems.update([scored.problem] if scored.problem else [])
        numbers = {
            NAME_OF_RATIO.format(trait=sheet.trait.name): scored.llr,
            sheet.trait.name: scored.score,
            "coherence": scored.coherence,
        }
        for metric, number in numbers.items():
            if (key, metric) not in sheet.scores:
                sheet.add_score(key, metric, number)

    def close(self) -> None:
        """Nothing is open."""

    def summary(self) -> str:
        """One line on what was scored in this run."""
        line = f"scored {self.count} answers in {self.seconds:.1f} s"
        return line + "".join(f"; {number} have no score: {reason}" for reason, number in self.problems.items())


def spoken_of(planned: PlannedAnswer, answer: str) -> Spoken:
    """An answer as the scorer takes it: few-shot examples are left out, as system prompts are; they are a condition.

    Raises:
        UserError: a conversation that cannot be read.
    """
    question = planned.question
    if not question.chat:
        return Spoken(question.text, answer, question.system)
    try:
        return Spoken.after(question.messages, answer)
    except UserError as error:
        raise UserError(f"{question.id} cannot be scored by likelihood: {error}") from error


def groups_of(sheet: AnswerSheet) -> list[list]:
    """The sheet's answers that are not empty, those to one question together, in groups of :data:`TOGETHER`."""
    planned = [one for one in sheet.planned if sheet.answers[one.key]["answer"].strip()]
    places = {text: place for place, text in enumerate(dict.fromkeys(one.question.text for one in planned))}
    planned.sort(key=lambda one: places[one.question.text])
    return [planned[start : start + TOGETHER] for start in range(0, len(planned), TOGETHER)]
