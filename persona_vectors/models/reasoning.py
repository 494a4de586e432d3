"""Thoughts and answers: what a thinking model wrote is split, and an answer is put after its thoughts again.

Splitting is done on token ids, before special tokens are dropped from the text. How an answer stands after thoughts is
what the chat template itself writes, found by rendering conversations; where it shows none, what is usual.
Knows tokenizers and chat templates; knows nothing of engines, files or activations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import regex

from persona_vectors.files.messages import THOUGHT_KEYS
from persona_vectors.models import chat_template
from persona_vectors.models.thought_marks import HARMONY, KIMI_K3, TAIL, Marks, Pair, last_literal
from persona_vectors.models.thought_reader import Reader

THOUGHT, ANSWER = "THOUGHT-PROBE", "ANSWER-PROBE"


@dataclass(frozen=True)
class Form:
    """How an answer stands after thoughts, as text: opening, thoughts, closing; ``none`` where there are no thoughts."""

    opening: str
    closing: str
    none: str = ""


FORMS = {
    HARMONY: Form(
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        "<|channel|>final<|message|>",
    ),
    KIMI_K3: Form(
        "<|open|>think<|sep|>",
        "<|close|>think<|sep|><|open|>response<|sep|>",
        "<|open|>response<|sep|>",
    ),
}


def declared_by(tokenizer) -> "Thoughts":
    """What the tokenizer and its chat template declare about thoughts; worked out once."""
    return _declared_by(tokenizer, str(tokenizer.chat_template), len(tokenizer))


@lru_cache(8)
def _declared_by(tokenizer, _template: str, _tokens: int) -> "Thoughts":
    return Thoughts(tokenizer)


class Thoughts:
    """How a model writes thoughts. False where it has none; then every text is an answer.

    Example:
        reasoning, answer = declared_by(tokenizer).split(prompt_ids, generated_ids)
        context = prompt + declared_by(tokenizer).between(prompt, reasoning)  # what the answer was written after
    """

    def __init__(self, tokenizer) -> None:
        self.tokenizer, self.marks = tokenizer, Marks(tokenizer)
        self.form = self._form()

    def __bool__(self) -> bool:
        return bool(self.marks)

    def split(self, prompt_ids: Sequence[int], ids: Sequence[int]) -> tuple[str, str]:
        """``(reasoning, answer)`` of generated tokens, without special tokens; reasoning is "" where there is none.

        Thoughts that never end (cut off at max_tokens) leave an empty answer: nothing was said that could be judged.
        """
        if self:
            reader = self.reader(prompt_ids)
            parts = reader.read(self.marks.code_ids(ids))
            if reader.marked:
                return parts
        return "", self.tokenizer.decode(ids, skip_special_tokens=True)

    def split_text(self, text: str) -> tuple[str, str]:
        """:meth:`split` for an answer out of a file, with its thoughts in it as the model writes them."""
        if any(sign in text for sign in self.marks.signs):
            reader = Reader(self.marks, None, self.marks.written)
            parts = reader.read(self.marks.code(text))
            if reader.marked:
                return parts
        return "", text

    def reader(self, prompt_ids: Sequence[int]) -> Reader:
        """A :class:`Reader` for what is generated after the prompt."""
        state, _ = self.marks.end_of(self.marks.code_ids(prompt_ids[-TAIL:])) if self else (None, "")
        return Reader(self.marks, state, self.marks.as_decoded)

    def between(self, prompt: str, reasoning: str) -> str:
        """The text that stands between a templated prompt and an answer to it that came after ``reasoning``.

        Without reasoning it is what the template writes there: an opened block is closed, an empty one may stand there.
        Where the model declares no thoughts, reasoning is put into ``<think>``.
        """
        state, rest = self.marks.end_of(self.marks.code(prompt[-TAIL:]))
        if state == "thought":
            _, after = self.marks.end_of(self.marks.code(self.form.opening))
            lacking = after.removeprefix(rest) if after.startswith(rest) else ""
            return lacking + reasoning + self.form.closing
        if reasoning:
            return self.form.opening + reasoning + self.form.closing
        return "" if state == "answer" else self.form.none

    def _ends_in(self, prompt: str) -> str | None:
        return self.marks.end_of(self.marks.code(prompt[-TAIL:]))[0]

    def _form(self) -> Form:
        """Found by rendering: prompts with thinking on and off, an answer alone, an answer with thoughts."""
        marks, ask = self.marks, [{"role": "user", "content": "x"}]
        answer = {"role": "assistant", "content": ANSWER}
        on, off = (self._rendered(ask, thinking) for thinking in (True, False))
        with_thoughts = (self._rendered([*ask, {**answer, key: THOUGHT}], True, False) for key in THOUGHT_KEYS)
        before, closing = next((around for text in with_thoughts if (around := _around_thought(text))), ("", ""))
        opening = before.removeprefix(on) if on and before.startswith(on) else ""
        opens = opening.strip() or last_literal(before)
        known = self._ends_in(before) == "thought" and marks.pattern.search(marks.code(closing))
        if opens and closing.strip() and not known:
            marks.learn(Pair(opens, closing.strip()))
        if closing and not opening.strip() and (mark := marks.last(marks.code(before))):  # the prompt opens them
            opening = marks.written(marks.code(before)[mark.start() :])

        bare = self._rendered([*ask, answer], True, False).partition(ANSWER)[0]
        gap = bare.removeprefix(on) if on and bare.startswith(on) else ""
        always = self._ends_in(on) == "thought"  # every answer comes after thoughts, where thinking is on
        empty = self._empty_block(bare) or (None if always else self._empty_block(off))
        if not opening and empty:
            lead, found, _ = gap.partition(empty[0].strip())
            opening, closing = (lead if found else "") + empty[0], empty[1]
        if not opening:
            opening, closing = self._usual(on)

        none = FORMS[marks.channels].none if marks.channels else ""
        if not self or always:
            return Form(opening, closing, none)
        if marks.pattern.search(marks.code(gap)):
            none = gap
        elif gap.strip() and closing.endswith(gap.strip()):
            marks.learn(answer=gap.strip())
            none = gap
        elif not none and empty:
            none = "".join(empty)
        return Form(opening, closing, none)

    def _empty_block(self, text: str) -> tuple[str, str] | None:
        """(opening, closing) of the block without thoughts that a text ends with."""
        for pair in self.marks.pairs:
            before, found, trail = self.marks.code(text).rpartition(self.marks.code(pair.close))
            if found and not trail.strip():
                _, found, inner = before.rpartition(self.marks.code(pair.open))
                inner = self.marks.written(inner) if found else ""
                if not inner.strip().removeprefix(pair.label.strip()):
                    cut = len(inner) if inner.strip() else (len(inner) + 1) // 2
                    return pair.open + inner[:cut], inner[cut:] + pair.close + trail
        return None

    def _usual(self, prompt: str) -> tuple[str, str]:
        """Opening and closing for a template that shows neither: on lines of their own where the prompt has it so, or
        for tags like <think>."""
        if self.marks.channels:
            return FORMS[self.marks.channels].opening, FORMS[self.marks.channels].closing
        pair = self.marks.pairs[0] if self.marks.pairs else Pair("<think>", "</think>")
        state, rest = self.marks.end_of(self.marks.code(prompt[-TAIL:]))
        lines = "\n" in rest if state == "thought" else bool(regex.fullmatch(r"<\w+>", pair.open))
        return pair.open + (pair.label or "\n" * lines), f"\n{pair.close}\n\n" if lines else pair.close

    def _rendered(self, messages: list[dict], thinking: bool, ask: bool = True) -> str:
        """A rendered conversation; "" where the template will not have it, whatever it raises."""
        try:
            return chat_template.apply_template(self.tokenizer, messages, thinking, ask)
        except Exception:  # templates run any expression: what they cannot write they do not declare
            return ""


def _around_thought(text: str) -> tuple[str, str] | None:
    """What a rendered conversation has before the thoughts, and between them and the answer."""
    before, found, after = text.partition(THOUGHT)
    between, answered, _ = after.partition(ANSWER)
    return (before, between) if found and answered and THOUGHT not in between else None
