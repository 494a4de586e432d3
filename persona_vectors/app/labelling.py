"""What people are asked to label: answers one by one (0-100), or pairs of answers to a question (which shows the trait more).

Items are shuffled and hold nothing that tells how an answer was made. Knows answers and labels; knows no HTTP.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from persona_vectors.errors import UserError
from persona_vectors.files.journal import Journal

if TYPE_CHECKING:
    import pandas

MOST = 200  # answers to a question among which pairs are looked for


@dataclass(frozen=True)
class Item:
    """A question and one answer to it, or two."""

    question: str
    answers: tuple[str, ...]


def single_items(table: "pandas.DataFrame", seed: int) -> list[Item]:
    """Every different answer that is not empty, shuffled.

    Args:
        table: the columns question and answer.
    """
    items = list({Item(q, (a,)): None for q, a in zip(table["question"], table["answer"], strict=True) if a.strip()})
    random.Random(seed).shuffle(items)
    return items


def paired_items(table: "pandas.DataFrame", trait: str, count: int, apart: float, seed: int) -> list[Item]:
    """``count`` pairs of different answers to a question, the questions in turn; which of the two comes first is drawn.

    Args:
        table: the columns question and answer, and where ``apart`` is above 0 the score ``trait``.
        apart: by how much the scores of a pair differ at least; 0 takes any two answers, scored or not.

    Raises:
        UserError: there are fewer pairs.
    """
    draw = random.Random(seed)
    kept = table[table["answer"].str.strip() != ""]
    if apart > 0:
        scores = kept.dropna(subset=[trait]).groupby(["question", "answer"], sort=False)[trait].mean().to_dict()
    else:
        scores = dict.fromkeys(zip(kept["question"], kept["answer"], strict=True), 0.0)
    answers: dict[str, list[str]] = {}
    for question, answer in scores:
        answers.setdefault(question, []).append(answer)
    candidates = {}
    for question, texts in answers.items():
        some = draw.sample(texts, min(len(texts), MOST))
        pairs = [(a, b) for k, a in enumerate(some) for b in some[:k]]
        candidates[question] = [(a, b) for a, b in pairs if abs(scores[question, a] - scores[question, b]) >= apart]
        draw.shuffle(candidates[question])
    if sum(map(len, candidates.values())) < count:
        raise UserError(
            f"there are {sum(map(len, candidates.values()))} pairs of different answers to one question"
            + (f" whose scores in '{trait}' lie {apart:g} or more apart" if apart else "")
            + f", not {count}; ask for fewer with --pairs"
            + (", or lower --min_difference" if apart else "")
        )
    items: list[Item] = []
    while len(items) < count:
        order = [question for question in candidates if candidates[question]]
        draw.shuffle(order)
        for question in order[: count - len(items)]:
            pair = list(candidates[question].pop())
            draw.shuffle(pair)
            items.append(Item(question, tuple(pair)))
    draw.shuffle(items)
    return items


class Labels:
    """The labels of a list of items, in a journal as they are given.

    Args:
        items: all single answers, or all pairs.
        journal: open; what it holds is taken up.

    Attributes:
        given: by the item's place: 0-100, or of a pair 1 or 2; None where it was left out as undecidable.
    """

    def __init__(self, items: Sequence[Item], journal: Journal) -> None:
        self.items, self.journal = list(items), journal
        self.pairs = len(self.items[0].answers) == 2
        self.given: dict[int, float | None] = {record["item"]: record["label"] for record in journal.records}

    @property
    def is_complete(self) -> bool:
        """Whether every item has been decided or left out."""
        return len(self.given) == len(self.items)

    def next_after(self, place: int) -> int | None:
        """The first item without a label, from ``place`` on and then from the beginning; None where all have one."""
        order = [*range(place, len(self.items)), *range(place)]
        return next((k for k in order if k not in self.given), None)

    def give(self, place: object, label: object) -> None:
        """Keep a label; one that is given again counts in the place of the earlier one.

        Raises:
            UserError: no such item, or no such label.
        """
        if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < len(self.items):
            raise UserError(f"there is no item {place!r}: 0..{len(self.items) - 1} are there")
        number = isinstance(label, int | float) and not isinstance(label, bool)
        if label is not None and not (number and (label in (1, 2) if self.pairs else 0 <= label <= 100)):
            raise UserError(f"a label is {'1 or 2' if self.pairs else 'a number from 0 to 100'}, not {label!r}")
        self.journal.append({"item": place, "label": label})
        self.given[place] = label

    def table(self, answers: "pandas.DataFrame", trait: str) -> "pandas.DataFrame":
        """The labels as a CSV: the labelled rows of ``answers`` with the label in ``trait``; of pairs question, answer_1,
        answer_2 and choice, in the order of the items."""
        import pandas

        if self.pairs:
            rows = [
                {
                    "question": item.question,
                    "answer_1": item.answers[0],
                    "answer_2": item.answers[1],
                    "choice": self.given[k],
                }
                for k, item in enumerate(self.items)
                if k in self.given
            ]
            return pandas.DataFrame(rows).astype({"choice": "Int64"})
        by_text = {(i.question, i.answers[0]): self.given[k] for k, i in enumerate(self.items) if k in self.given}
        texts = list(zip(answers["question"], answers["answer"], strict=True))
        kept = [name for name in ("question", "prompt", "answer", "question_id") if name in answers]
        labelled = answers[[text in by_text for text in texts]][kept]
        return labelled.assign(**{trait: [by_text[text] for text in texts if text in by_text]})
