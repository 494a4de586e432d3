"""Recognise other toolkits' artifact formats in a refused file, and say what to change.

Forks of the published toolkit, and language models, write artifacts in other formats. They are not converted: how to
score a question that has its own judge, for example, is the user's decision. Works on content; reads no files.
"""

import difflib
import re
from collections.abc import Iterator

NAMES = {
    "instruction": r"instructions?|(system_)?prompts?|system|(instruction_|prompt_|positive_negative_|contrastive_)?pairs|"
    r"(pos|neg|positive|negative)(_(instruction|prompt|system_prompt)s?)?",
    "questions": r"questions?|(eval|evaluation|extract|extraction|test)_questions|user_(prompts|queries)|queries|items|data",
    "eval_prompt": r"(eval|evaluation|evaluator|judge|judging|grading|grader|scoring|rubric)s?_?(prompts?|template|instruction)?|"
    r"custom_judges?|prompt|metrics?",
}
SIGNS = {"pos": r"positive|yes|high|\+", "neg": r"negative|no|low|-"}
PAIRS = '[{"pos": "...", "neg": "..."}, ...]'
PLACEHOLDERS = {
    "question": r"questions?|prompt|input|query|user|user_prompt|user_input|instruction|q",
    "answer": r"answers?|response|output|completion|reply|model_response|model_output|assistant|generation|text|a",
}
_DOUBLED = r"\{\{\s*(\w+)\s*\}\}"


def other_form(content: object) -> str | None:
    """Describe the format of a refused file and what to change, in one line; None if it is not a known format.

    Example:
        other_form({"prompts": [], "questions": ["?"]})  # "has 'prompts'; here that is 'instruction' (...)"
    """
    if isinstance(content, list):
        return f"must hold one JSON object, and is a list of {len(content)}: one file has one trait's artifact"
    if not isinstance(content, dict):
        return None
    for key, inner in content.items():
        if isinstance(inner, dict) and "questions" in inner and "questions" not in content:
            return f"has the artifact inside '{key}': instruction, questions and eval_prompt must be at the top"
    found = [*_renamed(content), *_instruction(content), *_questions(content), *_eval_prompt(content)]
    return "; ".join(found) or None


def unreadable(text: str) -> str:
    """A hint on why a text is not JSON, to append to the parser's message; "" if there is none.

    Example:
        unreadable('```json\\n{}\\n```')  # "; it is in a Markdown code fence: remove the lines with ```"
    """
    if text.lstrip().startswith("```"):
        return "; it is in a Markdown code fence: remove the lines with ```"
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and all(line.lstrip().startswith("{") and line.rstrip().endswith("}") for line in lines):
        return "; it has an object on every line: an artifact is one JSON object"
    return ""


def _renamed(content: dict) -> Iterator[str]:
    """Fields under other names."""
    spare = [key for key in content if key not in NAMES]
    for field, pattern in NAMES.items():
        others = [key for key in spare if re.fullmatch(pattern, key, re.IGNORECASE)]
        others = others or difflib.get_close_matches(field, spare, n=1, cutoff=0.8)
        if field not in content and others:
            form = f" ({PAIRS})" if field == "instruction" else ""
            yield f"has {_listed(others)}; here that is '{field}'{form}"


def _instruction(content: dict) -> Iterator[str]:
    pairs = content.get("instruction")
    if isinstance(pairs, dict):
        lists = all(isinstance(value, list) for value in pairs.values())
        what = f"one object ({_listed(pairs)})" + (", with a list for each sign" if lists and pairs else "")
        yield f"'instruction' is {what}; write a list of pairs, {PAIRS}"
    if not isinstance(pairs, list) or not pairs:
        return
    first = pairs[0]
    if isinstance(first, dict):
        for sign, pattern in SIGNS.items():
            other = next((key for key in first if re.fullmatch(rf"{pattern}|{sign}\w+", key, re.IGNORECASE)), None)
            if sign not in first and other:
                yield f"instruction pairs have '{other[:30]}' where '{sign}' is meant; rename it in every pair"
            elif isinstance(first.get(sign), list | dict):
                yield f"'{sign}' of instruction pair 0 is no text but several; write a pair for each"
    elif isinstance(first, list | str):
        yield f"instruction pair 0 is a {'list' if isinstance(first, list) else 'text'}; write a list of pairs, {PAIRS}"


def _questions(content: dict) -> Iterator[str]:
    questions = content.get("questions")
    if isinstance(questions, dict):
        yield f"'questions' is one object ({_listed(questions)}); write its texts as a list"
    elif isinstance(questions, str):
        yield "'questions' is one text; write a list of texts"
    elif isinstance(questions, list):
        number = next((i for i, question in enumerate(questions) if isinstance(question, dict | list)), None)
        if number is None:
            return
        question = questions[number]
        if isinstance(question, list):
            yield f"question {number} is a list (several turns?); a question is one text"
            return
        yield f"question {number} is an object ({_listed(question)}); write its text alone, a string"
        judges = [key for key in question if re.search(r"judge|eval|prompt$|rubric|metric|score", key)]
        if judges:
            yield f"every answer is scored by 'eval_prompt', none by a question's own {_listed(judges)}"


def _eval_prompt(content: dict) -> Iterator[str]:
    prompt = content.get("eval_prompt")
    if isinstance(prompt, dict | list):
        what = f"an object ({_listed(prompt)})" if isinstance(prompt, dict) else f"a list of {len(prompt)}"
        yield f"'eval_prompt' is {what}; write the one prompt that scores this trait, a text"
    if not isinstance(prompt, str):
        return
    doubled = re.findall(_DOUBLED, prompt)
    if doubled:
        yield f"'eval_prompt' has doubled braces ({{{{{doubled[0]}}}}}); write single ones, {{question}} and {{answer}}"
        return
    for field, pattern in PLACEHOLDERS.items():
        if f"{{{field}}}" in prompt:
            continue
        known = re.search(rf"[{{<\[]\s*({pattern})\s*[}}>\]]|\$({pattern})\b", prompt, re.IGNORECASE)
        if known:
            yield f"'eval_prompt' has {known[0]} where {{{field}}} is meant"


def _listed(keys) -> str:
    """The first four keys of an object, quoted."""
    keys = [f"'{str(key)[:30]}'" for key in keys]
    return ", ".join(keys[:4]) + (", ..." if len(keys) > 4 else "")
