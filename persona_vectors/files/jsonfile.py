"""JSON: files and lines read with a reason where that fails, files written whole or not at all.

What comes over the network, or lies inside another format, is read where it comes in.
"""

import json
from pathlib import Path
from typing import Any

from persona_vectors.errors import UserError
from persona_vectors.files.atomic import replacing


def read_json(path: str | Path, kind: type = dict, missing: str = "no file at {path}") -> Any:
    """The content of a JSON file, a ``kind`` (an object by default).

    Args:
        missing: what a refusal says where there is no such file.

    Raises:
        UserError: no such file, no JSON in it, or another kind of value.

    Example:
        read_json("evil_best.json")["layer"]
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(missing.format(path=path)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable as JSON: {error}") from error
    content = parse_json(text, path)
    if not isinstance(content, kind):
        names: dict[type, str] = {dict: "one JSON object", list: "a list"}
        raise UserError(f"{path} must hold {names.get(kind, kind.__name__)}, not {type(content).__name__}")
    return content


def parse_json(text: str | bytes, where: str | Path) -> Any:
    """The value that a text holds; ``where`` it stands ("rows.jsonl, line 3") is told where it holds none.

    Raises:
        UserError: no JSON, or nested too deep.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not readable as JSON: {error}") from error


def json_object(text: str | bytes) -> dict | None:
    """The JSON object that a text holds; None where it holds anything else."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def to_json(content: object, indent: int | None = None) -> str:
    """JSON with readable text in it, on one line; escaped where a text holds a lone surrogate, which UTF-8 has not."""
    text = json.dumps(content, ensure_ascii=False, indent=indent)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(content, indent=indent)
    return text


def write_json(path: str | Path, content: object, indent: int | None = 2) -> None:
    """Write ``content`` as a JSON file."""
    with replacing(path) as beside:
        beside.write_text(to_json(content, indent) + "\n", encoding="utf-8")
