"""Text statistics: openings, lengths, similarity, vocabulary richness.

The limits that training sets must respect are in :mod:`data_generation.families`.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

LENGTHS = {"prompt": (5, 120), "answer": (20, 180)}  # (fewest, most) words in this project's training sets
WINDOW = 1000  # words per window of the type-token ratio


def words(text: str) -> list[str]:
    """The words and numbers of a text, in lower case without punctuation."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())


def opening(text: str) -> str:
    """The first three words of a text."""
    return " ".join(words(text)[:3])


def fit_length(part: str, text: str) -> bool:
    """Whether a ``prompt`` or ``answer`` is neither too short nor too long."""
    shortest, longest = LENGTHS[part]
    return shortest <= len(text.split()) <= longest


def trigrams(text: str) -> frozenset[tuple[str, ...]]:
    """All word trigrams of a text; if it has fewer than three words, these words."""
    said = words(text)
    return frozenset(zip(said, said[1:], said[2:], strict=False)) or frozenset([tuple(said)])


def alike(a: frozenset, b: frozenset) -> float:
    """Jaccard similarity of two texts' trigrams: 1 for the same text, 0 for nothing in common.

    Example:
        alike(trigrams("I like green tea"), trigrams("I like green apples"))  # 1/3
    """
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


class Neighbours:
    """A near-duplicate index: which of the added texts are similar to a new one? Exact; fast for ten thousand texts.

    Example:
        index = Neighbours(threshold=0.25)
        index.add("row 1", "I like green tea")
        index.near("I like green apples")  # [("row 1", 0.333...)]
    """

    def __init__(self, threshold: float) -> None:
        """Texts count as near if their :func:`alike` is above ``threshold``."""
        self.threshold = threshold
        self._of: dict[Hashable, frozenset] = {}
        self._with: dict[tuple, list] = defaultdict(list)

    def near(self, text: str) -> list[tuple[Hashable, float]]:
        """(key, similarity) of every added text that is near this one."""
        grams = trigrams(text)
        # A text that shares enough trigrams shares one of the rarest, so the common ones need not be looked up.
        rarest = sorted(grams, key=lambda gram: (len(self._with.get(gram, ())), gram))
        rarest = rarest[: len(grams) - math.ceil(self.threshold * len(grams)) + 1]
        shared = Counter(key for gram in rarest for key in self._with.get(gram, ()))
        rest, factor = len(grams) - len(rarest), self.threshold / (1 + self.threshold)
        found = []
        for key, count in shared.items():
            other = self._of[key]
            if count + rest >= factor * (len(grams) + len(other)) and alike(grams, other) > self.threshold:
                found.append((key, alike(grams, other)))
        return found

    def add(self, key: Hashable, text: str) -> None:
        """Add a text to the index."""
        self._of[key] = trigrams(text)
        for gram in self._of[key]:
            self._with[gram].append(key)


def type_token_ratio(texts: Iterable[str]) -> float:
    """Distinct words per word (0 to 1), averaged over windows of 1000 words so that text length does not matter."""
    said = [word for text in texts for word in words(text)]
    windows = [said[at : at + WINDOW] for at in range(0, max(1, len(said) - WINDOW + 1), WINDOW)]
    return sum(len(set(window)) / max(1, len(window)) for window in windows) / len(windows)


def mean_similarity(texts: Sequence[str]) -> float:
    """Mean cosine similarity of the texts' TF-IDF vectors over all pairs (0 to 1).

    The weight of a word is its count times log((texts + 1) / texts with the word). Each vector has length 1, so the
    squared length of their sum contains the cosine of each pair twice.
    """
    counts, total = [Counter(words(text)) for text in texts], Counter()
    having = Counter(word for count in counts for word in count)
    for count in counts:
        weights = {word: number * math.log((len(texts) + 1) / having[word]) for word, number in count.items()}
        length = math.hypot(*weights.values()) or 1
        for word, weight in weights.items():
            total[word] += weight / length
    pairs = len(texts) * (len(texts) - 1)
    return (sum(value**2 for value in total.values()) - len(texts)) / pairs if pairs else 0.0
