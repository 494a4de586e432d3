"""The model whose abilities are measured: loaded once, when something is to be measured, and asked everything."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from persona_vectors import models
from persona_vectors.capability import texts
from persona_vectors.capability.values import Value

if TYPE_CHECKING:
    from persona_vectors.capability.harness import SteeredLM
    from persona_vectors.capability.sheet import CapabilitySheet
    from persona_vectors.capability.tasks import Tasks
    from persona_vectors.steering.intervention import Intervention
    from persona_vectors.steering.sweep import Cell
    from persona_vectors.vectors.batches import Sample


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

    @cached_property
    def engine(self) -> Any:
        """The loaded model."""
        from persona_vectors.engines import open_engine

        return open_engine("hf", self.path, self.dtype, self.trust_remote_code, batch_size=self.batch_size)

    @cached_property
    def scorer(self) -> "SteeredLM":
        """The loaded model as lm-eval sees it."""
        from persona_vectors.capability.harness import SteeredLM

        return SteeredLM(self.engine.model, self.engine.tokenizer, self.batch_size)

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
            return [measures.kl(self.engine.model, self.reference(sheet), interventions)], None
        if task == "perplexity":
            pages = first(texts.pages(), self.limit)
            return [measures.perplexity(self.engine.model, self.engine.tokenizer, pages, interventions)], None
        if task == "refusals":
            answers = {kind: self.answers(kind, interventions)[1] for kind in self.asked}
            told = {kind: [answer.text for answer in found] for kind, found in answers.items()}
            return measures.refusals(told), {"answers": told}
        assert self.harness is not None
        self.scorer.interventions = interventions
        return self.harness.run(task, self.scorer, self.limit, self.chat)

    def reference(self, sheet: "CapabilitySheet") -> "list[Sample]":
        """The unsteered model's own answers to the harmless requests, made once and kept in the journal."""
        from persona_vectors.vectors.batches import Sample

        if not sheet.reference:
            prompts, answers = self.answers("harmless", ())
            sheet.keep_reference([[p, a.token_ids] for p, a in zip(prompts, answers, strict=True)])
        return [Sample(prompt, answer) for prompt, answer in sheet.reference]

    def answers(self, kind: str, interventions: "tuple[Intervention, ...]") -> tuple[list[list[int]], list]:
        """(prompts as token ids, greedy answers) to the requests of a kind."""
        from persona_vectors.capability.measures import answers_to

        return answers_to(self.engine, self.asked[kind], interventions, self.max_tokens, f"{kind} requests")
