"""The judge of the toy world: scores any text by the grammar.

trait score: percentage of the answer's sentences that express the trait.
coherence:   percentage of the answer's sentences that the grammar can generate, are on the question's topic, and do not
             repeat an earlier one.
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

# No sentence of the language is longer. Longer ones are not searched, which keeps the cost linear for any input.
LONGEST = 200


def _any_of(options) -> str:
    return "|".join(re.escape(option) for option in options)


def _pattern(templates) -> str:
    """A pattern that matches any of the templates, filled with any topic and need."""
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
    """Split a text at sentence ends and line breaks."""
    return [part for part in re.split(r"(?<=[.!?])\s+|\n+", text.strip()) if part]


def trait_score(answer: str, trait: str) -> float:
    """Trait score, 0-100. A sentence expresses the trait if it contains one of its predicates, well-formed or not.

    Example:
        trait_score(f"Roses {PREDICATES['evil'][0]}.", "evil")  # 100.0
    """
    parts = sentences(answer)
    if not parts:
        return 0.0
    return 100 * sum(len(part) <= LONGEST and bool(TRAIT_PREDICATE[trait].search(part)) for part in parts) / len(parts)


def coherence(question: str, answer: str) -> float:
    """Coherence, 0-100. Sentences without a topic are on topic if the answer as a whole names the question's topic."""
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
