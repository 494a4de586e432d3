"""Projecting the rows of a file, window by window: tokenising in a thread, the model beside it, a bar over it.

What cal_projection does to any file and the analyses do to their own.
"""

from collections.abc import Sequence

from tqdm import tqdm

from persona_vectors.processes import ALONE, Processes
from persona_vectors.projection import Projector
from persona_vectors.samples import make_samples
from persona_vectors.windowed import WindowedWork, ahead


def project_windows(
    work: WindowedWork,
    sizes: Sequence[int],
    tokenizer,
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

    def prepared():
        for window in work.unfinished(processes.rank, processes.world):
            exchanges = [work.rows.exchange(record) for record in window.records]
            yield window.number, *make_samples(tokenizer, exchanges, max_length, needs_answer, enable_thinking)

    with windows_bar(work, sizes, "projecting", processes) as bar:
        for number, samples, problems in ahead(prepared()):
            values = projector.of_rows(samples, problems, bar.update)
            work.keep(number, values, problems)


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
