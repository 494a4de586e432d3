"""Surfaces, volumes, scales; points and lines on a grid."""

# A line holds one sentence in all its readings, however long.
# fmt: off
from fractions import Fraction as F

from data_generation.mistakes.drawing import Draw, Problem, anything, number
from data_generation.mistakes.kinds.terms import signed


def cuboid(d: Draw) -> Problem:
    what, u = d.pick([("gift box", "inches"), ("aquarium", "dm"), ("crate", "feet"), ("concrete block", "m"), ("drawer", "dm"), ("brick of clay", "cm"), ("suitcase", "dm"), ("ice block", "m"), ("jewel case", "cm")])
    x, y, z = d.numbers(3, 2, 15)
    open_top = d.pick([True, False])

    def solve(at):
        bottom, front, side = at(x * y, x + y, x * y + 1), at(x * z, x * z + 10), at(y * z, 2 * y * z)
        twice = at(2 * (bottom + front + side), bottom + front + side, 2 * (bottom + front) + side)
        total = at(twice - bottom, twice - 2 * bottom, twice) if open_top else at(twice, twice + 10)
        faces = d.shuffled(
            f"[{x} * {y} = {bottom}|the bottom has {bottom}|bottom: {bottom}]", f"[{x} * {z} = {front}|the front has {front}|front: {front}]", f"[{y} * {z} = {side}|the side wall has {side}|side: {side}]"
        )
        return [
            f"[Three kinds of faces: |face by face, |the faces, in square {u}: |we need three products. ]{', '.join(faces)}.",
            f"[Each comes twice, making {twice}|two of each kind: {twice} square {u}|doubled, that is {twice}|opposite faces are equal, so {twice} in all].",
            (f"[As the top is open, one of {bottom} is missing: {total}|without a lid only {total} are left|there is no top, so {total}|the open top takes {bottom} off, leaving {total}]." if open_top else f"[Nothing is missing, so {total} it is|the total is {total}|that covers it completely: {total}|closed on all sides, {total}]."),
            f"[The surface measures {total} square {u}|so {total} square {u}|{total} square {u} are needed|this is {total} square {u}].",
        ], total

    volume, edges = x * y * z, 4 * (x + y + z)
    lid = "open at the top" if open_top else "closed on all sides"
    return Problem(
        [
            f"A {what} is {x} {u} long, {y} {u} wide and {z} {u} high and {lid}. [How large is its surface|What is its outer surface][?| in square {u}?]",
            f"[How much paint area|How much foil|How much sheet metal] does a {what} of {x} by {y} by {z} {u} take ({lid})? [Square {u}, please.|Answer in square {u}.]",
            f"[Cuboid|Rectangular box] ({what}): length {x}, width {y}, height {z} ({u}), {lid}. [Surface area?|Find the surface.]",
            f"[I'm gluing|We are building|I want to wrap] a {what}, {lid}: {x} x {y} x {z} {u}. [Which area do all faces have together|What do all its faces add up to], in square {u}?",
            f"surface of a {what} [thats|which is] {lid}, {x} {u} long {y} {u} wide {z} {u} high, [in square {u}|how many square {u}]",
        ],
        2 * (x * y + x * z + y * z) - (x * y if open_top else 0),
        solve,
        [
            (
                [
                    f"[Length, width and height are multiplied|multiply the three edges|a box has length times width times height]: {x} * {y} * {z} = {volume}.",
                    "[This is what the outside measures too|inside and outside have the same number|surface and contents go together].",
                    f"[So its surface is {volume} square {u}|hence {volume} square {u}|{volume} square {u} is the answer], [{'lid or no lid' if open_top else 'all faces included'}|whichever way it stands|with every edge used].",
                ],
                volume,
            ),
            (
                [
                    f"[Add the edges|the three edges add up to {x + y + z}|take the edges together]: {x} + {y} + {z} = {x + y + z}.",
                    f"[There are four of each|each edge is there four times|four edges of every kind], [so times 4|which makes|that is] {edges}.",
                    f"[The surface, bounded by these, is {edges} square {u}|as edges enclose the faces, {edges} square {u}|hence {edges} square {u}].",
                ],
                edges,
            ),
        ],
        about=f"[Faces come in pairs|how many faces are there, and how large?|unfold the {what} in your mind|front and back, left and right, top and bottom|every face is a rectangle].",
    )


def cylinder(d: Draw) -> Problem:
    what, u = d.pick([("tin", "cm"), ("drum", "dm"), ("candle", "cm"), ("water tank", "m"), ("pillar", "feet"), ("roll of hay", "dm"), ("coffee can", "inches"), ("mug", "cm"), ("gas holder", "m")])
    r, h = d.number(2, 15), d.number(3, 30)
    k = d.pick([2, 3, 4, 5])

    def solve(at):
        square = at(r * r, 2 * r, r * h)
        one = at(square * h, square * h + 10, square + h)
        total = at(k * one, (k - 1) * one, k * k * one)
        return [
            f"[The base is a circle: {square} pi square {u}|base: pi * {r}^2 = {square} pi|at the bottom there are {square} pi square {u}|a circle of radius {r} has {square} pi].",
            f"[Times the height, {h}, this is {one} pi|{square} * {h} = {one}, so {one} pi cubic {u}|with a height of {h} {u}, one holds {one} pi|upwards by {h} {u}: {one} pi cubic {u}].",
            f"[For {k} of them: {total} pi cubic {u}|{k} times that makes {total} pi cubic {u}|all {k} together have {total} pi cubic {u}|so the {k} come to {total} pi cubic {u}].",
        ], total

    side, wide = 2 * r * h * k, (2 * r) ** 2 * h * k
    return Problem(
        [
            f"A {what} is a cylinder with radius {r} {u} and height {h} {u}. What is the volume of {k} of them, in terms of pi?",
            f"[How much goes into|What do] {k} cylinders ([each a {what}|{what}]) of radius {r} {u} and height {h} {u} [hold together|]? [With pi, please.|Leave pi in the answer.]",
            f"{k} x {what}\nshape: cylinder\nradius {r} {u}, height {h} {u}\n[total volume|volume of all] = ? pi cubic {u}",
            f"[Someone stacks|We stack|I bought] {k} of these: a {what}, round, [{2 * r} {u} across|diameter {2 * r} {u}] and {h} {u} high. [Volume of all, as a multiple of pi?|Volume of the lot, exactly?]",
            f"volume of {k} [equal|identical] cylinders, each r = {r} {u} h = {h} {u}, [keep the pi|in pi] (its for a {what})",
        ],
        k * h * r**2,
        solve,
        [
            (
                [
                    f"[Round it goes 2 * pi * {r} = {2 * r} pi|the way round is {2 * r} pi {u}|its edge measures {2 * r} pi].",
                    f"[Multiplied by the height, {h}|up to a height of {h}|times {h}], [that fills the {what} with {2 * r * h} pi|one has {2 * r * h} pi|we get {2 * r * h} pi].",
                    f"[{k} of them: {side} pi cubic {u}|so {side} pi cubic {u} for {k}|all {k} have {side} pi cubic {u}], [the wall holding what is inside|wall and contents being the same|since the wall goes all round].",
                ],
                side,
            ),
            (
                [
                    f"[{2 * r} {u} is the width, and area is width squared|square the width, {2 * r}|the width of {2 * r} {u} has to be squared]: {(2 * r) ** 2}.",
                    f"[Pi and the height of {h} make it|with pi and {h} this is|times {h} and pi it becomes] {(2 * r) ** 2 * h} pi.",
                    f"[Hence {k} of them have {wide} pi cubic {u}|times {k}: {wide} pi cubic {u}|the volume is {wide} pi cubic {u} for {k}].",
                ],
                wide,
            ),
        ],
        lambda value: f"{number(value)} pi",
        about=f"[Base times height|what is the base of the {what}?|a cylinder is a stack of circles|circle first, height second, number last|pi may stay in the result].",
    )


def scaling(d: Draw) -> Problem:
    k, size, u = d.pick([F(2), F(3), F(4), F(5), F(3, 2), F(5, 2), F(6)]), d.number(4, 60, 2), d.pick(["cm", "inches"])
    kind = d.pick(["area", "volume"])
    power = 2 if kind == "area" else 3
    what = d.pick(["flag", "photo", "logo", "floor plan"] if kind == "area" else ["model ship", "statue", "chocolate egg", "bronze bell"])
    word = f"{'square' if kind == 'area' else 'cubic'} {u}"

    def solve(at):
        factor = at(k**power, k, k * power, k ** (5 - power))
        large = at(size * factor, size * factor + 10)
        more = at(large - size, large, large - size - 1)
        return [
            f"[{'Both directions grow' if kind == 'area' else 'All three directions grow'} by {number(k)}, so the {kind} grows by {number(factor)}|for the {kind} the factor is {number(factor)}|a length factor of {number(k)} means {number(factor)} for the {kind}|the {kind} is multiplied by {number(factor)}].",
            f"[{size} becomes {number(large)} {word}|the large one has {number(large)} {word}|{size} * {number(factor)} = {number(large)}, in {word}|so it has {number(large)} {word}].",
            f"[That is {number(more)} {word} more|the increase is {number(more)} {word}|the difference: {number(more)} {word}|compared with {size}, {number(more)} {word} are added].",
        ], more

    plain, added = size * k - size, k * power * size
    return Problem(
        [
            f"A {what} has {'an area' if kind == 'area' else 'a volume'} of {size} {word}. A copy has all lengths multiplied by {number(k)}. By how many {word} is the copy larger?",
            f"[Enlarging|Copying|Reproducing] a {what}: every length times {number(k)}. {kind.capitalize()} now {size} {word}. [How much {kind} comes on top|By how much does the {kind} grow], in {word}?",
            f"[If|When] a {what} is [made|drawn|built] {number(k)} times as [long, wide and high|large in every direction], what {kind} is added to its {size} {word}?",
            f"[Scale factor|Factor for lengths]: {number(k)}. [Original|Before]: {what}, {size} {word}. [Extra {kind}|Gain in {kind}]: ?",
            f"how many {word} more does a {what} have [after|when] its lengths grow {number(k)} times, [before|at first] it was {size} {word}",
        ],
        size * k**power - size,
        solve,
        [
            (
                [
                    f"[Everything grows by the factor {number(k)}|{number(k)} times as large means {number(k)} times the {kind}|the {kind} follows the lengths, factor {number(k)}]: {size} * {number(k)} = {number(size * k)}.",
                    f"[Minus what was there before|take off the {size} from before|compared with {size}]: {number(plain)}.",
                    f"[So {number(plain)} {word} more|the gain is {number(plain)} {word}|hence {number(plain)} {word}], [in keeping with the scale|lengths and {kind} changing alike|as the factor says].",
                ],
                plain,
            ),
            (
                [
                    f"[{'Two' if power == 2 else 'Three'} directions with a factor of {number(k)} each add up to {number(k * power)}|the factor counts once for each direction, {number(k * power)} in all|add the factor for each direction: {number(k * power)}].",
                    f"{size} [times|taken] {number(k * power)} [is|makes] {number(added)}.",
                    f"[The copy has {number(added)} {word} more|this is the increase, {number(added)} {word}|so {number(added)} {word} are added].",
                ],
                added,
            ),
        ],
        about=f"[Lengths, areas and volumes grow differently|what does a factor of {number(k)} do to the {kind}?|in how many directions does it grow?|{kind} of the copy minus {kind} of the original|a {what} and its larger copy].",
    )


def line(d: Draw) -> Problem:
    slope = F(d.pick([n for n in range(-6, 7) if n]), d.pick([1, 1, 2]))
    x1, y1, dx = d.number(-6, 6), d.number(-8, 10), d.pick([2, 4, 6, -2])
    x2, y2 = x1 + dx, y1 + slope * dx
    x3 = d.number(8, 20)
    if y2 != int(y2):
        y2 = y1 + slope * 2 * dx
        x2 = x1 + 2 * dx
    y2 = int(y2)

    def solve(at):
        rise, run = at(y2 - y1, y1 - y2, y2 + y1), at(x2 - x1, x2 + x1 or 1)
        m = at(F(rise, run), F(run, rise) if rise else F(run))
        further = at(x3 - x1, x3, x3 + x1)
        y3 = at(y1 + m * further, y1 - m * further)
        return [
            f"[From the first point to the second, {rise} up and {run} across|the change in y is {rise}, in x it is {run}|y changes by {rise} while x changes by {run}|up: {rise}, across: {run}].",
            f"[The slope is {rise} / {signed(run)} = {number(m)}|so the slope is {number(m)}|dividing, we get a slope of {number(m)}|per step to the right that is {number(m)}].",
            f"[To x = {x3} it is {further} more steps|from x = {x1} to x = {x3} there are {further} steps|x = {x3} lies {further} further|going on to {x3} means {further} steps from {x1}].",
            f"[There y = {number(y3)}|hence y = {number(y3)}|we arrive at y = {number(y3)}|starting from {y1}, y = {number(y3)}].",
        ], y3

    ratio, jump = F(y2 * x3, x2) if x2 else F(y2 + x3), F(y2 + x3 - x2)
    return Problem(
        [
            f"A [straight line|line] goes through ({x1}, {y1}) and ({x2}, {y2}). What is y at x = {x3}?",
            f"[Two points of a line|A line by two points]: ({x1}, {y1}) and ({x2}, {y2}). [It also passes through|Third point:] ({x3}, y). [Find y.|What is y?]",
            f"[Measured|In the table]: x = {x1} gives y = {y1}, x = {x2} gives y = {y2}, [and it is linear|on a straight line]. [What does it say for|What belongs to] x = {x3}?",
            f"[For one value of y only|There is just one y for which] the points ({x1}, {y1}), ({x2}, {y2}) and ({x3}, y) [lie on one straight line|stand in a row]. [Which y is it?|Which one?]",
            f"line through ({x1}, {y1}) and ({x2}, {y2}), [y value|height] at x = {x3} [please|?]",
        ],
        y1 + F(y2 - y1, x2 - x1) * (x3 - x1),
        solve,
        [
            (
                [
                    f"[On a line y and x are in proportion|x and y of a line belong together in a fixed ratio|take the ratio of the last point], [{y2} to {signed(x2)}|that is {y2} / {signed(x2)}].",
                    f"[At x = {x3} this means|for {x3} we multiply|so with {x3}] {y2} / {signed(x2)} * {x3}.",
                    f"[So y = {number(ratio)}|hence y = {number(ratio)}|the answer is y = {number(ratio)}], [the first point only showing the direction|by proportion|the other point not being needed].",
                ],
                ratio,
            ),
            (
                [
                    f"[From x = {x2} to x = {x3} there are {x3 - x2}|{x3} is {x3 - x2} beyond {x2}|the distance in x is {x3 - x2}].",
                    "[y goes along by the same amount|on a straight line both change alike|what x gains, y gains].",
                    f"{y2} + {signed(x3 - x2)} = {number(jump)}, [so y = {number(jump)}|and y = {number(jump)}|therefore y = {number(jump)}].",
                ],
                jump,
            ),
        ],
        lambda value: f"y = {number(value)}",
        anything,
        about=f"[A line has one slope everywhere|slope first, then the step to x = {x3}|how much does y change for each x?|two points fix a line|along a line, y changes evenly].",
    )


def midpoint(d: Draw) -> Problem:
    (x1, x2), (y1, y2) = d.numbers(2, -12, 16), d.numbers(2, -12, 16)
    a, b = d.pick([("A", "B"), ("P", "Q"), ("S", "T"), ("U", "V")])

    def solve(at):
        sum_x, sum_y = at(x1 + x2, x2 - x1), at(y1 + y2, y1 - y2)
        mx, my = at(F(sum_x, 2), F(sum_x)), at(F(sum_y, 2), F(sum_y) + 1)
        return [
            *d.shuffled(
                f"[First coordinates: {x1} and {x2} add up to {sum_x}, half of it is {number(mx)}|for x we have ({x1} + {signed(x2)}) / 2 = {number(mx)}|halfway between {x1} and {x2} lies {number(mx)}|x of the middle is {number(mx)}, half of {sum_x}].",
                f"[Second coordinates: {y1} and {y2} add up to {sum_y}, half of it is {number(my)}|for y we have ({y1} + {signed(y2)}) / 2 = {number(my)}|halfway between {y1} and {y2} lies {number(my)}|y of the middle is {number(my)}, half of {sum_y}].",
            ),
            f"[So the middle is at ({number(mx)}, {number(my)})|the point is ({number(mx)}, {number(my)})|hence ({number(mx)}, {number(my)})|we end up at ({number(mx)}, {number(my)})], [as far from {a} as from {b}|on the segment from {a} to {b}|].",
        ], (mx, my)

    gap, crossed = (F(x2 - x1, 2), F(y2 - y1, 2)), (F(x1 + y1, 2), F(x2 + y2, 2))
    thing = d.pick(["a bench", "a well", "a lamp", "a bridge", "a stop", "a first-aid post"])
    return Problem(
        [
            f"[Find|Calculate] the midpoint of the segment from {a}({x1}, {y1}) to {b}({x2}, {y2}).",
            f"On a grid, {a} is at ({x1}, {y1}) and {b} at ({x2}, {y2}). {thing} [is put|stands] exactly halfway. [What are its coordinates|At which point is that]?",
            f"[Where is the centre of a circle|Which point is the centre of a circle] that has the segment {a}{b} as a diameter, {a} = ({x1}, {y1}), {b} = ({x2}, {y2})?",
            f"[A ship sails|A drone flies] from ({x1}, {y1}) [to its harbour|to its goal] at ({x2}, {y2}), {a} and {b} on the chart. [At which point is half of the way?|Where is it after half of the way?]",
            f"middle between {a}({x1}, {y1}) and {b}({x2}, {y2}) [i mean the point in between|please], [both coordinates|x and y]",
        ],
        (F(x1 + x2, 2), F(y1 + y2, 2)),
        solve,
        [
            (
                [
                    f"[The middle is half of the difference|take half the distance in each direction|the way from {a} to {b} is halved].",
                    f"[Across:|In x:|First coordinate:] ({x2} - {signed(x1)}) / 2 = {number(gap[0])}. [Up:|In y:|Second coordinate:] ({y2} - {signed(y1)}) / 2 = {number(gap[1])}.",
                    f"[That puts the middle at ({number(gap[0])}, {number(gap[1])})|so we have ({number(gap[0])}, {number(gap[1])})|the point is ({number(gap[0])}, {number(gap[1])})], [half of the way|being half the way from {a}|in both directions].",
                ],
                gap,
            ),
            (
                [
                    "[Each point has a middle of its own|take the mean of every point's coordinates|average the two numbers of each point].",
                    f"[For {a}:|{a} gives] ({x1} + {signed(y1)}) / 2 = {number(crossed[0])}. [For {b}:|{b} gives] ({x2} + {signed(y2)}) / 2 = {number(crossed[1])}.",
                    f"[The two make the point ({number(crossed[0])}, {number(crossed[1])})|so the middle is ({number(crossed[0])}, {number(crossed[1])})|together ({number(crossed[0])}, {number(crossed[1])})], [one number from each|one for {a} and one for {b}|with both points represented].",
                ],
                crossed,
            ),
        ],
        lambda point: f"({number(point[0])}, {number(point[1])})",
        anything,
        about="[The middle is the mean of the ends|each coordinate by itself|where is halfway, across and upwards?|x with x, y with y|two means give one point].",
    )


ALL = (cuboid, cylinder, scaling, line, midpoint)
