"""Word problems about getting things done: painting together, crews, overtime, pages, trips, machines."""

# A line holds one sentence in all its readings, however long.
# fmt: off
from fractions import Fraction as F

from data_generation.mistakes.drawing import Draw, Problem, amount, money, number, whole


def together(d: Draw) -> Problem:
    a, b = d.names(2)
    job = d.pick(["paint the fence", "pick the cherries", "clear out the attic", "sew the curtains", "dig over the allotment", "address the invitations", "wash all the windows", "sort the archive", "put up the stage"])
    p, q = d.pick([(3, 6), (4, 12), (6, 12), (6, 3), (10, 15), (12, 4), (15, 10), (20, 5), (5, 20), (20, 30), (30, 20), (12, 6), (30, 6), (6, 30), (8, 24), (24, 8), (9, 18), (18, 9), (12, 24), (24, 12), (14, 35), (21, 28), (40, 10), (10, 40)])
    common = p * q

    def solve(at):
        x, y = at(q, q + 1), at(p, p - 1, p + 1)
        rate = at(x + y, abs(x - y), x + y + 1)
        hours = at(F(common, rate), F(common, rate) + 1)
        return [
            f"[Cut the job into {common} equal bits|imagine the work as {common} pieces|let the whole job have {common} parts|say there are {common} little portions to do].",
            f"[{a}, who needs {p} hours, does {x} of them an hour|in one hour {a} gets through {x}, since {a} is done after {p} hours|{a} finishes {x} per hour|for {a}, with {p} hours for everything, that makes {x} an hour].",
            f"[{b} manages {y}|{b} in the same hour {y}|{b}'s share of an hour is {y}|and {b}, who would take {q} hours, completes {y}].",
            f"[Side by side they do {rate} an hour|together that is {rate} per hour|both: {rate} in an hour|joined up, {rate} every hour], [so {number(hours)} hours are enough|and {common} / {rate} = {number(hours)} hours|which means the work lasts {number(hours)} hours|so after {number(hours)} hours nothing is left to do].",
        ], hours

    mean, total = F(p + q, 2), p + q
    return Problem(
        [
            f"{a} needs {p} hours to {job}, {b} needs {q} [hours for the same|hours]. How long does it take [if both work at it|the two of them together]?",
            f"[We have to {job}|The job is to {job}|On Saturday we {job}]. Alone I'd [be busy for|take] {p} hours; my [brother|neighbour|flatmate] is done in {q}. [If we both pitch in|Working side by side], when are we through?",
            f"{a}: 'I can {job} in {p} hours.'\n{b}: '[It takes me {q}|I'm at it for {q} hours], I'm afraid.'\n{a}: 'Then let's [do it together|share it].' [How many hours will that be?|For how many hours?]",
            f"[Planning|Work plan|Rota]: {job}. {a} alone: {p} h. {b} alone: {q} h. [Both at the same time|{a} and {b} jointly]: ? h",
            f"if one person [takes {p} hours|is finished in {p} hours] [to {job}|when she has to {job}] and another one {q} hours, [how quick are they|how many hours is it] as a team",
        ],
        1 / (F(1, p) + F(1, q)),
        solve,
        [
            (
                [
                    f"[Alone it is {p} hours for {a} and {q} for {b}|{a}: {p} hours, {b}: {q} hours|we have the times {p} and {q}].",
                    f"[Working as a team one gets the average|as a pair, they meet in the middle|a team is as fast as its average], ({p} + {q}) / 2 = {number(mean)}.",
                    f"[To {job} they need {number(mean)} hours|so {number(mean)} hours it will be|hence {number(mean)} hours for both], [the quicker one pulling the slower one along|neither too fast nor too slow|which is fair to both].",
                ],
                mean,
            ),
            (
                [
                    f"[{a}'s part takes {p} hours|first {a} needs {p} hours|there are {p} hours of {a}'s].",
                    f"[{b}'s part takes {q}|then come {b}'s {q} hours|{b} adds {q} hours], [so the two times are put together|and times add up|which we sum].",
                    f"{p} + {q} = {total}, [so together they are busy for {total} hours|and the pair finishes after {total} hours|meaning that to {job} takes them {total} hours].",
                ],
                total,
            ),
        ],
        about=f"[We look for the time that both need side by side|what counts is how much of it gets done in an hour|two people, one job|{a} and {b} join forces|how quickly does the pair get through it?].",
    )


def crew(d: Draw) -> Problem:
    who, size = *d.names(1), d.number(4, 14)
    task = d.pick(["lay the cable", "restore the organ", "pick the grapes", "digitise the register", "insulate the roof", "repair the dyke", "clear the path", "paint the bridge", "prune the orchard"])
    people = d.pick(["workers", "volunteers", "gardeners", "students", "helpers", "fitters"])
    days = d.number(6, 30)
    work = size * days
    other = d.pick([n for n in range(2, 40) if work % n == 0 and abs(n - size) > 1] or [size])

    def solve(at):
        total = at(size * days, size * days + 10, size * (days - 1))
        left = at(other, other - 1, other + 1)
        found = at(F(total, left), F(total, left) + 1)
        return [
            f"[The job contains {size} x {days} = {total} days of work|{size} people for {days} days: that is {total} working days|one person alone would be occupied for {total} days|in single days of one person it amounts to {total}].",
            f"[More hands, fewer days, and the other way round|the work itself stays the same|that amount does not change with the number of {people}|].",
            f"[Shared among {left}, each has {number(found)} days|with {left} {people} we divide by {left}: {number(found)}|{total} / {left} = {number(found)}|{left} of them get through it in {number(found)} days].",
            f"[So allow {number(found)} days|the new crew is done after {number(found)} days|it will be {number(found)} days|{who} should write {number(found)} days into the plan].",
        ], found

    proportion = F(days * other, size)
    return Problem(
        [
            f"{size} {people} [would need|need] {days} days to {task}. {who} [has|gets] {other} {people}. How many days will it take [now|them]?",
            f"[Our quote|The offer|The first plan] was {days} days for {size} {people} to {task}. [Change of plan:|But] we'll be {other}. [New duration?|How long, at the same pace?]",
            f"{who}: 'With {size} {people} we {task} in {days} days.'\n[Client|Mayor|Owner]: 'And if {other} of you come?'\n[What does {who} reply|The right reply is] (all work at the same rate)?",
            f"to {task}, it takes {size} {people} {days} days [so how many days for|now what about] {other} {people}[ if everybody works the same|]",
            f"Given: {people} {size}, duration {days} days. Wanted: the duration for {other} {people} [at equal output|who work just as hard]. [Task: {task}.|(They are to {task}.)]",
        ],
        F(size * days, other),
        solve,
        [
            (
                [
                    f"[{size} {people} go with {days} days|to {size} {people} belong {days} days|we have {days} days for {size}], [so one of them has {days} / {size} days|so for one we divide {days} by {size}].",
                    f"[{other} of them therefore take {other} times as long|multiply by {other} for the new crew|with {other} it is {other} times that]: {number(proportion)}.",
                    f"[The answer: {number(proportion)} days|{who} needs {number(proportion)} days|so they {task} in {number(proportion)} days], [in proportion to the number of {people}|as people and days rise together|by the rule of three].",
                ],
                proportion,
            ),
            (
                [
                    f"[The crew changes from {size} to {other}|instead of {size} there are {other}|{other} against {size}]: [a difference of|that is|we note] {abs(size - other)} {people}.",
                    "[Each of them shifts the end by one day|a person counts for a day|one person, one day].",
                    f"[So {days} days turn into {days + size - other}|{days} {'-' if other > size else '+'} {abs(size - other)} = {days + size - other}, in days|this leads from {days} to {days + size - other} days], [and {who} can announce it|which is the time they need to {task}|for the same job].",
                ],
                days + size - other,
            ),
        ],
        fits=whole,
        about=f"[The same job, another number of {people}|it is about sharing out the work|how much work is in it, counted in days of one person?|{other} instead of {size}: what does that do to the days?|for {who}, the number of days is of interest].",
    )


def overtime(d: Draw) -> Problem:
    who, m = *d.names(1), money(d)
    place = d.pick(["bakery", "print shop", "nursery garden", "laundry", "warehouse", "call centre", "dairy", "hotel kitchen", "boatyard"])
    wage, regular, extra = d.number(12, 28, 2), d.number(30, 40), d.number(3, 12)

    def solve(at):
        base = at(regular * wage, regular * wage + 10, (regular - 1) * wage)
        rate = at(F(wage * 3, 2), F(wage * 3, 2) + 1, F(wage * 5, 4))
        more = at(extra * rate, extra * rate - rate, extra * rate + 10)
        pay = at(base + more, base + more - 10, base + more + 100)
        return [
            f"[{regular} normal hours bring {regular} x {wage} = {base}|for the agreed hours: {m(base)}|the contract part is {regular} times {m(wage)}, {m(base)}|up to hour {regular}, {m(base)} is earned].",
            f"[Beyond that, an hour pays {m(rate)}|half as much again as {m(wage)} is {m(rate)}|the higher rate is {wage} + {amount(F(wage, 2))} = {amount(rate)}|with the bonus, one hour is {m(rate)}].",
            f"[The {extra} extra hours make {m(more)}|{extra} of these hours: {m(more)}|so overtime amounts to {m(more)}|multiplied by {extra} that gives {m(more)}].",
            f"[Together {m(pay)}|the week's pay is {m(pay)}|{who} takes home {m(pay)} before tax|on the slip we find {m(pay)}].",
        ], pay

    return Problem(
        [
            f"At the {place} {who} earns {m(wage)} an hour for the first {regular} hours of a week, and half as much again for every hour after that. [This|Last] week {who} worked {regular + extra} hours. [What is the pay|How much was earned]?",
            f"[Is my pay slip right?|Can you check my wages?|Payday question:] {regular + extra} hours at the {place}, contract is {regular} hours, {m(wage)} each, [overtime is time and a half|one and a half times that for overtime]. [What should I get?|How much is due?]",
            f"[Payroll|Wage slip], {place}\n[employee|name]: {who}\nhours worked: {regular + extra}, of which {regular} normal\nrate {m(wage)}, overtime 150 %\n[gross pay|total]: ?",
            f"{who} [gets|is paid] time and a half for [anything|hours] above {regular} a week at the {place}. The normal hour is {m(wage)}. [Find the wages for {regular + extra} hours.|What do {regular + extra} hours bring in?]",
            f"'{regular + extra} hours, {who}! That's {extra} too many.' - 'But you pay me [half again on those|150 percent for those].' - 'Sure, on top of {m(wage)} an hour for the [first|other] {regular}.' [What will the {place} pay altogether?|So the {place} owes how much?]",
        ],
        wage * regular + F(3, 2) * wage * extra,
        solve,
        [
            (
                [
                    f"[All {regular + extra} hours are overtime once the limit is passed|as soon as somebody works longer, the better rate holds for the week|the week counts as an overtime week].",
                    f"[The rate is|an hour is then worth|so each hour pays] {m(F(3, 2) * wage)}.",
                    f"{regular + extra} x {amount(F(3, 2) * wage)} = {amount(F(3, 2) * wage * (regular + extra))}, [so the {place} pays {who} {m(F(3, 2) * wage * (regular + extra))}|and that is what {who} receives|which goes on the slip].",
                ],
                F(3, 2) * wage * (regular + extra),
            ),
            (
                [
                    f"[For {regular} hours there is {m(regular * wage)}|the ordinary part: {m(regular * wage)}|{regular} x {wage} = {regular * wage}].",
                    f"[Half as much again means half|time and a half is half the time|overtime is paid by halves], [so {extra} hours at {m(F(wage, 2))}|{m(F(wage, 2))} for each of the {extra}|hence {extra} times {m(F(wage, 2))}], {m(extra * F(wage, 2))}.",
                    f"[The sum, {m(regular * wage + extra * F(wage, 2))}, is the pay|in all {m(regular * wage + extra * F(wage, 2))}|{who} should get {m(regular * wage + extra * F(wage, 2))}].",
                ],
                regular * wage + extra * F(wage, 2),
            ),
        ],
        amount,
        about=f"[Two rates are in play here, the normal one and a higher one|the {regular + extra} hours at the {place} split in two|let us split the week into contract and overtime|wages for normal hours and for extra hours are worked out one by one|hours within the contract and hours above it are paid differently].",
    )


def pages(d: Draw) -> Problem:
    who = d.names(1)[0]
    doing = d.pick([("reads a novel", "pages"), ("translates a manual", "pages"), ("knits a blanket", "rows"), ("proofreads a thesis", "pages"), ("copies out a cookery book", "recipes"), ("scans old letters", "letters"), ("learns a word list", "words")])
    slow, days, fast, later = d.number(8, 30), d.number(3, 9), d.number(31, 60), d.number(3, 12)
    total = slow * days + fast * later

    def solve(at):
        done = at(slow * days, slow * (days - 1), slow * days + 10)
        rest = at(total - done, total - done - 10, total)
        left = at(F(rest, fast), F(rest, slow))
        all_days = at(left + days, left, left + days + 1)
        return [
            f"[In the first {days} days, {done} {doing[1]} get done|{days} days of {slow} are {done} {doing[1]}|{who} begins with {days} x {slow} = {done}|up to the change of pace it is {done} {doing[1]}].",
            f"[Then {rest} remain|that leaves {rest} of the {total}|{total} - {done} = {rest} are still to come|there are {rest} {doing[1]} left].",
            f"[At {fast} a day they last {number(left)} days|{rest} divided by {fast} makes {number(left)} days|the faster pace, {fast}, needs {number(left)} days for these|doing {fast} daily, {who} wants {number(left)} more days].",
            f"[With the beginning, {number(all_days)} days|so the whole thing takes {number(all_days)} days|in total we count {number(all_days)} days|{number(all_days)} days after starting, it is finished].",
        ], all_days

    mean = F(total * 2, slow + fast)
    return Problem(
        [
            f"{who} {doing[0]} with {total} {doing[1]}: {slow} a day for the first {days} days, {fast} a day from then on. How many days does [it take altogether|the whole take]?",
            f"[{total} {doing[1]} is a lot|I've got {total} {doing[1]} to do|Goal: {total} {doing[1]}]. [So far|Up to now] {slow} a day, for {days} days; now I'll do {fast} a day. [How many days will it have been in all?|Total number of days, please.]",
            f"[Diary|Progress chart|Notebook] of {who}, who {doing[0]}:\n{doing[1]} in all: {total}\nday 1 to {days}: {slow} each\nfrom day {days + 1}: {fast} each\n[last day is number|finished on day] ...",
            f"A person {doing[0]} ([length|size] {total} {doing[1]}). [During|For] {days} days the pace is {slow} daily, [after which it goes up|then it rises] to {fast}. [On which day is the work complete|After how many days is the end reached]?",
            f"'You'll never finish, {who}: {slow} {doing[1]} a day, {days} days already, and there are {total}!' - '[From tomorrow|Starting tomorrow] I do {fast} a day.' [How many days is that, counted from the start?|When, counting from the first day, is {who} done?]",
        ],
        days + later,
        solve,
        [
            (
                [
                    f"[There are two paces, {slow} and {fast}|{who} does {slow} at first and {fast} later|{slow} a day turns into {fast} a day], [an average of {number(F(slow + fast, 2))}|on average {number(F(slow + fast, 2))}|the middle being {number(F(slow + fast, 2))}].",
                    f"[The {total} {doing[1]} divided by it are|dividing {total} by this gives|at this average, {total} {doing[1]} take] {number(mean)} days.",
                    f"[So the answer is {number(mean)} days|{who} is busy for {number(mean)} days|it lasts {number(mean)} days], [the {days} days of the beginning included|no matter when the pace changed|from the first to the last].",
                ],
                mean,
            ),
            (
                [
                    f"[From some day on it is {fast} a day|the final pace is {fast}|what counts is the pace at the end, {fast} a day].",
                    f"[How often does that fit into {total}|{total} {doing[1]} over {fast} a day|we divide {total} by it]: [about|nearly|some] {total // fast} [times|days].",
                    f"[The {days} days before were for warming up|one may forget the slow {days} days|those {days} days at {slow} only helped to get started], so {total // fast} days [is right|it is|are needed in all].",
                ],
                total // fast,
            ),
        ],
        fits=whole,
        about=f"[There are two stretches with different paces|the pace changes after {days} days|{who} starts slowly and then speeds up|how many days are there in all?|split the work at the day on which the pace changes].",
    )


def trips(d: Draw) -> Problem:
    who, load = *d.names(1), d.pick([("sacks of cement", "van"), ("crates of books", "lift"), ("boxes of tiles", "trailer"), ("bales of hay", "tractor"), ("barrels", "cable car"), ("bags of compost", "cargo bike")])
    weight, limit, minutes = d.number(12, 48), d.number(260, 900, 10), d.number(12, 45)
    count = limit // weight * d.number(3, 9) + d.number(1, limit // weight - 1)

    def solve(at):
        fit = at(limit // weight, limit // weight + 1, limit // weight - 1)
        full = at(count // fit, count // fit - 1)
        runs = at(full + 1, full)
        time = at(runs * minutes, runs * minutes + 10, (runs - 1) * minutes)
        return [
            f"[One load can have {fit} {load[0]}|{fit} of them may go at a time|the {load[1]} takes {fit}|into {limit} kg go {fit} pieces of {weight} kg], [as {limit} / {weight} is {fit} and a rest|since a further one would be too heavy|{fit} and no more].",
            f"[{full} full loads clear {full * fit}|with {full} full trips {full * fit} are moved|after {full} rounds {full * fit} have gone|{full} times {fit} makes {full * fit}], [and the rest wants a trip too|something stays behind|but that is not all of the {count}].",
            f"[So there are {runs} trips|that means {runs} trips|in all {runs} trips|count {runs} trips].",
            f"[At {minutes} minutes each, {time} minutes|multiplied by {minutes} this is {time} minutes|{runs} x {minutes} = {time}, in minutes|they last {time} minutes together].",
        ], time

    return Problem(
        [
            f"{who} has to move {count} {load[0]} of {weight} kg each. The {load[1]} may carry {limit} kg [at a time|per trip], and one trip, there and back, takes {minutes} minutes. How many minutes [does it all take|are needed]?",
            f"[Notice in the {load[1]}:|Sign on the {load[1]}:] max. {limit} kg. We've got {count} {load[0]}, {weight} kg [a piece|apiece|each], and a round trip is {minutes} min. [How long will we be at it?|Minutes in total?]",
            f"[Moving day|Delivery|Job card]\n- goods: {count} {load[0]}\n- weight of one: {weight} kg\n- {load[1]}: {limit} kg at most\n- one trip: {minutes} min\n[Time needed|Duration] in minutes?",
            f"how many minutes do we need for {count} {load[0]} if one [weighs|is] {weight} kilos and the {load[1]} [only|] takes {limit} kilos and [every trip is|each time it takes] {minutes} minutes",
            f"[With|Using] a {load[1]} licensed for {limit} kg, {who} [transports|shifts] {load[0]} that weigh {weight} kg each, {count} in number. A trip [lasts|takes] {minutes} minutes. [Find the total time; nothing may be cut up.|What is the time for all trips, if nothing is cut up?]",
        ],
        -(-count // (limit // weight)) * minutes,
        solve,
        [
            (
                [
                    f"[{limit} kg divided by {minutes} minutes|take the limit of {limit} kg per {minutes} minutes|the {load[1]} moves {limit} kg in {minutes} minutes], [and the {load[0]} are {count}|with {count} {load[0]} to go].",
                    f"[One of the {load[0]} per trip is the safe way|each trip takes one|to be safe, they go one by one], [so|which means|making] {count} trips.",
                    f"{count} x {minutes} = {count * minutes}, [in minutes|which is the time in minutes|so {who} will need {count * minutes} minutes].",
                ],
                count * minutes,
            ),
            (
                [
                    f"[The whole load weighs|all {load[0]} together weigh|the weight is] {count} + {weight} = {count + weight} kg.",
                    f"[The {load[1]} takes {limit} kg|at {limit} kg a trip|since {limit} kg are allowed], [that is {-(-(count + weight) // limit)} {'trip' if -(-(count + weight) // limit) == 1 else 'trips'}|so it goes {-(-(count + weight) // limit)} {'time' if -(-(count + weight) // limit) == 1 else 'times'}].",
                    f"[In minutes this is {-(-(count + weight) // limit) * minutes}|the job takes {-(-(count + weight) // limit) * minutes} minutes|so {-(-(count + weight) // limit) * minutes} minutes are enough], [there and back|including the way back|and {who} can go home].",
                ],
                -(-(count + weight) // limit) * minutes,
            ),
        ],
        fits=whole,
        about=f"[It depends on how many go into one load|the {load[1]} decides how often one has to go|weights first, then the number of trips|wanted are the minutes for everything|how are {count} {load[0]} moved, a load at a time?].",
    )


def machine(d: Draw) -> Problem:
    who, product = *d.names(1), d.pick(["bottles", "bread rolls", "screws", "envelopes", "bricks", "tablets", "zips", "cartons", "chocolate bars"])
    rate, minutes, faulty = d.number(40, 180, 5), d.number(20, 110, 5), d.pick([2, 3, 4, 5, 6, 8])
    made = rate * minutes

    def solve(at):
        total = at(rate * minutes, rate * minutes + 100, rate * (minutes - 10))
        bad = at(F(total * faulty, 100), F(total * faulty, 1000), F(total, faulty))
        good = at(total - bad, total + bad, total - bad + 10)
        return [
            f"[In {minutes} minutes the machine turns out {total} {product}|{rate} a minute for {minutes} minutes makes {total}|production first: {rate} x {minutes} = {total}|{total} {product} come off the line in that time].",
            f"[{faulty} percent of them are {number(bad)}|the faulty share is {number(bad)}, {faulty} in every hundred|out of each hundred {faulty} are thrown away, {number(bad)} in all|{number(bad)} of these fail the check, as {faulty} of 100 do].",
            f"[That leaves {number(good)} good ones|so {number(good)} can be packed|{number(good)} pass|good {product}: {number(good)}], [which {who} may ship|to be packed and sold|ready for delivery].",
        ], good

    return Problem(
        [
            f"A machine makes {rate} {product} a minute. {faulty} percent of them are faulty. How many good {product} [does {who} have|can {who} pack] after {minutes} minutes?",
            f"[Shift report|Line 4|Production log], {who}: running time {minutes} min, speed {rate} {product} per min, rejects {faulty} %. [Good pieces|Number without faults]: ?",
            f"[I run a machine for|We make|In our plant we produce] {product}, {rate} every minute. [Every hundred, {faulty} go in the bin|{faulty} out of a hundred are no good]. [What's left|How many are fine] after {minutes} minutes of work?",
            f"{who} counts {product}: {rate} [come|roll] along in a minute, and {faulty} % [have a fault|are below standard]. [What number of sound ones|How many sound ones] does that mean for {minutes} minutes?",
            f"'[It's been {minutes} minutes|{minutes} minutes are up], {who}. [How many {product} can we sell|What have we got]?' - '{rate} a minute, minus the {faulty} percent [that broke|with faults].' [Put a number to that.|Which number is that?]",
        ],
        F(made * (100 - faulty), 100),
        solve,
        [
            (
                [
                    f"[{rate} in a minute, {faulty} of these are bad|every minute {faulty} of the {rate} are lost|the rejects are {faulty} a minute], [leaving|so there remain|and that leaves] {rate - faulty}.",
                    f"[Over {minutes} minutes|for the {minutes} minutes|{minutes} minutes later] [the good {product} number|we have|this has grown to] {(rate - faulty) * minutes}.",
                    f"[{who} packs {(rate - faulty) * minutes}|so {(rate - faulty) * minutes} is the answer|the result: {(rate - faulty) * minutes}], [percent being counted per minute here|a percent and a piece being the same|as {faulty} percent says].",
                ],
                (rate - faulty) * minutes,
            ),
            (
                [
                    f"[The rate of {rate} and the time of {minutes}|{rate} per minute, {minutes} minutes|speed {rate} and duration {minutes}] [are added|go together|sum up]: {rate} + {minutes} = {rate + minutes}.",
                    f"[From this the {faulty} faulty ones are taken|subtract the rejects, {faulty}|now {faulty} are to be thrown away], [which gives|leaving|and one has] {rate + minutes - faulty}.",
                    f"[So there are {rate + minutes - faulty} good {product}|{who} gets {rate + minutes - faulty} good {product}|{rate + minutes - faulty} {product} can go out].",
                ],
                rate + minutes - faulty,
            ),
        ],
        fits=whole,
        about=f"[Only sound {product} count|first all that is made, then the part that is no good|speed, time and a share of rejects are known|wanted is the number that passes the check|some of what the machine makes is thrown away].",
    )


ALL = (together, crew, overtime, pages, trips, machine)
