"""Draw the toolkit's figures: steering curves, heat maps, scatter plots, histograms, in a colour-blind-safe palette.

Works on tables and numbers; knows nothing about models. matplotlib is imported on first use.
"""

from collections.abc import Sequence
from pathlib import Path

from persona_vectors.files.atomic import replacing

# The Okabe-Ito palette
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
DPI = 160  # pixels an inch; type is 7 to 10 points
TYPE = 8  # points: of every text in figures of small panels
PAGE = 11.6  # inches: what fits the column of the report at 96 pixels an inch


def new_figure(columns: int = 1, width: float = 4.2, height: float = 3.2, per_row: int | None = None):
    """A figure with ``columns`` panels side by side, drawn without a display; those that have no room go on in a next row.

    Args:
        width, height: of one panel, in inches.
        per_row: panels of a row; by default as many as fit the report's page (:data:`PAGE`).

    Returns:
        (figure, list of axes, row after row).

    Example:
        figure, (axis,) = new_figure()
        axis.plot([0, 1, 2], [5, 40, 90])
        save_figure(figure, "curve.png")
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    per_row = per_row or min(columns, max(1, int(PAGE // width)))
    rows = -(-columns // per_row)
    size = width * per_row, height * rows
    figure, axes = pyplot.subplots(rows, per_row, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_prop_cycle(color=COLOURS)
    for axis in axes.flat[columns:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:columns])


def labels(paths: Sequence[str], names: Sequence[str]) -> list[str]:
    """Short names of files for figures: ``names``; with the folder's name if two are the same; else the paths themselves.

    Example:
        labels(["a/x.csv", "b/x.csv"], ["x", "x"])  # ["a/x", "b/x"]
    """
    found = list(names)
    if len(set(found)) < len(found):
        found = [f"{Path(path).parent.name}/{name}" for path, name in zip(paths, names, strict=True)]
    return found if len(set(found)) == len(found) else list(paths)


def save_figure(figure, path: str | Path) -> None:
    """Write a figure as PNG, atomically, and close it."""
    from matplotlib import pyplot

    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=DPI)
    pyplot.close(figure)


def steering_curves(
    lines: list,
    trait: str,
    path: str | Path,
    title: str = "",
    controls: Sequence = (),
    min_coherence: float = 75,
    x: str = "coef",
    xlabel: str = "steering coefficient",
) -> None:
    """Trait score and coherence against the coefficient (or another ``x``), one line per layer, with 95 % bands.

    Args:
        lines: (label, DataFrame with coef, trait_mean, trait_error, coherence_mean, coherence_error) per layer; errors
            are half-widths of the 95 % interval.
        controls: the same for random vectors, in the order of the layers; drawn dashed.
        min_coherence: drawn dotted; 0 is not.
        x, xlabel: the column along which the lines go, and what it is called.

    Example:
        steering_curves([("layer 20", table)], "evil", "evil_curves.png")
    """
    figure, axes = new_figure(columns=2)
    for axis, metric, label in zip(axes, ("trait", "coherence"), (f"{trait} score", "coherence"), strict=True):
        for name, line in lines:
            line = line.sort_values(x)
            mean, error = line[f"{metric}_mean"], line[f"{metric}_error"].fillna(0)
            axis.plot(line[x], mean, marker="o", markersize=3, label=name)
            axis.fill_between(line[x], mean - error, mean + error, alpha=0.15, linewidth=0)
        for k, (name, line) in enumerate(controls):
            line = line.sort_values(x)
            axis.plot(line[x], line[f"{metric}_mean"], "--", color=COLOURS[k % len(COLOURS)], linewidth=1, label=name)
        axis.set(xlabel=xlabel, ylabel=f"{label} (0-100)", ylim=(-3, 103))
    if min_coherence:
        axes[1].axhline(min_coherence, color="grey", linewidth=0.8, linestyle=":")
    axes[0].legend(frameon=False, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    save_figure(figure, path)


def curves(panels: list[dict], path: str | Path, *, xlabel: str, title: str = "") -> None:
    """Small panels in two columns, 365 pixels wide on a page: lines whose bars reach to ``low`` and ``high``; one legend.

    Args:
        panels: dicts with ``title``; ``lines`` and ``dashed``: (number of the colour, label, DataFrame with x, value, low and
            high, NaN where not known); perhaps ``limits`` of y; ``log``: a logarithmic y where values spread by more than five.

    Example:
        line = pandas.DataFrame({"x": [0, 1], "value": [9, 71], "low": [7, 66], "high": [11, 76]})
        curves([{"title": "evil score", "lines": [(0, "layer 20", line)], "dashed": []}], "evil.png", xlabel="dose")
    """
    from matplotlib import rc_context, ticker

    with rc_context({"font.size": TYPE, "axes.titlesize": TYPE, "figure.titlesize": TYPE, "legend.fontsize": TYPE}):
        figure, axes = new_figure(columns=len(panels), width=1.9, height=1.6, per_row=2)
        handles: dict = {}
        for axis, panel in zip(axes, panels, strict=False):
            drawn = [(style, *line) for style, name in (("-", "lines"), ("--", "dashed")) for line in panel[name]]
            for style, colour, label, line in drawn:
                line = line.sort_values("x")
                ends = (line["value"] - line["low"]).clip(0), (line["high"] - line["value"]).clip(0)
                handles[label] = axis.errorbar(
                    line["x"], line["value"], yerr=[end.fillna(0) for end in ends], linestyle=style, marker="o",
                    color=COLOURS[colour % len(COLOURS)], markersize=2.5, linewidth=1, elinewidth=0.8, capsize=1.5,
                )  # fmt: skip
            values = [value for *_, line in drawn for value in line["value"] if value > 0]
            if panel.get("log") and values and max(values) > 5 * min(values):
                axis.set_yscale("log")
                axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
                axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:.3g}"))
                axis.yaxis.set_minor_formatter(ticker.NullFormatter())
            axis.set(title=panel["title"], ylim=panel.get("limits"))
        for axis in axes[len(panels) - 2 : len(panels)]:
            axis.set_xlabel(xlabel)
        figure.suptitle(title)
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=2, frameon=False)
        save_figure(figure, path)


def heat_map(grid, path: str | Path, *, xlabel: str, ylabel: str, title: str) -> None:
    """Draw a DataFrame of scores 0-100 (rows: y, columns: x) as a heat map with the numbers in its cells.

    Example:
        heat_map(table, "evil_heatmap.png", xlabel="coefficient", ylabel="layer", title="evil")
    """
    heat_maps([(title, grid)], path, xlabel=xlabel, ylabel=ylabel)


def heat_maps(
    panels: list,
    path: str | Path,
    *,
    xlabel: str,
    ylabel: str,
    label: str = "score (0-100)",
    limits: tuple[float, float] = (0, 100),
    digits: int | None = 0,
) -> None:
    """Draw heat maps side by side.

    Args:
        panels: (title, DataFrame) each; rows: y, columns: x.
        label: of the colour bar.
        limits: values at the ends of the colour scale.
        digits: decimals of the numbers in the cells; None leaves them out.

    Example:
        heat_maps([("evil", a), ("sycophantic", b)], "maps.png", xlabel="coefficient", ylabel="layer")
    """
    cells = max(len(grid.columns) for _, grid in panels), max(len(grid) for _, grid in panels)
    size = (0.55, 0.4) if digits is not None else (0.07, 0.06)
    width, height = (max(1.6 + size[0] * cells[0], 2.8), max(1.4 + size[1] * cells[1], 2.4))
    figure, axes = new_figure(columns=len(panels), width=width, height=height)
    low, high = limits
    for axis, (title, grid) in zip(axes, panels, strict=True):
        values = grid.to_numpy(float)
        image = axis.imshow(values, cmap="cividis", vmin=low, vmax=high, aspect="auto", origin="lower")
        step = 1 if digits is not None else 5
        words = [f"{x:g}" if isinstance(x, int | float) else str(x) for x in grid.columns]
        axis.set_xticks(range(0, len(words), step), words[::step], rotation=90 if max(map(len, words)) > 6 else 0)
        axis.set_yticks(range(0, len(grid), step), [str(y) for y in grid.index][::step])
        for y, row in enumerate(values) if digits is not None else ():
            for x, value in enumerate(row):
                if value == value:
                    colour = "white" if value < (low + high) / 2 else "black"
                    axis.text(x, y, f"{value:.{digits}f}", ha="center", va="center", fontsize=7, color=colour)
        axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
        axis.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label=label)
    save_figure(figure, path)


def scatter(panels: list[dict], path: str | Path, *, xlabel: str, ylabel: str, ylim: tuple | None = None) -> None:
    """Scatter plots with the least-squares line and its 95 % band, one panel per dict.

    Args:
        panels: dicts with ``title``; ``groups``: {label: (x values, y values)}, each with its own colour and marker;
            ``line`` (default True): fit a line to all groups together.

    Example:
        panel = {"title": "evil", "groups": {"normal": ([0.1, 0.2], [5, 9]), "level II": ([1.3], [80])}}
        scatter([panel], "shift.png", xlabel="finetuning shift", ylabel="trait score")
    """
    figure, axes = new_figure(columns=len(panels), width=3.8, height=3.4)
    for axis, panel in zip(axes, panels, strict=True):
        groups = {name: points for name, points in panel["groups"].items() if len(points[0])}
        colours = palette(len(groups))
        for k, (name, (x, y)) in enumerate(groups.items()):
            axis.scatter(
                x, y, s=16, color=colours[k], marker=MARKERS[k % len(MARKERS)], alpha=0.75, linewidth=0, label=name
            )
        if panel.get("line", True):
            _line_with_band(
                axis, [v for x, _ in groups.values() for v in x], [v for _, y in groups.values() for v in y]
            )
        axis.set(xlabel=xlabel, ylabel=ylabel)
        axis.set_title(panel["title"], fontsize=9)
        if ylim:
            axis.set_ylim(*ylim)
        if len(groups) > 1:
            axis.legend(frameon=False, fontsize=6, handletextpad=0.2, borderpad=0.2)
    save_figure(figure, path)


MARKERS = "os^Dv<>P*X"


def palette(count: int) -> list:
    """Up to six colours of the palette; for more groups, steps of viridis, which colour-blind readers can order."""
    if count <= 6:
        return list(COLOURS[:count])
    from matplotlib import colormaps

    return [colormaps["viridis"](k / (count - 1)) for k in range(count)]


def _line_with_band(axis, of_x: list[float], of_y: list[float]) -> None:
    """The least-squares line and the 95 % band of its mean; nothing under three points or without spread."""
    import numpy

    x, y = numpy.asarray(of_x, float), numpy.asarray(of_y, float)
    n = len(x)
    if n < 3 or x.std() == 0:
        return
    slope, offset = numpy.polyfit(x, y, 1)
    at = numpy.linspace(x.min(), x.max(), 100)
    axis.plot(at, slope * at + offset, color="black", linewidth=1, zorder=0)
    spread = numpy.sqrt(((y - slope * x - offset) ** 2).sum() / (n - 2))
    error = student_t(n - 2) * spread * numpy.sqrt(1 / n + (at - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    axis.fill_between(
        at, slope * at + offset - error, slope * at + offset + error, color="black", alpha=0.12, linewidth=0
    )


def student_t(freedom: int) -> float:
    """The 97.5 % quantile of Student's t: exact for 1 and 2 degrees of freedom, else an expansion (error < 1 %).

    Example:
        student_t(10)  # 2.228
    """
    if freedom <= 2:
        return {1: 12.706, 2: 4.303}[freedom]
    z = 1.959964
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / freedom**k for k, term in enumerate(terms))


def histograms(panels: list[dict], path: str | Path, *, xlabel: str, ylabel: str = "share of rows") -> None:
    """Outlined histograms over common bins, one panel per dict with ``title`` and ``groups``: {label: values}.

    Example:
        panel = {"title": "evil", "groups": {"normal": [0.1, 0.3, 0.2], "level II": [1.1, 1.4]}}
        histograms([panel], "differences.png", xlabel="projection difference")
    """
    import numpy

    figure, axes = new_figure(columns=len(panels), width=3.8, height=3.2)
    for axis, panel in zip(axes, panels, strict=True):
        groups = {name: numpy.asarray(values) for name, values in panel["groups"].items() if len(values)}
        colours = palette(len(groups))
        if groups:
            everything = numpy.concatenate(list(groups.values()))
            bins = numpy.linspace(everything.min(), everything.max() + 1e-9, 41)
        for k, (name, values) in enumerate(groups.items()):
            weights = numpy.full(len(values), 1 / len(values))
            axis.hist(values, bins, weights=weights, histtype="step", color=colours[k], linewidth=1.2, label=name,
                      linestyle=("-", "--", ":", "-.")[k % 4])  # fmt: skip
        axis.set(xlabel=xlabel, ylabel=ylabel)
        axis.set_title(panel["title"], fontsize=9)
        if groups:
            axis.legend(frameon=False, fontsize=6)
    save_figure(figure, path)
