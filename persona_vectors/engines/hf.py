"""Generation with transformers: the engine that runs anywhere, and the reference for vLLM.

Batches are static, sorted by coefficient and prompt length. Answers are returned when their batch is done.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from persona_vectors import models
from persona_vectors.engines.base import OVERFLOW, Answer, Request, Sampling, stop_ids, tokens_to_stop
from persona_vectors.errors import UserError
from persona_vectors.models import chat_template
from persona_vectors.steering.hooks import steered


class HFEngine:
    """Implements :class:`persona_vectors.engines.base.Engine` with ``model.generate``.

    Args:
        path: base model and optional LoRA adapter.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto`` (bfloat16 on a GPU, float32 on a CPU).
        batch_size: requests per batch.

    Example:
        engine = HFEngine.of(model, tokenizer, batch_size=16)
        answers = list(engine.generate([Request("0", prompt_ids)], Sampling(max_tokens=100)))
    """

    name = "hf"

    def __init__(
        self, path: models.ModelPath, dtype: str = "auto", batch_size: int = 64, trust_remote_code: bool = False
    ):
        self.tokenizer = models.load_tokenizer(path, trust_remote_code)
        self.model = models.load_model(path, dtype, trust_remote_code)
        self.loader = models.Loader(dtype, trust_remote_code, path, self.model)
        self.batch_size = batch_size

    def switch_to(self, path: models.ModelPath, longest: int | None = None) -> bool:
        """Go on with another model; adapters over the same base are swapped, and it stays loaded. Always True."""
        self.tokenizer, self.model = models.load_tokenizer(path, self.loader.trust), None
        self.model = self.loader.load(path)
        return True

    @classmethod
    def of(cls, model, tokenizer, batch_size: int = 64) -> "HFEngine":
        """An engine for a model and tokenizer that are already loaded. Sets a padding token if there is none."""
        engine = cls.__new__(cls)
        engine.model, engine.tokenizer, engine.batch_size = model, tokenizer, batch_size
        models.ensure_padding(tokenizer)
        return engine

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Answer]:
        """Yield answers, batch by batch.

        A batch takes as long as its longest answer, and overly strong steering can produce text that never stops.
        Requests of equal coefficient therefore share batches. Within a coefficient, long prompts come first.

        Raises:
            UserError: the logits are NaN or infinite.
        """
        ordered = sorted(requests, key=lambda request: (_strength(request), -len(request.prompt_ids)))
        for start in range(0, len(ordered), self.batch_size):
            batch = ordered[start : start + self.batch_size]
            rows = self._generate_batch(batch, sampling)
            ends = set(stop_ids(self.model.generation_config.eos_token_id, self.tokenizer))
            for request, ids in zip(batch, rows, strict=True):
                ended = next((k for k, token in enumerate(ids) if token in ends), None)
                ids = ids if ended is None else ids[: ended + 1]
                yield Answer.of(request, ids, "length" if ended is None else "stop", self.tokenizer)

    @property
    def longest(self) -> int | None:
        """Tokens that the longest sequence takes; None where the model's config says none."""
        return models.shape_of(self.model.config).max_length

    def close(self) -> None:
        """Drop the model."""
        self.model = self.loader = None

    @torch.inference_mode()
    def _generate_batch(self, batch: list[Request], sampling: Sampling) -> list[list[int]]:
        """Generated token ids of each request, all padded to the length of the longest."""
        from transformers import GenerationConfig

        pad = self.tokenizer.pad_token_id
        lengths = [len(request.prompt_ids) for request in batch]
        width = max(lengths)
        device = self.model.get_input_embeddings().weight.device
        ids = torch.full((len(batch), width), pad, device=device)
        mask = torch.zeros_like(ids)
        for row, (request, length) in enumerate(zip(batch, lengths, strict=True)):
            ids[row, width - length :] = torch.tensor(request.prompt_ids, device=device)
            mask[row, width - length :] = 1
        longest = self.longest or width + sampling.max_tokens
        config = GenerationConfig(
            max_new_tokens=min(sampling.max_tokens, longest - width),
            min_new_tokens=sampling.min_tokens,
            do_sample=False,  # SeededSampling draws
            eos_token_id=stop_ids(self.model.generation_config.eos_token_id, self.tokenizer),
            pad_token_id=pad,
        )
        processors = [
            Finite(self.model.dtype),
            *([SeededSampling(batch, sampling)] if sampling.temperature > 0 else []),
        ]
        by_text = [AtStopText(self.tokenizer, batch, width)] if chat_template.stop_texts(self.tokenizer) else []
        base = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        own, base.generation_config = base.generation_config, GenerationConfig()  # else its top_k, penalties apply
        try:
            with steered(self.model, [request.interventions for request in batch], lengths, width):
                output = self.model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    generation_config=config,
                    logits_processor=processors,
                    stopping_criteria=by_text,
                )
        finally:
            base.generation_config = own
        return output[:, width:].tolist()


def _strength(request: Request) -> float:
    """The largest absolute coefficient of a request."""
    return max((abs(i.coef) for i in request.interventions), default=0.0)


class Finite:
    """Logits processor that refuses NaN and +infinity: all tokens would look equally likely.

    Raises:
        UserError: when called on such logits.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(self, _input_ids: Tensor, logits: Tensor) -> Tensor:
        if (logits.isnan() | (logits == torch.inf)).any():
            raise UserError(OVERFLOW.format(dtype=str(self.dtype).removeprefix("torch.")))
        return logits


class AtStopText:
    """Stopping criterion: ends the rows whose last tokens complete a stop text; see :func:`chat_template.stop_texts`.

    Example:
        model.generate(ids, stopping_criteria=[AtStopText(tokenizer, requests, width=ids.shape[1])])
    """

    def __init__(self, tokenizer, batch: Sequence[Request], width: int) -> None:
        self.tokenizer, self.width = tokenizer, width
        self.prompts = [request.prompt_ids[-1:] for request in batch]
        self.window = max(map(len, chat_template.stop_texts(tokenizer)))  # in tokens, of which each has a character

    def __call__(self, input_ids: Tensor, _scores: Tensor) -> Tensor:
        made = input_ids[:, self.width :]
        tails = made[:, -self.window :].tolist()
        before = self.prompts if made.shape[1] <= self.window else made[:, -self.window - 1 : -self.window].tolist()
        ended = [tokens_to_stop(self.tokenizer, *row) is not None for row in zip(before, tails, strict=True)]
        return torch.tensor(ended, device=input_ids.device)


class SeededSampling:
    """Logits processor that samples each row with its own seed, so that an answer does not depend on its batch.

    It adds Gumbel noise to logits / T. The argmax, which greedy ``generate`` then takes, is a draw from
    softmax(logits / T).

    Example:
        model.generate(ids, do_sample=False, logits_processor=[SeededSampling(requests, Sampling())])
    """

    def __init__(self, batch: Sequence[Request], sampling: Sampling) -> None:
        self.sampling = sampling
        self.seeds = [request.seed for request in batch]
        self.generators: list[torch.Generator] = []

    def __call__(self, _input_ids: Tensor, logits: Tensor) -> Tensor:
        if not self.generators:
            self.generators = [torch.Generator(logits.device).manual_seed(seed) for seed in self.seeds]
        logits = logits.float() / self.sampling.temperature
        if self.sampling.top_p < 1:
            ordered, order = logits.sort(dim=-1, descending=True)
            before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
            outside = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= self.sampling.top_p)
            logits = logits.masked_fill(outside, -torch.inf)
        exponential = torch.stack([torch.empty_like(logits[0]).exponential_(generator=g) for g in self.generators])
        return logits - exponential.log()
