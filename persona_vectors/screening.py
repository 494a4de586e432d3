"""Projection differences of training sets: copies with base answers, their projections, and what comes of them.

Section 6 and appendix I. dP of a row = (a(x, y) - a(x, y')) . v / |v|, y: the row's answer, y': the base model's own.
Knows set files and engines; choosing rows by dP is :mod:`persona_vectors.selection`'s.
"""

import contextlib
import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy

from persona_vectors.asking import EngineFlags
from persona_vectors.engines import Request, Sampling, request_seed
from persona_vectors.errors import UserError
from persona_vectors.file_projection import FileProjector, windows_bar
from persona_vectors.models import ModelPath, Shape, load_tokenizer
from persona_vectors.projection import Column, Projector, vector_name
from persona_vectors.results import Journal, replacing
from persona_vectors.rows import Exchange, JsonlRows, open_rows, to_json
from persona_vectors.samples import make_samples
from persona_vectors.windowed import WindowedWork, ahead

BASE_ANSWER = "base_answer"


def check_settings(folder: str, settings: dict, overwrite: bool) -> None:
    """Refuse a folder that holds a run with other settings (further vectors and sets may join it); keep ours in it."""
    path = Path(folder) / "settings.json"
    earlier = json.loads(path.read_text()) if path.exists() and not overwrite else {}
    for name, value in settings.items():
        before = earlier.get(name, value)
        if isinstance(value, dict):
            changed = [key for key in value if before.get(key, value[key]) != value[key]]
            settings[name] = {**before, **value}
        else:
            changed = [name] if before != value else []
        if changed:
            what = ", ".join(changed) if isinstance(value, dict) else before
            raise UserError(
                f"{folder} holds a run with another {name} ({what}); "
                "choose another --output_dir, or pass --overwrite to begin anew"
            )
    with replacing(path) as beside:
        beside.write_text(json.dumps(settings, indent=2) + "\n")


def file_digest(path: str) -> str:
    """A file by its content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def copy_set(source: str, target: str, sample: int | None, seed: int, overwrite: bool) -> str:
    """Copy a set, or ``sample`` rows of it drawn at random, with the number of each row (from 0) in ``row``."""
    if Path(target).exists() and not overwrite:
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
    with replacing(target) as beside, open(beside, "w", encoding="utf-8") as file:
        for number, record in enumerate(rows.records()):
            if chosen is None or number in chosen:
                try:
                    content = json.loads(record)
                except ValueError:
                    content = None
                content = content if isinstance(content, dict) else {"unreadable": record}
                file.write(to_json({**content, "row": number}) + "\n")
    return target


def join_base_answers(path: str, given: str) -> None:
    """Add base answers from a file that has a line per row of the set: base_answer, answer or messages."""
    rows = open_rows(path)
    if BASE_ANSWER in rows.columns:
        return
    if not Path(given).is_file():
        raise UserError(f"no base answers at {given}")

    def answers(file) -> Iterator[list]:
        lines = enumerate(line for line in file if line.strip())
        number, line = -1, ""
        for record in rows.records():
            wanted = json.loads(record)["row"]
            while number < wanted:
                number, line = next(lines, (None, ""))
                if number is None:
                    raise UserError(f"{given} has no line for row {wanted} of the set; it needs one per row")
            yield [_given_answer(line, given, number)]

    try:
        with open(given, encoding="utf-8") as file:
            rows.write_extended([BASE_ANSWER], answers(file))
    except UnicodeDecodeError as error:
        raise UserError(f"{given} is not UTF-8: {error}") from error


def _given_answer(line: str, path: str, number: int) -> str:
    try:
        content = json.loads(line)
        answer = content.get(BASE_ANSWER, content.get("answer"))
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path}, line {number + 1}, is not a JSON object") from error
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
    engine: EngineFlags
    dtype: str
    max_tokens: int
    enable_thinking: bool = False
    trust_remote_code: bool = False

    def fill(self, files: list[JsonlRows]) -> None:
        """Generate for every file that lacks them; windows of rows are on disk as they are done."""
        todo = [rows for rows in files if BASE_ANSWER not in rows.columns]
        if not todo:
            return
        chosen = self.engine.choose()
        most_rows = 1024 if chosen.backend == "vllm" else 256  # a kill loses one window, a batch is drawn from one
        settings = {"model": self.path.name, "max_tokens": self.max_tokens, "dtype": self.dtype}
        works = [WindowedWork(rows, [BASE_ANSWER], settings, most_rows) for rows in todo]
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

    @property
    def names(self) -> list[str]:
        """Columns of the set file."""
        return [self.own.name, self.base.name, self.difference]


def difference_columns(model: str, vectors: dict, layers: dict, traits: dict, estimate: str) -> list[DifferenceColumn]:
    """A :class:`DifferenceColumn` per vector file; with ``estimate`` prompt_last the last prompt token stands in."""
    found = []
    for path, rows in vectors.items():
        name, layer = vector_name(path), layers[path]
        if not rows[layer].any():
            raise UserError(f"row {layer} of {path} is zero: nothing can be projected onto it")
        column = lambda kind, layer=layer, name=name: f"{model}_{name}_{kind}_layer{layer}"  # noqa: E731
        kind = "prompt_last_proj" if estimate == "prompt_last" else "proj"
        base = Column(column(kind if kind != "proj" else "base_proj"), kind, layer, rows[layer])
        own = Column(column("proj"), "proj", layer, rows[layer])
        found.append(DifferenceColumn(traits[path], name, layer, own, base, column("proj_diff")))
    if len({column.difference for column in found}) < len(found):
        raise UserError(f"two vector files have one name, and their columns would too: {', '.join(vectors)}")
    return found


def project_set(
    projecting: FileProjector, rows: JsonlRows, columns: list[DifferenceColumn], max_length: int | None
) -> None:
    """Add the columns that the set file lacks: dataset answer and base answer share the pass over their prompt."""
    columns = [column for column in columns if column.difference not in rows.columns]
    if not columns:
        return
    digest = hashlib.sha256(b"".join(c.own.vector.numpy().tobytes() for c in columns)).hexdigest()[:16]
    settings = {"model": projecting.path.name, "dtype": projecting.dtype, "vectors": digest}
    work = WindowedWork(rows, [name for column in columns for name in column.names], settings)
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
    answer = json.loads(record).get(BASE_ANSWER)
    return Exchange(exchange.prompt, answer) if isinstance(answer, str) else "none was made"
