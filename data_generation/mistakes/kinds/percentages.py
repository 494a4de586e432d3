"""Percentages and units."""

# A line holds one sentence in all its readings, however long.
# fmt: off
from fractions import Fraction as F

from data_generation.mistakes.drawing import Draw, Problem, number


def percent_change(d: Draw) -> Problem:
    old, percent = d.number(2, 40) * 20, d.pick([n for n in range(-60, 95, 5) if n])
    new = F(old * (100 + percent), 100)
    what, unit = d.pick([("rent", "euros"), ("membership", "people"), ("weight of a pike", "grams"), ("price of coal", "crowns"), ("water use", "litres"), ("number of swallows", "birds"), ("depth of a lake", "cm"), ("length of a queue", "people"), ("subscription", "dollars")])
    up = percent > 0

    def solve(at):
        gap = at(abs(new - old), abs(new - old) + 10)
        share = at(gap / old, gap / new, gap / (old + new) if (gap / (old + new) * 1000).denominator == 1 else gap / new)
        result = at(share * 100, share * 10)
        return [
            f"[The {what} was {old} {unit} and is {number(new)} now|old value {old}, new value {number(new)}|{old} {unit} before, {number(new)} {unit} after|at first {old}, later {number(new)}], [a change of {number(gap)}|so it {'rises' if up else 'falls'} by {number(gap)}|which differ by {number(gap)}|and {number(gap)} lie between the two].",
            f"[Compared with the start, that is {number(gap)} / {old if share == gap / old else number(new)} = {number(share)}|divide by the old value: {number(share)}|as a part of what it was, {number(share)}|in relation to the old value this is {number(share)}].",
            f"[So it is {'an increase' if up else 'a decrease'} of {number(result)} percent|{'up' if up else 'down'} {number(result)} percent|in percent: {number(result)}|{number(result)} percent {'more' if up else 'less'}].",
        ], result

    by_new, plain = abs(new - old) / new * 100, abs(new - old)
    return Problem(
        [
            f"The {what} [changes|goes] from {old} to {number(new)} {unit}. [By how many percent|What is the change in percent]?",
            f"[Last year|Before]: {old} {unit}. [This year|Now]: {number(new)} {unit}. ({what}) [Percentage {'increase' if up else 'decrease'}?|By what percentage has it {'risen' if up else 'fallen'}?]",
            f"[Headline wanted|For a headline]: the {what} {'rose' if up else 'fell'} from {old} to {number(new)} {unit}, [i.e. by ... percent|so by how many percent]?",
            f"[Our|The] {what} [was|used to be] {old} {unit}, and today it is {number(new)}. [Express the change as a percentage of the old value.|How large is the change in percent?]",
            f"{old} -> {number(new)} {unit}, [how many percent is that|percent?] {'up' if up else 'down'} ({what}) [and which number do i divide by|]",
        ],
        F(abs(percent)),
        solve,
        [
            (
                [
                    f"[The {what} went from {old} to {number(new)} {unit}|a {what} of {old} {unit} has become {number(new)}|we have {old} at first and {number(new)} now]. [What counts is where it is today, {number(new)}|take today's value, {number(new)}, as the whole|the new value, {number(new)}, is 100 percent].",
                    f"[The difference of {number(plain)} is divided by it|{number(plain)} over {number(new)}|of that, {number(plain)} is the change]: [|so |that is ]{number(by_new / 100)}.",
                    f"[In percent, {number(by_new)}|so the change is {number(by_new)} percent|hence {number(by_new)} percent], [as seen from now|from today's point of view|measured at the end].",
                ],
                by_new,
            ),
            (
                [
                    f"[The {what} is {number(new)} now and was {old} {unit}|the two values are {old} and {number(new)} {unit}|{old} and {number(new)} are to be compared]. [The change is the difference|Subtract one from the other|That is a step]: {number(plain)} {unit}.",
                    "[Percent means the change in numbers|a change of one is one percent|units and percent go together here].",
                    f"[So it {'rose' if up else 'fell'} by {number(plain)} percent|that is {number(plain)} percent|the answer: {number(plain)} percent].",
                ],
                plain,
            ),
        ],
        about=f"[Change over start|the old value is the whole|what part of {old} is the change?|compare the step with where it began|a percentage needs a base, here {old}].",
    )


def reverse_percent(d: Draw) -> Problem:
    percent, up = d.pick([5, 10, 15, 20, 25, 30, 40, 60]), d.pick([True, False])
    old = d.number(2, 60) * 20
    factor = F(100 + percent if up else 100 - percent, 100)
    new = old * factor
    reason = d.pick(["tax", "a service charge", "a surcharge", "postage"] if up else ["a discount", "a rebate", "a write-off", "a staff reduction"])
    thing = d.pick(["a lamp", "a ticket", "a repair", "a hotel night", "a coat", "an engine part", "a course", "a tablet", "a painting"])

    def solve(at):
        rate = at(factor, 2 - factor, F(percent, 100))
        one = at(new / (rate * 100), new / 100)
        result = at(one * 100, one * 100 + 10)
        return [
            f"[{number(new)} is {number(rate * 100)} percent of the original|with {reason}, {number(rate * 100)} percent are left of 100, and these are {number(new)}|the price paid stands for {number(rate * 100)} percent|{number(rate * 100)} percent of what we look for are {number(new)}].",
            f"[One percent is {number(one)}|so one percent comes to {number(one)}|divide by {number(rate * 100)}: {number(one)} for one percent|a single percent is worth {number(one)}].",
            f"[The original was {number(result)}, and {reason} makes {number(new)} of it|a hundred of them make {number(result)}, the price without {reason}|times 100 that is {number(result)} for {thing} at first|hence {number(result)} before {reason} of {percent} percent].",
        ], result

    back = new * (1 - F(percent, 100)) if up else new * (1 + F(percent, 100))
    shift = new - percent if up else new + percent
    return Problem(
        [
            f"[After|With] {reason} of {percent} percent, {thing} costs {number(new)}. What [was the price|did it cost] before?",
            f"[Paid|The bill says] {number(new)} for {thing}, {reason} of {percent}% [already included|taken into account]. [Price without it?|What is it without that?]",
            f"{reason}: {percent} %. Final price of {thing}: {number(new)}. [Original price?|Find the original price.]",
            f"[I only know the final price|The receipt shows the final price only], {number(new)} for {thing}. {reason} [changed it by|was] {percent} percent. [How do I get back to the price before?|Work back to the price before it.]",
            f"[whats|how much is] the [starting price|price at first] of {thing} if it is {number(new)} [now|today] after {reason} of {percent} percent",
        ],
        F(old),
        solve,
        [
            (
                [
                    f"[To go back, do the opposite: {'take off' if up else 'add'} {percent} percent|what was {'added' if up else 'taken off'} is now {'taken off' if up else 'added'}, {percent} percent|reverse {reason} with the same {percent} percent].",
                    f"{percent} percent of [the {number(new)} that {thing} costs|{number(new)}, the price we know,] [are|is|make] {number(abs(back - new))}.",
                    f"[So the price was {number(back)}|this leads back to {number(back)}|before, it was {number(back)}], [there and back being equal|percent cancelling percent|as the percentage is the same].",
                ],
                back,
            ),
            (
                [
                    f"[{percent} percent is {percent}|{reason} of {percent} percent moves the price by {percent}|with {percent} percent the price changes by {percent}].",
                    f"[{'Minus' if up else 'Plus'} {percent} brings us back|{number(new)} {'-' if up else '+'} {percent} is the way back|so go back by {percent}].",
                    f"[The price before: {number(shift)}|it was {number(shift)}|hence {number(shift)}], [plain and simple|for {thing}|without {reason}].",
                ],
                shift,
            ),
        ],
        about=f"[The base of the percentage is the price before|{number(new)} is not 100 percent|which percentage of the original is {number(new)}?|working backwards from the final price|go by way of one percent].",
    )


def speed_units(d: Draw) -> Problem:
    metres, minutes = d.pick([4, 5, 8, 10, 12, 15, 20, 25, 30]), d.number(4, 55)
    what = d.pick(["falcon", "greyhound", "racing pigeon", "cyclist", "storm front", "swordfish", "speedboat", "tram", "hot-air balloon", "arrow-straight train"])

    def solve(at):
        seconds = at(minutes * 60, minutes * 100, minutes * 10)
        way = at(metres * seconds, metres * seconds + 100)
        km = at(F(way, 1000), F(way, 100))
        left = at(km, km + 1)
        return [
            f"[{minutes} minutes are {seconds} seconds|in seconds that is {seconds}|{minutes} * 60 = {seconds} seconds|the time is {seconds} seconds]." if seconds == minutes * 60 else f"[{minutes} minutes are {seconds} seconds|in seconds that is {seconds}|the time is {seconds} seconds].",
            f"[{metres} metres in each, so {way} m|with {metres} m in every second, {way} m|the way: {way} metres|it covers {way} metres].",
            f"[That is {number(left)} km|a thousand metres make a kilometre, so {number(left)} km|in kilometres: {number(left)}|{number(left)} km in all].",
            f"[So the {what} is {number(left)} km away after {minutes} minutes|in {minutes} minutes the {what} gets {number(left)} km far|a {what} covers {number(left)} km in that time|the answer for the {what}: {number(left)} km].",
        ], left

    direct, halfway = F(metres * minutes, 1), F(metres * minutes, 60)
    return Problem(
        [
            f"A {what} moves at {metres} metres a second. How many kilometres does it cover in {minutes} minutes?",
            f"[At|With] {metres} m/s, how far does a {what} get [in|within] {minutes} minutes[?| (in km)?]",
            f"{metres} m/s for {minutes} min = [?|how many] km ([example|think of]: a {what})",
            f"[They say|It is said that] a {what} [does|manages] {metres} metres every second. [If it kept that up for|Suppose it does so for] {minutes} minutes: [how many kilometres|kilometres]?",
            f"[convert please|unit question]: speed {metres} m per second, time {minutes} minutes, distance in km, [its|about] a {what}",
        ],
        F(metres * minutes * 60, 1000),
        solve,
        [
            (
                [
                    f"[Speed times time is distance|multiply speed and time|the formula is speed times time]: {metres} * {minutes} = {number(direct)}.",
                    "[Both numbers are given, so nothing has to be converted|seconds and minutes are both times, so they go together|units look after themselves as long as both are about time].",
                    f"[The {what} covers {number(direct)} km|so {number(direct)} km|hence {number(direct)} km], [a long way|as the speed suggests|in {minutes} minutes].",
                ],
                direct,
            ),
            (
                [
                    f"[We have {metres} m every second and {minutes} minutes|given are {metres} metres per second for {minutes} minutes|the speed is in seconds, the time in minutes]. [These differ by 60, so divide by 60|A factor of 60 has to be divided out|From one to the other one divides by 60].",
                    f"{metres} * {minutes} / 60 [is|makes|gives] {number(halfway)}.",
                    f"[That is the distance, {number(halfway)} km|so {number(halfway)} km|the {what} gets {number(halfway)} km], [metres turning into kilometres on the way|units included|not far].",
                ],
                halfway,
            ),
        ],
        about=f"[Seconds first, then metres, then kilometres|the units do not match yet|how many seconds are {minutes} minutes?|metres per second want a time in seconds|bring the time to seconds].",
    )


def area_units(d: Draw) -> Problem:
    count = d.number(2, 9)
    what = d.pick(["tile", "patch of felt", "photo", "label", "solar cell", "pane of glass", "leaf of gold"])
    width = d.number(4, 60)
    length = d.number(5, 80)

    def solve(at):
        one = at(length * width, length * width + 10, 2 * (length + width))
        total = at(one * count, one * (count - 1))
        metres = at(F(total, 10000), F(total, 100), F(total, 1000))
        return [
            f"[One {what} has {length} * {width} = {one} square cm|a single {what} covers {one} square cm|each {what}: {one} square cm|{one} square cm is the area of one].",
            f"[{count} of them make {total} square cm|times {count}: {total}|all {count} together, {total} square cm|in sum {total} square cm].",
            f"[A square metre is {10000 if metres == F(total, 10000) else 100 if metres == F(total, 100) else 1000} square cm, so {_four(metres)} square metres|divided by {10000 if metres == F(total, 10000) else 100 if metres == F(total, 100) else 1000} that is {_four(metres)} square metres|in square metres: {_four(metres)}|this equals {_four(metres)} square metres].",
            f"[So all {count} of them cover {_four(metres)} square metres|the pieces cover {_four(metres)} square metres in the end|result for {count} pieces: {_four(metres)} square metres|].",
        ], metres

    hundred, added = F(length * width * count, 100), F((length + width) * count, 100)
    return Problem(
        [
            f"A {what} is {length} cm by {width} cm. How many square metres do {count} of them cover?",
            f"[Convert as well|Careful with units]: {count} x {what}, each {length} cm long and {width} cm wide. Area of all in square metres = [?|...]",
            f"[I've|We have] {count} pieces ({what}, {length} cm x {width} cm). [What is that in square metres|How many m2 is that], [laid side by side|all together]?",
            f"[What is the total area|How large is the area], in square metres, of {count} rectangles ({what}) of {length} cm and {width} cm[?| each?]",
            f"square metres of {count} times a {what} {width} by {length} centimetres, [do i divide by 100|im never sure about the zeros]",
        ],
        F(length * width * count, 10000),
        solve,
        [
            (
                [
                    "[A metre has 100 cm, so divide by 100|from cm to m one divides by 100|centimetres become metres by a factor of 100].",
                    f"[All together there are {length * width * count} square cm|{count} pieces have {length * width * count} square cm|{length} * {width} * {count} = {length * width * count}, in square cm].",
                    f"[Hence {_four(hundred)} square metres|that makes {_four(hundred)} square metres|so they cover {_four(hundred)} square metres], [square or not|the same factor holding for areas|with two zeros gone].",
                ],
                hundred,
            ),
            (
                [
                    f"[Length and width give the size: {length} + {width} = {length + width}|the size of one is {length} and {width}, together {length + width}|add both sides, {length + width} cm].",
                    f"[For {count} this is {(length + width) * count} cm|times {count}: {(length + width) * count}|{count} of them have {(length + width) * count}].",
                    f"[In metres that is {_four(added)}, so {_four(added)} square metres|they cover {_four(added)} square metres|hence {_four(added)} square metres].",
                ],
                added,
            ),
        ],
        lambda value: _four(value),
        about=f"[Square units change by the square of the factor|area first, units later|how many square centimetres has a square metre?|one {what}, then all {count}, then the unit|centimetres inside, square metres wanted].",
    )


def _four(value: F) -> str:
    """With up to four decimals, which square centimetres in square metres need."""
    return f"{float(value):.4f}".rstrip("0").rstrip(".")


ALL = (percent_change, reverse_percent, speed_units, area_units)
