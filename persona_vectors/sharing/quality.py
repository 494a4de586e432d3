"""A vector's card as it travels with the vector: what eval.vector_quality found, as one short JSON text of the file's metadata.

It has the names of ``<vector>_quality.json``, with numbers of four digits, and ``of``: the fingerprint of the vector that it is
of. A card without that proof is of nobody. Knows cards and vectors; knows nothing of models.
"""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import same
from persona_vectors.files.jsonfile import json_object, read_json, to_json
from persona_vectors.vectors.storage import fingerprint, split_key, vector_name

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

LIMIT = 1 << 16  # characters of a card in metadata
BY_LAYER = ("pair_cosine", "auc", "d_prime", "half_cosine")  # of the pairs, what tables show
ROWS = 5  # layers in a table


def path_beside(vector: str | Path, ending: str = ".json") -> Path:
    """Where eval.vector_quality writes the card of a vector (``.json``), or its figure (``.png``), unless told otherwise.

    Example:
        path_beside("v/evil_response_avg_diff.pt")  # Path("v/evil_response_avg_diff_quality.json")
    """
    return split_key(vector)[0].with_name(f"{vector_name(vector)}_quality{ending}")


def find(vector: str | Path, rows: "Tensor", say: Callable[[str], object] = logger.warning) -> str:
    """The card that lies beside a vector file, as metadata; "" where there is none, or none of this vector.

    Args:
        rows: what the file holds, [layers + 1, hidden].
        say: gets a line where a card is left out, with the reason.

    Example:
        about = replace(about, quality=find("evil_response_avg_diff.pt", vectors))
    """
    path = path_beside(vector)
    if not path.is_file():
        return ""
    try:
        card, record = read_json(path), provenance.result_of(path) or {}
        whose = record.get("vector")
        if whose is None:
            problem = "nothing records which vector it is of"
        elif not same(whose, fingerprint(vector, rows)):
            problem = f"it is of another vector than {vector}"
        elif not provenance.compare(path, record).unchanged:
            problem = "it was changed after it was written"
        else:
            text = compact(card, rows)
            problem = "" if parse(text, rows) else "it is no card of eval.vector_quality"
    except UserError as error:
        problem = str(error)
    if problem:
        say(f"{path} is left out: {problem} (python -m eval.vector_quality makes it anew)")
        return ""
    return text


def compact(card: dict, rows: "Tensor") -> str:
    """A card as metadata: without local paths, and without a sweep's single cells where it would be longer than :data:`LIMIT`.

    Raises:
        UserError: it is too long all the same.
    """
    told = {name: value for name, value in card.items() if name not in ("vector", "mean_norm")}
    model = str(card.get("model", ""))
    told["model"] = Path(model).name if Path(model).exists() else model
    if isinstance(card.get("pairs"), dict):
        told["pairs"] = {
            name: value for name, value in card["pairs"].items() if name not in ("read_from", "mean_norms")
        }
    told = _rounded(told) | {"of": fingerprint("", rows).id}
    text = to_json(told)
    if len(text) > LIMIT and isinstance(told.get("sweep"), dict):
        told["sweep"] = {name: value for name, value in told["sweep"].items() if name != "cells"}
        text = to_json(told)
    if len(text) > LIMIT:
        raise UserError(f"it has {len(text)} characters, {LIMIT} at most travel with a vector")
    return text


def _rounded(value: Any) -> Any:
    """The same with four digits for every number, and None for what is no number."""
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value


def parse(text: str, rows: "Tensor") -> dict | None:
    """The card in a vector file's metadata, which any program may have written; None where it is none of these vectors.

    Args:
        rows: the file's vectors, [layers + 1, hidden].

    Example:
        parse(about.quality, vectors)["verdict"]  # "works at layers 16-20, dose 0.3 to 0.6; ..."
    """
    card = json_object(text) if 0 < len(text) <= LIMIT else None
    if card is None or not isinstance(card.get("verdict"), str) or card.get("of") != fingerprint("", rows).id:
        return None
    pairs = card.get("pairs")
    lists = [card.get("dose_of_1"), *(pairs.get(name) for name in BY_LAYER)] if isinstance(pairs, dict) else [None]
    return card if all(_is_by_row(numbers, len(rows)) for numbers in lists) else None


def _is_by_row(numbers: Any, count: int) -> bool:
    """Whether this is a list of one number, or None, per row."""
    return (
        isinstance(numbers, list)
        and len(numbers) == count
        and all(n is None or _number(n) is not None for n in numbers)
    )


def _number(value: Any, *names: str) -> float | None:
    """A number, or the one under these names; None for whatever else is there."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def verdict(card: dict) -> str:
    """A card's verdict, on one line whatever the metadata holds."""
    return " ".join(card["verdict"].split())[:1000]


def best_layers(card: dict) -> list[int]:
    """The layers where the pairs agree most, and that of the sweep's best cell, ascending; none where pairs tell nothing."""
    cosines = card["pairs"]["pair_cosine"]
    layers = [layer for layer in range(1, len(cosines) - 1) if cosines[layer] is not None]
    found = sorted(layers, key=lambda layer: -cosines[layer])[:ROWS]
    best = _number(card, "sweep", "best", "layer")
    return sorted({*found, *([int(best)] if best in layers else [])})


def table(card: dict) -> list[str]:
    """A Markdown table of the best layers; nothing where the pairs tell nothing of any."""
    layers = best_layers(card)
    if not layers:
        return []
    columns: dict[str, Callable[[int], str]] = {
        "layer": str,
        "cosine of two pairs": lambda layer: _told(card["pairs"]["pair_cosine"][layer]),
        "held-out AUC": lambda layer: _told(card["pairs"]["auc"][layer]),
        "d'": lambda layer: _told(card["pairs"]["d_prime"][layer]),
        "halves of the pairs": lambda layer: _told(card["pairs"]["half_cosine"][layer]),
        "dose of coefficient 1": lambda layer: _told(card["dose_of_1"][layer], "{:.3g}"),
    }
    if isinstance(card.get("sweep"), dict):
        of = lambda layer, name: _number(card, "sweep", "layers", str(layer), name, "value")  # noqa: E731
        columns["points per 0.1 of dose"] = lambda layer: _told(of(layer, "per_dose"), "{:+.1f}", 0.1)
        columns["questions moved the wrong way"] = lambda layer: _told(of(layer, "wrong_way"), "{:.0f} %", 100)
    lines = [list(columns), ["---"] * len(columns), *([make(layer) for make in columns.values()] for layer in layers)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _told(number: float | None, form: str = "{:.2f}", times: float = 1) -> str:
    return "" if number is None else form.format(number * times)
