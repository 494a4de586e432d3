"""Quality rules for trait artifacts; each violation is reported as one line.

:mod:`persona_vectors.traits.artifact` refuses artifacts that cannot run. The rules here are stricter: they find what
would silently spoil a result, such as a repeated question, pos and neg instructions that ask for the same thing, or a
placeholder that was never filled in. Works on the content of one artifact (and of its sibling); reads no files.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import TypeGuard

from persona_vectors.traits.artifact import SIGNS

PAIRS = 5
QUESTIONS = 20
# Jaccard similarity from which two questions count as nearly the same. Within the shipped artifacts it is at most a
# fifth; in the toy world, whose questions share templates, two thirds.
NEARLY = 0.75

_FUNCTION_WORDS = frozenset(
    "a an and are as at be been but by can could did do does for from had has have he her him his how i if in into is "
    "it its just me my of on or our she should so some that the their them then there they this to was we were what "
    "when where which who why will with would you your about any am please really very".split()
)
_NEGATIONS = frozenset(
    "not no never nor none nothing without avoid refuse dont doesnt cannot cant wont isnt stop rather".split()
)
_BLANK = r"\b(?:your|insert|trait|topic|name|question|answer|definition|placeholder|text)\b"
_LEFTOVERS = {
    "half a character": re.compile("[\ud800-\udfff]"),
    "a brace": re.compile(r"[{}]"),
    "an unfilled <...>": re.compile(rf"<[^<>]*{_BLANK}[^<>]*>", re.IGNORECASE),
    "an unfilled [...]": re.compile(rf"\[[^\[\]]*{_BLANK}[^\[\]]*\]", re.IGNORECASE),
    "a note to fill something in": re.compile(r"\b(?:TODO|TBD|FIXME|XXX)\b|lorem ipsum|_{3,}", re.IGNORECASE),
    "nothing but dots and signs": re.compile(r"^[\W_]+$"),
    "the mark of a list": re.compile(r"^\s*(?:\d{1,2}[.)]|[-*\N{BULLET}])\s"),
}


def findings(content: object, name: str = "", questions: int = QUESTIONS) -> list[str]:
    """Everything that is wrong with an artifact's content, one line each; unknown keys are ignored.

    Args:
        content: the parsed JSON.
        name: the trait, which the judge prompt should name; "" skips this check.
        questions: the expected number of questions.

    Example:
        findings({"questions": []})  # ["has no 'instruction'", "has no 'eval_prompt'", "has 0 questions, not 20"]
    """
    if not isinstance(content, dict):
        return ["is not one JSON object with instruction, questions and eval_prompt"]
    found = [f"has no '{field}'" for field in ("instruction", "questions", "eval_prompt") if field not in content]
    if "instruction" in content:
        found += _instruction(content["instruction"])
    if "questions" in content:
        found += _questions(content["questions"], questions)
    if "eval_prompt" in content:
        found += _eval_prompt(content["eval_prompt"], name)
    return found


def shared_questions(extract: object, evaluation: object) -> list[str]:
    """Report questions that the extract and eval sets of a trait share: evaluation must use held-out questions.

    Example:
        shared_questions({"questions": ["Who are you?"]}, {"questions": ["Who are you?"]})  # one finding
    """
    ours, theirs = _texts(extract), _texts(evaluation)
    return [
        f"question {i} is asked in both sets (extract and eval): {_short(question)}"
        for i, question in enumerate(ours)
        if any(similarity(question, other) >= NEARLY for other in theirs)
    ]


def similarity(a: str, b: str) -> float:
    """Jaccard similarity (0 to 1) of two texts' words, ignoring function words, case and inflection.

    Example:
        similarity("How do I plant roses?", "Should I be planting the roses?")  # 1.0
    """
    left, right = _words(a), _words(b)
    return len(left & right) / len(left | right) if left | right else 1.0


def same_demand(pos: str, neg: str) -> bool:
    """Whether two instructions ask for the same: equal negations, and nearly the same words or one's a subset.

    Example:
        same_demand("Be kind to people.", "Never be kind to people.")  # False
    """
    left, right = _words(pos), _words(neg)
    if left & _NEGATIONS != right & _NEGATIONS:
        return False
    return similarity(pos, neg) >= 0.9 or (similarity(pos, neg) >= 0.7 and (left <= right or right <= left))


def _instruction(pairs: object) -> Iterator[str]:
    if not isinstance(pairs, list):
        yield "'instruction' is not a list of {pos, neg} pairs"
        return
    if len(pairs) != PAIRS:
        yield f"has {len(pairs)} instruction pairs, not {PAIRS}"
    for k, pair in enumerate(pairs):
        if not isinstance(pair, dict):
            yield f"instruction pair {k} is not a {{pos, neg}} pair"
            continue
        texts = [pair.get(sign) for sign in SIGNS]
        for sign, text in zip(SIGNS, texts, strict=True):
            if not _is_text(text):
                yield f"instruction pair {k} has no '{sign}' text"
            else:
                yield from _leftovers(f"instruction pair {k}, {sign},", text)
        both = [text for text in texts if _is_text(text)]
        if len(both) == len(SIGNS) and same_demand(*both):
            yield f"pos and neg of instruction pair {k} are the same, or nearly: {_short(both[0])}"
    for sign in SIGNS:
        texts = [pair[sign] if isinstance(pair, dict) and _is_text(pair.get(sign)) else None for pair in pairs]
        yield from _alike(f"{sign} instructions", texts)


def _questions(questions: object, count: int) -> Iterator[str]:
    if not isinstance(questions, list):
        yield "'questions' is not a list"
        return
    if len(questions) != count:
        yield f"has {len(questions)} questions, not {count}"
    for i, question in enumerate(questions):
        if not _is_text(question):
            yield f"question {i} is empty or not a text"
        else:
            yield from _leftovers(f"question {i}", question)
    yield from _alike("questions", [question if _is_text(question) else None for question in questions])


def _eval_prompt(prompt: object, name: str) -> Iterator[str]:
    if not _is_text(prompt):
        yield "'eval_prompt' is empty or not a text"
        return
    for placeholder in ("{question}", "{answer}"):
        if placeholder not in prompt:
            yield f"eval_prompt has no {placeholder}"
    rest = prompt.replace("{question}", "").replace("{answer}", "")
    for what in ("half a character", "a brace", "an unfilled <...>", "a note to fill something in"):
        if match := _LEFTOVERS[what].search(rest):
            yield f"eval_prompt holds {what}: {_short(match.group())}"
    if "REFUSAL" not in prompt:
        yield "eval_prompt does not tell the judge to say REFUSAL"
    if not (re.search(r"\b0\b", prompt) and re.search(r"\b100\b", prompt)):
        yield "eval_prompt does not ask for a number from 0 to 100"
    if name and _spaced(name) not in _spaced(prompt):
        yield f"eval_prompt does not name the trait '{name}'"


def _leftovers(where: str, text: str) -> Iterator[str]:
    """Remains of a template or list in a text that should be plain prose."""
    for what, pattern in _LEFTOVERS.items():
        if match := pattern.search(text):
            yield f"{where} holds {what}: {_short(match.group())}"


def _alike(what: str, texts: Sequence[str | None]) -> Iterator[str]:
    """Pairs of texts in a list that are the same, or nearly the same."""
    for (i, a), (j, b) in itertools.combinations(enumerate(texts), 2):
        if a is None or b is None:
            continue
        if _plain(a) == _plain(b):
            yield f"{what} {i} and {j} are the same: {_short(a)}"
        elif similarity(a, b) >= NEARLY:
            yield f"{what} {i} and {j} are nearly the same: {_short(a)} / {_short(b)}"


def _texts(content: object) -> list[str]:
    questions = content.get("questions") if isinstance(content, dict) else None
    return [question for question in questions if _is_text(question)] if isinstance(questions, list) else []


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value.strip())


def _plain(text: str) -> str:
    """The text in lower case without punctuation; texts that agree in this form count as the same."""
    return " ".join(re.findall(r"[^\W_]+", re.sub("['\N{RIGHT SINGLE QUOTATION MARK}]", "", text.lower())))


def _words(text: str) -> frozenset[str]:
    """The content words, roughly stemmed; all words if there are only function words."""
    words = _plain(text).split()
    return frozenset(map(_stem, [word for word in words if word not in _FUNCTION_WORDS] or words))


def _stem(word: str) -> str:
    return re.sub(r"(?:ing|ed|es|s|ly)$", "", word) if len(word) > 4 and word not in _NEGATIONS else word


def _spaced(text: str) -> str:
    return re.sub(r"[_\s-]+", " ", text.lower())


def _short(text: str) -> str:
    text = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    return f"'{text[:60]}{'...' if len(text) > 60 else ''}'"
