"""Projection differences of training sets: copies with base answers, their projections, and what comes of them.

Section 6 and appendix I. dP of a row = (a(x, y) - a(x, y')) . v / |v|, y: the row's answer, y': the base model's own.
Knows set files and engines; choosing rows by dP is :mod:`persona_vectors.analysis.selection`'s.
"""

import contextlib
import functools
import random
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy

from persona_vectors import models
from persona_vectors.asking.subject import EngineSettings
from persona_vectors.engines import Request, Sampling, request_seed
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.atomic import replacing
from persona_vectors.files.fingerprints import Fingerprint, differences, of_file
from persona_vectors.files.journal import Journal
from persona_vectors.files.jsonfile import json_object, parse_json, read_json, to_json
from persona_vectors.files.resumable import WindowedWork, ahead, missing, tidy
from persona_vectors.files.rows import Exchange, JsonlRows, fingerprint, open_rows
from persona_vectors.models.loading import ModelPath, Shape, load_tokenizer
from persona_vectors.vectors.project_file import FileProjector, of_rows, windows_bar
from persona_vectors.vectors.projection import Column, Projector, made_from
from persona_vectors.vectors.samples import make_samples
from persona_vectors.vectors.storage import fingerprint as vector_fingerprint
from persona_vectors.vectors.storage import vector_name

BASE_ANSWER = "base_answer"


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
    chosen = None
    if sample is not None:
        count = sum(1 for _ in rows.records())
        chosen = set(random.Random(f"{seed}|{source}").sample(range(count), min(sample, count)))
    Journal.path_of(target).unlink(missing_ok=True)  # work on an earlier copy means nothing to this one
    shutil.rmtree(f"{target}.parts", ignore_errors=True)
    writing = provenance.writing(target, made_from)
    with writing, replacing(target) as beside, open(beside, "w", encoding="utf-8") as file:
        for number, record in enumerate(rows.records()):
            if chosen is None or number in chosen:
                content = json_object(record)
                content = {"unreadable": record} if content is None else content
                file.write(to_json({**content, "row": number}) + "\n")
    return target


def join_base_answers(path: str, given: str) -> None:
    """Add base answers from a file that has a line per row of the set: base_answer, answer or messages."""
    rows = open_rows(path)
    if not Path(given).is_file():
        raise UserError(f"no base answers at {given}")
    records = {BASE_ANSWER: provenance.record(base_answers=of_file(given))}
    if not missing(rows, records):
        return

    def answers(file) -> Iterator[list]:
        lines = enumerate(line for line in file if line.strip())
        at, line = -1, ""
        for record in rows.records():
            wanted = parse_json(record, path)["row"]
            while at < wanted:
                at, line = next(lines, (-1, ""))
                if at < 0:
                    raise UserError(f"{given} has no line for row {wanted} of the set; it needs one per row")
            yield [_given_answer(line, given, at)]

    try:
        records[BASE_ANSWER]["file"] = fingerprint(rows)
        with provenance.writing(path, parts=records), open(given, encoding="utf-8") as file:
            rows.write_extended([BASE_ANSWER], answers(file))
    except UnicodeDecodeError as error:
        raise UserError(f"{given} is not UTF-8: {error}") from error


def _given_answer(line: str, path: str, number: int) -> str:
    content = json_object(line)
    if content is None:
        raise UserError(f"{path}, line {number + 1}, is not a JSON object")
    answer = content.get(BASE_ANSWER, content.get("answer"))
    if answer is None and "messages" in content:
        exchange = JsonlRows.exchange(line)
        answer = exchange.answer if isinstance(exchange, Exchange) else None
    if not isinstance(answer, str):
        raise UserError(f"{path}, line {number + 1}, has no base_answer, answer or messages")
    return answer


@dataclass
class BaseAnswers:
    """The base model's own greedy answers to the prompts of set files, added as ``base_answer``."""

    path: ModelPath
    shape: Shape
    engine: EngineSettings
    dtype: str
    max_tokens: int
    enable_thinking: bool = False
    trust_remote_code: bool = False

    @functools.cached_property
    def made_from(self) -> dict:
        """What the answers depend on, besides the prompts."""
        settings = {"max_tokens": self.max_tokens, "dtype": self.dtype, "enable_thinking": self.enable_thinking}
        return provenance.record(**models.made_of(self.path), **settings)

    def lacking(self, files: list[JsonlRows]) -> list[JsonlRows]:
        """The files that have none.

        Raises:
            UserError: one has those of another model, or made with other settings.
        """
        return [rows for rows in files if missing(rows, {BASE_ANSWER: self.made_from})]

    def fill(self, files: list[JsonlRows]) -> None:
        """Generate for files that lack them; windows of rows are on disk as they are done."""
        if not files:
            return
        chosen = self.engine.choose(self.path)
        most_rows = 1024 if chosen.backend == "vllm" else 256  # a kill loses one window, a batch is drawn from one
        columns = {BASE_ANSWER: self.made_from}
        works = [WindowedWork(rows, columns, self.made_from, most_rows) for rows in files]
        sizes = [work.begin() for work in works]
        tokenizer = load_tokenizer(self.path, self.trust_remote_code)
        longest = self.shape.max_length or 8192
        with contextlib.closing(chosen.open(self.path, self.dtype, self.trust_remote_code, longest)) as engine:
            for work, size in zip(works, sizes, strict=True):
                with windows_bar(work, size, f"base answers, {work.rows.path.stem}") as bar:
                    for window in work.unfinished():
                        made = self._answer(engine, tokenizer, work.rows, window.records, longest, bar)
                        work.keep(window.number, *made)
                work.report(*work.finish())

    def _answer(self, engine, tokenizer, rows, records: list, longest: int, bar) -> tuple[list, list[str]]:
        exchanges = [rows.exchange(record) for record in records]
        exchanges = [Exchange(e.prompt, "") if isinstance(e, Exchange) else e for e in exchanges]
        samples, problems = make_samples(tokenizer, exchanges, longest - 1, False, self.enable_thinking)
        requests = [
            Request(str(k), sample.prompt_ids, seed=request_seed(0, str(k)))
            for k, sample in enumerate(samples)
            if sample is not None
        ]
        answers: list = [[None] for _ in records]
        bar.update(len(records) - len(requests))
        for answer in engine.generate(requests, Sampling(self.max_tokens, temperature=0.0)) if requests else ():
            answers[int(answer.key)] = [answer.text]
            bar.update()
        return answers, problems


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
