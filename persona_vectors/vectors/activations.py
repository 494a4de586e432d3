"""Mean activations of prompts and answers at every layer (section 2.2 and appendix A.3), without keeping hidden states.

Of a sample whose prompt has p tokens, and with h_l[t] the residual stream at layer l and token t:

    prompt_avg[l]   = mean of h_l[t] over the prompt,  t = 0 .. p - 1
    prompt_last[l]  = h_l[p - 1]
    response_avg[l] = mean of h_l[t] over the answer,  t = p ..

Thoughts between prompt and answer are context: they are run and count for neither. Each block's output is pooled in a
forward hook and dropped, and nothing is run that no pool needs: no language-model head, no block after the last wanted
layer, no answer where only prompts are pooled. Answers that share a prompt take the fast path of
:mod:`persona_vectors.vectors.shared_prompts`, which gives the same numbers.
Knows token ids and hooks; knows nothing of templates, files or traits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from persona_vectors.errors import UserError
from persona_vectors.models.decoder import embedding, find_blocks, find_decoder, is_causal, of_this_thread
from persona_vectors.vectors.batches import Sample, batches_by_length, token_budget_for
from persona_vectors.vectors.shared_prompts import shared_batches, sharing_pays

POOLS = ("prompt_avg", "response_avg", "prompt_last")
NORM = "response_norm"  # beside the pools, where it is asked for: how long the activations of an answer's tokens are


@torch.inference_mode()
def pooled_activations(
    model: nn.Module,
    samples: Sequence[Sample],
    pools: Sequence[str] = POOLS,
    token_budget: int | None = None,
    layers: Sequence[int] | None = None,
    on_cpu: bool = True,
    norms: bool = False,
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Yield, batch by batch, the samples' indices and their pooled activations.

    Row 0 is the embedding (what the first block gets), row l the output of block l-1, the last row is after the
    final norm, as transformers reports ``hidden_states``.

    Args:
        pools: which of :data:`POOLS` to make.
        token_budget: padded tokens per batch, padded on the right; None is what suits the device.
        layers: the rows to make, ascending; by default all of them. The forward pass ends after the last one.
        on_cpu: move what was pooled to the CPU; otherwise it stays on the device of the embedding.
        norms: add :data:`NORM`, the mean of |h_l[t]| over the answer's tokens, float32 [len(indices), rows]; row l where
            steering acts, which for the last one is before the final norm. For all layers, with response_avg.

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
    if not is_causal(blocks):
        raise UserError(
            f"{type(model).__name__} is an encoder: its tokens see those after them, so that no activation is of a prompt alone"
        )
    if norms and (len(layers) <= len(blocks) or "response_avg" not in pools):
        raise ValueError("norms are those of answers, at all layers")
    device = embedding(model).device
    forward = PooledForward(decoder, blocks, layers, pools, device, norms)
    make = shared_batches if "response_avg" in pools and sharing_pays(decoder, samples) else plain_batches
    for indices, pooled in make(forward, samples, token_budget_for(device, token_budget)):
        yield indices, {pool: rows.cpu() if on_cpu else rows for pool, rows in pooled.items()}


def plain_batches(
    forward: "PooledForward", samples: Sequence[Sample], token_budget: int
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Each sample by itself: the prompt and, where answers are pooled, the answer after it."""
    sequences = [sample.prompt_ids + sample.written_ids * ("response_avg" in forward.pools) for sample in samples]
    for indices in batches_by_length(list(map(len, sequences)), token_budget):
        ends = [(len(samples[index].prompt_ids), *samples[index].answer_span) for index in indices]
        spans = {
            "prompt_avg": [(0, p) for p, _, _ in ends],
            "response_avg": [(p + start, p + end) for p, start, end in ends],
            "prompt_last": [(p - 1, p) for p, _, _ in ends],
        }
        yield indices, forward([sequences[index] for index in indices], {pool: spans[pool] for pool in forward.pools})


@dataclass(frozen=True)
class PooledForward:
    """A forward pass through the decoder that gives means over spans of tokens instead of hidden states."""

    decoder: nn.Module
    blocks: nn.ModuleList
    layers: list[int]
    pools: Sequence[str]
    device: torch.device
    norms: bool = False

    def __call__(self, sequences: Sequence[Sequence[int]], spans: dict, **more: Any) -> dict[str, Tensor]:
        """Run the sequences, padded on the right, and take the mean over ``spans``.

        Args:
            sequences: token ids.
            spans: {pool: a (start, end) for each sequence}.
            more: what else the decoder gets. Padding on the right needs no mask: no token looks ahead.

        Returns:
            {pool: float32 [batch, rows, hidden]}; where answers are pooled and norms are wanted, :data:`NORM` [batch, rows].

        Raises:
            UserError: a block was not run, or not on these tokens alone: rows would be of other layers, or of other tokens.
        """
        width = max(map(len, sequences))
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in sequences], device=self.device)
        weights = torch.zeros(len(sequences), len(spans), width)
        for k, pool in enumerate(spans):
            for row, (start, end) in enumerate(spans[pool]):
                weights[row, k, start:end] = 1 / (end - start)
        answers = list(spans).index("response_avg") if self.norms and "response_avg" in spans else None
        pooling = _pooling(self.decoder, self.blocks, weights.to(self.device), self.layers, answers)
        with pooling as rows:
            self.decoder(input_ids=ids, use_cache="past_key_values" in more, **more)
        if len(rows) < len(self.layers):
            raise UserError(f"{_name(self.decoder)} leaves out blocks on text alone: its layers cannot be told apart")
        pooled = torch.stack([row.to(self.device) for row in rows], dim=2)  # [batch, pools, rows, hidden]
        found = {pool: pooled[:, k] for k, pool in enumerate(spans)}
        if answers is not None:
            found[NORM] = torch.stack([norm.to(self.device) for norm in pooling.norms], dim=1)
        return found


def _name(decoder: nn.Module) -> str:
    return type(decoder).__name__


class _EndOfPass(Exception):
    """Everything wanted is pooled: leaves the decoder's forward pass, whatever the architecture's looks like."""


class _pooling:
    """Hooks that pool ``layers`` with ``weights`` [batch, pools, tokens] of this thread's forwards, while it is active.

    Where the ``answers``' place among the pools is given, they take the mean norms of their tokens as well.
    """

    def __init__(
        self, decoder: nn.Module, blocks: nn.ModuleList, weights: Tensor, layers: list[int], answers: int | None
    ) -> None:
        self.decoder, self.blocks, self.weights, self.layers, self.answers = decoder, blocks, weights, layers, answers
        self.rows: list[Tensor] = []
        self.norms: list[Tensor] = []

    def __enter__(self) -> list[Tensor]:
        # A block's input is the output of the one before it; the decoder's own output closes the list after the norm.
        self.handles = [
            self.blocks[layer].register_forward_pre_hook(of_this_thread(self._input), with_kwargs=True)
            if layer < len(self.blocks)
            else self.decoder.register_forward_hook(of_this_thread(self._output))
            for layer in self.layers
        ]
        if self.answers is not None:
            self.handles.append(self.blocks[-1].register_forward_hook(of_this_thread(self._last)))
        return self.rows

    def _input(self, _block: nn.Module, args: tuple, kwargs: dict) -> None:
        h = args[0] if args else kwargs["hidden_states"]
        self._pool(h)
        self._measure(h)
        if len(self.rows) == len(self.layers):
            raise _EndOfPass

    def _last(self, _block: nn.Module, _args: tuple, output: Any) -> None:
        self._measure(output[0] if isinstance(output, tuple) else output)

    def _output(self, _decoder: nn.Module, _args: tuple, output: Any) -> None:
        self._pool(output.last_hidden_state)

    def _pool(self, h: Tensor) -> None:
        batch, _, width = self.weights.shape
        if h.ndim != 3 or h.shape[:2] != (batch, width):
            raise UserError(
                f"{_name(self.decoder)} passes {list(h.shape)} from block to block where [{batch}, {width}, hidden] was expected, "
                "one row a token; this architecture is not supported"
            )
        # float32 sums whatever the model's dtype: means over hundreds of bfloat16 tokens lose digits
        self.rows.append(torch.bmm(self.weights.to(h.device), h.float()))

    def _measure(self, h: Tensor) -> None:
        if self.answers is not None:
            weights = self.weights[:, self.answers].to(h.device)
            self.norms.append((h.float().norm(dim=-1) * weights).sum(-1))

    def __exit__(self, kind: type | None, *_error: object) -> bool:
        for handle in self.handles:
            handle.remove()
        return kind is _EndOfPass


def check_finite(pooled: Tensor, dtype: torch.dtype) -> None:
    """Raise :class:`UserError` where pooled activations are infinite or no numbers: a mean of them would be none either."""
    if not pooled.isfinite().all():
        raise UserError(
            f"the model's activations overflow in {str(dtype).removeprefix('torch.')}: use --dtype bfloat16 or float32"
        )
