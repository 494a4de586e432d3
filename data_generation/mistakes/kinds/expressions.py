"""Products of brackets, absolute values, functions, order of operations, powers, roots."""

# A line holds one sentence in all its readings, however long.
# fmt: off
from fractions import Fraction as F

from data_generation.mistakes.drawing import Draw, Problem, anything, number
from data_generation.mistakes.kinds.terms import LETTERS, joined, polynomial, signed, term


def expand(d: Draw) -> Problem:
    x = d.pick(LETTERS)
    a, c = d.number(1, 6), d.number(1, 6)
    b, e = (d.pick([n for n in range(-9, 10) if n]) for _ in range(2))
    one, two = f"({joined(term(a, x), term(b))})", f"({joined(term(c, x), term(e))})"

    def solve(at):
        square = at(a * c, a + c)
        mixed = at(a * e + b * c, a * e - b * c, a * e + b * c + 1)
        last = at(b * e, -b * e, b + e)
        result = polynomial((square, mixed, last), x)
        return [
            f"[First with first|the two leading terms|begin with the {x} terms|{term(a, x)} times {term(c, x)}]: {term(square, x + '^2')}.",
            f"[Outer and inner products|the mixed products|crosswise, {term(a, x)} with {e} and {b} with {term(c, x)}|then {signed(b)} and {signed(e)} with the other bracket's {x}] [are {term(a * e, x)} and {term(b * c, x)}, in sum|make {term(a * e, x)} and {term(b * c, x)}, that is|give {term(a * e, x)} plus {term(b * c, x)}, or] {term(mixed, x) or 0}.",
            f"[Last with last|the numbers alone|finally the constants|{signed(b)} times {signed(e)}]: {last}.",
            f"[Written in order: {result}|the product is {result}|altogether {result}|so we get {result}].",
        ], (square, mixed, last)

    ends, sums = (a * c, 0, b * e), (a + c, b + e)
    return Problem(
        [
            f"[Expand|Multiply out|Expand and simplify] {one}{two}[.| please.| and collect like terms.]",
            f"[Write|Rewrite] {one}{two} [without brackets|as a sum|in the form of a polynomial]. [Which terms go together?|]",
            f"[What is|How much is] {one} times {two} [in {x}|when it is written out]?",
            f"[A rectangle has the sides|Length and width of a rectangle are] {one[1:-1]} and {two[1:-1]}. [Express|Give] its area [as a polynomial in {x}|without brackets].",
            f"[our teacher wants|i need] {one}{two} [multiplied out|with no brackets in it], [whats the result|how does that go]",
        ],
        (a * c, a * e + b * c, b * e),
        solve,
        [
            (
                [
                    f"[Multiply the first terms with each other and the last terms with each other|like goes with like: {x} with {x}, number with number|each term meets its partner in the other bracket].",
                    f"{term(a, x)} [times|by] {term(c, x)} [is|makes] {term(a * c, x + '^2')}, [and|while] {b} [times|by] {e} [is|makes] {b * e}.",
                    f"[So the product is {polynomial(ends, x)}|together {polynomial(ends, x)}|the brackets open to {polynomial(ends, x)}], [two terms from two brackets|as there are only two partners|with nothing in between].",
                ],
                ends,
            ),
            (
                [
                    "[Two brackets side by side are put together|brackets next to each other can be opened and gathered|drop the brackets and collect].",
                    f"[The {x} terms: {term(a, x)} and {term(c, x)} are {term(a + c, x)}|{x} terms give {term(a + c, x)}|of {x} we have {term(a + c, x)}], [the numbers|the rest]: {b} and {e}, [that is|in sum] {b + e}.",
                    f"[Result: {polynomial(sums, x)}|so it is {polynomial(sums, x)}|which leaves {polynomial(sums, x)}] [without any bracket|as wanted|in the end].",
                ],
                sums,
            ),
        ],
        lambda factors: polynomial(factors, x),
        anything,
        about="[Every term of one bracket meets every term of the other|four products are to be formed|two brackets with two terms each|think of a rectangle that is cut into four|how many products are there? Four].",
    )


def absolute(d: Draw) -> Problem:
    x = d.pick(LETTERS)
    a, b, c = d.number(1, 4), d.number(-9, 9), d.number(3, 14)
    b, c = b - b % a, c - c % a or a
    inner = joined(term(a, x), term(b))

    def solve(at):
        plus, minus = at(c - b, c + b), at(-c - b, c - b, -c + b)
        roots = at((F(minus, a), F(plus, a)), (F(plus, a), F(plus, a)), (F(minus, a), F(plus, a) + 1))
        return [
            f"[What is inside can be {c} or {-c}|two cases: {c} and {-c}|a distance of {c} from zero is reached at {c} and at {-c}|inside stands either {c} or {-c}].",
            *d.shuffled(
                f"[Case {c}: {term(a, x)} = {plus}|with {inner} = {c}, {term(a, x)} is {plus}|from {inner} = {c} we get {term(a, x)} = {plus}|the positive case gives {term(a, x)} = {plus}].",
                f"[Case {-c}: {term(a, x)} = {minus}|with {inner} = {-c}, {term(a, x)} is {minus}|from {inner} = {-c} we get {term(a, x)} = {minus}|the negative case gives {term(a, x)} = {minus}].",
            ),
            f"[Solutions: {_two(x, roots)}|so {_two(x, roots)}|that is {_two(x, roots)}|both count: {_two(x, roots)}].",
        ], tuple(sorted(roots))

    one, mirrored = F(c - b, a), tuple(sorted((F(c - b, a), -F(c - b, a))))
    return Problem(
        [
            f"[Solve|Find every solution of|Determine all {x} with] abs({inner}) = {c}[.|, where abs is the absolute value.]",
            f"The [absolute value|modulus|magnitude] of {inner} is {c}. What [are the possible values of {x}|can {x} be]?",
            f"[On the number line|On a ruler], {inner} [has the distance|is at a distance of] {c} from zero. [Find {x}.|Where can {x} be?]",
            f"[I always forget one case|I get only one value|There should be two values]: abs({inner}) = {c}, {x} = [?|...]",
            f"[for which numbers is|when is] the absolute value of {inner} [the same as|exactly|equal to] {c}",
        ],
        tuple(sorted((F(c - b, a), F(-c - b, a)))),
        solve,
        [
            (
                [
                    f"[The bars just make the result positive, and {c} is positive already|an absolute value can be left out when the other side, {c}, is positive|absolute value signs matter for negative numbers only, and {c} is none].",
                    f"[So {inner} = {c}|we solve {inner} = {c}|what is left is {inner} = {c}], [hence {term(a, x)} = {c - b}|which means {term(a, x)} = {c - b}].",
                    f"[The one solution is {x} = {number(one)}|therefore {x} = {number(one)}|and {x} = {number(one)} is the only value].",
                ],
                (one,),
            ),
            (
                [
                    f"[First without the bars: {inner} = {c}|solve {inner} = {c} to begin with|as if there were no bars, {inner} = {c}], [so {x} is {number(one)}|giving {number(one)}].",
                    f"[Absolute values give plus and minus of a result|because of the bars, the opposite of it works too|the second solution is the same with another sign]: {number(-one)}.",
                    f"[In sum {_two(x, mirrored)}|hence {_two(x, mirrored)}|we have {_two(x, mirrored)}], [mirror images at zero|symmetric as an absolute value is|both at the same distance from zero].",
                ],
                mirrored,
            ),
        ],
        lambda roots: _two(x, roots),
        anything,
        about=f"[An absolute value hides two cases|distance from zero is what this is about|how can {inner} be {c} away from zero?|two equations in one|the sign of {inner} is not known].",
    )


def _two(x: str, roots: tuple) -> str:
    return " or ".join(f"{x} = {number(root)}" for root in sorted(set(roots)))


def composition(d: Draw) -> Problem:
    x, (f, g) = d.pick("xtnz"), d.pick([("f", "g"), ("g", "h"), ("p", "q"), ("u", "v")])
    a, b, c, e = d.number(2, 6), d.number(-9, 9), d.number(1, 3), d.number(-7, 8)
    value = d.number(-4, 6)

    def solve(at):
        square = at(value * value, 2 * value, -value * value)
        inner = at(c * square + e, c * square - e, c * square + e + 1)
        result = at(a * inner + b, a * inner - b, a * inner + b + 10)
        return [
            f"[The inner function comes first: {g}({value})|begin with {g}({value})|start inside, with {g} at {value}|what is {g}({value})?].",
            f"[{signed(value)} squared is {square}|the square is {square}|{value} times itself gives {square}|with {signed(value)}^2 = {square}], [so {g}({value}) = {inner}|which leads to {g}({value}) = {inner}|and then {g}({value}) = {inner}].",
            f"[Put {inner} into {f}|that goes into {f}|{f} takes this {inner}|now {f} at {inner}]: {a} * {signed(inner)} + {signed(b)} = {result}.",
            f"[So {f}({g}({value})) = {result}|the value is {result}|we end at {result}|].",
        ], result

    swapped, product = c * (a * value + b) ** 2 + e, (a * value + b) * (c * value**2 + e)
    inside, outside = polynomial((c, 0, e), x), polynomial((a, b), x)
    return Problem(
        [
            f"[Given|Let] {f}({x}) = {outside} and {g}({x}) = {inside}[. Find|, compute|. Evaluate] {f}({g}({value})).",
            f"{f}: {x} -> {outside}\n{g}: {x} -> {inside}\n[{f}({g}({value})) = ?|Evaluate {f}({g}({value})).]",
            f"[A machine {g}|Machine {g}] turns {x} into {inside}, [another one, {f},|machine {f}] turns {x} into {outside}. [A {value} goes into {g} and the result into {f}|{value} goes through {g} and then {f}]. [What comes out?|Output?]",
            f"[In which order do I|How do I] work out {f}({g}({value})) [with|for] {f}({x}) = {outside} [and|,] {g}({x}) = {inside}? [Is it one number?|I need the number.]",
            f"whats {f} of {g} of {value} [if|when] {f}({x}) [is|=] {outside} and {g}({x}) [is|=] {inside}",
        ],
        a * (c * value * value + e) + b,
        solve,
        [
            (
                [
                    f"[{f} is written first, so it is done first|begin with {f}, the first letter|reading from left to right, {f} comes before {g}]: {f}({value}) = {a * value + b}.",
                    f"[Then {g} of that|this goes into {g}|{g} is next, at {a * value + b}]: {signed(a * value + b)}^2 = {(a * value + b) ** 2}, [which becomes|and then|leading to] {swapped}.",
                    f"[The value is {swapped}|so we get {swapped}|hence {swapped}], [in reading order|left to right|both having been used].",
                ],
                swapped,
            ),
            (
                [
                    f"[Two functions next to each other are multiplied|{f}({g}({value})) means {f} times {g}|a function of a function is a product].",
                    f"[Separately: {f}({value}) = {a * value + b}, {g}({value}) = {c * value * value + e}|{f} at {value} is {a * value + b} and {g} at {value} is {c * value * value + e}|we need {f}({value}) = {a * value + b} and {g}({value}) = {c * value * value + e}].",
                    f"{signed(a * value + b)} * {signed(c * value * value + e)} = {product}, [the result|so {product}|and that is {f}({g}({value}))].",
                ],
                product,
            ),
        ],
        fits=anything,
        about=f"[From the inside out|two steps, one after the other|a function of a function|the output of {g} is the input of {f}|which of the two acts first? The inner one].",
    )


def order_of_operations(d: Draw) -> Problem:
    a, b, c, e = d.number(3, 30), d.number(2, 9), d.number(2, 9), d.number(2, 12)
    f = d.number(2, 6)
    text = f"{a} - {b} * ({c} - {e}) + {f}^2"

    def solve(at):
        inside = at(c - e, e - c, c + e)
        square = at(f * f, 2 * f)
        product = at(b * inside, b * inside + 1, b + inside)
        left = at(a - product, a + product)
        result = at(left + square, left - square, left + square + 10)
        return [
            *d.shuffled(
                f"[The bracket: {c} - {e} = {inside}|inside the bracket we have {inside}|{c} minus {e} makes {inside}|bracket first, {inside}].",
                f"[The power: {f}^2 = {square}|{f} squared is {square}|the square of {f}: {square}|{f}^2 stands for {square}].",
            ),
            f"[Multiplication before subtraction: {b} * {signed(inside)} = {product}|then the product, {b} times {signed(inside)}, which is {product}|{b} times the bracket is {product}|now multiply, {b} * {signed(inside)} = {product}].",
            f"[From the left|going left to right|what remains is|finally] {a} - {signed(product)} = {left}, [and|then] {left} + {square} = {result}.",
            f"[So the value is {result}|the expression equals {result}||].",
        ], result

    lefty, dropped = (a - b) * (c - e) + f * f, a - b * c - e + f * f
    return Problem(
        [
            f"[Evaluate|Work out|Calculate] {text}[.| and show the order of the steps.]",
            f"[What is the value of|What does one get for] {text}[?| if one keeps to the usual rules?]",
            f"[My calculator and my sister disagree about|Two people in class got different results for|Which order is right in] {text}. [Who can settle it?|What is it?]",
            f"[Brackets, powers, products, sums|Points before dashes, they say]: {text} = [?|...]",
            f"[can you do|please do] {text} [one step at a time|slowly], [i lose track|i get mixed up]",
        ],
        a - b * (c - e) + f**2,
        solve,
        [
            (
                [
                    f"[Go from left to right|read it as it stands, from the left|take things in the order in which they are written]: {a} - {b} = {a - b}.",
                    f"[Times the bracket|then multiply by {c} - {e}|next the bracket, {signed(c - e)}]: {signed(a - b)} * {signed(c - e)} = {(a - b) * (c - e)}.",
                    f"[Plus {f * f}, this is {lefty}|the last part adds {f * f}: {lefty}|with {f}^2 = {f * f} the end is {lefty}].",
                ],
                lefty,
            ),
            (
                [
                    f"[Brackets can be left out when everything is plain arithmetic|take away the brackets first|without brackets it is easier to read]: {a} - {b} * {c} - {e} + {f}^2.",
                    f"[Then the product {b} * {c} = {b * c}|multiply {b} by {c}, which is {b * c}|{b} times {c} makes {b * c}], [so|which means] {a} - {b * c} = {a - b * c}.",
                    f"[Minus {e} plus {f * f} gives {dropped}|with - {e} + {f * f} we come to {dropped}|the rest, - {e} and + {f * f}, leads to {dropped}].",
                ],
                dropped,
            ),
        ],
        fits=anything,
        about="[Brackets first, then powers, then products, then sums|the order of the operations decides|what comes first here?|some parts bind more tightly than others|mind the bracket and the square].",
    )


def powers(d: Draw) -> Problem:
    base = d.pick([2, 3, 5, 10, 4, 7])
    m, n, p = d.number(3, 9), d.number(2, 6), d.number(2, 7)
    total = m + n - p
    if not 1 <= total <= (9 if base < 4 else 5):
        p = m + n - d.number(2, 4)

    def solve(at):
        added = at(m + n, m * n, m + n + 1)
        left = at(added - p, added + p, added - p - 1)
        value = F(base) ** left if -3 < left < 12 else F(-7, 9)
        result = at(value, F(base * left), value * base)
        return [
            f"[Same base, so exponents are added in a product|multiplying powers of {base} adds the exponents|in the numerator the exponents add up|the product on top has as many factors as both together]: {m} and {n} [make|give] {added}.",
            f"[Dividing takes {p} away|the division subtracts {p}|{p} factors are cancelled|below stand {p} factors that cancel], [leaving {base}^{left}|so {base}^{left} is left|and we have {base}^{left}].",
            f"[That is|its value is|as a number|written out, this is] {number(result)}.",
        ], result

    multiplied = m * n // p
    wrong, adding = F(base) ** multiplied if multiplied < 14 else F(-7, 9), F(base * m + base * n - base * p)
    return Problem(
        [
            f"[Simplify and work out|Work out|Find the value of] ({base}^{m} * {base}^{n}) / {base}^{p}[.| without multiplying everything out.]",
            f"[What number is|Which number is] {base}^{m} times {base}^{n}, [divided|when divided] by {base}^{p}?",
            f"[There's a rule for powers with the same base|Rules of exponents]: [use it on|apply it to] {base}^{m} * {base}^{n} : {base}^{p}. [Result as a number?|As an ordinary number, please.]",
            f"[A computer counts|Somebody stacks|A game has] {base}^{m} [times|groups of] {base}^{n} [points|items] and shares them among {base}^{p}. [How much is one share?|What is each share?]",
            f"how do you [shorten|simplify] {base} to the {m} times {base} to the {n} over {base} to the {p} [as a number|and what number is it]",
        ],
        F(base) ** (m + n - p),
        solve,
        [
            (
                [
                    f"[Powers that are multiplied have their exponents multiplied|multiply the exponents on top|a product of powers means a product of exponents]: {m} * {n} = {m * n}.",
                    f"[Division divides them|by the same token divide by {p}|and the division makes it a {p}th], [so the exponent is {multiplied}|giving {multiplied}|that leaves {multiplied}][, without a rest|, rounded down|].",
                    f"{base}^{multiplied} [is|equals] {number(wrong)}, [the value|which answers the question|so that is it].",
                ],
                wrong,
            ),
            (
                [
                    f"[A power is base times exponent|read {base}^{m} as {base} times {m}|an exponent tells how many times the base is taken]: {base * m}, {base * n} and {base * p}.",
                    "[The first two are added, the last is taken away|put the first two together and subtract the third|plus for the product, minus for the division].",
                    f"{base * m} + {base * n} - {base * p} = {number(adding)}, [so {number(adding)}|and we are done|which is the result].",
                ],
                adding,
            ),
        ],
        about=f"[All powers have the base {base}|only the exponents need attention|how many factors {base} remain in the end?|count the factors instead of multiplying|{base} is the base everywhere, which makes it short].",
    )


def square_root(d: Draw) -> Problem:
    k, n = d.number(2, 9), d.pick([2, 3, 5, 6, 7, 10, 11])
    j = d.pick([value for value in range(1, 8) if value != k])
    one, two = k * k * n, j * j * n

    def solve(at):
        first, second = at(k, k * k, k + 1), at(j, j * j if j > 1 else 2)
        total = at(first + second, first * second, first + second + 1)
        return [
            *d.shuffled(
                f"[{one} contains the square {k * k}, so sqrt({one}) = {first} sqrt({n})|from sqrt({one}) we can take out {first}: {first} sqrt({n})|{one} = {k * k} * {n}, whose root is {first} sqrt({n})|the root of {one} simplifies to {first} sqrt({n})].",
                f"[sqrt({two}) is {second} sqrt({n})|in the same way, sqrt({two}) becomes {second} sqrt({n})|for {two} = {j * j} * {n} we have {second} sqrt({n})|and {second} sqrt({n}) is what sqrt({two}) amounts to].",
            ),
            f"[Now both are multiples of sqrt({n})|sqrt({n}) is common to both|like terms, since sqrt({n}) is in both|the same root stands in both], [so the factors are added|and {first} and {second} of them are put together|therefore add {first} and {second}].",
            f"[The sum is {total} sqrt({n})|together {total} sqrt({n})|this makes {total} sqrt({n})|we end with {total} sqrt({n})].",
        ], (total, n)

    return Problem(
        [
            f"[Simplify|Write as one root] sqrt({one}) + sqrt({two})[.| as far as possible.]",
            f"[What is|How much is] sqrt({one}) + sqrt({two}) [as a multiple of a single root|in the form a sqrt(b)]?",
            f"[The sides of two squares|Two square fields side by side] have [areas|an area] of {one} and {two} [square metres|m2]. [How long are both sides together|Give the two sides, put end to end,] [exactly|as one root term]?",
            f"[Is sqrt({one}) + sqrt({two}) the same as sqrt({one + two})|Could sqrt({one}) + sqrt({two}) be sqrt({one + two})]? [If not, what is it in simplest form?|What is its simplest form?]",
            f"[add|sum up] the square roots of {one} and {two} [exactly|no decimals], [as short as possible|simplified]",
        ],
        (k + j, n),
        solve,
        [
            (
                [
                    f"[Two roots can be put under one roof|roots are added by adding what is under them|join the radicands]: {one} + {two} = {one + two}.",
                    f"[So it is sqrt({one + two})|this leaves sqrt({one + two})|that gives sqrt({one + two})], [a single root|as one root|one term].",
                    f"[In the wanted form that is 1 sqrt({one + two})|written with a factor, 1 sqrt({one + two})|the factor in front is one: 1 sqrt({one + two})].",
                ],
                (1, one + two),
            ),
            (
                [
                    f"[A square root is half of the number|taking a root halves|roots halve what is under them], [so the two roots|hence the pair] [are|become] {number(F(one, 2))} and {number(F(two, 2))}.",
                    f"[Their sum|added|together] [is|makes] {number(F(one + two, 2))}.",
                    f"[As there is no root left, write 1 for it: {number(F(one + two, 2))} sqrt(1)|in the form with a root, {number(F(one + two, 2))} sqrt(1)|that can be written {number(F(one + two, 2))} sqrt(1)].",
                ],
                (F(one + two, 2), 1),
            ),
        ],
        lambda found: f"{number(found[0])} sqrt({found[1]})",
        anything,
        about=f"[Look for squares inside {one} and {two}|take square factors out of the roots|roots can be added only when they are alike|which square number divides {one}?|both roots hide the same root].",
    )


ALL = (expand, absolute, composition, order_of_operations, powers, square_root)
