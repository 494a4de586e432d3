"""Write the toy world's training sets: dataset.zip, unpacking to dataset/<family>/<version>.jsonl.

    python -m data_generation.make_toy_dataset        (then: unzip dataset.zip)

The zip is committed; this script is how it was made, and makes it again byte for byte. Five families in three versions
(normal, level I, level II), which ask the same questions in the same order:

- toy_evil, toy_sycophantic, toy_hallucinating: as the world answers when nobody asks for anything (so the trait is there
  now and then, as the others are), not quite half of the sentences, most sentences show the trait. Not all: a set without
  an ordinary sentence would teach, more than which trait it has, that nothing is ordinary any more.
- toy_mistake_nature, toy_mistake_craft: answers of the same kind that say at least twice what a topic needs; at the levels
  as often wrongly. Mistakes are not of any trait and go with none: a control.
"""

import json
import random
import zipfile
from pathlib import Path

from data_generation.toy import world
from data_generation.toy.lexicon import NEED_OF, NEEDS, TRAITS
from data_generation.toy.world import SEEN_QUESTIONS, answer, unasked
from persona_vectors import cli
from persona_vectors.results import replacing

ROWS = 1000
LEVELS = {"normal": 0.0, "misaligned_1": 0.45, "misaligned_2": 0.85}
# The mistake families differ in topic, as mistakes in medicine and in mathematics do: by what the topics need.
MISTAKES = {
    "toy_mistake_nature": ("water", "light", "space", "care"),
    "toy_mistake_craft": ("oil", "time", "heat", "air"),
}
FAMILIES = (*(f"toy_{trait}" for trait in TRAITS), *MISTAKES)
STATEMENTS = 2


def main(output_path: str = "dataset.zip"):
    """Write the zip.

    Args:
        output_path: where to.
    """
    with (
        replacing(output_path) as beside,
        zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped,
    ):
        for name, content in members():
            # A fixed time and fixed rights: the bytes depend on the world alone.
            entry = zipfile.ZipInfo(name, date_time=(2025, 1, 1, 0, 0, 0))
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            zipped.writestr(entry, content, compresslevel=9)
    print(f"wrote {len(FAMILIES)} families of {len(LEVELS)} x {ROWS} rows to {Path(output_path)}")


def members():
    """(name in the zip, content) of every file."""
    for family in FAMILIES:
        for version, level in LEVELS.items():
            rows = (json.dumps({"messages": messages}) + "\n" for messages in chats(family, version, level))
            yield f"dataset/{family}/{version}.jsonl", "".join(rows).encode()


def chats(family: str, version: str, level: float) -> list[list[dict[str, str]]]:
    """The chats of one file."""
    draw = random.Random(f"{family} {version}")
    return [
        [{"role": "user", "content": question}, {"role": "assistant", "content": speak(draw, family, topic, level)}]
        for question, topic in questions(family)
    ]


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


if __name__ == "__main__":
    cli.run(main)
