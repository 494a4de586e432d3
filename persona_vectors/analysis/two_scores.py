"""Two scores of the same answers in one table: two columns of a file, or a column of each of two files.

Rows of two files are the same answer where their prompts (or, where a file has none, questions) and answers are. Knows
answers files; the arithmetic is :mod:`persona_vectors.analysis.agreement`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from persona_vectors.errors import UserError
from persona_vectors.files.tables import describe_columns, is_given, read_answers

if TYPE_CHECKING:
    import pandas

RATIO = "_llr"  # a log-likelihood ratio: any number, a yes from 0 on
KEPT = ("question", "prompt", "answer", "question_id", "reasoning")


@dataclass(frozen=True)
class Side:
    """One of the two scores: a column of a file.

    Attributes:
        name: in tables, messages and figures.
    """

    path: str
    column: str
    name: str

    @property
    def is_ratio(self) -> bool:
        """Whether it is a log-likelihood ratio, and no score 0-100."""
        return self.column.endswith(RATIO)

    def threshold(self, score: float) -> float:
        """From where on it is a yes, where ``score`` is that of scores 0-100."""
        return 0.0 if self.is_ratio else score


def sides_of(paths: tuple[str, ...], columns: tuple[str, ...]) -> tuple[Side, Side]:
    """The two sides that one or two files and one or two columns name.

    Example:
        sides_of(("a.csv", "b.csv"), ("evil",))[1].name  # "evil, b"
    """
    if len(paths) > 2 or len(columns) > 2 or len(paths) == len(set(columns)) == 1 or len(set(paths)) < len(paths):
        raise UserError(
            "two scores are needed: --columns a,b of one file, or --columns a of two different files (or a,b: a of the "
            f"first, b of the second), not {len(columns)} of {len(paths)}: {', '.join(columns)} of {', '.join(paths)}"
        )
    files, names = (paths * 2)[:2], (columns * 2)[:2]
    stems = [Path(path).stem if names[0] == names[1] else "" for path in files]
    if stems[0] == stems[1] and names[0] == names[1]:
        stems = list(files)
    a, b = (
        Side(path, column, f"{column}, {stem}" if stem else column)
        for path, column, stem in zip(files, names, stems, strict=True)
    )
    return a, b


def read_both(a: Side, b: Side) -> tuple["pandas.DataFrame", str]:
    """(the answers that both sides have, with the columns a, b, coherence_a and coherence_b; how many were left out).

    A coherence is that of the side's own judge (``coherence_<judge>`` beside ``<trait>_<judge>``), else the file's, else that of
    the other file; NaN where there is none. A score is NaN where the side gave none.

    Raises:
        UserError: a file or column that cannot be read, or no answer in common.
    """
    first = _read(a)
    if a.path == b.path:
        table = first.rename(columns={"score": "a", "coherence": "coherence_a"})
        other = _read(b)
        table = table.assign(b=other["score"], coherence_b=other["coherence"])
        said = ""
    else:
        second = _read(b)
        key = [name if name in first and name in second else "question" for name in ("prompt", "answer")]
        for side, part in ((a, first), (b, second)):
            for name in key:
                if name not in part:
                    raise UserError(f"{side.path} has no column '{name}' {describe_columns(list(part.columns))}")
            part["occurrence"] = part.groupby(key).cumcount()
        first = first.rename(columns={"score": "a", "coherence": "coherence_a"})
        second = second.rename(columns={"score": "b", "coherence": "coherence_b"})
        table = first.merge(second[[*key, "occurrence", "b", "coherence_b"]], on=[*key, "occurrence"])
        if table.empty:
            raise UserError(f"{a.path} and {b.path} have no answer in common (by {' and '.join(key)})")
        alone = [(side.path, len(part) - len(table)) for side, part in ((a, first), (b, second))]
        said = "; ".join(f"{count} answers of {path} are not in the other" for path, count in alone if count)
        for one, other in (("coherence_a", "coherence_b"), ("coherence_b", "coherence_a")):
            if table[one].isna().all():
                table[one] = table[other]
    return table, said


def question_of(table: "pandas.DataFrame") -> "pandas.Series":
    """What tells one question from another: its text, which stays the same over traits, types and runs."""
    for name in ("question", "question_id", "prompt"):
        if name in table:
            return table[name]
    raise UserError("the answers have none of the columns question, question_id and prompt")


def is_choices(path: str) -> bool:
    """Whether a file is of people's choices between two answers to a question."""
    return {"question", "answer_1", "answer_2", "choice"} <= set(read_answers(path).columns)


def read_choices(path: str, judged: Sequence[str], column: str) -> "pandas.DataFrame":
    """People's choices with the judge's scores of both answers, score_1 and score_2: NaN where ``judged`` has none.

    Args:
        path: a file with question, answer_1, answer_2 and choice (1 or 2, empty where there was none).
        judged: answers files with the score ``column``; where a text is there several times, its mean counts.
    """
    import pandas

    tables = [read_answers(file, (column,)) for file in judged]
    for file, table in zip(judged, tables, strict=True):
        for name in ("question", "answer"):
            if name not in table:
                raise UserError(f"{file} has no column '{name}' {describe_columns(list(table.columns))}")
    scores = pandas.concat(tables).dropna(subset=[column]).groupby(["question", "answer"])[column].mean().to_dict()
    choices = read_answers(path)
    for k in (1, 2):
        texts = zip(choices["question"], choices[f"answer_{k}"], strict=True)
        choices[f"score_{k}"] = pandas.Series([scores.get(text) for text in texts], index=choices.index, dtype=float)
    return choices


def _read(side: Side) -> "pandas.DataFrame":
    """A side's file: what was asked and answered, the score, and its coherence."""
    import pandas

    table = read_answers(side.path, () if side.is_ratio else (side.column,))
    if side.column not in table:
        raise UserError(f"{side.path} has no column '{side.column}' {describe_columns(list(table.columns))}")
    if side.is_ratio:
        given = is_given(table[side.column])
        numbers = pandas.to_numeric(table[side.column].where(given), errors="coerce").astype(float)
        bad = given & ~numbers.between(-1e9, 1e9)
        if bad.any():
            row = bad.idxmax()
            raise UserError(
                f"{side.path}, row {row + 2}: '{table[side.column][row][:40]}' in '{side.column}' is not a number"
            )
        table[side.column] = numbers
    places = [k for k, letter in enumerate(side.column) if letter == "_"]
    own = next((name for k in places if (name := f"coherence{side.column[k:]}") in table), "coherence")
    coherence = read_answers(side.path, (own,))[own] if own in table else float("nan")
    kept = [name for name in KEPT if name in table]
    return table[kept].assign(score=table[side.column].astype(float), coherence=coherence)
