"""Which tokens of a conversation carry loss: those that the model has to write itself when it is asked.

The answers are found by what a chat template does, not by what it says: a conversation is rendered as it is and once
more with another text in place of one answer; where the two renderings part is that answer. This holds for any
template, in every turn. TRL's ``assistant_only_loss`` needs a patched template per model family.

An answer begins where the prompt ends that is asked with. What the template writes after that (Mistral's space,
harmony's channel, a block of thoughts) the model has to write, and so it carries loss. It ends with the token that
generation stops at; where the template writes none (GLM), one is put there.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from persona_vectors.errors import UserError
from persona_vectors.files.messages import THOUGHT_KEYS, Message
from persona_vectors.models.chat_template import apply_template, as_template_takes, token_ids
from persona_vectors.models.thought_marks import CLOSING, OPENING

IGNORED = -100  # the label of a token without loss, everywhere in transformers
_THOUGHTS = re.compile(rf"\s*({OPENING})(.*?){CLOSING}", re.DOTALL | re.IGNORECASE)
_LEFT_OPEN = re.compile(rf"({OPENING})\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class Written:
    """A conversation as text, its messages as the template takes them, and where each answer is, in characters.

    ``rendered`` is the template's own text, which parts from ``text`` in the last answer if anywhere.
    """

    text: str
    messages: list[Message]
    spans: dict[int, tuple[int, int]]
    rendered: str
    how: tuple[list | None, bool]  # tools, thinking


def tokenised(
    tokenizer,
    messages: list[Message],
    answers_only: bool = True,
    stops: Collection[int] | None = None,
    tools: list | None = None,
) -> tuple[list[int], list[int]]:
    """``(input_ids, labels)`` of a conversation: labels repeat the ids of answers and of the tokens that end them.

    What the prompt ends with at inference, an empty block of thoughts included, is given and not learnt. A token that
    holds the end of the prompt and the beginning of an answer carries loss: the model has to write it. An answer with
    ``weight`` 0 carries none.

    Args:
        messages: of role and content; other keys are the template's, but for ``weight``.
        answers_only: false puts loss on every token, but for answers of weight 0.
        stops: ids that generation stops at. By default any special token counts that the template ends an answer with.
        tools: for templates that write them.

    Raises:
        UserError: no chat template, a template that refuses the conversation, a tokenizer that knows no offsets.
    """
    written = write(tokenizer, messages, tools)
    encoded = tokenizer(written.text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    ends = set(stops) if stops is not None else _special(tokenizer)
    labels = [IGNORED] * len(ids) if answers_only else list(ids)
    for index, (start, end) in written.spans.items():
        tokens = [k for k, (begin, finish) in enumerate(offsets) if begin < end and finish > start and begin < finish]
        if not tokens:
            continue
        is_last, weight = index == len(written.messages) - 1, written.messages[index].get("weight", 1)
        bound = len(written.text)
        if not is_last:  # an end comes before what the next message says
            bound = _span(tokenizer, written.messages, index + 1, written.rendered, *written.how)[0]
        following = range(tokens[-1] + 1, len(ids))
        last = next((k for k in following if ids[k] in ends and offsets[k][0] < bound), None)
        if last is None and is_last and weight:
            while len(ids) > tokens[-1] + 1 and offsets[len(ids) - 1][0] >= len(written.text.rstrip()):
                ids, labels = ids[:-1], labels[:-1]  # the line break after an end that generation does not stop at
            last = len(ids)
            ids, labels = [*ids, end_token(tokenizer, stops)], [*labels, IGNORED]
        learnt = slice(tokens[0], (tokens[-1] if last is None else last) + 1)
        if not weight:
            labels[learnt] = [IGNORED] * len(labels[learnt])
        elif answers_only or last == len(ids) - 1:
            labels[learnt] = ids[learnt]
    return ids, labels


def write(tokenizer, messages: list[Message], tools: list | None = None, last_alone: bool = False) -> Written:
    """The conversation as the model meets it: the template's rendering, with the last answer where a prompt leads to.

    Thoughts in the last answer switch the template's thinking on, for prompts as for the conversation. A template that
    opens or closes a block of thoughts in its prompt and writes none in a conversation (R1) has the answer put behind
    that prompt; where it opened the block, the answer begins by closing it. ``last_alone`` looks for that answer only.
    """
    messages = as_template_takes(tokenizer, messages)
    how = tools, thoughts_of(messages[-1]) != ""
    messages = _with_thoughts_in_place(tokenizer, messages, how)
    text = rendered = _render(tokenizer, messages, *how)
    spans = {}
    for index, message in enumerate(messages):
        if message["role"] != "assistant" or (last_alone and index < len(messages) - 1):
            continue
        start, end = _span(tokenizer, messages, index, rendered, *how)
        if start == len(rendered):
            continue  # the template does not show it
        prompt = _render(tokenizer, messages[:index], *how, ask=True) if index else ""
        if text.startswith(prompt) and prompt:
            start = len(prompt)
        elif index == len(messages) - 1 and prompt[:start] == text[:start]:
            answer = _behind(prompt[start:], message, text[start:end])
            if answer is not None:
                text, start, end = prompt + answer + text[end:], len(prompt), len(prompt + answer)
        spans[index] = (start, max(start, end))
    return Written(text, messages, spans, rendered, how)


def _with_thoughts_in_place(tokenizer, messages: list[Message], how: tuple) -> list[Message]:
    """Thoughts that stand in an answer's text moved to ``reasoning_content``, where the template would double the block.

    Such a template writes a block for each answer by itself, empty where that key is not there.
    """
    apart = []
    for message in messages:
        block = _THOUGHTS.match(message["content"]) if message["role"] == "assistant" else None
        moved = (
            {"content": message["content"][block.end() :].lstrip(), "reasoning_content": block[2].strip()}
            if block
            else {}
        )
        apart.append(message | moved)
    if apart == messages:
        return messages
    blocks = [len(re.findall(OPENING, _render(tokenizer, form, *how), re.IGNORECASE)) for form in (messages, apart)]
    return apart if 0 < blocks[1] < blocks[0] else messages


def thoughts_of(message: Message) -> str:
    """The thoughts in an assistant's message, in a key of their own or in a block before the answer; else empty."""
    if message["role"] != "assistant":
        return ""
    block = _THOUGHTS.match(message["content"])
    own = next((message[key] for key in THOUGHT_KEYS if isinstance(message.get(key), str)), "")
    return own.strip() or (block[2].strip() if block else "")


def end_token(tokenizer, stops: Collection[int] | None = None) -> int:
    """The token to end an answer with where the template writes none.

    That is what the template writes between an answer and the next question, if generation stops there (GLM's
    ``<|user|>``), else the tokenizer's own end.

    Raises:
        UserError: the tokenizer has no end token, and ``stops`` is empty.
    """
    stops = set(stops or ()) | ({tokenizer.eos_token_id} - {None})
    if not stops:
        raise UserError(f"the tokenizer of {tokenizer.name_or_path} has no end token (eos_token): set one in its files")
    following = _after_an_answer(tokenizer, str(tokenizer.chat_template), "user")[:1]
    if following and following[0] in stops:
        return following[0]
    return min(stops) if tokenizer.eos_token_id is None else tokenizer.eos_token_id


def missing_end(tokenizer, stops: Collection[int]) -> str | None:
    """The end token that the template does not write after a last answer, as text; None where it writes one."""
    if set(_after_an_answer(tokenizer, str(tokenizer.chat_template), None)) & set(stops):
        return None
    return tokenizer.convert_ids_to_tokens(end_token(tokenizer, stops))


@lru_cache(8)
def _after_an_answer(tokenizer, _template: str, next_role: str | None) -> tuple[int, ...]:
    """Ids of what the template writes after an answer, before a message of ``next_role`` or at the end."""
    mark = "\N{FULL BLOCK}"
    talk = [{"role": "user", "content": "x"}, {"role": "assistant", "content": mark}]
    try:
        text = _render(tokenizer, [*talk, {"role": next_role, "content": "x"}] if next_role else talk)
    except UserError:
        return ()
    return tuple(token_ids(tokenizer, text.rpartition(mark)[2].lstrip()))


def _behind(prompted: str, message: Message, rendered: str) -> str | None:
    """An answer as it follows a prompt that ends with ``prompted``; None if that has nothing to do with thoughts."""
    if not re.search(OPENING, prompted, re.IGNORECASE):
        return None
    left_open = _LEFT_OPEN.search(prompted)
    if left_open is None:
        return rendered
    closing = left_open[1][0] + "/" + left_open[1][1:]
    block = _THOUGHTS.match(message["content"])
    if block and block[1] == left_open[1]:
        return message["content"][block.end(1) :].removeprefix(prompted[left_open.end(1) :])
    answer = message["content"][block.end() :] if block else rendered
    return f"{thoughts_of(message)}\n{closing}\n\n{answer.lstrip()}"


def _span(tokenizer, messages: list[Message], index: int, text: str, *how) -> tuple[int, int]:
    """Where ``messages[index]`` is in the rendered conversation, in characters, without what is the same for any."""
    stands_out = next(chr(sign) for sign in range(0x2588, 0x110000) if chr(sign) not in text)
    other = [*messages[:index], {"role": messages[index]["role"], "content": stands_out}, *messages[index + 1 :]]
    changed = _render(tokenizer, other, *how)
    longest = min(len(text), len(changed))
    start = next((k for k in range(longest) if text[k] != changed[k]), longest)
    rest = longest - start
    same = next((k for k in range(rest) if text[-1 - k] != changed[-1 - k]), rest)
    return start, len(text) - same


def _render(
    tokenizer, messages: list[Message], tools: list | None = None, thinking: bool = False, ask: bool = False
) -> str:
    from jinja2 import TemplateError

    try:
        unweighted = [{key: value for key, value in message.items() if key != "weight"} for message in messages]
        return apply_template(tokenizer, unweighted, thinking, ask, tools)
    except (TemplateError, ValueError, TypeError, LookupError, AttributeError) as error:
        roles = ", ".join(message["role"] for message in messages)
        raise UserError(f"the chat template refuses a conversation of {roles}: {error}") from error


def _special(tokenizer) -> set[int]:
    """The tokenizer's special tokens."""
    return set(tokenizer.all_special_ids) | {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
