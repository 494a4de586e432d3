"""Projection differences of training sets: copies of them, their projections, and what comes of them.

Section 6 and appendix I. dP of a row = (a(x, y) - a(x, y')) . v / |v|, y: the row's answer, y': the base model's own, which
:mod:`persona_vectors.analysis.base_answers` adds. Knows set files; choosing rows by dP is :mod:`persona_vectors.analysis.selection`'s.
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy

from persona_vectors.analysis.base_answers import BASE_ANSWER, drawn
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.atomic import replacing
from persona_vectors.files.fingerprints import Fingerprint, differences, of_file
from persona_vectors.files.journal import Journal
from persona_vectors.files.jsonfile import json_object, read_json, to_json
from persona_vectors.files.resumable import WindowedWork, ahead, missing, tidy
from persona_vectors.files.rows import Exchange, JsonlRows, fingerprint, open_rows
from persona_vectors.vectors.project_file import FileProjector, of_rows, windows_bar
from persona_vectors.vectors.projection import Column, Projector, made_from
from persona_vectors.vectors.samples import make_samples
from persona_vectors.vectors.storage import fingerprint as vector_fingerprint
from persona_vectors.vectors.storage import vector_name


def check_older(folder: str, now: Mapping, overwrite: bool) -> None:
    """Refuse a folder whose ``settings.json``, which earlier versions wrote, names other settings; sets and vectors that
    it does not name may join."""
    path = Path(folder) / "settings.json"
    if overwrite:
        path.unlink(missing_ok=True)
    if not path.exists():
        return
    earlier = read_json(path)
    try:
        known = {**earlier, **earlier.get("sets", {}), **earlier.get("vectors", {})}
    except TypeError as error:
        raise UserError(f"{path} names its sets and vectors in no way that is known; {provenance.REMEDY}") from error
    changed = differences({name: known[name] for name in now if name in known}, now)
    if changed:
        raise UserError(f"{folder} holds a run with other settings ({'; '.join(changed)}); {provenance.REMEDY}")


def copy_set(source: str, target: str, sample: int | None, seed: int, overwrite: bool) -> str:
    """Copy a set, or ``sample`` rows of it drawn at random, with the number of each row (from 0) in ``row``."""
    made_from = provenance.record(set=of_file(source), sample=sample, seed=None if sample is None else seed)
    if not overwrite and Path(target).exists() and provenance.take_up(target, made_from):
        return target
    rows = open_rows(source)
    if not isinstance(rows, JsonlRows):
        raise UserError(f"{source}: a training set is a JSONL file with messages")
    Journal.path_of(target).unlink(missing_ok=True)  # work on an earlier copy means nothing to this one
    shutil.rmtree(f"{target}.parts", ignore_errors=True)
    writing = provenance.writing(target, made_from)
    with writing, replacing(target) as beside, open(beside, "w", encoding="utf-8") as file:
        for number, record in drawn(rows, source, sample, seed):
            content = json_object(record)
            content = {"unreadable": record} if content is None else content
            file.write(to_json({**content, "row": number}) + "\n")
    return target


@dataclass(frozen=True, eq=False)
class DifferenceColumn:
    """A row's three numbers for one vector: its answer's projection, the base's (or its estimate), the difference."""

    trait: str
    vector_name: str
    layer: int
    own: Column
    base: Column
    difference: str

    def made_from(self, common: dict, file: Fingerprint | None = None) -> dict[str, dict]:
        """What each of them is made from; ``file`` is what the set asks and answers, base answers aside."""
        both = {**common, "vector": self.own.source, "layer": self.layer}
        alone = {**common, "file": file}
        base = {self.base.name: {**both, "type": "proj of base answers"}}
        if self.base.kind == "prompt_last_proj":
            base = made_from([self.base], alone)
        difference = {self.difference: {**both, "type": f"proj minus {self.base.kind}"}}
        return {**made_from([self.own], alone), **base, **difference}


def difference_columns(model: str, vectors: dict, layers: dict, traits: dict, estimate: str) -> list[DifferenceColumn]:
    """A :class:`DifferenceColumn` per vector file; with ``estimate`` prompt_last the last prompt token stands in."""
    found = []
    for path, rows in vectors.items():
        name, layer = vector_name(path), layers[path]
        if not rows[layer].any():
            raise UserError(f"row {layer} of {path} is zero: nothing can be projected onto it")
        column = lambda kind, layer=layer, name=name: f"{model}_{name}_{kind}_layer{layer}"  # noqa: E731
        kind = "prompt_last_proj" if estimate == "prompt_last" else "proj"
        source = vector_fingerprint(path, rows)
        base = Column(column(kind if kind != "proj" else "base_proj"), kind, layer, rows[layer], source)
        own = Column(column("proj"), "proj", layer, rows[layer], source)
        found.append(DifferenceColumn(traits[path], name, layer, own, base, column("proj_diff")))
    if len({column.difference for column in found}) < len(found):
        raise UserError(f"two vector files have one name, and their columns would too: {', '.join(vectors)}")
    return found


def lacking(projecting: FileProjector, rows: JsonlRows, columns: list[DifferenceColumn]) -> list[DifferenceColumn]:
    """The columns whose difference the set file has not.

    Raises:
        UserError: it has one that is made from something else.
    """
    tidy(rows.path)
    records = {c.difference: c.made_from(projecting.common)[c.difference] for c in columns}
    names = missing(rows, records, BASE_ANSWER)
    return [column for column in columns if column.difference in names]


def project_set(
    projecting: FileProjector, rows: JsonlRows, columns: list[DifferenceColumn], max_length: int | None
) -> None:
    """Add columns to a set file: dataset answer and base answer share the pass over their prompt."""
    if not columns:
        return
    settings = {**projecting.common, "vectors": of_rows([column.own for column in columns])}
    file = fingerprint(rows)
    records = {name: made for c in columns for name, made in c.made_from(projecting.common, file).items()}
    work = WindowedWork(rows, records, settings, also=BASE_ANSWER)
    sizes = work.begin()
    projecting.load()
    generated = columns[0].base.kind == "proj"
    wanted = [c.own for c in columns] + ([] if generated else [c.base for c in columns])
    projector = Projector(projecting.model, wanted, None, projecting.token_budget)

    def prepared() -> Iterator:
        for window in work.unfinished():
            exchanges = [rows.exchange(record) for record in window.records]
            if generated:
                exchanges += [_with_base_answer(e, r) for e, r in zip(exchanges, window.records, strict=True)]
            made = make_samples(projecting.tokenizer, exchanges, max_length, True, projecting.enable_thinking)
            yield window.number, len(window.records), *made

    with windows_bar(work, sizes, f"projecting {rows.path.stem}") as bar:
        for number, count, samples, problems in ahead(prepared()):
            values = projector.of_rows(samples, problems)
            n = len(columns)
            own, base = (values[:count], values[count:]) if generated else (values[:, :n], values[:, n:])
            if generated:
                pairs = zip(problems[:count], problems[count:], strict=True)
                problems = [p or (f"base answer: {q}" if q else "") for p, q in pairs]
            work.keep(number, numpy.stack([own, base, own - base], axis=2).reshape(count, 3 * n), problems)
            bar.update(count)
    work.report(*work.finish())


def _with_base_answer(exchange: Exchange | str, record: str) -> Exchange | str:
    if not isinstance(exchange, Exchange):
        return exchange
    answer = (json_object(record) or {}).get(BASE_ANSWER)
    return Exchange(exchange.prompt, answer) if isinstance(answer, str) else "none was made"
