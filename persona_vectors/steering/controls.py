"""The controls of a steering: vectors of the same norms that should not bring the trait out.

random: directions drawn at random. shuffled: vectors of the same answers, made as the trait's own but with the labels of half
of the pairs exchanged (:mod:`persona_vectors.vectors.shuffled`); generate_vec.py --shuffled writes them beside the vector.
"""

from persona_vectors.errors import UserError
from persona_vectors.files.fingerprints import Fingerprint
from persona_vectors.steering.vector_rows import VectorRows
from persona_vectors.vectors.shuffled import read_shuffled, shuffled_path
from persona_vectors.vectors.storage import digest, random_like

RANDOM, SHUFFLED = CONTROLS = ("random", "shuffled")
APART = 1_000_000  # between the seeds of several vectors that steer together: their controls are independent


def control_rows(rows: VectorRows, kind: str, number: int, nth: int = 0) -> VectorRows:
    """The ``number``-th control (from 1) of a vector file's rows: the same norm in every row.

    Args:
        kind: one of :data:`CONTROLS`.
        nth: which of the vectors that steer together, from 0.

    Raises:
        UserError: shuffled vectors that are missing, too few, or not of this vector.

    Example:
        control_rows(VectorRows.load("evil_response_avg_diff.pt"), "random", 1)
    """
    if kind == RANDOM:
        return VectorRows(rows.path, random_like(rows.vectors, seed=number + APART * nth))
    made = read_shuffled(rows.path, rows.vectors)
    if number > len(made):
        raise UserError(
            f"{shuffled_path(rows.path)} holds {len(made)} shuffled vectors, --controls asks for more: "
            f"generate_vec.py --shuffled {number} makes them"
        )
    return VectorRows(rows.path, made[number - 1])


def made_from(path: str, kind: str) -> Fingerprint | None:
    """What controls are made from beside the vector itself: the file of shuffled vectors; None for random ones."""
    if kind == RANDOM:
        return None
    file = shuffled_path(path)
    return Fingerprint(file.name, f"sha256:{digest(file)}")
