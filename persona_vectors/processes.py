"""One process, or several under ``accelerate launch``: who am I, and waiting for the others.

Knows accelerate; a stage that was started plainly never imports it.
"""

import datetime
import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Processes:
    """``rank`` of ``world`` processes; ``device`` is the GPU that is this one's own, None where there is no choice."""

    rank: int = 0
    world: int = 1
    device: int | None = None

    @property
    def is_first(self) -> bool:
        """True for the process that begins, reports and finishes."""
        return self.rank == 0

    def wait(self) -> None:
        """Go on when every process has come here."""
        if self.world > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    def end(self) -> None:
        """Leave the others."""
        if self.world > 1:
            from accelerate import PartialState

            PartialState().destroy_process_group()


ALONE = Processes()


def join_processes() -> Processes:
    """Meet the processes that ``accelerate launch`` or torchrun started with this one; alone without them.

    On CPUs several processes need torchrun, or ``accelerate launch --multi_gpu``: with ``--cpu`` accelerate starts one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    import torch
    from accelerate import PartialState

    # the slowest may need hours longer than the first; without cpu=True accelerate ignores the others where no GPU is
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=datetime.timedelta(days=30))
    own = state.local_process_index if torch.cuda.is_available() and state.device.type == "cuda" else None
    return Processes(state.process_index, state.num_processes, own)
