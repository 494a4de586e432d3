"""What a run would make and cost, before it is made: answers, tokens, calls to the judge, dollars, time.

Counts of answers and calls are exactly those of the run that would follow (of scores that are in the cache of scores, where the
answers are there; those to come are counted as if it had none of theirs); tokens of prompts that exist are counted, those of
answers that do not exist yet are bounded by the longest answer, and estimated where an unfinished run has some already.
Knows sheets, judges and tokenizers; loads no model and asks nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from persona_vectors.asking.choose_judge import LIKELIHOOD, JudgeSettings, work_of
from persona_vectors.asking.several_judges import views_of
from persona_vectors.asking.sheet import UNJUDGED, AnswerSheet
from persona_vectors.asking.subject import Subject
from persona_vectors.engines import Request
from persona_vectors.judge.batch import unsent
from persona_vectors.judge.cache import MISSING
from persona_vectors.judge.judge import PROBE
from persona_vectors.judge.prices import Amount, in_dollars, read_prices
from persona_vectors.judge.tokens import Counter
from persona_vectors.models import chat_template
from persona_vectors.settings import ADDRESSES, endpoint_of, without_secrets

SAMPLE = 500  # answers whose lengths give the mean


@dataclass(frozen=True)
class Calls:
    """What one judge would be asked for.

    Attributes:
        model: the judge.
        scores: that are missing; of_existing: those of answers that exist.
        free: of these, the scores that need no call: they are in the cache of scores, or their prompt is asked for anyway.
        calls: to the judge, the probe among them; probes: 1, or 0 where no probe is needed. Where answers are still to come
            and there is a cache, it may turn out to have their scores.
        tokens: that the judge reads; its replies have :attr:`calls` tokens.
        dollars: None where it has no price.
        counted: what counted the tokens, in words.
        is_cached: there is a cache of scores; may_be_less: it knows this judge, and so may have scores of answers to come, which
            are counted as if it had not.
    """

    model: str
    scores: int
    of_existing: int
    free: int
    calls: int
    probes: int
    tokens: Amount
    dollars: Amount | None
    counted: str
    is_cached: bool
    may_be_less: bool


@dataclass(frozen=True)
class Foreseen:
    """What a run would make; see :func:`foresee`.

    Attributes:
        answers: to be made; there: that exist already.
        prompt_tokens: that the model reads for them.
        answer_tokens: that it writes.
        mean: tokens of an answer, over those that exist; None where there are none.
        judges: the judges behind endpoints.
        seconds: at the pace of the unfinished run; None where that is not known.
        unknown: what cannot be known yet, in words.
    """

    answers: int
    there: int
    prompt_tokens: int
    answer_tokens: Amount
    mean: float | None
    judges: list[Calls]
    seconds: float | None
    unknown: Sequence[str] = ()

    @property
    def dollars(self) -> Amount | None:
        """Of all judges together; None where one has no price."""
        together = Amount(0.0, 0.0, 0.0)
        for judge in self.judges:
            if judge.dollars is None:
                return None
            together += judge.dollars
        return together

    @property
    def unless(self) -> str:
        """What may make :attr:`dollars` less than said, in words; "" for nothing."""
        unsure = self.answers and any(judge.may_be_less for judge in self.judges)
        return " (unless scores of the answers to come are in the cache)" if unsure else ""


def foresee(
    sheets: Sequence[AnswerSheet],
    requests: Sequence[Request],
    origin: Mapping[str, tuple],
    tokenizer,
    subject: Subject,
    judging: JudgeSettings,
) -> Foreseen:
    """What a run would make of the sheets as they are (opened, or looked at).

    Args:
        requests, origin, tokenizer: what the run would ask for; see :func:`persona_vectors.asking.ask.make_requests`.
    """
    there = [record for sheet in sheets for record in sheet.answers.values()]
    sample = [record.get("reasoning", "") + record["answer"] for record in there[:: max(1, len(there) // SAMPLE)]]
    lengths = [len(ids) + 1 for ids in chat_template.token_ids_of(tokenizer, sample)]  # and the token that ends it
    mean = sum(lengths) / len(lengths) if lengths else None
    room = subject.shape.max_length
    most = [
        min(subject.generation.max_tokens, room - len(request.prompt_ids) if room else subject.generation.max_tokens)
        for request in requests
    ]
    if mean is not None:
        mean = min(mean, subject.generation.max_tokens)
    answer_tokens = Amount.of(0, len(requests), mean, sum(most))

    frames = [
        prompt.format(question=planned.question.text, answer="")
        for sheet, planned, _ in (origin[request.key] for request in requests)
        for prompt in sheet.judge_prompts.values()
    ]
    each = len(frames) // len(requests) if requests else 0
    views = views_of(sheets, judging.names) if len(judging.names) > 1 else {judging.model: sheets}
    judges = []
    for name in judging.behind_endpoints:
        one = replace(judging, model=name)
        judges.append(_calls(one, views[name], frames, Amount.of(0, len(frames), mean, sum(most) * each), subject))
    to_keep = sum(judge.scores for judge in judges)
    if len(judging.names) > 1:  # and the means
        to_keep += sum(len(sheet.unscored(key)) for sheet in sheets for key in sheet.answers) + len(frames)
    return Foreseen(
        len(requests), len(there), sum(len(request.prompt_ids) for request in requests), answer_tokens, mean, judges,
        _seconds(sheets, len(requests), to_keep),
    )  # fmt: skip


def _calls(judging: JudgeSettings, sheets: Sequence, frames: Sequence[str], to_come: Amount, subject: Subject) -> Calls:
    """What one judge would be asked for: of answers that exist, and in ``frames`` with ``to_come`` tokens of answers."""
    judge, _ = judging.unopened("0_100", work_of(sheets), look=True)
    cache = judge.cache
    is_remembered = cache is not None and judge.recall()  # else the cache has no score of this judge
    prompts = [[prompt for key in sheet.answers for prompt in sheet.unscored(key).values()] for sheet in sheets]
    lacking = [[prompt for prompt in some if not is_remembered or judge.held(prompt) is MISSING] for some in prompts]
    if cache is not None:
        cache.close()
    existing, needed = sum(map(len, prompts)), sum(map(len, lacking))
    asked = [prompt for some in lacking for prompt in some]
    if judging.batch:  # each once a sheet, and none that is under way
        model = judge.client.model
        asked = [
            prompt
            for some, sheet in zip(lacking, sheets, strict=True)
            for prompt in unsent(model, dict.fromkeys(some), sheet.batches)
        ]
    elif cache is not None:
        asked = list(dict.fromkeys(asked))
    free = existing - (needed if judging.batch else len(asked))
    may_be_held = is_remembered and bool(frames)
    probes = int(bool(sheets) and not (judge.known and is_remembered and not needed and not frames))
    calls = probes + len(asked) + len(frames)

    counter = judging.counter(subject)
    certain = _total(counter, [PROBE[0]["content"]] * probes + asked)
    fixed = certain + _total(counter, frames)
    tokens = to_come + Amount(fixed, fixed, fixed)
    price = (judging.costs.prices if judging.costs else read_prices()).price(judging.model, judging.batch)
    dollars = None if price is None else tokens.at(price, calls)
    if judge.known and may_be_held:  # the same work once more: the same answers may come, and cost nothing
        least = certain if needed else 0
        tokens = Amount(least, None, tokens.most)
        if price is not None and dollars is not None:
            dollars = Amount(price.of(least, probes + len(asked) if needed else 0), None, dollars.most)
    return Calls(
        judging.model, existing + len(frames), existing, free, calls, probes, tokens, dollars, counter.said,
        cache is not None, may_be_held and not judge.known,
    )  # fmt: skip


def _total(counter: Counter, prompts: Sequence[str]) -> int:
    """Tokens of many calls; equal prompts are counted once and multiplied."""
    times: dict[str, int] = {}
    for prompt in prompts:
        times[prompt] = times.get(prompt, 0) + 1
    lengths = counter.lengths(list(times))
    return sum(length * n for length, n in zip(lengths, times.values(), strict=True)) + counter.around * len(prompts)


def _seconds(sheets: Sequence[AnswerSheet], answers: int, scores: int) -> float | None:
    """At the pace of the runs so far; None where nothing like what is missing was timed."""
    # each run wrote its pace once into every sheet
    paces = {pace["began"]: pace for sheet in sheets for pace in sheet.paces}.values()
    kind, missing = ("answers", answers) if answers else ("scores", scores)
    done, seconds = (sum(pace[name] for pace in paces if pace[kind]) for name in (kind, "seconds"))
    return missing * seconds / done if done else None


def in_words(foreseen: Foreseen, judging: JudgeSettings) -> str:
    """All of it in a few lines."""
    there = f" ({foreseen.there:,} are there)" if foreseen.there else ""
    mean = f", the mean of those that are there being {foreseen.mean:.0f}" if foreseen.mean and foreseen.answers else ""
    lines = [
        f"answers: {foreseen.answers:,} to make{there}: {foreseen.prompt_tokens:,} tokens of prompts, "
        f"{foreseen.answer_tokens} tokens of answers{mean}"
    ]
    for judge in foreseen.judges:
        lines += _judge_in_words(judge, judging)
    if len(foreseen.judges) > 1:
        calls = sum(judge.calls for judge in foreseen.judges)
        cost = "not known" if foreseen.dollars is None else dollars_in_words(foreseen.dollars)
        lines.append(f"judges together: {calls:,} calls; cost {cost}")
    if LIKELIHOOD in judging.names:
        lines.append(f"judge: no calls to {LIKELIHOOD}; a model reads the answers, which costs its time alone")
    if judging.model == UNJUDGED:
        lines.append(f"judge: no calls; nothing is judged (--judge_model {UNJUDGED})")
    return "\n".join([*lines, _time(foreseen), *foreseen.unknown])


def _judge_in_words(judge: Calls, judging: JudgeSettings) -> list[str]:
    free = f", {judge.free:,} of them free (in the cache of scores, or asked for twice)" if judge.free else ""
    way = " and 1 probe" if judge.probes else ""
    if judging.batch:
        free = f", {judge.free:,} of them in the cache of scores" if judge.free else ""
        way = f", {judge.calls - judge.probes:,} to be sent in batches (equal ones once, none that is under way){way}"
    some_empty = ""
    if judge.scores > judge.of_existing:
        some_empty = "; an answer that comes out empty has none" + (
            ", and a score that is in the cache by then needs no call" if judge.is_cached else ""
        )
    return [
        f"judge: {judge.calls:,} calls to {judge.model}: {judge.scores:,} scores{free}{way}{some_empty}",
        f"judge tokens: {judge.tokens} in, {judge.calls:,} out (counted by {judge.counted}); a judge without "
        "logprobs is asked for up to 20 replies a score instead of one token",
        _money(judge, judging),
    ]


def dollars_in_words(amount: Amount) -> str:
    """An amount of dollars, as ``about $1.20, at most $3.40``."""
    least, likely, most = amount.least, amount.likely, amount.most
    if least == most:
        return in_dollars(most)
    return ("" if likely is None else f"about {in_dollars(likely)}, ") + f"at most {in_dollars(most)}"


def _money(judge: Calls, judging: JudgeSettings) -> str:
    prices = judging.costs.prices if judging.costs else read_prices()
    if judge.dollars is None:
        return f"cost: no price of {judge.model} in {prices.path} (--prices FILE)"
    address = endpoint_of(judge.model).base_url
    is_elsewhere = address.rstrip("/") != ADDRESSES["openai"] and judge.model not in prices.models
    elsewhere = f", although the endpoint is {without_secrets(address)}" if is_elsewhere else ""
    return f"cost: {dollars_in_words(judge.dollars)} (by {prices.said}{', batch' if judging.batch else ''}{elsewhere})"


def _time(foreseen: Foreseen) -> str:
    if foreseen.seconds is None:
        return "time: not known before a run here has been timed"
    return f"time: about {foreseen.seconds / 60:,.1f} minutes, at the pace of the unfinished run"
