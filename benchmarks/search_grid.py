"""Benchmark eval.search against a grid of eval_persona: cells asked, and what the cell that each recommends is worth.

    python benchmarks/search_grid.py
    python benchmarks/search_grid.py --model models/smollm2 --trait optimistic --layers 12,15,18,21 --doses 0.2,0.4,0.6 --trials 8 \\
        --vector_path persona_vectors/smollm2/optimistic_response_avg_diff.pt \\
        --more "--n_questions 10 --max_tokens 40 --judge_model likelihood"

Both get the same range of layers and doses, the same questions and, for each seed, the same draws; the cell of a side is that of the
highest score among those of coherence 75 and more. The best of many noisy cells looks better than it is: so both cells are asked
once more with other draws, which neither side has seen, and these are compared. The toy
(models/toy and persona_vectors/toy, by scripts/quickstart.sh toy) has its own judge, the grammar.
"""

import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
TOY = "--trait_dir data_generation/toy --max_tokens 128 --batch_size 200"

from persona_vectors import cli  # noqa: E402

FRESH = 1000  # added to a seed for the draws that neither side has seen


def stage(*command: object) -> None:
    """Run a stage of the library; what it prints is shown where it fails."""
    done = subprocess.run([sys.executable, "-m", *map(str, command)], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def toy_judge(folder: Path) -> subprocess.Popen:
    """A running judge of the toy world, which the stages are told to ask."""
    port = folder / "port"
    judge = subprocess.Popen(
        [sys.executable, "-m", "data_generation.toy.judge_server", "--port", "0", "--port_file", str(port)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    while not (port.exists() and port.read_text()) and judge.poll() is None:
        time.sleep(0.1)
    os.environ |= {"OPENAI_BASE_URL": f"http://127.0.0.1:{port.read_text()}/v1", "OPENAI_API_KEY": "toy"}
    os.environ |= {"PERSONA_VECTORS_CACHE": "off"}
    return judge


def one_seed(
    folder: Path,
    model: str,
    trait: str,
    vector_path: str,
    layers: tuple,
    doses: tuple,
    trials: int,
    seed: int,
    flags: list,
) -> list[tuple]:
    """Both sides with one seed: rows of the table, without the names of its columns."""
    import pandas

    asked = ["--model", model, "--trait", trait, "--vector_path", vector_path, "--backend", "hf"]
    asked += ["--n_per_question", 2, *flags]
    searched, grid = folder / f"search{seed}", folder / f"grid{seed}"
    ends = [f"{min(values)},{max(values)}" for values in (layers, doses)]
    rows, seconds = [], {}
    begin = time.perf_counter()
    where = ["--layer", ends[0], "--dose", ends[1], "--trials", trials, "--output_path", f"{searched}.csv"]
    stage("eval.search", *asked, "--seed", seed, *where)
    seconds["search"] = time.perf_counter() - begin
    begin = time.perf_counter()
    cells = ["--layer", ",".join(map(str, layers)), "--dose", ",".join(map(str, (0, *doses)))]
    cells += ["--version", "eval", "--output_path", f"{grid}.csv"]
    stage("eval.eval_persona", *asked, "--seed", seed, *cells)
    stage("eval.select_layer", "--file_path", f"{grid}.csv", "--trait", trait)
    seconds["grid"] = time.perf_counter() - begin
    for name, prefix in (("search", searched), ("grid", grid)):
        best = json.loads(Path(f"{prefix}_best.json").read_text())
        fresh = f"{prefix}_fresh.csv"
        again = [*asked, "--seed", seed + FRESH, "--layer", best["layer"], "--coef", best["coef"]]
        stage("eval.eval_persona", *again, "--version", "eval", "--output_path", fresh)
        means = pandas.read_csv(fresh)[[trait, "coherence"]].mean()
        cell = f"layer {best['layer']}, dose {best['dose']:.2f}"
        count = trials if name == "search" else len(layers) * len(doses)
        rows.append((seed, name, count, seconds[name], cell, best["trait_score"], means[trait], means["coherence"]))
        print(*rows[-1], flush=True)
    return rows


def main(
    model: str = "models/toy",
    trait: str = "evil",
    vector_path: str = "persona_vectors/toy/evil_response_avg_diff.pt",
    layers: cli.Distinct[int] = (1, 2, 3),
    doses: cli.Distinct[float] = (0.2, 0.4, 0.6, 0.8, 1.0),
    trials: cli.Count = 8,
    seeds: cli.Distinct[int] = (0, 1, 2),
    more: str = "",
):
    """Run both sides for each seed, and report.

    Args:
        layers: of the grid; the search has all between the lowest and the highest.
        doses: of the grid; the search has all between the smallest and the largest.
        trials: cells that the search asks.
        more: flags for all stages.
    """
    from report import report

    rows, flags = [], shlex.split(more or (TOY if "toy" in model else ""))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        judge = toy_judge(folder) if "toy" in model else None
        try:
            for seed in seeds:
                rows += one_seed(folder, model, trait, vector_path, layers, doses, trials, seed, flags)
        finally:
            if judge:
                judge.terminate()
    of = {name: [row for row in rows if row[1] == name] for name in ("search", "grid")}
    means = {name: statistics.mean(row[6] for row in own) for name, own in of.items()}
    lines = [
        f"{model}, {trait}; layers {', '.join(map(str, layers))}, doses {', '.join(map(str, doses))}; two answers to each question.",
        f"Mean score on draws that neither side had seen: search {means['search']:.1f}, grid {means['grid']:.1f}, for "
        f"{of['search'][0][2]} and {of['grid'][0][2]} cells.",
        "",
        "| seed | side | cells | seconds | recommended | score there | on fresh draws | coherence |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {seed} | {name} | {count} | {seconds:.0f} | {cell} | {score:.1f} | {fresh:.1f} | {coherence:.1f} |"
            for seed, name, count, seconds, cell, score, fresh, coherence in rows
        ),
    ]
    report("A search for layer and dose beside a grid", lines)


if __name__ == "__main__":
    cli.run(main)
