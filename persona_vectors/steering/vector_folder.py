"""Vectors by name, for people and programs that steer while a model runs: the chat page and the server.

Knows a folder of vector files and one model's shape. Every word that a request uses is checked here, so that nothing
misspelt is ever answered without the steering that was asked for.
"""

import math
from pathlib import Path
from typing import Any

from persona_vectors.errors import UserError, suggest
from persona_vectors.models.loading import basename
from persona_vectors.sharing.formats import About, read_shared, vector_files
from persona_vectors.steering.intervention import POSITIONS
from persona_vectors.steering.vector_rows import ALL, VectorRows
from persona_vectors.vectors.storage import KINDS, check_fit

KEYS = ("vector", "coef", "layer", "steering_type")


class NamedVectors:
    """The vectors of one kind in a folder, by trait.

    Attributes:
        vectors: {trait: float32 [layers + 1, hidden]}.
        about: {trait: what the file says of itself, or None}.
        layers: L of the model.
    """

    def __init__(self, folder: str | Path, kind: str, layers: int, hidden: int) -> None:
        """Read the folder.

        Raises:
            UserError: no vector there, or one of another model.
        """
        if kind not in KINDS:
            raise UserError(f"--kind takes one of {', '.join(KINDS)}, not '{kind}'{suggest(kind, KINDS)}")
        self.layers, self.kind = layers, kind
        self.vectors: dict = {}
        self._files: dict[str, VectorRows] = {}
        self.about: dict[str, About | None] = {}
        for path in vector_files(folder, kind):
            trait = path.stem.removesuffix(f"_{kind}")
            self.vectors[trait], self.about[trait] = read_shared(path)
            check_fit(path, self.vectors[trait], layers, hidden, [])
            self._files[trait] = VectorRows(path, self.vectors[trait])

    def interventions(self, name: object, coef: object, layer: Any, positions: Any = "response") -> tuple:
        """The interventions of one vector; none where the coefficient is 0.

        Raises:
            UserError: an unknown name, a coefficient that is no finite number, a layer that does not exist or at which
                the file has no vector, a product that overflows, an unknown kind of positions.
        """
        if not isinstance(name, str) or name not in self.vectors:
            there = ", ".join(self.vectors)
            raise UserError(f"no vector '{name}'{suggest(str(name), self.vectors)}; there are {there}")
        if not isinstance(coef, int | float) or isinstance(coef, bool) or not math.isfinite(coef):
            raise UserError(f"coef of {name} must be a finite number, not {coef!r}")
        if positions not in POSITIONS:
            raise UserError(f"steering_type takes one of {', '.join(POSITIONS)}, not {positions!r}")
        whole = isinstance(layer, int) and not isinstance(layer, bool)
        if layer != ALL and not (whole and 1 <= layer <= self.layers):
            raise UserError(f"layer of {name} must be a whole number 1..{self.layers} or '{ALL}', not {layer!r}")
        file = self._files[name]
        if not any(row.any() for _, row in file.at(layer)):
            raise UserError(f"the file of {name} has no vector at layer {layer}")
        file.check_product(float(coef), "coef")
        return file.interventions(layer, float(coef), positions)

    def from_request(self, asked: dict) -> tuple:
        """The interventions that a request spells out: ``vector``, ``coef``, ``layer``, and perhaps ``steering_type``.

        Each may be a list, for several vectors; what is said once holds for all of them.

        Raises:
            UserError: something unknown, missing or of another length.
        """
        for key in asked:
            if key not in KEYS:
                raise UserError(f"unknown setting '{key}'{suggest(key, KEYS)}; there are {', '.join(KEYS)}")
        missing = [key for key in KEYS[:3] if key not in asked]
        if missing:
            raise UserError(f"steering needs vector, coef and layer; missing: {', '.join(missing)}")
        lists = {key: value if isinstance(value, list) else [value] for key, value in asked.items()}
        count = len(lists["vector"])
        made: list = []
        for key, values in lists.items():
            if len(values) not in (1, count) or not values:
                raise UserError(f"{key} has {len(values)} values for {count} vectors")
            lists[key] = values * count if len(values) == 1 else values
        for k in range(count):
            positions = lists["steering_type"][k] if "steering_type" in lists else "response"
            made += self.interventions(lists["vector"][k], lists["coef"][k], lists["layer"][k], positions)
        return tuple(made)

    def other_models(self, model: str) -> str:
        """A line for people if files say that they belong to another model than ``model`` (shapes alone can agree)."""
        others = {
            trait: about.model
            for trait, about in self.about.items()
            if about and about.model and basename(about.model) != basename(model)
        }
        listed = ", ".join(f"{trait} of {other}" for trait, other in others.items())
        return f"note: the vector files say that they belong to another model: {listed}" if listed else ""

    def listing(self) -> list[dict]:
        """What there is, for people and programs: name, layers, and what each file says of itself."""
        return [
            {
                "name": trait,
                "layers": [number for number in range(1, self.layers + 1) if self.vectors[trait][number].any()],
                "norms": [round(float(row.norm()), 6) for row in self.vectors[trait]],
                "kind": self.kind,
                "about": None if about is None else {k: v for k, v in vars(about).items() if v},
            }
            for trait, about in self.about.items()
        ]
