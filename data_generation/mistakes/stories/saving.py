"""Word problems about money over time: saving, exchange, offers, interest, a sum that is spent."""

# A line holds one sentence in all its readings, however long.
# fmt: off
from fractions import Fraction as F

from data_generation.mistakes.drawing import Draw, Problem, amount, money, number, whole


def goal(d: Draw) -> Problem:
    who, m = *d.names(1), money(d)
    wish = d.pick(["a cello", "a driving licence", "a kayak", "a greenhouse", "a sewing course", "a trip to Lisbon", "a second-hand piano", "a camera", "a beehive", "a drone"])
    price, have, weekly, spent = d.number(240, 900, 5), d.number(30, 150), d.number(14, 48), d.number(2, 9)
    if (price - have) % (weekly - spent) == 0:
        price += 1

    def solve(at):
        missing = at(price - have, price + have, price - have - 10)
        saved = at(weekly - spent, weekly + spent, weekly)
        full = at(missing // saved, missing // saved - 1)
        weeks = at(full + 1, full)
        return [
            f"[{m(missing)} are missing|{price} - {have} = {missing} has to be saved|with {m(have)} there already, {m(missing)} more are needed|still to go: {m(missing)}].",
            f"[A week leaves {m(saved)}|every week {weekly} - {spent} = {saved} is put by|{who} keeps {m(saved)} a week|what stays of each week's money is {m(saved)}].",
            f"[After {full} weeks there are {m(full * saved)}, [not yet enough|a little short]|{missing} / {saved} is {full} and a rest|{full} weeks bring {m(full * saved)}|{full} times {saved} is {full * saved}, below {missing}].",
            f"[So one more is needed: {weeks} weeks|it takes {weeks} weeks|{who} has to wait {weeks} weeks|in week {weeks} the money is there].",
        ], weeks

    hasty, whole_price = -(-(price - have) // weekly), -(-price // (weekly + spent))
    return Problem(
        [
            f"{who} wants {wish} for {m(price)} and has {m(have)}. Every week {m(weekly)} come in, of which {m(spent)} are spent. After how many weeks [is there enough|can {who} pay]?",
            f"[Saving for|I'm saving up for|Dreaming of] {wish}: {m(price)}. [In the jar|Saved so far]: {m(have)}. [I earn {m(weekly)} a week and use up {m(spent)} of it|{m(weekly)} a week, minus {m(spent)} that I spend]. How many weeks [until I have it|do I need]?",
            f"{who}'s [savings plan|plan]\ngoal: {wish}, {m(price)}\nstart: {m(have)}\n[per week|weekly]: + {m(weekly)}, - {m(spent)}\n[reached in week|weeks needed]: ...",
            f"'[Can you afford {wish}|When do you get {wish}], {who}?' - 'Not yet. {m(price)} it is, I've got {m(have)}, and [of {m(weekly)} a week I spend {m(spent)}|each week {m(weekly)} come and {m(spent)} go].' - '[So in how many weeks|And that takes how many weeks]?'",
            f"how many [whole|full] weeks does {who} have to save for {wish} ([costs|price] {m(price)}) with {m(have)} to start and {m(weekly)} [pocket money|wages] every week of which {m(spent)} [is gone|gets spent] at once",
        ],
        -(-(price - have) // (weekly - spent)),
        solve,
        [
            (
                [
                    f"[{m(price - have)} have to be found|{price} - {have} = {price - have} is what is lacking|the gap is {m(price - have)}].",
                    f"[Each week brings {m(weekly)}|{m(weekly)} arrive every week|with {m(weekly)} weekly], [so that takes {hasty} weeks|{hasty} weeks are enough|it is bridged in {hasty} weeks].",
                    f"[What is spent, {m(spent)}, was {who}'s to spend and does not belong to the plan|the {m(spent)} are for fun and not for {wish}|spending {m(spent)} is another account]: {hasty} weeks.",
                ],
                hasty,
            ),
            (
                [
                    f"[Each week {m(weekly)} and {m(spent)} move, {m(weekly + spent)} in all|add the weekly sums: {weekly} + {spent} = {weekly + spent}|weekly we have {weekly} and {spent}, together {weekly + spent}].",
                    f"[The price, {m(price)}, divided by this|how many of these make {m(price)}|{wish} costs {m(price)}, so divide by that]: [about {whole_price}|{whole_price}, rounded up|nearly {whole_price}].",
                    f"[{who} needs {whole_price} weeks|so {whole_price} weeks it is|after {whole_price} weeks it can be bought], [the {m(have)} remaining as a reserve|and the {m(have)} from the start are a bonus|with {m(have)} still in the jar].",
                ],
                whole_price,
            ),
        ],
        fits=whole,
        about=f"[What is missing, and what comes in a week?|from {m(have)} to {m(price)}|{wish} has its price|how fast does the money grow?|money in the jar, money every week].",
    )


def exchange(d: Draw) -> Problem:
    who = d.names(1)[0]
    home, away = d.several(["krona", "zloty", "lira", "rupees", "dinars", "pesos", "forint", "yen", "baht", "rand"], 2)
    rate, fee = F(d.number(12, 90), 10), d.number(3, 15)
    brought = d.number(120, 900, 10)
    spent = int((brought - fee) * rate) * d.number(4, 8) // 10 // 10 * 10

    def solve(at):
        changed = at(brought - fee, brought + fee, brought - fee + 10)
        got = at(changed * rate, changed * rate + 10, changed * (rate - F(1, 10)))
        left = at(got - spent, got - spent - 100, got + spent)
        back = at(left / rate, left / rate + 1)
        return [
            f"[After the fee {changed} {home} are exchanged|the counter keeps {fee} {home}, leaving {changed}|{brought} - {fee} = {changed} {home} are really changed|{changed} {home} remain when the fee is paid].",
            f"[They become {number(got)} {away}|for these one gets {number(got)} {away}|times {number(rate)}: {number(got)} {away}|the rate turns them into {number(got)} {away}].",
            f"[{number(left)} {away} come home again|of these {number(left)} {away} are not spent|minus {spent}, that is {number(left)} {away}|{who} returns with {number(left)} {away}].",
            f"[Divided by {number(rate)}, they are {amount(back)} {home}|changed back they make {amount(back)} {home}|this equals {amount(back)} {home}|{number(left)} / {number(rate)} = {amount(back)}, in {home}].",
        ], back

    wrong_way = (brought - fee) / rate
    return Problem(
        [
            f"At a rate of {number(rate)} {away} for 1 {home}, {who} changes {brought} {home} (fee {fee} {home}, taken off first), spends {spent} {away} and changes the rest back without a fee. How many {home} [come back|does {who} get]?",
            f"[Back from holiday|Just back from my trip]: I [changed|took] {brought} {home}, the bank [kept {fee} {home}|took a fee of {fee} {home} first], rate 1 to {number(rate)} {away}. Spent {spent} {away}. [The rest goes back at the same rate, no fee|No fee for changing the rest back, same rate]. How many {home} do I [see again|get]?",
            f"[Bureau de change, exercise|Exchange, {who}]:\n[in|paid in]: {brought} {home} - {fee} {home} fee\nrate: 1 = {number(rate)} {away}\nspent: {spent} {away}\n[remainder back in {home}|returned in {home}]: ?",
            f"{who} [hands over|brings] {brought} {home}; {fee} {home} are the charge, and the rest [becomes|is turned into] {away} at 1 to {number(rate)}. [{spent} {away} later|Having used {spent} {away}], {who} turns what remains into {home} again, free of charge. [What sum is that?|How much is it?]",
            f"how many {home} [are left|do i have] in the end when i change {brought} {home} into {away} ({number(rate)} {away} [each|for one], {fee} {home} fee before) and [spend|use] {spent} {away} and change the [rest|remaining money] back for free",
        ],
        brought - fee - spent / rate,
        solve,
        [
            (
                [
                    f"[The rate of {number(rate)} tells us to divide|to change {home} into {away} we divide by the rate|going over to {away} means dividing]: ({brought} - {fee}) / {number(rate)} = {amount(wrong_way)}.",
                    f"[{spent} were spent, which lies in the other currency and stays there|the {spent} {away} spent belong to the trip|spending {spent} abroad does not touch the account at home].",
                    f"[{who} gets back {amount(wrong_way)} {home}|so {amount(wrong_way)} {home} return|it is {amount(wrong_way)} {home}], [as if nothing had happened|in the end|by the way of the bank].",
                ],
                wrong_way,
            ),
            (
                [
                    f"[Both are money, so {spent} is simply taken from {brought}|subtract what was spent from what was brought|brought minus spent]: {brought} - {spent} [gives|is] {brought - spent}.",
                    f"[The fee of {fee} is added, since the bank owes it|the bank returns {fee}|add {fee}]: {brought - spent + fee}.",
                    f"[The rate of {number(rate)} is the same there and back and cancels|there and back, {number(rate)} drops out|with the rate {number(rate)} used twice, nothing changes], [so {who} has {abs(brought - spent + fee)} {home}|leaving {abs(brought - spent + fee)} {home}|so it is {abs(brought - spent + fee)} {home}].",
                ],
                abs(brought - spent + fee),
            ),
        ],
        amount,
        about=f"[From {home} to {away} and back again|the fee comes first|how many {away} were there to spend?|there and back, with a fee on the way out|follow the money of {who} step by step].",
    )


def plans(d: Draw) -> Problem:
    (one, two), m = d.several(["Zip", "Nova", "Tark", "Pelikan", "Mobilo", "Quick", "Fjord", "Lumen"], 2), money(d)
    what, unit = d.pick([("telephone", "minute"), ("taxi", "kilometre"), ("printing", "page"), ("bike hire", "hour"), ("translation", "line"), ("data", "gigabyte")])
    low, high = d.numbers(2, 1, 9)
    low, high = min(low, high), max(low, high)
    units = d.number(8, 60)
    cheap_base = d.number(2, 12)
    dear_base = cheap_base + (high - low) * units

    def solve(at):
        base = at(dear_base - cheap_base, dear_base + cheap_base, dear_base - cheap_base + 1)
        step = at(high - low, high, high + low)
        even = at(F(base, step), F(base, step) + 1, F(base, step) - 10)
        return [
            f"[{one} asks {m(base)} more to begin with|the fixed prices differ by {dear_base} - {cheap_base} = {base}|at zero {unit}s {one} is {m(base)} dearer|before anything is used, {one} costs {m(base)} more].",
            f"[Each {unit} makes up {m(step)} of this|but with every {unit} {two} loses {m(step)}|a {unit} costs less at {one}, by {m(step)}|{one} wins back {m(step)} a {unit}].",
            f"[After {number(even)} {unit}s both cost the same|{base} / {step} = {number(even)}, there the two are equal|the lead is gone at {number(even)} {unit}s|so they meet at {number(even)} {unit}s], [and above that {one} is the better choice|afterwards take {one}|with {two} being better for less than that|].",
        ], even

    total, mean = F(dear_base + cheap_base, low + high), F(dear_base, high)
    return Problem(
        [
            f"{what.capitalize()} offer {one}: {m(dear_base)} and {m(low)} a {unit}. Offer {two}: {m(cheap_base)} and {m(high)} a {unit}. At how many {unit}s do both cost the same?",
            f"[Which one should I take?|Can't decide:|Help me choose:] {one} has a [basic charge|fixed price] of {m(dear_base)}, then {m(low)} per {unit}. {two}: {m(cheap_base)}, then {m(high)}. ({what}) [From how many {unit}s on does it not matter?|For which number of {unit}s are they equal?]",
            f"{what} prices\n{one}  [base|fixed] {m(dear_base)}  + {m(low)}/{unit}\n{two}  [base|fixed] {m(cheap_base)}  + {m(high)}/{unit}\n[Break-even|Same price] at ? {unit}s",
            f"'{two} [is cheaper|costs less],' [says|claims] one, '{m(cheap_base)} and {m(high)} a {unit}.' 'Not [if you use it a lot|always],' says the other, '{one} is {m(dear_base)} plus {m(low)} a {unit}.' [When are they equal, in {unit}s|At what number of {unit}s are both right] ({what})?",
            f"how many {unit}s [make|until] {one} ({m(dear_base)} flat and {m(low)} [per|each] {unit}) and {two} ({m(cheap_base)} flat and {m(high)} [per|each] {unit}) [the same price|cost the same], its about {what}",
        ],
        units,
        solve,
        [
            (
                [
                    f"[Add up the fixed prices|the fixed sums make|base and base together]: {dear_base} + {cheap_base} = {dear_base + cheap_base}.",
                    f"[The prices per {unit} add up to {low + high}|a {unit} at both costs {low + high}|then {low} + {high} = {low + high} for a {unit}].",
                    f"[Dividing, we find {number(total)} {unit}s|so they are equal at {number(total)} {unit}s|{number(total)} {unit}s is where it evens out], [for {one} as for {two}|{one} and {two} sharing the cost|which suits both].",
                ],
                total,
            ),
            (
                [
                    f"[{one} costs {m(dear_base)} at the start, {two} {m(high)} a {unit}|compare the {m(dear_base)} of {one} with the {m(high)} of {two}|the fixed {m(dear_base)} stand against {m(high)} a {unit}].",
                    f"[How often does {high} go into {dear_base}|divide the one by the other|{dear_base} / {high} gives it]: {number(mean)}.",
                    f"[So at {number(mean)} {unit}s it is all the same|the same price is reached with {number(mean)} {unit}s|both cost the same for {number(mean)} {unit}s]; [{m(low)} and {m(cheap_base)} are the small numbers and may be dropped|the smaller figures, {low} and {cheap_base}, hardly matter|one leaves out {low} and {cheap_base}].",
                ],
                mean,
            ),
        ],
        about=f"[One starts dear, the other grows faster|where do two prices meet?|base price and price per {unit} pull in different directions|compare {one} and {two} by their differences|as a race: {two} starts ahead, {one} is slower to rise].",
    )


def interest(d: Draw) -> Problem:
    who, m = *d.names(1), money(d)
    bank = d.pick(["a savings bank", "an uncle", "a credit union", "the post bank", "a cooperative", "a cousin"])
    sum_, percent, months = d.number(400, 6000, 100), F(d.number(4, 16), 2), d.pick([3, 4, 6, 8, 9, 15, 18])

    def solve(at):
        year = at(sum_ * percent / 100, sum_ * percent / 10, sum_ * percent / 100 + 10)
        part = at(year * months / 12, year * months / 10, year)
        total = at(sum_ + part, sum_ - part, sum_ + part + 10)
        return [
            f"[A year brings {number(percent)} percent of {m(sum_)}, {m(year)}|for twelve months the interest is {m(year)}|{number(percent)} percent of {sum_} are {amount(year)}, per year|in a whole year {m(year)} would be due].",
            f"[{months} months are {months}/12 of that, {m(part)}|{months} months: {amount(year)} / 12 x {months} = {amount(part)}|divide by 12 and multiply by {months}, which makes {m(part)}|as it is {months} months, {m(part)} of interest are due].",
            f"[Together {m(total)}|so {m(total)} have to be paid back|with the loan itself, {m(total)}|{who} returns {m(total)} in all].",
        ], total

    monthly, flat = sum_ * percent * months / 100, sum_ + percent * months
    return Problem(
        [
            f"{who} borrows {m(sum_)} from {bank} at {number(percent)} percent [a year|annual interest] (simple interest) and pays everything back after {months} months. What is the [total|sum paid back]?",
            f"[Borrowed money|Private loan|A loan]: {m(sum_)} from {bank}, {number(percent)}% [per year|p.a.], no compounding, due after {months} months. [What do I owe then|What will I have to hand over], loan included?",
            f"[IOU|Contract] {who} / {bank}: principal {m(sum_)}, simple interest {number(percent)} % per annum, term {months} months. [Amount due|Repayment]: ___",
            f"'[I'll lend you {m(sum_)}|You can have {m(sum_)}], {who}, for {months} months, at {number(percent)} percent a year.' '[And I give you back how much|So I owe you how much in the end]?' [Simple interest|No interest on interest], with {bank} as the lender.",
            f"how much has {who} to pay back in total if {bank} [lends|gives] {m(sum_)} for {months} months and [takes|wants] {number(percent)} percent interest for a year [simple interest|without compound interest]",
        ],
        sum_ * (1 + percent * months / 1200),
        solve,
        [
            (
                [
                    f"[{number(percent)} percent for each of the {months} months|every month costs {number(percent)} percent, and there are {months}|with {months} months at {number(percent)} percent each] [is|makes|gives] {number(percent * months)} percent.",
                    f"[Of {m(sum_)} this comes to {m(monthly)}|that is {m(monthly)} of interest|in money: {m(monthly)}].",
                    f"[{who} pays back {m(sum_ + monthly)}|the total is {m(sum_ + monthly)}|so {m(sum_ + monthly)} are due], [{bank} earning well|loan and interest|all at once].",
                ],
                sum_ + monthly,
            ),
            (
                [
                    f"[The rate is {number(percent)} and the time {months}|multiply rate and time|rate times months is the interest]: {number(percent)} x {months} = {number(percent * months)}.",
                    f"[That is the interest in money|so much interest is owed|this sum goes to {bank}], [no matter how large the loan|the size of the loan not being needed|for a loan of {m(sum_)} or any other].",
                    f"[Plus the loan: {m(flat)}|with the {m(sum_)}, {m(flat)}|in the end {who} hands over {m(flat)}].",
                ],
                flat,
            ),
        ],
        amount,
        about=f"[Interest for part of a year|how much interest does a full year cost?|{bank} wants the loan back, and interest|a yearly rate, but only {months} months|loan plus interest is wanted].",
    )


def remainder(d: Draw) -> Problem:
    who, m = *d.names(1), money(d)
    source = d.pick(["a bonus", "holiday money", "an inheritance", "a scholarship", "prize money", "a tax refund", "birthday money"])
    spend, later = d.several(["rent", "a new bicycle", "the dentist", "a present", "winter tyres", "a concert", "paint", "a donation", "shoes"], 2)
    (a, b), (c, e) = d.several([(1, 3), (1, 4), (2, 5), (3, 8), (1, 2), (3, 5), (1, 5), (2, 7), (1, 6), (2, 3)], 2)
    total = b * e * d.number(2, 12) * d.pick([1, 2, 5])

    def solve(at):
        first = at(F(total * a, b), F(total * a, b) + 10, F(total, b) if a > 1 else F(total * 2, b))
        rest = at(total - first, total - first - 10, first)
        second = at(rest * c / e, F(total * c, e), rest * c / e + 1)
        left = at(rest - second, second, rest - second + 10)
        return [
            f"[{a}/{b} of {m(total)} is {m(first)}, for {spend}|for {spend} {m(first)} go|{spend}: {total} / {b} x {a} = {amount(first)}|{m(first)} are taken for {spend}], [leaving {m(rest)}|and {m(rest)} remain|so there are still {m(rest)}].",
            f"[Now {c}/{e} of this rest, {m(second)}, goes too|of what remains {c}/{e} is {m(second)}|{later} takes {c}/{e} of {m(rest)}, {m(second)}|then {later}: {c}/{e} of the rest is {m(second)}].",
            f"[{who} is left with {m(left)}|{amount(rest)} - {amount(second)} = {amount(left)}|this leaves {m(left)}|so {m(left)} are not spent].",
        ], left

    both, once = total - F(total * a, b) - F(total * c, e), F(total * (a + c), b + e)
    return Problem(
        [
            f"{who} [gets|receives] {m(total)} as {source}, spends {a}/{b} of it on {spend} and then {c}/{e} of the rest on {later}. How much is left?",
            f"[{source} came, {m(total)}|I got {source}: {m(total)}|{m(total)} of {source}]. {a}/{b} went on {spend}, then {c}/{e} of what [remained|was left] on {later}. [What have I got now?|And now I have...?]",
            f"[Budget|Household book], {who}\nincome ({source}): {m(total)}\n{spend}: {a}/{b}\n{later}: {c}/{e} of the remainder\n[balance|left over]: ?",
            f"'{who}, [where's|what became of] your {source.removeprefix('an ').removeprefix('a ')}? It was {m(total)}.' - '{a}/{b} for {spend}. And of the rest, {c}/{e} for {later}.' - '[So you've still got...|Then what is left]?'",
            f"of {m(total)} ({source}) [first|at first] {a}/{b} is [used|paid] for {spend} and [later|then] {c}/{e} of the remaining money for {later}, how much [money|] is [there|left] at the end",
        ],
        total * (1 - F(a, b)) * (1 - F(c, e)),
        solve,
        [
            (
                [
                    f"[{a}/{b} is {m(F(total * a, b))} and {c}/{e} is {m(F(total * c, e))}|{spend} costs {m(F(total * a, b))}, {later} {m(F(total * c, e))}|take both fractions of {m(total)}: {m(F(total * a, b))} and {m(F(total * c, e))}].",
                    f"[Both are taken from {m(total)}|together they make {m(total - both)}|this adds up to {m(total - both)}], [being parts of the same money|since all of it comes from one sum|fractions of one whole].",
                    f"[So {m(both)} are left|{who} keeps {m(both)}|the rest is {m(both)}].",
                ],
                both,
            ),
            (
                [
                    f"[Add the fractions, top and bottom|add tops and bottoms of the fractions|put the two fractions together]: ({a} + {c}) / ({b} + {e}) = {a + c}/{b + e}.",
                    f"[That part is used up|this is what {who} spends|so much of it goes], [the rest being {b + e - a - c}/{b + e}|leaving {b + e - a - c}/{b + e}|and {b + e - a - c}/{b + e} stay].",
                    f"[Of {m(total)} this is {m(total - once)}|in money that makes {m(total - once)}|hence {m(total - once)} remain].",
                ],
                total - once,
            ),
        ],
        amount,
        about=f"[A fraction of the whole, then a fraction of the rest|the second fraction is taken of something smaller|{source} is spent in two goes|what is left after {spend}?|two purchases, one after the other].",
    )


ALL = (goal, exchange, plans, interest, remainder)
