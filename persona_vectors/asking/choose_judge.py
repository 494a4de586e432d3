"""Which judge scores answers: a model behind an endpoint, or the likelihoods that a language model gives them.

Opens what was chosen; the scores are :mod:`persona_vectors.judge.judge`'s and
:mod:`persona_vectors.likelihood.scores`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from persona_vectors import models
from persona_vectors.asking.sheet import AnswerSheet
from persona_vectors.files.fingerprints import of_json
from persona_vectors.judge.prices import Costs
from persona_vectors.judge.tokens import Counter, counter_of
from persona_vectors.traits.artifact import Trait

if TYPE_CHECKING:
    from persona_vectors.asking.batch_judge import BatchJudge
    from persona_vectors.asking.judge_thread import JudgeThread
    from persona_vectors.asking.likelihood_judge import LikelihoodJudge
    from persona_vectors.asking.subject import Subject

LIKELIHOOD = "likelihood"  # the judge that is no model behind an endpoint


@dataclass(frozen=True)
class JudgeSettings:
    """Which judge, and its settings.

    Attributes:
        model: as its endpoint names it, or ``likelihood``.
        max_concurrent: calls under way at a time.
        scorer: likelihood: the model that reads the answers; None is the base of the model that gave them.
        pairs: likelihood: how many instruction pairs each answer is read under.
        batch: scores come through the endpoint's batch API.
        costs: prices, and the most that a run may cost; by default the shipped prices and no limit.
    """

    model: str
    max_concurrent: int = 100
    scorer: models.ModelPath | None = None
    pairs: int | None = None
    batch: bool = False
    costs: Costs | None = None

    def scorer_for(self, path: models.ModelPath) -> models.ModelPath:
        """The model that reads the answers of ``path``."""
        return self.scorer or models.ModelPath(path.source, path.source)

    def made_of(self, path: models.ModelPath, trait: Trait) -> dict:
        """What scores of ``path``'s answers depend on beyond the settings that every judge has."""
        if self.model != LIKELIHOOD:
            return {}
        scorer = models.made_of(self.scorer_for(path), "scorer", "scorer_adapter")
        return {**scorer, "scorer_pairs": self.pairs, "instructions": of_json(trait.name, trait.instruction)}

    def open(
        self, sheets: Sequence[AnswerSheet], subject: "Subject"
    ) -> Union["JudgeThread", "BatchJudge", "LikelihoodJudge"]:
        """The judge, ready to score; one that cannot be used is refused now, before any answer is made."""
        if self.model == LIKELIHOOD:
            from persona_vectors.asking.likelihood_judge import LikelihoodJudge

            scorer = self.scorer_for(subject.path)
            return LikelihoodJudge(scorer, self.pairs, sheets, subject)
        from persona_vectors.asking.batch_judge import BatchJudge, refuse_under_way
        from persona_vectors.asking.judge_thread import JudgeThread
        from persona_vectors.judge.judge import Judge

        judge = Judge(self.model, max_concurrent=self.max_concurrent)
        budget = None
        if self.costs is not None and self.costs.max_cost is not None:
            budget = self.costs.budget(self.model, self.batch, judge.counts, self.counter(subject))
        if self.batch:
            return BatchJudge(judge, sheets, budget)
        refuse_under_way(sheets)
        return JudgeThread(judge, budget)

    def counter(self, subject: "Subject") -> Counter:
        """What counts the tokens that the judge reads; see :func:`persona_vectors.judge.tokens.counter_of`."""
        tokenizer = models.load_tokenizer(subject.path, subject.trust_remote_code)
        return counter_of(self.model, tokenizer, subject.path.name)
