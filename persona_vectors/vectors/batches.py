"""What is run through a model: samples of token ids, cut into batches. Needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Padded tokens per batch: a GPU wants much to do at once, a CPU is as fast with a small batch, whose activations stay
# near it.
CPU_TOKEN_BUDGET, GPU_TOKEN_BUDGET = 512, 8192


def token_budget_for(device: "torch.device", asked: int | None = None) -> int:
    """The padded tokens per batch that were asked for, or what suits a device of torch's."""
    return asked or (CPU_TOKEN_BUDGET if device.type == "cpu" else GPU_TOKEN_BUDGET)


@dataclass(frozen=True)
class Sample:
    """Token ids of a prompt (at least one) and of the answer to it (at least one where answers are pooled).

    ``between_ids`` stand between the two: the thoughts before the answer, and what opens and closes them.
    """

    prompt_ids: list[int]
    answer_ids: list[int]
    between_ids: list[int] = field(default_factory=list)

    @property
    def written_ids(self) -> list[int]:
        """All that comes after the prompt."""
        return self.between_ids + self.answer_ids

    @property
    def answer_span(self) -> tuple[int, int]:
        """Where the answer begins and ends in :attr:`written_ids`."""
        return len(self.between_ids), len(self.between_ids) + len(self.answer_ids)

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.between_ids) + len(self.answer_ids)


def batches_by_length(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Indices sorted by length, longest first, cut so that each batch, padded, holds at most ``token_budget`` tokens.

    A sample longer than the budget makes a batch of its own.
    """
    batches: list[list[int]] = []
    widest = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batches or (len(batches[-1]) + 1) * widest > token_budget:
            batches.append([])
            widest = lengths[index]
        batches[-1].append(index)
    return batches
