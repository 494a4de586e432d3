"""Sequences, sums, consecutive numbers."""

# A line holds one sentence in all its readings, however long.
# fmt: off
from fractions import Fraction as F

from data_generation.mistakes.drawing import Draw, Problem, anything, number, whole
from data_generation.mistakes.kinds.terms import LETTERS, joined, nth, term


def arithmetic_sequence(d: Draw) -> Problem:
    first, step, place = d.number(-12, 40), d.pick([n for n in range(-9, 14) if n]), d.number(9, 60)
    shown = [first + step * k for k in range(4)]
    where = d.pick(["rows of a theatre", "weeks of training", "rungs of a ladder", "numbers on a strip", "days of a diet plan", "floors of a tower", "pages of a ledger"])

    def solve(at):
        gap = at(step, step + 1, -step)
        steps = at(place - 1, place)
        way = at(gap * steps, gap * steps + 10)
        result = at(first + way, first - way)
        return [
            f"[From one to the next it is {gap}|the step is {gap}|neighbours differ by {gap}|each time {gap} is added].",
            f"[To reach place {place} one takes {steps} steps|place {place} is {steps} steps away|there are {steps} steps from the first to place {place}|{steps} steps lead to place {place}].",
            f"[These make {way}|{steps} * {gap if gap >= 0 else f'({gap})'} = {way}|all steps together: {way}|that is a change of {way}].",
            f"[So number {place} is {result}|starting from {first}, we get to {result}|{first} + {way if way >= 0 else f'({way})'} = {result}|hence {result}]." if result == first + way else f"[So number {place} is {result}|starting from {first}, we get to {result}|hence {result}].",
        ], result

    proportional, last = F(shown[3] * place, 4), shown[3] + place
    return Problem(
        [
            f"[A sequence begins|A list starts] {', '.join(map(str, shown))} and [goes on like that|continues in equal steps]. What is its {nth(place)} number?",
            f"[Written on|Noted on] the {where}: {', '.join(map(str, shown))}, ... with equal steps. [Which number is at place {place}|What stands at number {place}]?",
            f"{shown[0]}; {shown[1]}; {shown[2]}; {shown[3]}; ... [Term number {place}?|Find term {place}.] [(Equal differences.)|It is an arithmetic sequence.]",
            f"[If it goes on evenly|Going on evenly], {' '.join(map(str, shown))} [leads to what|becomes what] [at position {place}|after {place - 4} more numbers]?",
            f"what comes at place {place} in {', '.join(map(str, shown))} [and so on|etc], [without writing all of them|is there a quick way]",
        ],
        first + (place - 1) * step,
        solve,
        [
            (
                [
                    f"[Place 4 has {shown[3]}|the fourth number is {shown[3]}|at the fourth place stands {shown[3]}].",
                    f"[Place {place} is {place}/4 times as far|in proportion, place {place} has {place}/4 of that|so multiply by {place} and divide by 4].",
                    f"[This gives {number(proportional)}|the number there is {number(proportional)}|hence {number(proportional)}], [as the sequence is even|equal steps meaning proportion|by the rule of three].",
                ],
                proportional,
            ),
            (
                [
                    f"[The last number shown is {shown[3]}|we stop at {shown[3]} in the list|the list is known up to {shown[3]}].",
                    f"[Each place further adds one|the place number is added|from there, {place} places are added].",
                    f"{shown[3]} + {place} = {last}, [so {last} stands there|which is the number|and that is place {place}].",
                ],
                last,
            ),
        ],
        fits=anything,
        about=f"[Equal steps all along|how many steps are there up to place {place}?|first number plus steps|the sequence climbs or falls evenly|count steps, not numbers].",
    )


def geometric_sequence(d: Draw) -> Problem:
    first, factor, place = d.number(1, 9), d.pick([2, 3, 4, 5, F(1, 2)]), d.number(5, 8)
    if factor == F(1, 2):
        first *= 64
    what, when = d.pick([("bacteria", "hour"), ("lily pads", "week"), ("members of a chain letter", "day"), ("coins on the squares of a board", "square"), ("bids in an auction", "round"), ("rats in a granary", "season"), ("hits on a video", "day")])

    def solve(at):
        steps = at(place - 1, place)
        power = at(F(factor) ** steps, F(factor) * steps)
        result = at(first * power, first + power)
        verb = "multiplied by" if factor > 1 else "halved, that is, multiplied by"
        return [
            f"[From {when} to {when} it is {verb} {factor}|each {when} brings the factor {factor}|every time the number is {verb} {factor}|the factor is {factor}].",
            f"[Between {when} 1 and {when} {place} this happens {steps} times|{when} {place} comes {steps} steps after the first|there are {steps} steps|it happens {steps} times up to {when} {place}].",
            f"[The factors together make {number(power)}|{factor} taken {steps} times as a factor is {number(power)}|all in all a factor of {number(power)}|that multiplies to {number(power)}].",
            f"[With {first} at first, we have {number(result)}|so {number(result)} in {when} {place}|hence {number(result)}|starting from {first}, {number(result)}].",
        ], result

    linear, once = F(first * factor * (place - 1)), F(first * factor * place)
    rule = f"multiplies by {factor}" if factor > 1 else "halves"
    return Problem(
        [
            f"The number of {what} [{rule} from one {when} to the next|{rule} each {when}]. In {when} 1 it is {first}. What is it in {when} {place}?",
            f"{what.capitalize()}: {first}, {number(first * factor)}, {number(first * factor**2)}, ... [always the same factor|with a constant factor]. [Value in {when} {place}?|What is number {place}?]",
            f"[{when} 1: {first}. Rule: {rule} every {when}.|Start {first} ({when} 1), {rule} with each {when}.] {when} {place}: ? ({what})",
            f"[Suppose|Imagine] {what} start with {first} in the first {when} and the number {rule} [every|each] {when}. [How many in {when} {place}?|How many will it be in {when} {place}?]",
            f"{what} {rule} [per|every] {when}, [beginning|first {when}] {first}, [how many is it|how many are there] in {when} {place}",
        ],
        first * F(factor) ** (place - 1),
        solve,
        [
            (
                [
                    f"[Each {when} adds {number(first * factor)}|the growth is {number(first * factor)} a {when}|{first} times {factor} is added every {when}].",
                    f"[Over {place - 1} steps this makes|for {place - 1} steps we multiply|{place - 1} times that is] {number(linear)}.",
                    f"[So in {when} {place} it is {number(linear)}|hence {number(linear)}|the answer is {number(linear)}], [a steady growth|the same each time|step by step].",
                ],
                linear,
            ),
            (
                [
                    f"[Start, factor and number of {when}s are given|we have {first}, {factor} and {place}|three numbers: {first}, {factor}, {place}].",
                    "[The product of the three is the value|multiply them all|each acts as a factor].",
                    f"{first} * {factor} * {place} = {number(once)}, [so {number(once)}|which is the number in {when} {place}|and that is it].",
                ],
                once,
            ),
        ],
        about=f"[A constant factor, not a constant step|how many times is the factor used?|growth by multiplication|first value, factor, number of steps|{place} {when}s have {place - 1} steps between them].",
    )


def series(d: Draw) -> Problem:
    first, step, count = d.number(1, 30), d.number(1, 9), d.number(8, 40)
    last = first + step * (count - 1)
    where, what = d.pick([("an amphitheatre", "seats"), ("a pile of logs", "logs"), ("a savings plan", "coins"), ("a training plan", "push-ups"), ("a knitted shawl", "stitches"), ("a tower of cans", "cans"), ("a garden of terraces", "vines")])

    def solve(at):
        end = at(last, last + step, last - step)
        pair = at(first + end, end - first)
        doubled = at(pair * count, pair * (count - 1), pair * count + 10)
        total = at(F(doubled, 2), F(doubled))
        return [
            f"[The last row has {first} + {count - 1} * {step} = {end}|at the end there are {end}|row {count} has {end}|counting up, the last one is {end}]." if end == last else f"[At the end there are {end}|row {count} has {end}|counting up, the last one is {end}].",
            f"[First and last make {pair}, and so does every pair|pair the rows from both ends: {pair} each time|{first} with {end} makes {pair}, the next pair as well|two rows from opposite ends always give {pair}].",
            f"[{count} rows are {number(F(count, 2))} pairs|there are {number(F(count, 2))} such pairs|half of {count} is the number of pairs|with {count} rows, that is {number(F(count, 2))} pairs], [so {number(total)} in all|which makes {number(total)}|hence {number(total)} {what}|giving {number(total)}].",
        ], total

    flat, ends = first * count + step * count, count * last
    return Problem(
        [
            f"In {where} the first row has {first} {what} and each row has {step} more than the one before. How many {what} are in {count} rows [together|in all]?",
            f"[Add up|Sum]: {first} + {first + step} + {first + 2 * step} + ... + {last} ({count} terms). [Is there a shortcut?|Total?] [It is about {where}.|]",
            f"{where.capitalize()}: rows of {first}, {first + step}, {first + 2 * step} and so on, {count} rows. [Total {what}?|How many {what} is that?]",
            f"[For {where}|Planning {where}]: start with {first} {what}, [add|then] {step} more in every [row|step], {count} [rows|steps] altogether. [How many {what} do I need?|Number of {what}?]",
            f"how many {what} in {count} rows if row one has {first} and it goes up {step} [every time|each row] ([the whole of|its] {where})",
        ],
        sum(range(first, last + 1, step)),
        solve,
        [
            (
                [
                    f"[{count} rows with {first} each are {first * count}|start with {count} * {first} = {first * count}|every row has {first}, so {first * count} for a start].",
                    f"[Then each row has {step} more, another {step * count}|the extra is {step} a row, {step * count} for all|to this come {count} times {step}, {step * count}].",
                    f"[In sum {flat} {what}|so there are {flat} {what}|hence {flat}], [row by row|with the extra included|for {where}].",
                ],
                flat,
            ),
            (
                [
                    f"[The largest row decides, and it has {last}|take the last row, {last}|at the end a row has {last} {what}].",
                    f"[Times the number of rows|multiplied by {count}|for {count} rows that is] {count} * {last} = {ends}.",
                    f"[So {ends} {what} in all|the total is {ends}|hence {ends}], [to be on the safe side|rows being rows|the smaller ones filling up].",
                ],
                ends,
            ),
        ],
        fits=whole,
        about=f"[Pair the first with the last|how many are in the last row?|a sum of evenly growing numbers|there is a shortcut for such sums|rows that grow by {step}].",
    )


def consecutive(d: Draw) -> Problem:
    kind, step = d.pick([("consecutive whole numbers", 1), ("consecutive even numbers", 2), ("consecutive odd numbers", 2), ("consecutive multiples of 5", 5), ("consecutive multiples of 3", 3)])
    count, x = d.pick([3, 4, 5]), d.pick(LETTERS)
    start = d.number(4, 80)
    start = {"consecutive even numbers": 2 * start, "consecutive odd numbers": 2 * start + 1, "consecutive multiples of 5": 5 * start, "consecutive multiples of 3": 3 * start}.get(kind, start)
    extra = step * count * (count - 1) // 2
    total = count * start + extra

    def solve(at):
        shift = at(extra, step * (count - 1), extra + step)
        rest = at(total - shift, total + shift)
        first = at(F(rest, count), F(rest, count) + 1)
        last = at(first + step * (count - 1), first + step * count)
        return [
            f"[Call the smallest {x}; the sum is {joined(term(count, x), term(shift))}|with {x} as the first, they add up to {joined(term(count, x), term(shift))}|written with the smallest, {x}: {joined(term(count, x), term(shift))}|the first is {x}, and all together {joined(term(count, x), term(shift))}].",
            f"[This is {total}, so {term(count, x)} = {rest}|set equal to {total}: {term(count, x)} = {rest}|taking {shift} from {total} leaves {term(count, x)} = {rest}|hence {term(count, x)} = {rest}].",
            f"[The smallest is {number(first)}|so {x} = {number(first)}|{x} comes to {number(first)}|dividing by {count}, {x} = {number(first)}], [and the largest {number(last)}|the largest being {number(last)}|which makes the last one {number(last)}].",
        ], last

    middle, share = F(total, count) + count, F(total, count - 1)
    return Problem(
        [
            f"The sum of {count} {kind} is {total}. [What is the largest|Which is the largest] of them?",
            f"[I added|Somebody added] {count} {kind} and got {total}. [Find the largest one.|The largest is which?]",
            f"{count} {kind}, sum {total}: [largest number|the largest] = ?, [by an equation|with an equation, please]",
            f"[Houses on one side of a street|Lockers in a row|Raffle tickets] have {count} {kind} [that add up to|with the sum] {total}. [What is the highest number?|Which number is the highest?]",
            f"largest of {count} {kind} [with sum|that make] {total} [how do i set it up|whats the trick]",
        ],
        start + step * (count - 1),
        solve,
        [
            (
                [
                    f"[The mean is {total} / {count} = {number(F(total, count))}|on average they are {number(F(total, count))}|divide by {count}: {number(F(total, count))}].",
                    f"[The largest is {count} further, since there are {count} of them|{count} numbers, so go {count} up|from there count {count} upwards].",
                    f"[So it is {number(middle)}|this makes {number(middle)}|the largest: {number(middle)}], [the end of the row|as they follow each other|after {count} steps].",
                ],
                middle,
            ),
            (
                [
                    f"[Between {count} numbers there are {count - 1} gaps|{count} numbers have {count - 1} steps between them|count gaps, of which there are {count - 1}].",
                    f"[So the sum is divided by {count - 1}|share {total} among the gaps|divide {total} by {count - 1}], [which is|giving|that makes] {number(share)}.",
                    f"[The largest number is {number(share)}|hence {number(share)}|it is {number(share)}], [coming last|behind the last gap|at the end].",
                ],
                share,
            ),
        ],
        fits=anything,
        about=f"[One unknown is enough for all {count}|name the smallest and express the others by it|how far is the last from the first?|the numbers differ by {step}|all of them follow from the first].",
    )


ALL = (arithmetic_sequence, geometric_sequence, series, consecutive)
