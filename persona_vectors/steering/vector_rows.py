"""The interventions of one vector file: the one place where a file's rows become what is added to the residual stream.

Knows vector files; the hooks are in :mod:`persona_vectors.steering.hooks`.
"""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from persona_vectors.errors import UserError
from persona_vectors.sharing.formats import read_norms
from persona_vectors.steering.intervention import Intervention
from persona_vectors.vectors.storage import incremental, load_vectors

if TYPE_CHECKING:
    from torch import Tensor

ALL = "all"  # in the place of a layer: incremental vectors at every layer 1..L-1 (section J.3)


class VectorRows:
    """The rows of a vector file, [layers + 1, hidden] float32.

    There is one tensor object per row for good: engines tell vectors apart by identity before they look at content.

    Example:
        VectorRows.load("evil_response_avg_diff.pt").interventions(layer=20, coef=1.5)
    """

    def __init__(self, path: str | Path, vectors: "Tensor") -> None:
        self.path, self.vectors = path, vectors
        self._rows, self._increments = list(vectors), list(incremental(vectors))

    @classmethod
    def load(cls, path: str | Path) -> "VectorRows":
        """Read a vector file; raises :class:`UserError` for one that is missing or broken."""
        return cls(path, load_vectors(path))

    def at(self, layer: int | str, increment: bool = False) -> list:
        """``(layer, row [hidden])`` of a layer: v_l, or its ``increment`` v_l - v_(l-1); of ``all`` every increment."""
        if layer == ALL:
            return list(enumerate(self._increments, 1))
        layer = int(layer)
        return [(layer, self._increments[layer - 1] if increment else self._rows[layer])]

    def interventions(
        self, layer: int | str, coef: float, positions: str = "response", increment: bool = False, kind: str = "add"
    ) -> tuple[Intervention, ...]:
        """Adding ``coef`` times what :meth:`at` gives, or ablating it; nothing where ``coef`` is 0."""
        found = self.at(layer, increment)
        return tuple(Intervention(number, row, coef, positions, kind) for number, row in found if coef)

    @cached_property
    def norms(self) -> list[float] | None:
        """The mean |h| of the model's activations by row, as far as the file tells (:func:`read_norms`)."""
        return read_norms(self.path)

    def dose_of_one(self, layer: int | str | None) -> float | None:
        """|v_l| / mean |h_l|: how long coefficient 1 is, relative to the activations it is added to.

        None where the file does not tell, or the layer is not a single one that it has.

        Example:
            1.5 * VectorRows.load("evil_response_avg_diff.pt").dose_of_one(20)  # 0.42
        """
        if not self.norms or not isinstance(layer, int) or not 0 <= layer < len(self.norms):
            return None
        return float(self.vectors[layer].norm()) / self.norms[layer]

    def check_product(self, coef: float, setting: str) -> None:
        """Refuse a coefficient (given by ``setting``) with which a row would be more than float32 can hold."""
        if not (self.vectors * coef).isfinite().all():
            raise UserError(f"{setting} {coef:g} times {self.path} is more than float32 can hold")
