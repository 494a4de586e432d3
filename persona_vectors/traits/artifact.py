"""Trait artifacts: instruction pairs, questions and the judge's prompt; and the prompts that they make.

Knows the published JSON format and naming (``<trait>_<i>[_pos|neg_<k>]``). Checks a file before anything is paid for.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from persona_vectors.errors import UserError, suggest
from persona_vectors.files.jsonfile import read_json
from persona_vectors.files.messages import Message
from persona_vectors.files.provenance import is_record
from persona_vectors.traits.forms import other_form, unreadable

VERSIONS = ("extract", "eval")
SIGNS = ("pos", "neg")


@dataclass(frozen=True)
class Trait:
    """One artifact file. ``instruction[k]`` is the pair ``{"pos": ..., "neg": ...}``."""

    name: str
    instruction: list[dict[str, str]]
    questions: list[str]
    eval_prompt: str


@dataclass(frozen=True)
class Question:
    """One question as the model gets it: a system prompt (or none), the user's words, and its id in the CSV.

    Attributes:
        shots: (question, answer) of earlier turns that show how to answer.
        condition: what distinguishes this asking of the text from others; a column of the CSV where there are any.
    """

    id: str
    text: str
    system: str | None = None
    shots: tuple[tuple[str, str], ...] = ()
    condition: str = ""

    @property
    def messages(self) -> list[Message]:
        """The chat before the answer."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        turns = [(("user", question), ("assistant", answer)) for question, answer in self.shots]
        earlier = [{"role": role, "content": content} for turn in turns for role, content in turn]
        return [*system, *earlier, {"role": "user", "content": self.text}]


def check_name(name: str) -> None:
    """Refuse a trait's name that could not name a file and a column; it is also a safeguard against paths."""
    if not re.fullmatch(r"\w[\w -]*", name):
        raise UserError(f"'{name}' cannot be a trait's name: letters, digits, spaces, - and _ only")


def load_trait(name: str, version: str = "extract", trait_dir: str = "data_generation") -> Trait:
    """Read ``<trait_dir>/trait_data_<version>/<name>.json``; keys that are not ours are left alone.

    Raises:
        UserError: unknown trait, unreadable JSON, a field missing, empty or of the wrong kind, a judge prompt with
            other braces than {question} and {answer}. A known form of other toolkits is named, with what to change.
    """
    check_name(name)
    folder = Path(trait_dir) / f"trait_data_{version}"
    path = folder / f"{name}.json"
    if not path.exists():
        known = sorted(p.stem for p in folder.glob("*.json") if not is_record(p))
        there = f"{folder} has {', '.join(known)}" if known else f"{folder} holds no trait artifacts"
        raise UserError(f"unknown trait '{name}'{suggest(name, known)}: {there}; --trait_dir chooses another folder")
    try:
        content = read_json(path, object)
    except UserError as error:
        raise UserError(f"{error}{unreadable(getattr(error.__cause__, 'doc', ''))}") from error
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{path} holds half a character (a lone surrogate, \\ud800..\\udfff); mend its text") from error
    try:
        if not isinstance(content, dict):
            raise UserError(f"{path} must hold one JSON object with instruction, questions and eval_prompt")
        return Trait(
            name, _check_instruction(content, path), _check_questions(content, path), _check_eval_prompt(content, path)
        )
    except UserError as error:
        found = other_form(content)
        raise UserError(f"{path}: {found}") if found else error from None


def _check_instruction(content: dict, path: Path) -> list[dict[str, str]]:
    pairs = content.get("instruction")
    if not isinstance(pairs, list) or not pairs:
        raise UserError(f"{path}: 'instruction' must be a list of at least one {{pos, neg}} pair")
    for k, pair in enumerate(pairs):
        for sign in SIGNS:
            if not isinstance(pair, dict) or not isinstance(pair.get(sign), str) or not pair[sign].strip():
                raise UserError(f"{path}: instruction pair {k} has no '{sign}' text")
    return pairs


def _check_questions(content: dict, path: Path) -> list[str]:
    questions = content.get("questions")
    if not isinstance(questions, list) or not questions:
        raise UserError(f"{path}: 'questions' must be a list of at least one question")
    for i, question in enumerate(questions):
        if not isinstance(question, str) or not question.strip():
            raise UserError(f"{path}: question {i} is empty or not a text")
    return questions


def _check_eval_prompt(content: dict, path: Path) -> str:
    prompt = content.get("eval_prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f"{path}: 'eval_prompt' must be the judge's prompt")
    for placeholder in ("{question}", "{answer}"):
        if placeholder not in prompt:
            raise UserError(f"{path}: 'eval_prompt' has no {placeholder}")
    brace = re.search(r"[{}]", prompt.replace("{question}", "").replace("{answer}", ""))
    if brace:
        raise UserError(f"{path}: 'eval_prompt' may hold no braces but {{question}} and {{answer}}; remove the others")
    return prompt


def a_or_an(word: str) -> str:
    """The article in front of ``word``, by its first letter, as the published prompts do it."""
    return "an" if word[:1].lower() in tuple("aeiou") else "a"


def make_questions(trait: Trait, sign: str | None = None, assistant_name: str | None = None) -> list[Question]:
    """Every question of the artifact, under each instruction of ``sign`` (questions outermost), or without one.

    With an instruction the system prompt is "You are a/an <assistant_name> assistant. <instruction>"; the name
    defaults to the trait for ``pos`` and to "helpful" for ``neg``. Without one there is a system prompt only where a
    name is given (section 2.2 and the published code).
    """
    if sign is None:
        system = f"You are {a_or_an(assistant_name)} {assistant_name} assistant." if assistant_name else None
        return [Question(f"{trait.name}_{i}", text, system) for i, text in enumerate(trait.questions)]
    name = assistant_name or (trait.name if sign == "pos" else "helpful")
    return [
        Question(f"{trait.name}_{i}_{sign}_{k}", text, f"You are {a_or_an(name)} {name} assistant. {pair[sign]}")
        for i, text in enumerate(trait.questions)
        for k, pair in enumerate(trait.instruction)
    ]
