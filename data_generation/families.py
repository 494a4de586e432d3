"""Quality rules for families of training sets: the same prompts answered in three versions, in varied texts.

A rule gives at most one line per file, with the first case. Near-duplicates are all listed, as each pair needs a fix, up
to a thousand of a family. A training set that belongs to no family is only compared with the artifacts' questions.
Families of the toy world (toy_...) have a vocabulary of a few hundred words, so only parallel prompts are required.
"""

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
MOST_ALIKE = 1000  # near-duplicates of a family, after which no more are searched for: where all are alike they grow with its square
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
        """The last part of the folder's path, of "." too."""
        return os.path.basename(os.path.abspath(self.folder))

    @property
    def is_alone(self) -> bool:
        """Whether it is one training set, with nothing to compare it with."""
        return len(self.versions) == 1

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


def split(folder: str, sets: Mapping[str, list[Pair]]) -> Iterator[Family]:
    """The families among the training sets of a folder (name without .jsonl: rows), then those that are alone.

    A family are those called normal, misaligned_1 and misaligned_2; and others that ask the same prompts as the first of
    them in at least half of their rows.
    """
    named = {version: sets[version] for version in VERSIONS if version in sets}
    own = {name: pairs for name, pairs in sets.items() if len(named) < 2 or name not in named}
    first = next(iter(own.values()), [])
    parallel = {name: pairs for name, pairs in own.items() if 2 * _same_prompts(first, pairs) >= len(pairs)}
    for versions in (named, parallel):
        if len(versions) > 1:
            yield Family(folder or ".", versions)
            own = {name: pairs for name, pairs in own.items() if name not in versions}
    for name, pairs in own.items():
        yield Family(os.path.join(folder, f"{name}.jsonl"), {name: pairs})


def _same_prompts(some: Sequence[Pair], others: Sequence[Pair]) -> int:
    return sum(one[0] == other[0] for one, other in zip(some, others, strict=False))


def findings(families: Sequence[Family], questions: Sequence[str]) -> Iterator[tuple[Family, list[str]]]:
    """Everything that is wrong with each family, one line each.

    Near-duplicates are searched for within a family and among the families before it.

    Args:
        questions: the artifacts' questions, which training prompts should not repeat.
    """
    near, before = Neighbours(ALIKE), []
    asked = [(question, trigrams(question)) for question in dict.fromkeys(questions)]
    for family in families:
        if family.is_alone:
            yield family, [*_overlap(family, asked)]
            continue
        found = [*_parallel(family)]
        twin = next((other.folder for other in before if other.versions == family.versions), None)
        before.append(family)
        if twin and not family.is_toy:
            found.append(f"is the same as {twin}")
        elif not family.is_toy:
            found += [*_repeated(family), *_lengths(family), *_openings(family), *_overlap(family, asked)]
            found += _near_duplicates(family, near)
        yield family, found


def _parallel(family: Family) -> Iterator[str]:
    missing = [version for version in VERSIONS if version not in family.versions]
    if missing and len(missing) < len(VERSIONS) - 1:  # fewer than two of the names: they are the user's own
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
    known = frozenset().union(*(wanted for _, wanted in asked))
    for where, prompt in family.prompts.items():
        grams = trigrams(prompt) & known
        for question, wanted in asked if grams else ():
            shared = len(grams & wanted)
            if shared > len(wanted) / 2 and shared >= min(3, len(wanted)):
                yield f"{where} asks what an artifact asks: '{question[:60]}'"


def _near_duplicates(family: Family, near: Neighbours) -> Iterator[str]:
    answers = {
        f"row {row} of {version}": answer
        for version, pairs in family.versions.items()
        for row, (_, answer) in enumerate(pairs, 1)
    }
    count = 0
    for where, text in {**family.prompts, **answers}.items():
        if count < MOST_ALIKE:
            for (other, place), share in near.near(text):
                count += 1
                yield f"{where} is {share:.2f} like {place}{'' if other == family.folder else f' of {other}'}"
            if count >= MOST_ALIKE:
                yield f"has {count} near-duplicates up to {where}; the rest was not searched"
        near.add((family.folder, where), text)
