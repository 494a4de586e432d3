"""Stage: how alike persona vectors are: cosines across traits at a layer, and across layers within each vector.

    python -m eval.vector_similarity --vector_path evil_response_avg_diff.pt impolite_response_avg_diff.pt --layer 20

Writes <output>_traits.png (a heat map per layer), <output>_layers.png (layer against layer, per vector) and
<output>.csv with every cosine: vector_a, layer_a, vector_b, layer_b, cosine.
"""

from persona_vectors import cli
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.tables import write_table


@cli.command
def main(
    vector_path: cli.Several[str],
    layer: cli.Distinct[int],
    output: str = "vector_similarity",
):
    """Compare vectors.

    Args:
        vector_path: two or more vector files [layers+1, hidden] of one model.
        layer: layer(s) at which the vectors are compared with each other.
        output: beginning of the files to write.
    """
    paths, layers = list(vector_path), list(layer)
    if len(set(paths)) < max(len(paths), 2):
        raise UserError("--vector_path takes two or more different vector files")

    import pandas
    import torch

    from persona_vectors.plots import heat_maps
    from persona_vectors.vectors.storage import fingerprint, load_vectors, short_names

    vectors = dict(zip(short_names(paths), map(load_vectors, paths), strict=True))
    shapes = {tuple(rows.shape) for rows in vectors.values()}
    if len(shapes) > 1:
        raise UserError(f"vectors of one model have one shape; these have {', '.join(map(str, sorted(shapes)))}")
    rows, _ = shapes.pop()
    for number in layers:
        if not 0 <= number < rows:
            raise UserError(f"--layer {number} does not exist: these vectors have layers 0..{rows - 1}")
        for name, tensor in vectors.items():
            if not tensor[number].any():
                raise UserError(f"row {number} of {name} is zero: it has no direction")

    def cosines(a, b):  # [n, hidden], [m, hidden] -> [n, m]; 0 where a row is zero (the embedding of prompt_last)
        return torch.nn.functional.normalize(a, dim=-1) @ torch.nn.functional.normalize(b, dim=-1).T

    across, table = [], []
    for number in layers:
        stacked = torch.stack([tensor[number] for tensor in vectors.values()])
        grid = pandas.DataFrame(cosines(stacked, stacked).numpy(), index=list(vectors), columns=list(vectors))
        across.append((f"layer {number}", grid))
        table += [(a, number, b, number, float(grid.loc[a, b])) for a in vectors for b in vectors if a < b]
    within = []
    for name, tensor in vectors.items():
        grid = pandas.DataFrame(cosines(tensor, tensor).numpy())
        within.append((name, grid))
        table += [(name, i, name, j, float(grid.loc[i, j])) for i in range(rows) for j in range(i + 1, rows)]
    cosine = {"label": "cosine", "limits": (-1, 1)}
    heat_maps(across, f"{output}_traits.png", xlabel="vector", ylabel="vector", digits=2, **cosine)
    digits = 2 if rows <= 12 else None  # numbers of forty layers could not be read
    heat_maps(within, f"{output}_layers.png", xlabel="layer", ylabel="layer", digits=digits, **cosine)
    columns = ["vector_a", "layer_a", "vector_b", "layer_b", "cosine"]
    compared = {name: fingerprint(path, vectors[name]) for name, path in zip(vectors, paths, strict=True)}
    with provenance.writing(f"{output}.csv", provenance.record(vectors=compared, layers=layers)):
        write_table(pandas.DataFrame(table, columns=columns), f"{output}.csv")
    for title, grid in across:
        print(f"{title}\n{grid.round(3).to_string()}")
    print(f"wrote {output}.csv, {output}_traits.png, {output}_layers.png")


if __name__ == "__main__":
    cli.run(main)
