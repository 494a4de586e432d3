"""Append a benchmark's results to benchmarks/RESULTS.md: a section with machine, command and numbers."""

import os
import platform
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"


def machine() -> str:
    """The GPU's name; without a GPU, the CPU's name, core count and thread count."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    threads = os.environ.get("OMP_NUM_THREADS", os.cpu_count())
    return f"{os.cpu_count()} x {names[0] if names else platform.processor()}, {threads} threads"


def report(title: str, lines: list[str]) -> None:
    """Print the section and append it to benchmarks/RESULTS.md."""
    command = "python " + " ".join([f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    section = [f"## {title}", "", f"{machine()}; `{command}`; {time.strftime('%Y-%m-%d')}", "", *lines, ""]
    print("\n".join(section))
    with open(RESULTS, "a") as file:
        file.write("\n".join(["", *section]))
