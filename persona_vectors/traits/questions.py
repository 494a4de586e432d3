"""Questions out of a file of the user's, in the place of a trait's own.

A CSV or JSONL file with a row per question: ``question``, a text, or ``messages``, a whole conversation up to the answer (in a CSV
as JSON). ``question_id`` or ``id`` names the row; all other columns are kept, in the answers file after its own. They may say
which experimental condition a row belongs to: rows of several conditions may share an id, and then their draws as well.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from persona_vectors.errors import UserError
from persona_vectors.files.fingerprints import Fingerprint, of_json
from persona_vectors.files.jsonfile import parse_json
from persona_vectors.files.messages import Message, as_chat, is_unicode
from persona_vectors.files.tables import read_answers
from persona_vectors.traits.artifact import Question, Trait, check_name, make_questions

IDS = ("question_id", "id")
NO_SYSTEM = ("system", "system_prompt")  # columns that look like a system prompt, and would only be kept


@dataclass(frozen=True)
class AskedRow:
    """One row: where it stands, its id if it has one, the messages up to the answer, and its further columns."""

    where: str
    id: str | None
    messages: list[Message]
    columns: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """The last message: what the answers file and the judge have as the question."""
        return self.messages[-1]["content"]


@dataclass(frozen=True)
class QuestionFile:
    """The questions of a file, for any trait.

    Example:
        asked = read_questions("mine.jsonl", reserved={"answer", "evil"})
        questions = asked.of_trait(trait, "pos")
    """

    path: str
    rows: list[AskedRow]

    @property
    def fingerprint(self) -> Fingerprint:
        """What is asked, in its order."""
        return of_json(Path(self.path).name, [[row.id, row.messages, row.columns] for row in self.rows])

    def of_trait(self, trait: Trait, sign: str | None = None, assistant_name: str | None = None) -> list[Question]:
        """Every row, under the instructions and system prompts of :func:`make_questions`; a row without an id is ``<trait>_<i>``.

        Raises:
            UserError: a row with a system message of its own is to get another; two rows that nothing tells apart.
        """
        made = make_questions(replace(trait, questions=[row.text for row in self.rows]), sign, assistant_name)
        times = len(made) // len(self.rows)
        found: list[Question] = []
        seen: Counter[str] = Counter()
        for number, question in enumerate(made):
            row, usual = self.rows[number // times], f"{trait.name}_{number // times}"
            own = any(message["role"] == "system" for message in row.messages)
            if question.system and own:
                raise UserError(
                    f"{row.where} has a system message of its own, and --persona_instruction_type and --assistant_name would "
                    "put another before it: ask such rows without them, or take it out of the row"
                )
            name = (row.id or usual) + question.id.removeprefix(usual)
            key = name if not seen[name] else f"{name}#{seen[name]}"  # ids of files have no #
            seen[name] += 1
            chat = json.dumps(as_chat(row.messages, row.where, question.system), ensure_ascii=False)
            system = row.messages[0]["content"] if row.messages[0]["role"] == "system" else question.system
            found.append(Question(name, row.text, system, chat=chat, columns=row.columns, key=key))
        names = Counter((question.id, question.columns) for question in found)
        (name, _), count = names.most_common(1)[0]
        if count > 1:
            raise UserError(f"{self.path} has {count} rows with the id '{name}', and no other column tells them apart")
        return found


def trait_without_artifact(name: str) -> Trait:
    """A trait of which only the name counts, where neither questions, instructions nor a judge's prompt are taken from it."""
    check_name(name)
    return Trait(name, [], [], "")


def read_questions(path: str, reserved: Collection[str], most: int | None = None) -> QuestionFile:
    """Read a file of questions, or its first ``most``.

    Args:
        reserved: names of the answers file's own columns.

    Raises:
        UserError: no such file, one that cannot be read, a row without exactly one of question and messages, a column by a
            reserved name.

    Example:
        read_questions("mine.csv", {"answer"}).rows[0].text
    """
    if not Path(path).is_file():
        raise UserError(f"no file of questions at {path}; it should be a CSV or JSONL with question or messages")
    if Path(path).suffix not in (".csv", ".jsonl"):
        raise UserError(f"{path}: the file's name must end in .csv or .jsonl (question or messages)")
    records = list(_of_csv(path) if Path(path).suffix == ".csv" else _of_jsonl(path))
    if not records:
        raise UserError(f"{path} holds no questions")
    names = list(dict.fromkeys(name for _, record in records for name in record))
    own = next((name for name in IDS if name in names), None)
    further = [name for name in names if name not in ("question", "messages", own)]
    for name in further:
        if name in reserved:
            raise UserError(f"{path}: '{name}' is a column of the answers file itself; rename or remove it")
        if name in NO_SYSTEM:
            raise UserError(f"{path}: a system prompt belongs into messages, not into a column '{name}'; rename that")
    return QuestionFile(path, [_row(where, record, own, further) for where, record in records[:most]])


def _of_csv(path: str) -> Iterator[tuple[str, dict]]:
    for number, record in enumerate(read_answers(path).to_dict("records"), 1):
        where = f"{path}, row {number}"
        if (record.get("messages") or "").strip():
            record["messages"] = parse_json(record["messages"], f"'messages' of {where}")
        yield where, record


def _of_jsonl(path: str) -> Iterator[tuple[str, dict]]:
    try:
        lines = Path(path).read_bytes().decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            record = parse_json(line, f"{path}, line {number}")
            if not isinstance(record, dict):
                raise UserError(f"{path}, line {number} is not a JSON object")
            yield f"{path}, line {number}", record


def _row(where: str, record: dict, own: str | None, further: list[str]) -> AskedRow:
    given = {name: record.get(name) for name in ("question", "messages")}
    given = {name: value for name, value in given.items() if value is not None and str(value).strip()}
    if len(given) != 1:
        raise UserError(f"{where} has {'both' if given else 'neither'} question {'and' if given else 'nor'} messages")
    value = next(iter(given.values()))
    if not isinstance(value, str if "question" in given else list):
        raise UserError(f"{where}: question is a text, and messages are a list of role and content")
    messages = as_chat(value, where)
    if not messages[-1]["content"].strip():
        raise UserError(f"{where}: the last message is empty")
    columns = tuple((name, _text(record.get(name))) for name in further)
    name = _text(record.get(own)).strip() if own else ""
    if "|" in name or "#" in name:
        raise UserError(f"{where}: the id '{name[:40]}' holds | or #, which answers are kept by")
    if not is_unicode("".join([name, *(part for column in columns for part in column)])):
        raise UserError(f"{where} holds half a character (a lone surrogate)")
    return AskedRow(where, name or None, messages, columns)


def _text(value: object) -> str:
    """A value as the CSV has it: a text as it is, nothing for null, anything else as JSON."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
