"""Stage: project a file's prompts and answers onto persona vectors; adds columns to the file.

    python -m eval.cal_projection --file_path answers.csv --vector_path evil_response_avg_diff.pt --layer 20 \\
        --model_name Qwen/Qwen2.5-7B-Instruct --projection_type proj

Reads a CSV (prompt, answer) or a JSONL (messages), of any length. Thoughts (column reasoning; reasoning_content of a
message) are run between prompt and answer and count for neither. Columns: <model>_<vector>_<type>_layer<l>. Every
vector, layer and type is computed in one forward pass, which ends after the last layer asked for. Finished windows of
rows are on disk: after a kill, the same command goes on from there. `accelerate launch -m eval.cal_projection ...`
divides the rows among processes, GPUs and machines.
"""

from collections.abc import Sequence
from typing import Literal

from persona_vectors import cli, models
from persona_vectors.errors import UserError
from persona_vectors.files.rows import open_rows
from persona_vectors.options import ReadingOptions
from persona_vectors.processes import join_processes
from persona_vectors.vectors.storage import PROJECTION_TYPES, check_fit, fingerprint, load_vectors


@cli.command
def main(
    file_path: str,
    vector_path: cli.Several[str] | None = None,
    layer: cli.Distinct[int] | None = None,
    model_name: str = "Qwen/Qwen2.5-7B-Instruct",
    projection_type: cli.Several[Literal[PROJECTION_TYPES]] = ("proj",),
    overwrite: bool = False,
    vector_path_list: cli.Several[str] | None = None,
    layer_list: cli.Distinct[int] | None = None,
    base_model: str | None = None,
    *,
    reading: ReadingOptions,
    enable_thinking: bool = False,
):
    """Add projections to a CSV or JSONL file.

    Args:
        file_path: CSV with prompt (templated text) and answer, or JSONL with messages; replaced when all is done.
        vector_path: vector file(s) [layers+1, hidden].
        layer: layer(s), rows of the vector files, 0..L.
        model_name: Hugging Face id, local folder, folder of checkpoints, LoRA adapter folder or GGUF file.
        projection_type: proj (answer's mean activation), prompt_last_proj (last prompt token, before thoughts and
            answer), prompt_avg_proj, cos_sim (cosine of the answer's mean); several at once.
        overwrite: compute columns that exist already, and forget an unfinished run with other settings.
        vector_path_list: another name of --vector_path.
        layer_list: another name of --layer.
        base_model: project the difference of activations, model_name minus this one (shift).
        enable_thinking: render messages with the template's thinking on.
    """
    paths = either("vector_path", vector_path, vector_path_list)
    layers = either("layer", layer, layer_list)
    rows = open_rows(file_path)
    model_path = reading.resolve(model_name)
    base_path = reading.resolve(base_model) if base_model else None

    from persona_vectors.files.resumable import WindowedWork, missing, tidy
    from persona_vectors.vectors.project_file import project_windows, projections_from
    from persona_vectors.vectors.projection import Projector, made_from, make_columns

    shape = models.describe(model_path, reading.trust_remote_code)
    vectors = read_vectors(paths, layers, shape)
    if base_path and models.describe(base_path, reading.trust_remote_code) != shape:
        raise UserError(f"{base_model} and {model_name} have other shapes: their activations cannot be compared")
    processes = join_processes()
    label = model_path.basename + (f"_minus_{base_path.basename}" if base_path else "")
    columns = make_columns(label, vectors, layers, list(dict.fromkeys(projection_type)))
    if not processes.is_first:
        processes.wait()  # for the first, which reads the weights and keeps their fingerprint for the others
    common = projections_from(model_path, base_path, reading.dtype, enable_thinking)
    if processes.is_first:
        tidy(rows.path)
        processes.wait()
    records = made_from(columns, common)
    say = print if processes.is_first else lambda _: None
    lacking = list(records) if overwrite else missing(rows, records, say=say)
    for name in filter(rows.columns.__contains__, records):
        say(f"{name} exists already: {'computed anew' if name in lacking else 'skipped (--overwrite computes it)'}")
    columns = [column for column in columns if column.name in lacking]
    if not columns:
        return processes.end()
    made = {column.name: records[column.name] for column in columns}
    work = WindowedWork(rows, made, {**common, "vectors": [fingerprint(path, vectors[path]) for path in paths]})
    sizes = work.begin(overwrite) if processes.is_first else []
    processes.wait()

    tokenizer = models.load_tokenizer(model_path, reading.trust_remote_code)
    model = models.load_model(model_path, reading.dtype, reading.trust_remote_code, processes.device)
    base = load_base(base_path, model_path, model, reading, processes.device) if base_path else None
    projector = Projector(model, columns, base, reading.token_budget)
    project_windows(work, sizes, tokenizer, projector, shape.max_length, enable_thinking, processes)
    processes.wait()
    if processes.is_first:
        work.report(*work.finish())
    processes.end()


def read_vectors(paths: list[str], layers: list[int], shape: models.Shape) -> dict:
    """{path: [layers + 1, hidden]}, all of which fit the model and have the layers."""
    vectors = {path: load_vectors(path) for path in paths}
    for path, tensor in vectors.items():
        check_fit(path, tensor, shape.layers, shape.hidden, layers, lowest=0)
    return vectors


def load_base(base_path: models.ModelPath, model_path: models.ModelPath, model, reading: ReadingOptions, device):
    """The model to subtract: ``model`` itself where it is an adapter on it, whose layers can be switched off."""
    from persona_vectors.models.adapters import changes_base

    same = model_path.adapter and not base_path.adapter and base_path.base == model_path.base
    if same and not changes_base(model_path.adapter):
        return model
    return models.load_model(base_path, reading.dtype, reading.trust_remote_code, device)


def either(name: str, value: Sequence | None, other: Sequence | None) -> list:
    """The values of ``--name`` or of ``--name_list``, of which one must be given."""
    if (value is None) == (other is None):
        raise UserError(f"give one of --{name} and --{name}_list")
    values = list(other if value is None else value)
    if len(set(values)) < len(values):
        raise UserError(f"--{name} names a value twice: {', '.join(map(str, values))}")
    return values


if __name__ == "__main__":
    cli.run(main)
