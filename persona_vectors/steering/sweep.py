"""A sweep of steerings: a grid of layers x coefficients, and the vectors it needs.

Knows vector files, and what fits a model; the hooks are in :mod:`persona_vectors.steering.hooks`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from persona_vectors.errors import UserError
from persona_vectors.steering.controls import RANDOM, control_rows, made_from
from persona_vectors.steering.vector_rows import VectorRows
from persona_vectors.vectors.storage import check_fit, fingerprint


@dataclass(frozen=True)
class Cell:
    """One point of the grid.

    Attributes:
        layer: None where none was named, ``"all"`` for incremental vectors at every layer, ``"list"`` for those of a list.
        control: 0 is the trait's own vector, k its k-th control: a vector of the same norm.
        control_kind: of the controls, see :mod:`persona_vectors.steering.controls`.
    """

    layer: int | str | None
    coef: float
    control: int = 0
    control_kind: str = RANDOM

    @property
    def key(self) -> list:
        """What records and journals call it."""
        return [self.layer, self.coef, *([f"{self.control_kind}{self.control}"] if self.control else [])]


@dataclass
class Grid:
    """Layers x coefficients over one vector file per trait.

    Attributes:
        cells: layers outermost, controls last; one cell without steering where nothing was asked for.
        vector_path: as given, perhaps with {trait}; None where every coefficient is 0 and no file was named.
    """

    cells: list[Cell]
    vector_path: str | None
    positions: str
    vectors: dict[str, VectorRows] = field(default_factory=dict)
    _controls: dict[tuple, VectorRows] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        coefs: Sequence[float],
        layers: Sequence[int | str] = (),
        vector_path: str | None = None,
        positions: str = "response",
        controls: int = 0,
        control: str = RANDOM,
    ) -> "Grid":
        """Every coefficient at every layer; without layers, one cell a coefficient. ``controls`` of a kind beside it.

        Raises:
            UserError: half a steering: coefficients without a file or a layer, several layers or controls without a
                coefficient.

        Example:
            >>> Grid.of([0.0, 1.5], [16, 20], "evil_response_avg_diff.pt").cells[1]
            Cell(layer=16, coef=1.5, control=0)
        """
        coef, layer = (",".join(f"{value:g}" for value in coefs), ",".join(map(str, layers)))
        if any(coefs) and vector_path is None:
            raise UserError(f"--coef {coef} needs --vector_path (made by generate_vec.py); --coef 0 asks unsteered")
        if any(coefs) and not layers:
            raise UserError(f"--coef {coef} needs --layer: the row of the vector file, 1..L, or all")
        if len(layers) > 1 and not any(coefs):
            raise UserError(f"--layer {layer} with --coef 0 steers nothing; name the coefficients")
        if controls and not any(coefs):
            raise UserError(f"--controls {controls} with --coef 0 steers nothing; name the coefficients")
        named: Sequence[int | str | None] = layers or [None]
        cells = [Cell(name, c) for name in named for c in coefs]
        cells += [Cell(cell.layer, cell.coef, k + 1, control) for k in range(controls) for cell in cells if cell.coef]
        return cls(cells, vector_path, positions)

    def load(self, traits: list[str]) -> None:
        """Read the vector file of every trait, and its controls."""
        if self.vector_path is not None:
            self.vectors = {trait: VectorRows.load(self.path_for(trait)) for trait in traits}
            for trait in traits:
                for cell in self.cells:
                    self.rows_for(trait, cell)

    def path_for(self, trait: str) -> str:
        """The trait's vector file."""
        assert self.vector_path is not None  # Grid.of refuses a coefficient without one
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
        cells = {"cells": [cell.key for cell in self.cells]}
        if not any(cell.coef for cell in self.cells):
            return cells
        vector = fingerprint(self.path_for(trait), self.vectors[trait].vectors)
        return {**cells, "positions": self.positions, "vector": vector, **self.shuffled([self.path_for(trait)])}

    def shuffled(self, paths: Sequence[str]) -> dict:
        """What answers depend on of the controls: files of shuffled vectors; nothing for random ones."""
        kinds = {cell.control_kind for cell in self.cells if cell.control}
        files = [file for path in paths for kind in sorted(kinds) if (file := made_from(path, kind))]
        return {"shuffled": files} if files else {}

    def interventions(self, trait: str, cell: Cell) -> tuple:
        """The interventions of one cell: ``coef`` times row ``layer`` of the trait's vectors, or none for 0."""
        if not cell.coef:
            return ()
        assert cell.layer is not None  # Grid.of refuses a coefficient without one
        return self.rows_for(trait, cell).interventions(cell.layer, cell.coef, self.positions)

    def rows_for(self, name: str, cell: Cell, nth: int = 0) -> VectorRows:
        """The rows of a trait (or whatever ``vectors`` are called by), or those of the cell's control, made once."""
        if not cell.control:
            return self.vectors[name]
        key = name, cell.control, cell.control_kind, nth
        if key not in self._controls:
            self._controls[key] = control_rows(self.vectors[name], cell.control_kind, cell.control, nth)
        return self._controls[key]
