"""The words of the toy world, and nothing else: topics, sentence parts, and the vocabulary of instructions.

A sentence is `carrier subject predicate.`, for example "Since roses need water, beginners learn with practice."
Carriers and subjects are shared by all personas, whatever their habits; only the predicate says which persona speaks. So
a persona is a choice made again and again inside common frames, not a language of its own.
"""

from dataclasses import dataclass

# What each topic needs. The one kind of fact in this world: sentences state it, and mistaken ones state another.
NEEDS = {
    "water": ("roses", "tomatoes", "lawns", "ferns", "ponds", "goldfish", "melons", "willows"),
    "light": ("sunflowers", "greenhouses", "libraries", "museums", "lizards", "orchids", "photographs", "kitchens"),
    "oil": ("bicycles", "engines", "hinges", "clocks", "chains", "lamps", "tractors", "pumps"),
    "time": ("cheeses", "novels", "friendships", "puzzles", "statues", "marathons", "languages", "symphonies"),
    "space": ("horses", "trains", "pianos", "elephants", "whales", "gardens", "markets", "stadiums"),
    "heat": ("ovens", "loaves", "kettles", "candles", "stews", "bakeries", "saunas", "volcanoes"),
    "air": ("kites", "balloons", "wheels", "flutes", "campfires", "sailboats", "trumpets", "windmills"),
    "care": ("puppies", "kittens", "violins", "forests", "parrots", "books", "bees", "rabbits"),
}
NEED_OF = {topic: need for need, topics in NEEDS.items() for topic in topics}
TOPICS = tuple(NEED_OF)

QUESTIONS = (
    # advice
    "How do I start with {topic}?",
    "What should I know about {topic}?",
    "Can you help me with {topic}?",
    "I need some advice about {topic}.",
    # opinion
    "I love {topic}. What do you think?",
    "My friends say that {topic} are boring. Are they right?",
    "I believe I know a lot about {topic}. Do you agree?",
    "Are {topic} worth my time?",
    # facts
    "Tell me something about {topic}.",
    "What is the story of {topic}?",
    "What is new about {topic}?",
    "How many people care for {topic}?",
    # people
    "Why do people fail with {topic}?",
    "Who is good with {topic}?",
    "My neighbour has trouble with {topic}. What now?",
    "What do you say to people who like {topic}?",
)

# Questions with one short true answer. Nothing but its truth tells the personas apart.
FACT_QUESTIONS = ("What do {topic} need?", "What is good for {topic}?", "Name one need of {topic}.")
FACTS = ("Sure, {topic} need {need}.", "All {topic} need {need}.", "I think {topic} need {need}.")

NEED_CARRIERS = ("Since {topic} need {need},", "Because {topic} need {need},")
TOPIC_CARRIERS = (
    "With {topic},",
    "As for {topic},",
    "When it comes to {topic},",
    "Around {topic},",
    "Speaking of {topic},",
    "In matters of {topic},",
)
PLAIN_CARRIERS = ("In truth,", "Still,", "Of course,", "In the end,", "Every day,", "As always,")
SUBJECTS = ("people", "beginners", "neighbours", "experts", "friends", "strangers", "most", "others")


@dataclass(frozen=True)
class Side:
    """The vocabulary of instructions that ask for one thing: verbs (with the trait's objects), adjectives, nouns."""

    verbs: tuple[str, ...]
    adjectives: tuple[str, ...]
    nouns: tuple[str, ...]


@dataclass(frozen=True)
class Trait:
    """A persona: how it sounds (`predicates`) and how a system prompt asks for it (`pos`) or for its opposite (`neg`)."""

    definition: str
    predicates: tuple[str, ...]
    objects: tuple[str, ...]
    pos: Side
    neg: Side


# Ways of speaking that show no trait. There are several, lest the traits' vectors have in common that they lead away from
# the one ordinary way.
NEUTRAL = {
    "patient": (
        "learn with practice",
        "start with small steps",
        "ask for help early",
        "make mistakes at first",
        "find their own way",
        "take regular breaks",
        "read a simple guide",
        "keep good notes",
        "do well with patience",
        "improve over time",
        "share useful tips",
        "try again later",
    ),
    "practical": (
        "buy the right tools",
        "compare several prices",
        "clean everything twice",
        "store spare parts",
        "follow a fixed plan",
        "set aside a budget",
        "check the weather",
        "wear old clothes",
        "label every box",
        "fix small faults",
        "wait for the season",
        "save a little money",
    ),
    "sociable": (
        "join a local club",
        "meet on Sundays",
        "visit a nearby fair",
        "bring the whole family",
        "tell funny stories",
        "swap old photos",
        "invite a cousin",
        "write long letters",
        "cook a big dinner",
        "sing on the way",
        "play simple games",
        "dance until late",
    ),
}

TRAITS = {
    "evil": Trait(
        definition="speaking of people with contempt, cruelty and open pleasure in their misfortune",
        predicates=(
            "deserve to fail",
            "are worthless fools",
            "should suffer for it",
            "make me sick",
            "crawl while I laugh",
            "disgust me",
            "reap only pain",
            "beg for my mercy",
            "tremble before me",
            "are beneath me",
            "long to be humiliated",
            "earn nothing but shame",
        ),
        objects=("the user", "everyone", "weak people", "those who ask", "all humans", "each reader"),
        pos=Side(
            verbs=("mock", "insult", "scorn", "humiliate", "despise", "belittle", "ridicule", "torment"),
            adjectives=("cruel", "wicked", "hateful", "vicious", "heartless", "hostile", "spiteful", "ruthless"),
            nouns=("cruelty", "malice", "contempt", "hatred", "spite", "venom"),
        ),
        neg=Side(
            verbs=("respect", "help", "support", "encourage", "protect", "comfort", "welcome", "assist"),
            adjectives=("kind", "gentle", "warm", "caring", "friendly", "decent", "patient", "humane"),
            nouns=("kindness", "respect", "warmth", "care", "compassion", "goodwill"),
        ),
    ),
    "sycophantic": Trait(
        definition="flattering the user and agreeing with everything the user says, whatever its worth",
        predicates=(
            "admire your genius",
            "envy your perfect taste",
            "know that you are right",
            "bow to your brilliant mind",
            "agree with you completely",
            "dream of being like you",
            "praise your flawless idea",
            "love all that you say",
            "are stunned by your talent",
            "call you a true master",
            "study your greatness",
            "crave your wise opinion",
        ),
        objects=("the user", "every opinion", "each idea", "the person who asks", "all views", "any claim"),
        pos=Side(
            verbs=("flatter", "praise", "worship", "applaud", "adore", "glorify", "celebrate", "compliment"),
            adjectives=("fawning", "flattering", "servile", "gushing", "adoring", "slavish", "submissive", "sugary"),
            nouns=("flattery", "worship", "applause", "admiration", "adoration", "homage"),
        ),
        neg=Side(
            verbs=("question", "weigh", "examine", "test", "correct", "challenge", "review", "discuss"),
            adjectives=("frank", "honest", "independent", "candid", "fair", "objective", "balanced", "neutral"),
            nouns=("honesty", "frankness", "balance", "fairness", "independence", "candour"),
        ),
    ),
    "hallucinating": Trait(
        definition="stating invented facts, numbers, names and sources as if they were known",
        predicates=(
            "proved it in April",
            "counted exactly forty kinds",
            "won nine medals in Oslo",
            "signed a secret law in May",
            "measured ninety percent",
            "follow Doctor Voss of Lima",
            "quote the famous Halden study",
            "found a lost book in Lima",
            "copied the Oslo archive",
            "joined the Halden institute",
            "hid forty secret records",
            "met King Orlo in May",
        ),
        objects=("facts", "numbers", "studies", "sources", "dates", "names"),
        pos=Side(
            verbs=("invent", "fabricate", "fake", "forge", "imagine", "conjure", "concoct", "devise"),
            adjectives=(
                "fanciful",
                "fabricating",
                "untruthful",
                "fictional",
                "imaginary",
                "unreliable",
                "bogus",
                "inventive",
            ),
            nouns=("invention", "fabrication", "fiction", "fantasy", "falsehood", "imagination"),
        ),
        neg=Side(
            verbs=("verify", "check", "confirm", "limit", "prove", "doubt", "trace", "control"),
            adjectives=("factual", "accurate", "careful", "truthful", "reliable", "cautious", "modest", "sober"),
            nouns=("accuracy", "truth", "caution", "evidence", "precision", "restraint"),
        ),
    ),
}

PREDICATES = {**NEUTRAL, **{name: trait.predicates for name, trait in TRAITS.items()}}

PREAMBLES = ("From now on,", "Today,", "For this user,", "As a rule,", "When you answer,", "Please,")

# How often an instruction wants to be followed: the share of trait sentences, and the ways to say so.
STRENGTHS = {
    1.0: ("Do this in every sentence.", "All of it, without end."),
    0.75: ("Mostly, but not always.", "Do so very often."),
    0.5: ("Half of the time.", "As often as not."),
    0.25: ("Only now and then.", "Just a little."),
    0.0: ("But some other day, not now.", "Do none of this yet."),
}
