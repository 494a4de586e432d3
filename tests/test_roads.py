"""One road for each thing: what the library hashes, reads, says and quotes of errors goes through one module each."""

import ast
import logging
import re
from pathlib import Path

import pytest

from persona_vectors import cli
from persona_vectors.errors import NothingScored, UserError, first_line
from persona_vectors.files.jsonfile import json_object, parse_json, read_json, to_json, write_json

LIBRARY = Path(__file__).resolve().parents[1] / "persona_vectors"
# What may print: commands themselves, an interrupted one, a server of its own process, a published name asked to.
SPEAKERS = {"cli/__init__.py", "interrupts.py", "bake.py", "engines/vllm/server.py", "published/steerers.py"}


def users_of(pattern: str) -> set[str]:
    """The library's files with a line that matches."""
    files = {path.relative_to(LIBRARY).as_posix(): path.read_text() for path in LIBRARY.rglob("*.py")}
    return {name for name, text in files.items() if re.search(pattern, text, re.MULTILINE)}


def test_only_fingerprints_hash():
    assert users_of(r"^import hashlib|^from hashlib") == {"files/fingerprints.py"}


def test_only_commands_print():
    def prints(path: Path) -> bool:
        return any(isinstance(node, ast.Name) and node.id == "print" for node in ast.walk(ast.parse(path.read_text())))

    assert {path.relative_to(LIBRARY).as_posix() for path in LIBRARY.rglob("*.py") if prints(path)} == SPEAKERS


def test_first_lines_are_taken_in_one_place():
    assert users_of(r"str\(error\)[^\n]*split") == {"errors.py"}


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError("disk full\n(of /tmp)"), "disk full"),
        (ValueError("\n\n  the second line\nthe third"), "the second line"),
        (MemoryError(), "MemoryError"),
        (RuntimeError("1 validation error for X\nfield\n  Value error, it is odd"), "Value error, it is odd"),
        (OSError("could not connect to any of:\n  one\n  two"), "could not connect to any of: one two"),
        (ValueError("x" * 400), "x" * 300 + " ..."),
        (KeyError("layer"), "'layer'"),
    ],
)
def test_the_first_line_of_an_error(error, line):
    assert first_line(error) == line


def test_a_mistake_of_the_user_is_a_value_error():
    assert issubclass(UserError, ValueError) and issubclass(NothingScored, UserError)


def test_a_refusal_in_a_section_of_the_report_keeps_its_words():
    from eval.report import made

    def section(path):
        raise UserError("two results do not belong together")

    with pytest.raises(UserError, match="^two results do not belong together$"):
        made(section, "out")


@pytest.mark.parametrize("content", [{"a": "é ◁think▷"}, {"a": "\ud800"}, {"\udfff": [1.5, None]}, {}])
def test_what_is_written_is_read_again(content, tmp_path):
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    assert json_object(to_json(content)) == content and "\n" not in to_json(content)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a.json", list) == [1]


@pytest.mark.parametrize("text", ["{", "", b"\xff", "[" * 100_000, '{"a": 1} {'])
def test_text_that_is_no_json(text):
    with pytest.raises(UserError, match=r"^rows\.jsonl, line 3 is not readable as JSON: "):
        parse_json(text, "rows.jsonl, line 3")
    assert json_object(text) is None


def test_other_values_are_no_objects():
    assert [json_object(text) for text in ("[]", "1", "null", '"a"')] == [None] * 4


def test_a_missing_file_is_said_in_the_callers_words(tmp_path):
    with pytest.raises(UserError, match=r"^no card at .*b\.json$"):
        read_json(tmp_path / "b.json", missing="no card at {path}")


def test_what_the_library_says_is_shown_once_and_plainly(capsys):
    cli.show_log()
    cli.show_log()
    log = logging.getLogger("persona_vectors.files.provenance")
    log.info("50% of the rows")
    log.warning("converting a file")
    log.debug("nothing")
    assert capsys.readouterr() == ("50% of the rows\n", "converting a file\n")
