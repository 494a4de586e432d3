"""What a result was made from, recorded beside it, and whether what lies there is what would be made now.

The record of ``answers.csv`` is ``answers.csv.provenance.json``; that of a folder is ``provenance.json`` in it, so that it
goes where the folder goes. Of a result in several files it lies beside the one that a rerun reads. It holds

    result    the settings and fingerprints that the file as a whole depends on
    parts     the same for each column that was added to it, or each row of a table that grows
    content   fingerprints of the files themselves: a record speaks for the file that it was written for

A file without a record is anybody's: it is taken as it is, and that is said.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from persona_vectors import __version__
from persona_vectors.errors import UserError
from persona_vectors.files.fingerprints import differences, in_words, of_file, of_folder, plain, same
from persona_vectors.files.jsonfile import read_json, write_json

logger = logging.getLogger(__name__)

METHOD = 1  # raised when the same inputs and settings give other numbers than before
ENDING = ".provenance.json"
UNFINISHED = "unfinished"  # in the place of an entry, and of content, while the file is being replaced
ITSELF = "."  # in content: the output, whatever it is called by now
REMEDY = "pass --overwrite to make it anew, or choose another output"


def record(**what: object) -> dict:
    """What a result is made from: settings, and fingerprints of all that it depends on."""
    return {"method": METHOD, "toolkit": f"persona_vectors {__version__}", **what}


def path_of(output: str | Path) -> Path:
    """Where the record of an output is."""
    output = Path(output)
    return output / ENDING.removeprefix(".") if output.is_dir() else output.with_name(output.name + ENDING)


def is_record(path: str | Path) -> bool:
    """Whether a file is a record, for those who look through a folder."""
    return f".{Path(path).name}".endswith(ENDING)


def read(output: str | Path) -> dict:
    """All that is recorded of an output: result, parts and content; empty where there is no record.

    Raises:
        UserError: there is one that cannot be read.
    """
    path = path_of(output)
    if not path.is_file():
        return {}
    try:
        known = read_json(path)
    except UserError as error:
        raise UserError(f"{error}; {REMEDY}") from error
    if not isinstance(known.get("parts", {}), dict) or not isinstance(known.get("content", {}), dict | str):
        raise UserError(f"{path} is not a record of this toolkit; {REMEDY}")
    return known


def result_of(output: str | Path, column: str = "") -> dict | None:
    """The record of an output as a whole; None where there is none.

    With ``column``, what is recorded of that column alone (which was added or made anew later) comes first.
    """
    known = read(output)
    found, added = known.get("result"), known.get("parts", {}).get(column)
    parts = [entry for entry in (found, added) if isinstance(entry, dict)]
    return {name: value for entry in parts for name, value in entry.items()} if parts else None


def is_unfinished(output: str | Path, part: str) -> bool:
    """Whether a column or row was being written when its run was stopped."""
    return read(output).get("parts", {}).get(part) == UNFINISHED


@dataclass(frozen=True)
class Verdict:
    """What a record says of an output.

    Attributes:
        recorded: there is an entry.
        finished: the file was there when the entry was written.
        differences: what it was made from and what it would be made from now.
        unchanged: the files are those that the record was written for.
    """

    recorded: bool
    finished: bool
    differences: list[str]
    unchanged: bool

    @property
    def matches(self) -> bool:
        """True where the output is proven to be what would be made now."""
        return self.recorded and self.finished and not self.differences and self.unchanged


def compare(output: str | Path, now: Mapping, part: str | None = None) -> Verdict:
    """Compare what an output (or a column or row of it) was made from with what it would be made from ``now``."""
    known = read(output)
    entry = known.get("result") if part is None else known.get("parts", {}).get(part)
    if not isinstance(entry, dict):
        return Verdict(entry is not None, entry is None, [], True)
    return Verdict(True, True, differences(entry, now), _is_content(output, known.get("content", {})))


def take_up(
    output: str | Path,
    now: Mapping,
    part: str | None = None,
    say: Callable[[str], object] = logger.info,
    verb: str = "does not match this command",
    remedy: str = REMEDY,
) -> bool:
    """Whether an output that exists (or a column or row of it) may be used for what would be made ``now``.

    False where it was being written when its run was stopped. Without a record it may be used, and ``say`` gets a line.

    Raises:
        UserError: it was made from something else; says what was, what is now, and what to do.
    """
    verdict, what = compare(output, now, part), f"{output}" if part is None else f"{part} in {output}"
    if verdict.differences:
        raise UserError(f"{what} {verb} ({'; '.join(verdict.differences)}); {remedy}")
    if not verdict.recorded:
        say(f"{what} has no record of what it was made from: it is taken as it is")
    elif not verdict.unchanged:
        say(f"{output} was changed after its record was written: {part or 'it'} is taken as it is")
    return verdict.finished


@contextmanager
def writing(
    output: str | Path,
    result: Mapping | None = None,
    parts: Mapping[str, Mapping | None] | None = None,
    files: Iterable[str | Path] = (),
) -> Iterator[None]:
    """Write an output, or add parts to it, within the block; its record is true at every moment, also after a kill.

    Args:
        result: what it is made from. An earlier record, with its parts, ends with it; without parts either, nothing is
            known of the output, and it has no record.
        parts: what each column or row that is added is made from; None for one of which that is not known.
        files: all files of a result in several.
    """
    if result is None and parts is None:
        path_of(output).unlink(missing_ok=True)
        yield
        return
    try:
        known = {} if result is not None else read(output)
    except UserError:  # taken up it was not: whoever writes has been told to make it anew
        known = {}
    added, names = plain(parts or {}), [Path(file).name for file in files] or [ITSELF]
    before = known.get("content", {})
    ours = result is not None or _is_content(output, before)
    kept = known.get("parts", {}) if result is None else {}
    in_between = {name: UNFINISHED for name, entry in added.items() if kept.get(name) != entry}
    known["result"] = known.get("result") if result is None else UNFINISHED
    known |= {"parts": {**kept, **in_between}, "content": UNFINISHED if ours else before}
    _save(output, known)
    yield
    if result is not None:
        known["result"] = plain(result)
    known["parts"] = {name: entry for name, entry in {**kept, **added}.items() if entry is not None}
    known["content"] = _content(output, names) if ours else before
    _save(output, known)


def write(output: str | Path, result: Mapping) -> None:
    """Record what an output that is there, or is only begun, is made from; :func:`seal` says later that it is whole."""
    _save(output, {"result": plain(result), "parts": {}})


def seal(output: str | Path) -> None:
    """Add to a record the fingerprint of the output as it is now."""
    known = read(output)
    _save(output, {**known, "content": _content(output, [ITSELF])})


def _save(output: str | Path, known: dict) -> None:
    write_json(path_of(output), {name: value for name, value in known.items() if value})


def _content(output: str | Path, names: Iterable[str]) -> dict[str, str | None]:
    """{name: fingerprint} of an output itself and of files beside it; None for one that is not there."""
    found = {}
    for name in names:
        path = Path(output) if name == ITSELF else Path(output).with_name(name)
        found[name] = of_folder(path).id if path.is_dir() else of_file(path).id if path.is_file() else None
    return found


def _is_content(output: str | Path, content: dict | str) -> bool:
    """Whether the files are those of a record; while they are being replaced, by the old or by the new, they are."""
    return content == UNFINISHED or content == _content(output, content)


def refuse_mixture(records: Mapping[str, Mapping | None], names: Sequence[str]) -> None:
    """Refuse to put results together that were made from different things.

    Args:
        records: {what to call it: its record}; one without a record, or without the name, is left aside.
        names: what must be the same in all.
    """
    for name in names:
        known = [(label, found[name]) for label, found in records.items() if found and name in found]
        for label, value in known[1:]:
            first, expected = known[0]
            if not same(plain(value), expected):
                raise UserError(
                    f"{first} and {label} do not belong together: {name} of the one is {in_words(expected)}, of the other "
                    f"{in_words(value)}; make one of them anew, or keep them apart"
                )
