"""Stage: finetunes with and without a mitigation, and their judged answers -> one table, one figure.

    bash scripts/mitigation.sh cpu
    python -m eval.mitigation report --folder output/mitigation/toy

Section 5 of the paper: preventative steering (a v during training), inference-time steering (-a v afterwards) and CAFT,
beside the control that the paper does not show: a random vector of the same norm. Reads what scripts/mitigation.sh
leaves, <trait>/seed<k>/<arm>.csv with <arm>/training_log.jsonl, and capability/<arm>.csv of eval.capability: what each
finetuning, and each steering, costs.
"""

import re
from pathlib import Path

from persona_vectors import cli, models
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import of_file
from persona_vectors.files.jsonfile import read_json

ARMS = {
    "base": "base model",
    "plain_normal": "finetuned on normal",
    "plain_misaligned_1": "finetuned on level I",
    "plain_misaligned_2": "finetuned on level II",
    "steer": "preventative steering",
    "random": "random vector of the same norm",
    "inference": "steering at inference",
    "ablate": "CAFT (ablation)",
}
OF_COSTS = ("tasks", "dtype", "limit", "num_fewshot", "max_tokens", "apply_chat_template")  # the same in all arms
OF_SCORES = ("artifact", "judge_model", "judge", "judge_prompt", "vector")  # must be the same in a trait's arms
KEYS = ("trait", "seed", "arm", "coef", "dose", "answers", "order")
NUMBERS = ("score", "coherence", "loss_first", "loss_last", "test_loss")
LAST = 8  # training steps whose mean is the loss at the beginning, and at the end: single batches differ by a tenth


@cli.command
def random(
    vector_path: str,
    output_path: str,
    seed: int = 0,
    overwrite: bool = False,
):
    """Write the control: random directions, each with the norm of the vector file's row.

    Args:
        vector_path: vector file [layers + 1, hidden].
        output_path: where to write; a file that is there is kept if it was drawn for this vector with this seed.
        seed: draws the directions.
        overwrite: draw anew although the file exists.
    """
    from persona_vectors.vectors.storage import fingerprint, load_vectors, random_like, save_vectors

    rows = load_vectors(vector_path)
    made_from = provenance.record(vector=fingerprint(vector_path, rows), seed=seed)
    if not overwrite and Path(output_path).exists() and provenance.take_up(output_path, made_from):
        print(f"{output_path} is there and is kept (--overwrite draws it anew)")
        return
    with provenance.writing(output_path, made_from):
        save_vectors(random_like(rows, seed), output_path)
    print(f"wrote {output_path}: random, with the norms of {vector_path}")


@cli.command
def report(
    folder: str,
    output: str | None = None,
):
    """Write <output>.csv (one row per arm, coefficient and trait) and <output>.png, and print the table.

    Args:
        folder: what scripts/mitigation.sh made: <trait>/seed<k>/<arm>.csv and capability/<arm>.csv.
        output: beginning of the files to write; by default mitigation in the folder.
    """
    import pandas

    from persona_vectors.files.tables import write_table

    arms = {path: rows for path in sorted(Path(folder).glob("*/seed*/*.csv")) if (rows := read_arm(path))}
    if not arms:
        raise UserError(f"{folder} holds no <trait>/seed<k>/<arm>.csv; scripts/mitigation.sh makes them")
    made_from = belong_together(list(arms), Path(folder))
    runs = pandas.DataFrame([row for rows in arms.values() for row in rows])
    table = over_seeds(runs)
    output = output or str(Path(folder) / "mitigation")
    with provenance.writing(f"{output}.csv", made_from):
        write_table(table, f"{output}.csv")
    write_table(runs, f"{output}_runs.csv")
    draw(table, f"{output}.png")
    print("\n".join(in_words(table)))
    print(f"wrote {output}.csv, {output}_runs.csv, {output}.png")


def named(path: Path) -> tuple[str, str | None]:
    """(arm, coefficient) in the name of an answers file."""
    if path.stem in ARMS:
        return path.stem, None
    return re.fullmatch(r"(.+?)(?:_(-?\d*\.?\d+))?", path.stem).groups()


def trained_in(path: Path) -> Path:
    """The folder of the model that gave an arm's answers; there is none for the base model."""
    return path.parent / "plain_misaligned_2" if named(path)[0] == "inference" else path.with_suffix("")


def costs_of(path: Path) -> Path | None:
    """The table of eval.capability for an arm; that of steering at inference has the plain finetune's too."""
    names = [path.stem, *(["inference"] if path.stem == "plain_misaligned_2" else [])]
    files = [path.parent / "capability" / f"{name}.csv" for name in names]
    return next((file for file in files if file.is_file()), None)


def read_costs(path: Path, coef: float) -> dict[str, float]:
    """{measure: value} of an arm at a coefficient; without kl, which is the distance from the arm's own unsteered model."""
    file = costs_of(path)
    if file is None:
        return {}
    from persona_vectors.capability.figure import named
    from persona_vectors.capability.sheet import read

    table = read(file)
    at = table[(table["coef"] == coef) & (table["control"] == "") & (table["task"] != "kl")]
    return {named(row["task"], row["measure"]): row["value"] for row in at.to_dict("records")}


def belong_together(paths: list[Path], root: Path) -> dict:
    """What a table of these answers, which lie in ``root``, is made from.

    Raises:
        UserError: they come from different base models; of one trait, from different vectors, questions or judges; from
            another model than the one that lies beside them now; or what they cost was measured on another one, or otherwise.
    """
    bases, traits, unknown = {}, {}, []
    costs = {path: file for path in paths if (file := costs_of(path))}
    measured = {file: provenance.result_of(file) for file in costs.values()}
    provenance.refuse_mixture(measured, OF_COSTS)
    for path in paths:
        answers, folder = provenance.result_of(path, path.parent.parent.name), trained_in(path)
        training = provenance.result_of(folder) if folder.is_dir() else None
        if answers is None:
            unknown.append(path)
            continue
        if folder.is_dir() and any((folder / name).exists() for name in ("adapter_config.json", "config.json")):
            there = models.made_of(models.resolve(str(folder)))
            provenance.refuse_mixture({path: answers, f"the model in {folder}": there}, ("model", "adapter"))
        if path in costs:
            of_steering = ("vector", "positions") if named(path)[0] == "inference" else ()
            both = {path: answers, costs[path]: measured[costs[path]]}
            provenance.refuse_mixture(both, ("model", "adapter", *of_steering))
        is_base = answers.get("adapter") or named(path)[0] == "base"  # else: all weights were trained
        bases[path] = training or (answers if is_base else None)
        found = {name: answers[name] for name in OF_SCORES if name in answers}
        if training and named(path)[0] in ("steer", "ablate"):
            found["vector"] = training["vectors"][0]
        traits.setdefault(path.parent.parent.name, {})[path] = found
    if unknown:
        print(
            f"{len(unknown)} of {len(paths)} answers files have no record of what they were made from: {unknown[0]} ..."
        )
    provenance.refuse_mixture(bases, ("model",))
    for records in traits.values():
        provenance.refuse_mixture(records, OF_SCORES)
    vectors = {name: [r["vector"] for r in records.values() if "vector" in r][:1] for name, records in traits.items()}
    base = next((record["model"] for record in bases.values() if record), None)
    answers = {path.relative_to(root).as_posix(): of_file(path) for path in paths}
    found = {file.relative_to(root).as_posix(): of_file(file) for file in sorted(measured)}
    return provenance.record(model=base, vectors=vectors, answers=answers, **({"capability": found} if found else {}))


def read_arm(path: Path) -> list[dict]:
    """One row per coefficient: mean trait score and coherence, the losses of the training that made the model, the costs."""
    from persona_vectors.files.tables import read_scored
    from persona_vectors.training.output import LOG, read_log

    trait, seed = path.parent.parent.name, int(path.parent.name.removeprefix("seed"))
    arm, coef = named(path)
    if arm not in ARMS:
        return []
    answers = read_scored(path, trait)
    trained = trained_in(path)
    losses = {}
    if (trained / LOG).exists():
        log = read_log(trained)
        steps = [line["loss"] for line in log if "loss" in line]
        tested = [line["eval_loss"] for line in log if "eval_loss" in line]
        losses = {
            "loss_first": sum(steps[:LAST]) / len(steps[:LAST]),
            "loss_last": sum(steps[-LAST:]) / len(steps[-LAST:]),
        }
        losses |= {"test_loss": tested[-1]} if tested else {}
    groups = answers.groupby(answers["coef"].astype(float)) if "coef" in answers else [(float(coef or 0), answers)]
    trained_at = dose_in(trained) if arm == "steer" else None
    doses = {value: float(group["dose"].iloc[0]) if "dose" in group else trained_at for value, group in groups}
    return [
        {
            "trait": trait,
            "seed": seed,
            "arm": arm,
            "coef": abs(value),
            **({} if doses[value] is None else {"dose": abs(doses[value])}),
            "score": group[trait].mean(),
            "coherence": group["coherence"].mean(),
            "answers": len(group),
            **losses,
            **read_costs(path, value if arm == "inference" else 0.0),
        }
        for value, group in groups
    ]


def dose_in(folder: Path) -> float | None:
    """How long the steering of a training was, relative to the activations; None where that is not known any more."""
    from persona_vectors.training.config import SteeringConfig
    from persona_vectors.training.output import RECORD
    from persona_vectors.training.steering import doses

    try:
        steering = SteeringConfig(**read_json(folder / RECORD).get("steering_config"))
        steering.digests()  # refuses other vectors than those of the training
        found = doses(steering)
    except (
        ValueError,
        TypeError,
    ):  # UserError is a ValueError: no such record, another program's, or the vectors are gone
        return None
    return abs(found[0]) if len(found) == 1 else None


def over_seeds(runs):
    """Mean, lowest and highest of each number over the seeds: a DataFrame of one row per trait, arm and coefficient."""
    runs = runs.assign(order=runs["arm"].map(list(ARMS).index))
    groups = runs.groupby(["trait", "order", "arm", "coef"])
    table = groups.agg(seeds=("seed", "nunique"), answers=("answers", "sum"))
    if "dose" in runs:  # a random vector is as long as the trait's
        table["dose"] = groups["dose"].first()
        table["dose"] = table["dose"].fillna(table.groupby(["trait", "coef"])["dose"].transform("first"))
    costs = [column for column in runs if column not in (*KEYS, *NUMBERS)]
    for column in (*NUMBERS, "model", *costs):  # costs come last, behind what was there before them
        if column == "model":
            table[column] = table.index.get_level_values("arm").map(ARMS)
        elif column in runs:
            table[column] = groups[column].mean()
            table[f"{column}_low"], table[f"{column}_high"] = groups[column].min(), groups[column].max()
    return table.reset_index().drop(columns="order")


def in_words(table) -> list[str]:
    """The table as lines of Markdown."""
    heads = ["trait", "model", "coefficient", "trait score", "coherence"]
    if (table["seeds"] > 1).any():
        heads[3:] = ["trait score (range over seeds)", "coherence (range)"]
    costs = [name.removesuffix("_low") for name in table if name.endswith("_low")]
    costs = [name for name in costs if name not in NUMBERS]
    heads += ["training loss", "test loss", *costs]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in table.to_dict("records"):
        known = {name: value for name, value in row.items() if value == value}  # NaN: an arm that was not trained
        scores = [_ranged(row, name, ".1f") if name in known else "" for name in ("score", "coherence")]
        sign = -1 if row["arm"] == "inference" else 1
        coef = f"{sign * row['coef']:g}" if row["coef"] else ""
        coef += f" (dose {sign * row['dose']:.3g})" if coef and "dose" in known else ""
        losses = f"{known['loss_first']:.3f} -> {known['loss_last']:.3f}" if "loss_first" in known else ""
        test = f"{known['test_loss']:.3f}" if "test_loss" in known else ""
        prices = [_ranged(row, name, ".3g") if name in known else "" for name in costs]
        lines.append(f"| {' | '.join([row['trait'], ARMS[row['arm']], coef, *scores, losses, test, *prices])} |")
    return lines


def _ranged(row: dict, name: str, form: str) -> str:
    """A mean and its range over the seeds; of one seed there is none."""
    if row["seeds"] == 1:
        return f"{row[name]:{form}}"
    return f"{row[name]:{form}} ({row[f'{name}_low']:{form}}-{row[f'{name}_high']:{form}})"


def draw(table, path: str) -> None:
    """Per trait one panel: trait score (solid) and coherence (dashed) by coefficient, with the range over seeds."""
    import pandas

    from persona_vectors.plots import COLOURS, new_figure, save_figure

    traits = list(table["trait"].unique())
    figure, axes = new_figure(columns=len(traits), width=3.8, height=3.8)
    for axis, trait in zip(axes, traits, strict=True):
        own = table[table["trait"] == trait]
        plain = own[own["arm"] == "plain_misaligned_2"]
        for arm, colour in zip(("steer", "random", "inference"), COLOURS, strict=False):
            line = own[(own["arm"] == arm) & (own["coef"] > 0)].sort_values("coef")
            line = pandas.concat([plain, line])  # coefficient 0 is the plain finetune
            for metric, style in (("score", "-"), ("coherence", "--")):
                label = ARMS[arm] if metric == "score" else None
                axis.plot(line["coef"], line[metric], style, color=colour, marker="o", markersize=3, label=label)
                low, high = line[f"{metric}_low"], line[f"{metric}_high"]
                axis.fill_between(line["coef"], low, high, color=colour, alpha=0.12, linewidth=0)
        for arm, colour in (("ablate", COLOURS[3]), ("base", COLOURS[6])):
            row = own[own["arm"] == arm]
            for metric, style in (("score", "-"), ("coherence", "--")) if len(row) else ():
                label = ARMS[arm] if metric == "score" else None
                axis.axhline(row[metric].iloc[0], color=colour, linestyle=style, linewidth=1, label=label)
        axis.set(xlabel="coefficient (with its sign reversed at inference)", ylim=(-3, 103), title=trait)
    axes[0].set_ylabel("score 0-100: trait (solid), coherence (dashed)")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(traits), frameon=False, fontsize=8
    )
    save_figure(figure, path)


if __name__ == "__main__":
    cli.run_one_of({"random": random, "report": report})
