"""Answers CSV, and other small tables: read with a reason where that fails, written whole."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_vectors.errors import UserError
from persona_vectors.files.atomic import replacing

if TYPE_CHECKING:
    import pandas

SCORED_BY = "python -m eval.judge"
ANSWER_COLUMNS = ("question", "prompt", "answer", "question_id")


MISSING = (  # what pandas reads as missing, and with it the published code
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
ROUNDING = 1e-6  # a score may be this far outside 0-100: weighted means come out as 100.00000000000001


def describe_columns(columns: list[str]) -> str:
    """The columns of a table that lacks one, for a message; says so where they are separated by something else."""
    marks = (("semicolons", ";"), ("tabs", "\t"), ("bars", "|"))
    other = next((name for name, mark in marks if len(columns) == 1 and mark in columns[0]), None)
    hint = f"; it is separated by {other}, commas are needed" if other else ""
    return f"(it has {', '.join(columns) or 'nothing'}{hint})"


def read_answers(path: str | Path, scores: tuple[str, ...] = (), unscored: bool = False) -> "pandas.DataFrame":
    """Read an answers CSV (ours, the published toolkit's, or one like it) as a pandas DataFrame.

    Texts stay texts: an answer "NA" or "null" is an answer, a missing one is "". ``scores`` are required columns of
    numbers 0-100 (which rounding may miss by 1e-6), NaN where missing (empty, NA, null; see :data:`MISSING`); one without any number is refused, unless
    ``unscored``. Raises :class:`UserError` naming the file, and the column or row at fault.
    """
    import pandas

    path = Path(path)
    if not path.is_file():
        raise UserError(f"no answers file at {path}; python -m eval.eval_persona makes one")
    options: dict[str, Any] = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
    try:
        names = pandas.read_csv(path, header=None, nrows=1, **options).iloc[0].tolist()
        table = pandas.read_csv(path, **options)
    except (ValueError, OSError) as error:  # pandas' parser and empty-file errors, and bad encodings, are ValueErrors
        raise UserError(f"{path} is not readable as CSV: {str(error).strip()}") from error
    for name in names:
        if name and names.count(name) > 1:  # pandas would rename the second
            raise UserError(f"{path} names the column '{name[:40]}' twice")
    if not isinstance(table.index, pandas.RangeIndex):  # pandas has taken the first for names of rows
        raise UserError(f"{path} is not readable as CSV: its rows have more fields than the header has names")
    for column in scores:
        if column not in table:
            raise UserError(f"{path} has no column '{column}' {describe_columns(list(table.columns))}")
        given = is_given(table[column])
        numbers = pandas.to_numeric(table[column].where(given), errors="coerce")
        bad = given & ~numbers.between(-ROUNDING, 100 + ROUNDING)
        if bad.any():
            row = bad.idxmax()
            raise UserError(
                f"{path}, row {row + 2}: '{table[column][row][:40]}' in column '{column}' is not a score 0-100"
            )
        if not (unscored or table.empty or given.any()):
            raise UserError(f"{path} is not scored: no row has a number in column '{column}'; {SCORED_BY} scores it")
        table[column] = numbers.astype(float).clip(0, 100)
    return table


def is_given(texts: "pandas.Series") -> "pandas.Series":
    """Which cells of a column, as texts, say something: neither empty nor one of :data:`MISSING`."""
    return ~texts.str.strip().isin(MISSING)


def read_scored(
    path: str | Path, trait: str, min_coherence: float = 0.0, without: str = "--min_coherence 0"
) -> "pandas.DataFrame":
    """:func:`read_answers` with a trait's scores and coherence; at a ``min_coherence`` of 0 coherence may be missing (NaN).

    ``without`` is the flag that sets it to 0.
    """
    import pandas

    if min_coherence > 0:
        try:
            return read_answers(path, (trait, "coherence"))
        except UserError as error:
            hint = f"; {without} does without" if "no column 'coherence'" in str(error) else ""
            raise UserError(f"{error}{hint}") from error
    table = read_answers(path, (trait,))
    given = table["coherence"] if "coherence" in table else pandas.Series(None, table.index, dtype=float)
    table["coherence"] = pandas.to_numeric(given, errors="coerce")
    return table


def write_table(table: "pandas.DataFrame", path: str | Path) -> None:
    """Write a DataFrame as CSV, whole or not at all."""
    # a bare carriage return is left unquoted otherwise, and readers take it for the end of the row
    texts = table.select_dtypes(["object", "string"])
    returns = any(texts[name].astype(str).str.contains("\r", regex=False).any() for name in texts)
    with replacing(path) as beside:
        table.to_csv(beside, index=False, quoting=csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL)
