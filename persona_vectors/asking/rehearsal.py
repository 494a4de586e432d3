"""What a pipeline would make and cost, before any of it is made: its commands' dry runs, one after the other, and their sum.

The commands are those that the pipeline would run, in their order (a plan). A model that one of them trains is not there
when a later one asks it; its base stands in for it, whose tokenizer and longest sequence it has. Knows plans and sums; how a
command's dry run is made is said by the caller.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from os.path import abspath
from pathlib import Path

from persona_vectors import models
from persona_vectors.asking.foresee import Foreseen, dollars_in_words
from persona_vectors.errors import UserError
from persona_vectors.files.jsonfile import read_json
from persona_vectors.judge.prices import Amount, in_dollars

NOTHING = Amount(0, 0, 0)
HEADS = ("answers", "prompt tokens", "answer tokens", "judge calls", "judge tokens", "cost")


@dataclass(frozen=True)
class Run:
    """One command's dry run.

    Attributes:
        output: the file that it writes.
        foreseen: what it would make; nothing where all of it is there.
    """

    output: str
    foreseen: Sequence[Foreseen]

    @property
    def answers(self) -> int:
        return sum(one.answers for one in self.foreseen)

    @property
    def calls(self) -> int:
        return sum(judge.calls for one in self.foreseen for judge in one.judges)

    @property
    def prompt_tokens(self) -> int:
        return sum(one.prompt_tokens for one in self.foreseen)

    @property
    def answer_tokens(self) -> Amount:
        return total(one.answer_tokens for one in self.foreseen)

    @property
    def judge_tokens(self) -> Amount:
        return total(judge.tokens for one in self.foreseen for judge in one.judges)

    @property
    def dollars(self) -> Amount | None:
        """None where a judge that is asked has no price."""
        amounts = [judge.dollars for one in self.foreseen for judge in one.judges if judge.calls]
        return None if None in amounts else total(amount for amount in amounts if amount is not None)

    @property
    def seconds(self) -> float | None:
        """None where the pace of something is not known."""
        times = [one.seconds for one in self.foreseen if one.answers or any(judge.calls for judge in one.judges)]
        return None if None in times else sum(time for time in times if time is not None)


def total(amounts: Iterable[Amount]) -> Amount:
    """Amounts together; what is likely is not known where it is not known of one."""
    return reduce(lambda one, other: one + other, amounts, NOTHING)


def together(runs: Sequence[Run], name: str) -> Run:
    """Several runs as one that is called ``name``."""
    return Run(name, [one for run in runs for one in run.foreseen])


@dataclass
class Rehearsal:
    """The dry runs of a plan's commands, by step.

    Attributes:
        steps: {name of the step: its runs}.
        trainings: folders to be trained, and how many are there.
        uncounted: commands that ask no judge, and how often each comes.
        unknown: what cannot be known beforehand, in words.
    """

    steps: dict[str, list[Run]] = field(default_factory=dict)
    trainings: list[str] = field(default_factory=list)
    trained: int = 0
    uncounted: Counter = field(default_factory=Counter)
    unknown: dict[str, None] = field(default_factory=dict)

    @property
    def whole(self) -> Run:
        """All of it."""
        return together([run for runs in self.steps.values() for run in runs], "all")

    def in_words(self) -> str:
        """A table for each step, one of the steps, and what is not in them."""
        lines = []
        for step, runs in self.steps.items():
            if runs:
                lines += [*([f"=== {step}"] if step else []), *_table("output", runs), ""]
        sums = [together(runs, step or "all") for step, runs in self.steps.items() if runs]
        if len(sums) > 1:
            lines += ["=== all steps", *_table("step", [*sums, together(sums, "total")]), ""]
        whole = self.whole
        if whole.dollars is None:
            cost = "not known: a judge has no price (--prices FILE)"
        else:
            cost = dollars_in_words(whole.dollars)
        lines += [
            f"total: {whole.answers:,} answers, {whole.calls:,} judge calls; cost {cost}",
            f"       {whole.prompt_tokens:,} tokens of prompts, {whole.answer_tokens} of answers, {whole.judge_tokens} read by judges",
            f"time of answers and scores: {self._time(whole)}",
        ]
        if self.trainings or self.trained:
            lines.append(
                f"trainings: {len(self.trainings)} to run ({self.trained} are there); their time is not known beforehand"
            )
        if self.uncounted:
            said = ", ".join(f"{name} ({times})" for name, times in self.uncounted.items())
            lines.append(f"not counted, since no judge is asked: {said}")
        lines.append(
            "nothing was loaded, made or paid for; scores that the cache has by the time they are asked for cost nothing"
        )
        return "\n".join([*lines, *self.unknown])

    def _time(self, whole: Run) -> str:
        if whole.seconds is not None:
            return f"about {whole.seconds / 60:,.1f} minutes, at the pace of the unfinished runs"
        timed = sum(one.seconds for one in whole.foreseen if one.seconds is not None)
        known = f"; about {timed / 60:,.1f} minutes of what has been timed" if timed else ""
        return f"not known before a run here has been timed{known}"


def rehearse(plan: Iterable[Sequence[str]], call: Callable[[str, Sequence[str]], object]) -> Rehearsal:
    """The dry runs of a plan's commands.

    Args:
        plan: the words of each command: ``python -m eval.eval_persona --model ...``; ``ln ... TARGET NAME`` for a link;
            ``step NAME`` where a step begins.
        call: makes the dry run of a module with flags: a :class:`Foreseen` or a list of them, None where all is there, and
            ``NotImplemented`` where the module has no dry run.

    Raises:
        UserError: a command that would be refused, or a model that is not there and that no command makes.

    Example:
        rehearse([["step", "vectors"], ["python", "-m", "eval.eval_persona", "--model", "models/toy", ...]], call)
    """
    found, step = Rehearsal(), ""
    made: dict[str, str] = {}  # {folder: what stands in for the model that is not there yet}
    links: dict[str, str] = {}
    before: list[str] = []  # commands that may make a model
    for words in plan:
        if words[0] == "step":
            step = words[1]
        elif words[0] == "ln":
            links[abspath(words[-1])] = words[-2]
        elif words[1] == "training.py":
            folder, base = trained_by(words[2:])
            if is_model(folder):
                found.trained += 1
            else:
                found.trainings.append(folder)
                made[abspath(folder)] = base
        else:
            module, flags = (words[2], words[3:]) if words[1] == "-m" else (Path(words[1]).stem, words[2:])
            returned = call(module, _stood_in(flags, made, links, before))
            if returned is NotImplemented:
                found.uncounted[module] += 1
                before.append(" ".join(words))
                continue
            some = returned if isinstance(returned, list) else [returned]
            foreseen = [one for one in some if isinstance(one, Foreseen)]
            found.unknown |= dict.fromkeys(line for one in foreseen for line in one.unknown)
            found.steps.setdefault(step, []).append(Run(_output_of(flags), foreseen))
    return found


def trained_by(words: Sequence[str]) -> tuple[str, str]:
    """(output folder, model) of a training's command line: a config and ``field=value`` changes.

    Example:
        trained_by(["configs/train_toy.json", "model=models/toy", "output_dir=output/x"])  # ("output/x", "models/toy")
    """
    fields = read_json(words[0], missing="no training config at {path}")
    fields |= dict(word.split("=", 1) for word in words[1:] if "=" in word)
    return str(fields.get("output_dir")), str(fields.get("model"))


def is_model(folder: str) -> bool:
    """Whether a folder is there and a model; that of a training is one when it is over."""
    try:
        return Path(folder).exists() and bool(models.resolve(folder))
    except UserError:
        return False


def _stood_in(flags: Sequence[str], made: dict[str, str], links: dict[str, str], before: Sequence[str]) -> list[str]:
    """Flags with the base in the place of a model that is to be trained, whose answers are then all to be made."""
    flags = list(flags)
    if "--model" not in flags:
        return flags
    at = flags.index("--model") + 1
    name = flags[at] = links.get(abspath(flags[at]), flags[at])
    if abspath(name) in made:
        flags[at] = made[abspath(name)]
        return [*flags, "--overwrite"]
    try:
        models.resolve(name)
    except UserError as error:
        hint = f"; a dry run makes nothing, the pipeline begins with: {'; '.join(before)}" if before else ""
        raise UserError(f"{error}{hint}") from error
    return flags


def _output_of(flags: Sequence[str]) -> str:
    """The file or folder that a command writes."""
    for flag in ("--output_path", "--output_dir", "--output"):
        if flag in flags:
            return flags[list(flags).index(flag) + 1]
    return ""


def _table(first: str, runs: Sequence[Run]) -> list[str]:
    """Lines of a table, the numbers to the right; tokens and dollars are the most that they can be."""
    rows = [[first, *HEADS]]
    for run in runs:
        dollars = "?" if run.dollars is None else in_dollars(run.dollars.most)
        numbers = (run.answers, run.prompt_tokens, run.answer_tokens.most, run.calls, run.judge_tokens.most)
        rows.append([run.output, *(f"{number:,.0f}" for number in numbers), dollars])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
