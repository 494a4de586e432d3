"""The long part of the fault suite: prints and writes the tables of docs/FAULTS.md.

    python -m tests.faults.long --output docs/FAULTS.md

Kills and SIGINTs fall at moments drawn from --seed. Most commands are forked from a process that has torch imported
already, --fresh of the kills per stage hit commands that start from nothing. The judge gets --calls calls at
concurrency 100 at each rate of faults, every reader --fuzz made-up files. The page is written after each piece;
interrupted, the same command goes on with the next one.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
BOTH_RATES = (0.01, 0.3)


def pieces(args, worlds: dict) -> dict:
    """``{name: function that measures it}``: every fault of every stage, the judge, the readers, the quick part."""
    import bad_judge
    import breaking
    from stages import STAGES, Asking, Projecting

    found = {}
    for kind in STAGES:
        if args.stages and kind.name not in args.stages:
            continue

        @cache
        def forked(kind=kind):
            stage = kind(worlds["forked"])
            breaking.undisturbed(stage)  # waits until the server that processes are forked from has imported everything
            return stage, breaking.undisturbed(stage)

        def fresh(kind=kind):
            stage = kind(worlds["fresh"])
            return stage, breaking.undisturbed(stage)

        stops, ctrl_c = args.kills - args.fresh, max(1, args.kills // 3)
        faults = {"kill -9": lambda f=forked, n=stops: breaking.stop_at_random(*f(), n, args.seed, signal.SIGKILL)}
        if args.fresh:
            faults["kill -9, from nothing"] = lambda f=fresh: breaking.stop_at_random(
                *f(), args.fresh, args.seed + 1, signal.SIGKILL
            )
        faults["SIGINT"] = lambda f=forked, n=ctrl_c: breaking.stop_at_random(*f(), n, args.seed, signal.SIGINT)
        faults["two runs at once"] = lambda f=forked: breaking.two_at_once(*f(), 3)
        if issubclass(kind, Asking | Projecting):
            faults["torn journal"] = lambda f=forked: breaking.torn_tail(*f(), 3, args.seed)
        if breaking.can_mount():
            faults["disk full"] = lambda f=forked: breaking.disk_full(*f(), (0.1, 0.3, 0.5, 0.7))
            faults["read-only output"] = lambda f=forked: breaking.read_only(*f())
        for fault, measure in faults.items():
            found[f"{kind.name}, {fault}"] = lambda m=measure, f=fault: {"count": asdict(m()) | {"fault": f}}
    for rate in BOTH_RATES if args.calls else ():
        found[f"judge, {rate:.0%}"] = lambda rate=rate: {
            "judge": asdict(bad_judge.measure(rate, args.calls, args.seed))
        }
    if args.fuzz:
        found["fuzz"] = lambda: {"fuzz": fuzz(args.fuzz)}
        found["quick part"] = lambda: {"quick": quick()}
    return found


def fuzz(examples: int) -> list[dict]:
    """Run the fuzz and property tests with ``examples`` files each; what hypothesis says of every test."""
    environment = {**os.environ, "FUZZ_EXAMPLES": str(examples)}
    command = [sys.executable, "-m", "pytest", HERE, "-q", "-k", "fuzz or any_text", "--hypothesis-show-statistics"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parents[1])
    found = []
    for part in re.split(r"^(?=tests/\S+::\w+:$)", done.stdout, flags=re.MULTILINE)[1:]:
        phases = re.findall(r"(\d+) passing(?: examples)?, (\d+) failing(?: examples)?,(?: and)? (\d+) invalid", part)
        name = re.match(r"\S+::(\w+):", part)[1].removeprefix("test_").removeprefix("fuzz_").replace("_", " ")
        found.append(dict(zip(("passing", "failing", "invalid"), (sum(map(int, n)) for n in zip(*phases, strict=True)),
                              strict=True), what=name))  # fmt: skip
    assert found, done.stdout[-3000:] + done.stderr[-3000:]
    if done.returncode:
        found[0]["wrong"] = done.stdout[-3000:]
    return found


def quick() -> dict:
    """Seconds and outcome of the quick part, as CI runs it."""
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", HERE, "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parents[1])
    said = done.stdout.strip().splitlines()[-1].strip("= ").split(" in ")[0]
    wrong = done.stdout[-3000:] if done.returncode else ""
    return {"seconds": round(time.monotonic() - began), "said": said, "wrong": wrong}


def table(head: list[str], lines: list[list]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def page(done: dict, missing: list[str], command: str, calls: int) -> str:
    """docs/FAULTS.md of what has been measured."""
    import bad_judge
    from breaking import Count

    counts = [Count(**piece["count"]) for piece in done.values() if "count" in piece]
    judged = [bad_judge.Outcome(**piece["judge"]) for piece in done.values() if "judge" in piece]
    fuzzed = [row for piece in done.values() for row in piece.get("fuzz", [])]
    quick = next((piece["quick"] for piece in done.values() if "quick" in piece), None)
    head = ["stage", "fault", "times tried", "times recovered", "finished work done again", "lost", "calls in flight"]
    asks = {c.stage for c in counts if c.in_flight}
    rows = [[c.stage, c.fault, c.tried, c.recovered, c.done_again, c.lost,
             c.in_flight if c.stage in asks else "-"] for c in counts]  # fmt: skip
    fuzz_rows = [[f["what"], f["passing"], f["failing"]] for f in fuzzed]
    cores = len(os.sched_getaffinity(0))
    return TEXT.format(
        command=command, cores=f"{cores} CPU core{'s' * (cores > 1)}", stages=table(head, rows), calls=calls,
        judge=bad_judge.table(judged), forms=", ".join(bad_judge.FORMS),
        fuzz=table(["reader", "files that ended as they should", "others"], fuzz_rows),
        quick=f"{quick['said']} in {quick['seconds']} s" if quick else "not measured yet",
        missing="Not measured yet: " + "; ".join(missing) + ".\n\n" if missing else "",
    )  # fmt: skip


TEXT = """# Faults

What was broken on purpose, how often, and whether the same command recovered from it. Written by
`{command}` on {cores} (other work ran beside it).

{missing}{stages}

- *recovered*: the same command, run again, left exactly the files of an undisturbed run, byte by byte (training: weights,
  record and the loss of every step).
- *finished work done again*: answers generated and judge calls made although they were on disk, rows projected although
  their window was on disk, training steps done although a checkpoint included them.
- *lost*: outputs that differ from the undisturbed run's.
- *calls in flight*: judge calls that were running when the process died, or whose reply did not fit on the full disk.
  Their results could not be saved, so they are repeated.
- Kills happen at seeded random moments, two thirds of them while the command writes. Up to three follow each other before
  the command may finish. *From nothing*: the process starts Python and imports everything itself. The other processes are
  forked from one that has imported everything.

## A judge that misbehaves

{calls} calls in each run (two scores per answer), at concurrency 100, over HTTP on loopback. A faulty call is one of: {forms}.

{judge}

- *given up*: empty in the CSV, never 0; the rerun requested exactly these.
- *no score*: replies without a number 0-100 (a refusal, "eighty", 101): empty, and not requested again.

## Files from others

Generated by hypothesis: files that are roughly what the reader expects, in several encodings, truncated, overwritten, or
noise. Each must be read, or refused with one line that says what is wrong.

{fuzz}

The quick part, `pytest tests/faults`: {quick}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="kill -9 per stage")
    parser.add_argument("--fresh", type=int, default=6, help="how many of these hit a command that starts from nothing")
    parser.add_argument("--calls", type=int, default=10_000, help="judge calls at each rate of faults; 0: none")
    parser.add_argument("--fuzz", type=int, default=300, help="files per reader; 0: none, and no timing of the suite")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="*", help="only these")
    parser.add_argument("--output", type=Path, required=True, help="where to write the tables, e.g. docs/FAULTS.md")
    args = parser.parse_args()
    # A shell starts what it puts into the background with SIGINT ignored, and the commands would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import torch
    from stages import World

    from persona_vectors.files.atomic import replacing
    from persona_vectors.files.journal import Journal

    torch.set_num_threads(1)
    command = f"python -m tests.faults.long {' '.join(sys.argv[1:])}".strip()
    settings = {name: value for name, value in vars(args).items() if name != "output"}
    journal = Journal(args.output, settings)
    done = {record["piece"]: record for record in journal.records}
    with tempfile.TemporaryDirectory() as folder:
        roots = {name: Path(folder) / name for name in ("forked", "fresh")}
        for root in roots.values():
            root.mkdir()
        with World(roots["forked"], forked=True) as forked, World(roots["fresh"]) as fresh:
            todo = pieces(args, {"forked": forked, "fresh": fresh})
            for number, (name, measure) in enumerate(todo.items()):
                if name in done:
                    continue
                began = time.monotonic()
                done[name] = {"piece": name, **measure()}
                done[name]["took"] = round(time.monotonic() - began, 1)
                journal.append(done[name])
                print(f"[{number + 1}/{len(todo)}] {name}: {done[name]}", flush=True)
                ordered = {name: done[name] for name in todo if name in done}
                with replacing(args.output) as beside:
                    beside.write_text(page(ordered, [n for n in todo if n not in done], command, args.calls))
    journal.close(remove=True)
    print(f"wrote {args.output}")
    sys.exit(1 if any(map(is_broken, done.values())) else 0)


def is_broken(piece: dict) -> bool:
    """Whether a piece shows a fault that was not made up for."""
    count, judge, quick = (piece.get(name, {}) for name in ("count", "judge", "quick"))
    return bool(
        (count and (count["recovered"] < count["tried"] or count["done_again"] or count["lost"]))
        or judge.get("wrong")
        or quick.get("wrong")
        or any(f["failing"] or f.get("wrong") for f in piece.get("fuzz", []))
    )


if __name__ == "__main__":
    main()
