"""Figures: what people would rather look at than read. Colours that colour-blind readers tell apart, labelled axes.

Knows matplotlib and tables; knows nothing of models.
"""

from pathlib import Path

from persona_vectors.results import replacing

# Okabe & Ito's palette
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")


def new_figure(columns: int = 1, width: float = 4.2, height: float = 3.2):
    """A figure with ``columns`` panels side by side, drawn without a screen. Returns (figure, list of axes)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, columns, figsize=(width * columns, height), layout="constrained", squeeze=False)
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_prop_cycle(color=COLOURS)
    return figure, list(axes[0])


def save_figure(figure, path: str | Path) -> None:
    """Write a figure as PNG, whole or not at all, and free it."""
    from matplotlib import pyplot

    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=160)
    pyplot.close(figure)


def steering_curves(lines: list, trait: str, path: str | Path, title: str = "") -> None:
    """Trait score and coherence against the coefficient, one line per layer, with 95 % bands.

    Args:
        lines: (label, DataFrame with coef, trait_mean, trait_error, coherence_mean, coherence_error) per layer; errors
            are half-widths of the 95 % interval.
    """
    figure, axes = new_figure(columns=2)
    for axis, metric, label in zip(axes, ("trait", "coherence"), (f"{trait} score", "coherence"), strict=True):
        for name, line in lines:
            line = line.sort_values("coef")
            mean, error = line[f"{metric}_mean"], line[f"{metric}_error"].fillna(0)
            axis.plot(line["coef"], mean, marker="o", markersize=3, label=name)
            axis.fill_between(line["coef"], mean - error, mean + error, alpha=0.15, linewidth=0)
        axis.set(xlabel="steering coefficient", ylabel=f"{label} (0-100)", ylim=(-3, 103))
    axes[1].axhline(75, color="grey", linewidth=0.8, linestyle=":")
    axes[0].legend(frameon=False, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    save_figure(figure, path)


def heat_map(grid, path: str | Path, *, xlabel: str, ylabel: str, title: str) -> None:
    """A DataFrame of scores 0-100 (rows: y, columns: x) as a heat map with its numbers written in."""
    figure, (axis,) = new_figure(width=1.6 + 0.55 * len(grid.columns), height=1.4 + 0.4 * len(grid))
    image = axis.imshow(grid.to_numpy(float), cmap="cividis", vmin=0, vmax=100, aspect="auto", origin="lower")
    axis.set_xticks(range(len(grid.columns)), [f"{x:g}" for x in grid.columns])
    axis.set_yticks(range(len(grid)), [str(y) for y in grid.index])
    for y, row in enumerate(grid.to_numpy(float)):
        for x, value in enumerate(row):
            if value == value:
                colour = "white" if value < 50 else "black"
                axis.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axis.spines[:].set_visible(False)
    figure.colorbar(image, ax=axis, label="score (0-100)")
    save_figure(figure, path)
