"""The model whose abilities are measured: loaded once, when something is to be measured, and asked everything."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from persona_vectors import models
from persona_vectors.capability import texts
from persona_vectors.capability.values import Value

if TYPE_CHECKING:
    from persona_vectors.capability.harness import SteeredLM, SteeredVLLM
    from persona_vectors.capability.sheet import CapabilitySheet
    from persona_vectors.capability.tasks import Tasks
    from persona_vectors.steering.intervention import Intervention
    from persona_vectors.steering.sweep import Cell
    from persona_vectors.vectors.batches import Sample


LONGEST = 32768  # tokens: what vLLM's cache is laid out for, of models that take more


def first(items: Sequence, limit: float | None) -> list:
    """The first ``limit`` of some items; below 1, this share of them, rounded up as lm-eval does; None is all."""
    count = len(items) if limit is None else int(limit) if limit >= 1 else -int(-len(items) * limit // 1)
    return list(items[:count])


@dataclass
class Subject:
    """One model under every measure.

    Attributes:
        harness: lm-eval's tasks; None where none is asked for.
        asked: {harmless, harmful}: requests.
        max_tokens: longest answer to a request.
        limit: see :func:`first`.
        chat: put the questions of tasks into the chat template.
        backend: hf or vllm.
        ablations: directions that a steering ablates at one layer, at most.
    """

    path: models.ModelPath
    dtype: str
    trust_remote_code: bool
    batch_size: int
    harness: "Tasks | None"
    asked: dict[str, list[str]]
    max_tokens: int = 64
    limit: float | None = None
    chat: bool = False
    backend: str = "hf"
    ablations: int = 0

    @cached_property
    def engine(self) -> Any:
        """The loaded model."""
        from persona_vectors.engines import open_engine

        options = {"batch_size": self.batch_size} if self.backend == "hf" else self._vllm_options()
        return open_engine(self.backend, self.path, self.dtype, self.trust_remote_code, **options)

    def _vllm_options(self) -> dict:
        """Arguments of vLLM's engine: room on the GPU, beside its cache, for the logits of all tokens of a step."""
        longest = models.describe(self.path, self.trust_remote_code).max_length or LONGEST
        options: dict[str, Any] = {
            "max_model_len": min(longest, LONGEST),
            "ablations": self.ablations,
            "max_logprobs": -1,
            "gpu_memory_utilization": 0.8,
            "max_num_batched_tokens": 2048,
            "enable_chunked_prefill": True,
        }
        if self.harness is not None and self.harness.generates:  # vLLM finds a task's stop strings in text
            options |= {"skip_tokenizer_init": False, "tokenizer": models.tokenizer_source(self.path)}
        return options

    @cached_property
    def scorer(self) -> "SteeredLM | SteeredVLLM":
        """The loaded model as lm-eval sees it."""
        from persona_vectors.capability.harness import SteeredLM, SteeredVLLM

        if self.backend == "vllm":
            return SteeredVLLM(self.engine, self.config)
        return SteeredLM(self.engine.model, self.engine.tokenizer, self.batch_size)

    @cached_property
    def config(self) -> Any:
        """The model's config, as transformers reads it."""
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self.path.base, trust_remote_code=self.trust_remote_code)

    def close(self) -> None:
        """Release the model, if it was loaded."""
        if "engine" in vars(self):
            self.engine.close()

    def fill(self, sheet: "CapabilitySheet", interventions: "Callable[[Cell], Sequence[Intervention]]") -> None:
        """Make every measurement that the sheet lacks."""
        from tqdm import tqdm

        todo = list(sheet.missing())
        bar = tqdm(todo, desc="measurements")
        for cell, task in bar:
            bar.set_postfix_str(sheet.key(cell, task))
            sheet.add(cell, task, *self.measure(task, tuple(interventions(cell)), sheet))

    def measure(
        self, task: str, interventions: "tuple[Intervention, ...]", sheet: "CapabilitySheet"
    ) -> tuple[list[Value], Any]:
        """The values of one task under one steering, and details for the record."""
        from persona_vectors.capability import measures

        if task == "kl":
            return [self._kl(self.reference(sheet), interventions)], None
        if task == "perplexity":
            return [self._perplexity(first(texts.pages(), self.limit), interventions)], None
        if task == "refusals":
            answers = {kind: self.answers(kind, interventions)[1] for kind in self.asked}
            told = {kind: [answer.text for answer in found] for kind, found in answers.items()}
            return measures.refusals(told), {"answers": told}
        assert self.harness is not None
        self.scorer.interventions = interventions
        return self.harness.run(task, self.scorer, self.limit, self.chat)

    def _kl(self, samples: "list[Sample]", interventions: "tuple[Intervention, ...]") -> Value:
        from persona_vectors.capability import measures

        if self.backend == "hf":
            return measures.kl(self.engine.model, samples, interventions)
        from persona_vectors.capability import by_vllm

        vocabulary = self.config.get_text_config(decoder=True).vocab_size
        return measures.kl_of(by_vllm.kl_sums(self.engine, samples, interventions, vocabulary), samples)

    def _perplexity(self, pages: list[tuple[str, str]], interventions: "tuple[Intervention, ...]") -> Value:
        from persona_vectors.capability import measures

        if self.backend == "hf":
            return measures.perplexity(self.engine.model, self.engine.tokenizer, pages, interventions)
        from persona_vectors.capability import by_vllm

        samples = measures.page_samples(self.engine.tokenizer, pages, self.engine.longest - 1)
        return measures.perplexity_of(by_vllm.nll_sums(self.engine, samples, interventions), samples)

    def reference(self, sheet: "CapabilitySheet") -> "list[Sample]":
        """The unsteered model's own answers to the harmless requests, made once and kept in the journal."""
        from persona_vectors.vectors.batches import Sample

        if not sheet.reference:
            prompts, answers = self.answers("harmless", ())
            room = self.engine.longest - 1 if self.backend == "vllm" else None  # for what it reads, answers included
            rows = [[p, a.token_ids[: room and max(room - len(p), 1)]] for p, a in zip(prompts, answers, strict=True)]
            sheet.keep_reference(rows)
        return [Sample(prompt, answer) for prompt, answer in sheet.reference]

    def answers(self, kind: str, interventions: "tuple[Intervention, ...]") -> tuple[list[list[int]], list]:
        """(prompts as token ids, greedy answers) to the requests of a kind."""
        from persona_vectors.capability.measures import answers_to

        return answers_to(self.engine, self.asked[kind], interventions, self.max_tokens, f"{kind} requests")
