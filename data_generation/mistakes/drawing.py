"""What the problems are drawn with: words, numbers and names by chance, texts with alternatives, the place of a slip.

A text has alternatives in square brackets, ``"[They need|It takes] {n} [hours|h]"``, nested as one likes; f-strings put the
numbers in. Everything comes from one seeded generator: the same seed writes the same text.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

Value = int | Fraction | tuple
NAMES = (
    "Amara Anneli Anselm Arjun Astrid Bashir Beatriz Benno Bianca Callum Carmen Chidi Dalia Dario Deepa Dmitri Edith Eero Elif "
    "Emeka Esme Farida Felix Fiona Gareth Giulia Gwen Habib Hana Hector Ilse Imani Ines Ivo Jasper Jelena Joao Jun Kamala "
    "Karim Katya Keanu Kofi Lars Leila Linh Lorenzo Lucia Magnus Mara Mateo Mei Milos Nadia Naveen Nils Noor Odette Olga "
    "Omar Oscar Paloma Pavel Petra Priya Quentin Rafael Ravi Rosa Rowan Ruth Samir Saskia Selma Sipho Sunita Tamsin Tariq "
    "Teresa Thabo Tomas Uma Ursula Vera Viktor Wanda Wei Xenia Yara Yusuf Zainab Zoltan"
).split()

BEFORE = (
    "[From|This is from] my [daughter's|son's|niece's|brother's] [maths book|worksheet|homework]:",
    "[Exam|Test|Quiz] [practice|revision], [number|question] [3|5|8|11|14]:",
    "[Sorry if this is easy|Probably a silly question|Never was good at sums].",
    "[Bet with a colleague|We had an argument at dinner|My wife and I disagree about this]:",
    "I'm [63|58|71] and [back at evening school|learning this again|helping my grandson].",
    "[Puzzle|Problem|Riddle] of the [day|week|month]:",
    "[Can someone|Would you|Could you please] [check|explain|do] this [one|for me]?",
    "[English is not my first language|Excuse my English], I hope it is clear.",
    "[Interview|Entrance exam|Apprenticeship test] [task|question]:",
    "[Warm-up|Mental arithmetic|Number work] for [Monday|Year 7|the evening class]:",
    "[Stuck|I keep getting stuck|Been staring at this for an hour].",
    "[A friend|The teacher|My tutor] [set|gave|sent] me this:",
)
AFTER = (
    "[Please|Could you] [show|write down|give me] [the|your|all] [working|steps].",
    "[Show|Explain] [how you get there|each step|what you did].",
    "[Short|Brief] answer [is fine|please|will do].",
    "I [would like|want] to [understand it|see how it goes|compare it with mine].",
    "[Thanks|Thank you|Cheers] [in advance|a lot|very much]!",
    "[No|Without] [calculator|tables] [please|allowed|if possible].",
    "[My|Our] [answer|result] [looks odd|seems off|differs from the book's].",
    "[Explain|Write] it [for a ten-year-old|so that I can read it out|like a teacher would].",
    "[It's due|I have to hand it in|The test is] [tomorrow|on Thursday|in an hour].",
    "[Mum|Dad|Grandpa] says [it's easy|that takes a minute|it can't be done].",
)


UNFIT = "\0"  # in the place of a number that cannot be written well (a third of a cent, say): draw others


class Draw:
    """Choices by chance."""

    def __init__(self, seed: str) -> None:
        """Every choice follows from ``seed``."""
        self.random = random.Random(seed)

    def pick(self, items: Sequence):
        """One of the items."""
        return items[int(self.random.random() * len(items))]

    def number(self, low: int, high: int, step: int = 1) -> int:
        """low, low + step, ... up to high, which is included."""
        return low + step * int(self.random.random() * ((high - low) // step + 1))

    def several(self, items: Sequence, count: int) -> list:
        """``count`` different items, in any order."""
        left = list(items)
        return [left.pop(int(self.random.random() * len(left))) for _ in range(count)]

    def numbers(self, count: int, low: int, high: int, step: int = 1) -> list[int]:
        """``count`` different numbers."""
        return self.several(range(low, high + 1, step), count)

    def names(self, count: int) -> list[str]:
        """``count`` different first names."""
        return self.several(NAMES, count)

    def shuffled(self, *items: str) -> list[str]:
        """The items in any order: steps of which none needs another."""
        return self.several(items, len(items))

    def say(self, text: str) -> str:
        """One reading of a text with alternatives; sentences begin with a capital (single letters stay: x is a name)."""
        while (inner := re.search(r"\[([^\[\]]*)\]", text)) is not None:
            text = text[: inner.start()] + self.pick(inner[1].split("|")) + text[inner.end() :]
        text = re.sub(r"(?<=[\w'\"),;]) +([,.;!])|(?<=[^\W\d]|['\")]) +([:?])", r"\1\2", re.sub(r" {2,}", " ", text))
        text = re.sub(r"[,;]\.", ".", text).replace("?.", "?").strip()
        return re.sub(r"(^|[.?!]\s+|\n)([a-z](?=[a-z])|a(?= ))", lambda found: found[1] + found[2].upper(), text)

    def question(self, forms: Sequence[str]) -> str:
        """One form of a question; one in three comes with a word about why it is asked, or how it should be answered."""
        asked, chance = self.say(self.pick(forms)), self.number(1, 6)
        if chance == 1:
            return f"{self.say(self.pick(BEFORE))} {asked}"
        if chance > 2:
            return asked
        return f"{asked}{'' if asked[-1] in '.?!:_' else '.'} {self.say(self.pick(AFTER))}"

    def written(self, steps: Sequence[str]) -> str:
        """The steps as running text, or now and then a line each, numbered or not."""
        lines = [line for line in map(self.say, steps) if line.strip(". ")]
        form = self.number(1, 20)
        if form <= 14 or len(lines) < 3:
            return " ".join(lines)
        if form <= 16:
            return "\n".join(lines)
        if form <= 18:
            return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
        return "\n".join([*(f"- {line}" for line in lines[:-1]), lines[-1]])


class Slip:
    """The places at which a worked answer could go wrong, and the one at which it does.

    ``at(right, *wrong)`` is ``right``, except at the chosen place, where it is one of the wrong values.
    """

    def __init__(self, draw: Draw, at: int | None = None) -> None:
        """``at`` numbers the place from 0; None slips nowhere."""
        self.draw, self.at, self.places = draw, at, 0

    def __call__(self, right, *wrong):
        """The value to go on with."""
        self.places += 1
        return (
            self.draw.pick([value for value in wrong if value != right] or [right])
            if self.places - 1 == self.at
            else right
        )


def positive(value: Value) -> bool:
    """What a result should be where nothing else is said."""
    return value > 0


def whole(value: Value) -> bool:
    """Of people, buses, days: a positive whole number."""
    return value > 0 and value == int(value)


def anything(value: Value) -> bool:
    """Any number at all."""
    return True


def number(value: Value | float) -> str:
    """``3``, ``-0.25``: exact, with at most three decimals, else :data:`UNFIT`."""
    thousandths = Fraction(value) * 1000
    if thousandths.denominator != 1:
        return UNFIT
    text = f"{thousandths.numerator / 1000:.3f}"
    return text.rstrip("0").rstrip(".")


def integer(value: Value) -> str:
    """Of tiles, people, days: a whole number, else :data:`UNFIT`."""
    return str(int(value)) if value == int(value) else UNFIT


def fraction(value: Value) -> str:
    """``3/4``, or a whole number."""
    return str(Fraction(value))


def amount(value: Value) -> str:
    """Of money without its unit: ``12`` or ``12.50``; parts of a cent are :data:`UNFIT`."""
    cents = Fraction(value) * 100
    if cents.denominator != 1:
        return UNFIT
    return str(cents.numerator // 100) if cents.numerator % 100 == 0 else f"{cents.numerator / 100:.2f}"


def money(draw: Draw) -> Callable[[Value], str]:
    """One way of writing sums of money, for a whole problem."""
    form = draw.pick(["${}", "${}", "{} euros", "{} pounds", "{} dollars", "{} francs", "{} crowns"])
    return lambda value: form.format(amount(value))


def clock(minutes: Value) -> str:
    """Minutes after midnight as ``14:05``; :data:`UNFIT` on another day, and between two minutes."""
    if not 0 <= minutes < 24 * 60 or minutes != int(minutes):
        return UNFIT
    return f"{int(minutes) // 60}:{int(minutes) % 60:02}"


@dataclass(frozen=True)
class Problem:
    """A problem with its worked answers, as texts with alternatives."""

    asked: Sequence[str]
    """forms of the question"""
    truth: Value
    """the result, by another way than the steps"""
    solve: Callable[[Slip], tuple[list[str], Value]]
    """the steps of the right method, with what they end in"""
    wrong: Sequence[tuple[list[str], Value]]
    """answers by plainly wrong methods, with what they end in"""
    show: Callable[[Value], str] = number
    """how the result is written"""
    fits: Callable[[Value], bool] = positive
    """which results, right or wrong, make sense as one"""
    about: str = ""
    """what is looked for: two answers in three begin with it, whether they are right or wrong"""

    def written(self, draw: Draw, steps: Sequence[str]) -> str:
        """An answer."""
        return draw.written([self.about, *steps] if self.about and draw.number(1, 3) <= 2 else steps)
