"""From conversations to token ids and to which of these carry loss.

The answers are found by what a chat template does, not by what it says: a conversation is rendered as it is and once
more with another text in place of one answer; where the two renderings part is that answer. This holds for any
template, in every turn. TRL's ``assistant_only_loss`` needs a patched template per model family. What a template writes
between the prompt that is asked with and the answer (Mistral's space), the model has to write, and so it carries loss.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from persona_vectors.chat import Message, as_template_takes, check_template
from persona_vectors.errors import UserError

IGNORED = -100  # the label of a token without loss, everywhere in transformers
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Row:
    """One line of a training file, and where it came from."""

    where: str
    content: dict


def read_rows(paths: list[str], loss: str) -> list[Row]:
    """The rows of one or several JSONL files, in order, each checked for what ``loss`` needs.

    sft: ``{"messages": [...]}``. dpo and orpo: ``prompt``, ``chosen`` and ``rejected``, each a list of messages or a
    text, or whole conversations in ``chosen`` and ``rejected`` that part at the last answer. Further keys are let be.

    Raises:
        UserError: a file that is missing or empty, a line that will not do; with its number.
    """
    rows = []
    for path in paths:
        before = len(rows)
        for where, line in _lines(path):
            try:
                content = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where} is not readable as JSON: {error}") from error
            if not isinstance(content, dict):
                raise UserError(f"{where} is not a JSON object")
            rows.append(
                Row(where, _conversation(content, where) if loss == "sft" else _preference(content, where, loss))
            )
        if len(rows) == before:
            raise UserError(f"{path} holds no rows")
    return rows


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
    messages = _messages(content.get("messages"), "messages", where)
    if not any(message["role"] == "assistant" for message in messages):
        raise UserError(f"{where} has no assistant turn: there is nothing to train on")
    return {"messages": messages}


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
    return sides


def _messages(value: object, field: str, where: str) -> list[Message]:
    """``value`` as messages of role and content alone."""
    if not isinstance(value, list) or not value:
        raise UserError(f"{where} has no '{field}' list of messages")
    for message in value:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise UserError(f"{where}: every message in '{field}' needs a role, one of {', '.join(ROLES)}")
        if not isinstance(message.get("content"), str):
            raise UserError(f"{where}: a message in '{field}' has no 'content' text")
        if message["role"] == "assistant" and not message["content"].strip():
            raise UserError(f"{where}: an assistant's message in '{field}' is empty")
    if value[0]["role"] == "system" and len(value) == 1:
        raise UserError(f"{where}: '{field}' holds a system message and nothing else")
    return [{"role": message["role"], "content": message["content"]} for message in value]


def tokenised(tokenizer, messages: list[Message], answers_only: bool = True) -> tuple[list[int], list[int]]:
    """``(input_ids, labels)`` of a conversation: labels repeat the ids of answers and of the tokens that end them.

    ``answers_only`` false puts loss on every token. What the prompt ends with at inference, an empty block of thoughts
    included, is given and not learnt. A token that holds the end of the prompt and the beginning of an answer carries
    loss: the model has to write it.

    Raises:
        UserError: no chat template, a template that refuses the conversation, a tokenizer that knows no offsets.
    """
    messages = as_template_takes(tokenizer, messages)
    text = _render(tokenizer, messages)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    if not answers_only:
        return ids, list(ids)
    labels = [IGNORED] * len(ids)
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        start, end = answer_span(tokenizer, messages, index, text)
        last = None
        for k, (begin, finish) in enumerate(offsets):
            if begin < end and finish > start and begin < finish:
                labels[k] = last = ids[k]
                after = k + 1
        if last is not None and after < len(ids) and ids[after] in _turn_ends(tokenizer):
            labels[after] = ids[after]
    return ids, labels


def answer_span(tokenizer, messages: list[Message], index: int, text: str) -> tuple[int, int]:
    """Where the answer ``messages[index]`` is in the rendered conversation, in characters.

    It begins where the prompt ends that is asked with, if that is how this conversation is rendered up to there (Qwen3
    drops thoughts from earlier turns, and then it is not), else with its own first character.
    """
    stands_out = next(mark for mark in "\N{FULL BLOCK}\N{LIGHT SHADE}\N{PILCROW SIGN}" if mark not in text)
    other = [*messages[:index], {"role": "assistant", "content": stands_out}, *messages[index + 1 :]]
    changed = _render(tokenizer, other)
    longest = min(len(text), len(changed))
    start = next((k for k in range(longest) if text[k] != changed[k]), longest)
    rest = longest - start
    same = next((k for k in range(rest) if text[-1 - k] != changed[-1 - k]), rest)
    prompt = _render(tokenizer, messages[:index], add_generation_prompt=True) if index else ""
    return len(prompt) if prompt and text[:start].startswith(prompt) else start, len(text) - same


def _render(tokenizer, messages: list[Message], add_generation_prompt: bool = False) -> str:
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt, enable_thinking=False
        )
    except (TemplateError, ValueError) as error:
        roles = ", ".join(message["role"] for message in messages)
        raise UserError(f"the chat template refuses a conversation of {roles}: {error}") from error


def _turn_ends(tokenizer) -> set[int]:
    """Tokens that may end an answer: the special ones. They stop the generation."""
    return set(tokenizer.all_special_ids) | {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}


def conversations(tokenizer, rows: list[Row], max_length: int, answers_only: bool) -> tuple[list[dict], str]:
    """What TRL's SFTTrainer takes, ``input_ids`` and ``labels`` a row, and a remark on what was cut or left out.

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
            ids, labels = tokenised(tokenizer, row.content["messages"], answers_only)
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


def preferences(tokenizer, rows: list[Row]) -> list[dict]:
    """What TRL's DPO and ORPO trainers take: messages, rendered by them with the same template as everywhere here."""
    check_template(tokenizer)
    thoughts = {"chat_template_kwargs": {"enable_thinking": False}}
    return [{**row.content, "prompt": as_template_takes(tokenizer, row.content["prompt"]), **thoughts} for row in rows]
