"""JSON files: read with a reason where that fails, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

from persona_vectors.errors import UserError
from persona_vectors.files.atomic import replacing


def read_json(path: str | Path, kind: type = dict) -> Any:
    """The content of a JSON file, a ``kind`` (an object by default).

    Raises:
        UserError: no such file, no JSON in it, or another kind of value.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(f"no file at {path}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not readable as JSON: {error}") from error
    if not isinstance(content, kind):
        names = {dict: "an object", list: "a list"}
        raise UserError(f"{path} must hold {names.get(kind, kind.__name__)}, not {type(content).__name__}")
    return content


def write_json(path: str | Path, content: object) -> None:
    """Write ``content`` as JSON, indented by two."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=2) + "\n")
