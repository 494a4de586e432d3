"""lm-evaluation-harness around a loaded model that is steered.

In a task that compares answers by their likelihood the answer is part of the text that the model reads, and one forward
reads all of it: by itself such a text is one long prompt, and ``response`` would steer its last token alone, which no
score depends on. Here every request is told where its context ends: ``response`` steers the last token of the context and
those of the continuation, ``prompt`` the context. Where a text is scored as a whole (``loglikelihood_rolling``), all of it
is continuation. Answers that are generated are steered as everywhere.

Imports lm_eval: see :mod:`persona_vectors.capability.tasks` for what is known without it.
"""

import logging
import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.models.huggingface import HFLM
from torch import Tensor
from tqdm import tqdm

from persona_vectors.engines.base import OVERFLOW, Request
from persona_vectors.engines.hf import Finite
from persona_vectors.engines.vllm.scoring import Text, read_texts
from persona_vectors.errors import UserError
from persona_vectors.steering.intervention import Intervention
from persona_vectors.steering.steer import steer
from persona_vectors.steering.tokens import prompts_told

if TYPE_CHECKING:
    from persona_vectors.engines.vllm.engine import VLLMEngine

UNDER_WAY = 1024  # answers that are asked of vLLM at a time


class Steerable(HFLM):
    """lm-eval's own model class, by which texts are made, cut and decoded; what it is given acts on every request."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int, **options: Any) -> None:
        logger = logging.getLogger("lm_eval.models.huggingface")
        level = logger.level
        logger.setLevel(logging.ERROR)  # it warns that the model is loaded already
        try:
            super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, **options)
        finally:
            logger.setLevel(level)
        self.interventions: Sequence[Intervention] = ()
        self._whole_texts = False

    def _check(self, requests: Sequence[tuple]) -> None:
        """Refuse continuations that are empty, or longer than what the model takes: what is cut off would count for nothing."""
        for _, _, continuation in requests:
            if not 0 < len(continuation) <= self.max_length:
                raise UserError(
                    f"an answer of {len(continuation)} tokens is to be scored: it takes 1 to {self.max_length} of this model"
                )

    def loglikelihood_rolling(self, *args: Any, **kwargs: Any) -> list[float]:
        self._whole_texts = True
        try:
            return super().loglikelihood_rolling(*args, **kwargs)
        finally:
            self._whole_texts = False


class SteeredLM(Steerable):
    """lm-eval's own model class, whose requests can be steered.

    Without interventions it does what :class:`lm_eval.models.huggingface.HFLM` does; only logits that are NaN or infinite, by
    which any answer would be as good as any other, are refused.

    Args:
        model: a loaded decoder-only model of transformers, wrapped by PEFT or not.
        batch_size: requests per forward, or sequences per ``generate``.

    Example:
        scorer = SteeredLM(model, tokenizer, batch_size=8)
        scorer.interventions = (Intervention(20, vectors[20], coef=1.5),)
        lm_eval.simple_evaluate(model=scorer, tasks=["arc_easy"])
    """

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 8) -> None:
        super().__init__(model, tokenizer, batch_size)
        self._prompts: dict[tuple[int, ...], int] | None = None

    def _loglikelihood_tokens(self, requests: Any, *args: Any, **kwargs: Any) -> list[tuple[float, bool]]:
        self._check(requests)
        if not self.interventions:
            return self._numbers(super()._loglikelihood_tokens(requests, *args, **kwargs))
        scores: dict[int, tuple[float, bool]] = {}
        with steer(self.model, self.interventions):
            for numbers, prompts in self._rounds(requests):
                self._prompts = prompts
                try:
                    found = super()._loglikelihood_tokens([requests[k] for k in numbers], *args, **kwargs)
                finally:
                    self._prompts = None
                scores |= zip(numbers, found, strict=True)
        return self._numbers([scores[k] for k in range(len(requests))])

    def _numbers(self, scores: list[tuple[float, bool]]) -> list[tuple[float, bool]]:
        """Log-likelihoods as they are; those that are NaN, of logits that are NaN or infinite, are refused."""
        if any(math.isnan(score) for score, _ in scores):
            raise UserError(OVERFLOW.format(dtype=str(self.model.dtype).removeprefix("torch.")))
        return scores

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
            return super()._model_generate(*args, **kwargs, logits_processor=[Finite(self.model.dtype)])


class SteeredVLLM(Steerable):
    """The same with vLLM: every text is a prompt whose tokens' log-probabilities are asked for, all of them under way at once.

    vLLM takes two tokens less than the model: one has to be left for an answer, and the last token is read as well.

    Args:
        engine: one that was started with a tokenizer of vLLM's, if answers are to end at stop strings.
        config: the model's, of transformers.

    Example:
        scorer = SteeredVLLM(engine, AutoConfig.from_pretrained(name))
        scorer.interventions = (Intervention(20, vectors[20], coef=1.5),)
        lm_eval.simple_evaluate(model=scorer, tasks=["arc_easy"])
    """

    def __init__(self, engine: "VLLMEngine", config: Any) -> None:
        self.engine = engine
        stands_for_it = SimpleNamespace(device=torch.device("cpu"), config=config)
        super().__init__(stands_for_it, engine.tokenizer, UNDER_WAY, backend="causal", max_length=engine.longest - 2)

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False, **_: Any) -> list[tuple[float, bool]]:
        self._check(requests)
        keys: list[tuple[int, ...]] = []
        texts: dict[tuple[int, ...], Text] = {}
        for _, context, continuation in requests:
            ids = context + continuation
            if len(ids) > self.max_length + 1:
                logging.getLogger("lm_eval.models").warning(f"Truncating a text of {len(ids)} tokens from the left.")
                ids = ids[-(self.max_length + 1) :]
            prompt = 0 if self._whole_texts else len(ids) - len(continuation)
            keys.append((prompt, *ids))
            if keys[-1] not in texts:
                texts[keys[-1]] = Text(str(len(texts)), ids, tuple(self.interventions), prompt_length=prompt)
        found = read_texts(self.engine, list(texts.values()))
        bar = tqdm(found, total=len(texts), desc="texts", leave=False, disable=disable_tqdm)
        rows = {text.key: logprobs for text, _, logprobs in bar}
        scored = [rows[texts[key].key][-len(request[2]) :] for key, request in zip(keys, requests, strict=True)]
        return [(float(each[:, 0].sum()), bool((each[:, 0] >= each[:, 1]).all())) for each in scored]

    def _model_generate(
        self, context: Tensor, max_length: int, stop: list[str], attention_mask: Tensor, **_: Any
    ) -> Tensor:
        """Greedy answers, after their contexts; the tokens after an answer's end are padding."""
        from vllm import SamplingParams

        width = context.shape[1]
        params = SamplingParams(
            max_tokens=max_length - width,
            temperature=0,
            stop=[text for text in stop if text],
            stop_token_ids=self.engine.stop_ids,
            skip_special_tokens=False,
        )
        rows = [row[mask.bool()].tolist() for row, mask in zip(context, attention_mask, strict=True)]
        asked = [Request(str(k), row, tuple(self.interventions)) for k, row in enumerate(rows)]
        made = torch.full((len(rows), max_length - width), self.tokenizer.pad_token_id)
        for request, output in self.engine.outputs(asked, lambda _: params.clone()):
            ids = torch.tensor(output.token_ids)
            made[int(request.key), : len(ids)] = ids
        return torch.cat([context, made], dim=1)


def _without_zeros(ids: list[int]) -> tuple[int, ...]:
    """A text without the zeros at its end, which may be padding."""
    end = len(ids)
    while end and ids[end - 1] == 0:
        end -= 1
    return tuple(ids[:end])
