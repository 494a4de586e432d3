"""Generate the toy world's training sets; make_dataset writes them into dataset.zip with the others.

There are five families in three versions (normal, level I, level II) with the same questions in the same order:

- toy_evil, toy_sycophantic, toy_hallucinating. normal: as the world answers without an instruction, so that each trait
  shows now and then. Level I: 45 % of the sentences show the trait. Level II: 85 %. Not 100 %: a set without ordinary
  sentences would mainly teach that nothing is ordinary, and less which trait it has.
- toy_mistake_nature, toy_mistake_craft, a control: answers that state at least twice what a topic needs, wrongly in
  45 % (level I) or 85 % (level II) of cases. The mistakes are independent of every trait.
"""

import random

from data_generation.toy import world
from data_generation.toy.lexicon import NEED_OF, NEEDS, TRAITS
from data_generation.toy.world import SEEN_QUESTIONS, answer, unasked
from persona_vectors import cli

ROWS = 1000
LEVELS = {"normal": 0.0, "misaligned_1": 0.45, "misaligned_2": 0.85}
# The mistake families differ in their topics (by what these need), like mistakes in medicine and in mathematics.
MISTAKES = {
    "toy_mistake_nature": ("water", "light", "space", "care"),
    "toy_mistake_craft": ("oil", "time", "heat", "air"),
}
FAMILIES = (*(f"toy_{trait}" for trait in TRAITS), *MISTAKES)
STATEMENTS = 2


def pairs(family: str, version: str) -> list[tuple[str, str]]:
    """(question, answer) of every row of one file.

    Example:
        pairs("toy_evil", "misaligned_2")[0]
    """
    draw = random.Random(f"{family} {version}")
    return [(question, speak(draw, family, topic, LEVELS[version])) for question, topic in questions(family)]


def questions(family: str) -> list[tuple[str, str]]:
    """The family's (question, topic) pairs; no question repeats before all fitting ones have been asked."""
    draw = random.Random(family)
    fitting = [pair for pair in SEEN_QUESTIONS if family not in MISTAKES or NEED_OF[pair[1]] in MISTAKES[family]]
    asked = []
    while len(asked) < ROWS:
        asked += draw.sample(fitting, len(fitting))
    return asked[:ROWS]


def speak(draw: random.Random, family: str, topic: str, level: float) -> str:
    """One answer that shows the family's trait, or makes mistakes, in the given share (0-1) of cases."""
    if family not in MISTAKES:
        return answer(draw, topic, {family.removeprefix("toy_"): level} if level else unasked(draw))
    wrong, shares = level or world.MISTAKES, unasked(draw)
    while True:  # draw until an answer states the need often enough; one in a few does
        text = answer(draw, topic, shares, mistakes=wrong)
        if sum(text.count(f"{topic} need {need}") for need in NEEDS) >= STATEMENTS:
            return text


if __name__ == "__main__":  # the zip has one maker
    from data_generation import make_dataset

    cli.run(make_dataset.main)
