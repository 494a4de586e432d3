"""Several vectors at once: a JSON list of what each of them does, the same in a file (--steering), a request and a chat.

    [{"vector": "evil_response_avg_diff.pt", "layer": 20, "coef": 1.5},
     {"vector": "sycophantic_response_avg_diff.pt", "layer": 16, "coef": -1, "positions": "all"},
     {"vector": "refusal.pt", "layer": 14, "kind": "ablate"}]

``vector`` and ``layer`` are needed, ``coef`` is 1, ``positions`` response and ``kind`` add unless said otherwise. In a file,
``vector`` is the path of a vector file, from the working folder, with {trait} filled in; in a request it is a name.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from persona_vectors.cli.values import at_home
from persona_vectors.errors import UserError, suggest
from persona_vectors.files.jsonfile import read_json
from persona_vectors.steering.controls import RANDOM
from persona_vectors.steering.intervention import KINDS, POSITIONS
from persona_vectors.steering.sweep import Cell, Grid
from persona_vectors.steering.vector_rows import ALL, VectorRows
from persona_vectors.vectors.storage import check_fit, fingerprint, is_missing

KEYS = ("vector", "coef", "layer", "positions", "kind")
LISTED = "list"  # in the place of a layer: those of a steering list


@dataclass(frozen=True)
class Part:
    """What one vector does.

    Attributes:
        vector: a path, or a name.
        layer: l in 1..L, or ``all`` for incremental vectors at every layer.
        coef: the factor of an addition. An ablation has none (1).
        positions, kind: as an :class:`~persona_vectors.steering.intervention.Intervention` has them.
        where: what a refusal begins with, as "steer.json, entry 2: ".

    Raises:
        UserError: a value that none of these can be.
    """

    vector: str
    layer: int | str
    coef: float = 1.0
    positions: str = "response"
    kind: str = "add"
    where: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.vector, str) or not self.vector.strip():
            raise UserError(f"{self.where}vector must be a text, not {self.vector!r}")
        if not isinstance(self.coef, int | float) or isinstance(self.coef, bool) or not math.isfinite(self.coef):
            raise UserError(f"{self.where}coef of {self.vector} must be a finite number, not {self.coef!r}")
        for name, known in (("positions", POSITIONS), ("kind", KINDS)):
            value = getattr(self, name)
            if value not in known:
                hint = suggest(str(value), known)
                raise UserError(f"{self.where}{name} takes one of {', '.join(known)}, not {value!r}{hint}")
        whole = isinstance(self.layer, int) and not isinstance(self.layer, bool)
        if not whole and self.layer != ALL:
            raise UserError(f"{self.where}layer of {self.vector} must be a whole number or '{ALL}', not {self.layer!r}")
        if self.kind == "ablate" and self.layer == ALL:
            raise UserError(f"{self.where}an ablation names one layer, not '{ALL}'")
        if self.kind == "ablate" and self.coef != 1:
            raise UserError(f"{self.where}an ablation has no coef (it removes all of {self.vector}): leave it out")

    def interventions(self, rows: VectorRows, factor: float = 1.0) -> tuple:
        """What it does with its vector's rows, additions times ``factor``; nothing where the factor is 0."""
        if not factor:
            return ()
        coef = self.coef * factor if self.kind == "add" else 1.0
        return rows.interventions(self.layer, coef, self.positions, kind=self.kind)


def parse_parts(asked: object, where: str) -> list[Part]:
    """The parts that a list spells out, checked; ``where`` it stands is told in refusals.

    Raises:
        UserError: no list, an empty one, or an entry with an unknown or missing key or an impossible value.

    Example:
        parse_parts([{"vector": "evil", "layer": 20, "coef": 1.5}], "the request")
    """
    if not isinstance(asked, list) or not asked:
        raise UserError(f'{where} must hold a list of vectors: [{{"vector": ..., "layer": ..., "coef": ...}}, ...]')
    parts = []
    for number, entry in enumerate(asked, 1):
        here = f"{where}, entry {number}: "
        if not isinstance(entry, dict):
            raise UserError(f"{here}an entry is an object with {', '.join(KEYS)}, not {type(entry).__name__}")
        for key in entry:
            if key not in KEYS:
                raise UserError(f"{here}unknown key '{key}'{suggest(key, KEYS)}; there are {', '.join(KEYS)}")
        missing = [key for key in ("vector", "layer") if key not in entry]
        if missing:
            raise UserError(f"{here}{' and '.join(missing)} must be said")
        parts.append(Part(**entry, where=here))
    return parts


@dataclass
class ListGrid(Grid):
    """A steering list times coefficients: each multiplies the coefficients of all additions; at 0 nothing acts.

    Attributes:
        vectors: here by the path of their file.
    """

    parts: Sequence[Part] = ()
    traits: Sequence[str] = ()

    @classmethod
    def read(cls, path: str, coefs: Sequence[float] = (1.0,), controls: int = 0, control: str = RANDOM) -> "ListGrid":
        """The list of a JSON file. Which vector files it names is looked at by :meth:`load`.

        Raises:
            UserError: a file that is missing or no such list; coefficients that would all give the same answers.

        Example:
            ListGrid.read("steer.json", [0.0, 1.0, 2.0])
        """
        parts = parse_parts(read_json(path, list, missing="no steering list at {path}"), path)
        if sum(coef != 0 for coef in coefs) > 1 and all(part.kind == "ablate" for part in parts):
            raise UserError(f"{path} only ablates, which has no coefficient: several of --coef would give the same")
        # the cells of Grid.of, which knows half a steering by its missing file
        return cls(Grid.of(coefs, [LISTED], path, "", controls, control).cells, None, "", parts=parts)

    def of_trait(self, trait: str) -> list[tuple[Part, str, int]]:
        """Every part with the path of its file and, for its control, which of the trait's files that is."""
        paths = [at_home(part.vector.replace("{trait}", trait)) for part in self.parts]
        files = list(dict.fromkeys(paths))
        return [(part, path, files.index(path)) for part, path in zip(self.parts, paths, strict=True)]

    def load(self, traits: list[str], may_come: bool = False) -> None:
        """Read the vector files of every trait, and their controls; ``may_come`` as in :meth:`Grid.load`."""
        for trait in traits:
            missing = [path for _, path, _ in self.of_trait(trait) if may_come and is_missing(path)]
            if missing:
                self.to_come[trait] = missing
            for part, path, nth in self.of_trait(trait) if not missing else ():
                try:
                    self.vectors[path] = self.vectors.get(path) or VectorRows.load(path)
                    for cell in self.cells:
                        self.rows_for(path, cell, nth)
                except UserError as error:
                    raise UserError(f"{part.where}{error}") from error
        self.traits = traits

    def check(self, layers: int, hidden: int) -> None:
        """Refuse vectors of another model, layers outside 1..L or without a vector, and a product that overflows."""
        for part, path in self._there():
            at = [part.layer] if isinstance(part.layer, int) else []
            try:
                check_fit(path, self.vectors[path].vectors, layers, hidden, at, flag="layer")
            except UserError as error:
                raise UserError(f"{part.where}{error}") from error
        for cell in self.cells:
            self.check_factor(cell.coef)

    def check_factor(self, factor: float) -> None:
        """Refuse a factor with which a row would be more than float32 can hold."""
        for part, path in self._there():
            try:
                self.vectors[path].check_product(part.coef * factor, "coef")
            except UserError as error:
                raise UserError(f"{part.where}{error}") from error

    def _there(self) -> list[tuple[Part, str]]:
        """Every part of every trait whose vector files are there, with the path of its file."""
        there = [trait for trait in self.traits if trait not in self.to_come]
        return [(part, path) for trait in there for part, path, _ in self.of_trait(trait)]

    def settings(self, trait: str) -> dict:
        """What answers depend on of the steering: the cells, and every part with its vector by its content."""
        cells = {"cells": [cell.key for cell in self.cells]}
        if not any(cell.coef for cell in self.cells) or trait in self.to_come:
            return cells
        parts = self.of_trait(trait)
        told = [
            {"vector": fingerprint(path, self.vectors[path].vectors), **{key: getattr(part, key) for key in KEYS[1:]}}
            for part, path, _ in parts
        ]
        return {**cells, "steering": told, **self.shuffled(list(dict.fromkeys(path for _, path, _ in parts)))}

    def interventions(self, trait: str, cell: Cell) -> tuple:
        """What all parts do at one cell."""
        made: tuple = ()
        if trait in self.to_come:
            return made
        for part, path, nth in self.of_trait(trait):
            made += part.interventions(self.rows_for(path, cell, nth), cell.coef)
        return made
