"""Means and medians."""

# A line holds one sentence in all its readings, however long.
# fmt: off
from fractions import Fraction as F

from data_generation.mistakes.drawing import Draw, Problem, number


def missing_mean(d: Draw) -> Problem:
    count, mean = d.number(4, 7), d.number(8, 60)
    known = [d.number(max(1, mean - 12), mean + 12) for _ in range(count - 1)]
    of = d.pick(["temperatures", "parcel weights", "class sizes", "delivery times", "plant heights", "scores", "queue lengths", "prices"])

    def solve(at):
        total = at(mean * count, mean * (count - 1), mean * count + 10)
        have = at(sum(known), sum(known) - 10, sum(known) + 1)
        rest = at(total - have, total + have)
        return [
            *d.shuffled(
                f"[A mean of {mean} over {count} values means a total of {total}|{count} * {mean} = {total} is the total|together the {count} values make {total}|the sum of all {count} must be {total}].",
                f"[The known ones add up to {have}|{' + '.join(map(str, known))} = {have}|what is given makes {have}|so far the sum is {have}].",
            ),
            f"[The missing value is the difference, {rest}|{total} - {have} = {rest}|so {rest} is missing|the last one has to be {rest}].",
            f"[Put it in and the mean is as stated||with {rest} the list is complete|].",
        ], rest

    average = F(sum(known), count - 1)
    return Problem(
        [
            f"The mean of {count} {of} is {mean}. {count - 1} of them are {', '.join(map(str, known))}. What is the [other|missing] one?",
            f"[One of the {of} is illegible|A value in my list of {of} is missing|Coffee on my list of {of}]: {', '.join(map(str, known))}, ?. [The average of all {count} was {mean}.|Mean of the {count}: {mean}.] [Which number is it?|Find it.]",
            f"{of}: {' / '.join(map(str, known))} / x. [Mean|Average] {mean}. x = [?|..., how?]",
            f"[What must the {count}th value be|Which value has to be added] so that {of} of {', '.join(map(str, known))} and itself [have the mean|average] {mean}?",
            f"[need the last number|whats the last number], [average of {count} {of} is {mean}|{count} {of} with average {mean}] and the others are {' '.join(map(str, known))}",
        ],
        mean * count - sum(known),
        solve,
        [
            (
                [
                    f"[The known values average {number(average)}|the mean of those given is {number(average)}|{sum(known)} / {count - 1} = {number(average)} is the mean so far].",
                    f"[The missing one has to bring that to {mean}|to get to {mean} the last one makes up the difference|from there to {mean}, the last one decides]: {mean} + ({mean} - {number(average)}).",
                    f"[So it is {number(2 * mean - average)}|this makes {number(2 * mean - average)}|hence {number(2 * mean - average)}], [to even it out|on the other side of {mean}|by symmetry].",
                ],
                2 * mean - average,
            ),
            (
                [
                    "[A mean is what every value would be|the mean stands for all values|each value equals the mean if they are spread evenly].",
                    f"[The other {count - 1} deviate in both directions, which cancels|deviations of the known ones even out|whatever {known[0]} and the others do, it balances].",
                    f"[So the missing one is {mean}|the value is the mean itself, {mean}|therefore {mean}], [as good as any guess|being the average|the middle of them all].",
                ],
                mean,
            ),
        ],
        about=f"[Mean times number is the total|totals are easier than means|what should all {count} add up to?|compare the sum there is with the sum there should be|one value of {count} is unknown].",
    )


def weighted_mean(d: Draw) -> Problem:
    n, m = d.numbers(2, 4, 30)
    p, q = d.numbers(2, 20, 90)
    while (n * p + m * q) % (n + m):
        n, p = d.number(4, 30), d.number(20, 90)
    what, unit = d.pick([("two classes in a test", "points"), ("two teams of walkers", "minutes"), ("two shelves of books", "pages a book"), ("two boats' catches", "grams a fish"), ("two shifts in a mail room", "parcels a person"), ("two choirs", "years of age"), ("two flocks", "eggs a hen")])

    def solve(at):
        first, second = at(n * p, (n - 1) * p), at(m * q, m * q + 10)
        total = at(first + second, first + second + 100)
        heads = at(n + m, 2 * (n + m) - n)
        mean = F(total, heads)
        return [
            *d.shuffled(
                f"[The {n} have {first} in all|{n} times {p} makes {first}|group one: {n} * {p} = {first}|{first} belongs to the group of {n}].",
                f"[The {m} have {second} in all|{m} times {q} makes {second}|group two: {m} * {q} = {second}|{second} belongs to the group of {m}].",
            ),
            f"[Together {total} for {heads}|that is {total}, shared by {heads}|in sum {total}, and there are {heads}|{total} over {heads}].",
            f"[The common mean is {number(mean)}|so all of them average {number(mean)}|divided, {number(mean)}|hence {number(mean)} on average].",
        ], mean

    simple, cross = F(p + q, 2), F(n * q + m * p, n + m)
    return Problem(
        [
            f"Of {what}, one group of {n} averages {p} {unit}, the other group of {m} averages {q} {unit}. What is the average of all {n + m}?",
            f"[Combining|Putting together] {what}: mean {p} for {n}, mean {q} for {m} ({unit}). [Overall mean?|What is the mean of everybody?]",
            f"{what.capitalize()}\ngroup A: {n}, mean {p}\ngroup B: {m}, mean {q}\n[A and B together|all]: mean ? ({unit})",
            f"'{p} here, {q} there, [so {number(simple)} in all|that's {number(simple)} overall],' says [someone|the report] about {what} ({n} in the first group, {m} in the second; {unit}). [Is it?|Correct?] [Give the true mean.|What is the mean really?]",
            f"[average of averages|i have two averages]: {n} with {p} {unit} and {m} with {q}, [whats the average of all|how do i join them] ({what})",
        ],
        F(n * p + m * q, n + m),
        solve,
        [
            (
                [
                    f"[Two means are given, {p} and {q}|we have the averages {p} and {q}|one group has {p}, the other {q}].",
                    f"[The mean of them is half their sum|an average of averages is taken like any average|add and halve]: ({p} + {q}) / 2 = {number(simple)}.",
                    f"[So all together have {number(simple)}|the overall mean is {number(simple)}|hence {number(simple)} {unit}], [the sizes {n} and {m} being built into the averages|{n} and {m} having done their work already|group sizes aside].",
                ],
                simple,
            ),
            (
                [
                    "[A smaller group needs the larger weight, to be fair|weights go crosswise, to balance the groups|the weight of each is the size of the other].",
                    f"{n} * {q} + {m} * {p} = {n * q + m * p}, [over|divided by|shared by] {n + m}.",
                    f"[The mean is {number(cross)}|this gives {number(cross)}|so {number(cross)} {unit}], [balanced|for both groups|with all {n + m} counted].",
                ],
                cross,
            ),
        ],
        about=f"[Groups of different size do not count the same|go back to the totals|how much have all of them together?|total of both groups, divided by all|{n} on one side, {m} on the other].",
    )


def median(d: Draw) -> Problem:
    count = d.pick([5, 6, 7, 8])
    values = [d.number(2, 60) for _ in range(count)]
    while len(set(values)) < count or sorted(values) == values:
        values = [d.number(2, 60) for _ in range(count)]
    ordered = sorted(values)
    what = d.pick(["waiting times", "ages", "prices", "goals", "rainfall figures", "page counts", "commutes", "litter sizes"])

    def middle(row):
        return F(row[len(row) // 2]) if len(row) % 2 else F(row[len(row) // 2 - 1] + row[len(row) // 2], 2)

    def solve(at):
        row = at(ordered, ordered[:-1], ordered[1:])
        mid = at(middle(row), F(row[(len(row) - 1) // 2 - 1]), F(row[len(row) // 2]) if len(row) % 2 == 0 else F(row[len(row) // 2 + 1]))
        spread = at(row[-1] - row[0], row[-1])
        result = at(mid + spread, mid - spread)
        return [
            f"[In order: {', '.join(map(str, row))}|sorted, that is {', '.join(map(str, row))}|from small to large: {', '.join(map(str, row))}|line them up as {', '.join(map(str, row))}].",
            f"[The middle is {number(mid)}|median: {number(mid)}|in the middle stands {number(mid)}|halfway through we find {number(mid)}]{'[, the mean of the two inner ones|]' if len(row) % 2 == 0 else ''}.",
            f"[The range is {spread}|from end to end it is {spread}|largest minus smallest is {spread}|they spread over {spread}].",
            f"[Median plus range: {number(result)}|the two add up to {number(result)}|together {number(result)}|so the sum is {number(result)}].",
        ], result

    unsorted, mean = middle(values) + abs(values[-1] - values[0]), F(sum(values), count) + max(values) - min(values)
    return Problem(
        [
            f"[Find|Compute] the sum of median and range of these {what}: {', '.join(map(str, values))}.",
            f"{what.capitalize()}: {', '.join(map(str, values))}. [What do median and range add up to|What is median plus range]?",
            f"[A lock opens with|The password is|The next clue is] the median plus the range of {' '.join(map(str, values))}. [Which number is it?|What do I enter?]",
            f"[Statistics|Data handling], {what}\n{'  '.join(map(str, values))}\nmedian + range = [?|___]",
            f"i've got {what} {', '.join(map(str, values))} and [need|want] median and range [in one number, added|summed up], [do i sort first|what is it]",
        ],
        middle(ordered) + ordered[-1] - ordered[0],
        solve,
        [
            (
                [
                    f"[The median is the one in the middle of the list as it is given|in the list given, the middle is what counts|go to the middle of the list]: {number(middle(values))}.",
                    f"[The range goes from the first to the last|first and last of the list give the range|between {values[0]} and {values[-1]} lies the range], {abs(values[-1] - values[0])}.",
                    f"[Sum: {number(unsorted)}|together {number(unsorted)}|so the answer is {number(unsorted)}], [no sorting needed|in the order they were noted|as they stand].",
                ],
                unsorted,
            ),
            (
                [
                    f"[The middle of some numbers is their mean|median and mean say the same|for the median add all and divide]: {sum(values)} / {count} = {number(F(sum(values), count))}.",
                    f"[The range: {max(values)} - {min(values)} = {max(values) - min(values)}|{max(values) - min(values)} is the range|they range over {max(values) - min(values)}].",
                    f"[Added up, {number(mean)}|in sum {number(mean)}|this makes {number(mean)}], [all {count} values being used|with every value counted|as wanted].",
                ],
                mean,
            ),
        ],
        about=f"[Sort first|median and range need the values in order|what stands in the middle, and how far apart are the ends?|{count} values, {'one' if count % 2 else 'two'} in the middle|order the {what}].",
    )


ALL = (missing_mean, weighted_mean, median)
