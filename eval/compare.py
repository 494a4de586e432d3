"""Stage: do answers differ? Two or more answers files, the difference of each score and its 95 % interval.

    python -m eval.compare base.csv steered.csv
    python -m eval.compare base.csv seed0.csv seed1.csv seed2.csv --trait evil --output comparison

The first file is what the others are compared with. Intervals are by bootstrap over questions; where files have the same questions,
these are drawn together. Writes <output>.csv, <output>_questions.csv (means per question), <output>.png (differences),
and of three files and more <output>_pareto.png: trait score against coherence.
"""

from pathlib import Path
from typing import Annotated

from persona_vectors import cli
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import of_file
from persona_vectors.files.tables import ANSWER_COLUMNS, is_given, read_answers, write_table

NO_SCORES = {*ANSWER_COLUMNS, "coef", "layer", "control", "dose", "condition", "reasoning"}


@cli.command
def main(
    *file_path: str,
    trait: cli.Several[str] | None = None,
    output: str = "comparison",
    seed: Annotated[int, cli.Between(0)] = 0,
):
    """Compare the scores of answers files.

    Args:
        file_path: two or more answers CSVs; the first is what the others are compared with.
        trait: score column(s) to compare; by default all that the files have in common.
        output: beginning of the files to write.
        seed: draws the bootstrap.
    """
    if len(set(file_path)) < max(2, len(file_path)):
        raise UserError("name two or more different answers files: python -m eval.compare a.csv b.csv")
    tables = {path: read_answers(path) for path in file_path}
    metrics = list(trait or common_scores(tables))
    tables = {path: read_answers(path, tuple(metrics)) for path in file_path}
    for path, table in tables.items():
        for name in ("coef", "layer", "control"):
            if name in table and table[name].nunique() > 1:
                raise UserError(
                    f"{path} is a sweep: it has {table[name].nunique()} values of '{name}'; eval.select_layer draws one"
                )
        if "question" not in table and "question_id" not in table:
            raise UserError(f"{path} has neither a column 'question' nor 'question_id'")
        for metric in metrics:
            if table[metric].isna().all():
                raise UserError(f"{path} has no score in '{metric}'")

    import pandas

    from persona_vectors.analysis.comparison import compare
    from persona_vectors.plots import labels

    names = dict(zip(file_path, labels(file_path, [Path(path).stem for path in file_path]), strict=True))
    first, *others = file_path
    rows = []
    for metric in metrics:
        for path in others:
            found = compare(*sides(tables[first], tables[path], metric), seed=seed)
            rows.append({"score": metric, "file": names[path], "against": names[first], **vars(found)})
    result = pandas.DataFrame(rows)
    questions = pandas.concat(
        [table.groupby(key(table))[metrics].mean().add_prefix(f"{names[path]}: ") for path, table in tables.items()],
        axis=1,
    )
    made_from = provenance.record(answers=[of_file(path) for path in file_path], seed=seed)
    written = [f"{output}.csv", f"{output}_questions.csv", f"{output}.png"]
    with provenance.writing(written[0], made_from):
        write_table(result, written[0])
    write_table(questions.reset_index(names="question"), written[1])
    draw(result, metrics, written[2])
    if len(file_path) > 2 and "coherence" in metrics and len(metrics) > 1:
        written.append(f"{output}_pareto.png")
        pareto(tables, names, [metric for metric in metrics if metric != "coherence"], written[-1])
    for row in rows:
        print(in_words(row))
    print("wrote " + ", ".join(written))


def common_scores(tables: dict) -> list[str]:
    """The columns of numbers from 0 to 100 that all files have."""
    import pandas

    found = []
    for column in next(iter(tables.values())).columns:
        if column in NO_SCORES or any(column not in table for table in tables.values()):
            continue
        texts = pandas.concat([table[column] for table in tables.values()])
        numbers = pandas.to_numeric(texts[is_given(texts)], errors="coerce")
        if len(numbers) and numbers.between(0, 100).all():
            found.append(column)
    if not found:
        raise UserError("the files have no score column in common; --trait names one")
    return found


def key(table):
    """What tells one question from another: its text, which stays the same over traits, types and runs."""
    return table["question"] if "question" in table else table["question_id"]


def sides(a, b, metric: str) -> tuple:
    return a[metric], key(a), b[metric], key(b)


def in_words(row: dict) -> str:
    """One comparison as a line."""
    interval = "" if row["low"] is None else f" [{row['low']:+.1f}, {row['high']:+.1f}]"
    effect = "" if row["effect"] is None else f", d = {row['effect']:.2f}"
    how = "the same" if row["paired"] else "different"
    return (
        f"{row['score']}: {row['file']} {row['mean_b']:.1f}, {row['against']} {row['mean_a']:.1f}: {row['difference']:+.1f}"
        f"{interval}{effect} ({how} {row['questions']} questions)"
    )


def draw(result, metrics: list[str], path: str) -> None:
    """The differences and their intervals, a panel a score."""
    from persona_vectors.plots import new_figure, save_figure

    count = result["file"].nunique()
    figure, axes = new_figure(columns=len(metrics), width=3.6, height=1.4 + 0.35 * count)
    for axis, metric in zip(axes, metrics, strict=True):
        of_metric = result[result["score"] == metric].iloc[::-1]
        below, above = (
            (of_metric["difference"] - of_metric["low"]).fillna(0),
            (of_metric["high"] - of_metric["difference"]).fillna(0),
        )
        axis.errorbar(of_metric["difference"], of_metric["file"], xerr=[below, above], fmt="o", markersize=4, capsize=3)
        axis.axvline(0, color="grey", linewidth=0.8, linestyle=":")
        axis.set(xlabel=f"{metric}: difference to {of_metric['against'].iloc[0]}", ylim=(-0.5, count - 0.5))
    save_figure(figure, path)


def pareto(tables: dict, names: dict, metrics: list[str], path: str) -> None:
    """Mean trait score against mean coherence, a point a file."""
    from persona_vectors.plots import scatter

    panels = [
        {
            "title": metric,
            "line": False,
            "groups": {names[p]: ([table["coherence"].mean()], [table[metric].mean()]) for p, table in tables.items()},
        }
        for metric in metrics
    ]
    scatter(panels, path, xlabel="coherence", ylabel="trait score (0-100)", ylim=(-3, 103))


if __name__ == "__main__":
    cli.run(main)
