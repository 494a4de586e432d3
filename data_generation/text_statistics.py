"""Numbers about texts: how they begin, how alike they are, how rich their words are.

Knows texts only; what is too much of something, :mod:`data_generation.families` says.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

LENGTHS = {"prompt": (5, 120), "answer": (20, 180)}  # words, of training sets that are written for this project
WINDOW = 1000  # words that a type-token ratio is counted over


def words(text: str) -> list[str]:
    """Words and numbers, without case and signs."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())


def opening(text: str) -> str:
    """The first three words."""
    return " ".join(words(text)[:3])


def fit_length(part: str, text: str) -> bool:
    """Whether a ``prompt`` or ``answer`` is neither too short nor too long."""
    shortest, longest = LENGTHS[part]
    return shortest <= len(text.split()) <= longest


def trigrams(text: str) -> frozenset[tuple[str, ...]]:
    """All runs of three words; the text's few words where it has no three."""
    said = words(text)
    return frozenset(zip(said, said[1:], said[2:], strict=False)) or frozenset([tuple(said)])


def alike(a: frozenset, b: frozenset) -> float:
    """The share of the runs of two texts that both have (Jaccard): 1 for the same text, 0 for nothing in common."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


class Neighbours:
    """Texts, and which of them are nearly the same as a new one; exact, and quick enough for some ten thousand."""

    def __init__(self, threshold: float) -> None:
        """Texts are near each other that are more than ``threshold`` alike."""
        self.threshold = threshold
        self._of: dict[Hashable, frozenset] = {}
        self._with: dict[tuple, list] = defaultdict(list)

    def near(self, text: str) -> list[tuple[Hashable, float]]:
        """(key, how alike) of every text that is near this one."""
        grams = trigrams(text)
        # Whoever shares so many of them shares at least one of the rarest; the common ones need not be followed up.
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
        """Take the text in."""
        self._of[key] = trigrams(text)
        for gram in self._of[key]:
            self._with[gram].append(key)


def type_token_ratio(texts: Iterable[str]) -> float:
    """Different words per word, the mean over windows of 1000 words: texts of any length compare (0 to 1)."""
    said = [word for text in texts for word in words(text)]
    windows = [said[at : at + WINDOW] for at in range(0, max(1, len(said) - WINDOW + 1), WINDOW)]
    return sum(len(set(window)) / max(1, len(window)) for window in windows) / len(windows)


def mean_similarity(texts: Sequence[str]) -> float:
    """The mean over all pairs of texts of the cosine between their words' counts, rare words weighing more (0 to 1).

    Every text's weights are a vector of length 1; the squared length of their sum holds the cosine of each pair twice.
    A word weighs the logarithm of how many times fewer texts have it than there are.
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
