"""Reading what a thinking model writes, as it comes: which of it are thoughts, and which is the answer."""

from collections.abc import Callable, Iterator

from persona_vectors.models.thought_marks import Marks


class Reader:
    """Takes coded text and gives its parts, without marks.

    Thoughts come before the answer: an opening mark in the middle of it is a mention, and part of it. A closing mark that
    nothing opened says that all before it were thoughts. White space around thoughts is in neither.

    Args:
        state: where the prompt leaves the model, of :meth:`Marks.end_of`.
        decode: makes text of what is no mark, :meth:`Marks.as_decoded` or :meth:`Marks.written`.
    """

    def __init__(self, marks: Marks, state: str | None, decode: Callable[[str], str]) -> None:
        self.marks, self.decode = marks, decode
        self.state = "thought" if state == "thought" else "answer"  # or outside: between two channels
        self.marked = self.fresh = (
            state == "thought"
        )  # whether there was a mark; whether no text has come since the last
        self.in_channel = False  # whether one was ever begun
        self.said, self.mentions, self.blocks = False, 0, int(self.marked)
        self.blank, self.pending = "", ""

    @property
    def in_thoughts(self) -> bool:
        """Whether what comes next is not the answer, as far as can be seen."""
        return self.state != "answer" or self.pending[:1] in self.marks.tokens_of

    def read(self, coded: str) -> tuple[str, str]:
        """``(reasoning, answer)`` of a whole text."""
        texts = {"thought": "", "answer": ""}
        for kind, text in self.add(coded, last=True):
            if kind == "retract":
                texts = {"thought": texts["thought"] + texts["answer"], "answer": ""}
            else:
                texts[kind] += text
        return texts["thought"].strip(), texts["answer"]

    def add(self, coded: str, last: bool = False) -> Iterator[tuple[str, str]]:
        """Parts of the text as ``(thought | answer, text)``; ``("retract", "")`` says that the answer so far were thoughts.

        What may be the beginning of a mark is kept back until more is known, or this is the last text.
        """
        self.pending += coded
        pattern = self.marks.pattern
        while pattern and (mark := pattern.search(self.pending, partial=True)) and not mark.partial:
            before, self.pending = self.pending[: mark.start()], self.pending[mark.end() :]
            yield from self._text(before)
            yield from self._mark(mark)
        kept = mark.start() if pattern and mark else len(self.pending)
        text, self.pending = self.pending[:kept], self.pending[kept:]
        if last and self.pending[:1] in self.marks.tokens_of:  # a mark that is cut off is no text
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
        if self.marks and self.state == "answer" and not self.said and not self.marked:
            text, self.blank = self.blank + text, ""
            if not text.strip():
                self.blank = text
                return
        self.said = self.said or (self.state == "answer" and bool(text.strip()))
        yield self.state, text

    def _mark(self, mark) -> Iterator[tuple[str, str]]:
        kind = self.marks.kind(mark)
        of_channels = self.marks.channels is not None and kind != "close"
        said = self.state != "thought" and self.said
        if said and not of_channels and (kind == "open" or (kind == "close" and (self.mentions or self.blocks))):
            self.mentions += 1 if kind == "open" else -bool(self.mentions)
            yield from self._text(mark[0])
            return
        unopened = said and not self.in_channel and kind != "end"
        if unopened:
            self.said = False
            yield "retract", ""
        if kind == "open" and self.blocks:
            yield "thought", "\n\n"
        self.blocks += kind == "open" or unopened
        self.in_channel = self.in_channel or (of_channels and kind != "end")
        self.state = {"open": "thought", "end": "outside"}.get(kind, "answer")
        self.marked, self.fresh, self.blank = True, True, ""
