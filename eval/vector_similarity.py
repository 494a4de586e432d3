"""Stage: how alike persona vectors are, over traits, layers and models of one width.

    python -m eval.vector_similarity --vector_path evil_response_avg_diff.pt impolite_response_avg_diff.pt --layer 16 20

Cosines: <output>_traits.png (a heat map per layer), <output>_layers.png (layer against layer, per vector) and <output>.csv
with every one: vector_a, layer_a, vector_b, layer_b, cosine. Each vector at each --layer is then a point, scaled to length
1: <output>_pca.png (the plane where they differ most) and <output>_dendrogram.png (which are nearest, by 1 - cosine and
average linkage), with their numbers in <output>.json.
"""

from persona_vectors import cli
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.jsonfile import write_json
from persona_vectors.files.tables import write_table
from persona_vectors.plots import TYPE


@cli.command
def main(
    vector_path: cli.Several[str],
    layer: cli.Distinct[int],
    output: str = "vector_similarity",
):
    """Compare vectors.

    Args:
        vector_path: two or more vector files [layers+1, hidden], of one model or of models of one width.
        layer: layer(s) at which the vectors are compared with each other.
        output: beginning of the files to write.
    """
    paths, layers = list(vector_path), list(layer)
    if len(set(paths)) < max(len(paths), 2):
        raise UserError("--vector_path takes two or more different vector files")

    import numpy
    import pandas

    from persona_vectors.analysis.similarity import average_linkage, cosines, principal_components
    from persona_vectors.plots import heat_maps
    from persona_vectors.vectors.storage import fingerprint, load_vectors, short_names

    vectors = dict(zip(short_names(paths), map(load_vectors, paths), strict=True))
    check(vectors, layers)
    across, table = [], []
    for number in layers:
        stacked = numpy.stack([rows[number].numpy() for rows in vectors.values()])
        grid = pandas.DataFrame(cosines(stacked, stacked), index=list(vectors), columns=list(vectors))
        across.append((f"layer {number}", grid))
        table += [(a, number, b, number, float(grid.loc[a, b])) for a in vectors for b in vectors if a < b]
    within = []
    for name, rows in vectors.items():
        grid = pandas.DataFrame(cosines(rows.numpy(), rows.numpy()))
        within.append((name, grid))
        table += [(name, i, name, j, float(grid.loc[i, j])) for i in grid.index for j in grid.index if i < j]
    cosine = {"label": "cosine", "limits": (-1, 1)}
    heat_maps(across, f"{output}_traits.png", xlabel="vector", ylabel="vector", digits=2, **cosine)
    digits = 2 if len(within[0][1]) <= 12 else None  # numbers of forty layers could not be read
    heat_maps(within, f"{output}_layers.png", xlabel="layer", ylabel="layer", digits=digits, **cosine)
    points = [(name, number) for name in vectors for number in layers]
    stacked = numpy.stack([vectors[name][number].numpy() for name, number in points])
    places, shares = principal_components(stacked)
    merges = average_linkage(stacked)
    draw_plane(points, places, shares, f"{output}_pca.png")
    draw_tree(points, merges, f"{output}_dendrogram.png")
    columns = ["vector_a", "layer_a", "vector_b", "layer_b", "cosine"]
    compared = {name: fingerprint(path, vectors[name]) for name, path in zip(vectors, paths, strict=True)}
    made_from = provenance.record(vectors=compared, layers=layers)
    with provenance.writing(f"{output}.csv", made_from, files=[f"{output}.csv", f"{output}.json"]):
        write_table(pandas.DataFrame(table, columns=columns), f"{output}.csv")
        write_json(f"{output}.json", numbers_of(points, places, shares, merges))
    for title, grid in across:
        print(f"{title}\n{grid.round(3).to_string()}")
    endings = (".csv", ".json", *(f"_{kind}.png" for kind in ("traits", "layers", "pca", "dendrogram")))
    print("wrote " + ", ".join(f"{output}{ending}" for ending in endings))


def check(vectors: dict, layers: list[int]) -> None:
    """Refuse vectors of different widths, and layers that a vector has not or at which it is zero."""
    widths = {name: rows.shape[1] for name, rows in vectors.items()}
    if len(set(widths.values())) > 1:
        told = ", ".join(f"{name} {width}" for name, width in widths.items())
        raise UserError(f"only vectors of one width can be compared; these are {told} wide")
    for name, rows in vectors.items():
        for number in layers:
            if not 0 <= number < len(rows):
                raise UserError(f"--layer {number} does not exist: {name} has layers 0..{len(rows) - 1}")
            if not rows[number].any():
                raise UserError(f"row {number} of {name} is zero: it has no direction")


def numbers_of(points: list, places, shares, merges: list) -> dict:
    """What the two figures show: points with their components, and the tree as scipy.cluster.hierarchy writes one."""
    named = [{"vector": name, "layer": number} for name, number in points]
    return {
        "points": [point | {"components": place.tolist()} for point, place in zip(named, places, strict=True)],
        "variance_shares": shares.tolist(),
        "tree": [[m.first, m.second, m.distance, len(m.leaves)] for m in merges],
        "tree_columns": ["first", "second", "distance", "leaves"],
    }


def draw_plane(points: list, places, shares, path: str) -> None:
    """The first two components: a colour for each vector; where there are several layers, each point is its number."""
    from persona_vectors.plots import new_figure, palette, save_figure

    names = list(dict.fromkeys(name for name, _ in points))
    several = len({number for _, number in points}) > 1
    colours = dict(zip(names, palette(len(names)), strict=True))
    figure, (axis,) = new_figure(width=6.4, height=max(3.6, 0.6 + 0.18 * len(names)))
    for (name, number), (x, y) in zip(points, places, strict=True):
        if several:
            axis.text(x, y, str(number), color=colours[name], fontsize=TYPE, ha="center", va="center")
        axis.scatter(x, y, s=0 if several else 36, color=colours[name], linewidth=0)
    for name in names:
        axis.scatter([], [], s=36, color=colours[name], linewidth=0, label=name)
    first, second = (f"component {k + 1} ({share:.0%} of the variance)" for k, share in enumerate(shares))
    axis.set_xlabel(first, fontsize=TYPE)
    axis.set_ylabel(second, fontsize=TYPE)
    axis.tick_params(labelsize=TYPE)
    axis.margins(0.1)
    axis.set_aspect("equal", adjustable="datalim")
    legend = {"title": "numbers are layers", "title_fontsize": TYPE} if several else {}
    axis.legend(frameon=False, fontsize=TYPE, loc="center left", bbox_to_anchor=(1, 0.5), **legend)
    save_figure(figure, path)


def draw_tree(points: list, merges: list, path: str) -> None:
    """The tree of clusters, a leaf a line."""
    from persona_vectors.plots import COLOURS, new_figure, save_figure

    order = merges[-1].leaves
    one_layer = len({number for _, number in points}) == 1
    labels = [name if one_layer else f"{name}, layer {number}" for name, number in (points[leaf] for leaf in order)]
    at = {leaf: (0.0, float(k)) for k, leaf in enumerate(order)}  # (distance, line) of every cluster
    figure, (axis,) = new_figure(width=5.6, height=0.9 + 0.2 * len(order))
    for k, merge in enumerate(merges):
        (x_a, y_a), (x_b, y_b) = at[merge.first], at[merge.second]
        axis.plot([x_a, merge.distance, merge.distance, x_b], [y_a, y_a, y_b, y_b], color=COLOURS[0], linewidth=1.2)
        at[len(points) + k] = merge.distance, (y_a + y_b) / 2
    axis.set_yticks(range(len(order)), labels, fontsize=TYPE)
    axis.set_ylim(-0.7, len(order) - 0.3)
    axis.set_xlim(0, None)
    axis.tick_params(labelsize=TYPE)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("distance (1 - cosine, mean over pairs)", fontsize=TYPE)
    save_figure(figure, path)


if __name__ == "__main__":
    cli.run(main)
