"""Word problems in which counting is the catch: tournaments, tables, dates, floors."""

# A line holds one sentence in all its readings, however long.
# fmt: off
import datetime
from fractions import Fraction as F

from data_generation.mistakes.drawing import Draw, Problem, number, whole


def tournament(d: Draw) -> Problem:
    who, game = *d.names(1), d.pick(["table tennis", "chess", "badminton", "darts", "boules", "table football", "squash", "draughts"])
    teams, minutes, tables = d.number(6, 16), d.number(8, 30, 2), d.number(2, 5)
    games = teams * (teams - 1) // 2

    def solve(at):
        each = at(teams - 1, teams)
        doubled = at(teams * each, teams * each + 10)
        played = at(F(doubled, 2), F(doubled))
        rounds = at(played / tables, played / tables + 1)
        time = at(rounds * minutes, rounds * minutes - minutes, rounds * minutes + 10)
        return [
            f"[Everyone has {each} opponents|each of the {teams} plays {each} games|a player meets {each} others|per player there are {each} games].",
            f"[{teams} x {each} = {doubled} counts every game from both sides, so there are {number(played)}|that would be {doubled}, but a game has two players: {number(played)} games|of {doubled} entries two always belong to one game, making {number(played)} games|as each game appears with both players among the {doubled}, {number(played)} games are played].",
            f"[With {tables} at a time, {number(rounds)} rounds|{tables} go on at once, giving {number(rounds)} rounds|on {tables} places it takes {number(rounds)} rounds|divided by {tables}: {number(rounds)} rounds].",
            f"[That lasts {number(time)} minutes|each of {minutes} minutes, in all {number(time)} minutes|{number(time)} minutes are needed|so {who} should reserve {number(time)} minutes].",
        ], time

    ordered, halves = F(teams * teams * minutes, tables), F(teams * minutes, 2 * tables)
    return Problem(
        [
            f"{teams} players [take part in|have signed up for] {who}'s {game} tournament. [Everybody plays everybody once|Each pair meets once]. [A game lasts {minutes} minutes and {tables} games go on at the same time|{tables} games are played at a time, {minutes} minutes each]. [How many minutes does it all take|What is the whole time in minutes]?",
            f"[Can we book the hall for long enough?|Hall booking:|How long do we need the hall?] {game}, {teams} people, each against each, {tables} [tables or courts|places to play], {minutes} minutes [a game|per game, change-over included]. [Total minutes?|Minutes, please.]",
            f"[Schedule|Draft schedule] by {who}\n{game}: {teams} entries, [single round robin|all play all, once]\nlength of a game: {minutes} min\ngames at a time: {tables}\n[duration|end after]: ? min",
            f"[In a league of {teams} {game} players|{teams} members of a {game} club hold a championship in which], [each meets each of the others one time|all possible games are played once], [{tables} games being played at once|{tables} of them side by side]. [If a game is {minutes} minutes long|With {minutes} minutes a game], [what is the time for the whole league|find the length of the complete programme] in minutes.",
            f"'[{teams} players for {game}, all against all|All {teams} play each other at {game}], {tables} games at once, {minutes} minutes each,' says {who}. 'When the first game starts [at zero|], after how many minutes [does the last one end|is it over]?'",
        ],
        F(games * minutes, tables),
        solve,
        [
            (
                [
                    f"[{teams} players against {teams} players|all with all means {teams} with {teams}|put the {teams} players in a square table]: {teams} x {teams} = {teams * teams} games.",
                    f"[By {tables} at once|{tables} at a time|shared by {tables}], [and {minutes} minutes each|times {minutes} minutes|{minutes} minutes a game]: {number(ordered)}.",
                    f"[So it takes {number(ordered)} minutes|{who} books {number(ordered)} minutes|the answer is {number(ordered)} minutes], [every field of the table being a game|with everybody served|no game left out].",
                ],
                ordered,
            ),
            (
                [
                    f"[A game needs two players|two players make a game|each game uses up two people], [so {teams} of them give {number(F(teams, 2))} games|that is {number(F(teams, 2))} games|which leads to {number(F(teams, 2))} games].",
                    f"[With {tables} at once|going on {tables} at a time|by {tables} places], [this fills|there are|we get] {number(F(teams, 2 * tables))} rounds.",
                    f"[{minutes} minutes a round makes {number(halves)} minutes|so the tournament lasts {number(halves)} minutes|after {number(halves)} minutes everybody has played].",
                ],
                halves,
            ),
        ],
        fits=whole,
        about=f"[First the number of games, then the time|how many games are there if all play all?|count the games, with care not to count one twice|the {game} hall is needed until the last game is over|games, rounds, minutes].",
    )


def league(d: Draw) -> Problem:
    who, sport = *d.names(1), d.pick(["handball", "ice hockey", "football", "water polo", "hockey", "floorball"])
    win, draw = d.pick([(3, 1), (2, 1), (4, 2), (5, 2)])
    wins, draws, losses, gap = d.number(6, 20), d.number(2, 9), d.number(1, 9), d.number(2, 12)
    games = wins + draws + losses

    def solve(at):
        won = at(games - draws - losses, games - draws, games - losses)
        from_wins = at(won * win, won * (win - 1), won * win + 10)
        from_draws = at(draws * draw, draws * win, draws * draw + 1)
        points = at(from_wins + from_draws, from_wins + from_draws - 10)
        behind = at(points + gap, points - gap)
        return [
            f"[They won {games} - {draws} - {losses} = {won} games|of {games} games {won} were won|without {draws} draws and {losses} defeats there are {won} wins|{won} victories remain from {games} games].",
            *d.shuffled(
                f"[The wins give {from_wins} points|{won} x {win} = {from_wins} points for winning|{win} points each for {won} games: {from_wins}|{from_wins} points come from victories].",
                f"[{from_draws} points were earned in draws|the draws are worth {from_draws}|for {draws} draws there are {from_draws} points|draws: {draws} x {draw} = {from_draws}].",
            ),
            f"[{who}'s side has {points}, so the leaders have {behind}|{points} in all, and {gap} more at the top: {behind}|with {points} points, {gap} behind, the first has {behind}|that is {points}; the leaders stand at {behind}].",
        ], behind

    return Problem(
        [
            f"In {who}'s {sport} league a win [counts|is worth] {win} points, a draw {draw}, a defeat nothing. After {games} games {who}'s team has {draws} draws and {losses} defeats and is {gap} points behind the leaders. How many points do the leaders have?",
            f"[League table torn off|The corner of the table is missing|Wet newspaper]: {who}'s {sport} team, {games} played, {draws} drawn, {losses} lost, {gap} points short of first place. ({win} for a win, {draw} for a draw.) [Points of the first?|What did first place have?]",
            f"Rules: win {win}, draw {draw}, loss 0. [Season|So far]: {games} games, {losses} lost, {draws} drawn ({sport}). [The top team is {gap} points ahead|Gap to the top: {gap} points] of {who}'s. [Points at the top|The top team's points]?",
            f"'[How many points have they got up there|What have the leaders got], {who}?' - '{gap} more than us. We've played {games}, [lost {losses} and drawn {draws}|drew {draws}, lost {losses}].' ({sport}; {win} points [a win|for winning], {draw} a draw) [Work it out.|Well?]",
            f"how many points does the first have in our {sport} league when {who}'s team [lost {losses} and drew {draws}|drew {draws} and lost {losses}] of {games} and [is {gap} behind|needs {gap} to catch up], you get {win} for winning and {draw} for a draw",
        ],
        wins * win + draws * draw + gap,
        solve,
        [
            (
                [
                    f"[Each game is worth {win}|a game brings {win} points|take {win} points per game]: {games} x {win} = {games * win}.",
                    f"[From this the {draws} draws and {losses} defeats are taken off|subtract the games that went badly, {draws} and {losses}|minus {draws} and minus {losses}], [one point each|a point for every one|giving up a point each]: {games * win - draws - losses}.",
                    f"[Add {gap} for first place: {games * win - draws - losses + gap}|the leaders, {gap} better, have {games * win - draws - losses + gap}|so first place has {games * win - draws - losses + gap}].",
                ],
                games * win - draws - losses + gap,
            ),
            (
                [
                    f"[Draws and defeats tell us the score|what {who}'s team has comes from {draws} and {losses}|use the numbers in the table, {draws} and {losses}]: {draws} x {win} + {losses} x {draw} = {draws * win + losses * draw}.",
                    "[That is the team's number of points|so many points belong to the team|this is where the team stands].",
                    f"[The leaders are ahead by {gap}, which makes {draws * win + losses * draw + gap}|with {gap} more, the first has {draws * win + losses * draw + gap}|put {gap} on top: {draws * win + losses * draw + gap} for the leaders].",
                ],
                draws * win + losses * draw + gap,
            ),
        ],
        fits=whole,
        about=f"[How often did {who}'s team win?|wins are not given, they have to be found|a {sport} table gives games, draws and defeats|points of the team first, then those of the leaders|the leaders' points follow from the team's].",
    )


def calendar(d: Draw) -> Problem:
    who = d.names(1)[0]
    what = d.pick(["a fasting cure", "an art exhibition", "a course of tablets", "a building permit", "a language course", "a parking permit", "an advent market", "a rehearsal phase", "a cruise"])
    begin = datetime.date(d.pick([2023, 2025, 2026, 2027]), d.number(1, 11), d.number(5, 28))
    days = d.number(20, 75)
    end = begin + datetime.timedelta(days - 1)
    month, length = begin.strftime("%B"), (begin.replace(day=1) + datetime.timedelta(32)).replace(day=1) - begin.replace(day=1)

    def solve(at):
        here = at(length.days - begin.day + 1, length.days - begin.day)
        left = at(days - here, days - here + 10)
        day = begin.replace(day=1) + datetime.timedelta(length.days)
        ending = day + datetime.timedelta(left - 1)
        lost = at(0, 1)
        ending += datetime.timedelta(lost)
        weekday = begin + datetime.timedelta((ending - begin).days)
        found = (ending - datetime.date(2000, 1, 1)).days
        return [
            f"[{month} still gives {here} days, the first one included|from {begin.day} {month} on, that month has {here} days|in {month} itself {here} days are used up|{here} days belong to {month}].",
            f"[Then {left} days remain|so {left} of the {days} are left for later|{days} - {here} = {left} more are to come|{left} days still have to be placed].",
            f"[Counting them off from 1 {day.strftime('%B')}|starting again on 1 {day.strftime('%B')}|going on with {day.strftime('%B')}|they begin on 1 {day.strftime('%B')}], [we arrive at {_date(ending)}|the last one is {_date(ending)}|day {days} is {_date(ending)}|that ends on {_date(ending)}].",
            f"[As to the day of the week, it is a {weekday.strftime('%A')}|a {weekday.strftime('%A')}, by the way|the day is a {weekday.strftime('%A')}||].",
        ], found

    late, months = begin + datetime.timedelta(days), begin + datetime.timedelta(days + days // 30 * 2 + 3)
    number_of = lambda date: (date - datetime.date(2000, 1, 1)).days  # noqa: E731
    return Problem(
        [
            f"[{what} lasts|{who} plans {what} of] {days} days. The first day is {_date(begin)}. What date is the last day?",
            f"[Begins|Starts|First day]: {_date(begin)}. [Duration|Length]: {days} days. {what}. [Which is the last date?|Last day of it?] [The first day counts.|(Start day counts as day 1.)]",
            f"{who} [asks|wants to know]: 'If {what} [starts|begins] on {begin.strftime('%A')}, {_date(begin)}, and [takes|is for] {days} days, [what is the last of them|on which date is day {days}]?'",
            f"[I've booked|There is|I was given] {what} [that runs|running] {days} days from {_date(begin)}, [that day included|the first day being that one]. [Until when, exactly?|Give the date on which it ends.]",
            f"when is the last day of {what} if day one is {_date(begin)} and there are {days} [of them|days in total]",
        ],
        number_of(end),
        solve,
        [
            (
                [
                    f"[{days} days later than {_date(begin)}|add {days} days to {_date(begin)}|a duration is added to a date, here {days} days to {_date(begin)}], [that is {_date(late)}|so {_date(late)}|and the calendar shows {_date(late)}].",
                    "[The day of the beginning is only the start and does not count|day one is the day after the beginning|one begins to count when the first day is over].",
                    f"[So the last day is {_date(late)}|{_date(late)} is the end|hence {_date(late)}], [a {late.strftime('%A')}|on a {late.strftime('%A')}|which happens to be a {late.strftime('%A')}].",
                ],
                number_of(late),
            ),
            (
                [
                    f"[All months have 28 days and something, so four weeks each|every month has four weeks|a month is four weeks, that is 28 days], [and {days} days are {number(F(days * 100 // 28, 100))} months|which turns {days} days into {number(F(days * 100 // 28, 100))} months].",
                    f"[Move on from {month} by so many months|we go so many months further|starting in {month}, this is how many months are passed].",
                    f"[The date is {_date(months)}|we end up at {_date(months)}|so the last day is {_date(months)}], [give or take nothing|near the same day of the month|the {begin.day} having been the start].",
                ],
                number_of(months),
            ),
        ],
        lambda found: _date(datetime.date(2000, 1, 1) + datetime.timedelta(int(found))),
        whole,
        about=f"[The first day counts as day 1|how many days are left in {month}?|we have to go over the end of {month}|a calendar sum|counting days, month by month].",
    )


def _date(date: datetime.date) -> str:
    return f"{date.day} {date.strftime('%B %Y')}"


def floors(d: Draw) -> Problem:
    who = d.names(1)[0]
    thing, unit, verb = d.pick([("lift", "floor", "rides"), ("window cleaner", "storey", "climbs"), ("removal man", "floor", "carries a sofa"), ("cable car", "pylon", "glides"), ("postman", "floor", "walks"), ("spider", "rung", "crawls")])
    low, step, seconds = d.number(1, 4), d.number(4, 9), d.number(3, 12)
    high, target = low + step, low + step + d.number(4, 20)
    time = step * seconds

    def solve(at):
        steps = at(high - low, high - low + 1)
        each = at(F(time, steps), F(time, high))
        further = at(target - low, target - low + 1, target)
        total = at(each * further, each * further + 10, each * (further - 1))
        return [
            f"[From {unit} {low} to {unit} {high} there are {steps} steps up|between {unit} {low} and {unit} {high} lie {steps} changes of {unit}|the {unit} changes {high} - {low} = {steps} times|the known ride passes {steps} intervals].",
            f"[One takes {number(each)} seconds|{time} / {steps} = {number(each)} seconds for one|each lasts {number(each)} s|so {number(each)} seconds go by per {unit}].",
            f"[To {unit} {target} it is {further} of them|from {low} up to {target}, {further} have to be done|the long way has {further}|{target} is {further} further up than {low}].",
            f"[{further} times {number(each)} is {number(total)}, in seconds|this takes {number(total)} seconds|altogether {number(total)} seconds|so the {thing} is there after {number(total)} seconds].",
        ], total

    direct = F(time * target, high)
    return Problem(
        [
            f"A {thing} {verb} from {unit} {low} to {unit} {high} in {time} seconds. [Going on at the same speed|At this speed], how many seconds does it take from {unit} {low} to {unit} {target}?",
            f"[{who} times|I timed] the {thing}: {unit} {low} to {unit} {high}, {time} seconds [flat|by the stopwatch]. [What would {low} to {target} be|How many seconds from {low} to {target}], same pace?",
            f"{unit} {low} -> {unit} {high}: {time} s. {unit} {low} -> {unit} {target}: ? s. ([The {thing} keeps a constant speed|Speed of the {thing}: constant].)",
            f"'[The {thing} is slow today|Look how slow that {thing} is], {who}. {time} seconds [from {unit} {low} to {high}|to get from {unit} {low} to {high}]!' - 'Then [to {unit} {target}|all the way up to {target}] it will be...' [What does {who} say (from {low}, in seconds)?|Finish the sentence: seconds from {low}?]",
            f"if the {thing} {verb} up from {unit} {low} to {high} in {time} seconds [how many seconds is it|what time do we need] from {low} up to {target} [without stopping|nonstop]",
        ],
        seconds * (target - low),
        solve,
        [
            (
                [
                    f"[{unit} {high} is reached in {time} seconds, so each {unit} takes {time} / {high}|{time} seconds for {high}: divide {time} by {high}|the number {high} belongs to {time} seconds].",
                    f"[{unit} {target} therefore needs {target} times that|multiply by {target}|for {target} this has to be taken {target} times], [which is|giving|that is] {number(direct)}.",
                    f"[The answer: {number(direct)} seconds|{number(direct)} seconds to {unit} {target}|so it takes {number(direct)} seconds], [in proportion|by simple proportion|as {target} is to {high}].",
                ],
                direct,
            ),
            (
                [
                    f"[Up to {unit} {high} the clock shows {time}|after {time} seconds we are at {unit} {high}|{time} seconds bring us to {unit} {high}].",
                    f"[From there to {target} are {target - high} more, one second each|the other {target - high} add a second each|each further {unit} is one second, and there are {target - high}].",
                    f"{time} + {target - high} = {time + target - high}, [so {time + target - high} seconds|in seconds|and the {thing} has arrived].",
                ],
                time + target - high,
            ),
        ],
        about=f"[Intervals count here, not numbers on a wall|how long does one {unit} take?|between two numbers there is one step fewer than one thinks|the {thing} moves evenly|from {low} to {high} is known, from {low} to {target} is wanted].",
    )


ALL = (tournament, league, calendar, floors)
