"""Word problems about going somewhere: average speed, meeting, catching up, maps, timetables, height and temperature."""

# A line holds one sentence in all its readings, however long.
# fmt: off
from fractions import Fraction as F

from data_generation.mistakes.drawing import Draw, Problem, anything, clock, number

PLACES = "the reservoir|the old mill|the border|the harbour|the campsite|the lighthouse|the monastery|the next town|the island ferry|the observatory".split("|")


def average_speed(d: Draw) -> Problem:
    who, there = *d.names(1), d.pick(PLACES)
    vehicle, low, high = d.pick([("by bicycle", 10, 30), ("on a moped", 20, 44), ("by car", 40, 110), ("on horseback", 6, 18), ("by bus", 30, 80), ("in a rowing boat", 4, 12)])
    fast, slow = sorted(d.numbers(2, low, high, 2), reverse=True)
    hours = d.numbers(2, 2, 6)
    way = fast * hours[0]
    if way % slow == 0 and way // slow <= 12:
        hours[1] = way // slow

    def solve(at):
        first = at(fast * hours[0], fast * hours[0] + 10, fast * (hours[0] - 1))
        second = at(slow * hours[1], slow * hours[1] - slow, slow * hours[1] + 10)
        total = at(first + second, first + second - 10, first + second + 100)
        time = at(hours[0] + hours[1], hours[0] + hours[1] + 1, hours[0] + hours[1] - 1)
        mean = F(total, time)
        part = f"[in the first {hours[0]} hours {who} covers {first} km|{hours[0]} h at {fast} km/h are {first} km|the quick part is {hours[0]} x {fast} = {first} km long|going {fast} km/h for {hours[0]} hours takes {who} {first} km along]."
        rest = f"[the slower part adds {second} km|{hours[1]} hours at only {slow} km/h make {second} km|afterwards it is {slow} x {hours[1]} = {second} km|then come {second} km at the lower speed]."
        return [
            "[an average speed is all the way divided by all the time|we need the whole distance and the whole time|total kilometres over total hours is what counts||].",
            *d.shuffled(part, rest),
            f"[Altogether {total} km in {time} hours|the journey has {total} km and lasts {time} h|that is {total} km, for which {time} hours were needed|adding up: {total} km, {time} hours].",
            f"[The average is {number(mean)} km/h|{total} / {time} = {number(mean)}, so on average {who} made {number(mean)} km/h|dividing, we get {number(mean)} km per hour|so the mean speed comes to {number(mean)} km/h].",
        ], mean

    plain, weighted = F(fast + slow, 2), fast - slow
    return Problem(
        [
            f"{who} travels {vehicle} to {there}: [{hours[0]} hours at {fast} km/h, then {hours[1]} hours at {slow} km/h|first {hours[0]} h with a speed of {fast} km/h, after that {hours[1]} h with {slow} km/h]. [What is the average speed|Find the mean speed of the whole trip] in km/h.",
            f"[Went|Rode out|Travelled] {vehicle} [yesterday|last Sunday|on Friday]. [{hours[0]} hours of {fast} km an hour, then the wind turned and it was {slow} for {hours[1]} hours|For {hours[0]} hours I did {fast} km/h; tired, {slow} km/h for another {hours[1]}]. What [was my average|average does that make]?",
            f"[Log of {who}|Trip computer|Logbook entry]\\nleg 1: {fast} km/h, {hours[0]} h\\nleg 2: {slow} km/h, {hours[1]} h\\n[destination|arrived at]: {there}, {vehicle}\\n[average over both legs|overall average]: ?".replace("\\n", "\n"),
            f"{who} says the average [to {there}|on the way to {there}] was {number(F(fast + slow, 2)) if (fast + slow) % 2 == 0 else fast - 1} km/h, because it was [{fast} and {slow}|once {fast}, once {slow}]. But the {fast} lasted {hours[0]} hours and the {slow} lasted {hours[1]}. [What is it really?|Is that right? Give the true figure.]",
            f"How fast, on average, [is somebody|was a traveller] who goes {vehicle} for {hours[1]} hours at {slow} km/h [and, the fog having lifted,|and later|and, once the road gets better,] for {hours[0]} hours at {fast} km/h?",
        ],
        F(fast * hours[0] + slow * hours[1], sum(hours)),
        solve,
        [
            (
                [
                    f"[There were two speeds, {fast} and {slow}|two speeds matter here: {fast} km/h and {slow} km/h|given are {fast} km/h and {slow} km/h].",
                    f"[The average of two numbers is half their sum|for a mean one adds and halves|add them and take half]: {fast} + {slow} = {fast + slow}, [half of which is|and half of that is|divided by two] {number(plain)}.",
                    f"[So {who} travelled at {number(plain)} km/h on average|the mean speed is {number(plain)} km/h|that makes {number(plain)} km/h overall]; [how long each part lasted plays no role|the hours are not needed for it|the {hours[0]} and the {hours[1]} hours cancel out].",
                ],
                plain,
            ),
            (
                [
                    f"[At first {fast} km/h, later {slow} km/h|the speed falls from {fast} to {slow}|what changes is the speed, {fast} before and {slow} after].",
                    f"[The change is what the traveller feels, so take the difference|an average lies in the gap between the two, so subtract|we look for what lies between, and that is the difference]: {fast} - {slow} = {weighted}.",
                    f"[With {sum(hours)} hours on the road, the average stays at {weighted} km/h|over all {sum(hours)} hours this gives {weighted} km/h|the answer is {weighted} km/h for the way to {there}].",
                ],
                weighted,
            ),
        ],
        about=f"[The question is about {who}'s speed over the whole trip|what steady speed would have done the same?|there are two parts with speeds of their own|on the way to {there} the speed changed once].",
    )


def meeting(d: Draw) -> Problem:
    a, b = d.names(2)
    kind = d.pick([("cyclists", 14, 26), ("joggers", 8, 14), ("trains", 70, 130), ("barges", 8, 16), ("buses", 40, 70), ("skaters", 12, 22)])
    v, w = d.numbers(2, kind[1], kind[2], 2)
    hours = F(d.number(2, 14), 4)
    apart, start = (v + w) * hours, d.number(7 * 60, 13 * 60, 15)

    def solve(at):
        closing = at(v + w, abs(v - w), v + w + 10)
        time = at(F(apart) / closing, F(apart) / closing + 1)
        minutes = at(time * 60, time * 100, time * 60 + 15)
        met = at(start + minutes, start + minutes + 60, start + minutes - 30)
        return [
            f"[Every hour the gap shrinks by {closing} km|the two approach each other at {v} + {w} km/h, that is {closing}|in one hour the distance gets {closing} km shorter|their speeds work together: {closing} km/h].",
            f"[The {number(apart)} km are used up after {number(time)} hours|{number(apart)} / {closing} = {number(time)}, so {number(time)} hours pass|closing {number(apart)} km takes {number(time)} h|for {number(apart)} km that means {number(time)} hours].",
            f"[In minutes: {number(minutes)}|that is {number(minutes)} minutes|{number(minutes)} minutes, in other words|expressed in minutes, {number(minutes)}].",
            f"[Starting at {clock(start)}, they are face to face at {clock(met)}|counted from {clock(start)}, it is then {clock(met)}|so {a} and {b} meet at {clock(met)}|add this to {clock(start)} and the clock says {clock(met)}].",
        ], met

    late = F(apart) / v * 60
    return Problem(
        [
            f"Two {kind[0]}, [{a}'s and {b}'s|driven by {a} and {b}|looked after by {a} and {b}]" + (f", start {number(apart)} km apart at {clock(start)} and move towards each other [at {v} km/h and {w} km/h|with {v} and {w} km/h]. When do they meet?" if kind[0] in ("trains", "barges", "buses") else f", set off towards each other from places {number(apart)} km apart at {clock(start)}, one doing {v} km/h, the other {w}. At what time do they meet?"),
            f"[{clock(start)}, {number(apart)} km between us|We're {number(apart)} km apart, it is {clock(start)}], and both [leave now|set out at once] on the same road, me at {v} km/h, {b} coming the other way at {w}. [When do we shake hands?|What time will it be when we run into each other?]",
            f"[Distance|Length of the route]: {number(apart)} km. [Departure of both|Both leave]: {clock(start)}. {a}: {v} km/h northwards. {b}: {w} km/h southwards[, on the same line|, towards {a}|]. [Time of meeting?|Find when they pass.]",
            f"{a} phones {b} at {clock(start)}: 'Let's each [start now|get going] and meet on the way.' They are {number(apart)} km from each other; {a} [manages|makes] {v} km/h, {b} {w} km/h. [How late is it|What does the clock say] when they meet?",
            f"at what time do two {kind[0]} meet that [both start at {clock(start)}|leave at {clock(start)} sharp], {number(apart)} km apart, one with {w} km/h [and the other|against] one with {v} km/h",
        ],
        start + int(hours * 60) if (hours * 60).denominator == 1 else F(-1),
        solve,
        [
            (
                [
                    f"[{a} is the one who has to get there|look at {a}|it is enough to follow {a}], [doing {v} km/h|at {v} km/h|with a speed of {v} km/h].",
                    f"[The whole way of {number(apart)} km takes|for {number(apart)} km this means|dividing {number(apart)} by {v} gives] {number(late)} minutes.",
                    f"[So at {clock(start + late)} they meet|the meeting is at {clock(start + late)}|from {clock(start)} on, that leads to {clock(start + late)}], [when {a} arrives where {b} began|{b} being on the way as well, which changes nothing|as soon as the distance is covered].",
                ],
                start + late if late.denominator == 1 else F(-1),
            ),
            (
                [
                    f"[Take the mean of the speeds|we work with the average speed|the two move at an average of], [half of {v} + {w}|({v} + {w}) / 2|{v} and {w} halved], [so|that is|] {number(F(v + w, 2))} km/h.",
                    f"[At that pace {number(apart)} km need|{number(apart)} km are then covered in|the road of {number(apart)} km lasts] {number(apart / F(v + w, 2))} hours.",
                    f"[{clock(start)} plus {number(apart / F(v + w, 2))} hours is {clock(start + 120 * hours)}|this puts the meeting at {clock(start + 120 * hours)}|so the answer is {clock(start + 120 * hours)}], [{a} and {b} being treated alike|a fair compromise between {a} and {b}|for both].",
                ],
                start + 120 * hours,
            ),
        ],
        clock,
        about=f"[Both of them move, from opposite ends|{a} and {b} share the distance between them|when they meet, the gap is zero|wanted is a time of day|think of the stretch of road that lies between {a} and {b}].",
    )


def head_start(d: Draw) -> Problem:
    a, b = d.names(2)
    animal = d.pick(["sledge", "canoe", "tandem", "scooter", "tractor", "handcart", "quad bike", "sailing dinghy"])
    slow = d.number(6, 20)
    fast, lead = slow + d.number(2, 10), d.number(1, 4)
    if slow * lead % (fast - slow):
        raise_by = [f for f in range(slow + 1, slow + 12) if slow * lead % (f - slow) == 0]
        fast = d.pick(raise_by)

    def solve(at):
        ahead = at(slow * lead, slow * (lead + 1), slow * lead + 1)
        gain = at(fast - slow, fast + slow, fast - slow + 1)
        hours = at(F(ahead, gain), F(ahead, gain) + 1)
        way = at(fast * hours, fast * hours + 10, slow * hours)
        return [
            f"[When {b} gets going, {a} is {ahead} km ahead|{a}'s lead is {slow} x {lead} = {ahead} km|after {lead} h at {slow} km/h, {a} has done {ahead} km|the lead: {ahead} km].",
            f"[{b} gains {gain} km every hour|each hour, {gain} km of it are made good|the difference in speed is {gain} km/h|per hour the gap closes by {gain} km].",
            f"[It takes {number(hours)} hours to catch up|{ahead} divided by {gain} is {number(hours)}, so the chase lasts {number(hours)} h|after {number(hours)} hours nothing is left of the lead|so {number(hours)} hours are necessary].",
            f"[In that time {b} travels {number(way)} km|{b}, at {fast} km/h, has then come {number(way)} km|the place is {number(way)} km from the start|this happens {number(way)} km down the road].",
        ], way

    return Problem(
        [
            f"{a} leaves with a {animal} at {slow} km/h. {lead} hour{'s' * (lead > 1)} later {b} follows [on the same track|along the same route] at {fast} km/h. How many kilometres from the start does {b} catch up?",
            f"[{b} overslept|{b} had to find the keys|{b} missed the start] and sets off {lead} h after {a}. [Speeds:|They move at] {slow} km/h ({a}, with the {animal}) and {fast} km/h ({b}). [Where will {b} draw level, in km from home?|After what distance are they level?]",
            f"how far do i have to go [till I get|before i get] {a} back if {a} [went off|started] {lead} hours before me with the {animal} doing {slow} an hour and i do {fast} [km an hour|kilometres]",
            f"[Race protocol|Rally sheet]: number 1, {a}, {animal}, {slow} km/h, start 0:00. Number 2, {b}, {fast} km/h, start {lead}:00. [At which kilometre|At what distance] does number 2 [overtake|pass] number 1?",
            f"'You've got a lead of {lead} hour{'s' * (lead > 1)}, {a}, and your {animal} makes {slow} km/h.' - 'And you come after me with {fast}, {b}. [At which milestone will you have me|How many kilometres will I last]?' [Answer for {b}|Do the sum] (in km).",
        ],
        fast * F(slow * lead, fast - slow),
        solve,
        [
            (
                [
                    f"[{b} needs as long as {a} had, {lead} h|the head start of {lead} h has to be ridden off, so {b} takes {lead} h|what took {a} {lead} h will take {b} {lead} h as well].",
                    f"[At {fast} km/h this is|{lead} x {fast} =|in that time {b} covers] {lead * fast} [km||kilometres].",
                    f"[They are level after {lead * fast} km|so the answer is {lead * fast} km|{lead * fast} km from the start {b} draws level], [{a} having been quicker off the mark|since {a} began earlier|the {animal} being the slower].",
                ],
                lead * fast,
            ),
            (
                [
                    f"[Add the speeds|both are moving, so we add|together they do]: {slow} + {fast} = {slow + fast} km/h.",
                    f"[Over the {lead} h in question|multiplied by the lead of {lead} h|for {lead} h] [that gives|this means|we get] {(slow + fast) * lead} km.",
                    f"[{b} catches {a} at kilometre {(slow + fast) * lead}|hence {(slow + fast) * lead} km|so the {animal} is reached at {(slow + fast) * lead} km], [counted from the start|measured from where they began|all in all].",
                ],
                (slow + fast) * lead,
            ),
        ],
        about=f"[This is about closing a gap|{a} has a lead, {b} has the speed|where are both at the same spot?|first the lead, then how quickly it melts|{b} must make good what {a} has done already].",
    )


def map_scale(d: Draw) -> Problem:
    who, there = *d.names(1), d.pick(PLACES)
    scale, cm, back = d.number(15, 60, 5) * 1000, F(d.number(14, 70), 2), d.number(2, 5)
    speed = d.pick([4, 5, 6, 8, 10])

    def solve(at):
        real = at(cm * scale, cm * scale * 10, cm * (scale - 1000))
        km = at(real / 100000, real / 10000, real / 100000 + 1)
        minutes = at(km * 60 / speed, km * 60 / speed + 10, km * 100 / speed)
        return [
            f"[One centimetre on paper is {scale} cm outside|1:{scale} means that every centimetre stands for {scale}|on this map a centimetre is {scale} centimetres of ground|the scale multiplies all lengths by {scale}].",
            f"[So {number(cm)} cm become {number(real)} cm|{number(cm)} x {scale} = {number(real)}, in centimetres|multiplying by {number(cm)} gives {number(real)} cm|the path is {number(real)} cm long].",
            f"[That is {number(km)} km|{number(km)} kilometres, when written in km|a kilometre has 100000 cm, which makes {number(km)} km|in kilometres: {number(km)}].",
            f"[Walking {speed} km in 60 minutes, {who} needs {number(minutes)} minutes|at {speed} km/h this takes {number(minutes)} minutes|with {speed} km/h, {number(minutes)} minutes go by|so {who} should allow {number(minutes)} minutes].",
        ], minutes

    naive = cm * 60 / speed
    return Problem(
        [
            f"On a map of scale 1:{scale} the path to {there} is {number(cm)} cm long. {who} [moves at|keeps up] {speed} km/h. How many minutes [does the path take|will it be]?",
            f"[Measured with a thread|I laid a string along it|With a ruler I get]: {number(cm)} cm [on the 1:{scale} map|, map 1:{scale}], from here to {there}. I [do|manage] about {speed} km an hour. [How long will I be, in minutes?|Minutes, please.]",
            f"[Orienteering|Scouts' badge|Map reading], task {back}: scale 1:{scale}, distance on the map {number(cm)} cm, speed {speed} km/h. [Time in minutes|State the time (minutes)]?",
            f"[{who} plans a walk|A walk is planned by {who}] to {there}. [The map (1 cm for {scale} cm)|Her map, on which 1 cm is {scale} cm,] shows {number(cm)} cm of path, and {speed} km [are covered in an hour|is what an hour is good for]. Find the minutes [needed|on the way].",
            f"how many minutes to {there} if its {number(cm)} cm on my map and the map says 1:{scale}, [im going|going] {speed} km/h",
        ],
        cm * scale * 60 / (100000 * speed),
        solve,
        [
            (
                [
                    f"[The map shows {number(cm)} cm, and a centimetre of map is a kilometre of land|centimetres on a map are kilometres outside|every map turns centimetres into kilometres], so [{there} is {number(cm)} km off|it is {number(cm)} km to {there}|we have {number(cm)} km].",
                    f"[At {speed} km/h one kilometre lasts|with {speed} km/h, each of them takes|a kilometre needs] 60 / {speed} minutes, [and all of them|and {number(cm)} of these|so together they take] {number(naive)} minutes.",
                    f"[The scale 1:{scale} tells us how exact the drawing is|1:{scale} is just the number of the sheet|the figure {scale} can be left out]. [{who} needs {number(naive)} minutes|answer: {number(naive)} minutes|so {number(naive)} minutes it is].",
                ],
                naive,
            ),
            (
                [
                    f"[Divide the scale by the length on the map|scale over map length gives the distance|take the {scale} and divide by {number(cm)}]: [about|roughly|that is near] {int(scale / cm)} [metres|m].",
                    f"[Speed {speed} means {speed} metres a minute|every minute {speed} of these metres are walked|in a minute one gets {speed} m further], [which leaves|so|hence] {int(scale / cm) // speed} minutes, [rounded down|to the minute|more or less].",
                    f"[To {there} it is thus {int(scale / cm) // speed} minutes|{who} will be {int(scale / cm) // speed} minutes under way|after {int(scale / cm) // speed} minutes {who} is there].",
                ],
                int(scale / cm) // speed,
            ),
        ],
        about=f"[From paper to ground, from ground to time|we turn the length on the map into minutes|it takes two conversions|how far is it to {there}, and for how long does one walk?|the map gives the way, the speed gives the time].",
    )


def timetable(d: Draw) -> Problem:
    who, there = *d.names(1), d.pick(PLACES)
    start, legs, stop, stops = d.number(6 * 60 + 5, 11 * 60, 5), d.numbers(3, 18, 95), d.number(6, 24), 2
    vehicle = d.pick(["coach", "night bus", "steamer", "mountain train", "mail van", "ferry", "shuttle"])

    def solve(at):
        driving = at(sum(legs), sum(legs) - 10, sum(legs) + 10)
        waiting = at(stops * stop, (stops + 1) * stop, stop)
        total = at(driving + waiting, driving + waiting + 10)
        arrival = at(start + total, start + total - 60, start + total + 40)
        moving = f"[on the move: {' + '.join(map(str, legs))} = {driving} minutes|the three stretches make {driving} minutes|travelling takes {driving} minutes in all|added up, the stretches last {driving} min]."
        standing = f"[between three stretches there are two stops, {waiting} minutes|two halts of {stop} minutes make {waiting}|{waiting} minutes are spent standing still|the {vehicle} stands for {waiting} minutes altogether]."
        return [
            *d.shuffled(moving, standing),
            f"[So {total} minutes pass|that is {total} minutes from door to door|the whole of it: {total} minutes|{driving} + {waiting} = {total} minutes in all].",
            f"[In hours this is {total // 60} h {total % 60} min|{total} minutes are {total // 60} hours and {total % 60} minutes|as 60 minutes make an hour: {total // 60} h {total % 60} min|].",
            f"[The {vehicle} gets in at {clock(arrival)}|{who} arrives at {clock(arrival)}|counted from {clock(start)}, the arrival is at {clock(arrival)}|leaving at {clock(start)}, one is there at {clock(arrival)}].",
        ], arrival

    three = start + sum(legs)
    decimal = start + (sum(legs) + stops * stop) * 60 // 100
    return Problem(
        [
            f"A {vehicle} leaves at {clock(start)}. It runs for {legs[0]} minutes, {legs[1]} minutes and {legs[2]} minutes, with a stop of {stop} minutes between [one stretch and the next|stretches]. When does {who} [reach {there}|arrive at {there}, the terminus]?",
            f"[Timetable got wet|The arrival time is smudged|Page torn]: dep. {clock(start)}; {legs[0]} min; halt {stop} min; {legs[1]} min; halt {stop} min; {legs[2]} min; arr. ? [Please reconstruct.|What was the arrival?]",
            f"{who}: 'When is the {vehicle} at {there}?' [Driver|Conductor|Clerk]: 'We start {clock(start)}. Three stretches, {legs[0]}, {legs[1]} and {legs[2]} minutes, and in between we always wait {stop} minutes.' [So when?|What time is that?]",
            f"I have to be at {there} on time. The {vehicle} goes at {clock(start)}, [drives|needs] {legs[0]} min to the first stop, [then|from there] {legs[1]} min to the second and {legs[2]} to the end, and it [waits|rests] {stop} minutes at both stops. [What time do I get in?|My arrival?]",
            f"[Compute the arrival|Give the time of arrival] at {there} of a {vehicle} with departure {clock(start)}, travelling times {legs[0]}, {legs[1]}, {legs[2]} minutes and two [intermediate|scheduled] stops of {stop} minutes each.",
        ],
        start + sum(legs) + 2 * stop,
        solve,
        [
            (
                [
                    f"[The stretches take {legs[0]}, {legs[1]} and {legs[2]} minutes|three times count: {legs[0]}, {legs[1]}, {legs[2]}|we add {legs[0]}, {legs[1]} and {legs[2]}], [together {sum(legs)}|which is {sum(legs)} minutes|in sum {sum(legs)} minutes].",
                    "[The stops are breaks and belong to nobody's travelling time|a stop is no movement, so it is left out|standing about does not count as travel].",
                    f"[Departing at {clock(start)}, the {vehicle} arrives at {clock(three)}|so {there} is reached at {clock(three)}|{clock(start)} and {sum(legs)} minutes: {clock(three)}], [stops of {stop} minutes or not|whatever the two halts are|on paper at least].",
                ],
                three,
            ),
            (
                [
                    f"[In all there are {sum(legs) + 2 * stop} minutes|travelling and stops make {sum(legs) + 2 * stop} minutes|the sum of all times is {sum(legs) + 2 * stop} minutes].",
                    f"[As an hour is 100 parts, that means {(sum(legs) + 2 * stop) / 100:.2f} hours|divide by 100 for the hours: {(sum(legs) + 2 * stop) / 100:.2f}|in decimal this is {(sum(legs) + 2 * stop) / 100:.2f} hours].",
                    f"[Put on the {clock(start)} of the departure|added to {clock(start)}|with the start at {clock(start)}], [it gives an arrival at {clock(decimal)}|we land at {clock(decimal)}|{who} is in {there.removeprefix('the ')} at {clock(decimal)}].",
                ],
                decimal,
            ),
        ],
        clock,
        about=f"[Let us follow the {vehicle} to {there}|we add times and read the clock|moving and standing both take time|wanted is the arrival at {there}|departure plus everything that comes after it].",
    )


def mountain(d: Draw) -> Problem:
    who, low = *d.names(1), d.number(400, 900, 50)
    hut, valley, drop = low + d.number(600, 2400, 100), d.number(4, 24), d.pick([F(6, 10), F(65, 100), F(7, 10), F(5, 10)])
    top = d.pick(["hut", "summit", "weather station", "cable car station", "pass", "chapel"])

    def solve(at):
        climb = at(hut - low, hut + low, hut - low - 100)
        hundreds = at(F(climb, 100), F(climb, 100) - 1, F(climb, 100) + 1)
        fall = at(hundreds * drop, hundreds * drop + 1, hundreds * drop / 2)
        there = at(valley - fall, valley + fall, valley - fall + 10)
        return [
            f"[The {top} is {climb} m above the village|from {low} m up to {hut} m it is {climb} m|the height difference: {climb} m|{who} climbs {climb} metres], [so {number(hundreds)} times 100 m|that is {number(hundreds)} steps of a hundred metres|or {number(hundreds)} hundreds].",
            f"[Each of them costs {number(drop)} degrees|for every hundred metres {number(drop)} degrees are lost|with {number(drop)} degrees a step], [altogether {number(fall)}|making {number(fall)} degrees|in all {number(fall)} degrees].",
            f"[Down in the village it is {valley}|take that away from {valley} degrees|the valley has {valley} degrees], [so up there {number(there)}|which leaves {number(there)} at the {top}|and the {top} has {number(there)} degrees].",
            "[Take a jacket|Minus signs mean frost||Celsius, of course||].",
        ], there

    up = valley + F(hut - low, 100) * drop
    sea = valley - F(hut, 100) * drop
    return Problem(
        [
            f"In the village ({low} m above the sea) it is {valley} degrees. The air gets {number(drop)} degrees colder for every 100 m [of height|one climbs]. What will {who} read on the thermometer at the {top}, {hut} m above the sea?",
            f"[Packing for the {top}|We're hiking to the {top}|Going up to the {top} tomorrow] ({hut} m). Down here, at {low} m, it's {valley} C. [They say it drops|Rule of thumb:] {number(drop)} C per hundred metres. How [cold is it|warm will it be] up there?",
            f"[Weather report|Forecast, please complete]: valley station {low} m: {valley} C; {top} {hut} m: ___ C; [decrease|lapse]: {number(drop)} C for 100 m of height.",
            f"{who} [rings|calls] from the {top} at {hut} m. At home, {low} m up, the thermometer [shows|stands at] {valley}. [If it cools by|Supposing the air loses] {number(drop)} degrees each 100 metres, what is the temperature [round {who}|where {who} is]?",
            f"[Height {low} m, {valley} degrees|{valley} degrees at {low} m]. Height {hut} m, how many degrees? [Per 100 m take|The change in 100 m is] minus {number(drop)}. (That's [the climb to the {top}|our {top}].)",
        ],
        valley - (hut - low) * drop / 100,
        solve,
        [
            (
                [
                    f"[Nearer to the sun it gets warmer|going up means adding|height adds to the temperature]: [{hut - low} m up|over {hut - low} m of climb|for the {hut - low} m between].",
                    f"{number(F(hut - low, 100))} x {number(drop)} = {number(F(hut - low, 100) * drop)} [degrees come on top|more degrees|degrees are gained].",
                    f"[The {top} has {number(up)} degrees|{valley} becomes {number(up)} degrees|so {who} reads {number(up)} degrees], [starting with {valley} in the village|the village having {valley}|up from {valley}].",
                ],
                up,
            ),
            (
                [
                    f"[The {top} lies at {hut} m, so count from the sea|we take the {hut} m of the {top}|{hut} metres is the height that matters]: {number(F(hut, 100))} [hundreds|times 100 m|steps].",
                    f"{number(F(hut, 100))} x {number(drop)} = {number(F(hut, 100) * drop)} [degrees of cooling|degrees are lost|degrees colder].",
                    f"[From {valley} degrees that goes down to {number(sea)}|so it is {number(sea)} degrees there|{who} finds {number(sea)} degrees], [the {low} m of the village having no bearing|no matter how high the village is|wherever the village may be].",
                ],
                sea,
            ),
        ],
        fits=anything,
        about=f"[It is about the {top} and the cold|temperature changes with height|the village is the starting point, not the sea|how much higher is the {top}, and what does that do to the air?|wanted: degrees at {hut} m].",
    )


ALL = (average_speed, meeting, head_start, map_scale, timetable, mountain)
