"""Check that the results in a report belong together: one base model, and one vector per trait.

Depends on where scripts/reproduce.sh puts results, and on their provenance records.
"""

from collections import defaultdict
from pathlib import Path

from persona_vectors.files import provenance
from persona_vectors.files.jsonfile import json_object
from persona_vectors.sharing.formats import name_of


def refuse_mixed_results(
    traits: list[str], folder: Path, steering: str | None, mitigation: str | None, quality: str
) -> list[str]:
    """Compare the records of a report's results; returns the files that are there and have none.

    Args:
        folder: the output folder of scripts/reproduce.sh.
        steering: path prefix of the sweep's files; {trait} is filled in.
        mitigation: path prefix of eval.mitigation's files.
        quality: path prefix of eval.vector_quality's files; {trait} is filled in.

    Raises:
        UserError: two results come from different base models, or from different vectors of one trait.

    Example:
        unrecorded = refuse_mixed_results(["evil"], Path("output/reproduce/toy"), None, None, "{trait}_quality")
    """
    models: dict = {}
    vectors: dict = defaultdict(dict)
    unknown = []

    def see(path: str | Path, record: dict | None, model: str = "model") -> dict:
        if record is None and Path(path).is_file():
            unknown.append(str(path))
        if record and model in record:
            models[path] = {"model": record[model]}
        return record or {}

    for trait in traits:
        if steering:
            for ending in (".csv", "_best.json", "_tradeoff.csv"):
                path = steering.replace("{trait}", trait) + ending
                vectors[trait][path] = see(path, provenance.result_of(path))
        card = f"{quality.replace('{trait}', trait)}.json"
        vectors[trait][card] = see(card, provenance.result_of(card))
        for file in sorted(folder.glob(f"monitoring/{trait}_*.csv")):
            see(file, provenance.result_of(file))
            vectors[trait][file] = provenance.read(file).get("parts", {}).get(_column(file.with_suffix(".json")))
        for file in sorted((folder / "selected" / trait).glob("*.csv")):
            record = provenance.result_of(file) if file.stem in ("high", "low", "random") else {}
            see(
                file, None if record is None else record if record.get("adapter") else {}
            )  # else all weights were trained
    table = folder / "shift.csv"
    shifts = provenance.read(table).get("parts", {})
    for row, record in shifts.items() or [("", None)]:
        record = see(table, record if isinstance(record, dict) else None, "base_model")
        vectors[row.rpartition(", ")[2]][f"{row} in {table}"] = record
    sets = folder / "screening" / "sets.csv"
    for name, vector in see(sets, provenance.result_of(sets)).get("vectors", {}).items():
        vectors[name_of(f"{name}.pt")[0] if "_diff" in name else name][f"{name} in {sets}"] = {"vector": vector}
    if mitigation:
        compared = f"{mitigation}.csv"
        for trait, known in see(compared, provenance.result_of(compared)).get("vectors", {}).items():
            vectors[trait][compared] = {"vector": known[0]} if known else {}
    provenance.refuse_mixture(models, ("model",))
    for records in vectors.values():
        provenance.refuse_mixture(records, ("vector",))
    return unknown


def _column(path: Path) -> str:
    """The column of projections whose correlation a file of eval.monitor tells."""
    return str((json_object(path.read_bytes()) or {}).get("column")) if path.is_file() else ""
