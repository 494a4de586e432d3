"""The long part of the fault suite: prints and writes the table of docs/FAULTS.md.

    python -m tests.faults.long --kills 30 --fresh 10 --calls 10000

Kills and SIGINTs fall at moments drawn from --seed. Most commands are forked from a process that has torch imported
already, --fresh of the kills per stage hit commands that start from nothing. The judge gets --calls calls at
concurrency 100 at each rate of faults.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")


def of_stage(stage, args) -> list:
    """Every fault that applies to a stage."""
    import breaking
    from stages import Asking, Projecting

    counts, world = [], stage.world
    for forked, kills in ((True, args.kills - args.fresh), (False, args.fresh)):
        if not kills:
            continue
        world.forked = forked
        breaking.undisturbed(stage)
        reference = breaking.undisturbed(stage)
        count = breaking.stop_at_random(stage, reference, kills, args.seed, signal.SIGKILL)
        count.fault += "" if forked else ", from nothing"
        counts.append(show(count))
        if not forked:
            continue
        counts.append(
            show(breaking.stop_at_random(stage, reference, max(1, args.kills // 3), args.seed, signal.SIGINT))
        )
        counts.append(show(breaking.two_at_once(stage, reference, 3)))
        if isinstance(stage, Asking | Projecting):
            counts.append(show(breaking.torn_tail(stage, reference, 3, args.seed)))
        if breaking.can_mount():
            counts.append(show(breaking.disk_full(stage, reference, (0.1, 0.3, 0.5, 0.7))))
            counts.append(show(breaking.read_only(stage, reference)))
        else:
            print("disk full, read-only output: left out (no right to mount a tmpfs)")
    return counts


def show(count):
    print(f"{count.stage}, {count.fault}: tried {count.tried}, recovered {count.recovered}, done again "
          f"{count.done_again}, lost {count.lost}, in flight {count.in_flight}")  # fmt: skip
    for note in dict.fromkeys(count.notes):
        print(f"    {note}")
    return count


def table(counts: list) -> str:
    lines = ["| stage | fault | times tried | times recovered | finished work done again | lost | calls in flight |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for c in counts:
        lines.append(
            f"| {c.stage} | {c.fault} | {c.tried} | {c.recovered} | {c.done_again} | {c.lost} | {c.in_flight} |"
        )
    return "\n".join(lines)


TEXT = """# Faults

What was broken, how often, and what the same command made of it afterwards. Written by
`{command}` on {cores} CPU cores.

{stages}

- *recovered*: the same command, run again, left the files of an undisturbed run, byte by byte (training: weights,
  record and the loss of every step), and nothing else.
- *finished work done again*: answers generated and judge calls made although they were on disk, rows projected although
  their window was, training steps done although a checkpoint had them.
- *lost*: outputs that differ from the undisturbed run's.
- *calls in flight*: judge calls that were under way when the process died, or whose reply the full disk could not take.
  Nobody can have kept these; they are asked again.
- Kills fall at seeded random moments, two thirds of them while the command writes; up to three follow each other before
  it may finish. *From nothing*: the process starts Python and imports everything itself; the others are forked from one
  that has.

## A judge that misbehaves

{calls} answers to score in each run, at concurrency 100, over HTTP on loopback. A faulty call is one of: {forms}.

{judge}

- *given up*: empty in the CSV, never 0; the rerun asked for exactly these.
- *no score*: replies without a number 0-100 (a refusal, "eighty", 101); empty, and not asked for again.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="kill -9 per stage")
    parser.add_argument(
        "--fresh", type=int, default=10, help="how many of these hit a command that starts from nothing"
    )
    parser.add_argument("--calls", type=int, default=10_000, help="judge calls at each rate of faults; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="*", help="only these")
    parser.add_argument("--output", type=Path, help="where to write the tables, e.g. docs/FAULTS.md")
    args = parser.parse_args()
    began = time.monotonic()
    import bad_judge
    import torch
    from stages import STAGES, World

    torch.set_num_threads(1)
    counts = []
    with tempfile.TemporaryDirectory() as folder, World(Path(folder)) as world:
        for stage in STAGES:
            if not args.stages or stage.name in args.stages:
                counts += of_stage(stage(world), args)
    judged = [bad_judge.measure(rate, args.calls, args.seed) for rate in (0.01, 0.3)] if args.calls else []
    judge = bad_judge.table(judged)
    print(table(counts), judge, f"{time.monotonic() - began:.0f} s", sep="\n\n")
    if args.output:
        command = f"python -m tests.faults.long {' '.join(sys.argv[1:])}"
        text = TEXT.format(command=command, cores=os.cpu_count(), stages=table(counts), calls=args.calls, judge=judge,
                           forms=", ".join(bad_judge.FORMS))  # fmt: skip
        args.output.write_text(text)
        print(f"wrote {args.output}")
    broken = [c for c in counts if c.recovered < c.tried or c.done_again or c.lost] + [j for j in judged if j.wrong]
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
