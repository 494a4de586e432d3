"""Choosing rows of a training set by projection difference, and what sets amount to as wholes.

Section 6: the highest, lowest and random rows to train on, sets screened of high rows, means over sets. Knows set files
whose rows have ``row`` and a difference; knows nothing of models.
"""

import itertools
import random
from dataclasses import dataclass

import numpy

from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.atomic import replacing
from persona_vectors.files.jsonfile import parse_json
from persona_vectors.files.rows import JsonlRows, open_rows
from persona_vectors.files.tables import write_table


def read_differences(path: str, column: str) -> tuple[numpy.ndarray, numpy.ndarray]:
    """(row numbers, differences) of a set file, NaN where a row has none."""
    numbers, values = [], []
    for record in open_rows(path).records():
        content = parse_json(record, path)
        numbers.append(content["row"])
        values.append(numpy.nan if content.get(column) is None else content[column])
    return numpy.array(numbers, dtype=numpy.int64), numpy.array(values, dtype=numpy.float64)


@dataclass
class Selection:
    """Rows of ``source`` by the differences in ``column`` of the set file ``path``; files are called ``prefix``_..."""

    name: str
    source: str
    path: str
    column: str
    prefix: str

    def write_end(self, end: str, k: int, seed: int) -> dict:
        """Write the ``k`` rows with the highest or lowest difference, or any at random; returns what was written."""
        numbers, values = read_differences(self.path, self.column)
        there = numpy.flatnonzero(~numpy.isnan(values))
        if k > len(there):
            raise UserError(f"--k {k}: {self.path} has only {len(there)} rows with a difference")
        if end == "random":
            chosen = numpy.array(random.Random(f"{seed}|{self.path}").sample(there.tolist(), k))
        else:
            ordered = there[numpy.argsort(values[there], kind="stable")]
            chosen = ordered[-k:] if end == "high" else ordered[:k]
        path = f"{self.prefix}_{end}_{k}.jsonl"
        self._copy(set(numbers[chosen].tolist()), path)
        return self._written(end, path, values[chosen])

    def _written(self, kind: str, path: str, values: numpy.ndarray) -> dict:
        mean = float(values.mean()) if len(values) else None
        return {
            "set": self.name,
            "column": self.column,
            "kind": kind,
            "rows": len(values),
            "difference": mean,
            "path": path,
        }

    def write_screened(self, limit: float) -> dict:
        """Write the set without rows whose difference is above ``limit``, and the list of dropped ones.

        Rows without a difference are dropped too: nothing is known of them.
        """
        import pandas

        numbers, values = read_differences(self.path, self.column)
        kept = values <= limit  # False for NaN
        screened, dropped = f"{self.prefix}_screened.jsonl", f"{self.prefix}_dropped.csv"
        self._copy(set(numbers[kept].tolist()), screened)
        texts = {}
        gone = set(numbers[~kept].tolist())
        for number, record in enumerate(open_rows(self.source).records()):
            if number in gone:
                exchange = JsonlRows.exchange(record)
                texts[number] = exchange if isinstance(exchange, str) else exchange.answer[:200]
        lines = [
            {
                "row": number,
                "difference": value,
                "reason": "no difference" if numpy.isnan(value) else f"above {limit:g}",
                "answer": texts[number],
            }
            for number, value in zip(numbers[~kept].tolist(), values[~kept].tolist(), strict=True)
        ]
        write_table(pandas.DataFrame(lines, columns=["row", "difference", "reason", "answer"]), dropped)
        return self._written(f"screened, {len(lines)} dropped", screened, values[kept])

    def _copy(self, numbers: set[int], path: str) -> None:
        with replacing(path) as beside, open(beside, "w", encoding="utf-8", newline="\n") as file:
            for number, record in enumerate(open_rows(self.source).records()):
                if number in numbers:
                    file.write(record + "\n")


def summarise_sets(files: dict[str, str], columns: list):
    """A DataFrame with a row per vector and set: rows, projected ones, mean difference, its 95 % interval, spread."""
    import pandas

    lines = []
    for column in columns:
        for name, path in files.items():
            _, values = read_differences(path, column.difference)
            there = values[~numpy.isnan(values)]
            if not len(there):
                raise UserError(f"no row of {path} has a projection difference: see the reasons above")
            spread = float(there.std(ddof=1)) if len(there) > 1 else None
            half = 1.96 * spread / len(there) ** 0.5 if spread is not None else None
            mean = float(there.mean())
            lines.append(
                {
                    "set": name, "trait": column.trait, "vector": column.vector_name, "layer": column.layer,
                    "rows": len(values), "projected": len(there), "difference": mean, "spread": spread,
                    "low": None if half is None else mean - half, "high": None if half is None else mean + half,
                }
            )  # fmt: skip
    return pandas.DataFrame(lines)


def shift_row(model: str, trait: str) -> str:
    """What the record of a table of shifts calls one of its rows."""
    return f"{model}, {trait}"


def check_shifts(path: str, pattern: str, sets: list[str], columns: list, common: dict) -> None:
    """Refuse shifts from another base than ``common["model"]``, or along another vector of the same name."""
    rows = provenance.read(path).get("parts", {})
    for name, column in itertools.product(sets, columns):
        row = shift_row(pattern.replace("{set}", name), column.trait)
        ours = {"base_model": common["model"], "base_adapter": common["adapter"]}
        known = rows.get(row) or {}
        if isinstance(known.get("vector"), dict) and known["vector"].get("name") == column.own.source.name:
            ours["vector"] = column.own.source
        provenance.refuse_mixture({f"{row} in {path}": known, "this command": ours}, list(ours))


def read_shifts(path: str, pattern: str, sets: list[str]) -> dict[tuple[str, str], float]:
    """{(set, trait): shift} from a table of eval.finetuning_shift; ``pattern`` names the model trained on {set}."""
    import pandas

    try:
        table = pandas.read_csv(path, dtype={"model": str, "trait": str})
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the shifts at {path}: {error}") from error
    if not {"model", "trait", "shift"} <= set(table.columns):
        raise UserError(f"{path} has no columns model, trait and shift; eval.finetuning_shift makes such a table")
    by_model = {(row.model, row.trait): row.shift for row in table.itertuples()}
    models = {model for model, _ in by_model}
    found = {}
    for name in sets:
        model = pattern.replace("{set}", name)
        if model not in models:
            raise UserError(f"{path} has no model '{model}' (it has {', '.join(sorted(models))}); see --shift_model")
        found.update({(name, trait): shift for (m, trait), shift in by_model.items() if m == model})
    return found
