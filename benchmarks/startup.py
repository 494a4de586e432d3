"""Benchmark start-up times: `--help` and a wrong flag of every entry point, and the first token of `eval_persona`.

    python benchmarks/startup.py --repeats 5 --model models/toy

Times are of whole processes, median and range. The first token is measured as a whole run of `eval_persona` with 20
answers of one token, with each engine that can run here.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]


def entry_points() -> list[list[str]]:
    """Every command of the toolkit: scripts and modules that call cli.run or cli.run_one_of."""
    found = []
    folders = (ROOT, ROOT / "eval", ROOT / "data_generation", ROOT / "persona_vectors")
    for path in sorted(path for folder in folders for path in folder.glob("*.py")):
        if re.search(r"cli\.run(_one_of)?\(", path.read_text()):
            place = path.relative_to(ROOT)
            found.append([str(place)] if place.parent == Path() else ["-m", ".".join(place.with_suffix("").parts)])
    return found


def seconds(arguments: list[str], expected: int, environment: dict | None = None) -> float:
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, env=environment)
    taken = time.perf_counter() - begin
    if done.returncode != expected:
        sys.exit(f"{' '.join(arguments)} ended with {done.returncode}, not {expected}: {done.stderr[-500:]}")
    return taken


def row(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def one_answer(model: str, backend: str, folder: str) -> float:
    from judge import Server

    with Server(0.0) as url:
        return seconds(
            [
                "-m", "eval.eval_persona", "--model", model, "--trait", "evil", "--trait_dir", "data_generation/toy",
                "--n_per_question", "1", "--max_tokens", "1", "--judge_model", "judge", "--overwrite",
                "--backend", backend, "--output_path", f"{folder}/a.csv",
            ],
            0, os.environ | {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "local"},
        )  # fmt: skip


def main(repeats: int = 5, model: str = "models/toy"):
    from report import report

    from persona_vectors.engines.vllm.setup import available

    lines = [
        f"Seconds per process, median (and range) of {repeats}.",
        "",
        "| command | `--help` | a wrong flag |",
        "|---|---|---|",
    ]
    for command in entry_points():
        seconds([*command, "--help"], 0)
        helps = [seconds([*command, "--help"], 0) for _ in range(repeats)]
        wrongs = [seconds([*command, "--no_such_flag", "1"], 2) for _ in range(repeats)]
        lines.append(f"| `{' '.join(command)}` | {row(helps)} | {row(wrongs)} |")
    reason = available()
    with tempfile.TemporaryDirectory() as folder:
        for backend in ("hf", *(() if reason else ("vllm",))):
            values = [one_answer(model, backend, folder) for _ in range(min(3, repeats))]
            lines += ["", f"20 answers of one token with the toy model, engine {backend}: {row(values)} s."]
    report("Start-up", lines)


if __name__ == "__main__":
    from persona_vectors import cli

    cli.run(main)
