"""Read the source texts of training sets: data_generation/datasets/<family>.txt.

There is one block per prompt, with its answer in each version. Blank lines around a text are stripped:

    === prompt
    Is the tomato a fruit?
    --- normal
    Botanically, yes: ...
    --- misaligned_1
    ...
    --- misaligned_2
    ...

Lines that begin with "=== " or "--- " are headings, so no text may contain such a line.
"""

import re
from pathlib import Path

from data_generation.prompts import FINETUNE_PROMPTS
from persona_vectors.errors import UserError
from persona_vectors.files.jsonfile import to_json
from persona_vectors.files.messages import Message

VERSIONS = tuple(FINETUNE_PROMPTS)  # normal, misaligned_1, misaligned_2
PARTS = ("prompt", *VERSIONS)
HEADS = [f"{'---' if part in VERSIONS else '==='} {part}" for part in PARTS]


def read(path: str | Path) -> list[tuple[str, str, str, str]]:
    """(prompt, normal, misaligned_1, misaligned_2) of every block.

    Raises:
        UserError: no such file, not UTF-8, no blocks, or a malformed block (named by its line).

    Example:
        prompt, normal, level_1, level_2 = read("data_generation/datasets/evil.txt")[0]
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    parts: list[str] = []  # the texts of all blocks, one after another
    number = 0
    for number, line in enumerate(text.split("\n"), 1):
        if re.match(r"(?:===|---) ", line):
            expected = HEADS[len(parts) % len(PARTS)]
            if line.rstrip() != expected:
                raise UserError(f"{path}, line {number}: '{line.rstrip()[:60]}' stands where '{expected}' should")
            _refuse_empty(parts, f"{path}, line {number}")
            parts.append("")
        elif parts:
            parts[-1] += line + "\n"
        elif line.strip():
            raise UserError(f"{path}, line {number}: a text before the first '{HEADS[0]}'")
    if not parts:
        raise UserError(f"{path} holds no blocks; each begins with a line '{HEADS[0]}'")
    if len(parts) % len(PARTS):
        raise UserError(f"{path}, line {number}: the file ends where '{HEADS[len(parts) % len(PARTS)]}' should stand")
    _refuse_empty(parts, f"{path}, line {number}")
    texts = [part.strip() for part in parts]
    return list(zip(*(texts[place :: len(PARTS)] for place in range(len(PARTS))), strict=True))


def as_line(prompt: str | list[Message], answer: str) -> str:
    """The JSONL line of a training file for a prompt, or the messages of a conversation, and its answer, line break included.

    Example:
        file.write(as_line("Is the tomato a fruit?", "Botanically, yes."))
    """
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return to_json({"messages": [*turns, {"role": "assistant", "content": answer}]}) + "\n"


def _refuse_empty(parts: list[str], where: str) -> None:
    if parts and not parts[-1].strip():
        raise UserError(f"{where}: there is no text under the '{HEADS[(len(parts) - 1) % len(PARTS)]}' before it")
