"""CSV and JSONL files of prompts and answers, read and extended row by row: memory does not grow with the file.

Rows come in windows, so that work can be sorted within one, kept on disk after one, and divided among processes. The
file is the same afterwards but for the new columns. Knows the two formats; knows nothing of models.
"""

import csv
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from persona_vectors.errors import UserError
from persona_vectors.files.atomic import replacing
from persona_vectors.files.fingerprints import Fingerprint, sha256_of
from persona_vectors.files.jsonfile import json_object, to_json
from persona_vectors.files.messages import THOUGHT_KEYS, Message, instead_of_messages
from persona_vectors.files.tables import describe_columns

WINDOW_ROWS = 4096
WINDOW_CHARACTERS = 8_000_000


@dataclass(frozen=True)
class Exchange:
    """What was asked and answered in one row: a templated prompt, or the messages before the last answer.

    ``reasoning`` are the thoughts before the answer, "" for none; None where the file does not say: then they may be in
    the answer's text. ``question`` is what the user asked last; "" where the file does not say.
    """

    prompt: str | list[Message]
    answer: str
    reasoning: str | None = None
    question: str = ""


@dataclass(frozen=True)
class Window:
    """Consecutive rows of a file, as the file has them."""

    number: int
    records: list


class Rows(Protocol):
    """A file of prompts and answers: :class:`CsvRows` or :class:`JsonlRows`. What a record is they alone know."""

    path: Path
    columns: list[str]

    def records(self) -> Iterator[Any]:
        """Every row as the file has it."""
        ...

    def length(self, record: Any) -> int:
        """Characters of a row."""
        ...

    def exchange(self, record: Any) -> Exchange | str:
        """What was asked and answered, or what is wrong with the row."""
        ...

    def field(self, record: Any, name: str) -> object:
        """A further field of a row; None where there is none."""
        ...

    def write_extended(self, columns: Sequence[str], values: Iterable[Sequence]) -> None:
        """Add columns (or replace them) and put the file in the place of the old one."""
        ...


def open_rows(path: str | Path, needs: Sequence[str] = ("prompt", "answer")) -> Rows:
    """The rows of ``path``: CSV with the columns that are needed, or JSONL with messages. Refuses anything else."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no file at {path}; it should be a CSV (prompt, answer) or a JSONL (messages)")
    if path.suffix not in (".csv", ".jsonl"):
        raise UserError(f"{path}: the file's name must end in .csv (prompt, answer) or .jsonl (messages)")
    return CsvRows(path, needs) if path.suffix == ".csv" else JsonlRows(path)


def windows(rows: Rows, most_rows: int = WINDOW_ROWS) -> Iterator[Window]:
    """The file in windows of at most ``most_rows`` rows and about :data:`WINDOW_CHARACTERS`, always the same."""
    records, characters, number = [], 0, 0
    for record in rows.records():
        records.append(record)
        characters += rows.length(record)
        if len(records) >= most_rows or characters >= WINDOW_CHARACTERS:
            yield Window(number, records)
            records, characters, number = [], 0, number + 1
    if records:
        yield Window(number, records)


def fingerprint(rows: Rows, also: str = "") -> Fingerprint:
    """What was asked and answered in a file's rows, in their order; its other columns do not count.

    ``also`` is a further field that counts.
    """

    def lines() -> Iterator[str]:
        for record in rows.records():
            exchange = rows.exchange(record)
            parts: list = [exchange.prompt, exchange.answer] if isinstance(exchange, Exchange) else [exchange]
            if isinstance(exchange, Exchange) and exchange.reasoning:
                parts.append(exchange.reasoning)
            if also:
                parts.append(rows.field(record, also))
            yield json.dumps(parts) + "\n"

    return Fingerprint(rows.path.name, f"sha256:{sha256_of(lines())}")


class CsvRows:
    """A CSV file, of which texts stay exactly what they are: quotes, line breaks, "NA", emoji. A record is a list."""

    def __init__(self, path: Path, needs: Sequence[str] = ("prompt", "answer")) -> None:
        """Read the header; :attr:`columns` has it. ``needs`` are the columns without which the file is refused."""
        self.path, self._needs = path, needs
        self.columns = next(self._lines(), [])
        for name in needs:
            if self.columns.count(name) != 1:
                raise UserError(f"{path} needs one column '{name}' {describe_columns(self.columns)}")
        self._place = {name: place for place, name in reversed(list(enumerate(self.columns)))}

    def _lines(self) -> Iterator[list[str]]:
        csv.field_size_limit(sys.maxsize)
        with open(self.path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            try:
                yield from (line for line in reader if line)
            except (csv.Error, UnicodeDecodeError) as error:
                raise UserError(f"{self.path}, after line {reader.line_num}: not readable as CSV: {error}") from error

    def records(self) -> Iterator[list[str]]:
        """Every row as a list of texts; one that is short is filled up, one that is too long refused."""
        lines = self._lines()
        next(lines)
        width = len(self.columns)
        for number, line in enumerate(lines, 1):
            if len(line) > width:
                raise UserError(f"{self.path}, row {number}: {len(line)} fields under {width} columns; mend its quotes")
            yield line + [""] * (width - len(line))

    @staticmethod
    def length(record: list[str]) -> int:
        """Characters of a row."""
        return sum(map(len, record))

    def exchange(self, record: list[str]) -> Exchange | str:
        """The row's prompt and answer, or what is wrong with it."""
        prompt, answer, question, reasoning = map(
            self.field, [record] * 4, ("prompt", "answer", "question", "reasoning")
        )
        if not prompt and "prompt" in self._needs:
            return "no prompt"
        return Exchange(prompt or "", answer or "", reasoning, question or "")

    def field(self, record: list[str], name: str) -> str | None:
        """A column of a row; None where there is no such column."""
        return record[self._place[name]] if name in self._place else None

    def write_extended(self, columns: Sequence[str], values: Iterable[Sequence]) -> None:
        """Add columns (or replace them) and put the file in the place of the old one."""
        kept = [place for place, name in enumerate(self.columns) if name not in columns]
        with replacing(self.path.resolve()) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
            file.write(_csv_line([self.columns[place] for place in kept] + list(columns)))
            for record, row in zip(self.records(), values, strict=True):
                added = ["" if value is None else str(value) for value in map(_plain, row)]
                file.write(_csv_line([record[place] for place in kept] + added))


class JsonlRows:
    """A JSONL file of {"messages": [...]} rows; other fields stay. A record is a line without its end."""

    def __init__(self, path: Path) -> None:
        """Look at the first row; :attr:`columns` has its fields."""
        self.path = path
        line = next(self.records(), "")
        first = json_object(line)
        if first is None or "messages" not in first:
            content: object = [] if line.lstrip().startswith("[") else first
            raise UserError(
                f'{path}: the first line is not a JSON object with "messages"{instead_of_messages(content)}'
            )
        self.columns = list(first)

    def records(self) -> Iterator[str]:
        """Every line that is not blank."""
        with open(self.path, encoding="utf-8-sig", newline="\n") as file:
            try:
                yield from (line.rstrip("\r\n") for line in file if line.strip())
            except UnicodeDecodeError as error:
                raise UserError(f"{self.path} is not UTF-8: {error}") from error

    @staticmethod
    def length(record: str) -> int:
        """Characters of a row."""
        return len(record)

    @staticmethod
    def exchange(record: str) -> Exchange | str:
        """The last answer and the messages before it, or what is wrong with the row."""
        content = json_object(record)
        if content is None:
            return "not a JSON object"
        messages = content.get("messages")
        if not isinstance(messages, list) or not messages:
            return "no messages"
        if not all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in messages):
            return "a message without a role"
        if not all(isinstance(m.get("content"), str) for m in messages):
            return "a message without text"
        places = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
        if not places:
            return "no assistant message"
        if places[-1] == 0:
            return "no prompt"
        last = messages[places[-1]]
        reasonings = [last[field] for field in THOUGHT_KEYS if last.get(field) is not None]
        if not all(isinstance(reasoning, str) for reasoning in reasonings):
            return "reasoning that is no text"
        prompt = messages[: places[-1]]
        question = next((message["content"] for message in reversed(prompt) if message["role"] == "user"), "")
        return Exchange(prompt, last["content"], next(filter(str.strip, reasonings), None), question)

    @staticmethod
    def field(record: str, name: str) -> object:
        """A further field of a row; None where there is none."""
        return (json_object(record) or {}).get(name)

    def write_extended(self, columns: Sequence[str], values: Iterable[Sequence]) -> None:
        """Add fields (or replace them), null where there is no value, and put the file in the place of the old one.

        A line that is not a JSON object stays as it is.
        """
        with replacing(self.path.resolve()) as beside, open(beside, "w", newline="\n", encoding="utf-8") as file:
            for record, row in zip(self.records(), values, strict=True):
                content = json_object(record)
                if content is not None:
                    content.update(zip(columns, map(_plain, row), strict=True))
                    record = to_json(content)
                file.write(record + "\n")


def _plain(value: Any) -> object:
    """A text or None as it is; of a float32 the shortest number that is read as the same one, None for NaN."""
    if value is None or isinstance(value, str):
        return value
    return None if math.isnan(value) else float(str(value))


def _csv_line(fields: list[str]) -> str:
    # csv.writer leaves a bare carriage return unquoted, and readers then take it for the end of the row
    return ",".join('"' + f.replace('"', '""') + '"' if any(c in f for c in '",\r\n') else f for f in fields) + "\n"
