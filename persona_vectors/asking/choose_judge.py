"""Which judge scores answers: a model behind an endpoint, or the likelihoods that a language model gives them.

Knows the flags that choose, and opens what was chosen; the scores are :mod:`persona_vectors.judge.judge`'s and
:mod:`persona_vectors.likelihood.scores`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from persona_vectors import cli, models
from persona_vectors.asking.sheet import AnswerSheet
from persona_vectors.errors import UserError
from persona_vectors.files.fingerprints import of_json
from persona_vectors.traits.artifact import Trait

if TYPE_CHECKING:
    from persona_vectors.asking.judge_thread import JudgeThread
    from persona_vectors.asking.likelihood_judge import LikelihoodJudge
    from persona_vectors.asking.subject import Subject

LIKELIHOOD = "likelihood"  # the --judge_model that is none


@dataclass(frozen=True)
class JudgeFlags:
    """The judge that the command line asks for.

    Attributes:
        model: as its endpoint names it, or ``likelihood``.
        scorer: likelihood: the model that reads the answers; None is the base of the model that gave them.
        pairs: likelihood: how many instruction pairs each answer is read under.
    """

    model: str
    max_concurrent: int = 100
    scorer: models.ModelPath | None = None
    pairs: int | None = None

    @classmethod
    def read(
        cls, judge_model: str, max_concurrent_judges: object, scorer: str | None, scorer_pairs: object
    ) -> "JudgeFlags":
        """Check ``--judge_model`` and what goes with it."""
        max_concurrent = cli.as_int("max_concurrent_judges", max_concurrent_judges, 1)
        if judge_model == LIKELIHOOD:
            from persona_vectors.likelihood.scores import PAIRS

            pairs = PAIRS if scorer_pairs is None else cli.as_int("scorer_pairs", scorer_pairs, 1)
            return cls(judge_model, max_concurrent, None if scorer is None else models.resolve(scorer), pairs)
        for flag, value in (("scorer", scorer), ("scorer_pairs", scorer_pairs)):
            if value is not None:
                raise UserError(f"--{flag} goes with --judge_model {LIKELIHOOD}; the judge is {judge_model}")
        return cls(judge_model, max_concurrent)

    def scorer_for(self, path: models.ModelPath) -> models.ModelPath:
        """The model that reads the answers of ``path``."""
        return self.scorer or models.ModelPath(path.source, path.source)

    def made_of(self, path: models.ModelPath, trait: Trait) -> dict:
        """What scores of ``path``'s answers depend on beyond the settings that every judge has."""
        if self.model != LIKELIHOOD:
            return {}
        scorer = models.made_of(self.scorer_for(path), "scorer", "scorer_adapter")
        return {**scorer, "scorer_pairs": self.pairs, "instructions": of_json(trait.name, trait.instruction)}

    def open(self, sheets: Sequence[AnswerSheet], subject: "Subject") -> Union["JudgeThread", "LikelihoodJudge"]:
        """The judge, ready to score; one that cannot be used is refused now, before any answer is made."""
        if self.model == LIKELIHOOD:
            from persona_vectors.asking.likelihood_judge import LikelihoodJudge

            scorer = self.scorer_for(subject.path)
            return LikelihoodJudge(scorer, self.pairs, sheets, subject)
        from persona_vectors.asking.judge_thread import JudgeThread
        from persona_vectors.judge.judge import Judge

        return JudgeThread(Judge(self.model, max_concurrent=self.max_concurrent))
