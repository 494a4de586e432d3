"""Interventions on the residual stream, as plain forward hooks on decoder blocks.

The method (arXiv 2507.21509, section 3.2): ``h_l <- h_l + a v_l`` at the output of the l-th block, and for ablation
(CAFT, section 5) ``h_l <- h_l - (h_l . u) u`` with ``u = v / |v|``. Knows hooks and token positions; knows nothing
of prompts, tokenizers or files.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from persona_vectors.errors import UserError
from persona_vectors.models.decoder import find_blocks, find_decoder, of_this_thread
from persona_vectors.steering.intervention import POSITIONS, Intervention


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
    hooks = steering_hooks(model, interventions, prompt_lengths, width)
    watch = of_this_thread(_OneGeneration(prompt_lengths, width).see)
    handle = find_decoder(model).register_forward_pre_hook(watch, with_kwargs=True) if hooks else None
    try:
        with attached(model, hooks):
            yield
    finally:
        if handle is not None:
            handle.remove()


def steering_hooks(
    model: nn.Module, interventions: Sequence[Sequence[Intervention]], prompt_lengths: Sequence[int], width: int
) -> "dict[int, BlockHook]":
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
    hidden = check_fits(model, [i for row in interventions for i in row])
    hooks = {}
    for layer in sorted({i.layer for row in interventions for i in row if not i.is_identity}):
        rows = [[i for i in row if i.layer == layer and not i.is_identity] for row in interventions]
        hooks[layer] = BlockHook(rows, hidden, _Columns(torch.tensor(prompt_lengths), width))
    return hooks


@contextmanager
def steered_training(model: nn.Module, interventions: Sequence[Intervention]) -> Iterator[None]:
    """Within the block, every forward of ``model`` is steered alike at all its tokens; gradients flow through.

    For training (sections 5.2 and J.3: preventative steering, CAFT): the model may be wrapped by PEFT, accelerate's
    wrappers come later, and a block that gradient checkpointing computes a second time is steered a second time.
    Padding, as the forward's attention mask has it, is never steered. Every thread's forwards are steered, as autograd
    computes blocks again in threads of its own: do nothing else with a model in training. Hooks are removed at the end,
    whatever happens.

    Args:
        interventions: all of positions ``all``; those at one layer act one after another, ablations first.

    Raises:
        UserError: a layer outside 1..L, a vector of another width, other positions.
        RuntimeError: a hooked block was never run: the training that just ended was not steered as asked.
    """
    if any(i.positions != "all" for i in interventions):
        raise UserError("in training all tokens are steered; there is no prompt and response to tell apart")
    with _every_forward(model, interventions, _Padding()) as hooks:
        yield
    idle = [layer for layer, hook in hooks.items() if not hook.ran]
    if idle:
        raise RuntimeError(f"the hooks of layers {idle} never ran: this model was not steered there")


@contextmanager
def steered_forwards(model: nn.Module, interventions: Sequence[Intervention]) -> Iterator[None]:
    """Within the block, every forward of ``model`` is steered alike, in every thread, whoever calls it and how.

    Prompt and answer are told apart by the number of tokens, as the published steerer does: a forward of one token is
    a step of decoding, a longer one a prompt, of which ``response`` steers the last token. Padding, on either side, is
    never steered where the forward's attention mask tells it. Where all prompts are known beforehand :func:`steered`
    is exact for prompts of one token and answers in several chunks as well.

    Raises:
        UserError: a layer outside 1..L or a vector of another width than the model's.
    """
    with _every_forward(model, interventions, _LastToken()):
        yield


@contextmanager
def _every_forward(
    model: nn.Module, interventions: Sequence[Intervention], tokens: "_Padding"
) -> "Iterator[dict[int, BlockHook]]":
    """Within the block, all rows of every forward in every thread are steered by ``interventions``; gives the hooks."""
    hidden = check_fits(model, interventions)
    hooks = {
        layer: BlockHook([[i for i in interventions if i.layer == layer and not i.is_identity]], hidden, tokens)
        for layer in sorted({i.layer for i in interventions if not i.is_identity})
    }
    watch = find_decoder(model).register_forward_pre_hook(tokens.see, with_kwargs=True) if hooks else None
    try:
        with attached(model, hooks, every_thread=True):
            yield hooks
    finally:
        if watch is not None:
            watch.remove()


def check_fits(model: nn.Module, interventions: Sequence[Intervention]) -> int:
    """The width of the residual stream; raises :class:`UserError` for what does not fit the model."""
    count = len(find_blocks(model))
    hidden = model.config.get_text_config(decoder=True).hidden_size
    for i in interventions:
        if not i.is_identity and not 1 <= i.layer <= count:
            raise UserError(f"layer {i.layer} does not exist: this model has layers 1..{count}")
        if i.vector.shape[0] != hidden:
            raise UserError(f"the vector is {i.vector.shape[0]} wide, the model's residual stream {hidden}")
    return hidden


@contextmanager
def attached(model: nn.Module, hooks: "dict[int, BlockHook]", every_thread: bool = False) -> Iterator[None]:
    """Within the block, each layer's hook is on its decoder block, for forwards of this thread or of every one."""
    blocks, handles = find_blocks(model), []
    try:
        for layer, hook in hooks.items():
            handles.append(blocks[layer - 1].register_forward_hook(hook if every_thread else of_this_thread(hook)))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _OneGeneration:
    """Refuses forwards that :class:`_Columns` would take for later columns, or other ones, of the batch it counts."""

    def __init__(self, prompt_lengths: Sequence[int], width: int) -> None:
        self.prompt_lengths, self.width, self.seen = torch.tensor(prompt_lengths), width, 0

    def see(self, _decoder: nn.Module, args: tuple, kwargs: dict) -> None:
        """The decoder's pre-hook."""
        tokens = next(
            (t for t in (kwargs.get("input_ids"), kwargs.get("inputs_embeds"), *args[:1]) if t is not None), None
        )
        if tokens is None:
            return
        cache = kwargs.get("past_key_values")
        cached = cache.get_seq_length() if hasattr(cache, "get_seq_length") else 0
        if self.seen and cached != self.seen:
            raise RuntimeError(
                f"steered() is for one generation with a cache: {self.seen} columns have gone by, and this forward begins "
                f"after {cached}; use one block for each, or steered_forwards()"
            )
        mask = kwargs.get("attention_mask")
        if not self.seen and isinstance(mask, Tensor) and mask.ndim == 2:
            count = min(self.width, mask.shape[1])
            real = torch.arange(count)[None] >= self.width - self.prompt_lengths[:, None]
            if not torch.equal(mask[:, :count].bool().cpu(), real):
                raise RuntimeError(
                    "steered() takes prompts that are padded on the left to the width it was told; this attention mask is "
                    "another; use steered_forwards()"
                )
        self.seen += tokens.shape[1]


class _Columns:
    """Which tokens are which while generating, by counting the columns that went by. One per hook."""

    def __init__(self, prompt_lengths: Tensor, width: int) -> None:
        self.prompt_lengths, self.width, self.seen = prompt_lengths, width, 0

    def masks(self, h: Tensor) -> dict[str, Tensor | None]:
        """``{positions: [batch, count, 1] in h's dtype, or None for every token}`` of the columns that h holds."""
        first, count = self.seen, h.shape[1]
        self.seen += count
        if first >= self.width:  # decoding: then every column counts, or none
            return {"response": None, "all": None}
        self.prompt_lengths = self.prompt_lengths.to(h.device)
        column = torch.arange(first, first + count, device=h.device)[None]
        start = self.width - self.prompt_lengths[:, None]
        chosen = {
            "prompt": (column >= start) & (column < self.width),
            "response": (column >= self.width - 1).expand(len(start), -1),
            "all": column >= start,
        }
        return {positions: mask[..., None].to(h.dtype) for positions, mask in chosen.items()}


class _Padding:
    """Which tokens are none, by the attention mask of the forward that is under way. One for all hooks of a model."""

    def __init__(self) -> None:
        self.attention_mask: Tensor | None = None

    def see(self, _decoder: nn.Module, args: tuple, kwargs: dict) -> None:
        """The decoder's pre-hook: keeps the mask [batch, tokens]; a block computed again in backward finds it here."""
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        if mask is not None and mask.ndim != 2:
            raise RuntimeError(f"an attention mask of shape {tuple(mask.shape)} does not tell which tokens are padding")
        self.attention_mask = mask

    def masks(self, h: Tensor) -> dict[str, Tensor | None]:
        """See :meth:`_Columns.masks`."""
        if self.attention_mask is None:
            return {"all": None}
        if self.attention_mask.shape != h.shape[:2]:
            raise RuntimeError(f"a mask of {tuple(self.attention_mask.shape)} for a batch of {tuple(h.shape[:2])}")
        return {"all": self.attention_mask[..., None].to(h)}


class _LastToken(_Padding):
    """Which tokens are which in a forward of its own: by their number and, where there is one, the attention mask."""

    def see(self, _decoder: nn.Module, args: tuple, kwargs: dict) -> None:
        """See :meth:`_Padding.see`; a mask of another kind (of a static cache) says nothing of padding."""
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        self.attention_mask = mask if isinstance(mask, Tensor) and mask.ndim == 2 else None

    def masks(self, h: Tensor) -> dict[str, Tensor | None]:
        """See :meth:`_Columns.masks`; the mask may begin with the tokens of a cache."""
        count, real = h.shape[1], torch.ones(h.shape[:2], device=h.device)
        if self.attention_mask is not None:
            real = self.attention_mask[:, -count:].to(h.device)
        last = real * (real.flip(1).cumsum(1).flip(1) == 1)  # no token after it is real
        chosen = {"response": last, "all": real} | ({"prompt": real} if count > 1 else {})
        return {positions: mask[..., None].to(h.dtype) for positions, mask in chosen.items()}


class BlockHook:
    """The forward hook of one block: what to ablate and what to add, per row of the batch or alike for all rows."""

    def __init__(
        self, rows: list[list[Intervention]], hidden: int, tokens: "_Columns | _Padding | None" = None
    ) -> None:
        self.tokens, self.ran = tokens, False
        # Rows may carry several interventions: the k-th of each row makes the k-th step for the whole batch.
        self.ablations: list[tuple[str, Tensor]] = []
        self.additions: list[tuple[str, Tensor]] = []
        for positions in POSITIONS:
            summed = torch.zeros(len(rows), hidden)
            for b, row in enumerate(rows):
                for i in row:
                    if i.kind == "add" and i.positions == positions:
                        summed[b] += i.coef * i.vector.detach().float().cpu()
            if summed.any():
                self.additions.append((positions, summed[:, None]))
            ablating = [[i for i in row if i.kind == "ablate" and i.positions == positions] for row in rows]
            for k in range(max(map(len, ablating), default=0)):
                unit = torch.zeros(len(rows), hidden)
                for b, row in enumerate(ablating):
                    if k < len(row):
                        unit[b] = nn.functional.normalize(row[k].vector.detach().float().cpu(), dim=0)
                self.ablations.append((positions, unit[:, None]))

    def __call__(self, _block: nn.Module, _args: tuple, output: Tensor | tuple) -> Tensor | tuple:
        return self.changed(output, self.tokens.masks)

    def changed(
        self, output: Tensor | tuple, masks_of: "Callable[[Tensor], dict[str, Tensor | None]]"
    ) -> Tensor | tuple:
        """The block's output, steered at the tokens that ``masks_of`` names for each kind of positions."""
        h = output[0] if isinstance(output, tuple) else output
        if not self.ran:  # everything on the block's own device and dtype, once
            self.ablations = [(p, v.to(h)) for p, v in self.ablations]
            self.additions = [(p, v.to(h)) for p, v in self.additions]
            self.ran = True
        masks = masks_of(h)
        for positions, unit in self.ablations:
            if positions in masks:
                h = _plus(h, (h * unit).sum(-1, keepdim=True).neg(), unit, masks[positions])
        for positions, delta in self.additions:
            if positions in masks:
                h = _plus(h, 1, delta, masks[positions])
        return (h, *output[1:]) if isinstance(output, tuple) else h


def _plus(h: Tensor, amount: Tensor | int, vector: Tensor, mask: Tensor | None) -> Tensor:
    """h + amount * vector at the tokens of the mask, in one pass over h where that can be."""
    if mask is None:
        return h + amount * vector
    return torch.addcmul(h, mask * amount, vector)
