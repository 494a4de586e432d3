"""Pooled extraction: mean activations of prompts and answers at every layer, without keeping hidden states.

Section 2.2 and appendix A.3: per sample and layer the mean over the prompt's tokens, the mean over the answer's
tokens, and the prompt's last token. Each decoder block's output is pooled in a forward hook and dropped; nothing is run
that no pool needs: no language-model head, no block after the last wanted layer, no answer where only prompts are pooled.
Knows token ids and hooks; knows nothing of templates, files or traits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from persona_vectors.blocks import find_blocks, find_decoder

POOLS = ("prompt_avg", "response_avg", "prompt_last")


@dataclass(frozen=True)
class Sample:
    """Token ids of a prompt (at least one) and of the answer to it (at least one where answers are pooled)."""

    prompt_ids: list[int]
    answer_ids: list[int]

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.answer_ids)


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


@torch.inference_mode()
def pooled_activations(
    model: nn.Module,
    samples: Sequence[Sample],
    pools: Sequence[str] = POOLS,
    token_budget: int = 4096,
    layers: Sequence[int] | None = None,
    on_cpu: bool = True,
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Yield, batch by batch, the samples' indices and their pooled activations.

    Row 0 is the embedding (what the first block gets), row l the output of block l-1, the last row is after the
    final norm, as transformers reports ``hidden_states``.

    Args:
        pools: which of :data:`POOLS` to make.
        token_budget: padded tokens per batch; batches are padded on the right.
        layers: the rows to make, ascending; by default all of them. The forward pass ends after the last one.
        on_cpu: move what was pooled to the CPU; otherwise it stays on the device of the embedding.

    Yields:
        (indices into ``samples``, {pool: float32 [len(indices), rows, hidden]}); the batches depend on the samples'
        lengths alone.
    """
    decoder, blocks = find_decoder(model), find_blocks(model)
    layers = list(range(len(blocks) + 1) if layers is None else layers)
    if layers != sorted(set(layers)) or not layers or layers[0] < 0 or layers[-1] > len(blocks):
        raise ValueError(f"layers must ascend within 0..{len(blocks)}, not {layers}")
    if "response_avg" in pools and not all(sample.answer_ids for sample in samples):
        raise ValueError("a sample without an answer has no response average")
    sequences = [sample.prompt_ids + sample.answer_ids * ("response_avg" in pools) for sample in samples]
    device = model.get_input_embeddings().weight.device
    for indices in batches_by_length(list(map(len, sequences)), token_budget):
        width = len(sequences[indices[0]])
        ids = torch.zeros(len(indices), width, dtype=torch.long)
        mask = torch.zeros(len(indices), width, dtype=torch.long)
        weights = torch.zeros(len(indices), len(pools), width)
        for row, index in enumerate(indices):
            p, n = len(samples[index].prompt_ids), len(sequences[index])
            ids[row, :n] = torch.tensor(sequences[index])
            mask[row, :n] = 1
            spans = {"prompt_avg": (0, p), "response_avg": (p, n), "prompt_last": (p - 1, p)}
            for k, pool in enumerate(pools):
                start, end = spans[pool]
                weights[row, k, start:end] = 1 / (end - start)
        with _pooling(decoder, blocks, weights, layers) as rows:
            decoder(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
        place = torch.device("cpu") if on_cpu else device
        pooled = torch.stack([row.to(place) for row in rows], dim=2)  # [batch, pools, rows, hidden]
        yield indices, {pool: pooled[:, k] for k, pool in enumerate(pools)}


class _EndOfPass(Exception):
    """Everything wanted is pooled: leaves the decoder's forward pass, whatever the architecture's looks like."""


class _pooling:
    """Hooks that pool ``layers`` with ``weights`` [batch, pools, tokens] while the block is active."""

    def __init__(self, decoder: nn.Module, blocks: nn.ModuleList, weights: Tensor, layers: list[int]) -> None:
        self.decoder, self.blocks, self.weights, self.layers = decoder, blocks, weights, layers
        self.rows: list[Tensor] = []

    def __enter__(self) -> list[Tensor]:
        # A block's input is the output of the one before it; the decoder's own output closes the list after the norm.
        self.handles = [
            self.blocks[layer].register_forward_pre_hook(self._input, with_kwargs=True)
            if layer < len(self.blocks)
            else self.decoder.register_forward_hook(self._output)
            for layer in self.layers
        ]
        return self.rows

    def _input(self, _block: nn.Module, args: tuple, kwargs: dict) -> None:
        self._pool(args[0] if args else kwargs["hidden_states"])
        if len(self.rows) == len(self.layers):
            raise _EndOfPass

    def _output(self, _decoder: nn.Module, _args: tuple, output) -> None:
        self._pool(output.last_hidden_state)

    def _pool(self, h: Tensor) -> None:
        # float32 sums whatever the model's dtype: means over hundreds of bfloat16 tokens lose digits
        self.rows.append(torch.bmm(self.weights.to(h.device), h.float()))

    def __exit__(self, kind: type | None, *_error) -> bool:
        for handle in self.handles:
            handle.remove()
        return kind is _EndOfPass
