"""Read a steering sweep from disk, with the layer and coefficient of every answer.

A sweep is one CSV with the columns coef and layer, as eval_persona writes it, or one CSV per cell with both in its
name, as the published scripts write it (``evil_steer_response_layer20_coef2.0.csv``).
"""

import glob
import logging
import math
import os
import re
from collections.abc import Iterator, Sequence

from persona_vectors.capability.values import ratio
from persona_vectors.errors import UserError
from persona_vectors.files.tables import read_scored

logger = logging.getLogger(__name__)

MIN_COHERENCE = 75.0  # least mean of a cell that is recommended
EVERY = 10**6  # stands for the layer "all"; sorts after all real layers
LISTED = EVERY + 1  # stands for "list": the layers of a steering list (eval_persona --steering)
SAME_DOSE = 0.01  # doses have four digits
NAMES = {EVERY: "all", LISTED: "list"}
_VALUE = {"layer": r"\d+|all", "coef": r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"}
# A minus sign belongs to the coefficient: coef-1.5 is -1.5. A list of values (layer16,20) does not match.
_IN_NAME = {
    name: re.compile(rf"{word}[_=]?({_VALUE[name]})(?![.,]?\d|(?<=[a-z])[a-z])", re.IGNORECASE)
    for name, word in (("layer", "layer"), ("coef", "coef(?:f|ficient)?"))
}


def layer_name(layer: int) -> int | str:
    """The layer as in answers files: "all" for :data:`EVERY`, "list" for :data:`LISTED`, else the number.

    Example:
        layer_name(EVERY)  # "all"
    """
    return NAMES.get(layer, int(layer))


def layer_number(layer: int | str) -> int:
    """What :func:`layer_name` names.

    Example:
        layer_number("all")  # EVERY
    """
    return next((number for number, name in NAMES.items() if name == layer), None) or int(layer)


def read_sweep(paths: Sequence[str], trait: str, min_coherence: float = MIN_COHERENCE):
    """The answers of a sweep, as a DataFrame.

    Columns: file, layer (a number; :data:`EVERY` for all), coef, control (empty for the trait's own vector), the scores
    <trait> and coherence, and question, answer and dose (a number) if the files have them.

    Args:
        paths: CSV files; a path with ``{layer}``, ``{coef}`` or ``*`` stands for every matching file. If a file has no
            layer or coef column, the value comes from the placeholder, else from "layer20" or "coef1.5" in the name
            of the file or of its folder.
        min_coherence: at 0, coherence may be missing from the files (NaN).

    Raises:
        UserError: no such file, a file whose layer or coefficient is unknown, or two files of the same cell.

    Example:
        table = read_sweep(["out/evil_layer{layer}_coef{coef}.csv"], "evil")
        table.groupby(["layer", "coef"])[["evil", "coherence"]].mean()
    """
    import pandas

    tables = []
    owners: dict = {}
    for file, by_pattern in _files(paths):
        answers = read_scored(file, trait, min_coherence)
        if answers.empty:
            raise UserError(f"{file} holds no answers")
        cell = {name: _numbers(name, answers, file, by_pattern) for name in ("layer", "coef")}
        control = answers.get("control", "")
        texts = {name: answers[name] for name in ("question", "answer") if name in answers}
        table = answers[[trait, "coherence"]].assign(file=file, **cell, control=control, **texts)
        if "dose" in answers:
            table["dose"] = pandas.to_numeric(answers["dose"], errors="coerce")
        for own in table[["layer", "coef", "control"]].drop_duplicates().itertuples(index=False, name=None):
            if own in owners:
                layer, coef, control = own
                raise UserError(
                    f"two files hold layer {layer_name(layer)}, coefficient {coef:g}{control and f', control {control}'}: "
                    f"{owners[own]} and {file}"
                )
            owners[own] = file
        tables.append(table)
    whole = pandas.concat(tables, ignore_index=True)
    warn_of_doses(whole)
    return whole


def warn_of_doses(table) -> None:
    """Log a warning where one layer's doses are told by different norms: not in proportion to the coefficients.

    Args:
        table: DataFrame with layer, coef and file, and perhaps dose.

    Example:
        warn_of_doses(pandas.concat([answers, costs.assign(file="capability.csv")]))
    """
    if "dose" not in table:
        return
    told = table[table["coef"].astype(float) != 0].dropna(subset=["dose"]).reset_index(drop=True)
    units = told["dose"] / told["coef"].astype(float)
    for layer, of_layer in units.groupby(told["layer"]):
        ends = of_layer.idxmin(), of_layer.idxmax()
        low, high = units[list(ends)]
        if high > low * (1 + SAME_DOSE):
            told_by = " and ".join(dict.fromkeys(told["file"][list(ends)]))
            logger.warning(
                f"{told_by} tell doses by different mean norms: coefficient 1 at layer {layer_name(layer)} is dose {low:.4g} "
                f"here and {high:.4g} there; compare coefficients, not doses"
            )


def _files(paths: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Each file once, with the values of its pattern's placeholders: {"layer": "20", "coef": "1.5"} or fewer."""
    seen = set()
    for path in paths:
        found: list[tuple[str, dict[str, str]]] = [(path, {})]
        if re.search(r"\{(layer|coef)\}|\*", path) and not os.path.exists(path):
            found = list(_called(path))
        for file, by_pattern in found:
            if os.path.realpath(file) not in seen:
                seen.add(os.path.realpath(file))
                yield file, by_pattern


def _called(pattern: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The files that match a pattern with placeholders or stars, and the placeholders' values in each."""
    pattern = os.path.normpath(pattern)
    wild, expression = "", ""
    for part in re.split(r"(\{layer\}|\{coef\}|\*)", pattern):
        name = part.strip("{}")
        if part == "*":
            expression += "[^/]*"
        elif part == f"{{{name}}}":
            expression += f"(?P={name})" if f"<{name}>" in expression else f"(?P<{name}>{_VALUE[name]})"
        else:
            wild += glob.escape(part)
            expression += re.escape(part)
            continue
        wild += "*"
    files = sorted(glob.glob(wild))
    if not files:
        raise UserError(f"no file is called {pattern}")
    for file in files:
        fits = re.fullmatch(expression, file)
        if not fits:
            raise UserError(f"{file} does not fit {pattern}: a layer is a whole number or 'all', a coef a number")
        yield file, fits.groupdict()


def _numbers(name: str, answers, file: str, by_pattern: dict[str, str]):
    """``layer`` or ``coef`` of every row of a file, from its column, else from its name."""
    import numpy
    import pandas

    if name in answers:
        texts = answers[name]
    else:
        value = by_pattern.get(name) or _by_file_name(name, file)
        if value is None:
            raise UserError(
                f"{file} has no column '{name}', and no {'layer20' if name == 'layer' else 'coef1.5'} in its name; say "
                "how such files are called: --file_path 'out/l{layer}_a{coef}.csv'"
            )
        texts = pandas.Series(value, index=answers.index)
    numbers = _as_numbers(texts)
    if not numpy.isfinite(numbers).all() or (name == "layer" and (numbers % 1).any()):
        raise UserError(f"{file} has rows without a number in '{name}'")
    if name in by_pattern and (numbers != _as_numbers(pandas.Series(by_pattern[name]))[0]).any():
        raise UserError(f"{file} is of {name} {by_pattern[name]} by its name, but its column '{name}' says otherwise")
    return numbers.astype(int if name == "layer" else float)


def _as_numbers(texts):
    """A column of texts as numbers: those of :data:`NAMES` for words, NaN for anything else that is not a number."""
    import pandas

    words = {word: str(number) for number, word in NAMES.items()}
    return pandas.to_numeric(texts.str.lower().replace(words), errors="coerce")


def _by_file_name(name: str, file: str) -> str | None:
    """The value after "layer" or "coef" in a file's name, or in the nearest folder that has one; None without any."""
    for part in reversed(os.path.normpath(file).split(os.sep)):
        values = set(_IN_NAME[name].findall(part))
        if len(values) > 1:
            raise UserError(f"{file} is of more than one {name} by its name: {' and '.join(sorted(values))}")
        if values:
            return values.pop()
    return None


def unsteered_at(answers, layer: int):
    """The unsteered answers of a layer; where it has none of its own, those of all layers, which are the same model's.

    Example:
        unsteered_at(read_sweep(["out/evil_steering.csv"], "evil"), 20)["evil"].mean()
    """
    unsteered = answers[answers["coef"] == 0]
    of_layer = unsteered[unsteered["layer"] == layer]
    return of_layer if len(of_layer) else unsteered


def cell_means(answers, trait: str, by: Sequence[str] = ("layer", "coef")):
    """Mean, and half the 95 % interval, of both scores per (layer, coef) or whatever ``by`` names: one row a cell.

    Answers to one question are alike: the questions are the sample (:func:`persona_vectors.capability.values.ratio`), and one
    alone has no interval (NaN). Where questions are not told, each answer counts as one of its own.

    Args:
        answers: DataFrame with these columns, the scores <trait> and coherence, and perhaps question.

    Returns:
        DataFrame with these columns, n (answers), trait_mean, trait_error, coherence_mean and coherence_error; and dose
        where the answers have it.

    Example:
        cell_means(read_sweep(["out/evil_steering.csv"], "evil"), "evil")
    """
    import pandas

    groups = answers.groupby(list(by))
    asked = answers["question"] if "question" in answers else answers.index.to_series()
    cells = pandas.DataFrame({"n": groups.size()})
    for name, column in (("trait", trait), ("coherence", "coherence")):
        scores = groups[column]
        cells[f"{name}_mean"] = scores.mean()
        cells[f"{name}_error"] = scores.apply(lambda own: _error(own, asked))
    if "dose" in answers:
        cells["dose"] = groups["dose"].first()
    return cells.reset_index()


def _error(scores, questions) -> float:
    """Half the 95 % interval of the mean of one cell's scores; ``questions`` by the same index."""
    scores = scores.dropna()
    by_question = scores.groupby(questions[scores.index])
    error = ratio(by_question.sum().tolist(), by_question.count().tolist())[1]
    return math.nan if error is None else 1.96 * error
