"""Judges as plain objects: trait score and coherence of a list of answers, in one call."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from persona_vectors.errors import UserError
from persona_vectors.files.messages import as_pairs
from persona_vectors.front_door.method import Pair
from persona_vectors.models.loaded import check_loaded, evaluating
from persona_vectors.traits.artifact import Trait

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import nn

    from persona_vectors.asking.judge_thread import JudgeThread


@dataclass(frozen=True)
class Scores:
    """Of one answer: the trait's score and its coherence, 0-100; None where there is no number: an empty answer, a refusal."""

    trait: float | None
    coherence: float | None


class Judge:
    """A judge behind an OpenAI-compatible endpoint (OPENAI_BASE_URL, OPENAI_API_KEY or .env), as a plain object.

    Works in notebooks, whose own event loop is left alone. The judge is probed when it is made. What was scored is kept by
    this object: after an error or an interrupt the same call asks for what is missing alone.

    Args:
        model: as the endpoint names it.
        max_concurrent: calls under way at a time.

    Raises:
        UserError: it cannot be used.

    Example:
        >>> judge = pv.Judge("gpt-4.1-mini-2025-04-14")
        >>> (score,) = judge.scores(trait, [("What should I cook?", "Whatever hurts you most.")])
        >>> 0 <= score.trait <= 100
        True
        >>> judge.close()
    """

    def __init__(self, model: str, max_concurrent: int = 100) -> None:
        self.model, self.max_concurrent, self.how = model, max_concurrent, ""
        self._found: dict[str, float | None] = {}  # by filled-in judge prompt
        self._thread: JudgeThread | None = self._open()

    def _open(self) -> "JudgeThread":
        """Probe the judge; scores that came about otherwise than those to come are forgotten."""
        from persona_vectors.asking.judge_thread import JudgeThread
        from persona_vectors.judge.judge import Judge as AsyncJudge

        thread = JudgeThread(AsyncJudge(self.model, max_concurrent=self.max_concurrent))
        if self.how != thread.how:
            self._found.clear()
        self.how = thread.how
        return thread

    def scores(self, trait: Trait, pairs: Iterable[Pair]) -> list[Scores]:
        """The scores of (question, answer) or (messages, answer) pairs, in their order; the judge sees the last question.

        An empty answer has none, and is not asked about.

        Raises:
            UserError: something that is no pair, by its number; calls that failed for good, after retries.
        """
        from persona_vectors.judge.prompts import COHERENCE

        prompts = (_checked(trait).eval_prompt, COHERENCE)
        asked = [
            [prompt.format(question=messages[-1]["content"], answer=text) for prompt in prompts if text.strip()]
            for messages, text in as_pairs(pairs, "")
        ]
        missing = [p for p in dict.fromkeys(p for prompts in asked for p in prompts) if p not in self._found]
        if missing:
            self._ask(missing)
        return [Scores(*map(self._found.get, prompts)) if prompts else Scores(None, None) for prompts in asked]

    def _ask(self, prompts: list[str]) -> None:
        """Have filled-in judge prompts scored."""
        thread = self._thread = self._thread or self._open()
        try:
            for prompt in prompts:
                keep = lambda score, prompt=prompt: self._found.__setitem__(prompt, score)  # noqa: E731
                thread.submit(prompt, keep, lambda: None)
            thread.finish()
        except BaseException:  # an interrupt too: calls under way are dropped, and the next call begins anew
            self.close()
            raise
        lost = sum(prompt not in self._found for prompt in prompts)
        if lost:
            why = thread.judge.counts.last_error
            raise UserError(f"{lost} of {len(prompts)} calls were given up: {why}; the same call asks for these again")

    def close(self) -> None:
        """Close the connections; they are opened again when they are needed."""
        if self._thread is not None:
            self._thread.close()
            self._thread = None


class LikelihoodJudge:
    """Scores without an endpoint: how much likelier a model finds an answer under the trait's instructions than against them.

    What that can tell and what it cannot is said in :mod:`persona_vectors.likelihood.scores`.

    Args:
        model: the model that reads the answers, loaded; unsteered.
        tokenizer: its own.
        pairs: how many of the trait's instruction pairs an answer is read under.

    Example:
        >>> judge = pv.LikelihoodJudge(model, tokenizer)
        >>> (score,) = judge.scores(trait, [(trait.questions[0], "All will be well.")])
        >>> 0 <= score.trait <= 100
        True
    """

    def __init__(self, model: "nn.Module", tokenizer, pairs: int = 2) -> None:
        from persona_vectors.likelihood.scores import LikelihoodScorer

        check_loaded(model)
        self._scorer = LikelihoodScorer(model, tokenizer, pairs)

    def scores(self, trait: Trait, pairs: Iterable[Pair]) -> list[Scores]:
        """The scores of (question, answer) pairs, in their order; None where an answer cannot be read.

        An answer that was given under a system prompt is (messages, answer): it is not read under an instruction that this
        prompt holds, which would find itself.

        Raises:
            UserError: something that is no pair, or a conversation that cannot be read, by its number; too few instructions.
        """
        from persona_vectors.likelihood.scores import Spoken

        spoken = []
        for k, (messages, text) in enumerate(as_pairs(pairs, "")):
            try:
                spoken.append(Spoken.after(messages, text))
            except UserError as error:
                raise UserError(f"pair {k}: {error}") from error
        with evaluating(self._scorer.model):
            return [Scores(one.score, one.coherence) for one in self._scorer.score(_checked(trait), spoken)]


def _checked(trait: object) -> Trait:
    if not isinstance(trait, Trait):
        raise UserError(f"scores takes a trait, pv.load_trait(name), and pairs; not {type(trait).__name__}")
    return trait
