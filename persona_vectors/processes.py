"""Which device models run on, and rank, world size and barriers of a stage run in one process or in several.

The only module that names a kind of device. accelerate is imported only if there are several processes, torch when asked.
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


def accelerator() -> str:
    """The kind of device that models run on here, as torch calls it; ``cpu`` where there is no other.

    Example:
        accelerator()  # "cuda" with a GPU of NVIDIA or AMD, "mps" on a Mac
    """
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if found is None else found.type


def gpu_count() -> int:
    """How many GPUs of NVIDIA or AMD this process sees; a Mac's own does not count."""
    import torch

    return torch.cuda.device_count()


def has_bfloat16() -> bool:
    """Whether the GPUs of NVIDIA or AMD compute in bfloat16."""
    import torch

    return torch.cuda.is_bf16_supported()


def default_dtype() -> str:
    """The floating-point type in which models are loaded by default: ``bfloat16`` on an accelerator, else ``float32``.

    A Mac has bfloat16 from macOS 14 on; before that, it loads models in float32 too.
    """
    import torch

    kind = accelerator()
    lacks = kind == "cpu" or (kind == "mps" and not torch.backends.mps.is_macos_or_newer(14, 0))
    return "float32" if lacks else "bfloat16"


def join_processes() -> Processes:
    """Join the processes that ``accelerate launch`` or torchrun started together; :data:`ALONE` if there are no others.

    On CPUs, several processes need torchrun or ``accelerate launch --multi_gpu``: with ``--cpu`` accelerate starts one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    from accelerate import PartialState

    # Long timeout: the slowest may need hours more than the first. Without a GPU, accelerate joins only with cpu=True.
    state = PartialState(cpu=accelerator() == "cpu", timeout=datetime.timedelta(days=30))
    own = state.local_process_index if state.device.type == "cuda" else None
    return Processes(state.process_index, state.num_processes, own)
