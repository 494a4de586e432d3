"""What a training set costs to write, before it is written: calls, tokens, dollars."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from persona_vectors.judge.prices import Amount, Costs, PriceList, in_dollars
from persona_vectors.judge.tokens import counter_of

if TYPE_CHECKING:
    from data_generation.generate_dataset import Level

TOKENS_PER_ANSWER = 300  # of a chat answer, roughly: while there are no answers that tell


@dataclass(frozen=True)
class Expected:
    """What the missing answers take: tokens in, tokens out (likely and at most), what counted them, and dollars."""

    tokens_in: int
    tokens_out: int
    most_out: int
    counted: str
    dollars: Amount | None


def expected(levels: Sequence["Level"], model: str, max_tokens: int, prices: PriceList) -> Expected:
    """Count what a run would make. Answers are likely to have the mean length of those that are there, else 300 tokens."""
    counter = counter_of(model)
    missing = [level.prompts[key] for level in levels for key in level.missing]
    there = [answer for level in levels for answer in level.answers.values()]
    mean = sum(counter.lengths(there)) / len(there) if there else TOKENS_PER_ANSWER
    tokens, most = counter.total(missing), len(missing) * max_tokens
    likely, price = round(len(missing) * min(mean, max_tokens)), prices.price(model)
    dollars = None
    if price is not None:
        known = price.of(tokens, likely) if there or not missing else None
        dollars = Amount(price.of(tokens, len(missing)), known, price.of(tokens, most))
    return Expected(tokens, likely, most, counter.said, dollars)


def estimate(levels: Sequence["Level"], model: str, max_tokens: int, costs: Costs) -> str:
    """The cost of a run in words: calls, the input and output tokens, and dollars where the model has a price."""
    found, price = expected(levels, model, max_tokens, costs.prices), costs.prices.price(model)
    missing = sum(len(level.missing) for level in levels)
    each = ", ".join(f"{level.name} {len(level.missing)} of {len(level.prompts)}" for level in levels)
    text = (
        f"{missing} calls to {model}{f' ({each})' if each else ''}: roughly {found.tokens_in:,} tokens in (counted by "
        f"{found.counted}) and {found.tokens_out:,} out, at most {found.most_out:,}"
    )
    if found.dollars is None or price is None:
        return f"{text}; no price of {model} in {costs.prices.path} (--prices FILE)"
    about = in_dollars(price.of(found.tokens_in, found.tokens_out))
    return f"{text}: about {about}, at most {in_dollars(found.dollars.most)} (by {costs.prices.said})"
