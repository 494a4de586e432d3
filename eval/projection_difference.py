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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from persona_vectors import cli, models
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.atomic import make_folder
from persona_vectors.files.fingerprints import of_file
from persona_vectors.files.jsonfile import write_json
from persona_vectors.files.rows import open_rows
from persona_vectors.files.tables import write_table
from persona_vectors.options import EngineOptions, GenerationOptions, ReadingOptions
from persona_vectors.vectors.storage import KINDS, check_fit, chosen_layer, fingerprint, load_vectors, vector_name

if TYPE_CHECKING:
    from persona_vectors.analysis.base_answers import BaseAnswers
    from persona_vectors.asking.foresee import Foreseen

ESTIMATES = ("full", "sample", "prompt_last")
ENDS = ("high", "low", "random")


@dataclass(frozen=True)
class EstimateOptions:
    """What the answers of a set are compared with.

    Attributes:
        base_answers: JSONL with the model's own answers instead of generating them, a line per row of the set:
            {"base_answer": ...} or {"answer": ...} or messages; {set} is filled in.
        estimate: full (every row, y' generated), sample (--sample rows of each set), prompt_last (no y').
        sample: rows per set of --estimate sample.
    """

    base_answers: str | None = None
    estimate: Literal[ESTIMATES] = "full"
    sample: cli.Count = 200

    def __post_init__(self) -> None:
        if self.estimate == "prompt_last" and self.base_answers:
            raise UserError("--estimate prompt_last takes no base answers; leave --base_answers out")

    def check(self, sets: dict[str, str]) -> None:
        """Refuse one file of base answers for several sets."""
        if self.base_answers and len(sets) > 1 and "{set}" not in self.base_answers:
            raise UserError("several sets need {set} in --base_answers")

    @property
    def drawn(self) -> int | None:
        """Rows drawn from each set; None for all of them."""
        return self.sample if self.estimate == "sample" else None

    def settings(self, max_tokens: int) -> dict:
        """What a set's difference depends on; the length of answers only where answers are generated."""
        generated = not self.base_answers and self.estimate != "prompt_last"
        settings = {"estimate": self.estimate, "sample": self.drawn, "base_answers": self.base_answers}
        return settings | {"max_tokens": max_tokens if generated else None}


@dataclass(frozen=True)
class ChoiceOptions:
    """Which rows make training sets of their own.

    Attributes:
        select: high, low and/or random: write the --k rows with the highest or lowest difference, or any.
        k: rows to select.
        filter_above: write each set without the rows whose difference is higher, and the list of these.
    """

    select: cli.Several[Literal[ENDS]] | None = None
    k: cli.Count = 500
    filter_above: float | None = None


@cli.command
def main(
    file_path: cli.Several[str],
    vector_path: cli.Several[str],
    layer: str,
    model_name: str,
    output_dir: str,
    estimating: EstimateOptions,
    choosing: ChoiceOptions,
    shift_path: str | None = None,
    shift_model: str = "{set}",
    *,
    generation: GenerationOptions,
    engine: EngineOptions,
    reading: ReadingOptions,
    overwrite: bool = False,
    dry_run: bool = False,
):
    """Screen training sets by projection difference.

    Args:
        file_path: training set(s), JSONL with messages; a set is called after its folder and file.
        vector_path: vector file(s) [layers+1, hidden].
        layer: layer to project at, or the best.json of eval.select_layer; {trait} is what a vector file is named after.
        model_name: the model that is to be finetuned: Hugging Face id, local folder, LoRA adapter folder or GGUF file.
        output_dir: folder to write to.
        shift_path: table of eval.finetuning_shift, to correlate sets with the shifts of models trained on them.
        shift_model: name in that table of the model trained on a set; {set} is filled in.
        overwrite: begin anew although outputs exist.
        dry_run: print how many base answers are missing, and their tokens, and stop: no model is loaded.
    """
    if estimating.estimate == "sample" and (choosing.select or choosing.filter_above is not None):
        raise UserError("--select and --filter_above need every row's difference; --estimate sample has not")
    sets = set_names(file_path)
    estimating.check(sets)
    path = reading.resolve(model_name)
    shape = models.describe(path, reading.trust_remote_code)
    making = generator(path, shape, generation, reading, engine)
    if dry_run:
        return foresee(sets, output_dir, estimating, making, generation.seed, overwrite)
    vectors, layers, traits = read_vectors(vector_path, layer, shape)

    from persona_vectors.analysis import screening, selection
    from persona_vectors.vectors.project_file import FileProjector

    shifts = selection.read_shifts(shift_path, shift_model, list(sets)) if shift_path else {}
    columns = screening.difference_columns(path.basename, vectors, layers, traits, estimating.estimate)
    loaded = (path, reading.dtype, reading.trust_remote_code, reading.token_budget)
    projecting = FileProjector(*loaded, generation.enable_thinking)
    drawn, seed = estimating.drawn, generation.seed
    settings = projecting.common | {"seed": seed} | estimating.settings(generation.max_tokens)
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
    add_base_answers(files, estimating, making)
    for name, file in files.items():
        screening.project_set(projecting, open_rows(file), lacking[name], shape.max_length)

    table = selection.summarise_sets(files, columns)
    sources = {c.vector_name: c.own.source for c in columns}
    made_from = provenance.record(**settings, vectors=sources, sets={name: named[name] for name in sets})
    with provenance.writing(f"{output_dir}/sets.csv", made_from):
        written = save(table, files, columns, shifts, output_dir)
    print(table.round(3).to_string(index=False))
    written += choose(choosing, seed, sets, files, columns, output_dir)
    print(f"wrote {', '.join([*files.values(), *written])}")


def read_vectors(paths: Sequence[str], layer: str, shape: models.Shape) -> tuple[dict, dict, dict]:
    """By file: its vectors [layers + 1, hidden], its layer, and the trait that it is named after."""
    vectors, layers, traits = {}, {}, {}
    for file in paths:
        traits[file] = trait_of(file)
        vectors[file], layers[file] = load_vectors(file), chosen_layer(layer, traits[file])
        check_fit(file, vectors[file], shape.layers, shape.hidden, [layers[file]])
    return vectors, layers, traits


def generator(
    path: models.ModelPath,
    shape: models.Shape,
    generation: GenerationOptions,
    reading: ReadingOptions,
    engine: EngineOptions,
) -> "BaseAnswers":
    """What makes base answers."""
    from persona_vectors.analysis.base_answers import BaseAnswers

    return BaseAnswers(
        path, shape, engine.settings(), reading.dtype, generation.max_tokens, generation.enable_thinking,
        reading.trust_remote_code,
    )  # fmt: skip


def add_base_answers(files: dict[str, str], estimating: EstimateOptions, making: "BaseAnswers") -> None:
    """Join the base answers that are given to the set files, or generate them; --estimate prompt_last needs none."""
    from persona_vectors.analysis.base_answers import join_base_answers

    if estimating.base_answers:
        for name, file in files.items():
            join_base_answers(file, estimating.base_answers.replace("{set}", name))
    elif estimating.estimate != "prompt_last":
        making.fill(making.lacking([open_rows(file) for file in files.values()]))


def foresee(
    sets: dict[str, str],
    output_dir: str,
    estimating: EstimateOptions,
    making: "BaseAnswers",
    seed: int,
    overwrite: bool,
) -> "Foreseen":
    """The base answers that are missing, which is printed; none where they are given, or not needed."""
    generated = not estimating.base_answers and estimating.estimate != "prompt_last"
    copies = {file: f"{output_dir}/{name}.jsonl" for name, file in sets.items()} if generated else {}
    found = making.foresee(copies, estimating.drawn, seed, overwrite)
    there = f" ({found.there:,} are there)" if found.there else ""
    print(
        f"base answers: {found.answers:,} to make{there}: {found.prompt_tokens:,} tokens of prompts, {found.answer_tokens} tokens "
        "of answers; no judge is asked"
    )
    return found


def choose(
    choosing: ChoiceOptions, seed: int, sets: dict[str, str], files: dict[str, str], columns: list, output_dir: str
) -> list[str]:
    """Write the training sets of chosen rows that are asked for, and the list of them, whose path is returned."""
    from persona_vectors.analysis.selection import Selection

    chosen = []
    for column in columns:
        for name, file in files.items():
            prefix = f"{output_dir}/{name}_{column.vector_name}"
            selection = Selection(name, sets[name], file, column.difference, prefix)
            chosen += [selection.write_end(end, choosing.k, seed) for end in choosing.select or ()]
            if choosing.filter_above is not None:
                chosen.append(selection.write_screened(choosing.filter_above))
    if not chosen:
        return []
    import pandas

    write_table(pandas.DataFrame(chosen), f"{output_dir}/selected.csv")
    print(f"wrote {len(chosen)} training sets of chosen rows, listed in {output_dir}/selected.csv")
    return [f"{output_dir}/selected.csv"]


def set_names(paths: Sequence[str]) -> dict[str, str]:
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
