"""Which tokens of a forward are padding, prompt, its last token or generated: as the decoder's own arguments tell.

Knows attention masks, caches and ``generate``; knows nothing of vectors.
"""

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from persona_vectors.models.decoder import find_decoder

# By positions: bool [rows or 1, tokens], or None for every token; positions that are missing have no token.
Marks = dict[str, Tensor | None]


def marks(real: Tensor | None, last: Tensor | None, prompt: int | Tensor) -> Marks:
    """The tokens of one forward by the positions that :class:`~persona_vectors.steering.intervention.Intervention` has.

    Args:
        real: bool [rows, tokens]: no padding; None where all are real.
        last: bool [rows or 1, tokens]: the last prompt token; needed where ``prompt`` is not 0.
        prompt: how many of the columns, from the first, belong to the prompt (of each row: [rows, 1]); generated ones
            follow.
    """
    if isinstance(prompt, int) and prompt == 0:
        return {"response": real, "all": real}
    assert last is not None
    known = torch.ones_like(last) if real is None else real
    generated = torch.arange(last.shape[1], device=last.device) >= prompt
    return {"prompt": known & ~generated, "response": last | known & generated, "all": real}


class Span:
    """The columns that one forward of a decoder takes: ``count`` of them after the ``first`` that its cache holds."""

    def __init__(self, decoder: nn.Module, args: tuple, kwargs: dict) -> None:
        if args:
            kwargs = inspect.signature(decoder.forward).bind_partial(*args, **kwargs).arguments | kwargs
        self.given = kwargs
        ids, embeds = kwargs.get("input_ids"), kwargs.get("inputs_embeds")
        tokens = embeds if ids is None else ids
        if tokens is None:
            raise RuntimeError("a forward without tokens: steering cannot tell which are which")
        if "write_index" in kwargs:  # of a paged cache
            raise RuntimeError("steering cannot tell the sequences of continuous batching apart; use generate()")
        self.cache = _cache_in(kwargs)
        self.rows, self.count, self.device = tokens.shape[0], tokens.shape[1], tokens.device
        self.first: Any = _length(self.cache)  # int; None: some, and whoever counts has to say how many

    @property
    def end(self) -> int:
        """The column after the last one."""
        return self.first + self.count

    def real(self) -> Tensor | None:
        """bool [rows, count]: which tokens are no padding; None where all are.

        Raises:
            RuntimeError: a mask of a kind that does not tell.
        """
        mask = self.given.get("attention_mask")
        if isinstance(mask, dict):  # one for each kind of attention: they hide the same padding
            mask = next((m for m in mask.values() if m is not None), None)
        if mask is None:
            return None
        if not isinstance(mask, Tensor) or mask.ndim not in (2, 4):
            if self.count == 1 and self.first:
                return None  # a step of decoding
            kind = f"of shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else f"that is a {type(mask).__name__}"
            raise RuntimeError(f"an attention mask {kind} does not tell which tokens are padding")
        if mask.ndim == 2:
            if mask.shape[1] not in (self.count, self.end) and mask.shape[1] < self.end:
                raise RuntimeError(
                    f"an attention mask of {mask.shape[1]} columns for tokens {self.first}..{self.end - 1}"
                )
            if self.cache is None and mask.shape[1] > self.count:
                raise RuntimeError(
                    f"an attention mask of {mask.shape[1]} columns for {self.count} tokens, and no cache that holds the others: "
                    "steering cannot tell prompt from answer (a release of transformers that is not known here?)"
                )
            begin = self.first if mask.shape[1] >= self.end else 0
            return mask[:, begin : begin + self.count].bool()
        # Padding does not attend to itself; a sliding window has dropped the columns that lie before it.
        own = mask[:, 0].diagonal(self.first - max(self.end - mask.shape[-1], 0), 1, 2)
        return own > torch.finfo(own.dtype).min / 2 if own.is_floating_point() else own.bool()

    def marks(self, width: int | None) -> Marks:
        """See :func:`marks`; ``width``: columns of the prompt, None where an empty cache is all that tells one."""
        if width is None:
            width = 0 if self.first else self.end
        real, prompt = self.real(), min(max(width - self.first, 0), self.count)
        if prompt == 0:
            return marks(real, None, 0)
        column = torch.arange(self.count, device=self.device if real is None else real.device)
        if self.end < width:  # a chunk of a prompt: more of it follows
            last = torch.zeros_like(column, dtype=torch.bool)[None]
        elif real is not None:
            if self.first and not real[:, prompt - 1].all():  # the last token may have been in a chunk that has gone by
                raise RuntimeError("a prompt in several chunks has to be padded on the left to be steered")
            left = real & (column < prompt)
            last = left & (left.flip(1).cumsum(1).flip(1) == 1)  # no prompt token after it is real
        else:
            last = (column == prompt - 1)[None]
            places = self.given.get("position_ids")
            if isinstance(places, Tensor) and places.ndim == 2 and places.shape[1] == self.count:
                ends = places.to(column.device).diff(dim=1) <= 0  # of sequences that are packed into a row
                last = last | nn.functional.pad(ends, (0, 1)) & (column < prompt)
        return marks(real, last, prompt)

    def marks_of_texts(self, lengths: Sequence[int]) -> Marks:
        """See :func:`marks`; ``lengths``: columns of each row that are its prompt; the others are its answer.

        Raises:
            RuntimeError: another number of rows, or a forward that goes on from a cache.
        """
        if len(lengths) != self.rows or self.first != 0:
            raise RuntimeError(
                f"the prompts of {len(lengths)} whole texts were told, and this forward takes {self.rows} rows after "
                f"{self.first} columns"
            )
        real = self.real()
        column = torch.arange(self.count, device=self.device if real is None else real.device)
        ends = torch.tensor(lengths, device=column.device)[:, None]
        return marks(real, column == ends - 1, ends)


def _cache_in(given: dict) -> Any:
    """The cache among a decoder's arguments, whatever they call it: past_key_values, cache_params, cache; None without any."""
    return next((value for value in given.values() if hasattr(value, "get_seq_length")), given.get("cache_params"))


def _length(cache: Any) -> int | None:
    """How many tokens a cache holds; None where it holds some and does not count them, as of a state-space model."""
    if cache is None:
        return 0
    try:
        return int(cache.get_seq_length())
    except (AttributeError, ValueError):
        if hasattr(cache, "has_previous_state"):
            return None if cache.has_previous_state() else 0
        raise RuntimeError(f"a cache of type {type(cache).__name__} does not tell how many tokens it holds") from None


class Forwards:
    """What is known of the forwards of a model under way, in any thread. One for all steerings that act on it."""

    def __init__(self, model: nn.Module) -> None:
        get_base: Any = getattr(model, "get_base_model", None)
        self.base: Any = model if get_base is None else get_base()
        self.decoder, self.users = find_decoder(model), 0
        self.thread = threading.local()
        self.latest: Marks | None = None
        self.kept = WeakIdKeyDictionary()  # by the input of a block, for gradient checkpointing

    def start(self) -> None:
        """Hooks on the decoder, and a ``generate`` that tells how long its prompt is."""
        self.handles = [
            self.decoder.register_forward_pre_hook(self._begin, with_kwargs=True),
            self.decoder.register_forward_hook(self._end, always_call=True),
        ]
        self.own = vars(self.base).get("generate")
        self.wrapper = _telling(self.base) if hasattr(self.base, "generate") else None
        if self.wrapper:
            self.base.generate = self.wrapper

    def stop(self) -> None:
        """Everything as it was."""
        for handle in self.handles:
            handle.remove()
        if self.wrapper and vars(self.base).get("generate") is self.wrapper:
            del self.base.generate
            if self.own is not None:
                self.base.generate = self.own

    def _begin(self, decoder: nn.Module, args: tuple, kwargs: dict) -> None:
        try:
            self.thread.now = self.latest = self._marks(Span(decoder, args, kwargs))
        except RuntimeError as e:  # for whom it is steered, if any
            self.thread.now = e

    def _marks(self, span: Span) -> Marks:
        generation, told = _generation.get(), _told.get()
        if told is not None and generation is None:
            return span.marks_of_texts(told)
        width = generation.width_for(self.base, span) if generation else None
        if span.first is None:  # any number but 0 will do, and the mask's last columns are those of this forward
            mask = span.given.get("attention_mask")
            span.first = max(mask.shape[1] - span.count, 1) if isinstance(mask, Tensor) and mask.ndim == 2 else 1
        return span.marks(width)

    def _end(self, *_: object) -> None:
        self.thread.now = None

    def of(self, block_input: object) -> Marks:
        """The marks of the forward that a block runs in; one that is computed again in backward finds those it had.

        Raises:
            RuntimeError: the forward does not tell which tokens are which.
        """
        now = getattr(self.thread, "now", None)
        if now is None:
            now = self.kept.get(block_input, self.latest)
        elif torch.is_grad_enabled() and isinstance(block_input, Tensor):
            self.kept[block_input] = now
        if now is None:
            now = RuntimeError("a decoder block ran outside of its decoder: steering cannot tell which tokens it took")
        if isinstance(now, RuntimeError):
            raise now
        return now


_lock = threading.Lock()
_watched: dict[int, Forwards] = {}


@contextmanager
def watched(model: nn.Module) -> Iterator[Forwards]:
    """Within the block, the forwards of ``model`` are watched, in every thread; several blocks share one watch."""
    key = id(find_decoder(model))
    with _lock:
        forwards = _watched.get(key) or Forwards(model)
        if not forwards.users:
            forwards.start()
            _watched[key] = forwards
        forwards.users += 1
    try:
        yield forwards
    finally:
        with _lock:
            forwards.users -= 1
            if not forwards.users:
                forwards.stop()
                del _watched[key]


class _Generation:
    """One call of ``generate`` under way: whose it is, and how many columns its prompt has."""

    def __init__(self, model: nn.Module, width: int) -> None:
        self.model, self.width, self.seen = model, width, 0
        self.caches: list[object] = []

    def width_for(self, model: nn.Module, span: Span) -> int | None:
        """The prompt's columns; None for a forward of another model or sequence (as guidance by a second prompt makes)."""
        if model is not self.model:
            return None
        self.caches = self.caches or [span.cache]  # that of the first forward
        if span.cache is not self.caches[0]:
            return None
        if span.first is None:
            span.first = self.seen
        self.seen = span.end
        return self.width


_generation: ContextVar[_Generation | None] = ContextVar("generation", default=None)
_told: ContextVar[Sequence[int] | None] = ContextVar("told", default=None)


@contextmanager
def prompts_told(lengths: Sequence[int]) -> Iterator[None]:
    """Within the block, forwards of whole texts know where each row's prompt ends and its answer begins.

    A text that is scored at once tells nobody: of it all would be prompt (:func:`persona_vectors.steering.steer.steer`).

    Args:
        lengths: columns of each row, padding on the left included, up to its last prompt token. 0: all of the row is answer.

    Example:
        with pv.steer(model, vectors[20], layer=20), prompts_told([len(prompt_ids)]):
            logits = model(torch.tensor([prompt_ids + answer_ids])).logits
    """
    token = _told.set(lengths)
    try:
        yield
    finally:
        _told.reset(token)


def _telling(model: Any) -> Callable:
    """``model.generate``, as it is, which also tells the forwards within it how long the prompt is."""
    generate: Callable = model.generate

    @functools.wraps(generate)
    def telling(*args: Any, **kwargs: Any) -> object:
        inputs = args[0] if args else kwargs.get("inputs")
        inputs = kwargs.get("input_ids") if inputs is None else inputs
        embeds, mask = kwargs.get("inputs_embeds"), kwargs.get("attention_mask")
        width = 1 if inputs is None else inputs.shape[1]  # nothing: it begins with a token of its own
        if embeds is not None:
            width = embeds.shape[1]
        elif isinstance(mask, Tensor) and mask.ndim == 2:  # longer than the ids where a cache holds what comes before
            width = max(width, mask.shape[1])
        token = _generation.set(_Generation(model, width))
        try:
            return generate(*args, **kwargs)
        finally:
            _generation.reset(token)

    return telling
