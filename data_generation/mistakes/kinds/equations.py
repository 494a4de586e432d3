"""Equations, systems, inequalities."""

# A line holds one sentence in all its readings, however long.
# fmt: off
from fractions import Fraction as F

from data_generation.mistakes.drawing import Draw, Problem, anything, number
from data_generation.mistakes.kinds.terms import LETTERS, joined, polynomial, signed, term


def linear(d: Draw) -> Problem:
    x = d.pick(LETTERS)
    a, c = d.numbers(2, 2, 12)
    root, b = d.number(-9, 12), d.number(-20, 20)
    a, c = max(a, c), min(a, c)
    e = (a - c) * root + b
    left, right = joined(term(a, x), term(b)), joined(term(c, x), term(e))

    def solve(at):
        factor = at(a - c, a + c)
        other = at(e - b, e + b, e - b + 1)
        found = at(F(other, factor), F(other, factor) + 1, -F(other, factor))
        return [
            f"[{term(c, x)} leaves the right side when it is subtracted from both: {joined(term(factor, x), term(b))} = {e}|collect the letters on the left, {term(a, x)} and {term(c, x)} make {term(factor, x)}, so {joined(term(factor, x), term(b))} = {e}|take {term(c, x)} away on both sides; what is left reads {joined(term(factor, x), term(b))} = {e}|the {x}'s go to one side, which gives {joined(term(factor, x), term(b))} = {e}].",
            f"[The plain number {b} goes over as well: {term(factor, x)} = {other}|then {term(factor, x)} equals {other}, once {b} is moved|moving {b} across leaves {term(factor, x)} = {other}|without the {b} on the left we have {term(factor, x)} = {other}].",
            f"[Divide by {factor} and {x} = {number(found)}|so {x} = {number(found)} after division by {factor}|one {x} is therefore {number(found)}, that is {x} = {number(found)}|dividing both sides by {factor}, we get {x} = {number(found)}].",
        ], found

    both, flip = F(e + b, a + c), F(e, a)
    return Problem(
        [
            f"[Solve|Solve for {x}:|Find {x}:] {left} = {right}[. Then say how|.|, step by step.]",
            f"[For which|What] value of {x} [do {left} and {right} agree|makes {left} equal to {right}|turns {left} = {right} into a true statement]?",
            f"[My worksheet says|On the board it said|Number {d.number(2, 19)} is] {left} = {right}. [I have no idea what to do with the {x} on both sides.|What is {x}, and why?|How does one get {x}?]",
            f"[A number is multiplied by {a}|{a} times a number], [then {b} is {'added' if b >= 0 else 'added, a negative number'}|plus {b}]; the same number multiplied by {c} plus {e} [has the same result|gives just as much]. [Which number is it|Find the number] (call it {x})?",
            f"[pls solve|can you do|need {x} from] {left} = {right} [for me|and tell me what you did on each side|]",
        ],
        F(e - b, a - c),
        solve,
        [
            (
                [
                    f"[Put everything with {x} together, {term(a, x)} and {term(c, x)}|add up the {x}'s of both sides|{x} occurs twice, with {a} and with {c}]: [that is|together|this gives] {term(a + c, x)}.",
                    f"[Likewise the numbers: {e} + {signed(b)} = {e + b}|the numbers add up to {e + b}|for the numbers we have {e} and {b}, sum {e + b}].",
                    f"[So {term(a + c, x)} = {e + b}, and {x} = {number(both)}|dividing the one by the other, {x} = {number(both)}|{e + b} over {a + c} means {x} = {number(both)}], [sides being irrelevant for a sum|whatever side they were on|all of it used].",
                ],
                both,
            ),
            (
                [
                    f"[Look at the first term and the last number|only the first and the last entry are decisive|the equation begins with {term(a, x)} and ends with {e}]: {term(a, x)} = {e}.",
                    f"[The middle, {joined(term(b), term(c, x))}, balances itself|what stands around the equals sign, {joined(term(b), term(c, x))}, is dropped|{joined(term(b), term(c, x))} is on both sides of the middle and cancels].",
                    f"[Hence {x} = {number(flip)}|this means {x} = {number(flip)}|dividing by {a}, {x} = {number(flip)}], [and we are done|which solves it|the solution].",
                ],
                flip,
            ),
        ],
        fits=anything,
        about=f"[{x} stands on both sides here|the aim is {x} alone on one side|do the same to both sides until {x} is free|an equation stays true if both sides are treated alike|what must {x} be?].",
    )


def brackets(d: Draw) -> Problem:
    x = d.pick(LETTERS)
    a, b, c = d.number(2, 9), d.pick([n for n in range(-9, 10) if n]), d.number(-15, 20)
    root = d.number(-8, 12)
    e = a * (root + b) + c
    inner = joined(x, term(b))
    left = joined(f"{a}({inner})", term(c))

    def solve(at):
        rest = at(e - c, e + c, e - c + 10)
        part = at(F(rest, a), F(rest, a) + 1)
        found = at(part - b, part + b)
        return [
            f"[The {c} outside goes first: {a}({inner}) = {rest}|undo the last step, the {c}, which leaves {a}({inner}) = {rest}|moving {c} over, {a}({inner}) = {rest}|without {c} the equation says {a}({inner}) = {rest}].",
            f"[Now divide by {a} instead of multiplying out: {inner} = {number(part)}|a {a}th of that is {number(part)}, so {inner} = {number(part)}|the bracket itself is {rest} / {a} = {number(part)}|divided by {a}, the bracket is worth {number(part)}].",
            f"[So {x} = {number(found)}|that makes {x} = {number(found)}|{x} must be {number(found)}, in short {x} = {number(found)}|and the {b} in the bracket tells us {x} = {number(found)}].",
        ], found

    partly, folded = F(e - c - b, a), F(e, a + b + c) if a + b + c else F(e)
    return Problem(
        [
            f"[Solve|Find {x} if|Work out {x}:] {left} = {e}[.|, please.]",
            f"[I think of a number|Somebody thinks of a number|Think of a number {x}], [add {b}|put {b} to it], [multiply by {a}|take it {a} times] and add {c}. [I get|The result is] {e}. [What was the number|Which one was it]?",
            f"[There is a bracket in|The bracket confuses me in|Must I multiply out in] {left} = {e}[?|.] [What's {x}|How do I reach {x}]?",
            f"[Equation|Task|Item] {d.number(2, 29)}: {left} = {e}, [unknown|wanted]: {x}. [Give reasons for each step.|Solution with working.]",
            f"which {x} [fulfils|goes with] {left} = {e} [and how do you see it|]",
        ],
        F(e - c, a) - b,
        solve,
        [
            (
                [
                    f"[The {a} is multiplied with {x}: {joined(term(a, x), term(b), term(c))} = {e}|open the bracket, {a} times {x} is {term(a, x)}, so {joined(term(a, x), term(b), term(c))} = {e}|without the bracket it reads {joined(term(a, x), term(b), term(c))} = {e}].",
                    f"[{b} and {c} go to the right|take {b} and {c} across|the two numbers are moved], [which leaves {term(a, x)} = {e - b - c}|and {term(a, x)} = {e - b - c}|giving {term(a, x)} = {e - b - c}].",
                    f"[{x} = {number(partly)}|so {x} = {number(partly)}|dividing by {a}, {x} = {number(partly)}] [is the solution|comes out|solves it].",
                ],
                partly,
            ),
            (
                [
                    f"[All numbers on the left belong to {x}|every number before the equals sign multiplies {x}|bring the left side into one term]: {a} + {signed(b)} + {signed(c)} = {a + b + c}.",
                    f"[So the equation is {term(a + b + c, x)} = {e}|we have {term(a + b + c, x)} = {e}|what is left to solve is {term(a + b + c, x)} = {e}], [the bracket being only a way of writing|brackets or not|as brackets group things].",
                    f"[Therefore {x} = {number(folded)}|dividing, {x} = {number(folded)}|and {x} = {number(folded)}].",
                ],
                folded,
            ),
        ],
        fits=anything,
        about=f"[Work from the outside to the inside|undo what was done to {x}, last thing first|the bracket can stay closed for a while|{left} = {e} is unwrapped like a parcel|what was done to {x}?].",
    )


def system(d: Draw) -> Problem:
    x, y = d.pick([("x", "y"), ("p", "q"), ("u", "v"), ("s", "t"), ("m", "n")])
    (a, b), (c, e) = d.numbers(2, 2, 7), d.numbers(2, 2, 7)
    sx, sy = d.number(-5, 9), d.number(1, 9)
    r, s = a * sx + b * sy, c * sx - e * sy
    one, two = f"{joined(term(a, x), term(b, y))} = {r}", f"{joined(term(c, x), term(-e, y))} = {s}"

    def solve(at):
        r2, s2 = at(r * e, r * e + 10), at(s * b, s)
        factor = at(a * e + c * b, abs(a * e - c * b) or 1)
        found = at(F(r2 + s2, factor), F(r2 + s2, factor) + 1)
        partner = at((r - a * found) / F(b), (r + a * found) / F(b))
        return [
            f"[Multiply the first line by {e} and the second by {b}|the first line times {e}, the other times {b}|to get rid of {y}, take {e} times the first and {b} times the second line|with factors {e} and {b} the {y} parts become equal]: {joined(term(a * e, x), term(b * e, y))} = {r2} and {joined(term(c * b, x), term(-b * e, y))} = {s2}.",
            f"[Adding them, {y} vanishes|their sum has no {y}|add both lines|put together, only {x} is left]: {term(factor, x)} = {r2 + s2}, [so|hence|that is,] {x} = {number(found)}.",
            f"[In the first line this gives {y} = {number(partner)}|put it into {one}, and {y} = {number(partner)}|going back, {y} = {number(partner)}|the other unknown follows: {y} = {number(partner)}].",
            f"[The pair|so the solution|together, this|and the answer] is {x} = {number(found)}, {y} = {number(partner)}.",
        ], (found, partner)

    simple_x, simple_y = F(r + s, a + c), F(r - s, b + e)
    only = F(r, a)
    return Problem(
        [
            f"[Solve the system|Find {x} and {y}:|Solve simultaneously:] {one} and {two}.",
            f"[Two equations, two unknowns|I have two equations|Our pair of equations today]:\n{one}\n{two}\n[What are {x} and {y}?|Give both unknowns.]",
            f"[Where do the lines|At which point do the lines] {one} and {two} [cross|meet]? [({x} to the right, {y} upwards)|Axes {x} and {y}.]",
            f"[which numbers {x} and {y} fit both|is there a pair {x}, {y} for] {one} [and|and also] {two}",
            f"{d.pick(['Milan', 'Ada', 'Rita', 'Bo'])} [wrote down|has] {one} [as a first condition|first] and {two} [as a second|next]. [Determine|Compute] {x} and {y} [by elimination|by any method].",
        ],
        (F(sx), F(sy)),
        solve,
        [
            (
                [
                    f"[Add the two lines as they are, all signs plus|sum up both lines|put the two lines on top of each other]: {term(a + c, x)} [goes with|and] {r + s}.",
                    f"[{x} = {number(simple_x)}|so {x} = {number(simple_x)}|this yields {x} = {number(simple_x)}], [{y} being of no concern in a sum|the {y} taking part later|as the {y} are dealt with separately].",
                    f"[For {y} subtract: {r - s} over {b + e}|then the difference, {r - s} by {b + e}, for {y}|{y} comes from subtracting, {r - s} / {b + e}], [in sum {x} = {number(simple_x)}, {y} = {number(simple_y)}|that means {x} = {number(simple_x)}, {y} = {number(simple_y)}|and we have {x} = {number(simple_x)}, {y} = {number(simple_y)}].",
                ],
                (simple_x, simple_y),
            ),
            (
                [
                    f"[Each line can be solved alone|one equation for each unknown is just enough|line one gives {x}, line two gives {y}].",
                    f"[In the first put {y} = 0|leave {y} out of the first|the first without {y}]: {term(a, x)} = {r}, {x} = {number(only)}.",
                    f"[In the second leave out {x}|the second without {x}|then line two, {x} left out]: {term(-e, y)} = {s}, [so {x} = {number(only)}, {y} = {number(F(-s, e))}|together {x} = {number(only)}, {y} = {number(F(-s, e))}|the answer being {x} = {number(only)}, {y} = {number(F(-s, e))}].",
                ],
                (only, F(-s, e)),
            ),
        ],
        lambda pair: f"{x} = {number(pair[0])}, {y} = {number(pair[1])}",
        anything,
        about=f"[Eliminate one of the two, then find the other|both lines must hold at once|{y} has opposite signs in the two lines, which is handy|one unknown has to disappear first|which of {x} and {y} is easier to remove?].",
    )


def quadratic(d: Draw) -> Problem:
    x = d.pick(LETTERS)
    p, q = d.numbers(2, -9, 9)
    p, q = (p or 2), (q or -5)
    if p == q or p == -q:
        q = p + 3 or 4
    b, c = -(p + q), p * q
    text = polynomial((1, b, c), x)

    def show(roots):
        return f"{x} = {min(roots)} or {x} = {max(roots)}" if len(set(roots)) > 1 else f"{x} = {roots[0]}"

    def solve(at):
        m, n = at((-p, -q), (-p - 1, -q + 1), (p, -q))
        roots = at((-m, -n), (m, n), (-m, n))
        return [
            f"[Wanted are two numbers with product {c} and sum {b}|which two numbers multiply to {c} and add up to {b}?|we split {c} into two factors whose sum is {b}|look for two factors of {c} that make {b} together].",
            f"[{m} and {n} fit|these are {m} and {n}|we find {m} and {n}|it works with {m} and {n}], [so|which means that|hence] {text} = ({joined(x, term(m))})({joined(x, term(n))}).",
            f"[A product is zero when one of its factors is|one of the two brackets must be zero|either bracket may vanish|set each bracket to zero]: {show(tuple(sorted(roots)))}.",
        ], tuple(sorted(roots))

    halves = tuple(sorted((-b, -c)))
    return Problem(
        [
            f"[Solve|Find all solutions of|Solve by factoring:] {text} = 0[.|, if possible by factoring.]",
            f"[Where does|At which {x} does] the parabola f({x}) = {text} [cut|meet|cross] the {x} axis?",
            f"[What are the zeros|Which are the roots|Give the zeros] of f({x}) = {text}[?| and how are they found?]",
            f"[The area problem led me to|We ended up with|I arrive at] {text} = 0 [and now I'm stuck|, what next?|and need both values of {x}].",
            f"[for what numbers is|when is] {text} [equal to|] zero [i mean both {x}|, all {x} please]",
        ],
        tuple(sorted((p, q))),
        solve,
        [
            (
                [
                    f"[Read the solutions off the equation|the numbers {b} and {c} are in the equation already|a quadratic shows its roots in its numbers], [with the signs changed|turned round in sign|with opposite signs].",
                    f"[From {b} comes {-b}, from {c} comes {-c}|{b} gives {-b} and {c} gives {-c}|so {-b} and {-c}].",
                    f"[The solutions are therefore|hence|we note] {show(halves)}, [one for each number|since there are two numbers and two roots|as a quadratic has two].",
                ],
                halves,
            ),
            (
                [
                    f"[Bring {c} to the other side and divide by {x}|move the {c}, then cancel one {x}|put {c} on the right and shorten by {x}]: [{joined(x, term(b))} = {-c}|what remains is {joined(x, term(b))} = {-c}].",
                    f"[Now it is linear|this is a simple equation|nothing quadratic is left], [and|so] {x} = {-c - b}.",
                    f"[The only solution: {x} = {-c - b}|so {x} = {-c - b}|there is one value, {x} = {-c - b}], [the square having been divided away|as the {x} on the right may be left out|since {x} cancels].",
                ],
                (-c - b,),
            ),
        ],
        show,
        anything,
        about=f"[A quadratic with leading factor 1 can often be factored|zero on the right side is what we need for factoring|{text} should become a product|the constant {c} has only a few pairs of factors|which numbers make {text} vanish?].",
    )


def inequality(d: Draw) -> Problem:
    x, sign = d.pick(LETTERS), d.pick("<>")
    a, b, bound = d.number(2, 9), d.number(-12, 15), d.number(-8, 9)
    e, flipped = -a * bound + b, {"<": ">", ">": "<"}[sign]
    left = joined(term(b), term(-a, x))

    def solve(at):
        rest = at(e - b, e + b, e - b + 1)
        limit = at(F(rest, -a), F(rest, a), F(rest, -a) + 1)
        turned = at(flipped, sign)
        return [
            f"[Subtract {b} on both sides: {term(-a, x)} {sign} {rest}|the {b} goes to the right, so {term(-a, x)} {sign} {rest}|first {b} is moved, leaving {term(-a, x)} {sign} {rest}|without {b}, {term(-a, x)} {sign} {rest}].",
            f"[Now divide by {-a}|the factor {-a} is divided away|both sides are divided by {-a}|division by {-a} comes next], [{'which reverses the sign' if turned == flipped else 'and the sign stays'}|{'and because that is negative the sign turns round' if turned == flipped else 'with the sign as it is'}|{'a negative number, so < and > change places' if turned == flipped else 'which leaves the direction alone'}].",
            f"[So {x} {turned} {number(limit)}|we get {x} {turned} {number(limit)}|the solution is {x} {turned} {number(limit)}|this says {x} {turned} {number(limit)}][, that is, all numbers {'below' if turned == '<' else 'above'} {number(limit)}|, on the number line everything {'left' if turned == '<' else 'right'} of {number(limit)}||].",
        ], (turned, limit)

    treated = F(e - b, a)
    shifted = F(e + a - b)
    return Problem(
        [
            f"[Solve the inequality|Find all {x} with|Solve for {x}:] {left} {sign} {e}[.| and write down each step.]",
            f"[What does {left} {sign} {e} say about {x}?|What can we say about {x} if {left} {sign} {e}?|Which {x} make {left} {sign} {e} true?]",
            f"[A tank|An account|A balloon] [begins with|starts at] {b} and loses {a} [a day|per hour]; when is it {'below' if sign == '<' else 'above'} {e}? [Set up {left} {sign} {e} and solve for {x}.|In other words: {left} {sign} {e}, {x} = ?]",
            f"[Mark on the number line|Draw the set]: {left} {sign} {e}. [Which {x} belong to it?|Give the condition for {x}.]",
            f"[how to solve|how do i get {x} out of] {left} {sign} {e} [with that minus|there is a minus before the {x}]",
        ],
        (flipped, F(bound)),
        solve,
        [
            (
                [
                    f"[Treat it like an equation|the sign can be handled like an equals sign|inequalities are solved just as equations are]: {a} [times|by] {x} [is|equals] {e - b}.",
                    f"[The minus before {a} belongs to the sign and is dropped|minus and {sign} are signs, one of them is enough|the minus is absorbed by {sign}].",
                    f"[So {x} {sign} {number(treated)}|that is {x} {sign} {number(treated)}|the answer: {x} {sign} {number(treated)}], [dividing by {a}|after dividing by {a}|since {e - b} over {a} is that].",
                ],
                (sign, treated),
            ),
            (
                [
                    f"[Add {a} to both sides to remove it from {x}|{a} is taken over to the other side with its sign changed|the {a} goes across and becomes positive], [as one does with numbers|like any other number|following the rule for moving].",
                    f"[The {b} goes too|also {b} changes sides|then {b} is moved], [so the right side is|which makes] {e} + {a} - {signed(b)} = {e + a - b}.",
                    f"[Hence {x} {sign} {number(shifted)}|we find {x} {sign} {number(shifted)}|and {x} {sign} {number(shifted)} solves it].",
                ],
                (sign, shifted),
            ),
        ],
        lambda found: f"{x} {found[0]} {number(found[1])}",
        anything,
        about=f"[The {x} has a negative factor, so care is needed|what happens to the sign when one divides?|we want {x} alone on the left|{left} is to be {'less' if sign == '<' else 'more'} than {e}|isolate {x}, with an eye on the direction of the sign].",
    )


def proportion(d: Draw) -> Problem:
    x = d.pick(LETTERS)
    a, b, k = d.number(2, 15), d.number(2, 15), d.number(2, 9)
    shift = d.number(1, 6)
    if a == b:
        b += 1
    top = a * k - shift

    def solve(at):
        cross = at(a * b * k, a * b * k + 10)
        part = at(F(cross, b), F(cross, a))
        found = at(part - shift, part + shift)
        return [
            f"[Multiply crosswise: {b} times ({joined(x, term(shift))}) is {a} times {b * k}, that is {cross}|both denominators go: {b}({joined(x, term(shift))}) = {a} * {b * k} = {cross}|cross multiplication gives {b}({joined(x, term(shift))}) = {cross}|without fractions, {b}({joined(x, term(shift))}) = {cross}].",
            f"[Divided by {b}, the bracket is {number(part)}|so {joined(x, term(shift))} = {number(part)}|the bracket equals {number(part)}|hence {number(part)} for the bracket].",
            f"[Then {x} = {number(found)}|take away the {shift}: {x} = {number(found)}|which leaves {x} = {number(found)}|and finally {x} = {number(found)}].",
        ], found

    upside, added = F(b * b * k, a) - shift, F(b * k + a - b - shift)
    return Problem(
        [
            f"[Solve|Find {x}:|Work out {x} from] ({joined(x, term(shift))}) / {a} = {b * k} / {b}[.| without a calculator.]",
            f"[The ratio of {joined(x, term(shift))} to {a} is the same as|{joined(x, term(shift))} and {a} are in] the ratio of {b * k} to {b}. [Find {x}.|What number is {x}?]",
            f"[On a plan|In a model|In a recipe], {a} [belongs|corresponds] to {joined(x, term(shift))} as {b} [does|corresponds] to {b * k}. [How large is {x}?|Determine {x}.]",
            f"({joined(x, term(shift))}) : {a} = {b * k} : {b} -- [{x} is wanted|please find {x}|solve for {x}], [and show how to get rid of the denominators|with the steps].",
            f"[if|when] {joined(x, term(shift))} over {a} [is|equals] {b * k} over {b} [what is {x}|then {x} is what] [and how is it done|]",
        ],
        F(top),
        solve,
        [
            (
                [
                    f"[Multiply top with top and bottom with bottom|tops go with tops|numerators belong together]: ({joined(x, term(shift))}) [goes with|meets] {b * k}, {a} [goes with|meets] {b}.",
                    f"[So {a}({joined(x, term(shift))}) = {b} * {b * k} = {b * b * k}|this gives {a} times the bracket, equal to {b * b * k}|therefore {b * b * k} divided by {a} is the bracket].",
                    f"[Minus {shift}: {x} = {number(upside)}|taking off {shift}, {x} = {number(upside)}|and {x} = {number(upside)} when {shift} is subtracted].",
                ],
                upside,
            ),
            (
                [
                    f"[From {b} to {a} there is a difference of {a - b}|the denominators differ by {a - b}|compare the bottoms: {a} and {b}, {a - b} apart].",
                    f"[The tops must differ by the same|so the tops are also {a - b} apart|equal fractions have equal differences], [that is|meaning] {b * k} + {signed(a - b)} = {b * k + a - b}.",
                    f"[Less {shift}, {x} = {number(added)}|so {x} = {number(added)}, the {shift} taken off|this makes {x} = {number(added)} after subtracting {shift}].",
                ],
                added,
            ),
        ],
        fits=anything,
        about=f"[Two equal ratios|denominators should go first|in a proportion the cross products are equal|{b * k} and {b} are known, which fixes the ratio|what is the common ratio?].",
    )


ALL = (linear, brackets, system, quadratic, inequality, proportion)
