"""Stage: which training data would move a model along a persona vector: projection differences (section 6).

    python -m eval.projection_difference --file_path dataset/evil/normal.jsonl dataset/evil/misaligned_2.jsonl \\
        --model_name Qwen/Qwen2.5-7B-Instruct --vector_path evil_response_avg_diff.pt --layer 20 --output_dir screening

Of a row with prompt x and answer y: (a(x, y) - a(x, y')) . v / |v|, where a is the mean activation over the answer and
y' the model's own greedy answer to x. A set's is the mean of its rows'. Cheaper (appendix I): --estimate sample takes
--sample rows only; --estimate prompt_last generates nothing, the projection of the last prompt token stands for y'.

Writes to <output_dir>: <set>.jsonl (the rows with base_answer and projections), sets.csv and sets.json (a line per
set and vector), histogram.png; with --select or --filter_above training sets of chosen rows, listed in selected.csv; with
--shift_path shift.png.
Resumable: answers and projections are on disk window by window.
"""

import json
from pathlib import Path

from persona_vectors import cli, models
from persona_vectors.asking.subject import EngineFlags
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.atomic import make_folder
from persona_vectors.files.fingerprints import of_file
from persona_vectors.files.jsonfile import write_json
from persona_vectors.files.rows import open_rows
from persona_vectors.files.tables import write_table
from persona_vectors.vectors.storage import KINDS, check_fit, chosen_layer, fingerprint, load_vectors, vector_name

ESTIMATES = ("full", "sample", "prompt_last")
ENDS = ("high", "low", "random")


def main(
    file_path: cli.Several,
    vector_path: cli.Several,
    layer: str,
    model_name: str,
    output_dir: str,
    base_answers: str = None,
    estimate: str = "full",
    sample: int = 200,
    select: cli.Several = None,
    k: int = 500,
    filter_above: float = None,
    shift_path: str = None,
    shift_model: str = "{set}",
    max_tokens: int = 1000,
    seed: int = 0,
    backend: str = "auto",
    batch_size: int = 64,
    dtype: str = "auto",
    token_budget: int = None,
    enable_thinking: bool = False,
    overwrite: bool = False,
    trust_remote_code: bool = False,
    tensor_parallel_size: int = None,
    data_parallel_size: int = None,
    gpu_memory_utilization: float = None,
):
    """Screen training sets by projection difference.

    Args:
        file_path: training set(s), JSONL with messages; a set is called after its folder and file.
        vector_path: vector file(s) [layers+1, hidden].
        layer: layer to project at, or the best.json of eval.select_layer; {trait} is what a vector file is named after.
        model_name: the model that is to be finetuned: Hugging Face id, local folder, LoRA adapter folder or GGUF file.
        output_dir: folder to write to.
        base_answers: JSONL with the model's own answers instead of generating them, a line per row of the set:
            {"base_answer": ...} or {"answer": ...} or messages; {set} is filled in.
        estimate: full (every row, y' generated), sample (--sample rows of each set), prompt_last (no y').
        sample: rows per set of --estimate sample.
        select: high, low and/or random: write the --k rows with the highest or lowest difference, or any.
        k: rows to select.
        filter_above: write each set without the rows whose difference is higher, and the list of these.
        shift_path: table of eval.finetuning_shift, to correlate sets with the shifts of models trained on them.
        shift_model: name in that table of the model trained on a set; {set} is filled in.
        max_tokens: longest base answer, in tokens.
        seed: draws samples and random selections.
        backend: auto, hf or vllm.
        batch_size: sequences per batch of the hf backend.
        dtype: auto (bfloat16 on a GPU, float32 on a CPU), float32, bfloat16 or float16.
        token_budget: padded tokens per batch of projecting (8192 on a GPU, 512 on a CPU); lower it if memory runs out.
        enable_thinking: let models that can think do so; differences are of the answers without the reasoning.
        overwrite: begin anew although outputs exist.
        trust_remote_code: run code that comes with the model. Only for models whose code you have read.
        tensor_parallel_size: vllm: GPUs that share each layer; by default as many as the model can be divided by.
        data_parallel_size: vllm: copies of the model; by default as many as GPUs are left for.
        gpu_memory_utilization: vllm: the part of each GPU's memory to use (0.9).
    """
    estimate = cli.as_choice("estimate", estimate, ESTIMATES)
    sample, k = cli.as_int("sample", sample, 1), cli.as_int("k", k, 1)
    ends = [cli.as_choice("select", word, ENDS) for word in cli.as_words(select)] if select is not None else []
    limit = cli.optional(cli.as_number, "filter_above", filter_above)
    max_tokens, seed = cli.as_int("max_tokens", max_tokens, 1), cli.as_int("seed", seed)
    engine = EngineFlags.read(
        backend,
        batch_size,
        tensor_parallel_size=tensor_parallel_size,
        data_parallel_size=data_parallel_size,
        gpu_memory_utilization=gpu_memory_utilization,
    )
    dtype = cli.as_choice("dtype", dtype, models.DTYPES)
    token_budget = cli.optional(cli.as_int, "token_budget", token_budget, 1)
    enable_thinking = cli.as_bool("enable_thinking", enable_thinking)
    overwrite = cli.as_bool("overwrite", overwrite)
    trust_remote_code = cli.as_bool("trust_remote_code", trust_remote_code)
    if estimate == "sample" and (ends or limit is not None):
        raise UserError("--select and --filter_above need every row's difference; --estimate sample has not")
    if estimate == "prompt_last" and base_answers:
        raise UserError("--estimate prompt_last takes no base answers; leave --base_answers out")
    sets = set_names(cli.as_words(file_path))
    if base_answers and len(sets) > 1 and "{set}" not in base_answers:
        raise UserError("several sets need {set} in --base_answers")
    path = models.resolve(model_name)
    shape = models.describe(path, trust_remote_code)
    vectors, layers, traits = {}, {}, {}
    for file in cli.as_words(vector_path):
        traits[file] = trait_of(file)
        vectors[file], layers[file] = load_vectors(file), chosen_layer(layer, traits[file])
        check_fit(file, vectors[file], shape.layers, shape.hidden, [layers[file]])

    import pandas

    from persona_vectors.analysis import screening, selection
    from persona_vectors.vectors.project_file import FileProjector

    shifts = selection.read_shifts(shift_path, shift_model, list(sets)) if shift_path else {}
    columns = screening.difference_columns(path.basename, vectors, layers, traits, estimate)
    projecting = FileProjector(path, dtype, trust_remote_code, token_budget, enable_thinking)
    drawn = sample if estimate == "sample" else None
    settings = {
        **projecting.common, "estimate": estimate, "sample": drawn, "seed": seed, "base_answers": base_answers,
        "max_tokens": None if base_answers or estimate == "prompt_last" else max_tokens,
    }  # fmt: skip
    named = {name: of_file(file) for name, file in sets.items()}
    named |= {c.difference: fingerprint(file, rows) for c, (file, rows) in zip(columns, vectors.items(), strict=True)}
    if shift_path:
        selection.check_shifts(shift_path, shift_model, list(sets), columns, projecting.common)
    make_folder(Path(output_dir))
    screening.check_older(output_dir, settings | named, overwrite)
    files = {
        name: screening.copy_set(file, f"{output_dir}/{name}.jsonl", drawn, seed, overwrite)
        for name, file in sets.items()
    }
    lacking = {name: screening.lacking(projecting, open_rows(file), columns) for name, file in files.items()}
    if base_answers:
        for name, file in files.items():
            screening.join_base_answers(file, base_answers.replace("{set}", name))
    elif estimate != "prompt_last":
        generator = screening.BaseAnswers(path, shape, engine, dtype, max_tokens, enable_thinking, trust_remote_code)
        generator.fill(generator.lacking([open_rows(file) for file in files.values()]))
    for name, file in files.items():
        screening.project_set(projecting, open_rows(file), lacking[name], shape.max_length)

    table = selection.summarise_sets(files, columns)
    sources = {c.vector_name: c.own.source for c in columns}
    made_from = provenance.record(**settings, vectors=sources, sets={name: named[name] for name in sets})
    with provenance.writing(f"{output_dir}/sets.csv", made_from):
        written = save(table, files, columns, shifts, output_dir)
    print(table.round(3).to_string(index=False))
    chosen = []
    for column in columns:
        for name, file in files.items():
            prefix = f"{output_dir}/{name}_{column.vector_name}"
            selection_of = selection.Selection(name, sets[name], file, column.difference, prefix)
            chosen += [selection_of.write_end(end, k, seed) for end in ends]
            chosen += [selection_of.write_screened(limit)] if limit is not None else []
    if chosen:
        written.append(f"{output_dir}/selected.csv")
        write_table(pandas.DataFrame(chosen), written[-1])
        print(f"wrote {len(chosen)} training sets of chosen rows, listed in {written[-1]}")
    print(f"wrote {', '.join([*files.values(), *written])}")


def set_names(paths: list[str]) -> dict[str, str]:
    """{name: path} of training sets: the file's name after its folder's."""
    names = {}
    for path in paths:
        if not path.endswith(".jsonl"):
            raise UserError(f"{path}: a training set is a JSONL file with messages")
        open_rows(path)  # refuses what is not there or has no messages
        folder = Path(path).resolve().parent.name
        name = f"{folder}_{Path(path).stem}" if folder else Path(path).stem
        if name in names:
            raise UserError(f"{names[name]} and {path} would both be called {name}")
        names[name] = path
    return names


def trait_of(path: str) -> str:
    """The trait that a vector file is named after."""
    stem = vector_name(path)
    for kind in KINDS:
        stem = stem.removesuffix(f"_{kind}")
    return stem


def save(table, files: dict, columns: list, shifts: dict, output_dir: str) -> list[str]:
    """Write sets.csv, sets.json and the figures; returns their paths."""
    from persona_vectors.analysis.correlation import pearson
    from persona_vectors.analysis.selection import read_differences
    from persona_vectors.plots import histograms, scatter

    panels, scatters, found = [], [], {}
    for column in columns:
        values = {name: read_differences(file, column.difference)[1] for name, file in files.items()}
        groups = {name: v[v == v] for name, v in values.items()}
        panels.append({"title": f"{column.vector_name}, layer {column.layer}", "groups": groups})
        if shifts:
            own = table[table["vector"] == column.vector_name]
            if not all((name, column.trait) in shifts for name in files):
                raise UserError(f"the table of shifts has no trait '{column.trait}' for every set")
            moved = [shifts[name, column.trait] for name in own["set"]]
            found[column.vector_name] = pearson(own["difference"], moved).as_dict()
            r = (
                "r not defined"
                if found[column.vector_name]["r"] is None
                else f"r = {found[column.vector_name]['r']:.3f}"
            )
            print(f"{column.vector_name}: projection difference against finetuning shift, {r} (n = {len(moved)})")
            points = {"sets": (own["difference"].tolist(), moved)}
            scatters.append({"title": f"{column.trait}: {r} (n = {len(moved)})", "groups": points})
    written = [f"{output_dir}/{name}" for name in ("sets.csv", "sets.json", "histogram.png")]
    write_table(table, written[0])
    write_json(written[1], {"sets": json.loads(table.to_json(orient="records")), "against_shift": found})
    histograms(panels, written[2], xlabel="projection difference of a row")
    if scatters:
        written.append(f"{output_dir}/shift.png")
        scatter(
            scatters, written[-1], xlabel="projection difference of the set", ylabel="finetuning shift along the vector"
        )
    return written


if __name__ == "__main__":
    cli.run(main)
