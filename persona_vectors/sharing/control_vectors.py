"""Write and read GGUF control vectors for llama.cpp.

llama.cpp adds ``direction.k`` to the output of block k, counting from 0, at every position; it refuses k = 0. So
``direction.k`` is row k + 1 of a vector file, and ``--layer l`` is ``--control-vector-layer-range l-1 l-1``. Rows 0
and 1 (the embedding and the first block) cannot be directions. They are stored in the file's key-value part, which
llama.cpp ignores, so that a full export can be read back bit by bit.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path

from persona_vectors.errors import UserError
from persona_vectors.files.atomic import replacing
from persona_vectors.models.gguf_conversion import import_gguf
from persona_vectors.sharing.formats import About, about_from

ABOUT_KEY = "persona_vectors.about"
ROWS_KEY = "persona_vectors.rows_0_1"


def save_control_vector(vectors, path: str | Path, about: About, layer: int | None = None) -> None:
    """Write float32 [layers + 1, hidden] as a GGUF control vector: all layers, or only ``layer`` (2..L).

    Raises:
        UserError: a layer that llama.cpp cannot steer, or no architecture for ``controlvector.model_hint``.

    Example:
        vectors, about = read_shared("evil_response_avg_diff.pt")
        save_control_vector(vectors, "evil.gguf", about)
    """
    import_gguf()
    from gguf import GGUFWriter

    last = vectors.shape[0] - 1
    if layer is not None and not 2 <= layer <= last:
        raise UserError(f"--layer {layer}: llama.cpp steers layers 2..{last} of this model, not the first block")
    if layer is not None and not vectors[layer].any():
        raise UserError(f"row {layer} of the vector is zero: {path} would steer nothing")
    if not about.architecture:
        raise UserError(f"{path} needs the name of an architecture, which the vector file does not know: --model_name")
    layers = range(2, last + 1) if layer is None else (layer,)
    about = about if layer is None else replace(about, quality="")  # a card is of all layers
    with replacing(path) as beside:
        writer = GGUFWriter(str(beside), "controlvector")
        writer.add_string("controlvector.model_hint", about.architecture)
        writer.add_uint32("controlvector.layer_count", len(layers))
        writer.add_string(ABOUT_KEY, json.dumps(asdict(about) | {"rows": str(last + 1)}))
        if layer is None:
            writer.add_array(ROWS_KEY, vectors[:2].flatten().tolist())
        for number in layers:
            writer.add_tensor(f"direction.{number - 1}", vectors[number].float().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def read_control_vector(path: str | Path, rows: int | None = None):
    """Read a GGUF control vector; rows that the file lacks are zero.

    Args:
        rows: L + 1 of the model; required for files of other programs, which do not record it.

    Returns:
        ``(vectors, about, layers)``: float32 [rows, hidden]; an :class:`About`, or None if another program wrote the
        file; the layers that the file has.

    Raises:
        UserError: not a control vector, or one that does not fit ``rows``.

    Example:
        vectors, about, layers = read_control_vector("evil.gguf", rows=29)
    """
    import torch

    import_gguf()
    from gguf import GGMLQuantizationType, GGUFReader

    if not Path(path).is_file():
        raise UserError(f"no file at {path}")
    try:
        reader = GGUFReader(path)
        values = {key: field.contents() for key, field in reader.fields.items()}
    except Exception as error:  # a broken file can make the reader raise anything
        raise UserError(f"{path} is not a readable GGUF file: {str(error).strip()[:200]}") from error
    if values.get("general.architecture") != "controlvector":
        raise UserError(f"{path} is no control vector: general.architecture is {values.get('general.architecture')!r}")
    directions = {}
    for tensor in reader.tensors:
        word, _, number = tensor.name.partition(".")
        flat = tensor.tensor_type == GGMLQuantizationType.F32 and len(tensor.data.shape) == 1
        if word != "direction" or not number.isdecimal() or number == "0" or not flat:
            raise UserError(f"{path}: tensor {tensor.name} is not a float32 direction.<1..>")
        directions[int(number) + 1] = torch.from_numpy(tensor.data.copy())
    if not directions or len({len(vector) for vector in directions.values()}) != 1:
        raise UserError(f"{path} must hold directions of one width")
    if not all(vector.isfinite().all() for vector in directions.values()):
        raise UserError(f"{path} holds NaN or infinity")

    try:
        about = {str(key): str(text) for key, text in json.loads(values.get(ABOUT_KEY, "{}")).items()}
        said = int(about.pop("rows", 0)) or None
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: {ABOUT_KEY} is not readable: {error}") from error
    if said and rows and said != rows:
        raise UserError(f"{path} is of a model of {said - 1} layers, not {rows - 1}: wrong model?")
    rows = rows or said
    if rows is None:
        raise UserError(
            f"{path} does not say how many layers its model has: pass --model_name (in Python, rows=layers + 1)"
        )
    if max(directions) > rows - 1:
        highest = f"direction.{max(directions) - 1}"
        raise UserError(f"{path} has {highest}, but a model of {rows - 1} layers ends at {rows - 2}")
    hidden = len(next(iter(directions.values())))
    vectors = torch.zeros(rows, hidden)
    if len(values.get(ROWS_KEY, ())) == 2 * hidden:
        vectors[:2] = torch.tensor(values[ROWS_KEY], dtype=torch.float32).view(2, hidden)
    for row, vector in directions.items():
        vectors[row] = vector
    return vectors, about_from(about, path), sorted(directions)
