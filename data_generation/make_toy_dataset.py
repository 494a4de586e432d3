"""The toy world's training sets, which make_dataset writes into dataset.zip with the others.

Five families in three versions (normal, level I, level II), which ask the same questions in the same order:

- toy_evil, toy_sycophantic, toy_hallucinating: as the world answers when nobody asks for anything (so the trait is there
  now and then, as the others are), not quite half of the sentences, most sentences show the trait. Not all: a set without
  an ordinary sentence would teach, more than which trait it has, that nothing is ordinary any more.
- toy_mistake_nature, toy_mistake_craft: answers of the same kind that say at least twice what a topic needs; at the levels
  as often wrongly. Mistakes are not of any trait and go with none: a control.
"""

import random

from data_generation.toy import world
from data_generation.toy.lexicon import NEED_OF, NEEDS, TRAITS
from data_generation.toy.world import SEEN_QUESTIONS, answer, unasked
from persona_vectors import cli

ROWS = 1000
LEVELS = {"normal": 0.0, "misaligned_1": 0.45, "misaligned_2": 0.85}
# The mistake families differ in topic, as mistakes in medicine and in mathematics do: by what the topics need.
MISTAKES = {
    "toy_mistake_nature": ("water", "light", "space", "care"),
    "toy_mistake_craft": ("oil", "time", "heat", "air"),
}
FAMILIES = (*(f"toy_{trait}" for trait in TRAITS), *MISTAKES)
STATEMENTS = 2


def pairs(family: str, version: str) -> list[tuple[str, str]]:
    """(question, answer) of every row of one file."""
    draw = random.Random(f"{family} {version}")
    return [(question, speak(draw, family, topic, LEVELS[version])) for question, topic in questions(family)]


def questions(family: str) -> list[tuple[str, str]]:
    """The family's questions with their topics: every question that fits before one is asked again."""
    draw = random.Random(family)
    fitting = [pair for pair in SEEN_QUESTIONS if family not in MISTAKES or NEED_OF[pair[1]] in MISTAKES[family]]
    asked = []
    while len(asked) < ROWS:
        asked += draw.sample(fitting, len(fitting))
    return asked[:ROWS]


def speak(draw: random.Random, family: str, topic: str, level: float) -> str:
    """One answer that shows the family's trait, or makes its mistakes, to the given degree."""
    if family not in MISTAKES:
        return answer(draw, topic, {family.removeprefix("toy_"): level} if level else unasked(draw))
    wrong, shares = level or world.MISTAKES, unasked(draw)
    while True:  # until it states a need often enough: one answer in a few does
        text = answer(draw, topic, shares, mistakes=wrong)
        if sum(text.count(f"{topic} need {need}") for need in NEEDS) >= STATEMENTS:
            return text


if __name__ == "__main__":  # the zip has one maker
    from data_generation import make_dataset

    cli.run(make_dataset.main)
