"""What calls cost: a table of prices by token, and a limit on what one run may spend. Arithmetic: no call is made.

The table that is shipped (``prices.json``) is dated; a user's own file of the same form takes its place:

    {"date": "2026-03", "batch": 0.5, "models": {"gpt-4.1-mini": {"input": 0.4, "output": 1.6}}}

Prices are US dollars per million tokens; ``batch`` is the part of them that the batch API charges.
"""

import asyncio
import math
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from persona_vectors.errors import TooExpensive, UserError, suggest
from persona_vectors.files.jsonfile import read_json
from persona_vectors.judge.endpoint import Counts
from persona_vectors.settings import endpoint_of

SHIPPED = Path(__file__).with_name("prices.json")


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens that a model reads (``input``) and writes (``output``)."""

    input: float
    output: float

    def of(self, tokens_in: float, tokens_out: float) -> float:
        """Dollars of so many tokens.

        Example:
            >>> Price(0.4, 1.6).of(1_000_000, 500_000)
            1.2
        """
        return (tokens_in * self.input + tokens_out * self.output) / 1e6


@dataclass(frozen=True)
class PriceList:
    """Prices of models by name, and where they are from.

    Attributes:
        models: by name; a dated name (gpt-4.1-mini-2025-04-14) is looked up without its date as well.
        batch: the part of a price that the batch API charges.
        said: the list in words, with its date.
        path: its file.
    """

    models: dict[str, Price]
    batch: float
    said: str
    path: str

    def price(self, model: str, batch: bool = False) -> Price | None:
        """The price of a model; None where the list has none. One of a named endpoint (``openrouter:m``) may stand there
        with its endpoint, or as m.

        Example:
            >>> read_prices().price("gpt-4.1-mini-2025-04-14", batch=True)
            Price(input=0.2, output=0.8)
        """
        names = [model, endpoint_of(model).model]
        names += [re.sub(r"-\d{4}-\d{2}-\d{2}$", "", name) for name in names]
        found = next((self.models[name] for name in names if name in self.models), None)
        return Price(found.input * self.batch, found.output * self.batch) if found and batch else found


@dataclass(frozen=True)
class Amount:
    """A number of tokens or dollars of which a part depends on answers that are not there yet.

    Attributes:
        least, most: with the shortest answers, and with the longest; equal where all answers are there.
        likely: with answers of the mean length; None where no mean is known.
    """

    least: float
    likely: float | None
    most: float

    @classmethod
    def of(cls, fixed: float, answers: int, mean: float | None, longest: float) -> "Amount":
        """``fixed`` and so many answers of 1 token, of ``mean`` and of ``longest`` together."""
        if not answers:
            return cls(fixed, fixed, fixed)
        return cls(fixed + answers, None if mean is None else fixed + answers * mean, fixed + longest)

    def at(self, price: "Price", written: int) -> "Amount":
        """Dollars of so many tokens read, and ``written`` ones."""
        likely = None if self.likely is None else price.of(self.likely, written)
        return Amount(price.of(self.least, written), likely, price.of(self.most, written))

    def __add__(self, other: "Amount") -> "Amount":
        likely = None if self.likely is None or other.likely is None else self.likely + other.likely
        return Amount(self.least + other.least, likely, self.most + other.most)

    def __str__(self) -> str:
        if self.least == self.most:
            return f"{self.most:,.0f}"
        return ("" if self.likely is None else f"about {self.likely:,.0f}, ") + f"at most {self.most:,.0f}"


@lru_cache
def read_prices(path: str | None = None) -> PriceList:
    """The price list in a file; the shipped one by default.

    Raises:
        UserError: there is no such file, or it has another form.
    """
    file = SHIPPED if path is None else Path(path)
    content = read_json(file)
    wanted = f'{file}: a price list is {{"date": ..., "models": {{name: {{"input": dollars, "output": dollars}}}}}}'
    models = content.get("models") if isinstance(content, dict) else None
    if not isinstance(models, dict) or not models:
        raise UserError(f"{wanted}, with dollars per million tokens; it has no models")
    for name, entry in models.items():
        if not isinstance(entry, dict) or not all(_is_amount(entry.get(side)) for side in ("input", "output")):
            raise UserError(f"{wanted}, with dollars per million tokens; {name} has {str(entry)[:80]}")
    batch = content.get("batch", 0.5)
    if not _is_amount(batch):
        raise UserError(f"{file}: batch is the part of a price that the batch API charges, such as 0.5, not {batch!r}")
    said = f"{content.get('source', file.name)} of {content.get('date', 'an unknown date')}"
    return PriceList(
        {name: Price(entry["input"], entry["output"]) for name, entry in models.items()}, batch, said, str(file)
    )


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def in_dollars(amount: float) -> str:
    """An amount as it is printed, rounded up: a limit of that size is enough.

    Example:
        >>> in_dollars(12.341), in_dollars(0.00123), in_dollars(0)
        ('$12.35', '$0.0013', '$0.00')
    """
    places = 2 if amount >= 1 or amount <= 0 else 4
    return f"${math.ceil(round(amount * 10**places, 6)) / 10**places:,.{places}f}"


class Unaffordable(Exception):
    """A call was not made, because the limit would not do for it."""


@dataclass
class Budget:
    """A limit on what one run spends on calls to a model. Safe to use from several threads.

    A call is counted before it is made (:meth:`reserve`) and its count given back when it has ended (:meth:`settle`). What
    was paid is what the endpoint says that it used (:class:`~persona_vectors.judge.endpoint.Counts`), where it says that.

    Attributes:
        limit: dollars.
        price: of the model.
        counts: what the calls have used so far.
        count: tokens of a prompt.
    """

    limit: float
    price: Price
    counts: Counts
    count: Callable[[str], int]
    _reserved: float = 0.0
    _ended: float = 0.0
    _before: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def paid(self) -> float:
        """Dollars of the calls that have ended."""
        used = self.price.of(self.counts.tokens_in, self.counts.tokens_out)
        return used if self.counts.unmetered == 0 else max(used, self._ended)

    @property
    def under_way(self) -> bool:
        """Whether a counted call has not ended: it may use less than was counted."""
        return self._reserved > 1e-12

    def reserve(self, prompt: str, most_out: int) -> float | None:
        """Dollars of a call that may be made now; None where it would go beyond the limit.

        Where calls have used more than was counted, so will this one.
        """
        amount = self.price.of(self.count(prompt), most_out)
        with self._lock:
            if self._before is None:
                self._before = self.paid  # the probe
            if self._ended:
                amount *= max(1.0, (self.paid - self._before) / self._ended)
            if self.paid + self._reserved + amount > self.limit + 1e-9:
                return None
            self._reserved += amount
        return amount

    async def afford(self, prompt: str, most_out: int) -> float | None:
        """:meth:`reserve`, after the calls under way where there is no room yet: they may use less than was counted."""
        while (amount := self.reserve(prompt, most_out)) is None and self.under_way:
            await asyncio.sleep(0.05)
        return amount

    def settle(self, amount: float, made: bool = True) -> None:
        """A call of so many dollars has ended; or it was not ``made`` at all."""
        with self._lock:
            self._reserved -= amount
            self._ended += amount if made else 0.0

    def stopped(self, following: str = "the next call") -> TooExpensive:
        """What is said when what follows would go beyond the limit."""
        return TooExpensive(
            f"stopped at --max_cost {self.limit:g}: {in_dollars(self.paid)} are spent and {following} would go beyond; "
            "what is done is kept, and the same command goes on from there with as much again (--dry_run says what is missing)"
        )


@dataclass(frozen=True)
class Costs:
    """The prices that calls are counted at, and the most that a run may cost in dollars (None: no limit)."""

    prices: PriceList
    max_cost: float | None = None

    def check(self, model: str) -> None:
        """Refuse a limit on a model without a price."""
        if self.max_cost is not None and self.prices.price(model) is None:
            raise UserError(
                f"--max_cost needs the price of {model}, which is not in {self.prices.path}{suggest(model, self.prices.models)}; "
                "name a list of your own with --prices"
            )

    def budget(self, model: str, batch: bool, counts: Counts, count: Callable[[str], int]) -> Budget | None:
        """The limit of a run, or None; see :meth:`check`."""
        price = self.prices.price(model, batch)
        return None if self.max_cost is None or price is None else Budget(self.max_cost, price, counts, count)

    def refuse(self, dollars: Amount | None, unless: str = "") -> None:
        """Refuse a run that would cost more than the limit: by its likely cost where that is known, else by its least.

        ``unless`` is what may make it cheaper, in words.
        """
        if dollars is None or self.max_cost is None:
            return
        amount = dollars.least if dollars.likely is None else dollars.likely
        if amount > self.max_cost + 1e-9:
            known = "" if dollars.least == dollars.most else "at least " if dollars.likely is None else "about "
            raise TooExpensive(
                f"this run costs {known}{in_dollars(amount)}{unless}, more than --max_cost {self.max_cost:g}: nothing was asked; "
                "raise it, or ask for less (--dry_run says what everything costs)"
            )
