"""Probability and counting."""

# A line holds one sentence in all its readings, however long.
# fmt: off
import itertools
import math
from fractions import Fraction as F

from data_generation.mistakes.drawing import Draw, Problem, fraction, integer, whole

THINGS = "marbles|balls|socks|beads|sweets|tokens|buttons".split("|")


COLOURS = "red|blue|green|white|black|yellow|purple|orange".split("|")


def two_draws(d: Draw) -> Problem:
    things, (one, two) = d.pick(THINGS), d.several(COLOURS, 2)
    a, b = d.number(3, 12), d.number(3, 12)
    box = d.pick(["bag", "drawer", "tin", "hat", "jar"])
    total = a + b
    both = f"both are {one}"

    def solve(at):
        first = at(F(a, total), F(a, b))
        second = at(F(a - 1, total - 1), F(a, total), F(a - 1, total), F(a, total - 1))
        result = at(first * second, first + second)
        return [
            f"[For the first, {a} of {total} are {one}: {fraction(first)}|at first the chance of {one} is {fraction(first)}|{fraction(first)} is the chance that the first is {one}|the first is {one} with probability {fraction(first)}].",
            f"[For the second it is {fraction(second)}|then the chance is {fraction(second)}|the second is {one} with probability {fraction(second)}|on the second draw, {fraction(second)}][, as one {one} has gone| then||, given the first].",
            f"[Both must happen, so|for both together|combining the two steps|one after the other]: {fraction(first)} {'*' if result == first * second else '+'} {fraction(second)} = {fraction(result)}.",
            f"[The probability is {fraction(result)}|so the answer is {fraction(result)}|hence {fraction(result)}|].",
        ], result

    halves, ratio = F(2, total), F(1, 4)
    return Problem(
        [
            f"A {box} contains {a} {one} and {b} {two} {things}. Two are taken out [without looking|at random], one after the other, and not put back. What is the probability that {both}?",
            f"[In the dark|Without looking], [I take|somebody takes] two {things} from a {box} with {a} {one} and {b} {two} ones. [How likely is it that {both}?|Chance that {both}?]",
            f"[Experiment|Probability]: {box}, {a} {one}, {b} {two} {things}; two draws without replacement. P({one}, {one}) = [?|..., as a fraction]",
            f"'[Bet you get two {one} ones|Two {one} ones, I bet]!' - '[From|Out of] {a} {one} and {b} {two} {things}, [taking two|two at a time]?' [What is the chance|How probable is it], with nothing put back into the {box}?",
            f"{a} {one} {things} {b} {two} {things} in a {box}, [i pull two|pulling two], [probability of {one} both times|whats the chance of two {one} ones] [as a fraction|in lowest terms]",
        ],
        F(a * (a - 1), total * (total - 1)),
        solve,
        [
            (
                [
                    f"[Two are taken out of {total}|of {total} {things} two are chosen|two in {total} is what happens here], [so the chance is 2 / {total}|which is 2 over {total}|a share of 2 / {total}].",
                    f"[The colours share that fairly|colour has no influence on drawing|every one of them could be {one}].",
                    f"[So the probability is {fraction(halves)}|this gives {fraction(halves)}|hence {fraction(halves)}], [for {one} as for {two}|whichever colour is wanted|in lowest terms].",
                ],
                halves,
            ),
            (
                [
                    f"[There are two colours, {one} and {two}|a draw has two outcomes, {one} or {two}|either {one} or {two} comes out], [so it is 1/2 each time|one half for each draw|a chance of 1/2].",
                    "[Twice, that makes 1/2 * 1/2 = 1/4|for two draws, a half of a half|the second is again 1/2].",
                    f"[The answer is 1/4|so 1/4|hence the probability 1/4], [{a} and {b} only telling how long one can go on|whatever the numbers {a} and {b}|the amounts {a} and {b} being without effect].",
                ],
                ratio,
            ),
        ],
        fraction,
        lambda value: 0 < value < 1,
        f"[Two draws, nothing put back|the second draw depends on the first|what is in the {box} for the second draw?|first one, then the other|multiply along the way].",
    )


def dice_sum(d: Draw) -> Problem:
    faces = d.pick([6, 6, 6, 8, 4, 10])
    limit = d.number(4, 2 * faces - 1)
    kind = d.pick(["exactly", "at least"])
    who = d.pick(["board game", "dice game", "bet", "school fair", "village fair", "card-and-dice game"])
    hits = [pair for pair in itertools.product(range(1, faces + 1), repeat=2) if (sum(pair) == limit if kind == "exactly" else sum(pair) >= limit)]

    def solve(at):
        total = at(faces * faces, 2 * faces)
        good = at(len(hits), len({tuple(sorted(pair)) for pair in hits}), len(hits) + 1)
        chance = F(good, total)
        return [
            f"[There are {total} equally likely results|two dice have {total} outcomes|all in all {total} pairs can come up|count the pairs: {total}].",
            f"[{kind} {limit} comes from {good} of them|{good} of the pairs make {kind} {limit}|the sum is {kind} {limit} in {good} cases|favourable are {good}], [beginning with {hits[0][0]} and {hits[0][1]}|for instance {hits[-1][0]} and {hits[-1][1]}|such as {hits[len(hits) // 2][0]} and {hits[len(hits) // 2][1]}].",
            f"[So the probability is {good}/{total}|that is a chance of {good}/{total}|divide: {good}/{total}|as a fraction, {good}/{total}]"
            + ("." if fraction(chance) == f"{good}/{total}" else f", [or {fraction(chance)}|in lowest terms {fraction(chance)}|which is {fraction(chance)}]."),
        ], chance

    sums = 2 * faces - 1
    fitting = 1 if kind == "exactly" else 2 * faces - limit + 1
    naive, single = F(fitting, sums), F(limit, faces * faces)
    return Problem(
        [
            f"Two dice with {faces} faces (1 to {faces}) are thrown. What is the probability that the sum is {kind} {limit}?",
            f"[In a {who}|For a {who}] you [win|score] with a sum of {kind} {limit} [on two {faces}-sided dice|from two dice with {faces} sides]. [Chance?|How likely is that, as a fraction?]",
            f"[Two {faces}-sided dice|Dice: two, faces 1 to {faces}]. [Event: sum {kind} {limit}|Wanted: P(sum {kind} {limit})]. [Give the fraction.|As a fraction?]",
            f"[My brother claims a sum of {kind} {limit}|They say a sum of {kind} {limit}] is [rare|nothing special] with two dice of {faces} faces. [What is the exact probability?|How probable is it really?]",
            f"chance of [throwing|rolling|getting] {kind} {limit} with two dice that [have numbers|go from] 1 to {faces}, [added|both together]",
        ],
        F(len(hits), faces**2),
        solve,
        [
            (
                [
                    f"[The sums go from 2 to {2 * faces}, which makes {sums} possible results|possible sums: 2 to {2 * faces}, {sums} in number|{sums} different sums exist, 2 up to {2 * faces}].",
                    f"[Of these {fitting} fit|{fitting} of them count|what we want is {fitting} of them], [each as likely as any other|all being equally likely|with the same chance for each].",
                    f"[So the probability is {fraction(naive)}|that gives {fraction(naive)}|hence {fraction(naive)}] [as a fraction|in lowest terms|].",
                ],
                naive,
            ),
            (
                [
                    f"[The number {limit} is what we hope for|{limit} is the favourable number|we want {limit}], [out of {faces} * {faces} = {faces**2} pairs|from {faces**2} pairs|and there are {faces**2} pairs].",
                    f"[Favourable over possible is {limit} / {faces**2}|put one over the other, {limit} / {faces**2}|the rule is favourable by possible, {limit} / {faces**2}].",
                    f"[So {fraction(single)}|the chance is {fraction(single)}|this means {fraction(single)}], [{kind} or not|in lowest terms|as probabilities are defined].",
                ],
                single,
            ),
        ],
        fraction,
        lambda value: 0 < value <= 1,
        f"[Count pairs, not sums|which pairs give {kind} {limit}?|order matters: the first die and the second die|list the pairs of numbers from 1 to {faces}|equally likely are the pairs].",
    )


def at_least_one(d: Draw) -> Problem:
    chance, tries = d.pick([F(1, 2), F(1, 3), F(1, 4), F(1, 5), F(2, 5), F(3, 4), F(1, 6), F(3, 10), F(2, 3), F(1, 10)]), d.number(2, 4)
    what, once = d.pick([("a seed germinates", "seed"), ("a penalty is scored", "penalty"), ("a bus is late", "morning"), ("a photo is blurred", "photo"), ("a parcel arrives damaged", "parcel"), ("a call is answered", "call"), ("a fish bites", "cast")])
    miss = 1 - chance

    def solve(at):
        no = at(miss, chance)
        never = at(no**tries, no * tries if no * tries < 1 else no ** (tries + 1), no ** (tries + 1))
        some = at(1 - never, never)
        return [
            f"[It fails with probability {fraction(no)}|the opposite has the chance {fraction(no)}|for one {once}, 'no' has probability {fraction(no)}|not happening: {fraction(no)}].",
            f"[All {tries} times 'no': {fraction(never)}|that it never happens in {tries} has the probability {fraction(never)}|{tries} failures in a row: {fraction(no)} to the power {tries}, that is {fraction(never)}|for none of the {tries}, {fraction(never)}].",
            f"[Everything else contains at least one, so|at least one is the opposite of none:|the rest is what we want:|take that from 1:] [1 - {fraction(never)} = {fraction(some)}|the answer is {fraction(some)}|this leaves {fraction(some)}].",
        ], some

    added, single = chance * tries, chance**tries
    return Problem(
        [
            f"The probability that {what} is {fraction(chance)}. What is the probability that this happens at least once in {tries} independent {once}s?",
            f"[Each time|Every single time], {what} with a chance of {fraction(chance)}. [I try|There are] {tries} {once}s, [independent of each other|none influencing another]. [Chance of at least one yes?|How likely is one or more?]",
            f"P({what}) = {fraction(chance)}, {tries} {once}s, independent. P(at least [one|once]) = [?|..., as a fraction]",
            f"'{fraction(chance)} [each time|per {once}], so with {tries} {once}s [it's bound to happen|it must happen],' [says a friend|they say]. ({what}) [How likely is at least one, really?|What is the true probability of one or more?]",
            f"if {what} [with probability|in] {fraction(chance)} [of the cases|] and i have {tries} {once}s [what is the chance|how probable is it] that it happens at least once (fraction please)",
        ],
        1 - (1 - chance) ** tries,
        solve,
        [
            (
                [
                    f"[Chances add up over several tries|with each {once} the chance grows by {fraction(chance)}|more {once}s, more chance: add them]: {tries} * {fraction(chance)}.",
                    f"[That gives|this is|the sum is] {fraction(added)}, [the probability of at least one|for one or more|and so the event has this probability].",
                    f"[So the answer is {fraction(added)}|hence {fraction(added)}|we note {fraction(added)}]{', [more than certain|even above 1]' if added > 1 else ', [in lowest terms|as a fraction]'}.",
                ],
                added,
            ),
            (
                [
                    f"[Independent means multiply|several {once}s call for a product|the rule for independent events is multiplication]: {fraction(chance)} to the power {tries}.",
                    f"[The product is|multiplied out this is|which makes] {fraction(single)}, [and at least once is part of it|'at least' changing nothing|covering one or more].",
                    f"[The probability: {fraction(single)}|so {fraction(single)}|hence {fraction(single)}], [small, as it has to be all of them|a small number|after {tries} {once}s].",
                ],
                single,
            ),
        ],
        fraction,
        lambda value: value > 0,
        f"[At least one is easier by way of none|what is the chance that it never happens?|{tries} independent tries|look at the opposite|there are many ways to have at least one, but one way to have none].",
    )


def committee(d: Draw) -> Problem:
    n, k = d.number(5, 12), d.number(2, 4)
    group, task = d.pick([("hikers", "carry the tents"), ("nurses", "work at New Year"), ("pupils", "water the plants"), ("toppings", "go on the pizza"), ("books", "come on holiday"), ("players", "start the match"), ("songs", "are on the single"), ("stamps", "are put on the letter")])
    ordered = math.perm(n, k)

    def solve(at):
        ways = at(ordered, n**k, math.perm(n, k - 1))
        orders = at(math.factorial(k), k)
        result = at(F(ways, orders), F(ways))
        return [
            f"[Taken one after the other, {group} give {ways} lists|if order counted, there would be {ways} ways|choosing them in turn, {n} first and one fewer each time, makes {ways}|{n} for the first, one fewer for each after that: {ways} lists|the {group} could be named in {ways} ways, order included|lists of {k} out of {n} {group} number {ways}].",
            f"[But order is of no importance, and {k} can be arranged in {orders} ways|each choice of {group} is counted {orders} times, once for each order|{orders} of these lists are the same choice|among {k} there are {orders} orders|who is named first does not matter, so {orders} lists become one|a set of {k} turns up {orders} times in it].",
            f"[So divide: {integer(result)}|that leaves {integer(result)} choices|the number of choices is {integer(result)}|dividing, we have {integer(result)} different sets|that makes {integer(result)} selections of {group}|in the end {integer(result)} are really different].",
        ], result

    product, power = n * k, n**k
    return Problem(
        [
            f"In how many ways can {k} of {n} {group} be [chosen|selected], if [the order does not matter ({k} of them {task})|{k} of them {task}, in no particular order]?",
            f"[There are {n} {group}|Given {n} {group}], and {k} [of them|] {task}. [How many different choices are there?|How many selections are possible?|Count the possibilities.]",
            f"[Choose|Pick] {k} out of {n} {group}: [number of possibilities|how many possibilities]? [Order: not important.|Only who or what, not in which order.]",
            f"[We can't agree which {k} of the {n} {group} {task}.|Which {k} of our {n} {group} {task}?] [How many possibilities do we have to discuss?|If we tried them all, how many would it be?]",
            f"{n} {group}, {k} [get to be chosen|to be picked because they {task}], [how many combos are there|how many combinations is that|number of combinations please]",
        ],
        math.comb(n, k),
        solve,
        [
            (
                [
                    f"[For each of the {k} places there are {n} candidates|{k} places, {n} candidates|{n} possibilities on {k} places].",
                    f"[So the number is a product|multiply places and candidates|that makes]: {n} * {k} = {product}.",
                    f"[{product} choices in all|hence {product}|we count {product} ways], [every one of the {group} having its turn|in no particular order|all {group} included].",
                ],
                product,
            ),
            (
                [
                    f"[Each place can be filled in {n} ways|every time one picks from all {n} {group}|{n} possibilities each time].",
                    f"[With {k} places this is a power|{k} picks make it a power|multiplying that {k} times]: {n}^{k} = {power}.",
                    f"[So there are {power} possibilities|the answer is {power}|therefore {power}], [the same one being free to come again|repeated ones included|as one may choose anew each time].",
                ],
                power,
            ),
        ],
        integer,
        whole,
        f"[Order does not matter here|a selection, not a list|how many lists belong to one choice?|first count with order, then take the order out|{k} out of {n} {group} are to be chosen|which {group} {task}, not in which order].",
    )


def arrangements(d: Draw) -> Problem:
    word = d.pick(["BANANA", "LETTER", "PEPPER", "COFFEE", "MAMMAL", "TATTOO", "SEESAW", "GIGGLE", "COCOON", "ANNA", "LEVEL", "RADAR", "KAYAK", "ERROR", "POPPY", "DADDY", "NOON", "PAPAYA", "ALASKA", "HAWAII", "OTTAWA", "BAOBAB", "ROCOCO", "TEEPEE", "BUBBLE", "ASSESS", "CINNAMON", "ONION", "COCOA", "VIVID"])
    counts = {letter: word.count(letter) for letter in dict.fromkeys(word)}
    repeated = {letter: count for letter, count in counts.items() if count > 1}
    size = len(word)

    def solve(at):
        all_ = at(math.factorial(size), math.factorial(size - 1), size**2)
        same = at(math.prod(map(math.factorial, repeated.values())), sum(map(math.factorial, repeated.values())), math.prod(repeated.values()))
        result = at(F(all_, same), F(all_))
        return [
            f"[{size} different letters would have {all_} orders|{size} places can be filled in {all_} ways, if all letters differ|without repeats it would be {all_}|{size} things in a row: {all_}].",
            f"[But {' and '.join(f'{letter} comes {count} times' for letter, count in repeated.items())}|{', '.join(f'{count} times {letter}' for letter, count in repeated.items())} cannot be told apart|equal letters ({', '.join(f'{letter} {count}' for letter, count in repeated.items())}) may change places unseen], [so every word is counted {same} times|which makes {same} of them look the same|hence {same} orders are one].",
            f"[Divide: {integer(result)} words|there are {integer(result)} different ones|that leaves {integer(result)}|{all_} / {same} = {integer(result)}].",
        ], result

    kinds = math.factorial(len(counts))
    return Problem(
        [
            f"[In how many different ways|In how many ways that can be told apart] can the letters of {word} be [arranged|put in a row]?",
            f"[Scrabble tiles|Letter tiles|Fridge magnets] {', '.join(word)}: how many different [rows|words, with or without sense,] can be [laid|made] from all of them?",
            f"[Anagrams of|Rearranging] {word}: [what is their number|how many exist] [(the word itself counts)|, counting the word itself]?",
            f"[A password uses all|Somebody shuffles the] letters of {word}. [How many orders can be told apart?|What is the number of different results?]",
            f"{word} [has letters twice or more|has equal letters], so how many [different orders|arrangements] [is that|are there] really",
        ],
        math.factorial(size) // math.prod(map(math.factorial, counts.values())),
        solve,
        [
            (
                [
                    f"[Only different letters count, and {word} has {len(counts)}|{word} is made of {len(counts)} letters: {', '.join(counts)}|take each letter once, that is {len(counts)} letters].",
                    f"[These can be ordered in {kinds} ways|{len(counts)} letters have {kinds} orders|multiply 1 to {len(counts)}: {kinds}].",
                    f"[So there are {kinds} arrangements|hence {kinds}|the number is {kinds}], [the doubles following their first letter|since equal letters go together|as repeats add nothing].",
                ],
                kinds,
            ),
            (
                [
                    f"[{word} has {size} letters|a word of {size} letters has {size} places|there are {size} letters].",
                    f"[Each can stand on each of the {size} places|any letter goes to any place|letters and places are combined]: {size} * {size} = {size * size}.",
                    f"[This gives {size * size} arrangements|so {size * size}|we find {size * size} orders], [equal ones or not|with all letters used|one for each field of the table].",
                ],
                size * size,
            ),
        ],
        integer,
        whole,
        f"[Equal letters cannot be told apart|which letters of {word} occur more than once?|orders of {size} letters, some of them equal|first all orders, then those that look the same|count as if they were different, then mend it].",
    )


ALL = (two_draws, dice_sum, at_least_one, committee, arrangements)
