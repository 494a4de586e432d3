"""Stage: finetunes with and without a mitigation, and their judged answers -> one table, one figure.

    bash scripts/mitigation.sh cpu
    python -m eval.mitigation report --folder output/mitigation/toy

Section 5 of the paper: preventative steering (a v during training), inference-time steering (-a v afterwards) and CAFT,
beside the control that the paper does not show: a random vector of the same norm. Reads what scripts/mitigation.sh
leaves, <trait>/seed<k>/<arm>.csv with <arm>/training_log.jsonl.
"""

import re
from pathlib import Path

from persona_vectors import cli
from persona_vectors.errors import UserError

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
LAST = 8  # training steps whose mean is the loss at the beginning, and at the end: single batches differ by a tenth


def random(vector_path: str, output_path: str, seed: int = 0):
    """Write the control: random directions, each with the norm of the vector file's row.

    Args:
        vector_path: vector file [layers + 1, hidden].
        output_path: where to write; an existing file is kept.
        seed: draws the directions.
    """
    import torch

    from persona_vectors.vectors import load_vectors, save_vectors

    seed = cli.as_int("seed", seed)
    if not Path(output_path).exists():
        rows = load_vectors(vector_path)
        drawn = torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed))
        save_vectors(drawn / drawn.norm(dim=-1, keepdim=True) * rows.norm(dim=-1, keepdim=True), output_path)
    print(f"wrote {output_path}: random, with the norms of {vector_path}")


def report(folder: str, output: str = None):
    """Write <output>.csv (one row per arm, coefficient and trait) and <output>.png, and print the table.

    Args:
        folder: what scripts/mitigation.sh made: <trait>/seed<k>/<arm>.csv.
        output: beginning of the files to write; by default mitigation in the folder.
    """
    import pandas

    from persona_vectors.results import write_table

    rows = [row for path in sorted(Path(folder).glob("*/seed*/*.csv")) for row in read_arm(path)]
    if not rows:
        raise UserError(f"{folder} holds no <trait>/seed<k>/<arm>.csv; scripts/mitigation.sh makes them")
    runs = pandas.DataFrame(rows)
    table = over_seeds(runs)
    output = output or str(Path(folder) / "mitigation")
    write_table(table, f"{output}.csv")
    write_table(runs, f"{output}_runs.csv")
    draw(table, f"{output}.png")
    print("\n".join(in_words(table)))
    print(f"wrote {output}.csv, {output}_runs.csv, {output}.png")


def read_arm(path: Path) -> list[dict]:
    """One row per coefficient: mean trait score and coherence, and the losses of the training that made the model."""
    from persona_vectors.results import read_answers
    from persona_vectors.training_output import LOG, read_log

    trait, seed = path.parent.parent.name, int(path.parent.name.removeprefix("seed"))
    arm, coef = (
        re.fullmatch(r"(.+?)(?:_(-?\d*\.?\d+))?", path.stem).groups() if path.stem not in ARMS else (path.stem, None)
    )
    if arm not in ARMS:
        return []
    answers = read_answers(path, (trait, "coherence"))
    trained = path.with_suffix("") if arm != "inference" else path.parent / "plain_misaligned_2"
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
    return [
        {
            "trait": trait,
            "seed": seed,
            "arm": arm,
            "coef": abs(value),
            "score": group[trait].mean(),
            "coherence": group["coherence"].mean(),
            "answers": len(group),
            **losses,
        }
        for value, group in groups
    ]


def over_seeds(runs):
    """Mean, lowest and highest of each number over the seeds: a DataFrame of one row per trait, arm and coefficient."""
    runs = runs.assign(order=runs["arm"].map(list(ARMS).index))
    groups = runs.groupby(["trait", "order", "arm", "coef"])
    table = groups.agg(seeds=("seed", "nunique"), answers=("answers", "sum"))
    for column in ("score", "coherence", "loss_first", "loss_last", "test_loss"):
        if column in runs:
            table[column] = groups[column].mean()
            table[f"{column}_low"], table[f"{column}_high"] = groups[column].min(), groups[column].max()
    table = table.reset_index().drop(columns="order")
    return table.assign(model=table["arm"].map(ARMS))


def in_words(table) -> list[str]:
    """The table as lines of Markdown."""
    heads = ["trait", "model", "coefficient", "trait score (range over seeds)", "coherence (range)"]
    heads += ["training loss", "test loss"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in table.to_dict("records"):
        known = {name: value for name, value in row.items() if value == value}  # NaN: an arm that was not trained
        ranges = [f"{row[m]:.1f} ({row[f'{m}_low']:.1f}-{row[f'{m}_high']:.1f})" for m in ("score", "coherence")]
        coef = f"{-row['coef'] if row['arm'] == 'inference' else row['coef']:g}" if row["coef"] else ""
        losses = f"{known['loss_first']:.3f} -> {known['loss_last']:.3f}" if "loss_first" in known else ""
        test = f"{known['test_loss']:.3f}" if "test_loss" in known else ""
        lines.append(f"| {' | '.join([row['trait'], ARMS[row['arm']], coef, *ranges, losses, test])} |")
    return lines


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
