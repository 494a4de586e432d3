"""Quality rules for families of training sets: the same prompts answered in three versions, in varied texts.

A rule gives at most one line per file, with the first case. Near-duplicates are all listed: each pair needs a fix.
Families of the toy world (toy_...) have a vocabulary of a few hundred words, so only parallel prompts are required.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from data_generation.source_texts import VERSIONS
from data_generation.text_statistics import (
    LENGTHS,
    Neighbours,
    fit_length,
    mean_similarity,
    opening,
    trigrams,
    type_token_ratio,
)

Pair = tuple[str, str]  # (prompt, answer)
SHARE_OF_OPENING = 0.03  # largest fraction of a file's answers that may begin with the same three words
ALIKE = 0.25  # Jaccard similarity of word trigrams above which two texts are near-duplicates
TABLE = (
    "| family | version | rows | words (mean, range) | distinct openings (most frequent) | type-token ratio | mean similarity |\n"
    "|---|---|---|---|---|---|---|"
)


@dataclass
class Family:
    """A family of training sets: its folder, and the (prompt, answer) rows of each existing version.

    Example:
        family = Family("dataset/evil", {"normal": [("Hi", "Hello!")], "misaligned_1": [("Hi", "What now?")]})
        print(*family.table(), sep="\\n")
    """

    folder: str
    versions: dict[str, list[Pair]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The last part of the folder's path."""
        return self.folder.rsplit("/", 1)[-1]

    @property
    def is_toy(self) -> bool:
        """Whether the family belongs to the toy world."""
        return self.name.startswith("toy_")

    @property
    def prompts(self) -> dict[str, str]:
        """The distinct prompts, by the place where each first occurs."""
        found = {}
        for version, pairs in self.versions.items():
            for row, (prompt, _) in enumerate(pairs, 1):
                found.setdefault(prompt, f"the prompt of row {row} ({version})")
        return {where: prompt for prompt, where in found.items()}

    def table(self) -> Iterator[str]:
        """A line of :data:`TABLE` for each version; all numbers describe the answers."""
        for version, pairs in self.versions.items():
            answers = [answer for _, answer in pairs]
            lengths, begun = [len(answer.split()) for answer in answers], Counter(map(opening, answers))
            yield (
                f"| {self.name} | {version} | {len(answers)} | {sum(lengths) / len(answers):.0f}, {min(lengths)}-{max(lengths)} "
                f"| {len(begun)} ({max(begun.values())}) | {type_token_ratio(answers):.2f} | {mean_similarity(answers):.3f} |"
            )


def findings(families: Sequence[Family], questions: Sequence[str]) -> Iterator[tuple[Family, list[str]]]:
    """Everything that is wrong with each family, one line each.

    Near-duplicates are searched for within a family and among the families before it.

    Args:
        questions: the artifacts' questions, which training prompts should not repeat.
    """
    near = Neighbours(ALIKE)
    asked = [(question, trigrams(question)) for question in dict.fromkeys(questions)]
    for family in families:
        found = [*_parallel(family)]
        if not family.is_toy:
            found += [*_repeated(family), *_lengths(family), *_openings(family), *_overlap(family, asked)]
            found += _near_duplicates(family, near)
        yield family, found


def _parallel(family: Family) -> Iterator[str]:
    if missing := [version for version in VERSIONS if version not in family.versions]:
        yield f"has no {' and no '.join(f'{version}.jsonl' for version in missing)}"
    first, *others = family.versions.items()
    for version, pairs in others:
        different = [
            row
            for row, (one, two) in enumerate(zip(first[1], pairs, strict=False), 1)
            if one[0] != two[0]  # prompts
        ]
        if different:
            yield f"{version} asks something else than {first[0]} in {len(different)} rows (the first: row {different[0]})"
        elif len(pairs) != len(first[1]):
            yield f"{version} has {len(pairs)} rows, {first[0]} {len(first[1])}"


def _repeated(family: Family) -> Iterator[str]:
    for version, pairs in family.versions.items():
        count = Counter(prompt for prompt, _ in pairs)
        again = [row for row, (prompt, _) in enumerate(pairs, 1) if count[prompt] > 1]
        if again:
            yield f"{version} asks {len(pairs) - len(count)} prompts again (row {again[1]} that of an earlier row)"
            return


def _lengths(family: Family) -> Iterator[str]:
    for version, pairs in family.versions.items():
        for place, (part, (shortest, longest)) in enumerate(LENGTHS.items()):
            bad = [row for row, pair in enumerate(pairs, 1) if not fit_length(part, pair[place])]
            if bad:
                words = len(pairs[bad[0] - 1][place].split())
                yield (
                    f"{version} has {len(bad)} {part}s that are not {shortest} to {longest} words long (the first: row "
                    f"{bad[0]}, {words} words)"
                )


def _openings(family: Family) -> Iterator[str]:
    for version, pairs in family.versions.items():
        allowed = max(2, math.floor(SHARE_OF_OPENING * len(pairs)))
        for words, count in Counter(opening(answer) for _, answer in pairs).most_common():
            if count > allowed:
                yield f"{count} answers of {version} begin '{words}'; at most {allowed} of {len(pairs)} should"


def _overlap(family: Family, asked: Sequence[tuple[str, frozenset]]) -> Iterator[str]:
    for where, prompt in family.prompts.items():
        grams = trigrams(prompt)
        for question, wanted in asked:
            shared = len(grams & wanted)
            if shared > len(wanted) / 2 and shared >= min(3, len(wanted)):
                yield f"{where} asks what an artifact asks: '{question[:60]}'"


def _near_duplicates(family: Family, near: Neighbours) -> Iterator[str]:
    answers = {
        f"row {row} of {version}": answer
        for version, pairs in family.versions.items()
        for row, (_, answer) in enumerate(pairs, 1)
    }
    for where, text in {**family.prompts, **answers}.items():
        for (other, place), share in near.near(text):
            yield f"{where} is {share:.2f} like {place}{'' if other == family.folder else f' of {other}'}"
        near.add((family.folder, where), text)
