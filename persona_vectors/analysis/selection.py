"""Select rows of a training set by projection difference, and summarise whole sets (section 6).

Writes the highest, lowest or random rows, or a set without high rows. Works on set files whose rows have ``row`` and a
difference; knows nothing about models.
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
    """(row numbers int64, differences float64) of a set file; NaN where a row has no difference.

    Example:
        numbers, differences = read_differences("output/screening/sets/evil.jsonl", column)
    """
    numbers, values = [], []
    for record in open_rows(path).records():
        content = parse_json(record, path)
        numbers.append(content["row"])
        values.append(numpy.nan if content.get(column) is None else content[column])
    return numpy.array(numbers, dtype=numpy.int64), numpy.array(values, dtype=numpy.float64)


@dataclass
class Selection:
    """Selects rows of a training set by projection difference and writes them as JSONL.

    Attributes:
        name: the set's name.
        source: the training set, JSONL.
        path: the set file with the differences.
        column: the column of differences in ``path``.
        prefix: path prefix of the files written.

    Example:
        Selection("evil", "evil.jsonl", "sets/evil.jsonl", column, "output/evil").write_end("high", k=500, seed=0)
    """

    name: str
    source: str
    path: str
    column: str
    prefix: str

    def write_end(self, end: str, k: int, seed: int) -> dict:
        """Write ``k`` rows to ``<prefix>_<end>_<k>.jsonl``; returns a summary of what was written.

        Args:
            end: ``high`` or ``low`` for the highest or lowest differences, ``random`` for a random draw.

        Raises:
            UserError: fewer than ``k`` rows have a difference.
        """
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
        """Write the set without rows whose difference is above ``limit``, and a list of the dropped rows.

        Rows without a difference are dropped too, since nothing is known about them.
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
    """A DataFrame with one row per vector and set.

    Columns: set, trait, vector, layer, rows, projected (rows with a difference), difference (the mean), spread
    (standard deviation), low and high (95 % interval of the mean).

    Args:
        files: {set name: set file}.
        columns: projection columns with ``difference``, ``trait``, ``vector_name`` and ``layer``.

    Raises:
        UserError: a set without any difference.

    Example:
        table = summarise_sets({"evil": "sets/evil.jsonl", "normal": "sets/normal.jsonl"}, columns)
    """
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
    """The name of a row in the provenance record of a table of shifts.

    Example:
        shift_row("qwen-evil", "evil")  # "qwen-evil, evil"
    """
    return f"{model}, {trait}"


def check_shifts(path: str, pattern: str, sets: list[str], columns: list, common: dict) -> None:
    """Refuse shifts with another base than ``common["model"]``, or along a different vector of the same name."""
    rows = provenance.read(path).get("parts", {})
    for name, column in itertools.product(sets, columns):
        row = shift_row(pattern.replace("{set}", name), column.trait)
        ours = {"base_model": common["model"], "base_adapter": common["adapter"]}
        known = rows.get(row) or {}
        if isinstance(known.get("vector"), dict) and known["vector"].get("name") == column.own.source.name:
            ours["vector"] = column.own.source
        provenance.refuse_mixture({f"{row} in {path}": known, "this command": ours}, list(ours))


def read_shifts(path: str, pattern: str, sets: list[str]) -> dict[tuple[str, str], float]:
    """``{(set, trait): shift}`` from a table of eval.finetuning_shift.

    Args:
        pattern: name of the model trained on a set, with {set} for the set's name.

    Raises:
        UserError: an unreadable table, or one without the model of a set.

    Example:
        read_shifts("output/shift.csv", "toy-{set}", ["evil_normal"])  # {("evil_normal", "evil"): 0.12, ...}
    """
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
