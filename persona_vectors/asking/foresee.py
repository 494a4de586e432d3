"""What a run would make and cost, before it is made: answers, tokens, calls to the judge, dollars, time.

Counts of answers and calls are exactly those of the run that would follow; tokens of prompts that exist are counted, those of
answers that do not exist yet are bounded by the longest answer, and estimated where an unfinished run has some already.
Knows sheets, judges and tokenizers; loads no model and asks nothing.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from persona_vectors.asking.choose_judge import LIKELIHOOD, JudgeSettings
from persona_vectors.asking.sheet import AnswerSheet
from persona_vectors.asking.subject import Subject
from persona_vectors.engines import Request
from persona_vectors.judge.batch import unsent
from persona_vectors.judge.judge import PROBE
from persona_vectors.judge.prices import Amount, in_dollars, read_prices
from persona_vectors.judge.tokens import Counter
from persona_vectors.models import chat_template
from persona_vectors.settings import OPENAI_URL, load_dotenv, without_secrets

SAMPLE = 500  # answers whose lengths give the mean


@dataclass(frozen=True)
class Foreseen:
    """What a run would make; see :func:`foresee`.

    Attributes:
        answers: to be made; there: that exist already.
        prompt_tokens: that the model reads for them.
        answer_tokens: that it writes.
        mean: tokens of an answer, over those that exist; None where there are none.
        calls: to the judge, the probe among them; scores: scores asked for; of_existing: those of answers that exist.
        judge_tokens: that the judge reads; its replies have :attr:`calls` tokens.
        dollars: of the judge; None where it has no price.
        counted: what counted the judge's tokens, in words.
        seconds: at the pace of the unfinished run; None where that is not known.
    """

    answers: int
    there: int
    prompt_tokens: int
    answer_tokens: Amount
    mean: float | None
    calls: int
    scores: int
    of_existing: int
    judge_tokens: Amount
    dollars: Amount | None
    counted: str
    seconds: float | None


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

    calls, scores, of_existing, tokens, counted = 0, 0, 0, Amount(0, 0, 0), ""
    if judging.model != LIKELIHOOD:
        counter = judging.counter(subject)
        existing = [prompt for sheet in sheets for key in sheet.answers for prompt in sheet.unscored(key).values()]
        frames = [
            prompt.format(question=planned.question.text, answer="")
            for sheet, planned, _ in (origin[request.key] for request in requests)
            for prompt in sheet.judge_prompts.values()
        ]
        each = len(frames) // len(requests) if requests else 0
        asked = _to_send(sheets, judging.model) if judging.batch else existing
        of_existing, scores = len(existing), len(existing) + len(frames)
        calls = 1 + len(asked) + len(frames)
        fixed = _total(counter, [PROBE[0]["content"], *asked, *frames])
        tokens, counted = Amount.of(fixed, len(frames), mean, sum(most) * each), counter.said
    price = (judging.costs.prices if judging.costs else read_prices()).price(judging.model, judging.batch)
    dollars = None
    if judging.model == LIKELIHOOD:
        dollars = Amount(0.0, 0.0, 0.0)
    elif price is not None:
        dollars = tokens.at(price, calls)
    return Foreseen(
        len(requests), len(there), sum(len(request.prompt_ids) for request in requests),
        Amount.of(0, len(requests), mean, sum(most)), mean, calls, scores, of_existing, tokens, dollars, counted,
        _seconds(sheets, len(requests), scores),
    )  # fmt: skip


def _to_send(sheets: Sequence[AnswerSheet], model: str) -> list[str]:
    """The judge prompts of answers that exist that batches would be made of: each once a sheet, none that is under way."""
    found = []
    for sheet in sheets:
        prompts = [prompt for key in sheet.answers for prompt in sheet.unscored(key).values()]
        found += unsent(model, dict.fromkeys(prompts), sheet.batches)
    return found


def _total(counter: Counter, prompts: Sequence[str]) -> int:
    """Tokens of many calls; equal prompts are counted once and multiplied."""
    times: dict[str, int] = {}
    for prompt in prompts:
        times[prompt] = times.get(prompt, 0) + 1
    lengths = counter.lengths(list(times))
    return sum(length * n for length, n in zip(lengths, times.values(), strict=True)) + counter.around * len(prompts)


def _seconds(sheets: Sequence[AnswerSheet], answers: int, scores: int) -> float | None:
    """At the pace of the runs so far; None where nothing like what is missing was timed."""
    paces = {
        pace["began"]: pace for sheet in sheets for pace in sheet.paces
    }.values()  # one line in each sheet of a run
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
    if judging.model == LIKELIHOOD:
        return "\n".join(
            [*lines, "judge: no calls; a model reads the answers, which costs its time alone", _time(foreseen)]
        )
    to_come = foreseen.scores - foreseen.of_existing
    some_empty = "; an answer that comes out empty has none" if to_come else ""
    way = " and 1 probe"
    if judging.batch:
        way = f", {foreseen.calls - 1:,} to be sent in batches (equal ones once, none that is under way) and 1 probe"
    lines += [
        f"judge: {foreseen.calls:,} calls to {judging.model}: {foreseen.scores:,} scores{way}{some_empty}",
        f"judge tokens: {foreseen.judge_tokens} in, {foreseen.calls:,} out (counted by {foreseen.counted}); a judge without "
        "logprobs is asked for up to 20 replies a score instead of one token",
        _money(foreseen, judging),
        _time(foreseen),
    ]
    return "\n".join(lines)


def _money(foreseen: Foreseen, judging: JudgeSettings) -> str:
    prices = judging.costs.prices if judging.costs else read_prices()
    if foreseen.dollars is None:
        return f"cost: no price of {judging.model} in {prices.path} (--prices FILE)"
    least, likely, most = (foreseen.dollars.least, foreseen.dollars.likely, foreseen.dollars.most)
    amount = in_dollars(most) if least == most else f"at most {in_dollars(most)}"
    if least != most and likely is not None:
        amount = f"about {in_dollars(likely)}, {amount}"
    load_dotenv()
    address = os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
    elsewhere = f", although the endpoint is {without_secrets(address)}" if address.rstrip("/") != OPENAI_URL else ""
    return f"cost: {amount} (by {prices.said}{', batch' if judging.batch else ''}{elsewhere})"


def _time(foreseen: Foreseen) -> str:
    if foreseen.seconds is None:
        return "time: not known before a run here has been timed"
    return f"time: about {foreseen.seconds / 60:,.1f} minutes, at the pace of the unfinished run"
