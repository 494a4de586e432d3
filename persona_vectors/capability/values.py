"""One measured number with its standard error, and how such numbers come from parts of different sizes. Needs no torch."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Value:
    """What one measure of one task came to.

    Attributes:
        task: whose measure it is, as lm-eval or we call it.
        measure: ``acc``, ``exact_match (strict-match)``, ``kl``, ...
        value: in the measure's own unit; None where nothing could be measured.
        standard_error: of the value over questions, texts or requests; None where none can be told.
        n: how many questions, texts or requests.
    """

    task: str
    measure: str
    value: float | None
    standard_error: float | None
    n: int

    def as_dict(self) -> dict:
        """For JSON."""
        return asdict(self)


def ratio(sums: Sequence[float], sizes: Sequence[float]) -> tuple[float | None, float | None]:
    """The mean over all tokens (or answers) of several texts, and its standard error: the texts are the sample.

    mean = sum s_i / sum n_i;  error = sqrt(G / (G - 1) sum (s_i - mean n_i)^2) / sum n_i for G texts (Cochran, Sampling
    Techniques, section 6.3), which is sqrt(p (1 - p) / (n - 1)) for a share p of n answers.

    Args:
        sums: of each text, over its tokens.
        sizes: tokens of each text; 1 for answers.

    Example:
        >>> ratio([1, 0, 1, 1], [1, 1, 1, 1])
        (0.75, 0.25)
    """
    total = sum(sizes)
    if not total:
        return None, None
    mean, texts = sum(sums) / total, len(sizes)
    if texts < 2:
        return mean, None
    spread = sum((s - mean * n) ** 2 for s, n in zip(sums, sizes, strict=True))
    return mean, math.sqrt(texts / (texts - 1) * spread) / total
