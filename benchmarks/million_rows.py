"""Benchmark projecting a JSONL of a million rows: speed, and memory compared with ten thousand rows.

    python benchmarks/million_rows.py --rows 1000000 --kill

Writes files of short chats, runs eval.cal_projection on each in a separate process, and samples the resident memory of
that process and its children. With --kill, the larger run is killed once half-way with SIGKILL and resumed. Appends a
section to benchmarks/RESULTS.md.
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from report import report

WORDS = [
    "the",
    "a",
    "some",
    "many",
    "people",
    "think",
    "that",
    "can",
    "help",
    "with",
    "what",
    "music",
    "boats",
    "light",
]


def write_rows(path: Path, count: int) -> None:
    """Write ``count`` one-turn chats with 3-12 words per message."""
    draw = random.Random(0)
    with open(path, "w") as file:
        for _ in range(count):
            question, answer = (" ".join(draw.choices(WORDS, k=draw.randint(3, 12))) for _ in range(2))
            messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": messages}) + "\n")


def run(command: list[str], parts: Path, kill_after_windows: int | None) -> tuple[float, float]:
    """(seconds, peak memory in MB) of one run; optionally killed once that many windows are on disk."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    watched, peak, start = psutil.Process(process.pid), 0, time.perf_counter()
    while process.poll() is None:
        try:
            family = [watched, *watched.children(recursive=True)]
            peak = max(peak, sum(one.memory_info().rss for one in family))
        except psutil.NoSuchProcess:
            break
        if kill_after_windows is not None and len(list(parts.glob("*.npz"))) >= kill_after_windows:
            process.send_signal(signal.SIGKILL)
            kill_after_windows = None
        time.sleep(0.05)
    if process.wait() not in (0, -signal.SIGKILL):
        sys.exit(f"failed with {process.returncode}: {' '.join(command)}")
    return time.perf_counter() - start, peak / 2**20


def main(
    model: str = "models/toy",
    vector: str = "persona_vectors/toy/evil_response_avg_diff.pt",
    layer: int = 2,
    rows: int = 1_000_000,
    small: int = 10_000,
    kill: bool = False,
) -> None:
    """Project both files, print and append the section.

    Args:
        model: the model that reads.
        vector: vector file.
        layer: its row.
        rows: of the larger file.
        small: rows of the smaller one.
        kill: kill the larger run half-way and go on.
    """
    lines = ["| rows | seconds | rows per second | peak memory, MB |", "|---|---|---|---|"]
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (small, rows):
            path = Path(folder) / f"{count}.jsonl"
            write_rows(path, count)
            command = [
                sys.executable, "-m", "eval.cal_projection", "--file_path", str(path), "--model_name", model,
                "--vector_path", vector, "--layer", str(layer),
            ]  # fmt: skip
            parts, note = Path(f"{path}.parts"), ""
            if kill and count == rows:
                seconds, peak = run(command, parts, max(1, count // 4096 // 2))
                kept = len(list(parts.glob("*.npz")))
                again, peak_again = run(command, parts, None)
                seconds, peak, note = seconds + again, max(peak, peak_again), f" (killed with {kept} windows done)"
            else:
                seconds, peak = run(command, parts, None)
            with open(path) as file:
                done = sum(1 for line in file if isinstance(list(json.loads(line).values())[-1], float))
            if done != count:
                sys.exit(f"{done} of {count} rows have a value")
            peaks.append(peak)
            lines.append(f"| {count:,}{note} | {seconds:.0f} | {count / seconds:,.0f} | {peak:.0f} |")
    lines += ["", f"Peak memory of the larger file: {peaks[1] / peaks[0]:.2f} times that of the smaller one."]
    report("Projecting a long file", lines)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from persona_vectors import cli

    cli.run(main)
