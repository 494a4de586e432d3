"""Which judge scores answers: a model behind an endpoint, or the likelihoods that a language model gives them.

Opens what was chosen; the scores are :mod:`persona_vectors.judge.judge`'s and
:mod:`persona_vectors.likelihood.scores`'s.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from persona_vectors import models
from persona_vectors.asking.sheet import UNJUDGED, AnswerSheet
from persona_vectors.files.fingerprints import of_json, plain
from persona_vectors.judge.prompts import COHERENCE
from persona_vectors.traits.artifact import Trait

if TYPE_CHECKING:
    from persona_vectors.asking.judge_thread import JudgeThread
    from persona_vectors.asking.likelihood_judge import LikelihoodJudge
    from persona_vectors.asking.no_judge import NoJudge
    from persona_vectors.asking.several_judges import SeveralJudges
    from persona_vectors.asking.subject import Subject

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
    """

    model: str
    max_concurrent: int = 100
    scorer: models.ModelPath | None = None
    pairs: int | None = None
    coherence: str = COHERENCE
    cached: bool = True

    def prompts(self, trait: Trait) -> dict[str, str]:
        """{score column: judge prompt} of a trait's answers."""
        return {trait.name: trait.eval_prompt, **({"coherence": self.coherence} if self.coherence else {})}

    @property
    def names(self) -> list[str]:
        """The judges."""
        return self.model.split(",")

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
    ) -> "JudgeThread | LikelihoodJudge | NoJudge | SeveralJudges":
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
        return self.connect("0_100", [plain(sheet.settings) for sheet in sheets])

    def connect(self, kind: str, work: object) -> "JudgeThread":
        """The judge behind its endpoint for scores of one kind.

        ``work`` is what makes it the same work again, as JSON: where all of it has been begun before, the judge is not even
        probed until a score is missing from the cache.
        """
        from persona_vectors.asking.judge_thread import JudgeThread
        from persona_vectors.judge.cache import MISSING, ScoreCache
        from persona_vectors.judge.cached import CachedJudge

        cache = ScoreCache.of_user() if self.cached else None
        judge = CachedJudge(self.model, kind, self.max_concurrent, cache=cache)
        if cache is None:
            return JudgeThread(judge)
        begun = judge.key("work", json.dumps(work, sort_keys=True))
        judge.known = cache.get(begun) is not MISSING
        thread = JudgeThread(judge)
        cache.put(begun, True)
        return thread
