"""Commands as processes that need not import torch again: forked from a server which has, for the quick part.

The commands' own code runs from its first line, in a process that can be killed like any other. (The long part starts
every command from nothing.)
"""

import multiprocessing
import os
import runpy
import signal
import sys
from pathlib import Path

PRELOADED = ["torch", "transformers.models.qwen2.modeling_qwen2", "transformers.generation.utils", "pandas",
             "openai", "safetensors.torch", "peft", "trl", "trl.trainer.sft_trainer", "datasets",
             "matplotlib.pyplot"]  # fmt: skip


def _become(arguments: list[str], environment: dict[str, str], log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(environment)
    import torch

    torch.set_num_threads(1)
    module = arguments[0] == "-m"
    sys.argv = arguments[1:] if module else arguments
    sys.path.insert(0, os.getcwd())
    if module:
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(arguments[0], run_name="__main__")


class Forked:
    """The part of :class:`subprocess.Popen` that the faults need."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        log.write_bytes(b"")
        self._process = context.Process(target=_become, args=(command[1:], environment, log))
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float = 300) -> int:
        self._process.join(timeout)
        assert self._process.exitcode is not None, "the command did not end"
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()
