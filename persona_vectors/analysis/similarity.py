"""How directions lie to each other: cosines, principal components, and a tree of clusters.

Vectors are compared by direction alone: each is scaled to length 1 first, since norms grow with the layer and differ between
models. Works on vectors and names; knows nothing of files or figures.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy

if TYPE_CHECKING:
    from numpy import ndarray


def directions(vectors: "ndarray") -> "ndarray":
    """Rows scaled to length 1, [n, hidden] float64; a row of zeros stays as it is."""
    rows = numpy.asarray(vectors, dtype=numpy.float64)
    lengths = numpy.linalg.norm(rows, axis=-1, keepdims=True)
    return numpy.divide(rows, lengths, out=numpy.zeros_like(rows), where=lengths > 0)


def cosines(a: "ndarray", b: "ndarray") -> "ndarray":
    """Cosines of [n, hidden] and [m, hidden], [n, m]; 0 where a row is zero."""
    return numpy.clip(directions(a) @ directions(b).T, -1, 1)


def principal_components(vectors: "ndarray", count: int = 2) -> "tuple[ndarray, ndarray]":
    """Directions in the plane where they differ most.

    Centred on their mean; of each component the sign is such that its largest coordinate is positive.

    Args:
        vectors: [n, hidden], n at least 2.

    Returns:
        (coordinates [n, count], the share of the variance of each component [count]); zeros beyond what n points span.

    Example:
        points, shares = principal_components(numpy.stack([evil[20], sycophantic[20], hallucinating[20]]))
    """
    rows = directions(vectors)
    left, sizes, _ = numpy.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    points = numpy.zeros((len(rows), count))
    shares = numpy.zeros(count)
    there = min(count, len(sizes))
    points[:, :there] = left[:, :there] * sizes[:there]
    largest = numpy.abs(points).argmax(axis=0)
    points *= numpy.where(points[largest, range(count)] < 0, -1, 1)
    total = (sizes**2).sum()
    shares[:there] = sizes[:there] ** 2 / total if total > 0 else 0
    return points, shares


@dataclass(frozen=True)
class Merge:
    """Two clusters become one: ``first`` and ``second`` are numbers of leaves, or n + k for what the k-th merge made.

    Attributes:
        distance: the mean of 1 - cosine over all pairs of a leaf of the one and a leaf of the other.
        leaves: of both, in the order of a drawing.
    """

    first: int
    second: int
    distance: float
    leaves: list[int]


def average_linkage(vectors: "ndarray") -> list[Merge]:
    """The tree of [n, hidden] vectors: of all clusters the two nearest are merged, n - 1 times (UPGMA).

    The distance is 1 - cosine, 0 to 2. Of equally near clusters those that come first are merged.

    Example:
        average_linkage(vectors)[-1].leaves  # the order in which a dendrogram shows them
    """
    n = len(vectors)
    distance = 1 - cosines(vectors, vectors)
    numpy.fill_diagonal(distance, numpy.inf)
    numbers, leaves = list(range(n)), [[leaf] for leaf in range(n)]
    merges: list[Merge] = []
    for k in range(n - 1):
        a, b = sorted(divmod(int(distance.argmin()), n))
        first, second = sorted((numbers[a], numbers[b]))
        merges.append(Merge(first, second, float(distance[a, b]), leaves[a] + leaves[b]))
        mean = (len(leaves[a]) * distance[a] + len(leaves[b]) * distance[b]) / (len(leaves[a]) + len(leaves[b]))
        distance[a], distance[:, a] = mean, mean  # a's place is now that of both, b's is nobody's
        distance[b], distance[:, b] = numpy.inf, numpy.inf
        numbers[a], leaves[a] = n + k, merges[-1].leaves
    return merges
