"""lm-evaluation-harness around a loaded model that is steered.

In a task that compares answers by their likelihood the answer is part of the text that the model reads, and one forward
reads all of it: by itself such a text is one long prompt, and ``response`` would steer its last token alone, which no
score depends on. Here every request is told where its context ends: ``response`` steers the last token of the context and
those of the continuation, ``prompt`` the context. Where a text is scored as a whole (``loglikelihood_rolling``), all of it
is continuation. Answers that are generated are steered as everywhere.

Imports lm_eval: see :mod:`persona_vectors.capability.tasks` for what is known without it.
"""

import logging
from collections.abc import Sequence
from typing import Any

from lm_eval.models.huggingface import HFLM
from torch import Tensor

from persona_vectors.steering.intervention import Intervention
from persona_vectors.steering.steer import steer
from persona_vectors.steering.tokens import prompts_told


class SteeredLM(HFLM):
    """lm-eval's own model class, whose requests can be steered.

    Without interventions it does what :class:`lm_eval.models.huggingface.HFLM` does, and no more.

    Args:
        model: a loaded decoder-only model of transformers, wrapped by PEFT or not.
        batch_size: requests per forward, or sequences per ``generate``.

    Example:
        scorer = SteeredLM(model, tokenizer, batch_size=8)
        scorer.interventions = (Intervention(20, vectors[20], coef=1.5),)
        lm_eval.simple_evaluate(model=scorer, tasks=["arc_easy"])
    """

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 8) -> None:
        logger = logging.getLogger("lm_eval.models.huggingface")
        level = logger.level
        logger.setLevel(logging.ERROR)  # it warns that the model is loaded already
        try:
            super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        finally:
            logger.setLevel(level)
        self.interventions: Sequence[Intervention] = ()
        self._prompts: dict[tuple[int, ...], int] | None = None
        self._whole_texts = False

    def _loglikelihood_tokens(self, requests: Any, *args: Any, **kwargs: Any) -> list[tuple[float, bool]]:
        if not self.interventions:
            return super()._loglikelihood_tokens(requests, *args, **kwargs)
        scores: dict[int, tuple[float, bool]] = {}
        with steer(self.model, self.interventions):
            for numbers, prompts in self._rounds(requests):
                self._prompts = prompts
                try:
                    found = super()._loglikelihood_tokens([requests[k] for k in numbers], *args, **kwargs)
                finally:
                    self._prompts = None
                scores |= zip(numbers, found, strict=True)
        return [scores[k] for k in range(len(requests))]

    def _rounds(self, requests: Sequence[tuple]) -> list[tuple[list[int], dict[tuple[int, ...], int]]]:
        """Requests by number, and how many columns of each text are its prompt; nearly always all in one round.

        A row of a batch is known by its tokens alone, and lm-eval adds zeros on the right and shares one forward among
        requests with equal texts. Two requests that could be taken for each other and have another prompt (context "a b",
        continuation "c d" and context "a b c", continuation "d") go into rounds of their own.
        """
        rounds: list[tuple[list[int], dict]] = []
        for number, (_, context, continuation) in enumerate(requests):
            ids = (context + continuation)[-(self.max_length + 1) :][:-1]  # as lm-eval cuts it
            prompt = 0 if self._whole_texts else len(ids) - len(continuation) + 1
            text = _without_zeros(ids)
            fitting = (one for one in rounds if one[1].get(text, prompt) == prompt)
            numbers, prompts = next(fitting, ([], {}))
            if not numbers:
                rounds.append((numbers, prompts))
            numbers.append(number)
            prompts[text] = prompt
        return rounds

    def _model_call(self, inps: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self._prompts is None:
            return super()._model_call(inps, *args, **kwargs)
        with prompts_told([self._prompts[_without_zeros(row)] for row in inps.tolist()]):
            return super()._model_call(inps, *args, **kwargs)

    def _model_generate(self, *args: Any, **kwargs: Any) -> Tensor:
        with steer(self.model, list(self.interventions)):
            return super()._model_generate(*args, **kwargs)

    def loglikelihood_rolling(self, *args: Any, **kwargs: Any) -> list[float]:
        self._whole_texts = True
        try:
            return super().loglikelihood_rolling(*args, **kwargs)
        finally:
            self._whole_texts = False


def _without_zeros(ids: list[int]) -> tuple[int, ...]:
    """A text without the zeros at its end, which may be padding."""
    end = len(ids)
    while end and ids[end - 1] == 0:
        end -= 1
    return tuple(ids[:end])
