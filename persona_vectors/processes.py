"""Rank, world size and barriers, for a stage run in one process or in several under ``accelerate launch``.

accelerate is imported only if there are several processes.
"""

import datetime
import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Processes:
    """This process among all.

    Attributes:
        rank: 0..world-1.
        world: number of processes.
        device: index of this process's GPU, None for the default device.

    Example:
        processes = join_processes()
        mine = rows[processes.rank :: processes.world]
        processes.wait()
    """

    rank: int = 0
    world: int = 1
    device: int | None = None

    @property
    def is_first(self) -> bool:
        """True for rank 0, the process that starts, reports and finishes the work."""
        return self.rank == 0

    def wait(self) -> None:
        """A barrier: return when every process has called it."""
        if self.world > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    def end(self) -> None:
        """Leave the process group."""
        if self.world > 1:
            from accelerate import PartialState

            PartialState().destroy_process_group()


ALONE = Processes()


def join_processes() -> Processes:
    """Join the processes that ``accelerate launch`` or torchrun started together; :data:`ALONE` if there are no others.

    On CPUs, several processes need torchrun or ``accelerate launch --multi_gpu``: with ``--cpu`` accelerate starts one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    import torch
    from accelerate import PartialState

    # Long timeout: the slowest may need hours more than the first. Without a GPU, accelerate joins only with cpu=True.
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=datetime.timedelta(days=30))
    own = state.local_process_index if torch.cuda.is_available() and state.device.type == "cuda" else None
    return Processes(state.process_index, state.num_processes, own)
