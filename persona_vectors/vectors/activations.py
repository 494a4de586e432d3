"""Pooled extraction: mean activations of prompts and answers at every layer, without keeping hidden states.

Section 2.2 and appendix A.3: per sample and layer the mean over the prompt's tokens, the mean over the answer's
tokens, and the prompt's last token. Thoughts between the two are context: they are run and count for neither, and the
prompt's last token is the one before the model writes anything, thoughts included. Each decoder block's output is pooled in a forward hook and dropped; nothing is run
that no pool needs: no language-model head, no block after the last wanted layer, no answer where only prompts are pooled,
and no prompt twice where several answers to it are pooled (2.2 has ten): they go on from its keys and values.
Knows token ids and hooks; knows nothing of templates, files or traits.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from persona_vectors.errors import UserError
from persona_vectors.models.decoder import find_blocks, find_decoder, of_this_thread

POOLS = ("prompt_avg", "response_avg", "prompt_last")
# Padded tokens per batch by kind of device: a GPU wants much to do at once, a CPU is as fast with a small batch, whose
# activations stay near it.
TOKEN_BUDGETS = {"cpu": 512, "cuda": 8192}
SHARED_SHARE = 0.1  # of all tokens; below it one pass over everything is quicker than two


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


@torch.inference_mode()
def pooled_activations(
    model: nn.Module,
    samples: Sequence[Sample],
    pools: Sequence[str] = POOLS,
    token_budget: int | None = None,
    layers: Sequence[int] | None = None,
    on_cpu: bool = True,
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Yield, batch by batch, the samples' indices and their pooled activations.

    Row 0 is the embedding (what the first block gets), row l the output of block l-1, the last row is after the
    final norm, as transformers reports ``hidden_states``.

    Args:
        pools: which of :data:`POOLS` to make.
        token_budget: padded tokens per batch, padded on the right; None is :data:`TOKEN_BUDGETS`.
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
    device = model.get_input_embeddings().weight.device
    token_budget = token_budget or TOKEN_BUDGETS.get(device.type, 4096)
    run = _Run(decoder, blocks, layers, pools, device)
    make = shared_batches if "response_avg" in pools and sharing_pays(decoder, samples) else plain_batches
    for indices, pooled in make(run, samples, token_budget):
        yield indices, {pool: rows.cpu() if on_cpu else rows for pool, rows in pooled.items()}


def check_finite(pooled: Tensor, dtype: torch.dtype) -> None:
    """Raise :class:`UserError` where pooled activations are infinite or no numbers: a mean of them would be none either."""
    if not pooled.isfinite().all():
        raise UserError(
            f"the model's activations overflow in {str(dtype).removeprefix('torch.')}: use --dtype bfloat16 or float32"
        )


def plain_batches(run: "_Run", samples: Sequence[Sample], token_budget: int) -> Iterator[tuple[list[int], dict]]:
    """Each sample by itself: the prompt and, where answers are pooled, the answer after it."""
    sequences = [sample.prompt_ids + sample.written_ids * ("response_avg" in run.pools) for sample in samples]
    for indices in batches_by_length(list(map(len, sequences)), token_budget):
        ends = [(len(samples[index].prompt_ids), *samples[index].answer_span) for index in indices]
        spans = {
            "prompt_avg": [(0, p) for p, _, _ in ends],
            "response_avg": [(p + start, p + end) for p, start, end in ends],
            "prompt_last": [(p - 1, p) for p, _, _ in ends],
        }
        yield indices, run([sequences[index] for index in indices], {pool: spans[pool] for pool in run.pools})


def sharing_pays(decoder: nn.Module, samples: Sequence[Sample]) -> bool:
    """Whether many of the tokens are prompts that several samples share, and the model can go on from a prompt's cache.

    Refused to caches that are more than keys and values of every token (recurrent states, windows shorter than a sample).
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    prompts = {tuple(sample.prompt_ids) for sample in samples}
    repeated = sum(len(sample.prompt_ids) for sample in samples) - sum(map(len, prompts))
    if repeated < SHARED_SHARE * sum(map(len, samples)):
        return False
    taken = inspect.signature(decoder.forward).parameters
    if not {"past_key_values", "position_ids", "attention_mask"} <= set(taken):
        return False
    longest = max(map(len, prompts)) + max(len(sample.written_ids) for sample in samples)
    return all(
        type(layer) is DynamicLayer or (type(layer) is DynamicSlidingWindowLayer and longest < layer.sliding_window)
        for layer in DynamicCache(config=decoder.config).layers
    )


def prompts_for_answers(prompts, rows: Tensor):
    """A batch of prompts' cache as the answers to ``rows`` of it need it, one layer at a time.

    What a cache is usually for, the tokens to come, is not wanted here: the answers' keys and values are forgotten as
    soon as their layer has used them, and the prompts' are not repeated in more than one layer at a time.
    """
    from transformers.cache_utils import Cache, DynamicLayer

    class Repeated(DynamicLayer):
        def __init__(self, prompt) -> None:
            super().__init__()
            self.keys, self.values, self.is_initialized = prompt.keys, prompt.values, True
            self.dtype, self.device = prompt.keys.dtype, prompt.keys.device

        def update(self, keys: Tensor, values: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
            return torch.cat([self.keys[rows], keys], dim=-2), torch.cat([self.values[rows], values], dim=-2)

    return Cache(layers=[Repeated(layer) if layer.is_initialized else DynamicLayer() for layer in prompts.layers])


def shared_batches(run: "_Run", samples: Sequence[Sample], token_budget: int) -> Iterator[tuple[list[int], dict]]:
    """Each prompt once for all answers to it: prompts of one batch first, then their answers in order of length."""
    from transformers.cache_utils import DynamicCache

    answers_to: dict[tuple[int, ...], list[int]] = {}
    for index, sample in enumerate(samples):
        answers_to.setdefault(tuple(sample.prompt_ids), []).append(index)
    prompts = list(answers_to)
    for chosen in batches_by_length(list(map(len, prompts)), token_budget):
        batch = [prompts[k] for k in chosen]
        ends = torch.tensor(list(map(len, batch)), device=run.device)
        spans = {"prompt_avg": [(0, len(p)) for p in batch], "prompt_last": [(len(p) - 1, len(p)) for p in batch]}
        cache = DynamicCache(config=run.decoder.config)
        of_prompts = run(batch, {pool: spans[pool] for pool in run.pools if pool in spans}, past_key_values=cache)
        answers = [(row, index) for row, prompt in enumerate(batch) for index in answers_to[prompt]]
        seen = torch.arange(max(map(len, batch)), device=run.device) < ends[:, None]
        for some in batches_by_length([len(samples[index].written_ids) for _, index in answers], token_budget):
            rows = torch.tensor([answers[k][0] for k in some], device=run.device)
            indices = [answers[k][1] for k in some]
            past = prompts_for_answers(cache, rows)
            pooled = run(
                [samples[index].written_ids for index in indices],
                {"response_avg": [samples[index].answer_span for index in indices]},
                seen[rows],
                ends[rows],
                past_key_values=past,
            )
            yield indices, {pool: pooled[pool] if pool in pooled else of_prompts[pool][rows] for pool in run.pools}


@dataclass(frozen=True)
class _Run:
    """Forward passes through the decoder that give pooled rows instead of hidden states."""

    decoder: nn.Module
    blocks: nn.ModuleList
    layers: list[int]
    pools: Sequence[str]
    device: torch.device

    def __call__(
        self, sequences: Sequence, spans: dict, seen=None, starts=None, past_key_values=None
    ) -> dict[str, Tensor]:
        """Pool ``spans`` ({pool: a (start, end) for each sequence}) of the sequences, padded on the right.

        ``seen`` [batch, past] marks the tokens of the cache that are not padding, ``starts`` [batch] the positions at which
        the sequences go on after them. Returns {pool: float32 [batch, rows, hidden]}.
        """
        width = max(map(len, sequences))
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in sequences], device=self.device)
        ends = torch.tensor(list(map(len, sequences)), device=self.device)
        weights = torch.zeros(len(sequences), len(spans), width)
        for k, pool in enumerate(spans):
            for row, (start, end) in enumerate(spans[pool]):
                weights[row, k, start:end] = 1 / (end - start)
        more = {}  # padding on the right needs no mask: no token looks ahead
        if starts is not None:
            mask = torch.arange(width, device=self.device) < ends[:, None]
            more["attention_mask"] = torch.cat([seen, mask], dim=1).long()
            more["position_ids"] = starts[:, None] + torch.arange(width, device=self.device)
        if past_key_values is not None:
            more["past_key_values"] = past_key_values
        with _pooling(self.decoder, self.blocks, weights.to(self.device), self.layers) as rows:
            self.decoder(input_ids=ids, use_cache=past_key_values is not None, **more)
        pooled = torch.stack([row.to(self.device) for row in rows], dim=2)  # [batch, pools, rows, hidden]
        return {pool: pooled[:, k] for k, pool in enumerate(spans)}


class _EndOfPass(Exception):
    """Everything wanted is pooled: leaves the decoder's forward pass, whatever the architecture's looks like."""


class _pooling:
    """Hooks that pool ``layers`` with ``weights`` [batch, pools, tokens] of this thread's forwards, while it is active."""

    def __init__(self, decoder: nn.Module, blocks: nn.ModuleList, weights: Tensor, layers: list[int]) -> None:
        self.decoder, self.blocks, self.weights, self.layers = decoder, blocks, weights, layers
        self.rows: list[Tensor] = []

    def __enter__(self) -> list[Tensor]:
        # A block's input is the output of the one before it; the decoder's own output closes the list after the norm.
        self.handles = [
            self.blocks[layer].register_forward_pre_hook(of_this_thread(self._input), with_kwargs=True)
            if layer < len(self.blocks)
            else self.decoder.register_forward_hook(of_this_thread(self._output))
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
