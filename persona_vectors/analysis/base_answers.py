"""The base model's own answers to the prompts of training sets: generated, given in a file, or only foreseen.

Section 6. They are a field of the sets' copies. Knows set files and engines.
"""

import contextlib
import functools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from persona_vectors import models
from persona_vectors.asking.foresee import Foreseen
from persona_vectors.asking.subject import EngineSettings
from persona_vectors.engines import Request, Sampling, request_seed
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import of_file
from persona_vectors.files.journal import Journal
from persona_vectors.files.jsonfile import json_object, parse_json
from persona_vectors.files.resumable import WindowedWork, missing
from persona_vectors.files.rows import Exchange, JsonlRows, fingerprint, open_rows
from persona_vectors.judge.prices import Amount
from persona_vectors.models.loading import ModelPath, Shape, load_tokenizer
from persona_vectors.vectors.project_file import windows_bar
from persona_vectors.vectors.samples import make_samples

BASE_ANSWER = "base_answer"


def drawn(rows: JsonlRows, source: str, sample: int | None, seed: int) -> Iterator[tuple[int, str]]:
    """(number, record) of the rows of a set, or of ``sample`` of them drawn at random."""
    chosen = None
    if sample is not None:
        count = sum(1 for _ in rows.records())
        chosen = set(random.Random(f"{seed}|{source}").sample(range(count), min(sample, count)))
    for number, record in enumerate(rows.records()):
        if chosen is None or number in chosen:
            yield number, record


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

    def foresee(self, sets: Mapping[str, str], sample: int | None, seed: int, overwrite: bool) -> Foreseen:
        """What :meth:`fill` would make for sets, {file: its copy, there or not}; nothing is made.

        Raises:
            UserError: a copy has the base answers of another model, or made with other settings.
        """
        tokenizer, longest = load_tokenizer(self.path, self.trust_remote_code), self.shape.max_length or 8192
        prompts: list[int] = []
        there = 0
        for source, target in sets.items():
            rows = JsonlRows(Path(source if overwrite or not Path(target).exists() else target))
            records = [record for _, record in drawn(rows, source, sample if rows.path == Path(source) else None, seed)]
            if rows.path == Path(target):
                missed = self._unanswered(rows) if self.lacking([rows]) else []
                there, records = there + len(records) - len(missed), missed
            made, _ = self._samples(tokenizer, rows, records, longest)
            prompts += [len(one.prompt_ids) for one in made if one is not None]
        most = sum(min(self.max_tokens, longest - length) for length in prompts)
        return Foreseen(len(prompts), there, sum(prompts), Amount.of(0, len(prompts), None, most), None, [], None)

    def _unanswered(self, rows: JsonlRows) -> list[str]:
        """The rows of the windows that an unfinished run has not done."""
        if not Journal.path_of(rows.path).exists():
            return list(rows.records())
        work = self._work(rows, self.engine.choose(self.path).backend)
        return [record for window in work.unfinished() for record in window.records]

    def _work(self, rows: JsonlRows, backend: str) -> WindowedWork:
        """Windows of rows: a kill loses one, a batch is drawn from one."""
        return WindowedWork(rows, {BASE_ANSWER: self.made_from}, self.made_from, 1024 if backend == "vllm" else 256)

    def fill(self, files: list[JsonlRows]) -> None:
        """Generate for files that lack them; windows of rows are on disk as they are done."""
        if not files:
            return
        chosen = self.engine.choose(self.path)
        works = [self._work(rows, chosen.backend) for rows in files]
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
        samples, problems = self._samples(tokenizer, rows, records, longest)
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

    def _samples(self, tokenizer, rows: JsonlRows, records: list, longest: int) -> tuple[list, list[str]]:
        """The prompts of rows, None where there is none, and what is wrong with those."""
        exchanges = [rows.exchange(record) for record in records]
        exchanges = [Exchange(e.prompt, "") if isinstance(e, Exchange) else e for e in exchanges]
        return make_samples(tokenizer, exchanges, longest - 1, False, self.enable_thinking)
