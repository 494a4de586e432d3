"""In the place of a judge, where answers are only made: nothing is asked, and the score columns stay empty."""

from collections.abc import Sequence

from persona_vectors.asking.sheet import UNJUDGED, AnswerSheet
from persona_vectors.files.tables import SCORED_BY


class NoJudge:
    """What :class:`persona_vectors.asking.judge_thread.JudgeThread` is for a judge, and its bar as well."""

    how = UNJUDGED

    def scoring(self, _sheets: Sequence[AnswerSheet]) -> "NoJudge":
        """The bar of scores, of which there are none."""
        return self

    def __enter__(self) -> "NoJudge":
        return self

    def __exit__(self, *_error) -> None: ...

    def ask(self, sheet: AnswerSheet, key: str) -> None:
        """Nothing is asked for."""

    def finish(self, engine: object = None) -> None:
        """Nothing is waited for."""

    def close(self) -> None:
        """Nothing is open."""

    def summary(self) -> str:
        """One line that says so."""
        return f"nothing was judged: {SCORED_BY} scores answers"
