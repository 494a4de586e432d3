"""Projecting the rows of a file, window by window: tokenising in a thread, the model beside it, a bar over it.

What cal_projection does to any file and the analyses do to their own.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from persona_vectors import models
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import Fingerprint, of_bytes
from persona_vectors.files.resumable import WindowedWork, ahead, missing, tidy
from persona_vectors.files.rows import Rows
from persona_vectors.processes import ALONE, Processes
from persona_vectors.vectors.projection import Column, Projector, made_from
from persona_vectors.vectors.samples import make_samples


def project_windows(
    work: WindowedWork,
    sizes: Sequence[int],
    tokenizer: Any,
    projector: Projector,
    max_length: int | None,
    enable_thinking: bool = False,
    processes: Processes = ALONE,
) -> None:
    """Compute and keep this process's unfinished windows of ``work``, whose columns are the projector's.

    Args:
        sizes: rows per window, for the bar (the first process has them from ``work.begin``).
        max_length: of the model, in tokens.
    """
    needs_answer = any(column.needs_answer for column in projector.columns)

    def prepared() -> Iterator[tuple[int, list, list[str]]]:
        for window in work.unfinished(processes.rank, processes.world):
            exchanges = [work.rows.exchange(record) for record in window.records]
            yield window.number, *make_samples(tokenizer, exchanges, max_length, needs_answer, enable_thinking)

    with windows_bar(work, sizes, "projecting", processes) as bar:
        for number, samples, problems in ahead(prepared()):
            values = projector.of_rows(samples, problems, bar.update)
            work.keep(number, values, problems)


def projections_from(path: models.ModelPath, base: models.ModelPath | None, dtype: str, enable_thinking: bool) -> dict:
    """What projections depend on, besides rows and vectors; ``base`` is the model whose activations are subtracted."""
    subtracted = (
        models.made_of(base, "base_model", "base_adapter") if base else {"base_model": None, "base_adapter": None}
    )
    own = models.made_of(path)
    return provenance.record(**own, **subtracted, dtype=dtype, enable_thinking=enable_thinking)


def of_rows(columns: Sequence[Column]) -> Fingerprint:
    """The rows of the vector files onto which columns project, put together."""
    return of_bytes("vectors", b"".join(column.vector.numpy().tobytes() for column in columns))


@dataclass(frozen=True)
class Steered:
    """How a model is steered while its prompts are read.

    Attributes:
        told: what projections depend on of the steering, for their records.
        block: given the model, the block within which its forwards are steered. It takes a forward for one of prompts.
    """

    told: dict
    block: Callable[[Any], AbstractContextManager]


class FileProjector:
    """Projects one file after another with one model, which is loaded when the first of them needs it."""

    def __init__(
        self,
        path: models.ModelPath,
        dtype: str,
        trust_remote_code: bool = False,
        token_budget: int | None = None,
        enable_thinking: bool = False,
    ) -> None:
        self.path, self.dtype, self.trust, self.token_budget = path, dtype, trust_remote_code, token_budget
        self.enable_thinking = enable_thinking
        self.model: Any = None
        self.tokenizer: Any = None

    def load(self) -> None:
        """Load model and tokenizer, once."""
        if self.model is None:
            self.tokenizer = models.load_tokenizer(self.path, self.trust)
            self.model = models.load_model(self.path, self.dtype, self.trust)

    @functools.cached_property
    def common(self) -> dict:
        """What every projection depends on, besides rows and vectors."""
        return projections_from(self.path, None, self.dtype, self.enable_thinking)

    def missing(
        self, rows: Rows, columns: Sequence[Column], remedy: str, steered: Steered | None = None
    ) -> list[Column]:
        """The columns that the file lacks; ``remedy`` says what to do about others.

        Raises:
            UserError: it has one that is made from something else.
        """
        tidy(rows.path)
        names = missing(rows, made_from(columns, self._common(steered)), remedy=remedy)
        return [column for column in columns if column.name in names]

    def _common(self, steered: Steered | None) -> dict:
        return self.common | (steered.told if steered else {})

    def add(self, rows: Rows, columns: Sequence[Column], steered: Steered | None = None) -> None:
        """Add columns, in the place of any of their names; nothing happens where there are none to add.

        ``steered``: while the model is read. Columns are then of prompts alone, each run by itself: the reading pads without
        a mask, and a steering must know where a prompt ends.
        """
        if not columns:
            return
        if steered and any(column.needs_answer for column in columns):
            raise ValueError("only prompts can be read from a steered model")
        settings = {**self._common(steered), "vectors": of_rows(columns)}
        work = WindowedWork(rows, made_from(columns, self._common(steered)), settings)
        sizes = work.begin()
        self.load()
        max_length = models.shape_of(self.model.config).max_length
        projector = Projector(self.model, columns, None, 1 if steered else self.token_budget)
        with steered.block(self.model) if steered else nullcontext():
            project_windows(work, sizes, self.tokenizer, projector, max_length, self.enable_thinking)
        work.report(*work.finish())


def windows_bar(work: WindowedWork, sizes: Sequence[int], label: str, processes: Processes = ALONE) -> tqdm:
    """A progress bar over the rows of this process's windows, earlier runs' included; the first one's is seen."""
    mine = [k for k in range(len(sizes)) if k % processes.world == processes.rank]
    share = f" (process 1 of {processes.world})" if processes.world > 1 else ""
    return tqdm(
        total=sum(sizes[k] for k in mine),
        initial=sum(sizes[k] for k in mine if work.is_kept(k)),
        desc=label + share,
        unit=" rows",
        disable=not processes.is_first,
    )
