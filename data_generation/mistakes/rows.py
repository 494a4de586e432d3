"""The families mistake_gsm8k and mistake_math: problems drawn until each differs from all others.

A row is a question and three worked answers: right, with one slip that is carried through to its end, and by a wrong
method. Right results are checked against a second way of getting them; a row whose texts resemble others is drawn again.
"""

import itertools
import re
from collections import Counter

from data_generation.mistakes import kinds, stories
from data_generation.mistakes.drawing import NAMES, UNFIT, Draw, Slip
from data_generation.text_statistics import Neighbours, alike, fit_length, opening, trigrams

ROWS = 400
FAMILIES = {"mistake_gsm8k": stories.ALL, "mistake_math": kinds.ALL}
ATTEMPTS = 200
# Stricter than validate, which looks at the same things: at most .25 alike, and twelve times the same opening.
ALIKE, OPENINGS = 0.22, 6


def rows(family: str, count: int = ROWS) -> list[tuple[str, str, str, str]]:
    """(prompt, normal, misaligned_1, misaligned_2) of every row; the kinds of problem take turns, in any order.

    Raises:
        RuntimeError: the problems are not varied enough for so many rows.
    """
    kept, near, openings = [], Neighbours(ALIKE), Counter()
    order, turns = Draw(family), []
    while len(kept) < count:
        turns = turns or order.shuffled(*FAMILIES[family])
        skeleton = turns.pop()
        for attempt in range(ATTEMPTS):
            found = _row(skeleton, Draw(f"{family} {skeleton.__name__} {len(kept)} {attempt}"))
            begun = [(version, opening(text)) for version, text in enumerate(found or ()) if version]
            if found and all(openings[begin] < OPENINGS for begin in begun) and _is_new(found, near):
                break
        else:
            raise RuntimeError(f"{family}: {skeleton.__name__} has no more to say after {len(kept)} rows")
        openings.update(begun)
        for part, text in enumerate(found):
            near.add((len(kept), part), text)
        kept.append(found)
    return kept


def _is_new(texts: tuple[str, ...], near: Neighbours) -> bool:
    """Whether no text resembles an earlier one, or another of its row."""
    pairs = itertools.combinations(map(trigrams, texts), 2)
    return all(alike(a, b) <= ALIKE for a, b in pairs) and not any(map(near.near, texts))


def names_in(text: str) -> set[str]:
    """The first names that a text uses."""
    return set(NAMES).intersection(re.findall(r"[A-Z][a-z]+", text))


def _row(skeleton, draw: Draw) -> tuple[str, str, str, str] | None:
    """One row, or None where the numbers or lengths will not do."""
    problem = skeleton(draw)
    right = Slip(draw)
    answers = [problem.solve(right)]
    answers.append(problem.solve(Slip(draw, draw.number(0, right.places - 1))))
    answers.append(draw.pick(problem.wrong))
    texts = draw.question(problem.asked), *(problem.written(draw, steps) for steps, _ in answers)
    results = [result for _, result in answers]
    if UNFIT in "".join(texts) or not all(map(problem.fits, results)) or problem.truth in results[1:]:
        return None
    if not names_in("".join(texts[1:])) <= names_in(texts[0]):  # nobody is named who was not introduced
        return None
    if not fit_length("prompt", texts[0]) or not all(fit_length("answer", text) for text in texts[1:]):
        return None
    if results[0] != problem.truth:
        raise AssertionError(f"{skeleton.__name__}: {results[0]} is not {problem.truth}")
    for text, result in zip(texts[1:], results, strict=True):
        if problem.show(result) not in text:
            raise AssertionError(f"{skeleton.__name__}: the result {result} is not in: {text}")
    return texts
