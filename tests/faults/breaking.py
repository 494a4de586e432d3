"""The faults: what happens to a running command, and whether the same command afterwards makes up for it."""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from forked import Forked
from stages import Stage


@dataclass
class Count:
    """One line of the table. ``in_flight``: judge calls under way at a kill, whose replies nobody could keep."""

    fault: str
    stage: str
    tried: int = 0
    recovered: int = 0
    done_again: int = 0
    lost: int = 0
    in_flight: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass
class Reference:
    """An undisturbed run: its result, its seconds, and the seconds after which it began to write."""

    result: dict
    seconds: float
    busy_after: float
    calls: int


def start(stage: Stage, log: str = "log") -> subprocess.Popen | Forked:
    """Start the stage's command; its output goes to a log outside its folder."""
    path = stage.world.root / f"{stage.name}.{log}"
    if stage.world.forked:
        return Forked(stage.command(), stage.world.environment, path)
    with open(path, "wb") as file:
        return subprocess.Popen(stage.command(), env=stage.world.environment, stdout=file, stderr=subprocess.STDOUT)


def read_log(stage: Stage, log: str = "log") -> str:
    return (stage.world.root / f"{stage.name}.{log}").read_text(errors="replace")


def run(stage: Stage) -> tuple[int, str]:
    """(exit code, output) of the command, left alone."""
    code = start(stage).wait(300)
    return code, read_log(stage)


def undisturbed(stage: Stage) -> Reference:
    """Run the stage once and remember what it made."""
    stage.prepare()
    first = len(stage.world.asked())
    began = time.monotonic()
    process, busy_after = start(stage), None
    while process.poll() is None:
        if busy_after is None and stage.is_busy():
            busy_after = time.monotonic() - began
        time.sleep(0.005)
    seconds = time.monotonic() - began
    assert process.returncode == 0, read_log(stage)
    asked = stage.world.asked()[first:]
    assert len(set(asked)) == len(asked), "the same call twice in an undisturbed run: repeats could not be told"
    return Reference(stage.result(), seconds, busy_after or seconds, len(asked))


def check(stage: Stage, reference: Reference, count: Count, tried: int, log: str, code: int) -> None:
    """Compare what the rerun left with the undisturbed result."""
    result = stage.result() if code == 0 else {}
    lost = sum(result.get(name) != content for name, content in reference.result.items())
    count.tried += tried
    count.lost += lost
    surplus = sorted(result.keys() - reference.result.keys())
    if not lost and not surplus:
        count.recovered += tried
    else:
        count.notes.append(f"exit code {code}, {lost} outputs differ, surplus {surplus}: {log[-2000:]}")


def stop_at_random(
    stage: Stage, reference: Reference, stops: int, seed: int, how: signal.Signals, chain: int = 3
) -> Count:
    """Stop the command ``stops`` times at moments drawn from the seed; the same command follows each time.

    Every third moment is drawn over the whole run, the others over the time in which it writes. Up to ``chain`` stops
    follow each other before the command may finish and its result is compared.
    """
    name = {signal.SIGKILL: "kill -9", signal.SIGINT: "SIGINT"}[how]
    draw, count = random.Random(f"{seed} {stage.name} {name}"), Count(name, stage.name)
    number = 0
    while count.tried < stops:
        stage.prepare()
        first = len(stage.world.server.bodies)
        stopped = 0
        while stopped < min(chain, stops - count.tried):
            before, since = stage.finished_work(), len(stage.world.server.bodies)
            process, anywhere = start(stage), number % 3 == 0
            number += 1
            ended = wait_to_stop(stage, process, reference, draw, anywhere)
            if not ended:
                process.send_signal(how)
                ended = process.wait(60) == 0
            time.sleep(0.1)  # requests that were sent arrive
            count.done_again += stage.done_again(before, since, read_log(stage))
            if ended:
                reference = sooner(reference)
                break
            stopped += 1
            log = read_log(stage)
            if how is signal.SIGINT and "Traceback" in log and "interrupted:" not in log:
                count.notes.append(f"traceback after SIGINT: {log[-300:]}")
        before, since = stage.finished_work(), len(stage.world.server.bodies)
        code, log = run(stage)
        count.done_again += stage.done_again(before, since, log)
        if stopped:
            check(stage, reference, count, stopped, log, code)
            count.in_flight += max(0, len(stage.world.asked(first)) - reference.calls)
    return count


def sooner(reference: Reference) -> Reference:
    """For the next draw, where the command ended before the drawn moment: the undisturbed run had a slower machine."""
    assert reference.seconds > 0.01, "the command ends before it can be stopped"
    return replace(reference, seconds=0.7 * reference.seconds, busy_after=0.7 * reference.busy_after)


def wait_to_stop(stage: Stage, process, reference: Reference, draw: random.Random, anywhere: bool) -> bool:
    """Wait until the drawn moment; True where the command ended before it."""
    began = time.monotonic()
    moment = began + draw.uniform(0, reference.seconds)
    if not anywhere:
        while not stage.is_busy() and process.poll() is None:
            time.sleep(0.002)
        moment = time.monotonic() + draw.uniform(0, max(0.05, reference.seconds - reference.busy_after))
    while time.monotonic() < moment and process.poll() is None:
        time.sleep(0.002)
    return process.poll() is not None


def two_at_once(stage: Stage, reference: Reference, times: int) -> Count:
    """A second run on the same output while the first one writes: refused, and the first one ends as if alone."""
    count = Count("two runs at once", stage.name)
    for _ in range(times):
        stage.prepare()
        first = len(stage.world.server.bodies)
        process = start(stage)
        while not stage.is_busy() and process.poll() is None:
            time.sleep(0.002)
        refused, code = start(stage, "second").wait(300), process.wait(300)
        if refused or stage.exclusive:
            told(count, refused, read_log(stage, "second"))
        check(stage, reference, count, 1, read_log(stage), code)
        count.done_again += max(0, len(stage.world.asked(first)) - reference.calls)
    return count


def torn_tail(stage: Stage, reference: Reference, times: int, seed: int) -> Count:
    """kill -9 while it writes, then half a line at the journal's end, as a kill within a write leaves it."""
    draw, count = random.Random(f"{seed} torn"), Count("torn journal", stage.name)
    while count.tried < times:
        stage.prepare()
        first = len(stage.world.server.bodies)
        process = start(stage)
        if wait_to_stop(stage, process, reference, draw, anywhere=False):
            reference = sooner(reference)
            continue
        process.kill()
        process.wait()
        time.sleep(0.1)
        (journal,) = stage.folder.glob("*.journal.jsonl")
        line = b'{"key": "vile_0_pos_0|0", "question": "What now?", "prompt": "x", "answer": "half\xc3\xa4'
        with open(journal, "ab") as file:
            file.write(line[: draw.randrange(1, len(line))])
        before, since = stage.finished_work(), len(stage.world.server.bodies)
        code, log = run(stage)
        check(stage, reference, count, 1, log, code)
        count.done_again += stage.done_again(before, since, log)
        count.in_flight += max(0, len(stage.world.asked(first)) - reference.calls)
    return count


def can_mount() -> bool:
    """Whether this process may mount a tmpfs."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        return False
    return subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "x", "/mnt"], capture_output=True).returncode == 0


@contextmanager
def small_disk(stage: Stage, size: int) -> Iterator[None]:
    """The stage's folder on a tmpfs of ``size`` bytes."""
    stage.prepare()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", stage.folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", stage.folder], check=True)


def remount(stage: Stage, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", stage.folder], check=True)


def used(stage: Stage) -> int:
    return sum(p.stat().st_size // 4096 * 4096 + 8192 for p in stage.folder.rglob("*"))


def disk_full(stage: Stage, reference: Reference, sizes: tuple[float, ...]) -> Count:
    """The disk is full at parts of what the run needs; then there is room, and the same command goes on."""
    count = Count("disk full", stage.name)
    stage.prepare()
    inputs = used(stage)
    assert run(stage)[0] == 0
    needed = max(used(stage) - inputs, inputs)
    for part in sizes:
        first = len(stage.world.server.bodies)
        with small_disk(stage, int(inputs + 4096 + part * needed) // 4096 * 4096):
            stage.prepare()
            code, log = run(stage)
            if code == 0:
                count.notes.append(f"ended well at {part:g} of {needed} bytes: not counted")
                continue
            told(count, code, log)
            remount(stage, "size=64m")
            before, since = stage.finished_work(), len(stage.world.server.bodies)
            code, log = run(stage)
            check(stage, reference, count, 1, log, code)
            count.done_again += stage.done_again(before, since, log)
            count.in_flight += max(0, len(stage.world.asked(first)) - reference.calls)
    return count


def read_only(stage: Stage, reference: Reference) -> Count:
    """The output is on a read-only file system: refused in one line, no judge call; writable again, it runs."""
    count = Count("read-only output", stage.name)
    first = len(stage.world.server.bodies)
    with small_disk(stage, 64 << 20):
        stage.prepare()
        remount(stage, "ro")
        code, log = run(stage)
        told(count, code, log)
        count.done_again += len(stage.world.asked(first))
        remount(stage, "rw")
        code, log = run(stage)
        check(stage, reference, count, 1, log, code)
    return count


def told(count: Count, code: int, log: str) -> None:
    """The command must have ended with code 2 and one line that says why."""
    lines = [line for line in re.split(r"[\r\n]", log) if line.startswith("error: ")]
    if code != 2 or len(lines) != 1 or "Traceback" in log:
        count.notes.append(f"exit code {code} instead of one line: {log[-1500:]}")
    elif lines[0] not in count.notes:
        count.notes += lines
