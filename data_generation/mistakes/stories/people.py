"""Word problems about people: ages, shares, clubs, bus seats, test results."""

# A line holds one sentence in all its readings, however long.
# fmt: off
from fractions import Fraction as F

from data_generation.mistakes.drawing import Draw, Problem, money, number, whole


def ages(d: Draw) -> Problem:
    a, b = d.names(2)
    kin = d.pick(["aunt", "grandfather", "mother", "uncle", "teacher", "father", "godmother"])
    young, times, years = d.number(4, 14), d.number(3, 5), d.number(2, 12)
    total, old = young + times * young + 2 * years, times * young

    def solve(at):
        now = at(total - 2 * years, total - years, total + 2 * years)
        parts = at(times + 1, times)
        child = at(F(now, parts), F(now, parts) - 1)
        adult = at(child * times, child * (times - 1), child * times + 10)
        return [
            f"[In {years} years both are {years} older, so today their ages add up to {now}|take {years} years off each of them: today's sum is {now}|the sum of {total} has {2 * years} years in it that are still to come; now it is {now}|today they are {now} years together, since each of two people gains {years}].",
            f"[{b} is one part and {a} is {times} parts, {parts} in all|with {a} {times} times as old there are {parts} equal parts|split this into {parts} parts, one for {b}|counting {b}'s age as one part, we have {parts}].",
            f"[A part is {number(child)} years, {b}'s age|so {b} is {number(child)}|{now} / {parts} = {number(child)}, and that is {b}|{b} must be {number(child)} years old].",
            f"[{a} is {number(adult)}|that makes {a} {number(adult)}|and {a}, {times} times that, {number(adult)}|{times} x {number(child)} = {number(adult)} for {a}].",
        ], adult

    wrong = F(total * times, times + 1)
    return Problem(
        [
            f"{a}, {b}'s {kin}, is {times} times as old as {b}. In {years} years their ages will add up to {total}. How old is {a} [now|today]?",
            f"[Riddle at the birthday table|My grandmother's favourite riddle|Asked at the party]: {a} is {times} times {b}'s age, and {years} years from now [the two are {total} years old together|they'll make {total} together]. [How old is {a}?|{a}'s age?]",
            f"{b}: 'My {kin} {a} is {times} times as old as I am!'\n[Neighbour|Passer-by|Postman]: 'And in {years} years you two will have {total} years between you.'\n[Age of {a} today?|So how old is {a}?]",
            f"The [sum of the ages|ages] of {a} ({kin}) and {b} ([niece or nephew|the younger one]) will be {total} in {years} years. [At present|Now], {a}'s age is {times} times {b}'s. [Determine|Find] {a}'s age.",
            f"how old is {a} if {a} is {times} times as old as {b} and [{years} years from now|in {years} years] [they will be {total}|their ages make {total}] together",
        ],
        old,
        solve,
        [
            (
                [
                    f"[The ages add up to {total}|{total} years are to be divided|we have {total} years between the two], [and {a} has {times} parts of {times + 1}|with {times} of {times + 1} parts for {a}|{times + 1} parts, {times} of them {a}'s].",
                    f"{total} / {times + 1} x {times} [is|gives|makes] {number(wrong)}.",
                    f"[{a} is {number(wrong)}|so {a} is {number(wrong)} years old|the age of {a}: {number(wrong)}]; [as everybody gets older by {years}, the years cancel|the {years} years go by for both and need no place in the sum|the {years} years make no difference to a ratio].",
                ],
                wrong,
            ),
            (
                [
                    f"[Begin with {total} and take {years} years off|{total} years in {years} years' time are {total - years} now|minus the {years} years it is {total - years}].",
                    f"[{times} times as old means {times} years more|the difference in age is {times}|{a} is ahead by {times}], [so|which gives|therefore] ({total - years} + {times}) / 2.",
                    f"[This is {a}'s age, {number(F(total - years + times, 2))}|{a} is {number(F(total - years + times, 2))}, then|we get {number(F(total - years + times, 2))} for {a}], [{b} being a little younger|with {b} {times} years behind|and {b} follows].",
                ],
                F(total - years + times, 2),
            ),
        ],
        fits=whole,
        about=f"[Two people, two conditions|ages grow together|first the sum of the ages today, then the shares|how old are they together today?|{a} and {b} both get older, which has to be kept in mind].",
    )


def shares(d: Draw) -> Problem:
    (a, b, c), m = d.names(3), money(d)
    source = d.pick(["a car wash", "a flea market", "a lottery win", "a garage sale", "a street concert", "a lemonade stand", "a bakery stall", "a photo prize"])
    p, q, r = d.numbers(3, 2, 9)
    part = d.number(6, 45)
    total = (p + q + r) * part

    def solve(at):
        parts = at(p + q + r, p + q, p + q + r + 1)
        one = at(F(total, parts), F(total, parts) + 1)
        high, low = max(p, q, r), min(p, q, r)
        most = at(one * high, one * high + 10)
        least = at(one * low, one * (low + 1))
        gap = at(most - least, most + least)
        return [
            f"[{p} + {q} + {r} = {parts} parts|the money is cut into {parts} parts|there are {parts} parts in all|count the parts: {parts}].",
            f"[One is worth {m(one)}|so each part is {m(one)}|{total} / {parts} = {number(one)} is the value of one|a single part comes to {m(one)}].",
            f"[The largest share, {high} parts, is {m(most)}, the smallest, {low} parts, {m(least)}|{high} parts make {m(most)} and {low} parts {m(least)}|most goes to whoever has {high} parts, {m(most)}; least to whoever has {low}, {m(least)}|{m(most)} for {high} parts, {m(least)} for {low}].",
            f"[Between them lie {m(gap)}|the difference is {m(gap)}|so one gets {m(gap)} more than the other|that is {m(gap)} apart].",
        ], gap

    third, spread = F(total, 3), max(p, q, r) - min(p, q, r)
    return Problem(
        [
            f"{a}, {b} and {c} share {m(total)} from {source} in the ratio {p} : {q} : {r}. How much more does the one with the largest share get than the one with the smallest?",
            f"[We made|We earned|We took] {m(total)} with {source}. [By hours worked|According to hours]: {a} {p}, {b} {q}, {c} {r}. [We share in that ratio|Money goes by hours]. What's the [gap|difference] between top and bottom share?",
            f"[Settlement|Final account], {source}: {m(total)}. Parts: {a} {p}, {b} {q}, {c} {r}. [State the difference between|By how much differ] the [highest and lowest payment|largest and the smallest sum paid]?",
            f"{a}: '[{m(total)} to split!|We've {m(total)} here.]'\n{b}: '[You get {p} parts, I get {q}, {c} gets {r}|{p} parts for you, {q} for me, {r} for {c}].'\n{c}: 'And how far apart are the [richest and poorest of us|biggest and smallest share] then?'",
            f"if {source} [brought in|made] {m(total)} and {a}, {b}, {c} divide it {p} to {q} to {r}, [by how much is the biggest share bigger than the smallest|whats the difference of the biggest and the smallest share]",
        ],
        part * spread,
        solve,
        [
            (
                [
                    f"[Three people, so everybody has {total} / 3|the money goes to three people, a third each|shared by three it is a third for each], [which is|or|that is] {m(third)}.",
                    f"[The ratio then moves it by its own difference|what the ratio {p} : {q} : {r} adds is the difference of its ends|now look at the ratio: from {min(p, q, r)} to {max(p, q, r)} is {spread}].",
                    f"[The gap is {m(third + spread)}|{m(third)} and {spread} make {m(third + spread)}|so the answer is {m(third + spread)}], [between first and last|as asked|for the two at the ends].",
                ],
                third + spread,
            ),
            (
                [
                    f"[The numbers {p}, {q} and {r} are the percentages of each|read {p} : {q} : {r} as percentages|{p}, {q} and {r} percent is how it is divided].",
                    f"[Between the largest and the smallest are {spread} percent|the ends differ by {spread} percent|so the difference is {spread} percent].",
                    f"[Of {m(total)} that is|taken of {m(total)} this makes|{spread} percent of {m(total)} are] {m(F(total * spread, 100))}, [the difference in money|which one has more than the other|between top and bottom].",
                ],
                F(total * spread, 100),
            ),
        ],
        number,
        about=f"[A ratio divides the money into parts|what is one part worth?|only the two ends of the ratio are compared|{m(total)}, cut up fairly|the largest and the smallest share are to be compared].",
    )


def clubs(d: Draw) -> Problem:
    who = d.names(1)[0]
    one, two = d.several(["plays chess", "sings in the choir", "swims", "learns Spanish", "does judo", "has a pet", "can ski", "acts in the theatre group", "plays the drums", "bakes bread", "collects stamps"], 2)
    group = d.pick(["class", "staff", "residents' club", "summer camp", "orchestra", "village school", "night shift"])
    both, only, other, none = d.number(4, 18), d.number(8, 40), d.number(8, 40), d.number(3, 25)
    first, second, total = only + both, other + both, only + other + both + none

    def solve(at):
        some = at(first + second - both, first + second, first + second - 2 * both)
        left = at(total - some, total - some + 10, total - some - 1)
        return [
            f"[Adding {first} and {second} counts {both} people twice|those {both} who do both are in the {first} and in the {second}|in {first} + {second} = {first + second} the {both} with both are contained two times|{first} and {second} overlap in {both} people].",
            f"[So at least one of the two applies to {some}|once the overlap is put right, {some} people remain|{some} people do one or the other|corrected, that makes {some} people].",
            f"[Of {total}, {left} are left|{total} - {some} = {left}|the rest of the {total} is {left}|this leaves {left} out of {total}], [who do neither|and they do none of it|with nothing of the kind].",
        ], left

    return Problem(
        [
            f"In a {group} of {total} people, {first} say that they {_plain(one)}, {second} that they {_plain(two)}, and {both} say both. How many [say neither|do neither of the two]?",
            f"[Survey results|Result of our questionnaire|From {who}'s survey] ({total} people, {group}): '{_plain(one)}' {first} times yes, '{_plain(two)}' {second} times yes, yes to both {both} times. [Twice no?|How many said no twice?]",
            f"[In our|In {who}'s] {group} there are {total} of us. [Somebody who {one}: {first} people|{first} people say yes to 'I {_plain(one)}']. [Somebody who {two}: {second}|Yes to 'I {_plain(two)}': {second}]. Among them {both} do both. [How many do nothing of the two|So how many don't do either]?",
            f"Total {total}. {_plain(one)}: {first}. {_plain(two)}: {second}. [Both|Overlap]: {both}. [Neither|Outside both circles]: ? ([Venn diagram|Set diagram] for a {group})",
            f"out of {total} in the {group} {first} {_plain(one)} and {second} {_plain(two)}, {both} of them [belong to both groups|do both], how many [are in none|belong to neither]",
        ],
        none,
        solve,
        [
            (
                [
                    f"[Add everything that is mentioned|all three numbers describe people, so they are summed|sum up the three numbers]: {first} + {second} + {both} = {first + second + both}.",
                    f"[The difference to {total}|compared with {total}, it differs by|between this and {total} there are] {abs(total - first - second - both)}.",
                    f"[So {abs(total - first - second - both)} people do neither|hence {abs(total - first - second - both)}|we are left with {abs(total - first - second - both)}], [those of the {group} not in any list|who stand outside|being in none of the three].",
                ],
                abs(total - first - second - both),
            ),
            (
                [
                    f"[Those who do both are the ones that matter|the key number is {both}, the overlap|only the {both} with both are certain].",
                    f"[Everybody else does at most one, and that is not both|the others have not got both|whoever is not among them lacks something], [so take them from the total|therefore subtract|and we subtract]: {total} - {both} = {total - both}.",
                    f"[The answer is {total - both}|{total - both} people do neither|so it is {total - both} of the {group}].",
                ],
                total - both,
            ),
        ],
        fits=whole,
        about=f"[Some people are in both lists|think of two circles that overlap|who is counted twice?|{total} people fall into four kinds|nobody may be counted twice].",
    )


def _plain(verb: str) -> str:
    """``plays chess`` as one says it of several people."""
    word, _, rest = verb.partition(" ")
    plural = {"has": "have", "does": "do", "can": "can"}.get(word, word.removesuffix("s"))
    return f"{plural} {rest}".strip()


def seats(d: Draw) -> Problem:
    who, vehicle = *d.names(1), d.pick(["bus", "tram", "ferry", "night train", "funicular", "shuttle"])
    start, off, on = d.number(20, 60), d.numbers(3, 3, 19), d.numbers(3, 2, 18)
    places = d.number(60, 90)
    stops = d.several(["Mill Lane", "Market", "Hospital", "Old Bridge", "Stadium", "Harbour", "Town Hall", "Cemetery", "University", "Brewery"], 3)

    def solve(at):
        one = at(start - off[0] + on[0], start + off[0] + on[0], start - off[0] + on[0] + 1)
        two = at(one - off[1] + on[1], one - off[1] - on[1], one - off[1] + on[1] - 1)
        three = at(two - off[2] + on[2], two + off[2] - on[2], two - off[2] + on[2] + 10)
        free = at(places - three, places - three - 10, places - three + 1)
        return [
            f"[After {stops[0]}: {start} - {off[0]} + {on[0]} = {one}|leaving {stops[0]} there are {one} on board|{stops[0]} changes the number from {start} to {one}|at {stops[0]}, {off[0]} leave and {on[0]} come, which makes {one}].",
            f"[{stops[1]}: {one} - {off[1]} + {on[1]} = {two}|then {stops[1]}, and it is {two}|{stops[1]} turns {one} into {two}|with {off[1]} out and {on[1]} in at {stops[1]} we have {two}].",
            f"[Last comes {stops[2]}, after which {three} are sitting there|at {stops[2]} it becomes {three}|{stops[2]}: {off[2]} out, {on[2]} in, {three} now|{three} people go on from {stops[2]}].",
            f"[So {free} of {places} seats are free|{places} - {three} = {free} seats are empty|that leaves {free} seats|free seats: {free}].",
        ], free

    ins, outs = sum(on), sum(off)
    return Problem(
        [
            f"A {vehicle} with {places} seats starts with {start} passengers. At {stops[0]} {off[0]} get off and {on[0]} get on, at {stops[1]} {off[1]} get off and {on[1]} get on, at {stops[2]} {off[2]} get off and {on[2]} get on. How many seats are free [then|after that]?",
            f"[{who} drives the {vehicle} and counts|Conductor {who}'s list|Notes of {who}, {vehicle}]:\nstart {start}\n{stops[0]} -{off[0]} +{on[0]}\n{stops[1]} -{off[1]} +{on[1]}\n{stops[2]} -{off[2]} +{on[2]}\n[Seats: {places}. Free now?|{places} seats; how many of them are free?]",
            f"[In the {vehicle} I count people to pass the time|Bored on the {vehicle}, I counted]. {start} in the beginning, [{stops[0]}: {off[0]} out, {on[0]} in|{off[0]} out and {on[0]} in at {stops[0]}], [{stops[1]}: {off[1]} out, {on[1]} in|at {stops[1]} {off[1]} out and {on[1]} in], [{stops[2]}: {off[2]} out, {on[2]} in|finally {off[2]} out and {on[2]} in at {stops[2]}]. It seats {places}. How many [are empty|empty ones]?",
            f"how many of the {places} seats in the {vehicle} are empty if {start} people [are on it|sit there] first, then {off[0]} leave and {on[0]} come in ({stops[0]}), [next|then] {off[1]} leave and {on[1]} come ({stops[1]}), [last|and] {off[2]} leave and {on[2]} come ({stops[2]})",
        ],
        places - (start - outs + ins),
        solve,
        [
            (
                [
                    f"[All who got on count|the people getting on are|boarding are] {' + '.join(map(str, on))} = {ins}, [with {start} from the start {start + ins}|and {start} were there before: {start + ins}|to which the first {start} are added: {start + ins}].",
                    "[Those getting off make room for those getting on, so they need not be counted|people who leave no longer matter|whoever gets off is forgotten].",
                    f"[Compared with {places} seats, the difference is {abs(places - start - ins)}|between {places} and {start + ins} lie {abs(places - start - ins)}|so {abs(places - start - ins)} is the number of free seats], [if one counts them at {stops[2]}|at the last stop|in the {vehicle}].",
                ],
                abs(places - start - ins),
            ),
            (
                [
                    f"[Every number is a number of seats|each figure takes seats|seats are used up by everyone mentioned]: {start} + {ins} + {outs} = {start + ins + outs}.",
                    f"[The {vehicle} has {places}|there are {places} in the {vehicle}|{places} is what the {vehicle} offers].",
                    f"[The two numbers differ by {abs(places - start - ins - outs)}, and that is what is free|hence {abs(places - start - ins - outs)} free seats|so {abs(places - start - ins - outs)} seats stay empty].",
                ],
                abs(places - start - ins - outs),
            ),
        ],
        fits=whole,
        about=f"[Keep a running count|out is minus, in is plus|how many people are on the {vehicle} in the end?|stop by stop|from {start} people to the number of empty seats].",
    )


def marks(d: Draw) -> Problem:
    who, subject = *d.names(1), d.pick(["Latin", "chemistry", "driving theory", "geography", "welding", "bookkeeping", "history", "piano", "first aid"])
    count, goal = d.number(3, 5), d.number(62, 85)
    scores = d.numbers(count, goal - 14, goal + 9)
    needed = goal * (count + 1) - sum(scores)

    def solve(at):
        want = at(goal * (count + 1), goal * count, goal * (count + 1) + 10)
        have = at(sum(scores), sum(scores) - 10, sum(scores) + 1)
        last = at(want - have, want - have + 10)
        return [
            *d.shuffled(
                f"[{count + 1} results with a mean of {goal} add up to {want}|for a mean of {goal} in {count + 1} tests, {want} points are needed|the total has to be {count + 1} x {goal} = {want}|{goal} on average, {count + 1} times: {want}].",
                f"[So far there are {have} points|{' + '.join(map(str, scores))} = {have} are there already|{who} has {have} up to now|the sum of the old results: {have}].",
            ),
            f"[The difference, {last}, must come from the last one|{want} - {have} = {last} are missing|this means {last} points more|what is still lacking is {last}].",
            f"[With {last} in the next test, {who} gets there|so {last} points it has to be|the last result must be {last}|aim for {last}].",
        ], last

    mean = F(sum(scores), count)
    return Problem(
        [
            f"{who} has {', '.join(map(str, scores[:-1]))} and {scores[-1]} points in {subject}. What must the [next|last] test bring so that the average of all {count + 1} is {goal}?",
            f"[Need help planning|Can I still make it?|Last chance:] {subject} results {', '.join(map(str, scores))}. [One more test to come|There's one test left]. I [want|need] an average of {goal} over all {count + 1}. How many points [in that one|must I get]?",
            f"{subject}, [record|report] of {who}: {' / '.join(map(str, scores))} / ? -- [average over {count + 1} tests|mean of the {count + 1}]: {goal}. [Fill in the missing result.|The missing one is?]",
            f"[Teacher|Examiner|Instructor]: 'You have {' and '.join(map(str, scores))}, {who}.'\n{who}: 'And [for a {goal} average|to end up with {goal} on average], [what do I need in test {count + 1}|the last one must be what]?' ({subject})",
            f"what does {who} have to score in the {count + 1}th {subject} test [to get to {goal} on average|for the mean to be {goal}], up to now its {' '.join(map(str, scores))}",
        ],
        needed,
        solve,
        [
            (
                [
                    f"[The average now is {sum(scores)} / {count} = {number(mean)}|up to now {who} has {number(mean)} on average|so far the mean is {number(mean)}].",
                    f"[Up to {goal} it is {number(goal - mean)}|it differs from {goal} by {number(goal - mean)}|{goal} - {number(mean)} = {number(goal - mean)} is missing].",
                    f"[The new test has to make up for that, {goal} + {number(goal - mean)}|so the last test needs {goal} and {number(goal - mean)} more|put this on top of {goal}]: {number(goal + goal - mean)}.",
                ],
                goal + goal - mean,
            ),
            (
                [
                    f"[The last result was {scores[-1]}|{who} got {scores[-1]} last time|we look at the latest one, {scores[-1]}].",
                    f"[For an average of {goal}, it and the next one have to lie evenly around {goal}|an average of {goal} is in the middle of two results, {scores[-1]} and the next|{goal} has to be halfway between the last result and the new one], [so|hence|thus] 2 x {goal} - {scores[-1]} = {2 * goal - scores[-1]}.",
                    f"[{who} must get {2 * goal - scores[-1]}|with {2 * goal - scores[-1]} the average is right|{2 * goal - scores[-1]} points will do], [whatever came before|the older tests being history|and the rest stays as it is].",
                ],
                2 * goal - scores[-1],
            ),
        ],
        fits=lambda value: 0 < value <= 130,
        about=f"[An average times the number of tests is the total|work with totals, not averages|how many points must there be in all?|{who} needs a certain sum|what the sum should be, and what it is now].",
    )


ALL = (ages, shares, clubs, seats, marks)
