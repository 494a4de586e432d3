"""Stage: how far finetuning moved a model along persona vectors, and whether that tells its traits (section 4.2).

    python -m eval.finetuning_shift --base_model Qwen/Qwen2.5-7B-Instruct --model_list checkpoints/a checkpoints/b \\
        --trait evil,sycophantic --vector_path 'persona_vectors/Qwen2.5-7B-Instruct/{trait}_response_avg_diff.pt' \\
        --layer 20 --answers 'eval_persona_eval/{model}/{trait}.csv' --output shift

Shift of a model along a trait's vector: (mean activation at the last prompt token over the trait's evaluation
questions, finetuned minus base) . v / |v|. Scores are the means of eval_persona's answers CSVs.
Writes <output>.csv (model, trait, layer, shift, score), <output>.json (r on the own trait and across traits) and
<output>.png.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from persona_vectors import cli, models
from persona_vectors.analysis.selection import shift_row
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.atomic import make_folder
from persona_vectors.files.fingerprints import of_json
from persona_vectors.files.jsonfile import write_json
from persona_vectors.files.tables import read_answers, write_table
from persona_vectors.models import chat_template
from persona_vectors.options import ReadingOptions
from persona_vectors.traits.artifact import Trait, load_trait, make_questions
from persona_vectors.vectors.storage import check_fit, chosen_layer, fingerprint, load_vectors, project


@cli.command
def main(
    base_model: str,
    model_list: cli.Several[str],
    trait: cli.Several[str],
    vector_path: str,
    layer: str,
    output: str = "finetuning_shift",
    answers: str | None = None,
    trait_dir: str = "data_generation",
    *,
    reading: ReadingOptions,
    enable_thinking: bool = False,
    overwrite: bool = False,
):
    """Measure shifts of finetuned models and correlate them with trait scores.

    Args:
        base_model: the model before finetuning.
        model_list: finetuned models: hub ids, folders, folders of checkpoints (the latest is taken), LoRA adapters.
        trait: trait(s), each with its own vector and evaluation questions.
        vector_path: vector file; {trait} is filled in.
        layer: layer to project at, or the best.json of eval.select_layer; {trait} is filled in.
        output: beginning of the files to write.
        answers: answers CSV of eval_persona per model and trait; {model} (its last part) and {trait} are filled in.
            Without it there are shifts only.
        trait_dir: folder of trait_data_eval/.
        enable_thinking: render questions with the template's thinking on.
        overwrite: measure shifts again that an earlier table of this output has.
    """
    traits = {name: load_trait(name, "eval", trait_dir) for name in trait}
    if len(traits) > 1 and "{trait}" not in vector_path:
        raise UserError("several traits need {trait} in --vector_path")
    base = reading.resolve(base_model)
    finetuned = named(map(reading.resolve, model_list))
    shape = models.describe(base, reading.trust_remote_code)
    for path in finetuned.values():
        if models.describe(path, reading.trust_remote_code) != shape:
            raise UserError(f"{path.name} has another shape than {base_model}: it was not finetuned from it")
    directions, layers, along = read_directions(traits, vector_path, layer, shape)
    of_model = {label: models.made_of(path) for label, path in finetuned.items()}
    common = {**models.made_of(base, "base_model", "base_adapter"), "dtype": reading.dtype}
    common["enable_thinking"] = enable_thinking
    made_from = {(m, t): provenance.record(**of_model[m], **common, **along[t]) for m in finetuned for t in traits}
    scores = read_scores(answers, of_model, traits) if answers else {}
    make_folder(Path(f"{output}.csv").parent)

    import pandas

    made = {}
    if not overwrite:
        made, unknown = earlier(f"{output}.csv", made_from, layers)
        made_from |= dict.fromkeys(unknown)
    missing = {label: path for label, path in finetuned.items() if any((label, name) not in made for name in traits)}
    for label, shifts in measure(base, missing, traits, directions, layers, reading, enable_thinking):
        made |= {(label, name): shift for name, shift in shifts.items()}
        write(table_of(made, layers, scores, finetuned, traits), f"{output}.csv", made_from)
    table = table_of(made, layers, scores, finetuned, traits)
    write(table, f"{output}.csv", made_from)
    found = correlations(table, list(traits)) if scores else {}
    write_json(f"{output}.json", {"base_model": base_model, "layers": layers, "correlations": found})
    print(pandas.pivot_table(table, index="model", columns="trait", values="shift", sort=False).round(3).to_string())
    if scores:
        draw(table, found, layers, f"{output}.png")
        print(in_words(found))
    print(f"wrote {output}.csv, {output}.json" + (f", {output}.png" if scores else ""))


def read_directions(traits: dict[str, Trait], vector_path: str, layer: str, shape: models.Shape) -> tuple[dict, ...]:
    """By trait: its vector [hidden] at its layer, that layer, and what shifts along it depend on."""
    directions, layers, along = {}, {}, {}
    for name in traits:
        file = vector_path.replace("{trait}", name)
        layers[name], vectors = chosen_layer(layer, name), load_vectors(file)
        check_fit(file, vectors, shape.layers, shape.hidden, [layers[name]])
        directions[name] = vectors[layers[name]]
        asked = of_json(name, [question.messages for question in make_questions(traits[name])])
        along[name] = {"vector": fingerprint(file, vectors), "layer": layers[name], "questions": asked}
    return directions, layers, along


def measure(
    base: models.ModelPath,
    finetuned: dict[str, models.ModelPath],
    traits: dict[str, Trait],
    directions: dict,
    layers: dict[str, int],
    reading: ReadingOptions,
    enable_thinking: bool,
) -> Iterator[tuple[str, dict[str, float]]]:
    """(label, {trait: shift}) of each finetuned model as soon as it is measured; without one, nothing is loaded."""
    if not finetuned:
        return
    from tqdm import tqdm

    from persona_vectors.vectors.batches import Sample

    tokenizer = models.load_tokenizer(base, reading.trust_remote_code)

    def as_sample(messages: list[dict]) -> Sample:
        return Sample(
            chat_template.token_ids(tokenizer, chat_template.render(tokenizer, messages, enable_thinking)), []
        )

    samples = {name: [as_sample(question.messages) for question in make_questions(t)] for name, t in traits.items()}
    loader = models.Loader(reading.dtype, reading.trust_remote_code)
    before = last_token_means(loader.load(base), samples, layers, reading.token_budget)
    for label, path in tqdm(finetuned.items(), desc="models"):
        after = last_token_means(loader.load(path), samples, layers, reading.token_budget)
        yield label, {name: project(after[name] - before[name], directions[name]).item() for name in traits}


def named(paths: Iterable[models.ModelPath]) -> dict[str, models.ModelPath]:
    """Models by the last part of their names, which must differ."""
    found: dict[str, models.ModelPath] = {}
    for path in paths:
        if path.basename in found:
            raise UserError(f"two models are called {path.basename}: {found[path.basename].name} and {path.name}")
        found[path.basename] = path
    return found


def read_scores(pattern: str, finetuned: dict[str, dict], traits: dict[str, Trait]) -> dict[tuple[str, str], float]:
    """Mean trait score of every model and trait; answers whose record names another model are refused.

    ``finetuned`` is {label: the model's fingerprints}.
    """
    if len(finetuned) > 1 and "{model}" not in pattern:
        raise UserError("several models need {model} in --answers")
    scores = {}
    for label in finetuned:
        for name in traits:
            path = pattern.replace("{model}", label).replace("{trait}", name)
            column = read_answers(path, (name,))[name]
            answered = {f"the model {label}": finetuned[label], path: provenance.result_of(path)}
            provenance.refuse_mixture(answered, ("model", "adapter"))
            if column.isna().all():
                raise UserError(f"{path} has no scores in column '{name}'")
            scores[label, name] = float(column.mean())
    return scores


def earlier(path: str, made_from: dict, layers: dict[str, int]) -> tuple[dict, list[tuple[str, str]]]:
    """Shifts that an unfinished or smaller run left in its table, and which of them have no record (at the same layers).

    Raises:
        UserError: a shift of this run is there already, measured with something else.
    """
    import pandas

    if not Path(path).exists():
        return {}, []
    table = pandas.read_csv(path, dtype={"model": str, "trait": str})
    if not {"model", "trait", "layer", "shift"} <= set(table.columns):
        raise UserError(f"{path} is not a table of this stage; choose another --output")
    made, unknown, remarks = {}, [], []
    for row in table.dropna(subset=["shift"]).itertuples():
        key, name = (row.model, row.trait), shift_row(row.model, row.trait)
        if key not in made_from:
            continue
        recorded = provenance.compare(path, made_from[key], name).recorded
        if not recorded and layers[row.trait] != row.layer:
            continue
        if provenance.take_up(path, made_from[key], name, remarks.append):
            made[key] = row.shift
            unknown += [] if recorded else [key]
    if remarks:
        print(remarks[0] + (f" (so are {len(remarks) - 1} more rows)" if remarks[1:] else ""))
    return made, unknown


def write(table, path: str, made_from: dict) -> None:
    """Write the table, and what each of its rows was made from."""
    rows = zip(table["model"], table["trait"], strict=True)
    with provenance.writing(path, parts={shift_row(*row): made_from[row] for row in rows}):
        write_table(table, path)


def last_token_means(model, samples: dict, layers: dict[str, int], token_budget: int | None) -> dict:
    """Mean activation at the last prompt token, float64 [hidden], per trait: its questions, at its layer."""
    from persona_vectors.vectors.activations import check_finite, pooled_activations

    means = {}
    for name, questions in samples.items():
        total = 0
        for _, pooled in pooled_activations(model, questions, ("prompt_last",), token_budget, [layers[name]]):
            check_finite(pooled["prompt_last"], model.dtype)
            total = total + pooled["prompt_last"][:, 0].double().sum(0)
        means[name] = total / len(questions)
    return means


def table_of(made: dict, layers: dict, scores: dict, finetuned: dict, traits: dict):
    """One row per model and trait that has been measured."""
    import pandas

    rows = [
        {"model": m, "trait": t, "layer": layers[t], "shift": made[m, t], "score": scores.get((m, t))}
        for m in finetuned
        for t in traits
        if (m, t) in made
    ]
    return pandas.DataFrame(rows)


def correlations(table, traits: list[str]) -> dict:
    """{vector's trait: {scored trait: correlation over models}}."""
    from persona_vectors.analysis.correlation import pearson

    shift = table.pivot(index="model", columns="trait", values="shift")
    score = table.pivot(index="model", columns="trait", values="score")
    return {v: {s: pearson(shift[v], score[s]).as_dict() for s in traits} for v in traits}


def in_words(found: dict) -> str:
    """r of each vector's shift with every trait's score."""
    lines = ["r of the shift along a vector (rows) with a trait's score (columns), own trait in brackets:"]
    for vector, row in found.items():
        cells = ["-" if c["r"] is None else f"{c['r']:.3f}" for c in row.values()]
        lines.append(
            f"{vector:15s} "
            + "  ".join(f"{s}: {f'[{c}]' if s == vector else c}" for s, c in zip(row, cells, strict=True))
        )
    return "\n".join(lines)


def draw(table, found: dict, layers: dict, path: str) -> None:
    """One panel per trait: own shift against own score, a point per model."""
    from persona_vectors.plots import scatter

    panels = []
    for trait, rows in table.groupby("trait", sort=False):
        own = found[trait][trait]
        r = "r not defined" if own["r"] is None else f"r = {own['r']:.3f}"
        groups = {"models": (rows["shift"].tolist(), rows["score"].tolist())}
        panels.append({"title": f"{trait}, layer {layers[trait]}: {r} (n = {own['n']})", "groups": groups})
    scatter(panels, path, xlabel="finetuning shift along the vector", ylabel="trait score (0-100)", ylim=(-3, 103))


if __name__ == "__main__":
    cli.run(main)
