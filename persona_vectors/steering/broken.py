"""From which dose on a vector broke coherence, as far as files beside it tell, and what a run would steer beyond it.

Such files are the vector's card (``<vector>_quality.json``, or in the metadata of the vector's own file) and ``*_best.json`` of
eval.select_layer or eval.search, where their records prove that they are of this vector. Knows files and cells; loads no model.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import same
from persona_vectors.files.jsonfile import read_json
from persona_vectors.sharing import quality
from persona_vectors.sharing.formats import read_shared
from persona_vectors.steering.sweep import Grid
from persona_vectors.vectors.storage import fingerprint, split_key

if TYPE_CHECKING:
    from torch import Tensor


ROUNDED = 1e-3  # doses have four digits


def beyond(grid: Grid, trait: str) -> str:
    """One line on the cells whose dose is where coherence broke, and the file that says so; "" where nothing says so.

    Args:
        grid: loaded; cells without a dose tell nothing, nor does a steering list.

    Example:
        beyond(grid, "evil")  # "v/evil_best.json says that coherence fell below 75 at such doses: 0.9 at layer 20 (from 0.8 on)"
    """
    if grid.vector_path is None or trait not in grid.vectors:
        return ""
    doses: dict[tuple[str, bool], float] = {}  # by layer and whether below 0, the longest
    for cell in grid.cells_of(trait):
        if cell.dose:
            place = (str(cell.layer), cell.dose < 0)
            doses[place] = max(cell.dose, doses.get(place, 0.0), key=abs)
    path, rows, positions = grid.path_for(trait), grid.vectors[trait].vectors, grid.positions
    for file, told in _told(path, rows, positions) if doses else ():
        floor, past = told.get("min_coherence"), []
        for (layer, negative), dose in doses.items():
            found = told.get("broken_below" if negative else "broken_from")
            limit = found.get(layer) if isinstance(found, dict) else None
            if _is_number(limit) and abs(dose) >= abs(limit) * (1 - ROUNDED):
                past.append(f"{dose:.3g} at layer {layer} (from {limit:.3g} on)")
        if past:
            below = f" below {floor:g}" if _is_number(floor) else ""
            return f"{file} says that coherence fell{below} at such doses: {', '.join(past)}"
    return ""


def _told(path: str, rows: "Tensor", positions: str) -> Iterator[tuple[Path, dict]]:
    """The files that tell of this vector, and what has ``broken_from`` in them."""
    of, file = fingerprint(path, rows), split_key(path)[0]
    cards = [quality.path_beside(path)]
    for beside in [*cards, *sorted(file.parent.glob("*_best.json"))]:
        try:
            content, record = read_json(beside), provenance.result_of(beside) or {}
        except UserError:  # nothing there, or nothing that can be read: it tells nothing
            continue
        ours = "vector" in record and same(record["vector"], of) and record.get("positions", positions) == positions
        told: Any = content.get("sweep") if beside in cards else content
        if ours and isinstance(told, dict):
            yield beside, told
    try:
        about = read_shared(path)[1]
    except (UserError, OSError):
        return
    card = quality.parse(about.quality, rows) if about else None
    if card and isinstance(card.get("sweep"), dict):
        yield file.with_suffix(".safetensors"), card["sweep"]


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
