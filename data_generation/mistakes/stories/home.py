"""Word problems about house and garden: recipes, fences, tiles, mixtures, tanks, candles."""

# A line holds one sentence in all its readings, however long.
# fmt: off
from fractions import Fraction as F

from data_generation.mistakes.drawing import Draw, Problem, amount, clock, integer, money, number


def recipe(d: Draw) -> Problem:
    who, dish = *d.names(1), d.pick(["lentil soup", "rice pudding", "vegetable curry", "apple crumble", "fish stew", "pancakes", "barley broth", "semolina cake", "potato salad"])
    one, two = d.several([("flour", 400), ("milk", 300), ("rice", 350), ("lentils", 250), ("potatoes", 800), ("sugar", 120), ("butter", 150), ("carrots", 450)], 2)
    people, guests = d.numbers(2, 3, 20)
    p, q = one[1] + d.number(0, 9) * people, two[1] + d.number(0, 9) * people
    p, q = p - p % people, q - q % people

    def solve(at):
        each = at(F(p, people), F(p, people) + 10)
        first = at(each * guests, each * guests + 100, each * (guests - 1))
        each2 = at(F(q, people), F(q, people) - 1)
        second = at(each2 * guests, each2 * (guests + 1))
        total = at(first + second, first + second - 100, first + second + 10)
        return [
            *d.shuffled(
                f"[{one[0]}: {p} / {people} = {number(each)} g a head, hence {number(first)} g|one person gets {number(each)} g of {one[0]}, {guests} get {number(first)} g|of {one[0]} there are {number(each)} g in a portion, which makes {number(first)} g|a portion contains {number(each)} g of {one[0]}, and {guests} portions {number(first)} g].",
                f"[for {two[0]} the portion is {number(each2)} g and the whole {number(second)} g|{q} g of {two[0]} shared by {people} are {number(each2)} g, times {guests} is {number(second)} g|then {two[0]}, {number(each2)} g each, {number(second)} g in sum|with {number(each2)} g for everybody, {number(second)} g of {two[0]} are used].",
            ),
            f"[Both together weigh {number(total)} g|on the scales: {number(total)} g|{number(first)} + {number(second)} = {number(total)}, in grams|so {who} needs {number(total)} g of the two].",
        ], total

    more = guests - people
    add = p + q + more
    return Problem(
        [
            f"A recipe for {dish} for {people} people [takes|asks for] {p} g of {one[0]} and {q} g of {two[0]}. {who} cooks for {guests}. How many grams of {one[0]} and {two[0]} together [are needed|does {who} weigh out]?",
            f"[Cooking for {guests} on Sunday|{guests} guests tonight|I'm feeding {guests} people]: {dish}. My book has it for {people} ({one[0]} {p} g, {two[0]} {q} g). [What do the two weigh for us|How heavy are both for my number of guests], in grams?",
            f"{dish}, serves {people}:\n- {p} g {one[0]}\n- {q} g {two[0]}\n[Scale to {guests} servings|Wanted: {guests} servings] and [add up the grams|give the total weight of the two].",
            f"'[We'll be {guests}|There are {guests} of us] for {dish}, {who}.' - '[But that's a recipe for {people}|It's written for {people}]! {q} grams of {two[0]}, {p} of {one[0]}.' - '[So weigh out the right amount|Then change it].' [What will the two come to in grams?|Total in grams?]",
            f"how much {one[0]} plus {two[0]} [in grams|(grams)] do i need for {guests} people if {people} people need {p} g and {q} g [for {dish}|in the {dish} recipe]",
        ],
        F((p + q) * guests, people),
        solve,
        [
            (
                [
                    f"[There are {guests} instead of {people}, so the difference is {abs(more)}|{people} people become {guests}, {abs(more)} {'more' if more > 0 else 'fewer'}|the table changes by {abs(more)} people].",
                    f"[The recipe has {p} + {q} = {p + q} g|together the two weigh {p + q} g in the book|in the recipe they make {p + q} g].",
                    f"[{'Add' if more > 0 else 'Take off'} {abs(more)} for them and it is {add} g|with this change of {abs(more)} we have {add} g|so {who} takes {add} g], [gram for gram|one for each|which keeps the {dish} balanced].",
                ],
                add,
            ),
            (
                [
                    f"[{p} g and {q} g are what one person eats|everybody wants {p} g and {q} g|per head the book gives {p} g and {q} g].",
                    f"[That is|a total of|both make] {p + q} g, [and {guests} people need {guests} times as much|to be multiplied by {guests}|taken {guests} times].",
                    f"[So {who} buys {(p + q) * guests} g|{(p + q) * guests} g go into the pot|the answer is {(p + q) * guests} g]; [that it says {people} people is about the size of the pot|the {people} in the recipe only names it|the number {people} is a suggestion].",
                ],
                (p + q) * guests,
            ),
        ],
        about=f"[Go by way of a single portion|first for one person, then for {guests}|what does one person get?|{people} portions are known, {guests} are wanted|{dish} for another number of people: divide, then multiply].",
    )


def fence(d: Draw) -> Problem:
    who, m = *d.names(1), money(d)
    what, along = d.pick([("posts", "a straight fence"), ("lamps", "one side of a path"), ("young trees", "one side of an avenue"), ("flags", "a rope across the yard"), ("bollards", "a quay"), ("rose bushes", "a border")])
    gap, spaces, price = d.number(2, 9), d.number(12, 48), d.number(6, 45)
    length = gap * spaces

    def solve(at):
        fields = at(F(length, gap), F(length, gap) - 1)
        needed = at(fields + 1, fields, fields - 1)
        cost = at(needed * price, needed * price + 10, needed * price - 100)
        return [
            f"[{length} m contain {number(fields)} gaps of {gap} m|the distance is divided into {length} / {gap} = {number(fields)} parts|from one to the next it is {gap} m, which gives {number(fields)} spaces|{number(fields)} spaces of {gap} m fit into {length} m].",
            f"[Both ends get one, so there are {needed} {what}|count the ends: {needed} {what}|with one at the beginning and one at the end that takes {needed} {what}|so {needed} {what} are used from end to end].",
            f"[They cost {m(cost)}|at {m(price)} each, {m(cost)} in all|{needed} x {price} = {cost}, so {m(cost)}|{who} pays {m(cost)} for them].",
        ], cost

    return Problem(
        [
            f"{who} sets up {what} along {along}, {length} m long, one at each end and one every {gap} m. [Each of them costs {m(price)}|They are {m(price)} a piece]. What do they cost [altogether|in all]?",
            f"[For|I'm planning] {along} of {length} m I [want|need] {what} every {gap} metres, [ends included|also at both ends]. One is {m(price)}. [How much do I spend on them?|What will I pay?]",
            f"[Estimate|Quote] no. {d.number(100, 900)}: {what} for {along}; length {length} m; spacing {gap} m; [first and last one at the very ends|starting and ending with one]; unit price {m(price)}. [Sum?|Total price?]",
            f"How much money does {who} need for {what}, {m(price)} each, [if they stand|standing] {gap} m apart along {along} of {length} m [and both ends have one|with one at either end]?",
            f"'One every {gap} metres, {who}, [and don't forget the ends|from end to end]!' '{what}? They're {m(price)} apiece, and [we have {length} metres|it's {length} metres].' [Work out the bill.|So what's the bill?]",
        ],
        (length // gap + 1) * price,
        solve,
        [
            (
                [
                    f"[One for every metre is the rule|every metre needs one|the length says how many], [so there are {length} of the {what}|which means {length} {what}|{length} {what} in all].",
                    f"[Times {m(price)}|each being {m(price)}|with a price of {m(price)}] [that is|we get|it is] {m(length * price)}.",
                    f"[{who} pays {m(length * price)}|so {m(length * price)} is the answer|the bill: {m(length * price)}]; [a spacing of {gap} m is just how it looks|how far apart they stand ({gap} m) is a matter of taste|the {gap} m are for the drill].",
                ],
                length * price,
            ),
            (
                [
                    f"[Length and spacing are multiplied|multiply the {length} m by the {gap} m|every {gap} m over {length} m, that is a product]: {length} x {gap} = {length * gap}.",
                    f"[For both ends add two|two more for the ends|the ends want 2 extra], [so {length * gap + 2} of them|giving {length * gap + 2} {what}|total {length * gap + 2}].",
                    f"[At {m(price)}, the cost is {m((length * gap + 2) * price)}|that costs {m((length * gap + 2) * price)}|hence {m((length * gap + 2) * price)} for {along}].",
                ],
                (length * gap + 2) * price,
            ),
        ],
        amount,
        about=f"[Gaps and {what} are not the same in number|how many {what} stand along {length} m?|count the spaces first|the number of {what} decides the price|it starts with one and ends with one, so be careful when counting].",
    )


def tiles(d: Draw) -> Problem:
    who, m = *d.names(1), money(d)
    room = d.pick(["kitchen", "bathroom", "hall", "balcony", "pantry", "workshop", "laundry room", "porch"])
    side = d.pick([20, 25, 40, 50])
    length, width = F(d.number(200, 600, side), 100), F(d.number(160, 480, side), 100)
    length, width = (F(int(value * 100) // side * side, 100) for value in (length, width))
    spare, price = d.pick([5, 10, 20, 25]), F(d.number(80, 420, 20), 100)

    def solve(at):
        along = at(length * 100 / side, length * 100 / side + 1)
        across = at(width * 100 / side, width * 100 / side - 1)
        count = at(along * across, along * across + 10, 2 * (along + across))
        more = at(count * spare / 100, count * spare / 1000, F(spare))
        total = at(count + more, count - more)
        cost = at(total * price, total * price + 10)
        return [
            f"[Along the length lie {integer(along)} tiles, across {integer(across)}|in one direction {integer(along)} tiles fit, in the other {integer(across)}|the rows have {integer(along)} tiles, and there are {integer(across)} rows|{number(length)} m take {integer(along)} tiles of {side} cm, {number(width)} m take {integer(across)}].",
            f"[This makes {integer(count)} tiles|the floor has {integer(along)} x {integer(across)} = {integer(count)} tiles|so {integer(count)} cover the {room}|multiplied: {integer(count)}].",
            f"[{spare} percent extra are {integer(more)}|for breakage add {integer(more)}|the reserve is {integer(more)} tiles|plus {integer(more)} to be on the safe side], [in sum {integer(total)}|together {integer(total)}|giving {integer(total)} tiles].",
            f"[They cost {m(cost)}|with {m(price)} for each, that is {m(cost)}|the price: {m(cost)}|so the tiles for the {room} cost {m(cost)}].",
        ], cost

    around = (length + width) * 2
    return Problem(
        [
            f"The floor of {who}'s {room} is {number(length)} m long and {number(width)} m wide. It gets square tiles with a side of {side} cm, [{m(price)} each|at {m(price)} a tile], and {spare} percent more are bought in case some break. What do the tiles cost?",
            f"[Tiling my {room}|New floor for the {room}|I want to tile the {room}]: {number(length)} m by {number(width)} m, tiles {side} x {side} cm. [The man in the shop says add|I'd add] {spare}% for breakage. One tile {m(price)}. [Total?|What do I pay?]",
            f"[Job|Order] for {who}:\n{room}, {number(length)} m x {number(width)} m\ntile {side} cm x {side} cm, {m(price)}\nreserve {spare} %\n[cost of tiles|amount] = ?",
            f"What [must be paid|is the price] for square {side} cm tiles at {m(price)} a piece if [they cover|they are to cover] a {room} of {number(length)} m times {number(width)} m, [a reserve of {spare} percent included|and {spare} percent are kept as a reserve]?",
            f"how much is it to tile a {room} {number(width)} m wide and {number(length)} m long, [each tile is|tiles are] {side} by {side} centimetres and {m(price)}, [plus {spare} percent spare ones|and i want {spare} percent more than needed]",
        ],
        length * width * 10000 / side**2 * (100 + spare) / 100 * price,
        solve,
        [
            (
                [
                    f"[The {room} has {number(length)} x {number(width)} = {number(length * width)} square metres|the area is {number(length * width)} square metres|length times width makes {number(length * width)} square metres].",
                    f"[Each square metre takes one tile per centimetre of its side, {side}|a tile of {side} cm means {side} tiles to the square metre|with {side} tiles in each], [{integer(length * width * side)} tiles|so {integer(length * width * side)} tiles|which is {integer(length * width * side)} tiles].",
                    f"[They come to {m(length * width * side * price)}|times {amount(price)}: {m(length * width * side * price)}|{who} pays {m(length * width * side * price)}], [and the {spare} percent are a reserve of the shop|{spare} percent being what the shop keeps back|without the {spare} percent, which are only in case].",
                ],
                length * width * side * price,
            ),
            (
                [
                    f"[Walk once round the {room}|go round the floor|add up all four sides]: {number(around)} m[| of wall].",
                    f"[A tile covers {side} cm of that|every {side} cm comes a tile|divided by {side} cm], [so {integer(around * 100 / side)} tiles|that is {integer(around * 100 / side)} tiles|giving {integer(around * 100 / side)} tiles], [and {spare} percent more|plus {spare} percent|with the {spare} percent on top]: {integer(around * 100 / side * (100 + spare) / 100)}.",
                    f"[At {m(price)} the tiles cost|for which the shop takes|hence the floor costs] {m(around * 100 / side * (100 + spare) / 100 * price)}.",
                ],
                around * 100 / side * (100 + spare) / 100 * price,
            ),
        ],
        amount,
        about=f"[How many tiles are there in a row, and how many rows?|tiles first, money later|let us lay the tiles of {side} cm in rows|the {room} is a rectangle of tiles|number of tiles, then the reserve, then the price].",
    )


def mixture(d: Draw) -> Problem:
    who = d.names(1)[0]
    what, thin = d.pick([("syrup", "sparkling water"), ("vinegar", "water"), ("orange juice", "mineral water"), ("antifreeze", "water"), ("plant food", "rainwater"), ("cleaning fluid", "water"), ("cocoa", "milk")])
    strong = d.pick([20, 30, 40, 45, 50, 60])
    weak, litres = d.pick([p for p in (5, 8, 10, 12, 15, 20, 24, 25) if p < strong]), F(d.number(1, 24), 2)

    def solve(at):
        pure = at(litres * strong / 100, litres * strong / 10, litres * (strong - 10) / 100)
        whole_mix = at(pure * 100 / weak, pure * 100 / weak + 1, pure * 10)
        add = at(whole_mix - litres, whole_mix, whole_mix + litres)
        return [
            f"[The {number(litres)} l contain {number(pure)} l of pure {what}|{strong} percent of {number(litres)} litres are {number(pure)} litres|pure {what}: {number(litres)} x {strong} / 100 = {number(pure)} litres|in {number(litres)} litres at {strong} percent there are {number(pure)} litres of {what}].",
            f"[This amount stays, and is to be {weak} percent of the new mixture|nothing of it is lost; afterwards it should make up {weak} percent|adding {thin} does not change it, it only becomes {weak} percent|the {thin} has none of it, so {number(pure)} litres must be {weak} percent in the end].",
            f"[So the mixture must have {number(whole_mix)} litres|for that {number(whole_mix)} litres are needed in all|the whole is then {number(whole_mix)} litres|{number(pure)} / {weak} x 100 = {number(whole_mix)} litres altogether].",
            f"[Minus what is there: {number(add)} litres of {thin}|{who} adds {number(add)} litres|that means pouring in {number(add)} litres of {thin}|the {thin} to be added is {number(add)} litres].",
        ], add

    difference = litres * (strong - weak) / 100
    half = litres * strong / weak
    return Problem(
        [
            f"{who} has {number(litres)} litres of a mixture with {strong} percent {what}. How much {thin} must be added so that it has {weak} percent?",
            f"[The {what} mix is too strong|Too much {what} in it|My mixture is too strong]: {strong}% instead of {weak}%. [There are {number(litres)} litres of it|I've {number(litres)} litres]. How many litres of {thin} [do I pour in|should go in]?",
            f"[Label:|Instruction on the can:] dilute to {weak} % {what}. [Can|Jug|Bucket]: {number(litres)} l at {strong} %. [Litres of {thin} to add:|{thin} needed:] ?",
            f"[A kitchen|A workshop|A laboratory|A garden centre] keeps {what} at {strong} percent and [uses|needs] it at {weak} percent. [Find the amount of {thin}|How many litres of {thin} are] to be mixed with {number(litres)} litres[.| of the strong one?]",
            f"'{number(litres)} litres at {strong} percent, {who}. [Make it {weak}|We want {weak} percent].' - 'By adding {thin}? [How many litres|How much, in litres]?' [Answer|Help] {who}.",
        ],
        litres * strong / weak - litres,
        solve,
        [
            (
                [
                    f"[The strength has to go down from {strong} to {weak} percent|between {strong} and {weak} percent lie {strong - weak} percent|{strong} - {weak} = {strong - weak}, in percent].",
                    f"[So {strong - weak} percent of {thin} must be added|that much of the {number(litres)} litres is added as {thin}|this is the share of {thin}]: {number(litres)} x {strong - weak} / 100 = {number(difference)}.",
                    f"[{who} pours in {number(difference)} litres|the answer: {number(difference)} litres of {thin}|with {number(difference)} litres it has {weak} percent].",
                ],
                difference,
            ),
            (
                [
                    f"[The mixture is {strong} / {weak} times too strong|{strong} percent is {strong} / {weak} of what we want|compare the strengths: {strong} to {weak}].",
                    f"[For each litre, so many litres of {thin} are added|this is how often {thin} goes in|so take that many times the {number(litres)} litres], [which is|that is|making] {number(half)} [litres|litres of {thin}].",
                    f"[Pour {number(half)} litres of {thin} into the {number(litres)} litres|so {number(half)} litres are to be added|{who} needs {number(half)} litres], [and the mixture is right|and {weak} percent is reached|to be stirred well].",
                ],
                half,
            ),
        ],
        about=f"[The amount of pure {what} does not change|look at the {what} alone|how much {what} is in it, and in what amount is that {weak} percent?|{thin} makes it weaker but takes nothing away|from {strong} to {weak} percent].",
    )


def tank(d: Draw) -> Problem:
    who, vessel = *d.names(1), d.pick(["rain barrel", "paddling pool", "fish pond", "bathtub", "cattle trough", "water tower", "cistern", "hot tub"])
    inflow, leak = d.number(9, 40), d.number(2, 8)
    minutes, present = d.number(12, 90), d.number(20, 200, 10)
    volume = (inflow - leak) * minutes + present

    def solve(at):
        missing = at(volume - present, volume + present, volume)
        gain = at(inflow - leak, inflow + leak, inflow - leak + 1)
        time = at(F(missing, gain), F(missing, gain) + 10)
        needed = f"[there is room for {missing} litres|{volume} - {present} = {missing} litres are still missing|to be filled: {missing} litres|{missing} l have to be added]."
        speed = f"[each minute {inflow} come in and {leak} get lost, which is {gain} more|the level gains {gain} litres a minute|per minute {gain} litres stay in the {vessel}|net inflow: {gain} litres per minute]."
        return [
            *d.shuffled(needed, speed),
            f"[Divide one by the other: {missing} / {gain} = {number(time)}|at that rate it lasts {number(time)} minutes|{missing} litres at {gain} a minute are there after {number(time)} minutes|how often does {gain} go into {missing}? {number(time)} times].",
            f"[So {who} can close the tap after {number(time)} minutes|the {vessel} is full in {number(time)} minutes|{number(time)} minutes, and it runs over|that means waiting for {number(time)} minutes].",
        ], time

    slow, blind = F(volume - present, inflow), F(volume - present, inflow + leak)
    return Problem(
        [
            f"A {vessel} holds {volume} litres and has {present} litres in it. {inflow} litres a minute flow in, but {leak} [leak out|are lost through a crack] every minute. After how many minutes is it full?",
            f"[My {vessel} leaks|There's a crack in my {vessel}|The plug of my {vessel} isn't tight]: {leak} litres gone each minute. The hose gives {inflow} litres a minute. [{present} litres are in|It has {present} l now], full would be {volume}. [How long do I have to wait?|Minutes until full?]",
            f"{who} opens the tap over the {vessel} ([capacity|volume] {volume} l, [contents|water level] {present} l). Tap: {inflow} l/min. [Leak|Drain]: {leak} l/min. [Minutes to fill it?|When does it run over?]",
            f"how many minutes till the {vessel} is full, it [fits|takes] {volume} litres, [{present} are in already|there's {present} in it], {inflow} [coming in|go in] per minute and {leak} [going out|dripping away]",
            f"Every minute, {inflow} litres [run|pour] into {who}'s {vessel} and {leak} litres [escape|run out at the bottom]. [At first|When the clock starts] it contains {present} of its {volume} litres. [State|Determine] the time after which it [is full|overflows].",
        ],
        F(volume - present, inflow - leak),
        solve,
        [
            (
                [
                    f"[{volume} - {present} = {volume - present} litres have to go in|{volume - present} litres are lacking|the {vessel} wants {volume - present} litres more].",
                    f"[With {inflow} a minute|the tap gives {inflow}, so|by {inflow} litres a minute], this [takes|lasts|needs] {number(slow)} minutes.",
                    f"[What leaks away, {leak} litres, has been in already and counts|the {leak} litres that go out were filled in before, so they do not matter|a leak of {leak} litres concerns the floor, not the filling]; [the {vessel} is full after {number(slow)} minutes|{number(slow)} minutes is the answer|so {who} waits {number(slow)} minutes].",
                ],
                slow,
            ),
            (
                [
                    f"[Two streams of water are given, {inflow} and {leak} litres|water moves at {inflow} and at {leak} litres a minute|we have rates of {inflow} and {leak}], [together|in sum|which makes] {inflow + leak} [a minute|litres per minute].",
                    f"[The free space is|there is space for|the rest of the {vessel} is] {volume - present} litres.",
                    f"{volume - present} / {inflow + leak} = {number(blind)}, [so it takes {number(blind)} minutes|and {who} has {number(blind)} minutes|which gives {number(blind)} minutes].",
                ],
                blind,
            ),
        ],
        about=f"[Water comes in and water goes out|how quickly does the level in the {vessel} rise?|wanted are the minutes until nothing more fits in|{who} has a {vessel} that does not hold its water|there is a tap above and a leak below].",
    )


def candle(d: Draw) -> Problem:
    who = d.names(1)[0]
    thing, unit, verb = d.pick([("candle", "mm", "burns down"), ("phone battery", "percent", "drops"), ("icicle", "mm", "shrinks"), ("water level of a pond", "mm", "falls"), ("log pile", "cm", "gets lower"), ("toner of a printer", "percent", "goes down")])
    rate, hours, rest = d.number(3, 9), d.number(4, 10), d.number(10, 40)
    full, later, start = rate * hours + rest, d.number(2, 4), d.number(7 * 60, 11 * 60, 30)
    floor = rest - rate * later if rest - rate * later > 0 else rest

    def solve(at):
        lost = at(full - rest, full + rest, full - rest + 10)
        per = F(lost, hours)
        remaining = at(rest - floor if floor != rest else rest, rest + floor, rest - floor + 1)
        more = at(remaining / per, remaining / per + 1)
        end = at(start + 60 * (hours + more), start + 60 * more)
        return [
            f"[In {hours} hours it goes from {full} to {rest}, a loss of {lost}|{full} - {rest} = {lost} are gone after {hours} hours|{lost} {unit} were lost within {hours} hours|between the two readings lie {hours} hours and {lost} {unit}].",
            f"[That is {number(per)} {unit} an hour|each hour takes {number(per)} {unit}|per hour: {lost} / {hours} = {number(per)}|so the rate is {number(per)} {unit} in an hour].",
            f"[From {rest} {'to ' + str(floor) if floor != rest else 'to nothing'} it is another {remaining}|{remaining} {unit} more have to go|there are {remaining} {unit} still to lose|what is missing now is {remaining} {unit}], [which takes {number(more)} hours|lasting {number(more)} hours|{number(more)} hours at that rate].",
            f"[Then the clock shows {clock(end)}|it will be {clock(end)}|so this happens at {clock(end)}|counted from the start, {clock(end)} is the time].",
        ], end

    truth = start + 60 * (hours + F(rest - floor if floor != rest else rest, F(full - rest, hours)))
    goal = f"{floor} {unit}" if floor != rest else f"0 {unit}"
    half, mixed = start + 60 * hours * 2, start + 60 * hours + (rest - (floor if floor != rest else 0)) * 60
    return Problem(
        [
            f"At {clock(start)} {who}'s {thing} [stands at|measures] {full} {unit}, {hours} hours later {rest} {unit}. It {verb} evenly. At what time is it {goal}?",
            f"[My {thing}|The {thing} here|Our {thing}] {verb} [at a steady rate|steadily|always at the same pace]: {full} {unit} at {clock(start)}, {rest} {unit} at {clock(start + 60 * hours)}. [When will it be at|What time does it reach] {goal}?",
            f"[Readings|Table|Measurements] ({thing}):\n{clock(start)}  {full} {unit}\n{clock(start + 60 * hours)}  {rest} {unit}\n?  {goal}\n[The change is even.|Even change.] [Fill in the time.|Which time belongs there?]",
            f"{who} looks at the {thing} twice: {clock(start)}, {full} {unit}; after another {hours} hours, {rest} {unit}. [If it goes on like that|Supposing nothing changes], [when does {who} read|what does the clock say at] {goal}?",
            f"what time will the {thing} be down to {goal} if [it was|we had] {full} {unit} at {clock(start)} and {rest} {unit} {hours} hours later, [it {verb} evenly|same speed all the time]",
        ],
        truth,
        solve,
        [
            (
                [
                    f"[Up to now it took {hours} hours|the first part lasted {hours} hours|{hours} hours passed between the readings].",
                    f"[What comes next lasts as long as what came before|the second part will be like the first|so another {hours} hours have to pass], [however much of it is left|since it is even|evenness meaning equal times].",
                    f"[So it is {clock(half)} when it reaches {goal}|{clock(start)} plus {2 * hours} hours gives {clock(half)}|at {clock(half)} the {thing} is at {goal}].",
                ],
                half,
            ),
            (
                [
                    f"[An hour takes one {unit.removesuffix('s')}|even change means 1 {unit} an hour|with 1 {unit} lost every hour], [as is usual for such things|to keep it simple|by the table].",
                    f"[{rest} {unit} at {clock(start + 60 * hours)}, so|starting from {rest} at {clock(start + 60 * hours)},|from {clock(start + 60 * hours)} on] [it needs|this takes|we wait] {(mixed - start) // 60 - hours} hours.",
                    f"[The answer is {clock(mixed)}|so {clock(mixed)} is the time|{who} will see {goal} at {clock(mixed)}].",
                ],
                mixed,
            ),
        ],
        clock,
        about=f"[How much does it lose in an hour?|an even change has one rate|two readings fix the rate|from the two readings we get the speed of the change|the {thing} {verb}, always by the same amount in an hour].",
    )


ALL = (recipe, fence, tiles, mixture, tank, candle)
