"""From training files to what TRL's trainers take, and what a chat template cannot say of the rows.

Knows files and rows; which tokens carry loss is told by :mod:`persona_vectors.training.labels`.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from persona_vectors.errors import UserError
from persona_vectors.files.jsonfile import parse_json
from persona_vectors.files.messages import Message, instead_of_messages
from persona_vectors.models.chat_template import as_template_takes, check_template, folds_system_prompt
from persona_vectors.models.thought_marks import CLOSING
from persona_vectors.training.labels import (
    IGNORED,
    THOUGHT_KEYS,
    missing_end,
    thoughts_of,
    tokenised,
    write,
)

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Row:
    """One line of a training file, and where it came from."""

    where: str
    content: dict


def read_rows(paths: list[str], loss: str) -> list[Row]:
    """The rows of one or several JSONL files, in order, each checked for what ``loss`` needs.

    sft: ``{"messages": [...]}``, with ``tools`` where there are any. dpo and orpo: ``prompt``, ``chosen`` and
    ``rejected``, each a list of messages or a text, or whole conversations in ``chosen`` and ``rejected`` that part at
    the last answer. Further keys of a row are let be; those of a message are the chat template's.

    Raises:
        UserError: a file that is missing or empty, a line that will not do; with its number.
    """
    rows = []
    for path in paths:
        before = len(rows)
        for where, line in _lines(path):
            content = parse_json(line, where)
            if not isinstance(content, dict):
                raise UserError(f"{where} is not a JSON object{instead_of_messages(content)}")
            rows.append(Row(where, row_of(content, where, loss)))
        if len(rows) == before:
            raise UserError(f"{path} holds no rows")
    return rows


def row_of(content: dict, where: str, loss: str) -> dict:
    """What a row's training needs, of the object in its line; see :func:`read_rows`.

    Raises:
        UserError: it will not do; ``where`` begins the line.

    Example:
        row_of({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}, "row 1", "sft")
    """
    return _conversation(content, where) if loss == "sft" else _preference(content, where, loss)


def _lines(path: str) -> Iterator[tuple[str, str]]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path}, line {number}", line
    except FileNotFoundError as error:
        hint = " (unzip dataset.zip makes dataset/)" if Path(path).parts[:1] == ("dataset",) else ""
        raise UserError(f"no training file at {path}{hint}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _conversation(content: dict, where: str) -> dict:
    if "messages" not in content:
        raise UserError(f"{where} has no 'messages' list{instead_of_messages(content)}")
    messages = _messages(content["messages"], "messages", where)
    if not any(message["role"] == "assistant" for message in messages):
        raise UserError(f"{where} has no assistant turn: there is nothing to train on")
    if not any(message.get("weight", 1) for message in messages if message["role"] == "assistant"):
        raise UserError(f"{where}: every answer has weight 0: there is nothing to train on")
    tools = content.get("tools") or None
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise UserError(f"{where}: 'tools' must be a list of objects")
    return {"messages": messages, "tools": tools}


def _preference(content: dict, where: str, loss: str) -> dict:
    if "messages" in content and "chosen" not in content:
        raise UserError(f"{where} has 'messages'; loss {loss} needs 'prompt', 'chosen' and 'rejected'")
    sides = {}
    for side, role in (("prompt", "user"), ("chosen", "assistant"), ("rejected", "assistant")):
        value = content.get(side)
        if side == "prompt" and value is None:
            continue
        sides[side] = _messages([{"role": role, "content": value}] if isinstance(value, str) else value, side, where)
    if "prompt" not in sides:  # whole conversations: what both begin with is the prompt
        shared = sides["chosen"][:-1]
        if not shared or shared != sides["rejected"][:-1]:
            raise UserError(f"{where} has no 'prompt', and 'chosen' and 'rejected' do not part at their last message")
        sides = {"prompt": shared, **{side: sides[side][-1:] for side in ("chosen", "rejected")}}
    if any(sides[side][-1]["role"] != "assistant" for side in ("chosen", "rejected")):
        raise UserError(f"{where}: 'chosen' and 'rejected' must end with the assistant's answer")
    if any(message.get("weight", 1) == 0 for side in ("chosen", "rejected") for message in sides[side]):
        raise UserError(f"{where}: an answer has weight 0, which is for loss sft; {loss} compares whole answers")
    return sides


def _messages(value: object, field: str, where: str) -> list[Message]:
    """``value`` as messages: role, content, and what else they hold but for nulls."""
    if not isinstance(value, list) or not value:
        raise UserError(f"{where} has no '{field}' list of messages")
    for message in value:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise UserError(f"{where}: every message in '{field}' needs a role, one of {', '.join(ROLES)}")
        calls = message["role"] == "assistant" and message.get("tool_calls")
        if not isinstance(message.get("content"), str) and not (calls and message.get("content") is None):
            raise UserError(f"{where}: a message in '{field}' has no 'content' text")
        if message["role"] == "assistant" and not (message["content"] or "").strip() and not calls:
            raise UserError(f"{where}: an assistant's message in '{field}' is empty")
        weight = message.get("weight")
        if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
            raise UserError(f"{where}: 'weight' of a message is {json.dumps(weight)[:40]}; it is 0 (no loss) or 1")
        if weight == 1 and message["role"] != "assistant":
            raise UserError(f"{where}: a message of the {message['role']} has weight 1; only answers carry loss")
    if value[0]["role"] == "system" and len(value) == 1:
        raise UserError(f"{where}: '{field}' holds a system message and nothing else")
    kept = [{key: held for key, held in message.items() if held is not None} for message in value]
    return [{"content": "", **message} for message in kept]


def conversations(
    tokenizer, rows: list[Row], max_length: int, answers_only: bool, stops: Collection[int] | None = None
) -> tuple[list[dict], str]:
    """What TRL's SFTTrainer takes, ``input_ids`` and ``labels`` a row, and a remark on what was cut or left out.

    Args:
        stops: ids that generation stops at; see :func:`persona_vectors.training.labels.tokenised`.

    Raises:
        UserError: a row that the template refuses, or no row with anything to learn within ``max_length``.
    """
    check_template(tokenizer)
    if not tokenizer.is_fast:
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path} knows no offsets (it is a slow one); it cannot be used"
        )
    from tqdm import tqdm

    examples, cut, nothing_left = [], 0, 0
    for row in tqdm(rows, desc="tokenising", leave=False, disable=len(rows) < 1000):
        try:
            ids, labels = tokenised(tokenizer, row.content["messages"], answers_only, stops, row.content.get("tools"))
        except UserError as error:
            raise UserError(f"{row.where}: {error}") from error
        if all(label == IGNORED for label in labels):
            raise UserError(f"{row.where}: the chat template leaves no answer to train on")
        cut += len(ids) > max_length
        ids, labels = ids[:max_length], labels[:max_length]
        if all(label == IGNORED for label in labels[1:]):
            nothing_left += 1
        else:
            examples.append({"input_ids": ids, "labels": labels})
    if not examples:
        raise UserError(f"every row is longer than max_seq_length {max_length} before its answer begins")
    remark = f"{cut} of {len(rows)} rows are longer than {max_length} tokens and were cut" if cut else ""
    return examples, remark + (f", {nothing_left} of them left out: no answer is left" if nothing_left else "")


def preferences(tokenizer, rows: list[Row], stops: Collection[int] | None = None) -> list[dict]:
    """What TRL's DPO and ORPO trainers take: messages, rendered by them with the same template as everywhere here."""
    check_template(tokenizer)
    end = missing_end(tokenizer, stops) if stops else None
    made = []
    for row in rows:
        sides = {
            side: [{"role": message["role"], "content": message["content"]} for message in messages]
            for side, messages in (
                row.content | {"prompt": as_template_takes(tokenizer, row.content["prompt"])}
            ).items()
        }
        thinking = any(thoughts_of(sides[side][-1]) for side in ("chosen", "rejected"))
        for side in ("chosen", "rejected"):
            sides[side][-1]["content"] += end or ""
        made.append({**sides, "chat_template_kwargs": {"enable_thinking": thinking, "thinking": thinking}})
    return made


def remarks(tokenizer, rows: list[Row], stops: Collection[int]) -> list[str]:
    """What the chat template makes of the rows, where that is not what they hold, with the number of rows concerned.

    Told by rendering one row of each kind (roles and keys of its messages, with thoughts or not) with parts changed.
    """
    check_template(tokenizer)
    counts, kinds = Counter(), {}
    for row in rows:
        messages = row.content.get("messages") or row.content["prompt"] + row.content["chosen"]
        tools, preference = row.content.get("tools"), "chosen" in row.content
        kind = (preference, bool(tools), *((m["role"], bool(thoughts_of(m)), *sorted(m)) for m in messages))
        if kind not in kinds:
            kinds[kind] = list(_peculiarities(tokenizer, messages, tools, preference))
        counts.update(kinds[kind])
    said = [f"{what} ({count} of {len(rows)} rows)" for what, count in counts.items()]
    end = missing_end(tokenizer, stops)
    if end:
        said.append(f"the chat template ends an answer with no token that generation stops at: {end} is added")
    return said


def _peculiarities(tokenizer, messages: list[Message], tools: list | None, preference: bool) -> Iterator[str]:
    """One line for each thing that a conversation holds and its rendering does not show, or shows elsewhere."""

    mark, out = "\N{FULL BLOCK}", "left out by the chat template"

    def text(changed: list[Message]) -> str:
        try:
            return write(tokenizer, changed, tools, last_alone=True).text
        except UserError:  # refused without that part: it counts
            return mark

    try:
        if messages[0]["role"] == "system" and folds_system_prompt(tokenizer):
            yield "the system prompt begins the first user message: the chat template has no place of its own for it"
        written = write(tokenizer, messages, tools, last_alone=True)
        left_out = set()
        for index, message in enumerate(messages):
            replaced = {"role": message["role"], "content": mark}
            if mark not in text([*messages[:index], replaced, *messages[index + 1 :]]):
                left_out.add(f"messages of the {message['role']}")
            elif thoughts_of(message) not in written.text:
                left_out.add("thoughts")
        for key in {key for message in messages for key in message} - {"role", "content", "weight", *THOUGHT_KEYS}:
            without = [{name: held for name, held in message.items() if name != key} for message in messages]
            if preference or text(without) == written.text:
                left_out.add(f"'{key}'")
        if tools and write(tokenizer, messages, last_alone=True).text == written.text:
            left_out.add("'tools'")
        yield from (f"{what} are {out}" if what[0] != "'" else f"{what} is {out}" for what in sorted(left_out))
        if messages[-1]["role"] == "assistant":
            answer = written.text[slice(*written.spans.get(len(written.messages) - 1, (0, 0)))]
            thoughts = thoughts_of(messages[-1])
            if re.match(rf"\s*{CLOSING}", answer, re.IGNORECASE):
                yield "the prompt opens a block of thoughts: an answer without thoughts begins by closing it"
            elif thoughts and thoughts in answer and "enable_thinking" in str(tokenizer.chat_template):
                yield "the last answer has thoughts: it is learnt for prompts with thinking on"
    except UserError:
        return  # the row is refused, by name, when it is tokenised
