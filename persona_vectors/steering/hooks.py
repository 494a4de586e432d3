"""Interventions on the residual stream, as plain forward hooks on decoder blocks.

The method (arXiv 2507.21509, section 3.2): ``h_l <- h_l + a v_l`` at the output of the l-th block, and for ablation
(CAFT, section 5) ``h_l <- h_l - (h_l . u) u`` with ``u = v / |v|``. Knows hooks and token positions; knows nothing
of prompts, tokenizers or files.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from persona_vectors.errors import UserError
from persona_vectors.models.decoder import find_blocks, find_decoder
from persona_vectors.steering.intervention import POSITIONS, Intervention
from persona_vectors.steering.tokens import Forwards, Marks, Span, marks, watched


@contextmanager
def steered(
    model: nn.Module, interventions: Sequence[Sequence[Intervention]], prompt_lengths: Sequence[int], width: int
) -> Iterator[None]:
    """Within the block, one ``model.generate`` (or one forward) is steered, each row of the batch by its own list.

    What other threads run on the same model meanwhile is not steered by it: each may steer its own way. Hooks are
    removed at the end, whatever happens. Arguments and errors are those of :func:`steering_hooks`.

    Raises:
        RuntimeError: a second generation in the same block, one without a cache, or padding that is not on the left:
            other tokens than asked for would be steered. :func:`steered_forwards` takes any forwards.
    """
    with attached(model, steering_hooks(model, interventions, prompt_lengths, width)):
        yield


def steering_hooks(
    model: nn.Module, interventions: Sequence[Sequence[Intervention]], prompt_lengths: Sequence[int], width: int
) -> "dict[int, _BlockHook]":
    """The hooks that steer one batch from its first column to its last, by layer; :func:`attached` puts them in place.

    The batch is padded on the left: row i's prompt is columns ``width - prompt_lengths[i] .. width - 1``, generated
    tokens follow. Hooks count the columns that went by, so a prompt of one token, a prompt in several chunks and a
    single decoding step need no special case. Padding is never steered.

    Args:
        interventions: one list per row of the batch; empty lists leave a row as it is.
        prompt_lengths: tokens of each row's prompt, without padding.
        width: columns of the padded prompt batch.

    Raises:
        UserError: a layer outside 1..L or a vector of another width than the model's.
    """
    return _hooks(model, interventions, _Columns(torch.tensor(prompt_lengths), width))


@contextmanager
def steered_training(model: nn.Module, interventions: Sequence[Intervention]) -> Iterator[None]:
    """Within the block, every forward of ``model`` is steered alike at all its tokens; gradients flow through.

    For training (sections 5.2 and J.3: preventative steering, CAFT): the model may be wrapped by PEFT, accelerate's
    wrappers come later, and a block that gradient checkpointing computes a second time is steered a second time.
    Otherwise as :func:`steered_forwards`.

    Args:
        interventions: all of positions ``all``; those at one layer act one after another, ablations first.

    Raises:
        UserError: a layer outside 1..L, a vector of another width, other positions.
        RuntimeError: a hooked block was never run: the training that just ended was not steered as asked.
    """
    if any(i.positions != "all" for i in interventions):
        raise UserError("in training all tokens are steered; there is no prompt and response to tell apart")
    with steered_forwards(model, interventions) as hooks:
        yield
    idle = [layer for layer, hook in hooks.items() if hook.like is None]
    if idle:
        raise RuntimeError(f"the hooks of layers {idle} never ran: this model was not steered there")


@contextmanager
def steered_forwards(model: nn.Module, interventions: Sequence[Intervention]) -> "Iterator[dict[int, _BlockHook]]":
    """Within the block, every forward of ``model`` is steered alike; :func:`persona_vectors.steering.steer.steer` says how.

    Raises:
        UserError: a layer outside 1..L or a vector of another width than the model's.
    """
    acts = any(not i.is_identity for i in interventions)
    with watched(model) if acts else nullcontext() as forwards:
        hooks = _hooks(model, [interventions], forwards)
        with attached(model, hooks, every_thread=True):
            yield hooks


def _hooks(
    model: nn.Module, rows: Sequence[Sequence[Intervention]], tokens: "_Columns | Forwards | None"
) -> "dict[int, _BlockHook]":
    """By layer, the hooks for what acts; ``rows``: one list per row of the batch, or one for all rows."""
    hidden = check(model, [i for row in rows for i in row])
    acting = [[i for i in row if not i.is_identity] for row in rows]
    layers = sorted({i.layer for row in acting for i in row})
    if tokens is None:  # nothing acts
        return {}
    return {
        layer: _BlockHook([[i for i in row if i.layer == layer] for row in acting], hidden, tokens) for layer in layers
    }


def check(model: nn.Module, interventions: Sequence[Intervention]) -> int:
    """The width of the residual stream; raises :class:`UserError` for what does not fit the model."""
    count = len(find_blocks(model))
    config: Any = model.config
    hidden: int = config.get_text_config(decoder=True).hidden_size
    for i in interventions:
        if not i.is_identity and not 1 <= i.layer <= count:
            raise UserError(f"layer {i.layer} does not exist: this model has layers 1..{count}")
        if i.vector.shape[0] != hidden:
            raise UserError(f"the vector is {i.vector.shape[0]} wide, the model's residual stream {hidden}")
    return hidden


_inside: Counter[tuple[int, int, bool]] = Counter()  # (decoder, thread, steers other threads too): how many times


@contextmanager
def attached(model: nn.Module, hooks: "dict[int, _BlockHook]", every_thread: bool = False) -> Iterator[None]:
    """Within the block, each layer's hook is on its decoder block, for forwards of this thread.

    Args:
        every_thread: also for those of any other thread that is in no steering of this model of its own. Where two
            threads want that, such a forward is refused with a RuntimeError.
    """
    blocks, decoder, handles = find_blocks(model), find_decoder(model), []
    ours, which = threading.get_ident(), id(decoder)
    here = (which, ours, every_thread and bool(hooks))

    def is_meant() -> bool:
        thread = threading.get_ident()
        if thread == ours:
            return True
        if not every_thread or (which, thread, True) in _inside or (which, thread, False) in _inside:
            return False
        if sum(one == which and spreads for one, _, spreads in list(_inside)) > 1:
            raise RuntimeError(
                "several threads steer this model, and this forward is of another one: enter the steering in the thread "
                "that runs the model (steer(model, []) for none)"
            )
        return True

    def if_meant(hook: Callable) -> Callable:
        return lambda *args, **kwargs: hook(*args, **kwargs) if is_meant() else None

    def all_ran(*_: object) -> None:
        idle = [layer for layer, hook in hooks.items() if hook.like is None]
        if idle:
            raise UserError(
                f"{type(decoder).__name__} does not run the blocks of layers {idle} on text alone: nothing can be steered there"
            )

    _inside[here] += 1
    try:
        for counting in {hook.tokens for hook in hooks.values() if isinstance(hook.tokens, _Columns)}:
            handles.append(decoder.register_forward_pre_hook(if_meant(counting.see), with_kwargs=True))
        for layer, hook in hooks.items():
            handles.append(blocks[layer - 1].register_forward_hook(if_meant(hook)))
        if hooks:
            handles.append(decoder.register_forward_hook(if_meant(all_ran)))
        yield
    finally:
        for handle in handles:
            handle.remove()
        _inside[here] -= 1
        if not _inside[here]:
            del _inside[here]


class _Columns:
    """Which tokens of one batch are which while it is generated, all lengths being known, by counting its columns."""

    def __init__(self, prompt_lengths: Tensor, width: int) -> None:
        self.prompt_lengths, self.width, self.seen = prompt_lengths, width, 0

    def see(self, decoder: nn.Module, args: tuple, kwargs: dict) -> None:
        """The decoder's pre-hook; refuses forwards that are not the next columns of the batch."""
        span = Span(decoder, args, kwargs)
        if self.seen and span.first not in (self.seen, None):
            raise RuntimeError(
                f"steered() is for one generation with a cache: {self.seen} columns have gone by, and this forward begins "
                f"after {span.first}; use one block for each, or steered_forwards()"
            )
        mask = span.given.get("attention_mask")
        if not self.seen and isinstance(mask, Tensor) and mask.ndim == 2:
            count = min(self.width, mask.shape[1])
            told = torch.arange(count)[None] >= self.width - self.prompt_lengths[:, None]
            if not torch.equal(mask[:, :count].bool().cpu(), told):
                raise RuntimeError(
                    "steered() takes prompts that are padded on the left to the width it was told; this attention mask is "
                    "another; use steered_forwards()"
                )
        prompt = min(max(self.width - self.seen, 0), span.count)
        column = torch.arange(self.seen, self.seen + span.count)[None]
        real = column >= self.width - self.prompt_lengths[:, None] if prompt else None
        self.marks = marks(real, column == self.width - 1, prompt)
        self.seen += span.count

    def of(self, _block_input: object) -> Marks:
        """See :meth:`Forwards.of`."""
        return self.marks


class _BlockHook:
    """The forward hook of one block: what to ablate and what to add, per row of the batch or alike for all rows."""

    def __init__(self, rows: list[list[Intervention]], hidden: int, tokens: _Columns | Forwards) -> None:
        self.tokens = tokens
        self.like: tuple[torch.dtype, torch.device] | None = None  # what self.fitted has
        # Rows may carry several interventions: the k-th of each row makes the k-th step for the whole batch.
        ablations, additions = [], []  # (positions, [rows, 1, hidden])
        for positions in POSITIONS:
            summed = torch.zeros(len(rows), hidden)
            for b, row in enumerate(rows):
                for i in row:
                    if i.kind == "add" and i.positions == positions:
                        summed[b] += i.coef * i.vector.detach().float().cpu()
            if summed.any():
                additions.append((positions, summed[:, None]))
            ablating = [[i for i in row if i.kind == "ablate" and i.positions == positions] for row in rows]
            for k in range(max(map(len, ablating), default=0)):
                unit = torch.zeros(len(rows), hidden)
                for b, row in enumerate(ablating):
                    if k < len(row):
                        unit[b] = nn.functional.normalize(row[k].vector.detach().float().cpu(), dim=0)
                ablations.append((positions, unit[:, None]))
        self.exact = (ablations, additions)

    def __call__(self, _block: nn.Module, args: tuple, output: Tensor | tuple) -> Tensor | tuple:
        h = output[0] if isinstance(output, tuple) else output
        if self.like != (h.dtype, h.device):
            self.fitted = [[(positions, v.to(h)) for positions, v in steps] for steps in self.exact]
            self.like = (h.dtype, h.device)
        ablations, additions = self.fitted
        marked = self.tokens.of(args[0] if args else None)
        for positions, unit in ablations:
            if positions in marked:
                h = _plus(h, (h * unit).sum(-1, keepdim=True).neg(), unit, marked[positions])
        for positions, delta in additions:
            if positions in marked:
                h = _plus(h, 1, delta, marked[positions])
        return (h, *output[1:]) if isinstance(output, tuple) else h


def _plus(h: Tensor, amount: Tensor | int, vector: Tensor, mask: Tensor | None) -> Tensor:
    """h + amount * vector at the tokens of the mask, in one pass over h where that can be."""
    if mask is None:
        return h + amount * vector
    if mask.shape[1] != h.shape[1]:
        raise RuntimeError(f"tokens told of {tuple(mask.shape)}, a batch of {tuple(h.shape[:2])}")
    return torch.addcmul(h, mask[..., None].to(h) * amount, vector)
