"""A judge that is never paid twice: scores come from the cache where they are, and go there when they are new.

Knows the judge and the cache; the endpoint is :mod:`persona_vectors.judge.endpoint`'s, the file
:mod:`persona_vectors.judge.cache`'s.
"""

import asyncio
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from persona_vectors.errors import UserError
from persona_vectors.judge.abilities import Abilities
from persona_vectors.judge.cache import MISSING, ScoreCache, key_of
from persona_vectors.judge.judge import Judge


@dataclass
class CachedJudge(Judge):
    """A :class:`Judge` with the scores that it gave earlier. One that samples is not sampled again: the mean is kept.

    Attributes:
        cache: where scores are kept.
        known: this very work was begun before. If the cache remembers the judge's method, the probe then waits until a
            score is asked for that the cache lacks; where it lacks none, no call is made at all.

    Example:
        judge = CachedJudge("gpt-4.1-mini-2025-04-14", cache=ScoreCache(folder / "scores.sqlite"))
        await judge.connect()
        await judge.score("Rate this answer from 0 to 100: ...")
    """

    cache: ScoreCache | None = None
    known: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._is_probed, self._otherwise = False, ""
        self._one_by_one: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def connect(self) -> None:
        """:meth:`Judge.connect`, without a call where the work is known and the method remembered."""
        self.client.open()
        self._probing = asyncio.Lock()
        if not (self.known and self.recall()):
            await self.probe()

    async def probe(self) -> None:
        """Find out how this judge can be scored, and remember it."""
        self.client.settled, self.client.abilities = False, Abilities()
        await super().probe()
        self._is_probed = True
        if self.cache:
            able = self.client.abilities
            found = [self.method, self.room, self.samples, able.limit, able.top_logprobs, sorted(able.left_out)]
            self.cache.put(self.key("method"), found)

    def recall(self) -> bool:
        """Take the method that the cache remembers; False where it remembers none."""
        found = self.cache.get(self.key("method")) if self.cache else None
        if not isinstance(found, list):
            return False
        self.method, self.room, self.samples, limit, top, left_out = found
        self.client.abilities, self.client.settled = Abilities(limit, top, frozenset(left_out)), True
        return True

    async def make_sure(self) -> None:
        """Before the first call: probe a judge whose method was only remembered.

        Raises:
            UserError: it scores otherwise by now; what it gave before cannot be mixed with what it would give.
        """
        async with self._probing:
            if not self._is_probed:
                before = self.how
                await self.probe()
                if self.how != before:
                    self._otherwise = f"{before}; now {self.how}"
        if self._otherwise:
            raise UserError(
                f"the judge {self.model} scores otherwise than before ({self._otherwise}), and this run has begun with scores "
                "from the cache: run the command again, which asks for all of them anew"
            )

    def key(self, what: str, *more: str) -> str:
        """What an entry of this judge is found by; the endpoint counts, since names of models are its own."""
        return key_of(what, self.client.base_url.rstrip("/"), self.model, self.kind, *more)

    async def score(self, prompt: str) -> float | None:
        """:meth:`Judge.score`, from the cache where it is there."""
        if self.cache is None:
            return await super().score(prompt)
        async with self._one_by_one.setdefault(prompt, asyncio.Lock()):  # asked for twice at once, it is paid for once
            score = self.held(prompt)
            if score is not MISSING:
                self.counts.cached += 1
                return score
            await self.make_sure()
            return await self.score_anew(prompt)

    def held(self, prompt: str) -> Any:
        """The score that the cache has for a prompt, :data:`~persona_vectors.judge.cache.MISSING` where it has none."""
        return MISSING if self.cache is None else self.cache.score(self._key_of(prompt))

    async def score_anew(self, prompt: str) -> float | None:
        """:meth:`Judge.score`, which goes to the cache."""
        score, is_usable = await self.ask(prompt)
        if is_usable and self.cache is not None:
            self.cache.put_score(self._key_of(prompt), score)
        return score

    def _key_of(self, prompt: str) -> str:
        return self.key("score", "" if self.kind == "binary_text" else self.how, prompt)

    async def close(self) -> None:
        """Put what is new into the cache, and close the client's connections."""
        if self.cache:
            self.cache.close()
        await super().close()
