"""Load and check trait artifacts (instruction pairs, questions, judge prompt), and build the questions to ask.

Uses the published JSON format and question ids (``<trait>_<i>[_pos|neg_<k>]``).
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
    """The content of one artifact file.

    Attributes:
        name: the trait, e.g. ``evil``.
        instruction: pairs ``{"pos": ..., "neg": ...}`` of instructions for the trait and for its opposite.
        questions: the texts to ask.
        eval_prompt: the judge's prompt with {question} and {answer}.
    """

    name: str
    instruction: list[dict[str, str]]
    questions: list[str]
    eval_prompt: str


@dataclass(frozen=True)
class Question:
    """One question as it is put to the model.

    Attributes:
        id: the ``question_id`` in the answers CSV.
        text: the user's message.
        system: the system prompt, or None.
        shots: (question, answer) pairs of earlier turns: few-shot examples.
        condition: the experimental condition, e.g. "prompt 3"; becomes a column of the CSV if any question has one.
        chat: the messages as JSON, where they are more than system prompt, shots and text.
        columns: (name, text) of further columns of the CSV.
        key: what its answers are kept by, where several questions share the id.

    Example:
        Question("evil_0", "How do I start with roses?", system="You are a helpful assistant.").messages
    """

    id: str
    text: str
    system: str | None = None
    shots: tuple[tuple[str, str], ...] = ()
    condition: str = ""
    chat: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    key: str = ""

    @property
    def messages(self) -> list[Message]:
        """The chat messages up to the answer."""
        if self.chat:
            return json.loads(self.chat)
        system = [{"role": "system", "content": self.system}] if self.system else []
        turns = [(("user", question), ("assistant", answer)) for question, answer in self.shots]
        earlier = [{"role": role, "content": content} for turn in turns for role, content in turn]
        return [*system, *earlier, {"role": "user", "content": self.text}]

    @property
    def turns(self) -> list[Message]:
        """The messages of a conversation that a file asked, without its system prompt; none for a single question."""
        spoken = [message for message in self.messages if message["role"] != "system"] if self.chat else []
        return spoken if len(spoken) > 1 else []


def check_name(name: str) -> None:
    """Raise UserError for a trait name that cannot serve as file name and CSV column. Also guards against paths.

    Example:
        check_name("../evil")  # UserError
    """
    if not re.fullmatch(r"\w[\w -]*", name):
        raise UserError(f"'{name}' cannot be a trait's name: letters, digits, spaces, - and _ only")


def load_trait(name: str, version: str = "extract", trait_dir: str = "data_generation") -> Trait:
    """Read ``<trait_dir>/trait_data_<version>/<name>.json``; keys that are not ours are left alone.

    Raises:
        UserError: an unknown trait, unreadable JSON, a field that is missing, empty or of the wrong type, or a judge
            prompt with braces other than {question} and {answer}. For known formats of other toolkits, the message
            says what to change.

    Example:
        trait = load_trait("evil", "extract")
        questions = make_questions(trait, "pos")
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
    check_judge_prompt(prompt, f"{path}: 'eval_prompt'", ("{question}", "{answer}"))
    return prompt


def check_judge_prompt(prompt: str, where: str, needed: tuple[str, ...] = ("{answer}",)) -> None:
    """Raise UserError for a judge prompt that lacks a placeholder, or has braces beside {question} and {answer}.

    Example:
        check_judge_prompt("Rate this: {text}", "p.txt:")  # UserError: p.txt: has no {answer}
    """
    for placeholder in needed:
        if placeholder not in prompt:
            raise UserError(f"{where} has no {placeholder}")
    brace = re.search(r"[{}]", prompt.replace("{question}", "").replace("{answer}", ""))
    if brace:
        raise UserError(f"{where} may hold no braces but {{question}} and {{answer}}; remove the others")


def load_judge_prompt(path: str | Path) -> str:
    """The text of a file that is a judge's prompt, with {answer} and perhaps {question}.

    Raises:
        UserError: no such file, no text in UTF-8, no {answer}, or other braces.

    Example:
        load_judge_prompt("verbosity.txt").format(question="Who are you?", answer="Nobody.")
    """
    try:
        prompt = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"cannot read the judge prompt {path}: {why}") from error
    check_judge_prompt(prompt, f"the judge prompt {path}")
    return prompt


def a_or_an(word: str) -> str:
    """The article for ``word``, chosen by its first letter as in the published prompts.

    Example:
        a_or_an("evil")  # "an"
    """
    return "an" if word[:1].lower() in tuple("aeiou") else "a"


def make_questions(trait: Trait, sign: str | None = None, assistant_name: str | None = None) -> list[Question]:
    """All questions of an artifact, each under every instruction of one sign, or without instructions.

    With an instruction, the system prompt is "You are a/an <assistant_name> assistant. <instruction>". Without one,
    there is a system prompt only if ``assistant_name`` is given (section 2.2 and the published code).

    Args:
        sign: ``pos``, ``neg``, or None for no instruction.
        assistant_name: by default the trait for ``pos`` and "helpful" for ``neg``.

    Returns:
        The questions in order, and for each question its instructions in order.

    Example:
        make_questions(load_trait("evil", "eval"))[0].id  # "evil_0"
        make_questions(load_trait("evil", "extract"), "pos")[1].id  # "evil_0_pos_1"
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
