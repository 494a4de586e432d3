"""Scores over the steps of a training: a table and a figure from the answers of its checkpoints."""

from collections.abc import Mapping
from pathlib import Path

from persona_vectors.analysis.sweeps import cell_means
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import of_file
from persona_vectors.files.tables import read_answers, write_table
from persona_vectors.plots import steering_curves

SWEPT = ("layer", "coef", "control")  # columns of a sweep


def write_steps(files: Mapping[int, str], trait: str, path: str | Path, title: str = "") -> list[Path]:
    """Write how score and coherence go over the steps, as CSV and, beside it, as a figure; returns both paths.

    The table has a row per step (and layer, coefficient and control of a sweep): step, n (answers), trait_mean,
    trait_error, coherence_mean, coherence_error; errors are half-widths of the 95 % interval over questions.

    Args:
        files: {step: the answers CSV of that checkpoint}.
        path: of the CSV; the figure's ends in .png.

    Example:
        write_steps({5: "out/checkpoint-5.csv", 10: "out/checkpoint-10.csv"}, "evil", "out/run_by_step.csv")
    """
    import pandas

    tables = [read_answers(file, (trait, "coherence")).assign(step=step) for step, file in sorted(files.items())]
    answers = pandas.concat(tables, ignore_index=True)
    swept = [name for name in SWEPT if name in answers]
    table = cell_means(answers, trait, ["step", *swept])
    lines = []
    for cell, line in table.groupby(swept) if swept else [((), table)]:
        label = ", ".join(f"{name} {value}" for name, value in zip(swept, cell, strict=True) if value != "")
        lines.append((label or trait, line))
    path, figure = Path(path), Path(path).with_suffix(".png")
    made_from = provenance.record(trait=trait, answers={str(step): of_file(file) for step, file in files.items()})
    with provenance.writing(path, made_from, files=[path, figure]):
        write_table(table, path)
        steering_curves(lines, trait, figure, title, x="step", xlabel="training step")
    return [path, figure]
