"""Several models one after another in one engine: what is loaded stays, and adapters over the same base are swapped.

Which engine can go on to which model is the engines' own knowledge (:meth:`Engine.switch_to`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from persona_vectors.engines.base import Engine
from persona_vectors.models.loading import ModelPath


class Kept:
    """An engine that outlives those who close it, and the settings that it was opened with."""

    def __init__(self) -> None:
        self.engine: Any = None
        self.settings: tuple | None = None

    def open(self, settings: tuple, path: ModelPath, longest: int | None, start: Callable[[], Engine]) -> Engine:
        """The kept engine with the model of ``path``, or a new one from ``start`` where it cannot have it.

        Args:
            settings: what else the engine depends on.
            longest: tokens that the longest sequence takes; None where the engine has no such limit.
        """
        if self.engine is None or self.settings != settings or not self.engine.switch_to(path, longest):
            self.close()
            self.engine, self.settings = start(), settings
        return Lent(self.engine)

    def close(self) -> None:
        """Release the engine, if there is one."""
        engine, self.engine = self.engine, None
        if engine is not None:
            engine.close()


class Lent:
    """A kept engine as it is given out: to close it keeps it."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        """Nothing: the next to open an engine may go on with this one."""


current: ContextVar[Kept | None] = ContextVar("kept engine", default=None)


@contextmanager
def kept_loaded() -> Iterator[None]:
    """Within the block, an engine that is closed stays loaded, and opening the next one goes on with it if that can be.

    An engine that was opened in the block cannot be used after another was opened.

    Example:
        with kept_loaded():
            for path in map(models.resolve, adapters):  # of one base, which is loaded once
                with contextlib.closing(open_engine("hf", path, "auto", False)) as engine:
                    answers = list(engine.generate(requests, sampling))
    """
    kept = Kept()
    token = current.set(kept)
    try:
        yield
    finally:
        current.reset(token)
        kept.close()


def release() -> None:
    """Give the memory of a kept engine free: for whoever waits for long, or loads another model beside it.

    The next to open an engine loads it anew. Without :func:`kept_loaded` nothing is kept, and nothing happens.
    """
    kept = current.get()
    if kept is not None:
        kept.close()
