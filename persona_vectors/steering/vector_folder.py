"""Vectors by name, for people and programs that steer while a model runs: the chat page and the server.

Knows a folder of vector files and one model's shape. Every word that a request uses is checked here, so that nothing
misspelt is ever answered without the steering that was asked for.
"""

from pathlib import Path
from typing import Any

from persona_vectors.errors import UserError, suggest
from persona_vectors.models.loading import basename
from persona_vectors.sharing.formats import About, read_shared, vector_files
from persona_vectors.sharing.quality import parse, verdict
from persona_vectors.steering.steering_list import Part, parse_parts
from persona_vectors.steering.vector_rows import ALL, VectorRows
from persona_vectors.vectors.storage import KINDS, check_fit

LIST = "steering"  # in a request: a steering list
KEYS = ("vector", "coef", "layer", "steering_type", "kind", LIST)


def find(folder: str | Path, kind: str) -> list[Path]:
    """The vector files of a kind in a folder; told before a model is fetched or converted.

    Raises:
        UserError: an unknown kind, no such folder, or no such vector in it.

    Example:
        find("persona_vectors/toy", "response_avg_diff")
    """
    if kind not in KINDS:
        raise UserError(f"--kind takes one of {', '.join(KINDS)}, not '{kind}'{suggest(kind, KINDS)}")
    return vector_files(folder, kind)


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
        self.layers, self.kind = layers, kind
        self.vectors: dict = {}
        self._files: dict[str, VectorRows] = {}
        self.about: dict[str, About | None] = {}
        for path in find(folder, kind):
            trait = path.stem.removesuffix(f"_{kind}")
            self.vectors[trait], self.about[trait] = read_shared(path)
            check_fit(path, self.vectors[trait], layers, hidden, [])
            self._files[trait] = VectorRows(path, self.vectors[trait])

    def interventions(self, name: Any, coef: Any, layer: Any, positions: Any = "response", kind: Any = "add") -> tuple:
        """The interventions of one vector; none where the coefficient is 0.

        Raises:
            UserError: an unknown name, a coefficient that is no finite number, a layer that does not exist or at which
                the file has no vector, a product that overflows, an unknown kind of positions or of intervention.
        """
        return self.of_part(Part(name, layer, coef, positions, kind))

    def of_part(self, part: Part) -> tuple:
        """:meth:`interventions` of a part whose vector is a name here."""
        name, layer = part.vector, part.layer
        if name not in self.vectors:
            there = ", ".join(self.vectors)
            raise UserError(f"{part.where}no vector '{name}'{suggest(name, self.vectors)}; there are {there}")
        if isinstance(layer, int) and not 1 <= layer <= self.layers:
            raise UserError(f"{part.where}layer of {name} must be 1..{self.layers} or '{ALL}', not {layer}")
        file = self._files[name]
        if not any(row.any() for _, row in file.at(layer)):
            raise UserError(f"{part.where}the file of {name} has no vector at layer {layer}")
        file.check_product(float(part.coef), f"{part.where}coef")
        return part.interventions(file)

    def from_request(self, asked: dict) -> tuple:
        """The interventions that a request spells out.

        That is a list of parts in ``steering`` (:mod:`persona_vectors.steering.steering_list`), or ``vector``, ``coef``,
        ``layer``, and perhaps ``steering_type`` (positions) and ``kind``, each of which may be a list, for several vectors;
        what is said once holds for all of them.

        Raises:
            UserError: something unknown, missing or of another length.
        """
        for key in asked:
            if key not in KEYS:
                raise UserError(f"unknown setting '{key}'{suggest(key, KEYS)}; there are {', '.join(KEYS)}")
        if LIST in asked:
            if len(asked) > 1:
                raise UserError(
                    f"{LIST} says everything itself: leave {', '.join(key for key in asked if key != LIST)} out"
                )
            parts = parse_parts(asked[LIST], LIST)
        else:
            parts = parse_parts(_apart(asked), "the request")
        return tuple(one for part in parts for one in self.of_part(part))

    def doses_of_one(self, trait: str) -> list[float] | None:
        """How long coefficient 1 is at each row, relative to the activations there; None where the file does not tell.

        Example:
            1.5 * named.doses_of_one("evil")[20]  # the dose of coefficient 1.5 at layer 20
        """
        file = self._files[trait]
        doses = [file.dose_of_one(layer) for layer in range(self.layers + 1)]
        return None if None in doses else [float(f"{dose:.4g}") for dose in doses if dose is not None]

    def other_models(self, model: str) -> str:
        """A line for people if files say that they belong to another model than ``model`` (shapes alone can agree)."""
        others = {
            trait: about.model
            for trait, about in self.about.items()
            if about and about.model and basename(about.model) != basename(model)
        }
        listed = ", ".join(f"{trait} of {other}" for trait, other in others.items())
        return f"note: the vector files say that they belong to another model: {listed}" if listed else ""

    def cards(self) -> dict[str, dict]:
        """{trait: its vector's card}, of those files that have one; see :mod:`persona_vectors.sharing.quality`."""
        told = {t: parse(about.quality, self.vectors[t]) for t, about in self.about.items() if about and about.quality}
        return {trait: card for trait, card in told.items() if card}

    def verdicts(self) -> str:
        """What the cards say of each vector, a line each, for people."""
        return "\n".join(f"{trait}: {verdict(card)}" for trait, card in self.cards().items())

    def listing(self) -> list[dict]:
        """What there is, for people and programs: name, layers, what each file says of itself, and its card."""
        cards = self.cards()
        return [
            {
                "name": trait,
                "layers": [number for number in range(1, self.layers + 1) if self.vectors[trait][number].any()],
                "norms": [round(float(row.norm()), 6) for row in self.vectors[trait]],
                "dose_of_1": self.doses_of_one(trait),
                "kind": self.kind,
                "about": None if about is None else {k: v for k, v in vars(about).items() if v and k != "quality"},
                **({"quality": cards[trait]} if trait in cards else {}),
            }
            for trait, about in self.about.items()
        ]


def _apart(asked: dict) -> list[dict]:
    """The list of parts that a request with one value, or a list of values, for each key stands for."""
    missing = [key for key in KEYS[:3] if key not in asked]
    if missing:
        raise UserError(f"steering needs vector, coef and layer; missing: {', '.join(missing)}")
    lists = {key: value if isinstance(value, list) else [value] for key, value in asked.items()}
    count = len(lists["vector"])
    for key, values in lists.items():
        if len(values) not in (1, count) or not values:
            raise UserError(f"{key} has {len(values)} values for {count} vectors")
        lists[key] = values * count if len(values) == 1 else values
    lists = {{"steering_type": "positions"}.get(key, key): values for key, values in lists.items()}
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
