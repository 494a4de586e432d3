"""Stream a plain and a steered answer side by side, token by token, each token with its projection on a trait.

Monitoring follows the paper (section 3.3): the residual stream's projection onto v, read at the last prompt token
before generation, then at every token of the reasoning and the answer. It is read before the steering of that layer is
added. So if one layer is steered and watched, the number is what the unsteered model would read in this text.
Works on models and token ids; knows nothing about pages or conversations.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from persona_vectors import models
from persona_vectors.engines.base import Request, Sampling, before_stop, stop_ids
from persona_vectors.engines.hf import SeededSampling
from persona_vectors.errors import UserError
from persona_vectors.models import chat_template
from persona_vectors.models.decoder import find_blocks, of_this_thread
from persona_vectors.models.reasoning import declared_by
from persona_vectors.steering.hooks import attached, steering_hooks
from persona_vectors.steering.intervention import Intervention
from persona_vectors.vectors.storage import project


@dataclass(frozen=True)
class Gauge:
    """The projection a.v / |v| at the last prompt token of each row."""

    projections: list[float]


@dataclass(frozen=True)
class Token:
    """One token of one row.

    Attributes:
        text: the text that it completes; "" while a character spans several tokens.
        projection: a.v / |v| at this token.
        thought: True for reasoning and its marks, which are not part of the answer. Marks have no text.
    """

    row: int
    token_id: int
    text: str
    projection: float
    thought: bool = False


@dataclass(frozen=True)
class Retract:
    """A row's text so far was reasoning: its end mark has come, though there was no start mark."""

    row: int


@dataclass(frozen=True)
class End:
    """The end of a row's answer: ``stop`` at a stop token (which is not yielded as a :class:`Token`), or ``length``."""

    row: int
    reason: str


def side_by_side(
    model: nn.Module,
    tokenizer,
    prompts: Sequence[list[int]],
    interventions: Sequence[tuple[Intervention, ...]],
    watch_layer: int,
    watch_vector: Tensor,
    sampling: Sampling,
    seed: int = 0,
) -> Iterator[Gauge | Token | Retract | End]:
    """Yield the gauge, then the tokens of every row as they are generated.

    Hooks are attached only while a step runs, so several such iterators can take turns on one model from one thread.

    Args:
        prompts: token ids, one prompt per row.
        interventions: the steering of each row.
        watch_layer: the layer to read, 1..L-1.
        watch_vector: [hidden], row ``watch_layer`` of a vector file.
        seed: shared by all rows: rows with equal distributions draw equal tokens.

    Raises:
        UserError: a prompt that leaves no room for an answer, or interventions that do not fit the model.

    Example:
        for event in side_by_side(model, tokenizer, [ids, ids], [(), steering], 20, vectors[20], Sampling(200)):
            print(event)
    """
    longest = models.shape_of(model.config).max_length
    lengths, width = [len(prompt) for prompt in prompts], max(map(len, prompts))
    room = sampling.max_tokens if longest is None else min(sampling.max_tokens, longest - width)
    if room < 1:
        raise UserError(f"the conversation has {width} tokens and the model takes {longest}: begin a new one")
    blocks = find_blocks(model)
    if not 1 <= watch_layer < len(blocks):
        raise UserError(f"layer {watch_layer} cannot be watched: 1..{len(blocks) - 1} can (the last one is normed)")
    reader = _Reader(watch_vector)
    hooks = steering_hooks(model, interventions, lengths, width)
    stops = stop_ids(model.generation_config.eos_token_id, tokenizer)
    draw = SeededSampling([Request("", prompt, seed=seed) for prompt in prompts], sampling)
    device = model.get_input_embeddings().weight.device
    ids = torch.full((len(prompts), width), tokenizer.pad_token_id, device=device)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt, device=device)
        mask[row, width - len(prompt) :] = 1

    cache, texts = None, [_Stream(tokenizer, prompt) for prompt in prompts]
    held = [_Held(tokenizer, prompt) for prompt in prompts]
    running, chosen, made = list(range(len(prompts))), [], 0
    while True:
        with torch.inference_mode(), reading(blocks[watch_layer - 1], reader), attached(model, hooks):
            positions = (mask.cumsum(-1) - 1).clamp_min(0)[:, -ids.shape[1] :]
            output = model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            )
            cache, logits = output.past_key_values, output.logits[:, -1].float()
        if not chosen:
            yield Gauge(reader.values)
        for row in running:
            if chosen:
                parts = texts[row].add(chosen[row], made == room)
                yield from held[row].add(_events(row, chosen[row], reader.values[row], parts))
        for row in [row for row in running if held[row].stopped]:
            yield End(row, "stop")
            running.remove(row)
        if made == room:
            for row in running:
                yield from held[row].rest()
                yield End(row, "length")
        if made == room or not running:
            return
        with torch.inference_mode():
            if not chosen:
                logits[:, stops] = -torch.inf  # at least one token, as in all engines
            if sampling.temperature > 0:
                logits = draw(ids, logits)
            chosen = logits.argmax(-1).tolist()
        made += 1
        for row in [row for row in running if chosen[row] in stops]:
            parts = [part for part in texts[row].rest() if part != ("answer", "")]
            yield from held[row].add(_events(row, chosen[row], reader.values[row], parts))
            yield from held[row].rest()
            yield End(row, "stop")
            running.remove(row)
        if not running:
            return
        ids = torch.tensor(chosen, device=device)[:, None]
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)


@contextmanager
def reading(block: nn.Module, reader: "_Reader") -> Iterator[None]:
    """Within the ``with`` block, ``reader`` receives the decoder block's output."""
    handle = block.register_forward_hook(of_this_thread(reader))
    try:
        yield
    finally:
        handle.remove()


class _Reader:
    """A forward hook that records each row's projection onto ``vector`` at the last token of the step."""

    def __init__(self, vector: Tensor) -> None:
        self.vector = vector.float()
        self.values: list[float] = []

    def __call__(self, _block: nn.Module, _args: tuple, output: Tensor | tuple) -> None:
        h = output[0] if isinstance(output, tuple) else output
        self.values = project(h[:, -1].float(), self.vector.to(h.device)).tolist()


def _events(row: int, token: int, projection: float, parts: list[tuple[str, str]]) -> Iterator[Token | Retract]:
    """The events for the parts (kind, text) that a token has completed."""
    for kind, text in parts:
        yield Retract(row) if kind == "retract" else Token(row, token, text, projection, kind == "thought")


class _Held:
    """Holds back tokens that may begin a text that ends the answer; once they do, what follows the answer is dropped."""

    def __init__(self, tokenizer, prompt: list[int]) -> None:
        self.tokenizer, self.prompt, self.stops = tokenizer, prompt, chat_template.stop_texts(tokenizer)
        self.held: list[Token | Retract] = []
        self.text, self.given, self.stopped = "", 0, False  # of the answer: all of it, and what has been passed on

    def add(self, events: Iterator[Token | Retract]) -> Iterator[Token | Retract]:
        """The events that nothing to come can take back."""
        if not self.stops:
            yield from events
            return
        for event in events:
            self.held.append(event)
            self.text += event.text if isinstance(event, Token) and not event.thought else ""
        answer = before_stop(self.tokenizer, self.prompt, self.text)
        self.stopped = answer is not None
        if answer is None:
            starts = tuple(stop[:length] for stop in self.stops for length in range(1, len(stop)))
            if self.text == self.text.rstrip() and not self.text.endswith(starts):
                yield from self.rest()
            return
        room = max(0, len(answer) - self.given)
        for event in self.held:
            if isinstance(event, Token) and not event.thought:
                if not room:
                    break
                event, room = replace(event, text=event.text[:room]), max(0, room - len(event.text))
            yield event
        self.held = []

    def rest(self) -> Iterator[Token | Retract]:
        """What is held back, when the answer has ended."""
        yield from self.held
        self.held, self.given = [], len(self.text)


class _Stream:
    """Decodes one row's tokens into reasoning and answer text as they arrive."""

    def __init__(self, tokenizer, prompt: list[int]) -> None:
        self.tokenizer, self.text = tokenizer, _Text(tokenizer)
        self.reader = declared_by(tokenizer).reader(prompt)

    def add(self, token: int, last: bool = False) -> list[tuple[str, str]]:
        """The parts (kind, text) that this token completes, at least one: a mark is a thought without text."""
        code = self.reader.marks.code_of(token)
        if code is None:
            code = self.text.add(token, last)
        else:
            code, self.text = self.text.rest() + code, _Text(self.tokenizer)
        thinking = self.reader.in_thoughts
        parts = list(self.reader.add(code, last))
        return parts or [("thought" if thinking or self.reader.in_thoughts else "answer", "")]

    def rest(self) -> list[tuple[str, str]]:
        """The remaining parts when the answer ends."""
        return list(self.reader.add(self.text.rest(), last=True))


class _Text:
    """Decodes tokens one by one; text is returned once its characters are complete."""

    def __init__(self, tokenizer) -> None:
        self.tokenizer, self.ids, self.first, self.given = tokenizer, [], 0, 0

    def add(self, token: int, last: bool = False) -> str:
        """The text that this token completes; "" while a character is incomplete."""
        self.ids.append(token)
        before, now = self._decode(self.first, self.given), self._decode(self.first, len(self.ids))
        if now.endswith("�") and not last:
            return ""
        self.first, self.given = self.given, len(self.ids)
        return now[len(before) :]

    def rest(self) -> str:
        """The remaining text if the answer ends within a character."""
        return self._decode(self.first, len(self.ids))[len(self._decode(self.first, self.given)) :]

    def _decode(self, first: int, end: int) -> str:
        return self.tokenizer.decode(self.ids[first:end], skip_special_tokens=True)
