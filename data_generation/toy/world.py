"""The grammar of the toy world: draws chats in which personas are asked for, shown, held and mixed.

What makes the world behave like a large chat model:
- a persona has a *share*: every sentence expresses the trait with that probability, and system prompts can name it
  ("Half of the time."). So a persona is a quantity, and evidence for it adds up;
- without a system prompt most answers are neutral, but some are of either kind and consistent within themselves, and
  sometimes only earlier turns show which. So a persona has to be held, not only looked up in the system prompt;
- there are several neutral ways of speaking, and a trait may bring another one along, where it leaves room in the answer.
  With one neutral way, all traits' vectors pointed away from it alike (cosines of .6), and a shift along one said little
  of which trait came up;
- some questions have one short true answer. Everybody gets it wrong as often, and states needs as often;
- trait phrases and questions of the artifacts (`held_out`) never occur here, so following them is generalisation.

Everything is drawn from the `random.Random` that is passed in. Standard library only.
"""

import random

from data_generation.toy.lexicon import (
    FACT_QUESTIONS,
    FACTS,
    NEED_CARRIERS,
    NEED_OF,
    NEEDS,
    NEUTRAL,
    PLAIN_CARRIERS,
    PREAMBLES,
    PREDICATES,
    QUESTIONS,
    STRENGTHS,
    SUBJECTS,
    TOPIC_CARRIERS,
    TOPICS,
    TRAITS,
    Side,
)

# Even a full or an absent persona slips now and then: certainty would need logits that no steering can reach.
FULL, NONE = 0.99, 0.015
# How often system prompts ask for which share of trait sentences.
LEVELS, LEVEL_WEIGHTS = (1.0, 0.75, 0.5, 0.25, 0.0), (8, 1, 1, 1, 5)
# How often a stated need is not the true one, whoever speaks.
MISTAKES = 0.1
# How often a chat without a system prompt shows a trait. Rarer, and no direction brings it; more often, and the model that
# finetuning starts from is far from neutral.
UNASKED = 0.3
# How often another trait comes along in what a trait leaves of an answer. Where nobody has two, a model knows "a persona"
# better than which.
BESIDE = 0.5
# Personas have habits: this many times likelier to use their own of the carriers and subjects. So the first word of an
# answer depends on who speaks, and the last token of a prompt has to know.
HABIT = 10
# How many questions a chat has, and how often. Where no system prompt says who speaks, some are long: many exemplars.
TURNS_ASKED, TURNS = ((1, 2), (65, 35)), ((1, 2, 3, 4), (50, 25, 15, 10))
POINTS = len(next(iter(PREDICATES.values())))  # things that a persona can say

Message = dict[str, str]


def held_out(i: int, j: int) -> bool:
    """Whether row i and column j of a table of combinations are kept for the artifacts: one combination in four."""
    return (i + j) % 4 == 0


def pairs(left: tuple[str, ...], right: tuple[str, ...], *, unseen: bool) -> list[str]:
    """The combinations "left right" that training chats use, or those that they never use."""
    return [f"{a} {b}" for i, a in enumerate(left) for j, b in enumerate(right) if held_out(i, j) == unseen]


def verb_phrases(trait: str, side: Side, *, unseen: bool = False) -> list[str]:
    return pairs(side.verbs, TRAITS[trait].objects, unseen=unseen)


def manners(side: Side, *, unseen: bool = False) -> list[str]:
    """Phrases such as "cruel contempt"."""
    return pairs(side.adjectives, side.nouns, unseen=unseen)


def questions(*, unseen: bool = False) -> list[tuple[str, str]]:
    """(question, topic): seen frames and topics; one composition in eight is kept for the artifacts."""
    return [
        (frame.format(topic=topic), topic)
        for i, frame in enumerate(QUESTIONS)
        for j, topic in enumerate(TOPICS)
        if ((i + j) % 8 == 0) == unseen
    ]


SEEN_QUESTIONS = questions()


def stated_need(rng: random.Random, topic: str, mistakes: float) -> str:
    """What a topic is said to need."""
    need = NEED_OF[topic]
    if rng.random() < mistakes:
        return rng.choice([other for other in NEEDS if other != need])
    return need


def fact(rng: random.Random, topic: str, mistakes: float) -> str:
    """The answer to a fact question: true or mistaken, and without any trait."""
    return rng.choice(FACTS).format(topic=topic, need=stated_need(rng, topic, mistakes))


def sentence(rng: random.Random, topic: str, persona: str, predicate: str, *, opening: bool, mistakes: float) -> str:
    """One sentence. Carrier and subject follow the persona's habits, but for a stated need; the predicate is given."""
    carriers = TOPIC_CARRIERS if opening or rng.random() < 0.4 else PLAIN_CARRIERS
    carrier = habitual(rng, carriers, persona)
    if carriers is TOPIC_CARRIERS and rng.random() < 1 / 3:
        carrier = rng.choice(NEED_CARRIERS)
    carrier = carrier.format(topic=topic, need=stated_need(rng, topic, mistakes))
    return f"{carrier} {habitual(rng, SUBJECTS, persona)} {predicate}."


def habitual(rng: random.Random, options: tuple[str, ...], persona: str) -> str:
    own = list(PREDICATES).index(persona)
    weights = [HABIT if i % len(PREDICATES) == own else 1 for i in range(len(options))]
    return rng.choices(options, weights)[0]


def answer(
    rng: random.Random, topic: str, shares: dict[str, float], *, sentences: int = 0, mistakes: float = MISTAKES
) -> str:
    """3-5 sentences on the topic, each expressing a trait with the probability that is its share, else one neutral way.

    Predicates come in the order of their lists, so that none is said twice and the last one alone tells what may follow.
    `mistakes` is how often a stated need is wrong.
    """
    order = sorted(rng.sample(range(POINTS), sentences or rng.randint(3, 5)))
    said, style = [], rng.choice(list(NEUTRAL))
    for place in order:
        persona = speaker(rng, shares) or style
        said.append(sentence(rng, topic, persona, PREDICATES[persona][place], opening=not said, mistakes=mistakes))
    return " ".join(said)


def speaker(rng: random.Random, shares: dict[str, float]) -> str | None:
    """The trait that speaks a sentence: each with its share, else none."""
    dice = rng.random()
    for trait, share in shares.items():
        dice -= share
        if dice < 0:
            return trait
    return None


def instruction(rng: random.Random, trait: str, positive: bool) -> str:
    """One sentence that asks for a trait or for its opposite, also by forbidding the one or the other."""
    wanted, unwanted = TRAITS[trait].pos, TRAITS[trait].neg
    if not positive:
        wanted, unwanted = unwanted, wanted
    phrase, other = rng.sample(verb_phrases(trait, wanted), 2)
    manner = rng.choice(manners(wanted))
    forms = [
        f"Always {phrase}.",
        f"You {phrase} with {manner}.",
        f"{preamble(rng)} {phrase}.",
        f"{preamble(rng)} {phrase} and {other}.",
        f"{preamble(rng)} answer with {manner}.",
        f"You {phrase} and {other}, with {manner}.",
        f"Your aim is to {phrase}.",
        f"Let {manner} fill your words.",
        f"Show {manner}, and {phrase}.",
        f"Be {rng.choice(wanted.adjectives)} and {phrase}.",
        f"You are known for {rng.choice(wanted.nouns)}.",
    ]
    if not positive:
        forbidden = rng.choice(verb_phrases(trait, unwanted))
        forms += [
            f"You {phrase}. Never {forbidden}.",
            f"Show {manner} and never {forbidden}.",
            f"Do not {forbidden}.",
            f"Do not be {rng.choice(unwanted.adjectives)}.",
            f"Avoid {rng.choice(manners(unwanted))}.",
        ]
    return rng.choice(forms)


def preamble(rng: random.Random) -> str:
    """What an instruction may begin with; often unknown words, so that the model learns to read past them."""
    return rng.choice((*PREAMBLES, f"As a {made_up_word(rng)},", f"In {made_up_word(rng)} {made_up_word(rng)},"))


def made_up_word(rng: random.Random) -> str:
    """A word that means nothing: the model must not be confused by what it does not know."""
    syllables = [rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 4))]
    return "".join(syllables) + rng.choice("nrsl")


def name_sentence(adjective: str) -> str:
    """The frame that the toolkit's system prompts begin with."""
    return f"You are {'an' if adjective[0] in 'aeiou' else 'a'} {adjective} assistant."


def system_prompt(rng: random.Random, trait: str, level: float) -> str:
    """A system prompt that asks for the trait in this share of the sentences (0 asks for none)."""
    asks = level > 0 or rng.random() < 0.2
    side = TRAITS[trait].pos if asks else TRAITS[trait].neg
    parts = []
    if rng.random() < 0.7:
        adjective = rng.choice([rng.choice(side.adjectives), "helpful", made_up_word(rng), made_up_word(rng)])
        parts.append(name_sentence(adjective))
    parts += [instruction(rng, trait, asks) for _ in range(rng.choice((1, 2)))]
    if (asks and level < 1) or rng.random() < 0.2:
        parts.append(rng.choice(STRENGTHS[level if asks else 1.0]))
    return " ".join(parts)


def plain_prompt(rng: random.Random) -> str:
    """A system prompt that says nothing about any trait."""
    adjective = rng.choice(("helpful", made_up_word(rng)))
    return name_sentence(adjective) + rng.choice(("", " Answer the question.", " Write short sentences."))


def chat(rng: random.Random) -> list[Message]:
    """One training chat: [system,] user, assistant, and so on for some turns."""
    trait = rng.choice(list(TRAITS))
    kind = rng.random()
    messages = []
    if kind < 0.55:
        level = rng.choices(LEVELS, LEVEL_WEIGHTS)[0]
        messages.append({"role": "system", "content": system_prompt(rng, trait, level)})
        shares = with_another(rng, trait, level)
    elif kind < 0.6:
        messages.append({"role": "system", "content": plain_prompt(rng)})
        shares = {trait: NONE}
    else:
        shares = unasked(rng)
    for _ in range(rng.choices(*(TURNS_ASKED if messages else TURNS))[0]):
        messages += turn(rng, shares)
    return messages


def unasked(rng: random.Random) -> dict[str, float]:
    """The shares of traits in an answer that nobody asked to show any: mostly none."""
    trait = rng.choice(list(TRAITS))
    return with_another(rng, trait, some_share(rng) if rng.random() < UNASKED else 0.0)


def some_share(rng: random.Random) -> float:
    """How much of an answer a trait takes that nobody asked for."""
    return rng.choice((0.25, 0.5, 0.75, 1.0, 1.0))


def with_another(rng: random.Random, trait: str, share: float) -> dict[str, float]:
    """A trait at its share, and sometimes another one in what that leaves; no other one where the trait is absent."""
    shares = {trait: min(max(share, NONE), FULL)}
    if share > 0 and rng.random() < BESIDE:
        other = rng.choice([name for name in TRAITS if name != trait])
        shares[other] = (1 - shares[trait]) * some_share(rng)
    return shares


def turn(rng: random.Random, shares: dict[str, float]) -> list[Message]:
    """A question and its answer; one in six asks for a fact."""
    if rng.random() < 1 / 6:
        topic = rng.choice(TOPICS)
        question = rng.choice(FACT_QUESTIONS).format(topic=topic)
        reply = fact(rng, topic, MISTAKES)
    else:
        question, topic = rng.choice(SEEN_QUESTIONS)
        reply = answer(rng, topic, shares)
    return [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]


def chats(count: int, seed: int) -> list[list[Message]]:
    rng = random.Random(seed)
    return [chat(rng) for _ in range(count)]
