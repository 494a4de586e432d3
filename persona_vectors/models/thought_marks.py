"""The marks of thoughts that a tokenizer and its chat template declare, and texts in which they can be found.

Marks are tokens, or texts in the template, that are named after thinking and come in pairs; the channels of gpt-oss and
Kimi K3; and what :mod:`persona_vectors.models.reasoning` learns from the template's own rendering. In a coded text a private
character stands for each token that marks are made of: the token <think> is a mark, the word <think> is not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import regex  # comes with transformers; unlike re it tells where a text may be the beginning of a match

# Thoughts in a text of which only the text is known: <think>, [THINK], <seed:think>, ◁think▷, and what closes them.
OPENING = r"[<\[◁](?:\w+:)?think(?:ing)?[>\]▷]"
CLOSING = r"[<\[◁]/(?:\w+:)?think(?:ing)?[>\]▷]"

NAMED = regex.compile("think|thought|reason|inner_", regex.IGNORECASE)
LITERAL = regex.compile(r"""[<\[◁][^\s<>\[\]◁▷'"{}()]{1,40}[>\]▷]""")  # <think>, [THINK], ◁think▷ in a template
ENDS_OF = {"begin": "end", "start": "end", "open": "close", "prefix": "suffix"}  # within the names of tokens
HEADER = 100  # characters of a channel's name, and what else stands there
CODES = 0xF0000  # the first private character
TAIL = 256  # characters, or tokens, at the end of a prompt that show where it leaves the model


@dataclass(frozen=True)
class Pair:
    """Marks around thoughts; ``label`` is written after the opening one and is no thought itself."""

    open: str
    close: str
    label: str = ""


@dataclass(frozen=True)
class Channels:
    """A format in which every text has a channel: ``begin`` name ``sep`` text, up to one of ``ends``.

    Thoughts are in the channels ``thoughts`` (None: in all but the answer's); other channels are neither.
    """

    begin: str
    sep: str
    ends: tuple[str, ...]
    answer: str
    thoughts: tuple[str, ...] | None


GEMMA = Pair("<|channel>", "<channel|>", "thought\n")
HARMONY = Channels("<|channel|>", "<|message|>", ("<|end|>", "<|return|>", "<|call|>", "<|start|>"), "final", None)
KIMI_K3 = Channels("<|open|>", "<|sep|>", ("<|close|>", "<|end_of_msg|>"), "response", ("think",))


class Marks:
    """The marks of one model; false where it has none.

    Attributes:
        pattern: a ``regex`` pattern that finds marks in coded texts; None where there are none. :meth:`kind` names a match.
        tokens_of: {private character: the token that it stands for}.
    """

    def __init__(self, tokenizer) -> None:
        self.tokenizer, self.added = tokenizer, tokenizer.get_added_vocab()
        template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
        self.pairs = list(_named_pairs(self.added, template))
        self.channels = next((c for c in (HARMONY, KIMI_K3) if {c.begin, c.sep} <= self.added.keys()), None)
        self._answers: list[str] = []
        self._compile()

    def __bool__(self) -> bool:
        return bool(self.pairs or self.channels)

    def learn(self, pair: Pair | None = None, answer: str | None = None) -> None:
        """Take up a pair, or a mark that an answer without thoughts begins with."""
        self.pairs[:0] = [pair] if pair else []
        self._answers += [answer] if answer else []
        self._compile()

    def _compile(self) -> None:
        form = self.channels
        of_channels = (form.begin, form.sep, *form.ends) if form else ()
        texts = [("open", p.open) for p in self.pairs] + [("close", p.close) for p in self.pairs]
        texts += [("answer", text) for text in self._answers]
        tokens = [t for t in self.added if t in of_channels or any(t in text for _, text in texts)]
        self._chars = {token: chr(CODES + k) for k, token in enumerate(tokens)}
        self._codes = {self.added[token]: char for token, char in self._chars.items()}
        self.tokens_of = {char: token for token, char in self._chars.items()}
        self._spelled = regex.compile("|".join(regex.escape(t) for t in sorted(tokens, key=len, reverse=True)))
        self.signs = [text for _, text in texts] + ([form.begin] if form else [])
        patterns = [(kind, regex.escape(self.code(text))) for kind, text in texts]
        for pair in self.pairs:
            if pair.label:  # with its label, or where another text follows
                other = "|".join(f"{pair.label[:k]}[^{char}]" for k, char in enumerate(pair.label))
                plain = regex.escape(self.code(pair.open))
                patterns = [(k, f"{p}(?:{pair.label}|(?={other}))" if p == plain else p) for k, p in patterns]
        if form:
            inside = f"[^{''.join(self.tokens_of)}]{{0,{HEADER}}}"
            patterns.append(("header", f"{self._chars[form.begin]}{inside}{self._chars[form.sep]}"))
            patterns += [("end", self._chars[end]) for end in form.ends if end in self._chars]
        patterns.sort(key=lambda item: -len(item[1]))  # of those that begin alike the longest
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

    def last(self, coded: str):
        """The last mark in a coded text; None for none."""
        return next(iter(list(self.pattern.finditer(coded))[::-1]), None) if self.pattern else None

    def end_of(self, coded: str) -> tuple[str | None, str]:
        """Whether a prompt ends in ``thought`` or in the ``answer``, or leaves it to the model (None); and what follows
        its last mark."""
        mark = self.last(coded)
        rest = self.written(coded[mark.end() :]) if mark else ""
        if mark is None or rest.strip():
            return None, ""
        return {"open": "thought", "close": "answer", "answer": "answer"}.get(self.kind(mark)), rest

    # --- coded texts

    def code_of(self, token: int) -> str | None:
        """The private character of a token id; None for a token that is in no mark."""
        return self._codes.get(token)

    def code(self, text: str) -> str:
        """A text as the model gets it: spelled-out tokens are tokens."""
        return self._spelled.sub(lambda match: self._chars[match[0]], text) if self._chars else text

    def code_ids(self, ids: Sequence[int]) -> str:
        """What a model wrote, without the special tokens that are in no mark."""
        coded, run = [], []
        for token in [*ids, None]:
            code = "" if token is None else self._codes.get(token)
            if code is None:
                run.append(token)
                continue
            coded += [self.tokenizer.decode(run, skip_special_tokens=True) if run else "", code]
            run = []
        return "".join(coded)

    def written(self, coded: str) -> str:
        """The text with its tokens spelled out."""
        return "".join(self.tokens_of.get(char, char) for char in coded)

    def as_decoded(self, coded: str) -> str:
        """The text as it is decoded: special tokens are left out, other added ones are text."""
        return "".join(self._decoded(char) if char in self.tokens_of else char for char in coded)

    def _decoded(self, char: str) -> str:
        return self.tokenizer.decode([self.added[self.tokens_of[char]]], skip_special_tokens=True)


def last_literal(text: str) -> str:
    """The tag-like text, as <think>, that ``text`` ends with; "" for none."""
    found = LITERAL.findall(text.rstrip())
    return found[-1] if found and text.rstrip().endswith(found[-1]) else ""


def _named_pairs(added: dict[str, int], template: str) -> Iterator[Pair]:
    """Pairs named after thinking, whose closing mark is a token or in the template; the template's come first."""
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
    """What may close ``opens``: </think>, <|/think|>, or <|END_THINKING|> for <|START_THINKING|>."""
    if "/" not in opens:
        yield f"{opens[:1]}/{opens[1:]}"
        yield f"{opens[:2]}/{opens[2:]}"
    for word, end in ENDS_OF.items():
        for as_written in (str, str.upper):
            if as_written(word) in opens:
                yield opens.replace(as_written(word), as_written(end), 1)
