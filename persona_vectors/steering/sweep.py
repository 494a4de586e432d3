"""A sweep of steerings: a grid of layers x coefficients, and the vectors it needs.

Knows vector files, and what fits a model; the hooks are in :mod:`persona_vectors.steering.hooks`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from persona_vectors.errors import UserError
from persona_vectors.steering.controls import RANDOM, control_rows, made_from
from persona_vectors.steering.vector_rows import ALL, VectorRows
from persona_vectors.vectors.storage import check_fit, fingerprint, is_missing


@dataclass(frozen=True)
class Cell:
    """One point of the grid.

    Attributes:
        layer: None where none was named, ``"all"`` for incremental vectors at every layer, ``"list"`` for those of a list.
        control: 0 is the trait's own vector, k its k-th control: a vector of the same norm.
        control_kind: of the controls, see :mod:`persona_vectors.steering.controls`.
        dose: coef * |v_l| / mean |h_l|: the steering's length relative to the activations it is added to; None where
            that is not known.
    """

    layer: int | str | None
    coef: float
    control: int = 0
    control_kind: str = RANDOM
    dose: float | None = field(default=None, compare=False)

    @property
    def key(self) -> list:
        """What records and journals call it."""
        return [self.layer, self.coef, *([f"{self.control_kind}{self.control}"] if self.control else [])]

    @property
    def control_name(self) -> str:
        """What tables call the control, as "random 1"; empty for the trait's own vector."""
        return f"{self.control_kind} {self.control}" if self.control else ""


@dataclass
class Grid:
    """Layers x coefficients over one vector file per trait.

    Attributes:
        cells: layers outermost, controls last; one cell without steering where nothing was asked for.
        vector_path: as given, perhaps with {trait}; None where every coefficient is 0 and no file was named.
        by_dose: doses were asked for: until the vectors are loaded, they are in the place of the coefficients.
        to_come: by trait, the vector files that are not there yet, see :meth:`load`.
    """

    cells: list[Cell]
    vector_path: str | None
    positions: str
    by_dose: bool = False
    vectors: dict[str, VectorRows] = field(default_factory=dict)
    to_come: dict[str, list[str]] = field(default_factory=dict)
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
        doses: Sequence[float] = (),
    ) -> "Grid":
        """Every coefficient at every layer; without layers, one cell a coefficient. ``controls`` of a kind beside it.

        ``doses`` stand in the place of the coefficients, which then differ from layer to layer and from trait to trait.

        Raises:
            UserError: half a steering: coefficients without a file or a layer, several layers or controls without a
                coefficient; doses beside coefficients, or at all layers at once.

        Example:
            >>> Grid.of([0.0, 1.5], [16, 20], "evil_response_avg_diff.pt").cells[1]
            Cell(layer=16, coef=1.5, control=0)
        """
        if doses and any(coefs):
            raise UserError("--coef and --dose are two ways to say how much: give one of them")
        if doses and ALL in layers:
            raise UserError(f"--dose is of one layer, and --layer {ALL} steers every layer at once: give --coef")
        flag, coefs = ("--dose", doses) if doses else ("--coef", coefs)
        coef, layer = (",".join(f"{value:g}" for value in coefs), ",".join(map(str, layers)))
        if any(coefs) and vector_path is None:
            raise UserError(f"{flag} {coef} needs --vector_path (made by generate_vec.py); {flag} 0 asks unsteered")
        if any(coefs) and not layers:
            raise UserError(f"{flag} {coef} needs --layer: the row of the vector file, 1..L, or all")
        if len(layers) > 1 and not any(coefs):
            raise UserError(f"--layer {layer} with {flag} 0 steers nothing; name the coefficients")
        if controls and not any(coefs):
            raise UserError(f"--controls {controls} with {flag} 0 steers nothing; name the coefficients")
        named: Sequence[int | str | None] = layers or [None]
        cells = [Cell(name, c) for name in named for c in coefs]
        cells += [Cell(cell.layer, cell.coef, k + 1, control) for k in range(controls) for cell in cells if cell.coef]
        return cls(cells, vector_path, positions, bool(doses))

    def load(self, traits: list[str], may_come: bool = False) -> None:
        """Read the vector file of every trait, and its controls.

        With ``may_come``, for counting what a run would make, a file that is not there goes into :attr:`to_come`; its cells are as
        many as those of any other.

        Raises:
            UserError: a file that cannot be read; doses, and a file that does not tell how long activations are; doses that are
                one coefficient.
        """
        if self.vector_path is None:
            return
        files = {trait: self.path_for(trait) for trait in traits}
        self.to_come = {trait: [file] for trait, file in files.items() if may_come and is_missing(file)}
        self.vectors = {trait: VectorRows.load(file) for trait, file in files.items() if trait not in self.to_come}
        for trait in self.vectors:
            for cell in self.cells_of(trait) if self.by_dose else self.cells:
                self.rows_for(trait, cell)
            if self.by_dose:
                self._check_different(trait)

    def _check_different(self, trait: str) -> None:
        """Refuse doses that are one coefficient: its answers would count twice."""
        doses: dict[str, float | None] = {}
        for cell in self.cells_of(trait):
            key, dose = str(cell.key), cell.dose
            if key in doses:
                raise UserError(
                    f"--dose {doses[key]:.9g} and {dose:.9g} are both coefficient {cell.coef:g} at layer {cell.layer}"
                )
            doses[key] = dose

    def cells_of(self, trait: str) -> list[Cell]:
        """The trait's cells, with coefficient and, where it is known, dose; after :meth:`load`."""
        return [self.with_dose(trait, cell) for cell in self.cells]

    def with_dose(self, trait: str, cell: Cell) -> Cell:
        """A cell with its dose; with its coefficient where doses were asked for, one of which it has in its place."""
        if cell.dose is not None or trait in self.to_come:
            return cell
        if not cell.coef:
            known = trait in self.vectors and self.vectors[trait].norms
            return replace(cell, dose=0.0) if known else cell
        unit = self._dose_of_one(trait, cell.layer)
        if not self.by_dose:
            return cell if unit is None else replace(cell, dose=float(f"{cell.coef * unit:.4g}"))
        path = self.path_for(trait)
        if unit is None:
            raise UserError(
                f"{path} does not tell how long the model's activations are, which --dose needs: generate_vec.py writes it "
                "(--overwrite), python -m eval.vector_quality --record_norms adds it to a file from elsewhere; or give --coef"
            )
        if not unit:
            raise UserError(f"row {cell.layer} of {path} is zero: no coefficient of it makes a dose")
        return replace(cell, coef=float(f"{cell.coef / unit:.6g}"), dose=cell.coef)

    def _dose_of_one(self, trait: str, layer: int | str | None) -> float | None:
        """:meth:`VectorRows.dose_of_one` of a trait's file; a layer that it lacks is refused."""
        rows = self.vectors.get(trait)
        if rows is None or not rows.norms:
            return None
        if isinstance(layer, int) and not 0 <= layer < len(rows.norms):
            raise UserError(f"--layer {layer} does not exist: {rows.path} has rows 0..{len(rows.norms) - 1}")
        return rows.dose_of_one(layer)

    def path_for(self, trait: str) -> str:
        """The trait's vector file."""
        assert self.vector_path is not None  # Grid.of refuses a coefficient without one
        return self.vector_path.replace("{trait}", trait)

    def in_words(self, trait: str) -> str:
        """What one steered cell is, to end a line with; of several cells, the table of their scores tells it."""
        (cell, *others) = self.cells_of(trait)
        known = not others and cell.coef and cell.dose is not None
        return f": coefficient {cell.coef:g} at layer {cell.layer}, dose {cell.dose:.3g}" if known else ""

    def check(self, layers: int, hidden: int) -> None:
        """Refuse vectors of another model, layers outside 1..L, and a product that overflows."""
        used = [cell.layer for cell in self.cells if isinstance(cell.layer, int)]
        for trait, rows in self.vectors.items():
            check_fit(rows.path, rows.vectors, layers, hidden, used)
            for coef in {cell.coef for cell in self.cells_of(trait)}:
                rows.check_product(coef, "--coef")

    def settings(self, trait: str) -> dict:
        """What answers depend on of the steering: the cells, and the trait's vector by its content."""
        cells = {"cells": [cell.key for cell in self.cells_of(trait)]}
        if not any(cell.coef for cell in self.cells) or trait in self.to_come:
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
        if not cell.coef or trait in self.to_come:
            return ()
        assert cell.layer is not None  # Grid.of refuses a coefficient without one
        coef = self.with_dose(trait, cell).coef if self.by_dose else cell.coef
        return self.rows_for(trait, cell).interventions(cell.layer, coef, self.positions)

    def rows_for(self, name: str, cell: Cell, nth: int = 0) -> VectorRows:
        """The rows of a trait (or whatever ``vectors`` are called by), or those of the cell's control, made once."""
        if not cell.control:
            return self.vectors[name]
        key = name, cell.control, cell.control_kind, nth
        if key not in self._controls:
            self._controls[key] = control_rows(self.vectors[name], cell.control_kind, cell.control, nth)
        return self._controls[key]
