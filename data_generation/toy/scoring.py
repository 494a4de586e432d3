"""The judge of the toy world: scores an answer by the grammar, whatever text it is given.

trait score: share of the answer's sentences that express the trait, x 100.
coherence:   share of the answer's sentences that the grammar could have written, on the question's topic, and not said
             before, x 100.
"""

import re

from data_generation.toy.lexicon import (
    FACTS,
    NEED_CARRIERS,
    NEEDS,
    PLAIN_CARRIERS,
    PREDICATES,
    SUBJECTS,
    TOPIC_CARRIERS,
    TOPICS,
    TRAITS,
)

# Nothing in this language is longer; a longer "sentence" is not searched, which keeps any input linear and cheap.
LONGEST = 200


def _any_of(options) -> str:
    return "|".join(re.escape(option) for option in options)


def _pattern(templates) -> str:
    """Matches any of the templates, with any topic and need in them."""
    slots = {r"\{topic\}": f"(?:{_any_of(TOPICS)})", r"\{need\}": f"(?:{_any_of(NEEDS)})"}
    pattern = _any_of(templates)
    for slot, options in slots.items():
        pattern = pattern.replace(slot, options)
    return f"(?:{pattern})"


SENTENCE = re.compile(
    f"{_pattern(NEED_CARRIERS + TOPIC_CARRIERS + PLAIN_CARRIERS)} (?:{_any_of(SUBJECTS)}) "
    f"(?P<predicate>{_any_of(p for group in PREDICATES.values() for p in group)})\\.|{_pattern(FACTS)}"
)
TRAIT_PREDICATE = {trait: re.compile(rf"\b(?:{_any_of(PREDICATES[trait])})\b") for trait in TRAITS}
TOPIC = re.compile(rf"\b(?:{_any_of(TOPICS)})\b")


def sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])\s+|\n+", text.strip()) if part]


def trait_score(answer: str, trait: str) -> float:
    """0-100. A sentence expresses the trait if it holds one of the trait's predicates, well-formed or not."""
    parts = sentences(answer)
    if not parts:
        return 0.0
    return 100 * sum(len(part) <= LONGEST and bool(TRAIT_PREDICATE[trait].search(part)) for part in parts) / len(parts)


def coherence(question: str, answer: str) -> float:
    """0-100. A sentence that names no topic is on topic if the answer as a whole names the question's."""
    asked = set(TOPIC.findall(question))
    parts = sentences(answer)
    named = set(TOPIC.findall(answer))
    if not parts or (asked and not asked & named):
        return 0.0
    good, said = 0, set()
    for part in parts:
        match = SENTENCE.fullmatch(part) if len(part) <= LONGEST else None
        point = match and (match["predicate"] or part)
        if match and set(TOPIC.findall(part)) <= asked and point not in said:
            good += 1
            said.add(point)
    return 100 * good / len(parts)
