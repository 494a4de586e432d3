"""Word problems about paying: change, discounts, packs, tickets, fuel, tips."""

# A line holds one sentence in all its readings, however long.
# fmt: off
from fractions import Fraction as F

from data_generation.mistakes.drawing import Draw, Problem, amount, money, number, whole

GOODS = (
    "exercise books|light bulbs|packets of seeds|bars of soap|jars of honey|tins of paint|balls of wool|cinnamon buns|postcards|"
    "bicycle tubes|candles|boxes of tea|rolls of tape|tennis balls|flower pots|bags of rice|paint brushes|lemons"
).split("|")


def change(d: Draw) -> Problem:
    who, m = *d.names(1), money(d)
    (one, other), (n, k) = d.several(GOODS, 2), d.numbers(2, 3, 9)
    p, q = (F(price, 100) for price in d.numbers(2, 125, 900, 25))
    note = next(value for value in (20, 50, 100, 200) if value > n * p + k * q)

    def solve(at):
        a = at(n * p, (n - 1) * p, n * p + 1)
        b = at(k * q, (k + 1) * q, k * q - F(1, 2))
        total = at(a + b, a + b - 1, a + b + 10)
        back = at(note - total, note - total + 1, note - total + 10)
        first = f"[{n} {one} at {m(p)} come to {m(a)}|the {one} are {n} x {amount(p)} = {amount(a)}|for the {one}, {m(p)} taken {n} times makes {m(a)}|start with {one}: {n} of them, {m(p)} each, {m(a)}]."
        second = f"[the {other} cost {k} x {amount(q)} = {amount(b)}|{k} times {m(q)} is {m(b)}, which pays for the {other}|then {other}, {k} at {m(q)}: {m(b)}|add {m(b)} for {k} {other}]."
        return [
            *d.shuffled(first, second),
            f"[Both together: {amount(a)} + {amount(b)} = {amount(total)}|that makes a bill of {m(total)}|so the till shows {m(total)}|in all {m(total)} is owed].",
            f"[From {m(note)}, {m(back)} is left|{amount(note)} - {amount(total)} = {amount(back)}, so {m(back)} comes back|the change out of {m(note)} is {m(back)}|hand over {m(note)} and you are given {m(back)}] [in return||, coins included|].",
        ], back

    return Problem(
        [
            f"{who} buys {n} {one} at {m(p)} each and {k} {other} at {m(q)} each, and pays with {m(note)}. How much [change is due|comes back]?",
            f"[Receipt, half unreadable:|Till slip from Saturday:|From a crumpled receipt:] {n} {one}, {m(p)} apiece; {k} {other}, {m(q)} apiece; cash {m(note)}. What should [the change line say|stand under 'change']?",
            f"i gave the [cashier|man at the till|shopkeeper] {m(note)} for {k} {other} ({m(q)} each) plus {n} {one} ({m(p)} each), what do i get back?",
            f"[My list|Bought today|Shopping]:\n- {n} {one}, {m(p)} each\n- {k} {other}, {m(q)} each\n[{who} paid {m(note)}. Change?|I handed over {m(note)}. How much do I get back?]",
            f"[At the corner shop|In the market|On a school trip] {who} has {m(note)}. After taking {k} {other} for {m(q)} a piece and {n} {one} for {m(p)} a piece, how much money [remains|is left in the purse]?",
        ],
        note - (n * p + k * q),
        solve,
        [
            (
                [
                    f"[The prices are {m(p)} and {m(q)}|two prices are given, {m(p)} and {m(q)}|we need the prices first: {m(p)} for {one}, {m(q)} for {other}].",
                    f"[Added up they make {m(p + q)}|their sum is {amount(p)} + {amount(q)} = {amount(p + q)}|together this is {m(p + q)}], [and that is the bill|which is what {who} owes|the cost of the purchase].",
                    f"[Taking it from {m(note)} leaves {m(note - p - q)}|{amount(note)} - {amount(p + q)} = {amount(note - p - q)}|so out of {m(note)} there remains {m(note - p - q)}], [the change|to be handed back|and this goes back into the purse].",
                ],
                note - p - q,
            ),
            (
                [
                    f"[Count the articles|how many things are there]: {n} + {k} = {n + k}.",
                    f"[At {m(q)} a piece|each costs {m(q)}, so|multiply by the price of {m(q)}:] that [is|makes|gives] {m((n + k) * q)}.",
                    f"[The note is worth {m(note)}, so|paid was {m(note)};|out of {m(note)}] the difference, {m(abs(note - (n + k) * q))}, [is the change|is what comes back|has to be returned to {who}].",
                ],
                abs(note - (n + k) * q),
            ),
        ],
        amount,
        about=f"[Two things are bought, so there are two products and a difference|the bill first, the change afterwards|wanted: what the till gives back to {who}|let us write the bill line by line|this asks for money coming back, so the bill is taken from the note].",
    )


def discount(d: Draw) -> Problem:
    who, m = *d.names(1), money(d)
    thing = d.pick(["winter coat", "desk lamp", "tent", "guitar", "pair of boots", "food mixer", "suitcase", "sewing machine", "printer", "rug", "bicycle helmet", "telescope"])
    price, percent, coupon = d.number(60, 480, 20), d.number(10, 45, 5), d.number(4, 18)

    def solve(at):
        off = at(F(price * percent, 100), F(price * percent, 100) + 10, F(price * (percent - 5), 100))
        sale = at(price - off, price - off + 10, price - off - 1)
        paid = at(sale - coupon, sale + coupon, sale - coupon + 1)
        return [
            f"[{percent} percent of {m(price)} is {m(off)}|the reduction is {percent}/100 of {m(price)}, {m(off)}|one hundredth of {m(price)} is {m(F(price, 100))}; {percent} of these are {m(off)}|taking {percent} percent of {amount(price)} gives {amount(off)}].",
            f"[That brings the {thing} down to {m(sale)}|what is left of the price is {amount(price)} - {amount(off)} = {amount(sale)}|after the sale sign, the {thing} stands at {m(sale)}|so the reduced price is {m(sale)}].",
            f"[Then the voucher is used|now take off the voucher of {m(coupon)}|the voucher is worth {m(coupon)} more|the {m(coupon)} voucher comes last, on the reduced price].",
            f"[{who} pays {m(paid)}|this leaves {m(paid)} to pay|the till asks for {m(paid)}|the amount due is {m(paid)}|all in all the {thing} costs {m(paid)}].",
        ], paid

    return Problem(
        [
            f"A {thing} [costs|is priced at] {m(price)}. In the sale it is {percent} percent off, and after that {who} uses a voucher for {m(coupon)}. What does {who} pay?",
            f"[Hi!|Hello,|Quick one:] the {thing} I [want|have my eye on] was {m(price)}, now minus {percent}%. I also [have|got for my birthday] a voucher worth {m(coupon)}, [taken off at the end|which comes off last]. [How much money should I bring?|What's left to pay?]",
            f"Shop assistant: '[It's {percent} percent off all marked prices today|Everything in the window is down by {percent} percent].'\n{who}: '[So this {thing}, marked {m(price)}, and I have a {m(coupon)} voucher for afterwards|The {thing} says {m(price)}. Can I use {m(coupon)} of vouchers on the new price]...'\n[What will the till say?|Finish the assistant's sum.]",
            f"after a {percent} percent [cut|markdown] on a {thing} ([before: {m(price)}|used to be {m(price)}]) {who} [hands in|also redeems] a [gift card|coupon] of {m(coupon)}, [what does the {thing} come to in the end|how much cash is still needed]",
            f"Marked price {m(price)}; reduction {percent} %; voucher {m(coupon)}, deducted [after the reduction|from the reduced price]. Please [calculate|compute|determine] the [final price|sum to be paid] of the {thing}.",
        ],
        F(price * (100 - percent), 100) - coupon,
        solve,
        [
            (
                [
                    f"[The sign says {percent} percent|{percent} percent means {percent} off|a reduction of {percent} percent takes away {percent}], so [take {percent} from the price|subtract {percent} first|the price drops by {percent}]: {price} - {percent} = {price - percent}.",
                    f"[The voucher does the same with {coupon}|next the voucher, {coupon}|with the voucher we lose another {coupon}]: {price - percent} - {coupon} = {price - percent - coupon}.",
                    f"[{who} has to pay {m(price - percent - coupon)}|so the {thing} is {m(price - percent - coupon)}|that leaves {m(price - percent - coupon)} for the {thing}|the purse gets lighter by {m(price - percent - coupon)}].",
                ],
                price - percent - coupon,
            ),
            (
                [
                    f"[Reduction and voucher can be added|put both deductions together|first combine what is taken off]: {percent} + {coupon} = {percent + coupon}, so [the whole deduction is {percent + coupon} percent|we are dealing with {percent + coupon} percent off].",
                    f"[Of {m(price)} that is|{percent + coupon} percent of {amount(price)} is|this comes to] {amount(F(price * (percent + coupon), 100))}.",
                    f"[What remains is|the rest is|now subtract:] {amount(price)} - {amount(F(price * (percent + coupon), 100))} = {amount(F(price * (100 - percent - coupon), 100))}, [the final price|and {who} pays it|which is due at the till].",
                ],
                F(price * (100 - percent - coupon), 100),
            ),
            (
                [
                    f"[The price of the {thing} is {m(price)}, and a sale changes it by {percent} percent|we have to work with {percent} percent of {m(price)}|a price of {m(price)} and {percent} percent are given].",
                    f"{percent} percent of it [is|makes|equals] {amount(F(price * percent, 100))}, [and adding this gives|which goes on top:|so together with the price itself we get] {amount(F(price * (100 + percent), 100))}.",
                    f"[Minus the voucher|the voucher lowers this|less {m(coupon)} for the voucher], [{who} needs {m(F(price * (100 + percent), 100) - coupon)}|the amount to pay is {m(F(price * (100 + percent), 100) - coupon)}].",
                ],
                F(price * (100 + percent), 100) - coupon,
            ),
        ],
        amount,
        about=f"[The order matters here: percentage first, voucher second|what does the {thing} cost in the end?|{who} gets two reductions, one after the other|we start with the marked price of {m(price)}|on the label there is {m(price)}].",
    )


def packs(d: Draw) -> Problem:
    who, m = *d.names(1), money(d)
    thing, event = d.pick([("paper plates", "a street party"), ("folding chairs", "an open-air concert"), ("bread rolls", "the harvest lunch"), ("name badges", "a conference"), ("lanterns", "the summer parade"), ("oranges", "a sports day"), ("bottles of water", "the charity run"), ("pencils", "an entrance test")])
    size, guests, price = d.number(6, 24), d.number(45, 230), d.number(3, 14)
    spare = d.number(4, 20)
    if (guests + spare) % size == 0:
        spare += 1

    def solve(at):
        need = at(guests + spare, guests - spare, guests + spare + 10)
        full = at(int(need) // size, int(need) // size - 1)
        bought = at(full + 1, full)
        cost = at(bought * price, bought * price + 10, (bought - 1) * price)
        return [
            f"[{who} needs {guests} + {spare} = {need} {thing}|with the reserve, {need} {thing} are wanted|{guests} guests and {spare} to spare: {need}|first the number of {thing}: {need}, reserve included].",
            f"[{full} packs hold {full * size}, which is not [yet enough|quite what we want]|{need} divided by {size} is {full} and something over|{size} goes into {need} {full} times, with some left|dividing {need} among packs of {size} fills {full} of them].",
            f"[So {bought} packs have to be bought|packs are sold whole, so take {bought}|that means {bought} packs|{who} must order {bought} packs].",
            f"[At {m(price)} a pack this costs {m(cost)}|{bought} x {price} = {cost}, so the bill is {m(cost)}|the price of these is {bought} times {m(price)}, {m(cost)}|multiply by {m(price)}: {m(cost)}].",
        ], cost

    total = guests + spare
    return Problem(
        [
            f"For {event}, {who} wants {thing}, one for each of the {guests} guests [and {spare} in reserve|plus a reserve of {spare}]. [They come in packs of {size} for {m(price)} a pack|A pack of {size} sells at {m(price)}]. [What will they cost|How much is that]?",
            f"[Please help me budget|Can you check my budget|Money question]: {guests} people are coming to {event}. [Everybody gets one of the {thing}, and I'd like {spare} extra|I want {thing} for everyone, {spare} extra in case]. [A pack ({size} in it) costs {m(price)}|{m(price)} buys a pack with {size} in it]. How much [money do I need|will I spend]?",
            f"'[How many {thing} do we need|Shall we order the {thing}]?' - '{guests} guests, one each, and let's have {spare} [more|over].' - '[They're {m(price)} for {size}|{size} to a pack, {m(price)} the pack], no [broken|half] packs.' [What does {event} spend on them?|What's the bill?]",
            f"[ORDER FORM|Note to the treasurer|Planning sheet]\nItem: {thing}\nGuests: {guests}, one each\nReserve: {spare}\nPack of {size}: {m(price)}\nTotal price: ? (only whole packs)",
            f"{thing} are sold [only|] by the pack: {size} for {m(price)}. {who}, who [runs|organises|is in charge of] {event}, counts {guests} guests and [would like|insists on] {spare} spare ones. [What does the cheapest order cost?|Find the price of the order.]",
        ],
        -(-total // size) * price,
        solve,
        [
            (
                [
                    f"[Every guest costs {m(price)}, since that is the price|the price is {m(price)}, and there are {guests} guests|one guest, one price: {m(price)}].",
                    f"{guests} x {price} = {guests * price}, [and the reserve adds|with another|plus] {spare} [for the spare ones|in reserve|on top].",
                    f"[The order comes to {m(guests * price + spare)}|so {who} should set aside {m(guests * price + spare)}|hence the {thing} cost {m(guests * price + spare)}]; [the size of the pack, {size}, makes no difference|how many are in a pack is not needed].",
                ],
                guests * price + spare,
            ),
            (
                [
                    f"[A pack has {size} and costs {m(price)}|look at the pack: {size} pieces, {m(price)}|pack size {size}, pack price {m(price)}], so [one piece costs|each comes to|multiplying gives] {size} x {price} = {size * price}.",
                    f"[The reserve of {spare} is a matter of one more pack|for {spare} spare ones, we count {spare} packs|the {spare} extra are {spare} packs].",
                    f"[Altogether|in sum|this makes] {size * price} + {spare * price} = {size * price + spare * price}, so {m(size * price + spare * price)} [is the price for {event}|is what {who} will pay|will do, however many guests come].",
                ],
                (size + spare) * price,
            ),
        ],
        amount,
        about=f"[The {thing} have to reach for everybody|packs cannot be split, that is the point|{event}, as a sum|it asks for the price of the order|let us see what has to be on the table at {event}].",
    )


def tickets(d: Draw) -> Problem:
    who, m = *d.names(1), money(d)
    place = d.pick(["puppet theatre", "open-air cinema", "aquarium", "village circus", "ice rink", "planetarium", "steam railway", "swimming pool", "miniature golf course", "castle"])
    adult, child = d.number(11, 24), d.number(4, 9)
    grown, small = d.numbers(2, 14, 95)
    heads, income = grown + small, grown * adult + small * child

    def solve(at):
        cheap = at(heads * child, heads * child + 10, heads * child - 100)
        extra = at(income - cheap, income - cheap + 10)
        gap = at(adult - child, adult + child, adult - child + 1)
        found = at(F(extra, gap), F(extra, gap) - 1, F(extra, gap) + 10)
        return [
            f"[Suppose everybody had been a child|if only children had come|imagine {heads} children and no adults]: [{heads} x {child} = {cheap}|the box office would hold {m(cheap)}|{m(cheap)} would have been taken].",
            f"[In fact {m(extra)} more came in|there is {m(extra)} too much for that|the real takings are higher by {income} - {cheap} = {extra}|the difference to {m(income)} is {m(extra)}].",
            f"[Each adult brings {m(gap)} more than a child|swapping one child for one adult adds {m(gap)}|an adult pays {m(gap)} on top of a child's ticket|between the two prices lie {m(gap)}].",
            f"[So there were {number(found)} adults|{extra} divided by {gap} is {number(found)}, the number of adults|that takes {number(found)} adults|{number(found)} of the visitors must have been adults].",
        ], found

    return Problem(
        [
            f"The {place} charges {m(adult)} for adults and {m(child)} for children. [On Sunday|Yesterday|On the first day] {heads} visitors paid {m(income)} in all. How many of them were adults?",
            f"[My nephew brought this home from school|Puzzle from the paper|My daughter can't do this one]: [{heads} tickets to the {place}, together {m(income)}|a {place} sold {heads} tickets and took {m(income)}]. [Children {m(child)}, grown-ups {m(adult)}|Grown-ups paid {m(adult)}, children {m(child)}]. How many grown-ups [went in|were there]?",
            f"[Entry to the {place}|A {place} ticket] is {m(child)} for a child, {m(adult)} for anyone older. [A coach party of {heads}|{heads} people from {who}'s firm] [spent|paid] {m(income)} at the gate. [Find|State] how many in the party [were adults|paid the full price].",
            f"Cash report, {place}: {heads} admissions, takings {m(income)}. The [counter for adult tickets|turnstile for adults] was broken. Prices: adult {m(adult)}, child {m(child)}. [Reconstruct|Give] the number of adult tickets.",
            f"{who}: 'We had {heads} people at the {place} today!'\n[Boss|Manager]: 'And {m(income)} in the till, at {m(adult)} an adult and {m(child)} a child. So how many adults was that?'\nWhat should {who} answer?",
        ],
        grown,
        solve,
        [
            (
                [
                    f"[Divide the takings by the adult price|the adults pay {m(adult)}, so we need a division|how often does the adult price go into the takings]: {income} / {adult}, [which is about {income // adult}|roughly {income // adult}|and dropping the rest, {income // adult}].",
                    f"[So about {income // adult} adults came|this gives {income // adult} adults|{income // adult} adults were there], [and the remaining visitors are the children|since only adults bring in the {m(adult)}|the others among the {heads} being children].",
                    f"[The children's price need not be used|{m(child)} is only there to confuse|children have no influence on this figure].",
                ],
                income // adult,
            ),
            (
                [
                    f"[The two prices add up to {adult} + {child} = {adult + child}|an adult and a child together pay {m(adult + child)}|put adult and child into a pair that costs {m(adult + child)}].",
                    f"[In {m(income)} there are {income // (adult + child)} such pairs, more or less|{income} divided by {adult + child} is close to {income // (adult + child)}|dividing the {m(income)} by it leaves roughly {income // (adult + child)} pairs].",
                    f"[Each pair has one adult in it|one of each pair is grown up|so half of everybody is an adult], [hence {income // (adult + child)} adults visited the {place}|and there were {income // (adult + child)} adults|which makes {income // (adult + child)} adult tickets].",
                ],
                income // (adult + child),
            ),
        ],
        number,
        whole,
        about=f"[Two kinds of tickets, one sum of money|the number of heads and the money are known|we want to separate grown-ups from children|here is a way without equations|a {place} and its till: how were the {heads} people mixed?].",
    )


def fuel(d: Draw) -> Problem:
    who, m = *d.names(1), money(d)
    car, goal = d.pick(["van", "estate car", "camper", "minibus", "old diesel", "pickup"]), d.pick(["the coast", "her sister's farm", "a trade fair", "the mountains", "the ferry port", "a wedding in the south"])
    use, price, way = F(d.number(50, 120, 5), 10), F(d.number(140, 220, 5), 100), d.number(120, 640, 20)

    def solve(at):
        whole_way = at(2 * way, way, 2 * way + 20)
        litres = at(use * whole_way / 100, use * whole_way / 100 + 1, use * (whole_way - 100) / 100)
        cost = at(litres * price, litres * price + 10, litres * price - 1)
        return [
            f"[There and back is {whole_way} km|the round trip measures {whole_way} km|counting the way home, the {car} covers {whole_way} km|both directions together: {whole_way} km].",
            f"[That is {number(F(whole_way, 100))} times a hundred kilometres|{whole_way} km are {number(F(whole_way, 100))} hundreds|in hundreds of kilometres we have {number(F(whole_way, 100))}], [so {number(litres)} litres are burnt|which takes {number(litres)} litres at {number(use)} each|and the tank gives up {number(litres)} litres].",
            f"[Litres times price: {m(cost)}|at {m(price)} a litre that is {m(cost)}|the pump will show {m(cost)} for it|paying {m(price)} for each of them makes {m(cost)}].",
            f"[{who} should plan for {m(cost)}|so the drive costs {m(cost)} in fuel|fuel for both ways: {m(cost)}|].",
        ], cost

    return Problem(
        [
            f"{who}'s {car} [uses|burns|needs] {number(use)} litres per 100 km. [Fuel is {m(price)} a litre|A litre of fuel costs {m(price)}]. What does [a trip to {goal}, {way} km away, and back cost in fuel|the fuel for going {way} km to {goal} and home again cost]?",
            f"[We want to drive|We're off|The plan is to go] to {goal} next [weekend|month|summer] - {way} km one way, [and home again the same road|same distance coming home]. [Car: {car}, {number(use)} l/100 km|The {car} takes {number(use)} l/100 km]. Petrol: {m(price)}/l. [What do I put down for petrol?|Fuel budget?]",
            f"[Expense claim of {who}:|Travel costs, {who}]\n[vehicle|car]: {car} ({number(use)} litres [per hundred kilometres|a hundred])\n[route|destination]: {goal}, {way} km each way, return trip\n[fuel price|litre price]: {m(price)}\n[amount claimed|to be refunded]: ___",
            f"how much [is petrol gonna|will the diesel|does fuel] cost me [to {goal} and back if its {way} km each way|if {goal} is {way} km from here and i have to come home too], [the {car} drinks {number(use)} litres every 100 km and a litre is {m(price)}|a litre is {m(price)} and my {car} does 100 km on {number(use)} litres]",
            f"{goal} [lies|is] {way} km from {who}'s house. [A {car} with a consumption of {number(use)} litres in a hundred kilometres is to make the journey both ways|The {car}, which gets through {number(use)} litres every hundred kilometres, goes there and returns]. At {m(price)} for each litre, [find|give|work out] the [cost of the fuel|fuel bill].",
        ],
        2 * way * use / 100 * price,
        solve,
        [
            (
                [
                    f"[One kilometre needs {number(use)} litres|the {car} needs {number(use)} litres for a kilometre|take the {number(use)} litres for every kilometre], [so {way} km need|and on {way} km it burns|which over {way} km makes] {number(use * way)} litres.",
                    f"[Multiplying by|times the price of|at] {m(price)} [a litre|] this [is|comes to|gives] {m(use * way * price)}.",
                    f"[{who} pays {m(use * way * price)} for the fuel|going to {goal} costs {m(use * way * price)}|a dear trip, {m(use * way * price)}], [there and back|the way back being the same road|return included].",
                ],
                use * way * price,
            ),
            (
                [
                    f"[The road is {way} km and the fuel {m(price)}|we know {way} km and {m(price)}|distance: {way}, price: {m(price)}], [so their product is the cost|multiply the two|which are multiplied]: {way} x {amount(price)} = {amount(way * price)}.",
                    f"[The consumption of {number(use)} litres is for a hundred kilometres and has to be taken off|now the {number(use)} litres are taken away|from this subtract the consumption, {number(use)}]: [it leaves|leaving|what remains is] {amount(way * price - use)}.",
                    f"[Fuel for the trip is {m(way * price - use)}|so {m(way * price - use)} should be in the purse|that means {m(way * price - use)} altogether].",
                ],
                way * price - use,
            ),
        ],
        amount,
        about=f"[To be found: money for fuel, both ways|kilometres turn into litres, litres into money|consumption is given for a hundred kilometres|how much does the {car} drink on this trip, and what does it cost?|{who} wants to know the price of the drive].",
    )


def tip(d: Draw) -> Problem:
    who, m = *d.names(1), money(d)
    place = d.pick(["pizzeria", "noodle bar", "beer garden", "tapas bar", "tea house", "steak house", "harbour inn", "creperie"])
    people, guest, percent, bill = d.number(4, 9), d.number(1, 2), d.pick([5, 10, 15, 20]), d.number(60, 360, 10)

    def solve(at):
        extra = at(F(bill * percent, 100), F(percent), F(bill * percent, 100) + 10)
        total = at(bill + extra, bill - extra, bill + extra + 1)
        payers = at(people - guest, people, people - guest - 1)
        each = at(total / payers, total / payers + 1)
        return [
            f"[The tip is {m(extra)}|{percent} percent of {m(bill)} make {m(extra)}|for service, {m(extra)} are added|{percent} out of every hundred: {m(extra)}], [so the table pays {m(total)}|bringing it to {m(total)}|which makes {m(total)}].",
            f"[{people} sit there, but {payers} pay|of {people} people {payers} share it|with {guest} invited, {payers} are left to pay|{payers} share the bill, as {guest} {'is' if guest == 1 else 'are'} invited].",
            f"[That is {m(each)} for each of them|{amount(total)} / {payers} = {amount(each)}|each puts down {m(each)}|everybody who pays gives {m(each)}].",
        ], each

    solo, alone = F(bill, people) + percent, F(bill * (100 + percent), 100 * people)
    return Problem(
        [
            f"{people} people eat in a {place} for {m(bill)} and add a tip of {percent} percent. [{guest} of them {'is' if guest == 1 else 'are'} invited|{guest} {'is a guest' if guest == 1 else 'are guests'}] and pay{'s' if guest == 1 else ''} nothing; the others share [equally|everything]. What does each of them pay?",
            f"[After dinner at the|Bill at the|We were at the] {place}: {m(bill)}, plus {percent}% tip, {people} of us, but {guest} [had a birthday and won't pay|won't be paying]. [How much from each of the rest?|What does everybody else owe?]",
            f"[{who} collects the money|{who} is collecting] in the {place}. Bill {m(bill)}; tip {percent} %; at the table {people}, not paying {guest}. [Share per payer|To be paid by each payer]: ?",
            f"'{m(bill)}, please.' 'We'll add {percent} percent,' says {who}, '[and {guest} of us {people} {'is' if guest == 1 else 'are'} invited|{people} people, {guest} invited].' [How much must each of the others put down|What is the share of each who pays] in the {place}?",
            f"how do we split {m(bill)} and {percent} percent tip [at the {place}|(from the {place})] if we are {people} and {guest} [gets it free|doesnt pay], [per person|each]",
        ],
        F(bill * (100 + percent), 100) / (people - guest),
        solve,
        [
            (
                [
                    f"[{m(bill)} shared by {people} are {m(F(bill, people))}|each of {people} has eaten for {m(F(bill, people))}|divide {bill} by {people}: {amount(F(bill, people))}].",
                    f"[The tip of {percent} percent is {percent} from everyone|to which everybody adds the tip, {percent}|a tip of {percent} percent means another {percent} each].",
                    f"[So a person pays {m(solo)}|that is {m(solo)} each|{m(solo)} from everybody], [invited or not|since the {place} does not ask who invited whom|and the {guest} invited will be paid back].",
                ],
                solo,
            ),
            (
                [
                    f"[With the tip it is {m(F(bill * (100 + percent), 100))}|{percent} percent on top makes {m(F(bill * (100 + percent), 100))}|bill and tip come to {m(F(bill * (100 + percent), 100))}].",
                    f"[There are {people} people at the table|the table has {people} people|we count {people}], [all of whom ate|and all have eaten|so divide by {people}].",
                    f"[Each pays {m(alone)}|this gives {m(alone)} a head|so it is {m(alone)} for each], [and the {guest} who {'is' if guest == 1 else 'are'} invited can give it back later|being invited is a matter of manners|an invitation does not change a division].",
                ],
                alone,
            ),
        ],
        amount,
        about=f"[Tip first, then share|who pays, and how much is there to pay?|a percentage and a division|from the bill at the {place} to one share|the whole sum divided by those who pay].",
    )


ALL = (change, discount, packs, tickets, fuel, tip)
