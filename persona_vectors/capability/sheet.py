"""One table of what steering costs in the making: which measurements are planned, which are done, what is written.

A measurement is a cell of the grid and a task. Unsteered ones (coefficient 0) are the same at every layer: they are
made once and shown at each. Each is in the journal as soon as it is done.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from persona_vectors.capability.figure import draw, with_intervals
from persona_vectors.capability.values import Value
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.journal import Journal
from persona_vectors.files.jsonfile import write_json
from persona_vectors.files.tables import write_table
from persona_vectors.steering.sweep import Cell

if TYPE_CHECKING:
    import pandas

COLUMNS = ("coef", "layer", "control", "task", "measure", "value", "standard_error", "n")


class CapabilitySheet:
    """The measurements of one output.

    Args:
        output: beginning of the files: ``.csv``, ``.json`` and ``.png``.
        settings: what the numbers depend on, the model by its content.
    """

    def __init__(self, output: str, cells: Sequence[Cell], tasks: Sequence[str], settings: dict) -> None:
        self.output, self.path, self.cells, self.tasks = output, f"{output}.csv", list(cells), list(tasks)
        self.settings = provenance.record(**settings)
        self.done: dict[str, dict] = {}
        self.reference: list = []
        self.journal: Journal | None = None

    @staticmethod
    def key(cell: Cell, task: str) -> str:
        """What a measurement is called in the journal."""
        return "|".join(map(str, [*(cell.key if cell.coef else ["unsteered"]), task]))

    @property
    def is_done(self) -> bool:
        """Whether the table is there and no journal says that something is missing from it."""
        return Path(self.path).exists() and not Journal.settings_of(self.path)

    def take_up(self) -> bool:
        """Whether the table that is there may be used for these settings; see :func:`provenance.take_up`."""
        return provenance.take_up(self.path, self.settings)

    @contextmanager
    def opened(self, overwrite: bool = False) -> Iterator[None]:
        """Take up what an earlier run left, and keep what is added; ``overwrite`` begins anew where settings were others."""
        self.journal = Journal(self.path, self.settings, overwrite=overwrite)
        if not self.journal.records and not overwrite and Path(self.path).exists():
            self.journal.close(remove=True)
            raise UserError(f"{self.path} has appeared since this run began; --overwrite makes it anew")
        self.done = {record["key"]: record for record in self.journal.records if "key" in record}
        for record in self.journal.records:
            self.reference = record.get("reference", self.reference)
        try:
            yield
        finally:
            self.journal.close()

    def missing(self) -> Iterator[tuple[Cell, str]]:
        """Measurements still to be made, each once; a cell's tasks one after another."""
        planned = {self.key(cell, task): (cell, task) for cell in self.cells for task in self.tasks}
        yield from ((cell, task) for key, (cell, task) in planned.items() if key not in self.done)

    def keep_reference(self, answers: list) -> None:
        """Keep [prompt ids, answer ids] of the unsteered model's answers, over which steered ones are compared with it."""
        assert self.journal is not None
        self.journal.append({"reference": answers})
        self.reference = answers

    def add(self, cell: Cell, task: str, values: Sequence[Value], details: object = None) -> None:
        """Keep a measurement; ``details`` go into the JSON."""
        assert self.journal is not None
        key = self.key(cell, task)
        self.done[key] = {"key": key, "values": [value.as_dict() for value in values], "details": details}
        self.journal.append(self.done[key])

    def table(self) -> "pandas.DataFrame":
        """One row per cell and measure: coef, layer, control, task, measure, value, standard_error, n, and dose where it is known."""
        import pandas

        rows, columns = [], [*COLUMNS, *(["dose"] if any(cell.dose for cell in self.cells) else [])]
        for cell in self.cells:
            layer = "" if cell.layer is None else cell.layer
            at = {"coef": cell.coef, "layer": layer, "control": cell.control_name, "dose": cell.dose}
            for task in self.tasks:
                rows += [at | value for value in self.done[self.key(cell, task)]["values"]]
        return pandas.DataFrame(rows, columns=columns)

    def write(self, about: dict) -> "pandas.DataFrame":
        """Write the CSV, the JSON with ``about`` and all details, and the figure; the journal goes."""
        assert self.journal is not None
        table = self.table()
        planned = [(cell, task) for cell in self.cells for task in self.tasks]
        cells = [asdict(cell) | {"task": task} | self.done[self.key(cell, task)] for cell, task in planned]
        figure = draw(with_intervals(table), f"{self.output}.png")
        write_json(f"{self.output}.json", {**about, "figure": figure, "cells": cells})
        with provenance.writing(self.path, self.settings):
            write_table(table, self.path)
        self.journal.close(remove=True)
        return table


def read(path: str | Path) -> "pandas.DataFrame":
    """A finished table."""
    import pandas

    try:
        table = pandas.read_csv(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is not readable as CSV: {str(error).strip()}") from error
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise UserError(f"{path} is no table of eval.capability: it has no column '{missing[0]}'")
    for name in ("coef", "value", "standard_error", "n", *(["dose"] if "dose" in table else [])):
        try:
            table[name] = pandas.to_numeric(table[name]).astype(float)
        except (ValueError, TypeError) as error:
            raise UserError(f"{path} has rows without a number in '{name}': {str(error).strip()}") from error
    return table.astype({"control": object, "layer": object}).fillna({"control": "", "layer": ""})


def in_words(table: "pandas.DataFrame") -> str:
    """The table for a terminal: a row per measure, a column per cell with its dose where it is known, with standard errors."""
    doses = table["dose"] if "dose" in table else [math.nan] * len(table)
    wide = table.assign(
        told=[
            "-" if v != v or v is None else f"{v:.4g}" + ("" if e is None or e != e else f" +- {e:.2g}")
            for v, e in zip(table["value"], table["standard_error"], strict=True)
        ],
        cell=[
            "unsteered"
            if not coef
            else f"{coef:g} at {layer}{f' (dose {dose:.3g})' if dose == dose else ''} {control}".strip()
            for coef, layer, control, dose in zip(*(table[n] for n in ("coef", "layer", "control")), doses, strict=True)
        ],
        what=[t if t == m else f"{t} {m}" for t, m in zip(table["task"], table["measure"], strict=True)],
    ).drop_duplicates(["what", "cell"])
    shown = wide.pivot(index="what", columns="cell", values="told")
    shown = shown.reindex(index=wide["what"].unique(), columns=wide["cell"].unique())
    return shown.rename_axis(index=None, columns=None).to_string()
