"""Stage: what the commands of a pipeline would make and cost, in tables; nothing is asked, written or loaded.

    bash scripts/reproduce.sh Qwen/Qwen2.5-7B-Instruct evil -- --n_per_question 2 --dry_run

The pipelines of scripts/ write their plan (scripts/pipeline.sh) and end with this stage.
"""

import contextlib
import importlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from persona_vectors import cli
from persona_vectors.errors import UserError


@cli.command
def main(plan: str, max_cost: float | None = None):
    """Sum the dry runs of a plan's commands.

    Args:
        plan: file of the words of each command, ended by NUL characters: how many they are, and then the words.
        max_cost: dollars that all of it may cost; exit code 3 where it would cost more.
    """
    if not Path(plan).is_file():
        raise UserError(f"no plan at {plan}; a pipeline writes it: bash scripts/reproduce.sh MODEL -- --dry_run")

    from persona_vectors.asking.rehearsal import rehearse
    from persona_vectors.judge.prices import Costs, read_prices

    found = rehearse(read_plan(plan), dry_run_of)
    print(found.in_words())
    unsure = next((one.unless for one in found.whole.foreseen if one.unless), "")
    Costs(read_prices(), max_cost).refuse(found.whole.dollars, unsure)


def read_plan(path: str) -> Iterator[list[str]]:
    """The words of each command."""
    words = iter(Path(path).read_text().split("\0")[:-1])
    for count in words:
        yield [next(words) for _ in range(int(count))]


def dry_run_of(module: str, flags: Sequence[str]) -> object:
    """What a stage's main returns for flags and --dry_run; NotImplemented where it has no such flag."""
    main = getattr(importlib.import_module(module), "main", None)
    if main is None or "dry_run" not in cli.command(main).flags:
        return NotImplemented
    asked = list(flags) if any(flag.startswith("--dry") for flag in flags) else [*flags, "--dry_run"]
    with contextlib.redirect_stdout(io.StringIO()):  # what is there is summarised
        return cli.call(main, asked)


if __name__ == "__main__":
    cli.run(main)
