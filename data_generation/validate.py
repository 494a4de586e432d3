"""Check trait artifacts and training sets before they cost anything.

    python -m data_generation.validate data_generation dataset.zip my_questions/ dataset/evil/normal.jsonl

A path is an artifact (.json), a training set (.jsonl), a .zip of training sets, or a folder, of which every
artifact and every training set is checked. Training sets of one folder called normal, misaligned_1 and misaligned_2 are
a family and are also checked together (parallel prompts, lengths, openings, near-duplicates, overlap with the
questions of artifacts), and so are files of other names in one folder with the same prompts; any other training set is
only compared with the questions of artifacts. Prints one line per file and family, one per finding, and a table of the families. Exit code
0: no findings; 1: findings; 2: a path that cannot be checked. A finding is not always an error: the stages run on
artifacts of other sizes, say, and train on any rows.
"""

import codecs
import collections
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from data_generation import families
from data_generation.families import Family, Pair
from persona_vectors import cli
from persona_vectors.errors import UserError
from persona_vectors.files.provenance import is_record
from persona_vectors.training.data import ROLES, row_of
from persona_vectors.traits import checks

PREFERENCE = {"chosen", "rejected"}  # of rows for losses that compare answers
TRAINED_ON = ("messages", "prompt", "chosen", "rejected")  # of a row; other keys are ignored
UNFILLED = ("${trait}", "${trait_description}", "${question}")  # of data_generation/prompts.py
SHOWN = 20
ARTIFACTS = Path(__file__).parent
SIBLINGS = {"trait_data_extract": "trait_data_eval", "trait_data_eval": "trait_data_extract"}


@dataclass
class Report:
    """The findings on one file."""

    name: str
    summary: str = ""
    findings: list[str] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)  # of a training set
    questions: list[str] = field(default_factory=list)  # of an artifact

    def __str__(self) -> str:
        count = len(self.findings)
        head = f"{'ok' if not count else '1 finding' if count == 1 else f'{count} findings'}: {self.name}"
        lines = [f"{head} ({self.summary})" if self.summary else head]
        lines += [f"  - {finding}" for finding in self.findings[:SHOWN]]
        return "\n".join(lines + [f"  - and {count - SHOWN} more"] * (count > SHOWN))


@cli.command
def main(*paths: str) -> int:
    """Check trait artifacts and training sets before they cost anything; exit code 1 where there are findings.

    Args:
        paths: artifacts (.json), training sets (.jsonl), a .zip of training sets, or folders.
    """
    if not paths:
        raise UserError("name what is to be checked: an artifact .json, a training set .jsonl, a .zip, or a folder")
    files = []
    for path in paths:
        for report in reports(Path(path)):
            print(report, flush=True)
            files.append(report)
    found = families_of(files)
    together = []
    for report in family_reports(found, [question for file in files for question in file.questions]):
        print(report, flush=True)
        together.append(report)
    found = [family for family in found if not family.is_alone]
    if found:
        print("", families.TABLE, *(line for family in found for line in family.table()), "", sep="\n")
    counts = [len(report.findings) for report in files + together if report.findings]
    what = f"{len(files)} files{f' and {len(found)} families' if found else ''}"
    print(f"checked {what}: {f'{sum(counts)} findings in {len(counts)}' if counts else 'no findings'}")
    return 1 if counts else 0


def families_of(files: Iterable[Report]) -> list[Family]:
    """The families among the training sets, except those with a file that has findings of its own.

    Files of one folder are a family by name or by their prompts; see :func:`data_generation.families.split`.
    """
    folders: dict[str, dict[str, list[Pair]]] = {}
    broken = set()
    for report in files:
        folder, _, name = report.name.rpartition("/")
        if name.endswith(".jsonl"):
            folders.setdefault(folder, {})[name.removesuffix(".jsonl")] = report.pairs
            broken |= {folder} if report.findings else set()
    return [
        family for folder, sets in folders.items() if folder not in broken for family in families.split(folder, sets)
    ]


def family_reports(found: list[Family], questions: list[str]) -> Iterator[Report]:
    """A report for each family; prompts are also compared with the questions of the shipped artifacts."""
    for path in sorted(ARTIFACTS.glob("trait_data_*/*.json")) if found else []:
        questions = questions + artifact(path).questions
    for family, findings in families.findings(found, questions):
        rows = max(map(len, family.versions.values()))
        if not family.is_alone:
            yield Report(family.folder, f"family, {rows} rows in {len(family.versions)} versions", findings)
        elif findings:
            yield Report(family.folder, "compared with the questions of artifacts", findings)


def reports(path: Path) -> Iterator[Report]:
    """A report for every artifact and training set at a path (a file, folder or zip).

    Raises:
        UserError: nothing that can be checked.
    """
    try:
        if path.is_dir():
            yield from _folder(path)
        elif not path.exists():
            raise UserError(f"no file or folder at {path}")
        elif is_record(path):
            return
        elif path.suffix == ".json":
            yield artifact(path)
        elif path.suffix == ".jsonl":
            with open(path, "rb") as lines:
                yield training_set(str(path), lines)
        elif path.suffix == ".zip":
            yield from archive(path)
        else:
            raise UserError(f"{path} is neither an artifact (.json), a training set (.jsonl), a .zip nor a folder")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _folder(folder: Path) -> Iterator[Report]:
    paths = sorted(path for path in folder.rglob("*.json*") if path.is_file() and not path.name.startswith("."))
    checked = [path for path in paths if _is_artifact(path, folder) or _is_training_set(path.name)]
    if not checked:
        raise UserError(f"{folder} holds neither artifacts (trait_data_*/*.json) nor training sets (*.jsonl)")
    for path in checked:
        yield from reports(path)


def _is_artifact(path: Path, folder: Path) -> bool:
    """Whether a JSON file is an artifact: it must be directly in the folder or in a trait_data_* folder."""
    ours = path.parent == folder or path.parent.name.startswith("trait_data_")
    return path.suffix == ".json" and ours and not is_record(path)


def _is_training_set(name: str) -> bool:
    return name.endswith(".jsonl") and not name.endswith(".journal.jsonl")


def artifact(path: Path) -> Report:
    """Check an artifact, and that it shares no question with the trait's artifact of the other set."""
    content, findings = read_json(path.read_bytes())
    report = Report(str(path), findings=findings)
    if findings and content is None:
        return report
    report.findings += checks.findings(content, path.stem)
    if isinstance(content, dict):
        pairs, questions = (content.get(key) for key in ("instruction", "questions"))
        if isinstance(pairs, list) and isinstance(questions, list):
            report.summary = f"artifact, {len(pairs)} pairs, {len(questions)} questions"
            report.questions = [question for question in questions if isinstance(question, str)]
    sibling = path.absolute().parent.parent / SIBLINGS.get(path.absolute().parent.name, "") / path.name
    if path.absolute().parent.name in SIBLINGS and sibling.is_file():
        report.findings += checks.shared_questions(content, read_json(sibling.read_bytes())[0])
    return report


def read_json(data: bytes) -> tuple[object, list[str]]:
    """``(content, findings)`` of a JSON file; content is None if it cannot be parsed."""
    twice: list[str] = []

    def keep(pairs: list[tuple[str, object]]) -> dict:
        twice.extend(key for key, count in collections.Counter(key for key, _ in pairs).items() if count > 1)
        return dict(pairs)

    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=keep)
    except UnicodeDecodeError as error:
        return None, [f"is not UTF-8: byte {error.start} is {data[error.start]:#04x}"]
    except (ValueError, RecursionError) as error:
        return None, [f"is not readable as JSON: {error}"]
    return content, [f"has the key {json.dumps(key)} twice in one object; all but the last are lost" for key in twice]


def training_set(name: str, lines: Iterable[bytes]) -> Report:
    """Check a training set with one ``{"messages": [...]}`` per line, or pairs for preference losses; blank lines and other keys
    are ignored.

    A byte order mark before the first line is let be, as training.py reads over it.
    """
    report, rows, seen, kinds = Report(name), 0, {}, set()
    for number, line in enumerate(lines, 1):
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not line.strip():
            continue
        rows += 1
        row, findings = read_json(line)
        findings += row_findings(row) if not findings else []
        if not findings:
            key = hash(json.dumps([row.get(name) for name in TRAINED_ON], sort_keys=True))
            if key in seen:
                findings = [f"is the same as line {seen[key]}"]
            seen.setdefault(key, number)
            report.pairs += last_pair(row)
            kinds.add("messages" in row)
        report.findings += [f"line {number} {finding}" for finding in findings]
    if not rows:
        report.findings.append("holds no rows")
    if len(kinds) > 1:
        report.findings.append("mixes conversations and preferences, which no one loss takes")
    report.summary = f"training set, {rows} rows"
    return report


def row_findings(row: object) -> list[str]:
    """Everything that is wrong with one row, as texts that continue "line 7 ..."."""
    if not isinstance(row, dict):
        return ["is not a JSON object"]
    if "messages" not in row and row.keys() & PREFERENCE:
        return of_training(row, "dpo")
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        return ["has no 'messages' list"]
    found, roles, spoken = [], [], []
    for i, message in enumerate(messages):
        role, content = (message.get(key) if isinstance(message, dict) else None for key in ("role", "content"))
        calls = role == "assistant" and message.get("tool_calls")
        roles.append(role)
        spoken += [] if calls or role == "tool" else [role]
        if role not in ROLES:
            found.append(f"message {i} has the role {json.dumps(role)}, not one of {', '.join(ROLES)}")
        if not isinstance(content, str):
            found += [] if calls and content is None else [f"message {i} has no 'content' text"]
        elif re.search("[\ud800-\udfff]", content):
            found.append(f"message {i} holds half a character (a lone surrogate), which no tokenizer takes")
        elif not content.strip():
            found += [] if calls or role == "tool" else [f"message {i} ({role}) is empty"]
        else:
            found += [f"message {i} holds the unfilled placeholder {mark}" for mark in UNFILLED if mark in content]
    if found:
        return found
    if "assistant" not in roles:
        return ["has no assistant turn: there is nothing to train on"]
    if roles[-1] != "assistant":
        return [f"ends with {roles[-1]}, not with the assistant's answer"]
    spoken = spoken[1:] if roles[0] == "system" else spoken
    if "system" in spoken:
        return ["has a system message that is not the first"]
    if spoken != ["user", "assistant"] * (len(spoken) // 2):
        return [f"does not alternate user and assistant: {', '.join(roles)}"]
    return of_training(row, "sft")


def of_training(row: dict, loss: str) -> list[str]:
    """What training.py would refuse a row for."""
    try:
        row_of(row, "", loss)
    except UserError as error:
        return [str(error).removeprefix(":").strip()]
    return []


def last_pair(row: dict) -> list[tuple[str, str]]:
    """The last question and answer of a row without findings, of preferences the chosen answer; [] where no question is asked."""
    messages = row.get("messages")
    if messages is None:
        sides = row_of(row, "", "dpo")
        messages = [*sides["prompt"], *sides["chosen"]]
    asked = [message["content"] for message in messages if message["role"] == "user"]
    return [(asked[-1], messages[-1]["content"])] if asked else []


def archive(path: Path) -> Iterator[Report]:
    """Check every training set in a zip without unpacking it, and that no path leads outside the folder."""
    try:
        with zipfile.ZipFile(path) as zipped:
            names = [name for name in zipped.namelist() if not name.startswith("__MACOSX/") and not name.endswith("/")]
            again = [name for name, count in collections.Counter(names).items() if count > 1]
            names = list(dict.fromkeys(names))
            own = [f"'{name}' would unpack outside of the folder" for name in names if _is_stray(PureWindowsPath(name))]
            own += [f"holds '{name}' more than once; all but the last are lost" for name in again]
            sets = [name for name in names if _is_training_set(name) and not PurePosixPath(name).name.startswith(".")]
            if not sets:
                own.append("holds no training sets (*.jsonl)")
            yield Report(str(path), f"archive of {len(sets)} training sets", own)
            for name in sets:
                yield _member(zipped, name, f"{path}/{name}")
    except zipfile.BadZipFile as error:
        yield Report(str(path), findings=[f"is not a whole zip file: {error}"])


def _is_stray(path: PureWindowsPath) -> bool:
    """Whether a path of either system (PureWindowsPath reads both) is absolute or leads upwards."""
    return bool(path.drive or path.root) or ".." in path.parts


def _member(zipped: zipfile.ZipFile, name: str, label: str) -> Report:
    try:
        with zipped.open(name) as lines:
            return training_set(label, lines)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        return Report(label, findings=[f"is damaged: {error}"])
    except NotImplementedError as error:  # a kind of RuntimeError
        return Report(label, findings=[f"cannot be unpacked: {error}"])
    except RuntimeError:  # raised by zipfile for encrypted members
        return Report(label, findings=["is encrypted; unpack it with its password and check the folder"])


if __name__ == "__main__":
    cli.run(main)
