"""Fractions, binary numbers, scientific notation."""

# A line holds one sentence in all its readings, however long.
# fmt: off
import math
from fractions import Fraction as F

from data_generation.mistakes.drawing import Draw, Problem, anything, fraction, number
from data_generation.mistakes.kinds.terms import signed


def fraction_sum(d: Draw) -> Problem:
    sign = d.pick("+-")
    b, e = d.numbers(2, 3, 15)
    a, c = (d.pick([top for top in range(1, low) if math.gcd(top, low) == 1]) for low in (b, e))
    if sign == "-" and F(a, b) < F(c, e):
        a, b, c, e = c, e, a, b
    common = math.lcm(b, e)

    def solve(at):
        first, second = at(a * common // b, a * common // b + 1), at(c * common // e, c)
        top = at(first + second if sign == "+" else first - second, first - second if sign == "+" else first + second)
        result = F(top, common)
        cut = f"[shortened|in lowest terms|cancelled|reduced] [it is|this is] {fraction(result)}" if result.denominator != common else f"[this cannot be reduced, so it is|nothing cancels:|that is final:] {fraction(result)}"
        return [
            f"[{common} is divisible by both {b} and {e}|the smallest common denominator of {b} and {e} is {common}|both fractions can be written in parts of {common}|bring them to the denominator {common}].",
            f"{a}/{b} [becomes|is the same as|turns into|equals] {first}/{common}, [and|while] {c}/{e} [becomes|is the same as|turns into|equals] {second}/{common}.",
            f"[Now the tops|with equal denominators the tops can be used|then the numerators|for the tops we get]: {first} {sign} {second} = {top}, [that is|so|which gives] {top}/{common}.",
            f"{cut}.",
        ], result

    naive = F(a + c, b + e) if sign == "+" else F(abs(a - c), abs(b - e))
    crossed = F(a * e, b * c)
    word = "sum" if sign == "+" else "difference"
    return Problem(
        [
            f"[Work out|Calculate|Compute] {a}/{b} {sign} {c}/{e} [and reduce the result|in lowest terms|as one fraction].",
            f"[What is the {word}|Find the {word}] of the fractions {a}/{b} and {c}/{e}[?|, fully reduced?]",
            (f"[A jug|A bowl|A sack] is {a}/{b} full and [somebody adds|one pours in] {c}/{e} of a full one. [Which fraction is that in all|How much is in it, as a fraction of a full one]?" if sign == "+" else f"[From|Out of] a [tank|bag|bottle] that is {a}/{b} full, {c}/{e} of a full one is taken. [What fraction remains|Which part is left]?"),
            f"[How do I add or subtract fractions like|I never know what to do with different denominators:] {a}/{b} {sign} {c}/{e}[?| = ?]",
            f"{a}/{b} {'plus' if sign == '+' else 'minus'} {c}/{e} [please with|and i need] [the common denominator|the steps], [fully|completely] reduced",
        ],
        F(a, b) + F(c, e) if sign == "+" else F(a, b) - F(c, e),
        solve,
        [
            (
                [
                    "[Tops with tops, bottoms with bottoms|numerators and denominators are treated alike|go top with top and bottom with bottom].",
                    f"[Above:|On top:|Numerators:] {a} {sign} {c} = {a + c if sign == '+' else a - c}. [Below:|Denominators:|At the bottom:] {b} {sign} {e} = {b + e if sign == '+' else b - e}.",
                    f"[The result is {fraction(naive)}|so we have {fraction(naive)}|this leaves {fraction(naive)}], [reduced where possible|size taken without its sign|in lowest terms].",
                ],
                naive,
            ),
            (
                [
                    f"[Two fractions are combined by turning the second one over|take the reciprocal of the second one|first the second fraction is flipped]: {c}/{e} [becomes|turns into] {e}/{c}.",
                    f"[Then multiply|after that it is a product|next comes the product]: {a} * {e} = {a * e} [over|and below] {b} * {c} = {b * c}.",
                    f"[So {fraction(crossed)}|the {word} is {fraction(crossed)}|and the answer is {fraction(crossed)}] [after cancelling|in lowest terms|].",
                ],
                crossed,
            ),
        ],
        fraction,
        about=f"[Different denominators must be made equal first|parts of different size cannot be counted together yet|which denominator suits both?|two fractions, one common denominator|{b} and {e} are the denominators here].",
    )


def fraction_quotient(d: Draw) -> Problem:
    b, e = d.numbers(2, 2, 12)
    a, c = (d.pick([top for top in range(1, 15) if math.gcd(top, low) == 1]) for low in (b, e))

    def solve(at):
        over, under = at(e, c), at(c, e)
        top = at(a * over, a * over + 1, a + over)
        bottom = at(b * under, b + under)
        result = F(top, bottom)
        return [
            f"[Turn the second fraction over: {over}/{under}|the reciprocal of the divisor is {over}/{under}|instead of dividing, multiply by {over}/{under}|flip {c}/{e}, giving {over}/{under}].",
            f"[Above|on top|numerator times numerator|for the top] {a} * {over} = {top}, [below|at the bottom|denominator times denominator|for the bottom] {b} * {under} = {bottom}.",
            f"[So the quotient is|the result is|that makes|we get] {top}/{bottom}, [in lowest terms|reduced|or, as short as possible,|which is] {fraction(result)}.",
        ], result

    product, straight = F(a * c, b * e), F(b * c, a * e)
    return Problem(
        [
            f"[Divide|Please divide] {a}/{b} by {c}/{e}[. Give the answer as a fraction.| and reduce.]",
            f"[What is the quotient|Find the quotient] of {a}/{b} and {c}/{e} [in lowest terms|as a fraction]?",
            f"[How often does|How many times does] {c}/{e} of a litre go into {a}/{b} of a litre? [(A fraction is fine.)|Exact fraction, please.]",
            f"[A ribbon|A plank|A rope] of {a}/{b} m [is cut|is sawn] into pieces of {c}/{e} m. [Write the number of pieces as a fraction.|How many pieces is that, exactly?]",
            f"({a}/{b}) : ({c}/{e}) = ? [why do we flip something there|and which one gets flipped|i always turn the wrong one over]",
        ],
        F(a, b) / F(c, e),
        solve,
        [
            (
                [
                    f"[Fractions are divided by multiplying them|multiply straight across|dividing and multiplying are the same for fractions]: {a} * {c} = {a * c}, {b} * {e} = {b * e}.",
                    "[Nothing has to be turned over, since both are fractions already|turning one over is for whole numbers|there is no reason to flip anything].",
                    f"[The quotient is {fraction(product)}|so we get {fraction(product)}|this is {fraction(product)}] [when reduced|in lowest terms|after cancelling].",
                ],
                product,
            ),
            (
                [
                    f"[Flip the first fraction|the first one is turned over|turn {a}/{b} round]: {b}/{a}.",
                    f"[Multiply it with the second|then times {c}/{e}|now the product with {c}/{e}]: {b} * {c} = {b * c} [over|and] {a} * {e} = {a * e}.",
                    f"[Reduced it is {fraction(straight)}|so the answer is {fraction(straight)}|hence {fraction(straight)}], [as the first one is what is divided|the first being the one in question|because the first is the larger part of the task].",
                ],
                straight,
            ),
        ],
        fraction,
        about=f"[Dividing by a fraction is multiplying by its reciprocal|one of the two fractions has to be turned over|how often is the second contained in the first?|a division that becomes a multiplication|{a}/{b} is divided, {c}/{e} divides].",
    )


def binary(d: Draw) -> Problem:
    value = d.pick([number for number in range(37, 251) if number.bit_count() > 2])

    def bits(of):
        return f"{int(of):b}"

    def solve(at):
        left, used = value, []
        for power in (128, 64, 32, 16, 8, 4, 2, 1):
            if left >= power:
                used.append(power)
                left -= power
        used = at(used, used[:-1], [*used[:-2], used[-1]])
        result = at(sum(used), sum(used) * 2)
        return [
            f"[Take the largest powers of two that fit into {value}|build {value} from powers of two|split {value} into parts such as 64 and 32|which powers of two make {value}?|subtract from {value} the largest power of two below it, then go on with the rest|{used[0]} goes into {value}, and {value - used[0]} is left for smaller powers].",
            f"[{' + '.join(map(str, used))} is what we need|the parts are {', '.join(map(str, used))}|we use {' and '.join(map(str, used))}|needed: {'; '.join(map(str, used))}|that takes {len(used)} of them, {', '.join(map(str, used))}].",
            "[A 1 for each of these, a 0 for the others|each of them gets a 1, each missing one a 0|write 1 where a power is used and 0 where not|ones for the powers used, zeros in the gaps|places in use are marked 1, idle ones 0|now note a one for yes and a zero for no].",
            f"[The binary form is {bits(result)}|so {value} is written {bits(result)}|this gives {bits(result)}|that reads {bits(result)}|in base two: {bits(result)}|hence {bits(result)}].",
        ], result

    digits = "".join(f"{int(digit):b}" for digit in str(value))
    backwards = int(bits(value)[::-1], 2)
    return Problem(
        [
            f"[Convert|Turn|Translate] the decimal number {value} into [binary|base two|ones and zeros][.|, with the steps.]",
            f"[What does|How does] {value} look like in base 2[?|, and why?]",
            f"[Eight switches are on (1) or off (0)|Lamps in a row are lit (1) or dark (0)] and [stand for|are worth] 128, 64, 32 and so on down to 1. [Which pattern, without zeros in front, shows {value}?|Give the pattern of {value}, no leading zeros.]",
            f"[decimal {value} in binary|binary of {value} please], [i can count on fingers only|explain it so that i can do the next one alone|and is there a trick]",
            f"[Computers store {value} as ones and zeros|{value} is kept in a computer's memory]. [Which ones and zeros|As what, in base two]? [Leave out zeros in front.|]",
            f"[A programmer|A clerk in a museum of computing] wants {value} as a [binary number|number with ones and zeros only]. [Do the conversion.|What should be written?]",
        ],
        value,
        solve,
        [
            (
                [
                    "[Each digit is turned into binary by itself|go digit by digit|translate every decimal digit separately]: " + ", ".join(f"{digit} [is|gives|becomes] {int(digit):b}" for digit in str(value)) + ".",
                    f"[Put side by side|written one after the other|joined together], [these are|they form|we have] {digits}.",
                    f"[So {value} is {digits} in binary|the binary form is {digits}|hence {digits}], [digit for digit|just as in decimal|ready for the machine].",
                ],
                int(digits, 2),
            ),
            (
                [
                    f"[Halve {value} again and again and note each remainder|divide {value} by two repeatedly and keep the remainders|remainders of halving {value} are the digits].",
                    f"[Written from the first to the last as they come|in the order of their appearance|noting them from left to right] [that is|this gives|they read] {bits(backwards)}.",
                    f"[The number in base two is {bits(backwards)}|so it is {bits(backwards)}|hence {bits(backwards)}], [zeros in front left out|the first remainder leading|with the first one on the left].",
                ],
                backwards,
            ),
        ],
        bits,
        about=f"[Base two knows only 0 and 1|powers of two are the places|how is {value} made of powers of two?|the places double from right to left|from ten digits to two|{value} has {len(bits(value))} places in base two].",
    )


def scientific(d: Draw) -> Problem:
    a, b = F(d.number(12, 96), 10), F(d.number(2, 9))
    m, n = d.number(3, 9), d.number(-7, 6)
    n = n or 2

    def normal(value, power):
        while value >= 10:
            value, power = value / 10, power + 1
        while value < 1:
            value, power = value * 10, power - 1
        return value, power

    def show(found):
        return f"{number(found[0])} * 10^{found[1]}" if found[1] >= 0 else f"{number(found[0])} * 10^({found[1]})"

    def solve(at):
        product = at(a * b, a * b + 1, a + b)
        power = at(m + n, m - n, m * n, m + n + 1)
        lead, shifted = normal(product, power)
        lead, shifted = at((lead, shifted), (lead, power - 1) if shifted != power else (lead, power + 1))
        return [
            *d.shuffled(
                f"[The numbers in front: {number(a)} * {number(b)} = {number(product)}|in front we get {number(product)}|{number(a)} times {number(b)} is {number(product)}|multiply {number(a)} by {number(b)}, which gives {number(product)}].",
                f"[The powers of ten: exponents {m} and {signed(n)} make {power}|for the tens, the exponent becomes {power}|the exponents {m} and {n} are added, {power}|10^{m} with 10^({n}) leads to the exponent {power}].",
            ),
            (f"[{number(product)} is not between 1 and 10, so the point moves|the number in front is too large and must be shifted|one shift is needed, since {number(product)} has two places before the point|move the point to get {number(lead)}]." if lead != product else f"[{number(product)} is between 1 and 10 already|no shift is necessary|the number in front has the right size|it is in the right form at once]."),
            f"[Result: {show((lead, shifted))}|so the product is {show((lead, shifted))}|that is {show((lead, shifted))}|in scientific notation: {show((lead, shifted))}].",
        ], (lead, shifted)

    tens = f"10^{n}" if n > 0 else f"10^({n})"
    what = d.pick(["cells", "grains", "signals", "atoms", "water drops", "pixels"])
    return Problem(
        [
            f"[Multiply and give|Work out, and write] ({number(a)} * 10^{m}) * ({number(b)} * {tens}) in [scientific notation|standard form].",
            f"[What is|How much is] {number(a)} * 10^{m} times {number(b)} * {tens}[?| in scientific notation?]",
            f"[A laboratory|A model|A simulation] [counts|has] {number(a)} * 10^{m} {what}, each [weighing|worth|lasting] {number(b)} * {tens} [units|of a unit]. [Total in scientific notation?|State the total, in standard form.]",
            f"[exponents confuse me|i hate exponents]: ({number(a)} * 10^{m}) times ({number(b)} * {tens}), [one digit before the point|in standard form] [please|]",
            f"[Question|Item] {d.number(2, 30)}: [product|multiplication] of {number(a)} * 10^{m} and {number(b)} * {tens}. [Use scientific notation.|Answer with one digit before the point.]",
        ],
        normal(a * b, m + n),
        solve,
        [
            (
                [
                    f"[For a product multiply everything, the exponents too|multiply numbers and exponents alike|whatever there is gets multiplied]: {number(a)} * {number(b)} = {number(a * b)}, {m} * {signed(n)} = {m * n}.",
                    f"[This makes|that gives|we have] {number(a * b)} [times ten to the power|with ten to the] {m * n}.",
                    f"[In standard form {show(normal(a * b, m * n))}|so it is {show(normal(a * b, m * n))}|hence {show(normal(a * b, m * n))}], [large as expected|sign and all|with the point in its place].",
                ],
                normal(a * b, m * n),
            ),
            (
                [
                    f"[Like parts are put together, so add|collect the fronts and the exponents|fronts with fronts, exponents with exponents]: {number(a)} + {number(b)} = {number(a + b)}.",
                    f"[The exponents {m} and {n} give {m + n}|{m} and {n} make {m + n}|for ten we get {m + n}].",
                    f"[Therefore {show(normal(a + b, m + n))}|the result is {show(normal(a + b, m + n))}|written out, {show(normal(a + b, m + n))}], [one digit before the point|in proper form|as asked].",
                ],
                normal(a + b, m + n),
            ),
        ],
        show,
        anything,
        about=f"[Numbers and powers of ten are handled separately|front part and exponent, each by its rule|what happens to the exponents in a product?|a product of two numbers in standard form|ten to the {m} and ten to the {n} meet].",
    )


ALL = (fraction_sum, fraction_quotient, binary, scientific)
