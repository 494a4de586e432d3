"""Draw measures by dose, a panel each: one line a layer, the controls dashed, bars of 95 %.

For what steering costs, and for that beside what it gives (:mod:`persona_vectors.analysis.trade_off`).
"""

from typing import TYPE_CHECKING

from persona_vectors.capability.values import interval

if TYPE_CHECKING:
    import pandas

PANELS = 12
TITLES = {"kl": "kl (nats per token)"}
TITLES |= {f"refusals: {what}": what for what in ("harmless refused", "harmful not refused")}
LIMITS = (("score", (-3, 103)), ("coherence", (-3, 103)), ("refused", (-0.03, 1.03)))  # of y, by how a measure ends


def named(task: str, measure: str) -> str:
    """What a measure of a task is called: "kl", "refusals: harmless refused".

    Example:
        >>> named("kl", "kl"), named("mmlu", "acc")
        ('kl', 'mmlu: acc')
    """
    return task if task == measure else f"{task}: {measure}"


def with_intervals(table: "pandas.DataFrame") -> "pandas.DataFrame":
    """A table of eval.capability with its measures' names (``what``) and the ends of their 95 % intervals (``low``, ``high``)."""
    ends = [interval(*row) for row in table[["task", "measure", "value", "standard_error", "n"]].to_numpy()]
    return table.assign(
        what=[named(*names) for names in table[["task", "measure"]].to_numpy()],
        low=[low for low, _ in ends],
        high=[high for _, high in ends],
    )


def kind_of(controls: "pandas.Series") -> "pandas.Series":
    """Of a column of controls the kinds: "random" of "random 2", "" of the trait's own vector."""
    return controls.str.replace(r" \d+$", "", regex=True)


def axis_of(table: "pandas.DataFrame") -> tuple[str, str]:
    """(column, what it is called) to draw along: the dose where every cell has one, else the coefficient."""
    by_dose = "dose" in table and table["dose"].notna().all()
    return ("dose", "steering dose") if by_dose else ("coef", "steering coefficient")


def draw(table: "pandas.DataFrame", path: str, title: str = "") -> list[str]:
    """Write the figure: a panel for each measure, by dose where it is known.

    Args:
        table: layer, coef, control, what (the panel), value, low, high, and perhaps dose; unsteered rows at every layer.
            Of several controls of a kind the line is the mean, and the bars reach from the lowest end of their intervals
            to the highest.

    Returns:
        The measures drawn: the first :data:`PANELS`.

    Example:
        draw(with_intervals(read("capability.csv")), "capability.png")
    """
    from persona_vectors.plots import curves

    x, xlabel = axis_of(table)
    table = table.assign(x=table[x], kind=kind_of(table["control"])).dropna(subset=["value"])
    layers = list(table["layer"].unique())
    shown = list(table["what"].unique())[:PANELS]
    panels = []
    for what in shown:
        rows = table[table["what"] == what]
        lines, dashed = [], []
        for k, layer in enumerate(layers):
            own, name = rows[rows["layer"] == layer], "unsteered" if layer == "" else f"layer {layer}"
            line = own[own["kind"] == ""]
            lines.append((k, name, line))
            for kind, controls in own[own["kind"] != ""].groupby("kind"):
                ends = controls.groupby("coef").agg({"x": "first", "value": "mean", "low": "min", "high": "max"})
                start = line[line["coef"] == 0].set_index("coef")[list(ends)]
                dashed.append((k, f"{name}, {kind}", ends.combine_first(start)))
        panel = {"title": TITLES.get(what, what), "lines": lines, "dashed": dashed, "log": "perplexity" in what}
        panels.append(panel | {"limits": next((limits for end, limits in LIMITS if what.endswith(end)), None)})
    curves(panels, path, xlabel=xlabel, title=title)
    return shown
