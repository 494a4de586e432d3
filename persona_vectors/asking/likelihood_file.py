"""Scores by likelihood for the answers of a file that is there, in the place of a judge that reads prompts.

Knows files of rows and models; the scores are :mod:`persona_vectors.likelihood.scores`'s.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from persona_vectors import models
from persona_vectors.asking.choose_judge import LIKELIHOOD, JudgeSettings
from persona_vectors.asking.judge_file import EMPTY, answer_of
from persona_vectors.asking.likelihood_judge import NAME_OF_RATIO
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.resumable import WindowedWork
from persona_vectors.files.rows import Exchange, Rows
from persona_vectors.likelihood.scores import LikelihoodScorer, Spoken, held_out_pairs
from persona_vectors.models import chat_template
from persona_vectors.traits.artifact import Trait

if TYPE_CHECKING:
    from tqdm import tqdm


def made_from(judging: JudgeSettings, trait: Trait, names: Sequence[str], dtype: str) -> dict[str, dict]:
    """{column: what goes on record of it}: the trait's score, coherence and the ratio, by these names."""
    scorer, template = judging.made_of(judging.scorer, trait), judging.scorer.chat_template
    scorer |= {"chat_template": template.made_of} if template else {}
    return {name: provenance.record(judge_model=LIKELIHOOD, **scorer, dtype=dtype) for name in names}


def names_of(trait: Trait) -> list[str]:
    """The columns by their usual names."""
    return [trait.name, "coherence", NAME_OF_RATIO.format(trait=trait.name)]


def spoken_of(exchange: Exchange | str) -> Spoken | str:
    """A row as the scorer takes it, or why it cannot.

    In a CSV all that stands before the answer is one templated text: instructions are looked for in it, and the answer is
    read after the question alone, whether or not other turns came before.
    """
    if isinstance(exchange, str):
        return exchange
    answer = answer_of(exchange)
    if not answer.strip():
        return EMPTY
    if not exchange.question.strip():
        return "no question"
    if isinstance(exchange.prompt, str):
        return Spoken(exchange.question, answer, exchange.prompt)
    try:
        return Spoken.after(exchange.prompt, answer)
    except UserError as error:
        return str(error)


class LikelihoodFile:
    """What :class:`persona_vectors.asking.judge_file.PromptJudge` is for a judge.

    Args:
        files: the files that will be scored: too few instruction pairs for one of their answers is refused now.

    Raises:
        UserError: that, or a scorer without a chat template.
    """

    last_error = ""

    def __init__(
        self,
        scorer: models.ModelPath,
        pairs: int,
        trait: Trait,
        files: Sequence[Rows],
        names: Sequence[str],
        dtype: str = "auto",
        trust_remote_code: bool = False,
    ) -> None:
        self.path, self.trait, self.pairs, self.names = scorer, trait, pairs, list(names)
        self.dtype = dtype
        self.trust_remote_code = trust_remote_code
        for rows in files:
            for record in rows.records():
                if isinstance(spoken := spoken_of(rows.exchange(record)), Spoken):
                    held_out_pairs(trait, spoken.before, self.pairs)
        self.tokenizer = models.load_tokenizer(self.path, self.trust_remote_code)
        chat_template.check_template(self.tokenizer)
        how = f"likelihood under {self.pairs} held-out instruction pairs, read by {self.path.basename}"
        self.how = dict.fromkeys(names, how)
        self._scorer: LikelihoodScorer | None = None
        self.count = 0

    def fill(self, work: WindowedWork, bar: "tqdm") -> int:
        """Score a file's unfinished windows; no call can be given up, so it returns 0."""
        for window in work.unfinished():
            if self._scorer is None:
                model = models.load_model(self.path, self.dtype, self.trust_remote_code)
                self._scorer = LikelihoodScorer(model, self.tokenizer, self.pairs)
            spoken = [spoken_of(work.rows.exchange(record)) for record in window.records]
            found = iter(self._scorer.score(self.trait, [one for one in spoken if isinstance(one, Spoken)]))
            values, problems = [], []
            for one in spoken:
                scored = next(found) if isinstance(one, Spoken) else None
                numbers = [scored.score, scored.coherence, scored.llr] if scored else [None] * 3
                named = dict(zip(self.names, numbers, strict=True))
                values.append([named[name] for name in work.columns])
                problems.append(scored.problem if scored else one)
                self.count += bool(scored and not scored.problem)
            work.keep(window.number, values, problems)
            bar.update(len(values) * len(work.columns))
        return 0

    def summary(self) -> str:
        """One line on what was scored in this run."""
        return f"scored {self.count} answers"

    def close(self) -> None:
        """Nothing is open."""
