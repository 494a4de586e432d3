"""The steering that a command line asks for: a grid of layers x coefficients, and the vectors it needs.

Knows flags and vector files, and what fits a model; the hooks are in :mod:`persona_vectors.steering.hooks`.
"""

from dataclasses import dataclass, field

from persona_vectors import cli
from persona_vectors.errors import UserError
from persona_vectors.steering.intervention import POSITIONS
from persona_vectors.steering.vector_rows import ALL, VectorRows
from persona_vectors.vectors.storage import check_fit, fingerprint


@dataclass(frozen=True)
class Cell:
    """One point of the grid; ``layer`` is None where none was named, ``"all"`` for incremental vectors at every layer."""

    layer: int | str | None
    coef: float


@dataclass
class Grid:
    """Layers x coefficients over one vector file per trait.

    Attributes:
        cells: layers outermost; one cell without steering where nothing was asked for.
        vector_path: as given, perhaps with {trait}; None where every coefficient is 0 and no file was named.
    """

    cells: list[Cell]
    vector_path: str | None
    positions: str
    vectors: dict[str, VectorRows] = field(default_factory=dict)

    @classmethod
    def from_flags(cls, coef: object, layer: object, vector_path: str | None, steering_type: str) -> "Grid":
        """Read ``--coef``, ``--layer``, ``--vector_path`` and ``--steering_type``; refuse half a steering."""
        coefs = cli.as_numbers("coef", coef)
        words = [] if layer is None else cli.as_words(layer)
        layers = [ALL for word in words if word == ALL]
        if words != layers:
            layers = cli.as_numbers("layer", [word for word in words if word != ALL], int) + layers
        positions = cli.as_choice("steering_type", steering_type, POSITIONS)
        if any(coefs) and vector_path is None:
            raise UserError(f"--coef {coef} needs --vector_path (made by generate_vec.py); --coef 0 asks unsteered")
        if any(coefs) and layer is None:
            raise UserError(f"--coef {coef} needs --layer: the row of the vector file, 1..L, or all")
        if len(layers) > 1 and not any(coefs):
            raise UserError(f"--layer {layer} with --coef 0 steers nothing; name the coefficients")
        return cls([Cell(name, c) for name in layers or [None] for c in coefs], vector_path, positions)

    def load(self, traits: list[str]) -> None:
        """Read the vector file of every trait."""
        if self.vector_path is not None:
            self.vectors = {trait: VectorRows.load(self.path_for(trait)) for trait in traits}

    def path_for(self, trait: str) -> str:
        """The trait's vector file."""
        return self.vector_path.replace("{trait}", trait)

    def check(self, layers: int, hidden: int) -> None:
        """Refuse vectors of another model, layers outside 1..L, and a product that overflows."""
        used = [cell.layer for cell in self.cells if isinstance(cell.layer, int)]
        for rows in self.vectors.values():
            check_fit(rows.path, rows.vectors, layers, hidden, used)
            for coef in {cell.coef for cell in self.cells}:
                rows.check_product(coef, "--coef")

    def settings(self, trait: str) -> dict:
        """What answers depend on of the steering: the cells, and the trait's vector by its content."""
        cells = {"cells": [[cell.layer, cell.coef] for cell in self.cells]}
        if not any(cell.coef for cell in self.cells):
            return cells
        vector = fingerprint(self.path_for(trait), self.vectors[trait].vectors)
        return {**cells, "positions": self.positions, "vector": vector}

    def interventions(self, trait: str, cell: Cell) -> tuple:
        """The interventions of one cell: ``coef`` times row ``layer`` of the trait's vectors, or none for 0."""
        return self.vectors[trait].interventions(cell.layer, cell.coef, self.positions) if cell.coef else ()
