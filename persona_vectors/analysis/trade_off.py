"""What a steering gives beside what it costs: a sweep's scores and the table of eval.capability, cell by cell.

A cell is a layer, a coefficient and a control; both tables must be of the same model, vector and positions. Unsteered answers
and measurements are the same at every layer. Knows tables; knows nothing of models.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from persona_vectors.analysis.comparison import Interval, difference
from persona_vectors.analysis.sweeps import cell_means, layer_name, layer_number, unsteered_at, warn_of_doses
from persona_vectors.capability import sheet
from persona_vectors.capability.figure import draw, kind_of, with_intervals
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.tables import write_table

if TYPE_CHECKING:
    import pandas

CELL = ["layer", "coef", "control"]
COLUMNS = [*CELL, "what", "value", "low", "high", "n"]
PER_NAT = "points per nat of KL"
OWN = ("value", "low", "high", "unsteered")  # of :func:`numbers_at`, what is not of controls
SOME = 4  # cells that are named where several are missing
STEERED_BY = ("model", "adapter", "vector", "positions", "steering", "shuffled")  # what both tables must have in common


def read_costs(path: str, sweep: Mapping[str, Mapping | None]) -> "pandas.DataFrame":
    """The table of eval.capability for a sweep's model and vector, with layers as numbers, ``what`` and intervals.

    Args:
        sweep: {file: its record} of the sweep's answers.

    Raises:
        UserError: no such table, or one of another model, adapter, vector or positions; nothing steered in it.

    Example:
        read_costs("capability.csv", {"sweep.csv": provenance.result_of("sweep.csv", "evil")})
    """
    table = with_intervals(sheet.read(path))
    provenance.refuse_mixture({**sweep, path: provenance.result_of(path)}, STEERED_BY)
    if not table["coef"].any():
        raise UserError(
            f"{path} measures nothing steered: python -m eval.capability --coef with the sweep's coefficients"
        )
    table = table[(table["coef"] == 0) | (table["layer"] != "")]
    try:
        numbers = [-1 if layer == "" else layer_number(layer) for layer in table["layer"]]
    except ValueError as error:
        raise UserError(f"{path} has rows without a number in 'layer': {error}") from error
    return table.assign(layer=numbers)


def trade_off(answers: "pandas.DataFrame", costs: "pandas.DataFrame", trait: str) -> "pandas.DataFrame":
    """One row per cell and measure at the layers that both tables steer: the scores first, then what they cost, and where the KL
    was measured the points of trait score gained over the unsteered answers for each nat of it.

    Args:
        answers: of :func:`persona_vectors.analysis.sweeps.read_sweep`.
        costs: of :func:`read_costs`.

    Returns:
        DataFrame with layer (its name), coef, control, what (the trait, coherence, "kl", "refusals: harmless refused", ...),
        value, low, high (95 %) and n; and dose where it is known.

    Example:
        trade_off(read_sweep(["sweep.csv"], "evil"), read_costs("capability.csv", {}), "evil")
    """
    import pandas

    layers = sorted(set(_steered(answers)["layer"]) & set(_steered(costs)["layer"]))
    means = cell_means(answers, trait, CELL).astype({"coef": float})
    scores = []
    for name, what in (("trait", f"{trait} score"), ("coherence", "coherence")):
        mean, error = means[f"{name}_mean"], means[f"{name}_error"]
        ends = {"low": (mean - error).clip(lower=0), "high": (mean + error).clip(upper=100)}
        scores.append(means.assign(what=what, value=mean, **ends))
    found = []
    for part in (pandas.concat(scores), costs):
        part = part.reindex(columns=[*COLUMNS, "dose"])
        unsteered = part[part["coef"] == 0]
        for layer in layers:
            own = part[part["layer"] == layer]
            if not (own["coef"] == 0).any():
                own = pandas.concat([unsteered.drop_duplicates("what").assign(layer=layer), own])
            found.append(own)
    table = pandas.concat(found)
    table = table[table["value"].notna().groupby(table["what"]).transform("any")]  # no coherence, for instance
    table["coef"] = table["coef"].map(_rounded)
    told = answers if "question" in answers else answers.assign(question=range(len(answers)))
    table = pandas.concat([table, _per_nat(told, table, trait)])
    if table["dose"].notna().any():
        doses = table.groupby(["layer", "coef"])["dose"].transform("first")
        table["dose"] = doses.where(table["coef"] != 0, 0.0)
    else:
        table = table.drop(columns="dose")
    order = {what: k for k, what in enumerate(table["what"].unique())}
    table = table.sort_values(
        ["layer", "what", "control", "coef"], key=lambda c: c.map(order) if c.name == "what" else c
    )
    return table.assign(layer=table["layer"].map(layer_name)).reset_index(drop=True)


def _per_nat(answers: "pandas.DataFrame", table: "pandas.DataFrame", trait: str) -> "pandas.DataFrame":
    """Rows of :data:`PER_NAT` of the steered cells that have a score, beside unsteered ones, and a KL above 0.

    Their intervals are those of a quotient, by the delta method: the gain's interval
    (:func:`persona_vectors.analysis.comparison.difference`) and the KL's are taken as independent. There is none where the KL's
    interval reaches 0.
    """
    import pandas

    rows = _steered(table[table["what"] == "kl"]).reset_index(drop=True)
    rows = rows[rows["value"] > 0]
    answers, cells = answers.assign(coef=answers["coef"].map(_rounded)), rows[CELL].itertuples(index=False, name=None)
    gains = [_gain(answers, layer, coef, control, trait) or {} for layer, coef, control in cells]
    gain = pandas.DataFrame(gains, rows.index, ["value", "low", "high"]).astype(float)
    kl, off = rows["value"], (rows["high"] - rows["value"]).fillna(math.inf)  # the other end may be cut at 0
    value = gain["value"] / kl
    error = (((gain["high"] - gain["low"]) / 2) ** 2 + (value * off) ** 2) ** 0.5 / kl
    error = error.where(off < kl)
    found = rows.assign(what=PER_NAT, value=value, low=value - error, high=value + error)
    return found.dropna(subset=["value"])


def _gain(answers: "pandas.DataFrame", layer: int, coef: float, control: str, trait: str) -> Interval | None:
    """What a cell's scores are more than the unsteered ones."""
    own = (answers["layer"] == layer) & (answers["coef"] == coef) & (answers["control"] == control)
    return difference(unsteered_at(answers, layer), answers[own], trait)


def _rounded(coef: float) -> float:
    """A coefficient as tables tell it."""
    return float(f"{coef:.6g}")


def _steered(table: "pandas.DataFrame") -> "pandas.DataFrame":
    return table[table["coef"] != 0]


def unmatched(answers: "pandas.DataFrame", costs: "pandas.DataFrame") -> dict[str, list[str]]:
    """Steered layers and cells in one of the two tables alone, in words: {"sweep": [...], "capability": [...]}.

    Example:
        unmatched(answers, costs)  # {"sweep": ["layer 16"], "capability": ["layer 20, coefficient 3"]}
    """
    found = {}
    both = {"sweep": (_cells(answers), _cells(costs)), "capability": (_cells(costs), _cells(answers))}
    for name, (own, other) in both.items():
        layers = {layer for layer, _, _ in other}
        said = [
            _in_words(*cell) if cell[0] in layers else f"layer {layer_name(cell[0])}" for cell in sorted(own - other)
        ]
        found[name] = list(dict.fromkeys(said))
    return found


def _cells(table: "pandas.DataFrame") -> set[tuple[int, float, str]]:
    """The steered cells of a table."""
    cells = _steered(table)[CELL].itertuples(index=False, name=None)
    return {(int(layer), _rounded(coef), control) for layer, coef, control in cells}


def _in_words(layer: int, coef: float, control: str) -> str:
    return f"layer {layer_name(layer)}, coefficient {coef:g}{control and f', {control}'}"


def read_trade_off(path: str | Path) -> "pandas.DataFrame":
    """What :meth:`TradeOff.write` wrote.

    Example:
        numbers_at(read_trade_off("sweep_tradeoff.csv"), 20, 1.5)["kl"]["value"]
    """
    import pandas

    return pandas.read_csv(path).astype({"control": object}).fillna({"control": ""})


def numbers_at(table: "pandas.DataFrame", layer: int | str | None, coef: float | None) -> dict[str, dict]:
    """Every measure of one cell of a table of :func:`trade_off`.

    Returns:
        {measure: {value, low, high, unsteered, and the mean of each kind of control: random, shuffled}}; None for a number
        that is not known. Empty where there is no such cell.

    Example:
        numbers_at(table, 20, 1.5)["perplexity"]["value"]  # 14.2
    """
    if layer is None or coef is None:
        return {}
    table = table[table["layer"].astype(str) == str(layer)]
    at = table[table["coef"] == _rounded(coef)]
    own, controls = (at[at["control"].eq("") == is_own] for is_own in (True, False))
    unsteered = table[table["coef"] == 0].set_index("what")["value"]
    found = {}
    for row in own.to_dict("records"):
        what = row["what"]
        beside = controls[controls["what"] == what]
        numbers = {name: row[name] for name in ("value", "low", "high")} | {"unsteered": unsteered.get(what)}
        numbers |= beside.groupby(kind_of(beside["control"]))["value"].mean().to_dict()
        found[what] = {name: None if n is None or n != n else float(n) for name, n in numbers.items()}
    return found


def of_controls(numbers: Mapping) -> dict:
    """Of one measure's numbers (:func:`numbers_at`) the means of the controls, by kind.

    Example:
        >>> of_controls({"value": 2.0, "low": 1.6, "high": 2.4, "unsteered": 0.0, "random": 0.2})
        {'random': 0.2}
    """
    return {kind: mean for kind, mean in numbers.items() if kind not in OWN}


def in_words(price: Mapping[str, Mapping]) -> str:
    """A price in one line.

    Example:
        in_words(price)  # "kl 0.31 [0.25, 0.37] (random 0.1), perplexity 9.1 -> 14.2 [12, 16.9] (random 9.9)"
    """
    said = []
    for what, found in price.items():
        number = {name: "-" if value is None else f"{value:.3g}" for name, value in found.items()}
        start = "" if what in ("kl", PER_NAT) else f"{number['unsteered']} -> "
        ends = "" if found["low"] is None or found["high"] is None else f" [{number['low']}, {number['high']}]"
        controls = ", ".join(f"{kind} {number[kind]}" for kind in of_controls(found))
        said.append(f"{what} {start}{number['value']}{ends}{controls and f' ({controls})'}")
    return ", ".join(said)


@dataclass
class TradeOff:
    """A sweep and its table of eval.capability, put together.

    Attributes:
        path: the table of eval.capability.
        table: of :func:`trade_off`.
        alone: of :func:`unmatched`.
        recorded: there is a record of what the table was made from.
    """

    trait: str
    path: str
    table: "pandas.DataFrame"
    alone: dict[str, list[str]]
    recorded: bool

    @classmethod
    def of(cls, answers: "pandas.DataFrame", path: str, trait: str) -> "TradeOff":
        """Read the table for a sweep's answers (:func:`persona_vectors.analysis.sweeps.read_sweep`).

        Raises:
            UserError: a table of another model or vector, or of other layers.

        Example:
            TradeOff.of(read_sweep(["sweep.csv"], "evil"), "capability.csv", "evil").write("sweep", {})
        """
        import pandas

        files = list(answers["file"].unique())
        costs = read_costs(path, {file: provenance.result_of(file, trait) for file in files})
        alone = unmatched(answers, costs)
        if not _cells(answers) & _cells(costs):
            told = "; ".join(f"the {name} has {_some(cells)}" for name, cells in alone.items())
            raise UserError(f"{files[0]} and {path} have no steered cell in common: {told}")
        warn_of_doses(pandas.concat([answers, costs.assign(file=path)], ignore_index=True))
        return cls(trait, path, trade_off(answers, costs, trait), alone, provenance.result_of(path) is not None)

    def price(self, best: Mapping) -> dict | None:
        """What the cell of a recommendation costs: :func:`numbers_at` but for the scores; None where it was not measured."""
        found = numbers_at(self.table, best["layer"], best["coef"])
        return {what: n for what, n in found.items() if what not in (f"{self.trait} score", "coherence")} or None

    def in_words(self, best: Mapping) -> str:
        """The price of a recommendation, and which cells one of the two tables lacks, as lines."""
        price, said = self.price(best), []
        if price:
            said.append(f"  it costs: {in_words(price)}")
        elif best["layer"] is not None:
            said.append(f"  what it costs is not known: {self.path} has no such cell")
        others = {"sweep": self.path, "capability": "the sweep"}
        said += [f"  not in {others[name]}: {_some(cells)}" for name, cells in self.alone.items() if cells]
        if not self.recorded:
            said.append(f"  {self.path} has no record of what it was made from: it is taken as it is")
        return "\n".join(said)

    def write(self, prefix: str, made_from: Mapping) -> list[str]:
        """Write ``<prefix>_tradeoff.csv`` and ``.png``; returns the paths."""
        paths = [f"{prefix}_tradeoff.{ending}" for ending in ("csv", "png")]
        with provenance.writing(paths[0], made_from):
            write_table(self.table, paths[0])
        draw(self.table, paths[1], f"What steering with the {self.trait} vector gives, and costs")
        return paths


def _some(cells: Sequence[str]) -> str:
    """The first of some cells, and how many there are."""
    return "; ".join(cells[:SOME]) + (f" ... ({len(cells)} in all)" if len(cells) > SOME else "")
