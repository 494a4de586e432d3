"""Which judge scores answers: a model behind an endpoint, or the likelihoods that a language model gives them.

Opens what was chosen; the scores are :mod:`persona_vectors.judge.judge`'s and
:mod:`persona_vectors.likelihood.scores`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from persona_vectors import models
from persona_vectors.asking.sheet import AnswerSheet
from persona_vectors.files.fingerprints import of_json
from persona_vectors.traits.artifact import Trait

if TYPE_CHECKING:
    from persona_vectors.asking.judge_thread import JudgeThread
    from persona_vectors.asking.likelihood_judge import LikelihoodJudge
    from persona_vectors.asking.several_judges import SeveralJudges
    from persona_vectors.asking.subject import Subject

LIKELIHOOD = "likelihood"  # the judge that is no model behind an endpoint


@dataclass(frozen=True)
class JudgeSettings:
    """Which judge, and its settings.

    Attributes:
        model: as its endpoint names it, or ``likelihood``; several are separated by commas.
        max_concurrent: calls under way at a time.
        scorer: likelihood: the model that reads the answers; None is the base of the model that gave them.
        pairs: likelihood: how many instruction pairs each answer is read under.
    """

    model: str
    max_concurrent: int = 100
    scorer: models.ModelPath | None = None
    pairs: int | None = None

    @property
    def names(self) -> list[str]:
        """The judges."""
        return self.model.split(",")

    def scorer_for(self, path: models.ModelPath) -> models.ModelPath:
        """The model that reads the answers of ``path``."""
        return self.scorer or models.ModelPath(path.source, path.source)

    def made_of(self, path: models.ModelPath, trait: Trait) -> dict:
        """What scores of ``path``'s answers depend on beyond the settings that every judge has."""
        if LIKELIHOOD not in self.names:
            return {}
        scorer = models.made_of(self.scorer_for(path), "scorer", "scorer_adapter")
        return {**scorer, "scorer_pairs": self.pairs, "instructions": of_json(trait.name, trait.instruction)}

    def open(
        self, sheets: Sequence[AnswerSheet], subject: "Subject"
    ) -> "JudgeThread | LikelihoodJudge | SeveralJudges":
        """The judge, ready to score; one that cannot be used is refused now, before any answer is made."""
        if len(self.names) > 1:
            from persona_vectors.asking.several_judges import SeveralJudges

            def open_one(name: str, views: Sequence):
                return replace(self, model=name).open(views, subject)

            return SeveralJudges(self.names, open_one, sheets)
        if self.model == LIKELIHOOD:
            from persona_vectors.asking.likelihood_judge import LikelihoodJudge

            scorer = self.scorer_for(subject.path)
            return LikelihoodJudge(scorer, self.pairs, sheets, subject)
        from persona_vectors.asking.judge_thread import JudgeThread
        from persona_vectors.judge.judge import Judge

        return JudgeThread(Judge(self.model, max_concurrent=self.max_concurrent))
