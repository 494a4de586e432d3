"""Which judge scores answers: a model behind an endpoint, or the likelihoods that a language model gives them.

Opens what was chosen; the scores are :mod:`persona_vectors.judge.judge`'s and
:mod:`persona_vectors.likelihood.scores`'s.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from persona_vectors import models
from persona_vectors.asking.sheet import UNJUDGED, AnswerSheet
from persona_vectors.files.fingerprints import of_json, plain
from persona_vectors.judge.prices import Budget, Costs
from persona_vectors.judge.prompts import COHERENCE
from persona_vectors.judge.tokens import Counter, counter_of
from persona_vectors.traits.artifact import Trait

if TYPE_CHECKING:
    from persona_vectors.asking.batch_judge import BatchJudge
    from persona_vectors.asking.judge_thread import JudgeThread
    from persona_vectors.asking.likelihood_judge import LikelihoodJudge
    from persona_vectors.asking.no_judge import NoJudge
    from persona_vectors.asking.several_judges import SeveralJudges
    from persona_vectors.asking.subject import Subject
    from persona_vectors.judge.cached import CachedJudge

Opened = TypeVar("Opened")

LIKELIHOOD = "likelihood"  # the judge that is no model behind an endpoint


@dataclass(frozen=True)
class JudgeSettings:
    """Which judge, and its settings.

    Attributes:
        model: as its endpoint names it, ``likelihood``, or ``none``; several are separated by commas.
        max_concurrent: calls under way at a time.
        scorer: likelihood: the model that reads the answers; None is the base of the model that gave them.
        pairs: likelihood: how many instruction pairs each answer is read under.
        coherence: the judge's prompt for coherence; "" leaves coherence out.
        cached: take scores that were paid for earlier, and keep new ones.
        batch: scores come through the endpoint's batch API.
        costs: prices, and the most that a run may cost; by default the shipped prices and no limit.
    """

    model: str
    max_concurrent: int = 100
    scorer: models.ModelPath | None = None
    pairs: int | None = None
    coherence: str = COHERENCE
    cached: bool = True
    batch: bool = False
    costs: Costs | None = None

    def prompts(self, trait: Trait) -> dict[str, str]:
        """{score column: judge prompt} of a trait's answers."""
        return {trait.name: trait.eval_prompt, **({"coherence": self.coherence} if self.coherence else {})}

    @property
    def names(self) -> list[str]:
        """The judges."""
        return self.model.split(",")

    @property
    def behind_endpoints(self) -> list[str]:
        """The judges that are asked over HTTP, and may cost something."""
        return [name for name in self.names if name not in (LIKELIHOOD, UNJUDGED)]

    def scorer_for(self, path: models.ModelPath) -> models.ModelPath:
        """The model that reads the answers of ``path``."""
        return self.scorer or path.bare

    def made_of(self, path: models.ModelPath, trait: Trait) -> dict:
        """What scores of ``path``'s answers depend on beyond the settings that every judge has."""
        if LIKELIHOOD not in self.names:
            return {}
        scorer = models.made_of(self.scorer_for(path), "scorer", "scorer_adapter")
        return {**scorer, "scorer_pairs": self.pairs, "instructions": of_json(trait.name, trait.instruction)}

    def open(
        self, sheets: Sequence[AnswerSheet], subject: "Subject"
    ) -> "JudgeThread | BatchJudge | LikelihoodJudge | NoJudge | SeveralJudges":
        """The judge, ready to score; one that cannot be used is refused now, before any answer is made."""
        if self.model == UNJUDGED:
            from persona_vectors.asking.no_judge import NoJudge

            return NoJudge()
        if len(self.names) > 1:
            from persona_vectors.asking.several_judges import SeveralJudges

            def open_one(name: str, views: Sequence):
                return replace(self, model=name).open(views, subject)

            return SeveralJudges(self.names, open_one, sheets)
        if self.model == LIKELIHOOD:
            from persona_vectors.asking.likelihood_judge import LikelihoodJudge

            scorer = self.scorer_for(subject.path)
            return LikelihoodJudge(scorer, self.pairs, sheets, subject)
        from persona_vectors.asking.batch_judge import BatchJudge, refuse_under_way
        from persona_vectors.asking.judge_thread import JudgeThread

        if not self.batch:
            refuse_under_way(sheets)

        def opening(judge: "CachedJudge") -> "JudgeThread | BatchJudge":
            budget = self._budget(judge, subject)
            return BatchJudge(judge, sheets, budget) if self.batch else JudgeThread(judge, budget)

        return self._connected("0_100", work_of(sheets), opening)

    def connect(self, kind: str, work: object) -> "JudgeThread":
        """The judge behind its endpoint for scores of one kind.

        ``work`` is what makes it the same work again, as JSON: where all of it has been begun before, the judge is not even
        probed until a score is missing from the cache.
        """
        from persona_vectors.asking.judge_thread import JudgeThread

        return self._connected(kind, work, JudgeThread)

    def _connected(self, kind: str, work: object, opening: "Callable[[CachedJudge], Opened]") -> "Opened":
        judge, begun = self.unopened(kind, work)
        opened = opening(judge)
        if judge.cache is not None:
            judge.cache.put(begun, True)
        return opened

    def unopened(self, kind: str, work: object, look: bool = False) -> "tuple[CachedJudge, str]":
        """A judge that is not connected yet, and the key under which the cache remembers that ``work`` was begun.

        ``look`` is for a look into the cache that leaves it as it is.
        """
        from persona_vectors.judge.cache import MISSING, ScoreCache
        from persona_vectors.judge.cached import CachedJudge

        judge = CachedJudge(self.model, kind, self.max_concurrent, makes_calls=not look)
        judge.cache = ScoreCache.of_user(look) if self.cached else None
        begun = judge.key("work", json.dumps(work, sort_keys=True))
        judge.known = judge.cache is not None and judge.cache.get(begun) is not MISSING
        return judge, begun

    def _budget(self, judge: "CachedJudge", subject: "Subject") -> Budget | None:
        if self.costs is None or self.costs.max_cost is None:
            return None
        return self.costs.budget(self.model, self.batch, judge.counts, self.counter(subject))

    def counter(self, subject: "Subject") -> Counter:
        """What counts the tokens that the judge reads; see :func:`persona_vectors.judge.tokens.counter_of`."""
        tokenizer = models.load_tokenizer(subject.path, subject.trust_remote_code)
        return counter_of(self.model, tokenizer, subject.path.name)


def work_of(sheets: "Sequence[AnswerSheet]") -> list:
    """What makes answers and scores the same work again, whatever their files are called."""
    return [plain(sheet.settings) for sheet in sheets]
