"""What a thinking model writes: which of it are thoughts and which is the answer; and an answer put after thoughts again.

Thoughts are found by their marks in the token ids, before special tokens are dropped from the text. The marks are those
that the tokenizer and its chat template declare: tokens, or texts in the template, that are named after thinking and come
in pairs; the channels of gpt-oss and Kimi K3; and whatever the template itself writes around a message's reasoning.
Knows tokenizers and chat templates; knows nothing of engines, files or activations.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import regex  # comes with transformers; unlike re it tells where a text may be the beginning of a match

from persona_vectors import chat

NAMED = regex.compile("think|thought|reason|inner_", regex.IGNORECASE)
LITERAL = regex.compile(r"""[<\[◁][^\s<>\[\]◁▷'"{}()]{1,40}[>\]▷]""")  # <think>, [THINK], ◁think▷ in a template
ENDS_OF = {"begin": "end", "start": "end", "open": "close", "prefix": "suffix"}  # within the names of tokens
FIELDS = ("reasoning_content", "reasoning", "thinking")  # of a message: where templates look for its thoughts
THOUGHT, ANSWER = "THOUGHT-PROBE", "ANSWER-PROBE"
CODES = 0xF0000  # code points of a private plane stand for the tokens that marks are made of
TAIL = 256  # characters (or tokens) of a prompt that show whether it ends within thoughts


@dataclass(frozen=True)
class Form:
    """How an answer stands after thoughts, as text: opening, the thoughts, closing; ``none`` where there are none."""

    opening: str
    closing: str
    none: str = ""


@dataclass(frozen=True)
class Pair:
    """Marks around thoughts; ``label`` is written after the opening one and is no thought itself."""

    open: str
    close: str
    label: str = ""


@dataclass(frozen=True)
class Channels:
    """A format whose every text has a channel: ``begin`` name ``sep`` text, up to one of ``ends``.

    Thoughts are in the channels ``thoughts`` (None: in all but the answer's); other channels are neither.
    """

    begin: str
    sep: str
    ends: tuple[str, ...]
    answer: str
    thoughts: tuple[str, ...] | None
    form: Form


GEMMA = Pair("<|channel>", "<channel|>", "thought\n")
CHANNELS = (
    Channels(  # gpt-oss: harmony
        "<|channel|>", "<|message|>", ("<|end|>", "<|return|>", "<|call|>", "<|start|>"), "final", None,
        Form(
            "<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>",
            "<|channel|>final<|message|>",
        ),
    ),
    Channels(  # Kimi K3
        "<|open|>", "<|sep|>", ("<|close|>", "<|end_of_msg|>"), "response", ("think",),
        Form("<|open|>think<|sep|>", "<|close|>think<|sep|><|open|>response<|sep|>", "<|open|>response<|sep|>"),
    ),
)  # fmt: skip


def thoughts_of(tokenizer) -> "Thoughts":
    """What the tokenizer and its chat template declare about thoughts; worked out once."""
    return _thoughts_of(tokenizer, str(tokenizer.chat_template))


@lru_cache(8)
def _thoughts_of(tokenizer, _template: str) -> "Thoughts":
    return Thoughts(tokenizer)


class Thoughts:
    """The marks of a model's thoughts. False where it has none; then every text is an answer.

    Example:
        reasoning, answer = thoughts_of(tokenizer).split(prompt_ids, generated_ids)
        context = prompt + thoughts_of(tokenizer).between(prompt, reasoning)  # what the answer was written after
    """

    def __init__(self, tokenizer) -> None:
        self.tokenizer, self.added = tokenizer, tokenizer.get_added_vocab()
        template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
        self.pairs = list(_named_pairs(self.added, template))
        self.channels = next((c for c in CHANNELS if {c.begin, c.sep} <= self.added.keys()), None)
        self.answer_marks: list[str] = []
        self._compile()
        self.form = self._form_of_template() if template else self._usual_form("")

    def __bool__(self) -> bool:
        return bool(self.pairs or self.channels)

    def split(self, prompt_ids: Sequence[int], ids: Sequence[int]) -> tuple[str, str]:
        """``(reasoning, answer)`` of generated tokens, without special tokens; reasoning is "" where there is none.

        Thoughts that never end (cut off at max_tokens) leave an empty answer: nothing was said that could be judged.
        """
        if self:
            reader = self.reader(prompt_ids)
            reasoning, answer = reader.read(self._code_ids(ids))
            if reader.marked:
                return reasoning, answer
        return "", self.tokenizer.decode(ids, skip_special_tokens=True)

    def split_text(self, text: str) -> tuple[str, str]:
        """:meth:`split` for an answer out of a file, with its thoughts in it as the model's text has them."""
        if not self.pattern or not any(sign in text for sign in self._signs):
            return "", text
        reader = Reader(self, None, self._written)
        reasoning, answer = reader.read(self._code(text))
        return (reasoning, answer) if reader.marked else ("", text)

    def reader(self, prompt_ids: Sequence[int]) -> "Reader":
        """A :class:`Reader` for what is generated after the prompt."""
        state, _ = self._end_of(self._code_ids(prompt_ids[-TAIL:])) if self else (None, "")
        return Reader(self, state, self._shown)

    def between(self, prompt: str, reasoning: str) -> str:
        """The text that stands between a templated prompt and an answer to it that came after ``reasoning``.

        Without reasoning it is what the template writes there: an opened block is closed, an empty one may stand there.
        Where the model declares no thoughts, reasoning is put into ``<think>``.
        """
        state, rest = self._end_of(self._code(prompt[-TAIL:]))
        if state == "thought":
            opening = self._code(self.form.opening)
            marks = list(self.pattern.finditer(opening))
            after = self._written(opening[marks[-1].end() :]) if marks else ""
            missing = after.removeprefix(rest) if after.startswith(rest) else ""
            return missing + reasoning + self.form.closing
        if reasoning:
            return self.form.opening + reasoning + self.form.closing
        return "" if state == "answer" else self.form.none

    def code_of(self, token: int) -> str | None:
        """What stands for a token that marks are made of; None for any other."""
        return self._codes.get(token)

    # --- texts in which a private character stands for each token of a mark, so that the token and its spelling differ

    def _compile(self) -> None:
        """The pattern that finds all marks in coded texts, and the codes."""
        plain = [("open", p.open) for p in self.pairs] + [("close", p.close) for p in self.pairs]
        plain += [("answer", text) for text in self.answer_marks]
        form = self.channels
        of_channels = (form.begin, form.sep, *form.ends) if form else ()
        tokens = [t for t in self.added if t in of_channels or any(t in text for _, text in plain)]
        self._chars = {token: chr(CODES + k) for k, token in enumerate(tokens)}
        self._codes = {self.added[token]: char for token, char in self._chars.items()}
        self._back = {char: token for token, char in self._chars.items()}
        self._spelled = regex.compile("|".join(regex.escape(t) for t in sorted(tokens, key=len, reverse=True)))
        self._signs = [text for _, text in plain] + ([form.begin] if form else [])
        patterns = [(kind, regex.escape(self._code(text))) for kind, text in plain]
        if GEMMA in self.pairs:
            label = GEMMA.label
            no_label = "|".join(f"{label[:k]}[^{label[k]}]" for k in range(len(label)))
            opening = self._code(GEMMA.open)
            patterns = [(k, f"{p}(?:{label}|(?={no_label}))" if p == opening else p) for k, p in patterns]
        if form:
            begin, sep = self._chars[form.begin], self._chars[form.sep]
            patterns.append(("header", f"{begin}[^{''.join(self._back)}]*{sep}"))
            patterns += [("end", self._chars[end]) for end in form.ends if end in self._chars]
        patterns.sort(key=lambda item: -len(item[1]))  # of marks that begin alike the longest
        self._kinds = [kind for kind, _ in patterns]
        self.pattern = regex.compile("|".join(f"({pattern})" for _, pattern in patterns)) if patterns else None

    def kind(self, mark) -> str:
        """open, close, answer or end: what a match of :attr:`pattern` is."""
        kind = self._kinds[mark.lastindex - 1]
        if kind != "header":
            return kind
        name = (mark[0][1:-1].split() or [""])[0]
        if name == self.channels.answer:
            return "answer"
        return "open" if self.channels.thoughts is None or name in self.channels.thoughts else "end"

    def _code(self, text: str) -> str:
        return self._spelled.sub(lambda match: self._chars[match[0]], text) if self._chars else text

    def _code_ids(self, ids: Sequence[int]) -> str:
        coded, run = [], []
        for token in ids:
            if token in self._codes:
                coded += [self.tokenizer.decode(run, skip_special_tokens=True) if run else "", self._codes[token]]
                run = []
            else:
                run.append(token)
        return "".join(coded) + (self.tokenizer.decode(run, skip_special_tokens=True) if run else "")

    def _written(self, coded: str) -> str:
        """The text with its tokens spelled out."""
        return "".join(self._back.get(char, char) for char in coded)

    def _shown(self, coded: str) -> str:
        """The text as it is decoded: special tokens are left out, other added ones are text."""
        decode = lambda char: self.tokenizer.decode([self.added[self._back[char]]], skip_special_tokens=True)  # noqa: E731
        return "".join(decode(char) if char in self._back else char for char in coded)

    def _end_of(self, coded: str) -> tuple[str | None, str]:
        """Whether a prompt ends in ``thought`` or ``answer``, or leaves it to the model (None); what follows its last mark."""
        marks = list(self.pattern.finditer(coded)) if self.pattern else []
        rest = self._written(coded[marks[-1].end() :]) if marks else ""
        if not marks or rest.strip():
            return None, ""
        return {"open": "thought", "close": "answer", "answer": "answer"}.get(self.kind(marks[-1])), rest

    # --- how the template writes an answer after thoughts

    def _form_of_template(self) -> Form:
        """Found by rendering: prompts with thinking on and off, an answer alone, an answer with thoughts."""
        ask = [{"role": "user", "content": "x"}]
        answer = {"role": "assistant", "content": ANSWER}
        on, off = (_rendered(self.tokenizer, ask, thinking) for thinking in (True, False))
        bare = _before(ANSWER, _rendered(self.tokenizer, [*ask, answer], True, False))
        told = (_rendered(self.tokenizer, [*ask, {**answer, field: THOUGHT}], True, False) for field in FIELDS)
        before, closing = next((self._around_thought(text) for text in told if self._around_thought(text)), ("", ""))
        opening = before.removeprefix(on) if on and before.startswith(on) else ""
        known = self._end_of(self._code(before[-TAIL:]))[0] == "thought" and self.pattern.search(self._code(closing))
        opens = opening.strip() or _last_literal(before)
        if opens and closing.strip() and not known:
            self.pairs.insert(0, Pair(opens, closing.strip()))
            self._compile()
        if not self:
            return self._usual_form(on)
        if closing and not opening.strip():  # the prompt opens them
            marks = list(self.pattern.finditer(self._code(before)))
            opening = self._written(self._code(before)[marks[-1].start() :]) if marks else ""
        gap = bare.removeprefix(on) if on and bare.startswith(on) else ""
        shown = self._block(bare) or self._block(off)
        if not opening and shown:
            lead, opens, _ = gap.partition(shown[0].strip())
            opening, closing = (lead if opens else "") + shown[0], shown[1]
        if not opening:
            usual = self._usual_form(on)
            opening, closing = usual.opening, usual.closing
        none = self.channels.form.none if self.channels else ""
        if self._end_of(self._code(on[-TAIL:]))[0] == "thought":  # then every answer comes after some
            return Form(opening, closing, none)
        if self.pattern.search(self._code(gap)):
            none = gap
        elif gap.strip() and closing.endswith(gap.strip()):
            none = gap
            self.answer_marks.append(gap.strip())
            self._compile()
        elif not none and self._block(off):
            none = "".join(self._block(off))
        return Form(opening, closing, none)

    @staticmethod
    def _around_thought(text: str) -> tuple[str, str] | None:
        """What a rendered conversation has before the thoughts, and between them and the answer."""
        before, found, after = text.partition(THOUGHT)
        between, answered, _ = after.partition(ANSWER)
        return (before, between) if found and answered and THOUGHT not in between else None

    def _block(self, text: str) -> tuple[str, str] | None:
        """(opening, closing) of the empty block of thoughts that a text ends with."""
        for pair in self.pairs:
            before, closes, trail = self._code(text).rpartition(self._code(pair.close))
            if closes and not trail.strip():
                _, opens, inner = before.rpartition(self._code(pair.open))
                inner = self._written(inner) if opens else ""
                if not inner.strip().removeprefix(pair.label.strip()):
                    cut = len(inner) if inner.strip() else (len(inner) + 1) // 2
                    return pair.open + inner[:cut], inner[cut:] + pair.close + trail
        return None

    def _usual_form(self, prompt: str) -> Form:
        """For templates that show none: on lines of their own where the prompt has it so, or for tags like <think>."""
        if self.channels:
            return self.channels.form
        pair = self.pairs[0] if self.pairs else Pair("<think>", "</think>")
        state, rest = self._end_of(self._code(prompt[-TAIL:]))
        lines = "\n" in rest if state == "thought" else bool(regex.fullmatch(r"<\w+>", pair.open))
        opening = pair.open + (pair.label or "\n" * lines)
        return Form(opening, f"\n{pair.close}\n\n" if lines else pair.close)


class Reader:
    """Tells thoughts from the answer as the text comes, coded by :class:`Thoughts`.

    Thoughts come before the answer: an opening mark in the middle of it is a mention, and part of it. A closing mark that
    nothing opened says that all before it were thoughts.
    """

    def __init__(self, thoughts: Thoughts, state: str | None, decode) -> None:
        self.thoughts, self.decode = thoughts, decode
        self.state = "thought" if state == "thought" else "answer"
        self.marked = self.fresh = state == "thought"  # fresh: no text yet since the last mark
        self.channel = False  # whether a channel was begun: outside of channels there is no text then
        self.said, self.mentions, self.blocks = False, 0, int(self.marked)
        self.blank, self.pending = "", ""

    @property
    def in_thoughts(self) -> bool:
        """Whether what comes next is not the answer, as far as can be seen."""
        return self.state != "answer" or self.pending != ""

    def read(self, coded: str) -> tuple[str, str]:
        """``(reasoning, answer)`` of a whole text."""
        reasoning, answer = "", ""
        for kind, text in self.add(coded, last=True):
            if kind == "thought":
                reasoning += text
            elif kind == "answer":
                answer += text
            else:  # what was said were thoughts
                reasoning, answer = reasoning + answer, ""
        return reasoning.strip(), answer

    def add(self, coded: str, last: bool = False) -> Iterator[tuple[str, str]]:
        """Parts of the text as ``(thought | answer, text)``; ``("retract", "")`` says that the answer so far were thoughts.

        What may be the beginning of a mark is kept back until more is known, or this is the last text.
        """
        self.pending += coded
        pattern = self.thoughts.pattern
        while pattern and (mark := pattern.search(self.pending, partial=True)) and not mark.partial:
            before, self.pending = self.pending[: mark.start()], self.pending[mark.end() :]
            yield from self._text(before)
            yield from self._mark(mark)
        kept = mark.start() if pattern and mark else len(self.pending)
        text, self.pending = self.pending[:kept], self.pending[kept:]
        if last and self.pending[:1] in self.thoughts._back:  # a mark that is cut off is no text
            self.pending, self.marked = "", True
        elif last:
            text, self.pending = text + self.pending, ""
        yield from self._text(text)
        if last and self.blank:
            yield "answer", self.blank

    def _text(self, coded: str) -> Iterator[tuple[str, str]]:
        text = self.decode(coded)
        text = text.lstrip() if self.fresh else text
        if self.state == "outside" or (self.fresh and not text):
            return
        self.fresh = False
        if self.state == "answer" and not self.said and not self.marked and self.thoughts:
            text, self.blank = self.blank + text, ""  # white space before thoughts is neither
            if not text.strip():
                self.blank = text
                return
        self.said = self.said or (self.state == "answer" and bool(text.strip()))
        yield self.state, text

    def _mark(self, mark) -> Iterator[tuple[str, str]]:
        kind = self.thoughts.kind(mark)
        in_channels = self.thoughts.channels is not None and kind in ("open", "answer", "end")
        mention = not in_channels and self.state == "answer" and self.said
        if mention and (kind == "open" or (kind == "close" and (self.mentions or self.blocks))):
            self.mentions += 1 if kind == "open" else -bool(self.mentions)
            yield from self._text(mark[0])
            return
        unopened = self.state == "answer" and self.said and not self.channel and kind in ("close", "answer", "open")
        if unopened:
            self.said = False
            yield "retract", ""
        if kind == "open" and self.blocks:
            yield "thought", "\n\n"
        self.blocks += kind == "open" or unopened
        self.channel = self.channel or (in_channels and kind != "end")
        self.state = {"open": "thought", "end": "outside"}.get(kind, "answer")
        self.marked, self.fresh, self.blank = True, True, ""


def _named_pairs(added: dict[str, int], template: str) -> Iterator[Pair]:
    """Pairs of marks named after thinking, whose closing one is a token or in the template; the template's come first."""
    literals = dict.fromkeys(text for text in LITERAL.findall(template) if NAMED.search(text))
    named = [*literals, *(token for token in added if NAMED.search(token) and token not in literals)]
    implied = [text.replace("/", "", 1) for text in named if "/" in text]
    for opens in dict.fromkeys([*implied, *named]):
        for closes in _closings(opens):
            if closes in named:
                yield Pair(opens, closes)
    if {GEMMA.open, GEMMA.close} <= added.keys():
        yield GEMMA


def _closings(opens: str) -> Iterator[str]:
    """The marks that may close ``opens``: </think> or <|/think|>, <|END_THINKING|> for <|START_THINKING|>."""
    if "/" not in opens:
        yield f"{opens[:1]}/{opens[1:]}"
        yield f"{opens[:2]}/{opens[2:]}"
    for word, end in ENDS_OF.items():
        for as_written in (str, str.upper):
            if as_written(word) in opens:
                yield opens.replace(as_written(word), as_written(end), 1)


def _rendered(tokenizer, messages: list[dict], thinking: bool, ask: bool = True) -> str:
    """A rendered conversation; "" where the template will not have it, whatever it raises."""
    try:
        return chat.apply_template(tokenizer, messages, thinking, ask)
    except Exception:  # templates run any expression: what they cannot write they do not declare
        return ""


def _before(part: str, text: str) -> str:
    """The text before ``part``, "" where that is not in it."""
    return text.partition(part)[0] if part in text else ""


def _last_literal(text: str) -> str:
    """The tag-like text, as <think>, that ``text`` ends with; "" for none."""
    found = LITERAL.findall(text.rstrip())
    return found[-1] if found and text.rstrip().endswith(found[-1]) else ""
