"""What is done to the residual stream of one sequence: a layer, a vector, a coefficient, positions. No torch is needed."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

from persona_vectors.errors import UserError

if TYPE_CHECKING:  # torch takes seconds to import, and a command line is checked without it
    from torch import Tensor

POSITIONS = ("response", "prompt", "all")
KINDS = ("add", "ablate")


@dataclass(frozen=True, eq=False)
class Intervention:
    """One change to the residual stream of one sequence.

    Attributes:
        layer: l in 1..L; acts on the output of block l-1 (counting blocks from 0), as ``--layer`` says everywhere.
        vector: [hidden] of any float dtype; cast to the model's own when applied.
        coef: the factor a of an addition. An ablation has none: it removes the whole component.
        positions: ``response``: the last prompt token and every generated one; ``prompt``: every prompt token and no
            generated one; ``all``: both.
        kind: ``add`` or ``ablate``. Where one layer has both, ablations act first: what is added stays. Several
            ablations at one layer act in the order response, prompt, all.
    """

    layer: int
    vector: "Tensor"
    coef: float = 1.0
    positions: str = "response"
    kind: str = "add"

    def __post_init__(self) -> None:
        if self.positions not in POSITIONS:
            raise UserError(f"steering type must be one of {', '.join(POSITIONS)}, not '{self.positions}'")
        if self.kind not in KINDS:
            raise UserError(f"an intervention adds or ablates; '{self.kind}' is neither")
        if self.vector.ndim != 1:
            raise UserError(f"a steering vector has one dimension, not shape {tuple(self.vector.shape)}")
        if not self.vector.is_floating_point():
            raise UserError(f"a steering vector is of a float dtype, not {self.vector.dtype}")
        if not self.vector.isfinite().all():
            raise UserError("the steering vector has numbers that are not finite (NaN or infinity)")
        if isinstance(self.layer, bool) or not hasattr(self.layer, "__index__"):
            raise UserError(f"a layer is a whole number from 1, not {self.layer!r}")
        if not isinstance(self.coef, Real) or not math.isfinite(self.coef):
            raise UserError(f"a coefficient is a finite number, not {self.coef!r}")

    @property
    def is_identity(self) -> bool:
        """True where it changes nothing: an addition with coefficient 0."""
        return self.kind == "add" and self.coef == 0


def most_ablated(interventions: Iterable[Intervention]) -> int:
    """The most directions that one sequence's interventions ablate at one layer, which vLLM is to be told beforehand."""
    return max(Counter(i.layer for i in interventions if i.kind == "ablate").values(), default=0)
