"""Chat messages as files and templates write them, and questions and answers as a caller in Python gives them."""

from collections.abc import Iterable, Mapping, Sequence

from persona_vectors.errors import UserError

Message = dict[str, str]  # {"role": ..., "content": ...}
THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking")  # where files and templates keep a message's thoughts


def as_chat(asked: str | Sequence[Message], where: str, system: str | None = None) -> list[Message]:
    """A question, or the messages that end with one, as messages; ``system`` is put in front.

    Raises:
        UserError: neither, or a system prompt twice; ``where`` names the row.

    Example:
        >>> as_chat("Who are you?", "questions[0]", system="Be brief.")
        [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Who are you?'}]
    """
    if isinstance(asked, str):
        messages = [{"role": "user", "content": asked}]
    else:
        messages = list(asked) if isinstance(asked, Iterable) and not isinstance(asked, Mapping) else []
    if not messages or not all(
        isinstance(message, Mapping)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
        for message in messages
    ):
        raise UserError(f'{where} is neither a question nor a list of {{"role": ..., "content": ...}} messages')
    if not is_unicode("".join(message["content"] for message in messages)):
        raise UserError(f"{where} holds half a character (a lone surrogate)")
    if messages[-1]["role"] == "assistant":
        raise UserError(f"{where} ends with an assistant message; the messages before an answer end with a question")
    if system is None:
        return [dict(message) for message in messages]
    if messages[0]["role"] == "system":
        raise UserError(f"{where} has a system prompt of its own: leave out the other one")
    return [{"role": "system", "content": system}, *map(dict, messages)]


def as_pairs(rows: Iterable, name: str) -> list[tuple[list[Message], str]]:
    """(messages, answer) of rows that are (question, answer) or (messages, answer).

    Raises:
        UserError: a row that is not, as "``name`` pair 3".
    """
    if isinstance(rows, str | Mapping) or not isinstance(rows, Iterable):
        raise UserError(f"pairs are a list of (question, answer), not something of type {type(rows).__name__}")
    pairs = []
    for number, row in enumerate(rows):
        where = f"{name} pair {number}".strip()
        if not isinstance(row, tuple | list) or len(row) != 2 or not isinstance(row[1], str):
            raise UserError(f"{where} is not (question, answer) or (messages, answer)")
        pairs.append((as_chat(row[0], where), row[1]))
    return pairs


def instead_of_messages(content: object) -> str:
    """What a row without messages has in their place, and how it is written here, to end a refusal with.

    Example:
        >>> instead_of_messages({"prompt": "Hi", "response": "Ho"})[:28]
        ' (it has prompt, response); '
    """
    form = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'
    if isinstance(content, Mapping):
        has = ", ".join(str(key)[:30] for key in list(content)[:6]) or "nothing"
    else:
        has = "a list" if isinstance(content, list) else "no object"
    return f" (it has {has}); write each row on a line of its own, as {form}"


def is_unicode(text: str) -> bool:
    """Whether a text can be written down: False where it holds a lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
