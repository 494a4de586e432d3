"""One engine for several rounds of asking: it is loaded once and stays open in between."""

from persona_vectors.asking.subject import EngineSettings
from persona_vectors.engines import Engine
from persona_vectors.models.loading import ModelPath


class KeptEngine:
    """In the place of :class:`EngineSettings` in a subject: what ``open`` gives may be closed, and stays for the next time.

    Example:
        with contextlib.closing(KeptEngine(settings)) as kept:
            for sheet in sheets:
                ask_and_judge([sheet], replace(subject, engine=kept), judging, grid)
    """

    def __init__(self, settings: EngineSettings) -> None:
        self.settings, self._engine, self._longest = settings, None, 0
        self.backend = settings.backend

    def open(self, path: ModelPath, dtype: str, trust_remote_code: bool, longest: int) -> "_Borrowed":
        """The engine; loaded anew only where sequences may now be longer than it was loaded for."""
        if self._engine is None or longest > self._longest:
            self.close()
            self._engine, self._longest = self.settings.open(path, dtype, trust_remote_code, longest), longest
        return _Borrowed(self._engine)

    def close(self) -> None:
        """Give the engine's memory back."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None


class _Borrowed:
    """An engine that its user's ``close`` leaves open."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str):
        return getattr(self._engine, name)

    def close(self) -> None:
        """Nothing: its keeper closes it."""
