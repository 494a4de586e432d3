"""Word problems about amounts that grow and shrink: electricity, a harvest, growth."""

# A line holds one sentence in all its readings, however long.
# fmt: off
from fractions import Fraction as F

from data_generation.mistakes.drawing import Draw, Problem, amount, integer, money, number, whole


def electricity(d: Draw) -> Problem:
    who, m = *d.names(1), money(d)
    device = d.pick(["heater", "oven", "pottery kiln", "washing machine", "pond pump", "air conditioner", "freezer", "server", "sauna"])
    watts, hours, days, price = d.number(200, 2800, 100), d.number(2, 9), d.number(5, 30), d.number(20, 45, 5)

    def solve(at):
        daily = at(watts * hours, watts * hours + 100, watts * (hours - 1))
        total = at(daily * days, daily * days - daily, daily * days + 1000)
        kilowatt = at(F(total, 1000), F(total, 100), F(total, 10000))
        cost = at(kilowatt * price / 100, kilowatt * price / 100 + 1, kilowatt * price / 10)
        return [
            f"[A day takes {watts} x {hours} = {daily} watt-hours|per day the {device} uses {daily} watt-hours|{hours} hours with {watts} watts, that is {daily} watt-hours a day|daily use: {daily} watt-hours].",
            f"[Over {days} days that adds up to {total}|{days} days: {total} watt-hours|{days} times this is {total} watt-hours|in the {days} days it takes {total} of them].",
            f"[A thousand make a kilowatt-hour, so {number(kilowatt)}|divided by 1000: {number(kilowatt)} kilowatt-hours|that is {number(kilowatt)} kWh|the meter shows {number(kilowatt)} kWh for it].",
            f"[{who} pays {m(cost)}|the cost is {m(cost)}|at {m(F(price, 100))} each they cost {m(cost)}|multiplied by the price, {m(cost)}].",
        ], cost

    direct, no_days = F(watts * days * price, 100000), F(watts * hours * price, 100)
    return Problem(
        [
            f"A {device} of {watts} watts [runs|is on] {hours} hours a day. A kilowatt-hour costs {m(F(price, 100))}. What does it cost {who} in {days} days?",
            f"[Is the {device} eating my money?|What does my {device} cost me?|Power bill:] {watts} W, on for {hours} hours [daily|every day], {days} days, {m(F(price, 100))} per kWh. [Please work out the cost.|How much is that?]",
            f"[Meter check|Energy audit], flat of {who}: {device}, {watts} W, {hours} h/day; period {days} days; tariff {m(F(price, 100))}/kWh; [cost|to be paid] ___",
            f"{who} [bought|was given] a {device} that [draws|needs] {watts} watts. [In {days} days with {hours} hours of use each|Used {hours} hours on each of {days} days], how much does its electricity cost at {m(F(price, 100))} a kilowatt-hour?",
            f"'{watts} watts, {who}! And you leave that {device} on {hours} hours a day.' - '[It's only for {days} days|{days} days, then it's over]. What can it cost, at {m(F(price, 100))} the kWh?' [Tell them.|Yes, what?]",
        ],
        F(watts * hours * days * price, 100000),
        solve,
        [
            (
                [
                    f"[The {device} has {watts} watts, that is {number(F(watts, 1000))} kilowatts|{watts} watts are {number(F(watts, 1000))} kilowatts|in kilowatts: {number(F(watts, 1000))}].",
                    f"[For {days} days we multiply by {days}|times {days} days|on for {days} days, so times {days}]: {number(F(watts * days, 1000))}. [The {hours} hours are part of the day already|A day is a day, {hours} hours or not|Hours need not be counted when days are].",
                    f"[Each costs {m(F(price, 100))}, in sum {m(direct)}|at {m(F(price, 100))} this makes {m(direct)}|so {who} pays {m(direct)}].",
                ],
                direct,
            ),
            (
                [
                    f"[{watts} watts for {hours} hours are {watts * hours}|multiply watts and hours: {watts * hours}|power times time, {watts} x {hours} = {watts * hours}].",
                    f"[Each of these units costs {m(F(price, 100))}|the tariff says {m(F(price, 100))} for each|with {m(F(price, 100))} for every one of them], [giving|that is|which makes] {m(no_days)}.",
                    f"[As that is the {device} and not the calendar, the {days} days do not enter|{days} days change nothing in the power of a {device}|whether {days} days or fewer, the power is the same]: {m(no_days)}.",
                ],
                no_days,
            ),
        ],
        amount,
        about=f"[From watts to kilowatt-hours, then to money|energy is power times time|how many kilowatt-hours does the {device} use?|the bill counts kilowatt-hours|use in a day, use in {days} days, price].",
    )


def harvest(d: Draw) -> Problem:
    who, m = *d.names(1), money(d)
    fruit, box = d.pick([("apples", "crates"), ("plums", "baskets"), ("potatoes", "sacks"), ("eggs", "trays"), ("pumpkins", "pallets"), ("walnuts", "bags"), ("tulips", "bunches")])
    count, size, price = d.number(8, 30), d.number(12, 40, 2), d.number(8, 30)
    part = d.pick([(1, 4), (1, 3), (2, 5), (1, 6), (3, 8), (1, 5), (2, 7)])
    count -= count % part[1]
    count = count or part[1] * 2
    eaten = d.number(3, size - 1)

    def solve(at):
        kept = at(F(count * part[0], part[1]), F(count, part[1]) if part[0] > 1 else F(count * 2, part[1]), F(count * part[0], part[1]) + 1)
        sold = at(count - kept, kept, count - kept + 1)
        income = sold * price
        home = at(kept * size, kept * size + 10)
        left = at(home - eaten, home + eaten, home - eaten + 1)
        return [
            f"[{part[0]}/{part[1]} of {count} is {number(kept)}, and so many {box} stay at home|{number(kept)} {box} are kept|divide {count} by {part[1]} and multiply by {part[0]}: {number(kept)} {box} stay|{who} keeps {number(kept)} of the {count} {box}].",
            f"[The other {number(sold)} bring in {m(income)}|{number(sold)} are sold for {m(income)}|with {number(sold)} {box} sold, the market pays {m(income)}|{number(sold)} {box} at {m(price)} make {m(income)}].",
            f"[At home there are {number(home)} {fruit}|the kept ones contain {number(home)} {fruit}|{number(kept)} x {size} = {number(home)} {fruit} remain in the house|in the pantry that is {number(home)} {fruit}].",
            f"[After {eaten} have gone, {number(left)} are left|{eaten} of them go, so {number(left)} remain|less {eaten}: {number(left)} {fruit}|take away {eaten} and {number(left)} {fruit} are still there].",
        ], left

    all_left, few = count * size - eaten, F(size * part[0], part[1]) - eaten
    return Problem(
        [
            f"{who} picks {count} {box} of {fruit} with {size} in each, keeps {part[0]}/{part[1]} of the {box} and sells the rest at {m(price)} each. {eaten} of the {fruit} that were kept are [given to the neighbours|used the same day]. How many {fruit} are left [at home|in the house]?",
            f"[Good year!|Harvest is in!|What a crop:] {count} {box}, {size} {fruit} in every one. [I sold all but {part[0]}/{part[1]} of the {box}|{part[0]}/{part[1]} of the {box} I kept, the rest went to market] ({m(price)} each), and [since then|meanwhile] {eaten} of mine [got eaten|went bad]. How many {fruit} have I got?",
            f"[Stock sheet|Cellar book] of {who}\n{box} brought in: {count} (each {size} {fruit})\nsold: all except {part[0]}/{part[1]}, for {m(price)} a piece\n[taken out|used]: {eaten} {fruit}\n[{fruit} in stock|now in the cellar]: ?",
            f"Of {count} {box} ({size} {fruit} each), a {d.pick(['farmer', 'gardener', 'smallholder'])} [takes|brings] {part[0]}/{part[1]} home. [The others are sold for {m(price)} a piece|What remains sells at {m(price)} a piece]. [At home|There] {eaten} {fruit} are [eaten|cooked]. [Give the number of {fruit} still there.|What number of {fruit} is still there?]",
            f"how many {fruit} does {who} still have, there were {count} {box} with {size} in each, {who} [kept|stored] {part[0]}/{part[1]} of the {box} and [later|then] ate {eaten} of those {fruit}, the other {box} were sold for {m(price)}",
        ],
        F(count * part[0], part[1]) * size - eaten,
        solve,
        [
            (
                [
                    f"[{count} {box} with {size} each are|the harvest is|all in all there are] {count * size} {fruit}.",
                    f"[Now {eaten} are missing|{eaten} {fruit} were used|from these {eaten} are taken], [so it is {all_left}|leaving {all_left}|and we have {all_left}].",
                    f"[What was sold for {m(price)} turned into money and does not count as gone|selling at {m(price)} is a gain and no loss|the {box} sold brought {m(price)} each, which evens out], [therefore {all_left} {fruit}|so {all_left} is right|hence {all_left}].",
                ],
                all_left,
            ),
            (
                [
                    f"[{part[0]}/{part[1]} is taken of the {size} {fruit} in one of the {box}|the fraction {part[0]}/{part[1]} belongs to the {size} {fruit}|take {part[0]}/{part[1]} of {size}]: {number(F(size * part[0], part[1]))}.",
                    f"[As {eaten} were used up|then subtract {eaten}|with {eaten} gone], [this changes to|there are|that becomes] {number(few)}.",
                    f"[So {who} has {number(few)} {fruit}|{number(few)} {fruit} are left|the pantry holds {number(few)}], [the {count} {box} being equal|all {count} {box} looking alike|one of the {box} standing for all].",
                ],
                few,
            ),
        ],
        fits=whole,
        about=f"[Only what stays in the house counts|sold {fruit} are gone|how many {box} stay, and what is in them?|{who} divides the crop into two parts|the price of the {box} is of no use for this question].",
    )


def growth(d: Draw) -> Problem:
    who = d.names(1)[0]
    what, unit = d.pick([("a village", "people"), ("a flock", "sheep"), ("a library", "books"), ("a choir", "singers"), ("a bee yard", "hives"), ("a newsletter", "readers"), ("a forest plot", "trees"), ("a museum", "visitors a month")])
    up, down, size = d.pick([10, 20, 25, 30, 40, 50, 60]), d.pick([5, 10, 20, 25, 30, 40]), d.number(2, 40) * 100

    def solve(at):
        gain = at(F(size * up, 100), F(size * up, 100) + 100, F(up))
        high = at(size + gain, size + gain - 10, size + gain + 100)
        loss = at(high * down / 100, F(size * down, 100), high * down / 100 + 10)
        end = at(high - loss, high + loss)
        return [
            f"[First it grows by {integer(gain)} to {integer(high)}|{up} percent of {size} are {integer(gain)}, so there are {integer(high)}|after the good year: {size} + {integer(gain)} = {integer(high)}|the increase is {integer(gain)}, and that makes {integer(high)}].",
            f"[The decrease refers to the new number: {down} percent of it are {integer(loss)}|now {down} percent of {integer(high)} are lost, that is {integer(loss)}|the next year starts from {integer(high)}, so {integer(loss)} go|{down} percent are to be taken of {integer(high)}, making {integer(loss)}].",
            f"[In the end {integer(end)} {unit}|so {integer(end)} {unit} are left|{integer(high)} - {integer(loss)} = {integer(end)}|{integer(end)} {unit} remain].",
        ], end

    net, reverse = size + F(size * (up - down), 100), F(size * (100 + up) * (100 + down), 10000)
    return Problem(
        [
            f"The number of {unit} of {what} [rises|goes up] by {up} percent in one year and [falls|goes down] by {down} percent in the next. At the beginning it was {size}. What is it after [both years|the two years]?",
            f"[{what.capitalize()} in figures|Annual report, {what}]: start {size} {unit}; year 1 plus {up} %; year 2 minus {down} %. [End of year 2|Figure for the end]: ?",
            f"{who} looks after {what}. [There were {size} {unit}|It had {size} {unit}]; then came a good year with {up} percent more, after that a bad one with {down} percent fewer. [How many now?|What number is that today?]",
            f"'[Plus {up} percent, then minus {down}|First {up} percent up, then {down} percent down], so [that's|we're] {abs(up - down)} percent {'up' if up > down else 'down'},' says {who} about the {size} {unit} of {what}. [Is it? Give the true number at the end.|What is the real number in the end?]",
            f"{size} {unit}, {what}, [one year|first] {up} percent more and [the year after|then] {down} percent less, [how many is that|so how many are there]",
        ],
        F(size * (100 + up) * (100 - down), 10000),
        solve,
        [
            (
                [
                    f"[{up} percent up and {down} percent down|plus {up} and minus {down} percent|the changes are {up} and {down} percent], [together {up} - {down} = {up - down} percent|that is {up - down} percent in all|which leaves {up - down} percent].",
                    f"[Of {size} this is {integer(F(size * (up - down), 100))}|{up - down} percent of {size}: {integer(F(size * (up - down), 100))}|the change in {unit}: {integer(F(size * (up - down), 100))}].",
                    f"[So {what} ends with {integer(net)} {unit}|{integer(net)} {unit} is the number|we arrive at {integer(net)} {unit}], [percentages of the same thing|since percent can be added|both being of one {size}].",
                ],
                net,
            ),
            (
                [
                    "[A change is a change, and every one adds to the number|percentages are added on, year by year|we multiply upwards for each year].",
                    f"[First|after year 1:] {size} x {100 + up} / 100 = {integer(F(size * (100 + up), 100))}, [then times {100 + down} / 100|and once more with {100 + down} / 100|followed by the factor {100 + down} / 100].",
                    f"[The result is {integer(reverse)} {unit}|that gives {integer(reverse)} {unit}|so it is {integer(reverse)} {unit}], [for {what}|in the second year|at the end].",
                ],
                reverse,
            ),
        ],
        integer,
        whole,
        about=f"[Two percentages with different bases|the second year starts from another number|what does {what} have after the first year?|one year after the other|percent of what? That changes from year to year].",
    )


ALL = (electricity, harvest, growth)
