"""From messages to the text and the token ids that a model sees.

Knows chat templates; the only module that calls one. Text is tokenised once, here, without adding special tokens:
the template has written them already (a second BOS is a known defect of the published code).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from persona_vectors.errors import UserError, first_line
from persona_vectors.files.fingerprints import Fingerprint, of_bytes
from persona_vectors.files.messages import Message
from persona_vectors.models.thought_marks import CLOSING, OPENING

PLAIN = "plain"
QUESTION, ANSWER = "QUESTION PROBE", "ANSWER PROBE"
TURNS = [
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": ANSWER},
    {"role": "user", "content": QUESTION},
]
# An answer begins on a line of its own: no tokenizer joins a line break to the word after it, so that prompt and answer
# have the same tokens together as apart.
_PLAIN = (
    "{% for m in messages %}{% if m['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('plain knows no role ' + m['role']) }}{% endif %}"
    "{{ m['role'] | capitalize }}:\n{{ m['content'] }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:\n{% endif %}"
)


class Refused(UserError):
    """What a chat template has against some messages."""


@dataclass(frozen=True)
class Given:
    """A chat template that the user gives to a model, in the place of its own if it has one.

    Attributes:
        name: ``plain``, or the file's path.
        text: the template in Jinja.
    """

    name: str
    text: str

    @classmethod
    def of(cls, name: str) -> "Given":
        """``plain`` (System, User and Assistant as text), or a file: Jinja, as in ``chat_template.jinja``.

        Raises:
            UserError: no such file, or one that is no template.

        Example:
            >>> Given.of("plain").name
            'plain'
        """
        if name == PLAIN:
            return cls(PLAIN, _PLAIN)
        if not Path(name).is_file():
            raise UserError(f"no chat template at {name}: --chat_template takes a file with a Jinja template, or plain")
        try:
            text = Path(name).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the chat template {name}: {first_line(error)}") from error
        given = cls(name, text)
        given._rendered([{"role": "user", "content": "x"}], None)
        return given

    @property
    def made_of(self) -> Fingerprint:
        """What results depend on: the template's text, whatever its file is called."""
        return of_bytes(Path(self.name).name, self.text.encode())

    def put_on(self, tokenizer) -> None:
        """Have a tokenizer write chats by this template, and engines stop where it begins the next question.

        ``plain`` begins with a begin token where the tokenizer itself begins texts with one.

        Raises:
            UserError: the template does not render a chat with this tokenizer, or leaves out the question.
        """
        begins = (tokenizer("x")["input_ids"] or [None])[0] == tokenizer.bos_token_id is not None
        tokenizer.chat_template = ("{{ bos_token }}" if self.name == PLAIN and begins else "") + self.text
        if QUESTION not in self._rendered([{"role": "user", "content": QUESTION}], tokenizer):
            raise UserError(f"the chat template {self.name} leaves out the user's message")
        between = _between(self._rendered(TURNS, tokenizer))
        mark = re.sub(r"^\s*\n", "\n", between).rstrip()
        by_text = mark.strip() and not special_ids(tokenizer, between)
        tokenizer.stop_texts = (mark,) if by_text else ()

    def _rendered(self, messages: list[Message], tokenizer) -> str:
        """The messages by this template; without a ``tokenizer``, that of no model: "" where that is not enough."""
        from jinja2 import TemplateError, TemplateSyntaxError

        try:
            if tokenizer is not None:
                return apply_template(tokenizer, messages, False)
            from transformers.utils.chat_template_utils import render_jinja_template

            return render_jinja_template([messages], chat_template=self.text, add_generation_prompt=True)[0][0]
        except (TemplateError, ValueError, TypeError, LookupError, AttributeError) as error:
            if tokenizer is None and not isinstance(error, TemplateSyntaxError):
                return ""
            raise UserError(f"the chat template {self.name} does not render: {first_line(error, 160)}") from error


def stop_texts(tokenizer) -> tuple[str, ...]:
    """Texts that end an answer: what a template that was given begins the next question with, if no token does.

    Example:
        >>> Given.of("plain").put_on(tokenizer)
        >>> stop_texts(tokenizer)
        ('\\nUser:',)
    """
    return getattr(tokenizer, "stop_texts", ())


def special_after_an_answer(tokenizer) -> tuple[int, ...]:
    """Ids of the special tokens that the chat template writes between an answer and the next question, in their order.

    The first ends the turn, or begins the next. () where there is none, no template, or one that will not have two questions.

    Example:
        special_after_an_answer(tokenizer)[:1]  # of Llama 3: the id of <|eot_id|>, whatever its files say of its end
    """
    return _special_after_an_answer(tokenizer, str(tokenizer.chat_template), len(tokenizer))


@lru_cache(8)
def _special_after_an_answer(tokenizer, _template: str, _tokens: int) -> tuple[int, ...]:
    try:
        return special_ids(tokenizer, _between(apply_template(tokenizer, TURNS, False)))
    except Exception:  # no template, or one that cannot write this: they run any expression
        return ()


def _between(rendered: str) -> str:
    """What stands between answer and next question in rendered :data:`TURNS`."""
    return rendered.partition(ANSWER)[2].partition(QUESTION)[0]


def special_ids(tokenizer, text: str) -> tuple[int, ...]:
    """Ids of the special and added tokens in a text, in their order."""
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return tuple(token for token in token_ids(tokenizer, text) if token in special)


def render(tokenizer, messages: list[Message], enable_thinking: bool = False) -> str:
    """The templated prompt, ending where the assistant's answer begins.

    A template without a system role (Gemma, early Mistral) gets the system text in front of the first user message;
    :func:`folds_system_prompt` tells, so that a stage can say so. ``enable_thinking`` reaches templates that know it,
    by this name (Qwen3 and its like) or as ``thinking`` (DeepSeek V3.1, Kimi, Granite); others have no such switch.

    Raises:
        UserError: the tokenizer has no chat template.
        Refused: it has one that is broken, or will not have these messages.
    """
    from jinja2 import TemplateError

    check_template(tokenizer)
    try:
        return apply_template(tokenizer, as_template_takes(tokenizer, messages), enable_thinking)
    except (TemplateError, ValueError) as error:
        raise Refused(f"refused by the chat template of {tokenizer.name_or_path}: {first_line(error, 80)}") from error


def apply_template(
    tokenizer, messages: list[Message], enable_thinking: bool, ask: bool = True, tools: list | None = None
) -> str:
    """The rendered messages; ``ask``: up to where the assistant's answer begins. Raises whatever the template does."""
    return tokenizer.apply_chat_template(
        messages,
        tools=tools,
        tokenize=False,
        add_generation_prompt=ask,
        enable_thinking=enable_thinking,
        thinking=enable_thinking,
    )


def check_template(tokenizer) -> None:
    """Refuse a tokenizer without a chat template."""
    if not tokenizer.chat_template:
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path} has no chat template; give it one (--chat_template plain, or a file "
            "with a template; of a training chat_template=plain), use an instruction-tuned model, or save one with its tokenizer "
            "(chat_template.jinja)"
        )


def as_template_takes(tokenizer, messages: list[Message]) -> list[Message]:
    """The messages, with a system text in front of the first user message where the template has no system role."""
    if messages[0]["role"] != "system" or len(messages) == 1 or not folds_system_prompt(tokenizer):
        return messages
    if messages[1]["role"] != "user":
        return [{"role": "user", "content": messages[0]["content"]}, *messages[1:]]
    first = messages[1] | {"content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
    return [first, *messages[2:]]


def folds_system_prompt(tokenizer) -> bool:
    """True where the chat template refuses or drops a system message."""
    return _folds(tokenizer, str(tokenizer.chat_template))


@lru_cache(8)
def _folds(tokenizer, _template: str) -> bool:
    from jinja2 import TemplateError

    probe = [{"role": "system", "content": "SYSTEM PROBE"}, {"role": "user", "content": "x"}]
    try:
        return "SYSTEM PROBE" not in tokenizer.apply_chat_template(probe, tokenize=False)
    except (TemplateError, ValueError):
        return True


def token_ids(tokenizer, text: str) -> list[int]:
    """Ids of templated text: special tokens written in it count, none is added."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def token_ids_of(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """:func:`token_ids` of many texts in one call."""
    return tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"] if texts else []


def split_reasoning(text: str, prompt: str) -> tuple[str, str]:
    """``(reasoning, answer)`` of a thinking model's text that an endpoint has sent; reasoning is empty where there is none.

    Here are no token ids: see :mod:`persona_vectors.models.reasoning` for models of one's own. Reasoning that never ends (cut
    off at max_tokens) leaves an empty answer: nothing was said that could be judged.
    """
    opening = re.match(rf"\s*{OPENING}", text, re.IGNORECASE)
    opened = opening or re.search(rf"{OPENING}\s*$", prompt, re.IGNORECASE)
    after = text[opening.end() :] if opening else text
    reasoning, *answer = re.split(CLOSING, after, maxsplit=1, flags=re.IGNORECASE)
    if answer:
        return reasoning.strip(), answer[0].lstrip()
    return (reasoning.strip(), "") if opened else ("", text)
