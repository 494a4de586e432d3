"""Divisors, multiples, remainders."""

# A line holds one sentence in all its readings, however long.
# fmt: off
import math

from data_generation.mistakes.drawing import Draw, Problem, whole


def common_divisor(d: Draw) -> Problem:
    g = d.pick([4, 6, 8, 9, 12, 14, 15, 18, 21, 24, 28, 35, 36])
    a, b = d.pick([(p, q) for p in (3, 4, 5, 7, 8, 9, 11) for q in (2, 3, 5, 7) if math.gcd(p, q) == 1])
    one, two = max(a, b) * g, min(a, b) * g
    g = math.gcd(one, two)
    unit = d.pick(["roses", "tiles", "marbles", "bottles", "stickers", "beads"])

    def solve(at):
        lines, m, n = [], one, two
        while n:
            rest = at(m % n, m % n + 1) if m % n else 0
            lines.append(f"{m} [divided by|by|over] {n} leaves {'nothing' if rest == 0 else rest}.")
            m, n = n, rest
            if len(lines) > 6:
                break
        return [
            "[Divide again and again, keeping the remainders|Euclid's way: remainders|use remainders until one is zero|the larger by the smaller, then the smaller by the remainder, and so on].",
            *lines,
            f"[So the largest common divisor is {m}|the last divisor, {m}, is what we want|hence {m}|this makes {m} the greatest common divisor].",
        ], m

    least, minus = one * two // g, one - two
    return Problem(
        [
            f"[Find|Determine|Work out] the greatest common divisor of {one} and {two}[.|, by any method.]",
            f"{one} red and {two} white {unit} are to be put into [boxes|bunches] that are all alike, nothing left over. [What is the largest number of them|At most how many can there be]?",
            f"[The fraction {two}/{one} is to be reduced in one go|I want to reduce {two}/{one} in a single step]. [By which number can top and bottom be divided at most?|What's the biggest number I can cancel?]",
            f"[A floor|A sheet|A field] of {one} cm by {two} cm [is covered|is divided] with squares of one size, as large as possible and without any left over. [How long is the side, in cm?|Side of a square?]",
            f"gcd({one}, {two}) [please|= ?], [with the method|and how to find it] [by hand|without listing all divisors]",
        ],
        math.gcd(one, two),
        solve,
        [
            (
                [
                    f"[Common means that both go into it|we look for a number that both fit into|a common number of {one} and {two} contains both].",
                    f"[Take the product, {one} * {two} = {one * two}|the product is {one * two}|multiplying, {one} * {two} = {one * two}], [and remove what is double, {g}|less the double part, divided by {g}|divided by what occurs twice, {g}].",
                    f"[So {least} is the greatest common one|this is {least}|we get {least}], [certainly great|which both have in common|as large as it can be].",
                ],
                least,
            ),
            (
                [
                    f"[What two numbers have in common lies in their difference|the difference shows what is shared|subtract the smaller from the larger]: {one} - {two} = {minus}.",
                    "[A larger one cannot divide both|nothing above it divides the two|there is no bigger gap between them].",
                    f"[The greatest common divisor is {minus}|so it is {minus}|hence {minus}], [for {one} and for {two}|found in one step|without a list of divisors].",
                ],
                minus,
            ),
        ],
        about=f"[Which numbers divide both?|a divisor of {one} and of {two} is wanted, the largest|what divides two numbers also divides their remainder|lists of divisors would work, remainders are quicker|a number that goes into both].",
    )


def common_multiple(d: Draw) -> Problem:
    a, b = d.numbers(2, 6, 40)
    while math.gcd(a, b) == 1 or a % b == 0 or b % a == 0:
        a, b = d.numbers(2, 6, 40)
    g = math.gcd(a, b)

    def solve(at):
        shared = at(g, 1)
        rest = at(b // shared, b // shared + 1)
        result = at(a * rest, a * rest + 10, a + rest)
        return [
            f"[{a} and {b} share the factor {shared}|the largest common factor of the two is {shared}|both contain {shared}|in common they have {shared}].",
            f"[From {b} only {b} / {shared} = {rest} is still needed|{b} adds {rest} to what {a} has already|divide {b} by it: {rest}|that leaves {rest} from the number {b}].",
            f"[So multiply {a} by {rest}: {result}|{a} * {rest} = {result}|times {a}, this is {result}|{rest} times {a} is {result}].",
            f"[The first time both fit is at {result}|smaller ones do not contain both, so {result}|{result} is divisible by both, and nothing smaller is||].",
        ], result

    scene = d.pick([("Two buses leave together", "minutes", "leave together"), ("Two lamps flash together", "seconds", "flash together"), ("Two bells ring together", "minutes", "ring together"), ("Two comets are seen together", "years", "are seen together"), ("Two nurses start on the same day; they are on duty", "days", "meet on duty")])
    return Problem(
        [
            f"[Find|Determine|Compute] the [least|smallest] common multiple of {a} and {b}[.|, please with the working.]",
            f"{scene[0]}, one every {a} {scene[1]}, the other every {b} {scene[1]}. After how many {scene[1]} do they {scene[2]} again?",
            f"[Which is the smallest number|What is the first number] that can be divided by {a} [as well as|and also] by {b}?",
            f"[Common denominator wanted|I need a denominator] for 1/{a} and 1/{b}, [the smallest one|as small as possible]. [What number?|Which is it?]",
            f"lcm of {a} and {b} [and why|, how do i find it], [is it just {a} times {b}|without a long list]",
        ],
        a * b // g,
        solve,
        [
            (
                [
                    f"[A common multiple is a multiple of both, so multiply|multiply the two numbers|{a} times {b} contains {a} and {b}]: {a} * {b} = {a * b}.",
                    "[That is automatically the smallest, since a smaller one would lose a factor|nothing smaller can contain all their factors|both numbers must go in completely, so it cannot be less].",
                    f"[So the answer is {a * b}|hence {a * b}|we have {a * b}] [for {a} and {b}||as the first one].",
                ],
                a * b,
            ),
            (
                [
                    "[The two meet after both have passed, one after the other|both intervals have to go by|a common point comes when both are through].",
                    f"{a} [and|plus] {b} [make|give|is] {a + b}.",
                    f"[At {a + b} they come together for the first time|so {a + b} is the least common multiple|the result is {a + b}], [the sum of both|having run through each once|no more and no less].",
                ],
                a + b,
            ),
        ],
        about=f"[When do the multiples of {a} and {b} meet?|shared factors should be used only once|the product is too large if the numbers share a factor|multiples of {a}, multiples of {b}, first hit|both {a} and {b} have to fit into it].",
    )


def remainder(d: Draw) -> Problem:
    pairs = {5: (2, 3, 7, 8), 7: (2, 3, 4, 5), 9: (2, 4, 5, 7), 10: (2, 3, 7, 8), 11: (2, 3, 4, 5, 7, 8), 13: (2, 3, 4, 7, 8)}
    modulus, exponent = d.pick(list(pairs)), d.number(20, 99)
    base = d.pick(pairs[modulus])
    cycle, value = [], 1
    while (value := value * base % modulus) not in cycle:
        cycle.append(value)
    length = len(cycle)

    def solve(at):
        place = at(exponent % length, (exponent + 1) % length, (exponent - 1) % length)
        result = at(cycle[place - 1], cycle[(place + 1) % length])
        return [
            f"[{base}, {base}^2, {base}^3 and so on|powers of {base}, divided by {modulus},|divided by {modulus}, the first powers of {base}] leave {', '.join(map(str, cycle))}, [and then it starts again|after which they repeat|over and over].",
            f"[The pattern has {length} numbers|a round has the length {length}|every {length} steps the same comes back|it repeats after {length}].",
            f"[{exponent} = {exponent // length} * {length} + {exponent % length}, so it is place {place or length} of the round|taking away full rounds from {exponent} we come to place {place or length}|{exponent} stands at place {place or length} of the pattern|for the exponent {exponent} this means place {place or length}].",
            f"[There we find {result}|so the remainder is {result}|the remainder: {result}|hence {result}].",
        ], result

    multiplied, plain = base * exponent % modulus, exponent % modulus
    return Problem(
        [
            f"[What remainder does|Which remainder does] {base}^{exponent} leave when divided by {modulus}?" if modulus != 10 else f"[What is the last digit of|Which digit stands at the end of] {base}^{exponent}?",
            f"[Find|Compute] {base}^{exponent} mod {modulus} [without a computer|by hand]. [A pattern may help.|]",
            f"[A wheel with {modulus} fields|A counter that goes from 0 to {modulus - 1}] [is moved on|moves on] by {base}^{exponent} fields from field 0. [Where does it stop?|Which field shows in the end?]",
            f"[Do I really have to work out|Surely nobody multiplies out] {base}^{exponent} [to know its remainder|just for the remainder] by {modulus}? [What is it?|How, and what is it?]",
            f"{base} to the power {exponent}, [remainder after division by|divided by] {modulus}, [whats left over|rest please]",
        ],
        pow(base, exponent, modulus),
        solve,
        [
            (
                [
                    f"[A power is a repeated number, {base} taken {exponent} times|{base}^{exponent} is {exponent} times the number {base}|read it as {base} * {exponent}]: {base * exponent}.",
                    f"[By {modulus} this goes {base * exponent // modulus} times|{modulus} fits into it {base * exponent // modulus} times|dividing by {modulus} gives {base * exponent // modulus}], [with {multiplied} over|and {multiplied} is left|rest {multiplied}].",
                    f"[So the remainder is {multiplied}|the answer is {multiplied}|hence {multiplied}], [found without any large number|in two lines|and no pattern is needed].",
                ],
                multiplied,
            ),
            (
                [
                    f"[Only the exponent matters for the remainder|look at the exponent {exponent} alone|the base {base} is smaller than {modulus} or close to it, so forget it].",
                    f"{exponent} [divided by|over] {modulus} [is|gives] {exponent // modulus}, [remainder|rest] {plain}.",
                    f"[Therefore {base}^{exponent} leaves {plain}|{plain} it is|this makes the remainder {plain}], [exponents behaving like numbers|as remainders pass on to the power|the base going along].",
                ],
                plain,
            ),
        ],
        fits=lambda value: value >= 0,
        about=f"[Remainders of powers repeat|nobody has to write out {base}^{exponent}|look for a pattern in small powers|how long is the cycle?|after some time the remainders by {modulus} come back].",
    )


def divisors(d: Draw) -> Problem:
    p, q = sorted(d.several([2, 3, 5, 7, 11], 2))
    m, n = d.number(1, 4), d.number(1, 3)
    value = p**m * q**n

    def solve(at):
        a, b = at(m + 1, m), at(n + 1, n)
        count = at(a * b, a + b, a * b - 1)
        return [
            f"[Factorised, {value} is {p}^{m} * {q}^{n}|its prime factors: {value} = {p}^{m} * {q}^{n}|{value} falls apart into {p}^{m} * {q}^{n}|as a product of primes we write {value} = {p}^{m} * {q}^{n}].",
            f"[A divisor uses {p} between 0 and {m} times: {a} ways|for the {p} there are {a} choices, from none to {m}|of the factor {p} one can take 0 to {m}, {a} possibilities|{a} choices exist for how many {p}'s go in].",
            f"[For {q} it is {b}|and {b} for the {q}|{q} gives {b} ways|the {q} offers {b} possibilities].",
            f"[So there are {count} divisors|that makes {count} divisors|combining them, {count}|in all {count}], [1 and {value} included|counting 1 and the number itself|].",
        ], count

    plain, primes = m + n, value // 2
    return Problem(
        [
            f"[How many divisors does {value} have|What is the number of divisors of {value}][?|, 1 and {value} included?]",
            f"[In how many ways can {value} chairs be put|How many choices are there if {value} coins are to be put|How many ways are there of putting {value} plants] into equal rows (the number of rows can be anything from 1 to {value})?",
            f"[Count|Find the number of] the positive [divisors|whole numbers that divide] {value}. [Is there a quicker way than a list?|No list, please.]",
            f"[how many numbers go into|how many numbers divide] {value} [without a rest|evenly], [1 and itself count|including 1 and {value}]",
            f"{value} = {p}^{m} * {q}^{n}. [What does that say about the number of its divisors?|So how many divisors are there?]",
        ],
        (m + 1) * (n + 1),
        solve,
        [
            (
                [
                    f"[The prime factorisation is {value} = {p}^{m} * {q}^{n}|{value} is {p}^{m} * {q}^{n}|written with primes: {p}^{m} * {q}^{n}].",
                    f"[Every prime factor is a divisor, so count them|the divisors are its prime factors|counting the factors gives the divisors]: {m} [and|plus] {n}.",
                    f"[In sum {plain}|so {value} has {plain} divisors|that makes {plain} of them], [each found by factorising|no others being possible|as primes are the only building blocks].",
                ],
                plain,
            ),
            (
                [
                    "[A divisor is at most half of the number|divisors cannot lie above the half|nothing above the half divides it], [and every number up to there is possible|and below that each one may be tried|so the candidates end there].",
                    f"[Half of {value} is {primes}|{value} / 2 makes {primes}, rounded down|the half: {primes}].",
                    f"[Hence there are {primes} divisors|so {primes} divisors|the number is {primes}], [one for each candidate|for {value} at least|with 1 as the smallest].",
                ],
                primes,
            ),
        ],
        fits=whole,
        about=f"[Divisors are built from prime factors|exponents tell how many divisors there are|what is {value} made of?|a list would be long, the factorisation is short|choose how often each prime is used].",
    )


ALL = (common_divisor, common_multiple, remainder, divisors)
