"""Figures in the plane: rectangles, trapezia, circles, right triangles, angles."""

# A line holds one sentence in all its readings, however long.
# fmt: off
import math
from fractions import Fraction as F

from data_generation.mistakes.drawing import Draw, Problem, number


def rectangle(d: Draw) -> Problem:
    what, u = d.pick([("paddock", "m"), ("poster", "cm"), ("pool", "m"), ("carpet", "feet"), ("parking area", "m"), ("picture frame", "inches"), ("vegetable bed", "feet"), ("postage stamp", "mm"), ("national park", "km")])
    width, factor = d.number(4, 30), d.number(2, 6)
    more = d.number(1, 9)
    length = factor * width + more
    around = 2 * (length + width)

    def solve(at):
        half = at(F(around, 2), F(around), F(around, 4))
        parts = at(factor + 1, factor)
        short = at((half - more) / parts, (half + more) / parts, (half - more) / parts + 1)
        long = at(factor * short + more, factor * short, factor * short + more + 1)
        area = at(short * long, short + long, short * long + 10)
        return [
            f"[Length and width together are {number(half)} {u}|half the perimeter, {number(half)} {u}, is one length and one width|once along and once across: {around} / 2 = {number(half)} {u}|{around} {u} is twice the sum of the sides, so the sum is {number(half)}].",
            f"[Taking away the {more}, {parts} widths are {number(half - more)}|without the extra {more} we have {parts} equal widths|{number(half)} minus {more} makes {parts} widths|remove {more} and what is left is {parts} times the width], [so the width is {number(short)} {u}|one of them being {number(short)} {u}|hence {number(short)} {u} for the width].",
            f"[The length: {factor} * {number(short)} + {more} = {number(long)} {u}|then the length is {number(long)} {u}|that makes the longer side {number(long)} {u}|and {number(long)} {u} is the length].",
            f"[Area: {number(short)} * {number(long)} = {number(area)} square {u}|multiplied, {number(area)} square {u}|so the area comes to {number(area)} square {u}|it encloses {number(area)} square {u}].",
        ], area

    square, product = F(around, 4) ** 2, around * factor + more
    return Problem(
        [
            f"A rectangular {what} [is|measures] {around} {u} all round. Its length is {more} {u} more than {factor} times its width. [What is the area|How large is the area][?| in square {u}?]",
            f"[Perimeter of a {what}|Once round a {what}]: {around} {u} (a rectangle). Length = {factor} * width + {more}. [Area?|How large is the area?]",
            f"[I have|There are] {around} {u} of [rope|tape|wire] round a rectangular {what}, and the long side is [{factor} times the short one and {more} {u} on top|{more} {u} longer than {factor} short ones]. [Area inside?|How many square {u} are inside?]",
            f"[The sides of a rectangular {what}|Length and width of a {what}] are unknown, but [once round it is|the way round is] {around} {u}, [and|while] {factor} widths and {more} {u} make one length. [Give the area.|Compute the area.]",
            f"area of a {what} with perimeter {around} {u} [if|when] the length is {factor} times the width plus {more} {u}, [in square {u}|how big]",
        ],
        length * width,
        solve,
        [
            (
                [
                    f"[Four sides share the {around} {u}|the perimeter is divided among four sides|a rectangle has four sides]: {around} / 4 = {number(F(around, 4))} {u}.",
                    f"[The area is that squared|multiply by itself for the area|side times side], [so|this is|making] {number(square)} square {u}.",
                    f"[That one side is {factor} times the other only changes its look, not its size|length and width may differ, the area goes by the perimeter|a longer length means a shorter width, which cancels out].",
                ],
                square,
            ),
            (
                [
                    f"[The area follows the rule given: {factor} times and {more} more|apply the rule to the perimeter|use the rule for length and width on {around}].",
                    f"{around} * {factor} [is|makes|gives] {around * factor}, [plus {more}|and with {more} added|then add {more}]: {product}.",
                    f"[So the {what} has {product} square {u}|the area is {product} square {u}|hence {product} square {u}], [without knowing its sides|no side being needed|straight from what is given].",
                ],
                product,
            ),
        ],
        about=f"[First the sides, then the area|the perimeter gives the sides, the sides give the area|how long are the two sides?|let the width be one part|{around} {u} all round, two sides unknown].",
    )


def trapezium(d: Draw) -> Problem:
    what, u = d.pick([("metal sheet", "cm"), ("piece of cloth", "inches"), ("board", "cm"), ("lawn", "m"), ("garage wall", "feet"), ("side of a ramp", "feet"), ("gable", "m"), ("sail", "m")])
    base, top = d.number(8, 40), d.number(3, 30)
    height, cut = d.number(3, 20), d.number(2, 6)
    if base == top:
        top += 2

    def solve(at):
        sides = at(base + top, base - top, base + top + 1)
        mean = at(F(sides, 2), F(sides))
        area = at(mean * height, mean * height + 10, mean + height)
        rest = at(area - cut * cut, area - 2 * cut, area + cut * cut)
        return [
            f"[The parallel sides have the mean ({base} + {top}) / 2 = {number(mean)}|halfway up it is {number(mean)} {u} wide|half of {base} + {top} is {number(mean)}|on average it is {number(mean)} {u} wide].",
            f"[Times the height of {height}: {number(area)} square {u}|{number(mean)} * {height} = {number(area)}|multiplying by {height} gives {number(area)} square {u}|so the whole area is {number(area)} square {u}].",
            f"[The square of {cut} {u} takes {cut * cut if rest != area - 2 * cut else 2 * cut} away|from it {cut * cut if rest != area - 2 * cut else 2 * cut} square {u} are cut|the hole has {cut * cut if rest != area - 2 * cut else 2 * cut} square {u}|subtract the hole, {cut * cut if rest != area - 2 * cut else 2 * cut}].",
            f"[{number(rest)} square {u} remain|what is left has {number(rest)} square {u}|so {number(rest)} square {u}|this leaves {number(rest)} square {u}].",
        ], rest

    big, product = base * height - cut * cut, F(base * top * height, 2) - cut * cut
    hole = d.pick(["square hole", "square window", "square opening", "square piece"])
    return Problem(
        [
            f"A {what} is a trapezium with parallel sides of {base} {u} and {top} {u}, {height} {u} apart. A {hole} with a side of {cut} {u} is [cut out|missing]. What area is left?",
            f"[Material needed|How much area]: {what}, trapezium, {base} {u} below, {top} {u} above, height {height} {u}, minus a {hole} ({cut} {u} by {cut} {u}). [Square {u}?|Area in square {u}?]",
            f"[I have to paint|We varnish|I'm covering] a {what}: [bottom|lower edge] {base} {u}, [top|upper edge] {top} {u} (parallel), height {height} {u}. A {hole} of {cut} {u} [stays free|is left out]. How many square {u} [is that|do I cover]?",
            f"[Trapezium|Trapezoid]: a = {base} {u}, c = {top} {u}, h = {height} {u}. [From its area, a square|Its area without a square] with side {cut} {u} [is removed|] = ? square {u}",
            f"whats the area of a {what} with two parallel edges {base} and {top} {u} at a distance of {height} {u} [without|not counting] a {hole} {cut} {u} wide",
        ],
        F((base + top) * height, 2) - cut**2,
        solve,
        [
            (
                [
                    f"[Area is base times height|multiply the base and the height|for the area we take the long side and the height]: {base} * {height} = {base * height}.",
                    f"[The upper side, {top}, is inside of that already|the other side is only an edge of it|a shorter side on top has no area of its own].",
                    f"[The hole takes {cut * cut}, so {big} square {u} are left|minus {cut * cut}, this is {big} square {u}|{base * height} - {cut * cut} = {big}, in square {u}].",
                ],
                big,
            ),
            (
                [
                    f"[All three lengths are multiplied and halved|the formula is half the product of the lengths|take half of base times top times height]: {number(F(base * top * height, 2))}.",
                    f"[Without the hole|minus the {cut * cut} of the hole|less {cut * cut}] [it is|this is|we have] {number(product)}.",
                    f"[So the {what} has {number(product)} square {u}|the answer: {number(product)} square {u}|hence {number(product)} square {u}], [the two parallel sides both counting|each length being used once|with nothing left out].",
                ],
                product,
            ),
        ],
        about=f"[Mean of the parallel sides times height|one shape, one hole|how wide is it on average?|a trapezium is as large as a rectangle of its mean width|area of the {what}, then the hole].",
    )


def circle(d: Draw) -> Problem:
    what, u = d.pick([("pizza", "cm"), ("flower bed", "feet"), ("fan", "inches"), ("cheese", "cm"), ("clock face", "cm"), ("cake", "inches"), ("lawn with a sprinkler", "m"), ("pie chart", "mm"), ("radar screen", "km")])
    radius, angle = d.number(3, 24), d.pick([30, 36, 40, 45, 60, 72, 90, 120, 135, 150])
    diameter = d.pick([True, False])

    def solve(at):
        r = at(radius, 2 * radius if diameter else F(radius, 2))
        square = at(r * r, 2 * r)
        part = at(F(angle, 360), F(angle, 180), F(angle, 100))
        area = at(square * part, square * part + 1)
        half = f"[half of {2 * radius} is the radius, {number(r)} {u}|the radius is {number(r)} {u}|from the middle to the edge it is {number(r)} {u}|with a radius of {number(r)} {u}, we begin]."
        return [
            half,
            f"[The whole circle has {number(square)} pi square {u}|pi times {number(r)}^2 is {number(square)} pi|for the full disc we get {number(square)} pi|{number(square)} pi square {u} is the area of the disc].",
            f"[The piece is {number(part * 360)} degrees of 360, that is {part} of it|a share of {part} belongs to it|{angle} degrees mean a fraction of {part}|as a fraction of the circle it is {part}].",
            f"[So its area is {number(area)} pi square {u}|this makes {number(area)} pi square {u}|multiplying, {number(area)} pi square {u}|hence {number(area)} pi square {u}].",
        ], area

    around, degrees = F(2 * radius * angle, 360), F(radius * angle)
    given = f"diameter of {2 * radius} {u}" if diameter else f"radius of {radius} {u}"
    return Problem(
        [
            f"A [slice|sector] of a {what} with a {given} has an angle of {angle} degrees. What is its area, [as a multiple of pi|in terms of pi]?",
            f"[Sector of a circle|Part of a disc]: {given}, angle {angle} degrees. [Area (leave pi in)?|Area in square {u}, with pi as pi.]",
            f"[How large is|What's the area of] the part of a {what} that [has|covers] {angle} degrees, if it has a {given}? [Keep pi.|Write the result with pi.]",
            f"[We cut|Somebody cuts] a {angle} degree piece from a {what} ([its|with a] {given}). [Give its area exactly, with pi.|Exact area, pi not multiplied out?]",
            f"{what}, {given}, [a wedge|one wedge] of {angle} degrees, [area please|how big is it] [with pi|in pi]",
        ],
        F(radius**2 * angle, 360),
        solve,
        [
            (
                [
                    f"[A circle is 2 pi times its radius|the formula is 2 * pi * r|two times the radius times pi]: [{2 * radius} pi|that is {2 * radius} pi|here {2 * radius} pi] [square {u}|as the area].",
                    f"[For {angle} of 360 degrees take {F(angle, 360)} of that|the piece is {F(angle, 360)} of the circle|a share of {F(angle, 360)} belongs to the piece].",
                    f"[So the area is {number(around)} pi square {u}|{number(around)} pi square {u}, then|hence {number(around)} pi square {u}], [going round and across being alike|the edge enclosing it|as asked].",
                ],
                around,
            ),
            (
                [
                    "[The larger the angle and the radius, the larger the piece, so multiply|the area grows with both, radius and angle|radius times angle tells the size].",
                    f"{radius} * {angle} [is|makes|gives] {radius * angle}.",
                    f"[With pi for the round edge: {number(degrees)} pi square {u}|as it is round, {number(degrees)} pi square {u}|so we have {number(degrees)} pi square {u}], [in one step|360 not being needed|straight away].",
                ],
                degrees,
            ),
        ],
        lambda value: f"{number(value)} pi",
        about=f"[A sector is a fraction of the whole disc|whole disc first, then the share|what part of the circle is {angle} degrees?|pi stays as it is|radius, area of the circle, fraction].",
    )


def pythagoras(d: Draw) -> Problem:
    a, b, c = d.pick([(3, 4, 5), (5, 12, 13), (8, 15, 17), (7, 24, 25), (20, 21, 29), (9, 40, 41), (12, 35, 37), (28, 45, 53)])
    k = d.number(1, 6) if c < 30 else d.number(1, 3)
    a, b, c, u = a * k, b * k, c * k, d.pick(["m", "feet", "yards"])
    if d.number(0, 1):
        a, b = b, a
    hidden = d.pick(["leg", "hypotenuse"])

    def solve(at):
        if hidden == "hypotenuse":
            first, second = at(a * a, 2 * a), at(b * b, b * b + 10)
            square = at(first + second, abs(first - second))
        else:
            first, second = at(c * c, 2 * c), at(b * b, b * b - 10)
            square = at(first - second, first + second)
        root = F(round(math.sqrt(max(0, square)) * 10), 10)
        found = at(root, root + 1)
        about = "" if root * root == square else "about "
        word, sign = ("sum", "+") if hidden == "hypotenuse" else ("difference", "-")
        return [
            f"[By Pythagoras we need a {word} of squares|the theorem of Pythagoras gives a {word} of squares|in a right-angled triangle this calls for the {word} of two squares|squares on the sides: the {word} of two of them is the third].",
            f"{c if hidden == 'leg' else a}^2 = {first} [and|, while] {b}^2 = {second}.",
            f"[Their {word} is {square}|{first} {sign} {second} = {square}|this makes {square}|we get {square}].",
            f"[The root of that is {about}{number(found)}, so {number(found)} {u}|taking the root, {about}{number(found)} {u}|so the side measures {about}{number(found)} {u}|hence {about}{number(found)} {u}].",
        ], found

    one, two, want = (a, b, c) if hidden == "hypotenuse" else (c, b, a)
    wrong, mean = (one + two if hidden == "hypotenuse" else one - two), F(one + two, 2)
    scene = (
        [
            f"[Two walls meet at a right angle|Two roads leave a crossroads at a right angle]; one is {one} {u} long, the other {two} {u}. [How far apart are their other ends|What is the distance between the far ends]?",
            f"[What is the diagonal of a rectangle|How long is the diagonal of a rectangle] with sides {one} {u} and {two} {u}[?| exactly?]",
            f"[A drone|A kite|A bird] goes {one} {u} east and then {two} {u} north. [Straight-line distance to the start?|How far is it from the start, in a straight line?]",
        ]
        if hidden == "hypotenuse"
        else [
            f"[A ladder|A plank|A cable] of {one} {u} leans against a wall; its foot is {two} {u} from the wall. [How high does it reach|At what height does it touch the wall]?",
            f"[In a rectangle|On a playing field] the diagonal is {one} {u} and one side {two} {u}. [What is the other side|How long is the other side][?| in {u}?]",
            f"[A string of a kite|A rope from the top of a mast|A guy wire] is {one} {u} long and [ends|is fastened] {two} {u} from the [mast|point below]. [How high is the upper end|Height of the top], everything being straight?",
        ]
    )
    return Problem(
        [
            *scene,
            f"[Right-angled triangle|A triangle with a right angle]: {'legs' if hidden == 'hypotenuse' else 'hypotenuse'} {one} {u} {'and' if hidden == 'hypotenuse' else ', leg'} {two} {u}. [The third side?|Find the third side.]",
            f"[i need the {'longest side' if hidden == 'hypotenuse' else 'missing short side'}|whats the {'long side' if hidden == 'hypotenuse' else 'other short side'}] of a right triangle with {one} {u}{'' if hidden == 'hypotenuse' else ' (the longest)'} and {two} {u}",
        ],
        F(want),
        solve,
        [
            (
                [
                    f"[The sides of a right triangle go together like the sides of any figure|three sides of a triangle are connected by {'adding' if hidden == 'hypotenuse' else 'subtracting'}|for the third side we {'add' if hidden == 'hypotenuse' else 'subtract'}].",
                    f"{one} {'+' if hidden == 'hypotenuse' else '-'} {two} = {wrong}, [and that is the third side|which gives the missing side|so that is its length].",
                    f"[It measures {wrong} {u}|hence {wrong} {u}|answer: {wrong} {u}], [the right angle making it simple|as the angle is a right one|no squares are needed with a right angle].",
                ],
                F(wrong),
            ),
            (
                [
                    "[The third side lies between the other two|a missing side is as long as the others on average|take the mean of the sides that are known].",
                    f"({one} + {two}) / 2 [is|makes|gives] {number(mean)}.",
                    f"[So the side has {number(mean)} {u}|that leads to {number(mean)} {u}|hence {number(mean)} {u}], [not too long and not too short|which closes the triangle|halfway between the two].",
                ],
                mean,
            ),
        ],
        about=f"[There is a right angle, so squares help|draw the triangle and mark the right angle|which side is opposite the right angle?|{one} and {two} are given, one side is missing|a right triangle with two known sides].",
    )


def triangle_angle(d: Draw) -> Problem:
    factor, more = d.number(2, 4), d.number(3, 30)
    total = 180 - more
    while total % (factor + 2) or total // (factor + 2) < 12:
        factor, more = d.number(2, 4), d.number(3, 30)
        total = 180 - more
    small = total // (factor + 2)
    a, b, c = d.pick([("A", "B", "C"), ("P", "Q", "R"), ("X", "Y", "Z"), ("K", "L", "M")])

    def solve(at):
        rest = at(180 - more, 180 + more, 360 - more)
        parts = at(factor + 2, factor + 1, factor + 3)
        first = at(F(rest, parts), F(rest, parts) + 10)
        largest = at(factor * first, factor * first + more, (factor + 1) * first)
        return [
            f"[Call the angle at {a} one part; then {b} is one part and {more} degrees, {c} is {factor} parts|{a}, {b} and {c} are 1 part, 1 part plus {more} degrees, and {factor} parts|in parts of the angle at {a}: {parts} parts and {more} degrees in all|together the three are {parts} times the angle at {a}, and {more} degrees].",
            f"[Without the {more} degrees, {rest} degrees are left for the parts|{rest} degrees remain for {parts} parts|take off {more}: {rest} degrees|subtract {more}, which leaves {rest}].",
            f"[One part is {number(first)} degrees|so {a} has {number(first)} degrees|{rest} / {parts} = {number(first)}, the angle at {a}|dividing by {parts} we find {number(first)} degrees].",
            f"[At {c} there are {number(largest)} degrees|the angle at {c} is {number(largest)} degrees|{factor} times that is {number(largest)} degrees|hence {number(largest)} degrees at {c}].",
        ], largest

    thirds, full = F(180, 3) * factor, F((360 - more) * factor, factor + 2)
    return Problem(
        [
            f"In triangle {a}{b}{c} the angle at {b} is {more} degrees larger than the one at {a}, and the angle at {c} is {factor} times the one at {a}. How large is the angle at {c}?",
            f"[Roof truss|A sail|A triangular garden] with corners {a}, {b}, {c}: [angle {b} = angle {a} + {more} degrees|{b} has {more} degrees more than {a}]; [angle {c} = {factor} * angle {a}|{c} is {factor} times {a}]. [Angle at {c}?|I need the one at {c}.]",
            f"[The angles of a triangle at {a}, {b} and {c} are|A triangle {a}{b}{c} has the angles] t, t + {more} and {factor}t (in degrees). [What is the last one|What does {factor}t come to][?| in degrees?]",
            f"[A triangle {a}{b}{c} has at {c}|At {c}, a triangle {a}{b}{c} has] {factor} times the angle that it has at {a}, [at {b}|and at {b}] {more} degrees more than at {a}. [How big is the one at {c}, in degrees?|State the size at {c}.]",
            f"how many degrees has the angle at {c} if {b} has {more} degrees more than {a} and {c} has {factor} times as many as {a} [its a triangle|in a triangle {a}{b}{c}]",
        ],
        factor * small,
        solve,
        [
            (
                [
                    "[The angles of a triangle are 60 degrees each on average|a triangle shares 180 degrees among three corners, 60 each|180 / 3 = 60, so we start with 60 degrees].",
                    f"[At {c} it is {factor} times as much|{c} gets {factor} of these|the factor {factor} belongs to {c}]: {factor} * 60 = {number(thirds)}.",
                    f"[The angle at {c} has {number(thirds)} degrees|so {number(thirds)} degrees|that is {number(thirds)} degrees at {c}], [the {more} degrees being for {b}|while {b} takes its {more} degrees from elsewhere|leaving {more} degrees for {b}].",
                ],
                thirds,
            ),
            (
                [
                    f"[All angles together are 360 degrees|the sum of the angles, 360 degrees, is known|once round is 360 degrees], [minus {more}|take {more} away|without the {more}]: {360 - more}.",
                    f"[Shared by {factor + 2} parts|in {factor + 2} parts|divided by {factor + 2}], [one is|each has|that is] {number(F(360 - more, factor + 2))} degrees.",
                    f"[{factor} of them, {number(full)} degrees, are at {c}|so {c} has {number(full)} degrees|times {factor}, the angle at {c} is {number(full)} degrees].",
                ],
                full,
            ),
        ],
        about=f"[The three angles add up to 180 degrees|express everything by the angle at {a}|how many parts are there?|180 degrees are shared out unevenly|all depends on the smallest piece, the angle at {a}].",
    )


def polygon(d: Draw) -> Problem:
    sides = d.number(5, 20)
    known = d.number(1, 3)
    total = (sides - 2) * 180
    left = sides - known
    values = [d.number(80, 170) for _ in range(known)]
    while (total - sum(values)) % left:
        values[0] += 1

    def solve(at):
        triangles = at(sides - 2, sides, sides - 1)
        everything = at(triangles * 180, triangles * 180 - 180, triangles * 90)
        rest = at(everything - sum(values), everything - sum(values) + 10)
        each = at(F(rest, left), F(rest, sides))
        return [
            f"[From one corner the figure falls into {triangles} triangles|{sides} corners give {triangles} triangles|cut it into {triangles} triangles|diagonals from one corner make {triangles} triangles], [so its angles sum to {everything} degrees|that is {triangles} * 180 = {everything} degrees|with {everything} degrees in all|hence {everything} degrees altogether].",
            f"[Known are {' + '.join(map(str, values))}{' = ' + str(sum(values)) if known > 1 else ''} degrees, leaving {rest}|take away what is known, {sum(values)}: {rest} degrees|{everything} - {sum(values)} = {rest} degrees for the others|after subtracting {sum(values)}, {rest} degrees remain].",
            f"[Divided by {left}, each has {number(each)} degrees|{left} equal angles share that: {number(each)} degrees|so each of the other {left} is {number(each)} degrees|that is {number(each)} degrees for each of the {left}].",
        ], each

    circle, flat = F(360 - sum(values), left), F(sides * 180 - sum(values), left)
    names = f"{' and '.join(map(str, values))} degrees"
    return Problem(
        [
            f"A polygon has {sides} corners. {known} of its [inner|interior] angles [{'is' if known == 1 else 'are'}|measure{'s' if known == 1 else ''}] {names}, all the others are equal. How large is each of the others?",
            f"[A window|A pond|A courtyard|A coin] in the shape of a {sides}-gon: {known} [inside|inner] angle{'s' * (known > 1)} of {names}, the other {left} the same. [Size of these?|How many degrees has each of those?]",
            f"[Interior angles of a {sides}-sided figure|{sides} sides, {sides} angles]: {', '.join(map(str, values))}, then {left} equal ones. [What is one of these|How large is one of them][?| in degrees?]",
            f"[Is there a formula for|How do I find] the other angles of a {sides}-gon if {names} {'is' if known == 1 else 'are'} given and the [remaining {left}|rest] are alike? [Give one of them.|How big is one?]",
            f"{sides} corners, {known} angle{'s' * (known > 1)} {names}, [the rest equal|others all the same], [what is each|how big are those]",
        ],
        F(total - sum(values), left),
        solve,
        [
            (
                [
                    "[The angles of a polygon add up to a full turn|a closed figure turns once, 360 degrees|once round means 360 degrees in all].",
                    f"360 - {sum(values)} [leaves|is|makes] {360 - sum(values)}.",
                    f"[Divided by the other {left} this gives {number(circle)} degrees|so each of the {left} has {number(circle)} degrees|the others have {number(circle)} degrees each], [whatever the number of corners|as for any figure|since it closes].",
                ],
                circle,
            ),
            (
                [
                    f"[Every corner of a figure has 180 degrees to give|{sides} corners with 180 degrees each|180 degrees for each corner]: {sides} * 180 = {sides * 180}.",
                    f"[Take off the known {sum(values)}|minus {sum(values)}|less the known ones], [which leaves|that is|so] {sides * 180 - sum(values)}.",
                    f"[Shared by {left}, it is {number(flat)} degrees for each|the answer is {number(flat)} degrees|each of the {left} measures {number(flat)} degrees].",
                ],
                flat,
            ),
        ],
        about=f"[How many degrees are there inside in all?|a polygon can be cut into triangles|the sum of the angles depends on the number of corners|{sides} corners, so the sum is fixed|known angles away, the rest shared].",
        fits=lambda value: 0 < value < 360,
    )


ALL = (rectangle, trapezium, circle, pythagoras, triangle_angle, polygon)
