"""Monitoring and screening killed at random moments, on a full disk, twice at once; see test_faults."""

import signal
import time

import pytest
from breaking import Count, check, disk_full, read_log, read_only, run, start, stop_at_random, undisturbed
from more_stages import Monitoring, Screening
from stages import World
from test_faults import needs_mount, whole


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World(tmp_path_factory.mktemp("more_faults"), forked=True) as world:
        yield world


@pytest.fixture(scope="module", params=[Monitoring, Screening], ids=lambda stage: stage.name)
def stage(request, world):
    stage = request.param(world)
    undisturbed(stage)  # the first one waits until the server that processes are forked from has imported everything
    return stage, undisturbed(stage)


def test_kill_9_at_random_moments(stage):
    whole(stop_at_random(*stage, stops=3, seed=3, how=signal.SIGKILL), 3)


def test_kill_9_while_columns_are_added(stage):
    """The answers are a finished table by then; what is unfinished is no reason to ask for them again, or to refuse."""
    stage, reference = stage
    stage.prepare()
    process = start(stage)
    while not any(stage.folder.rglob("*.parts")) and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert any(stage.folder.rglob("*.parts")), f"ended before it was killed: {read_log(stage)}"
    before, since = stage.finished_work(), len(stage.world.server.bodies)
    code, log = run(stage)
    count = Count("kill -9", stage.name, done_again=stage.done_again(before, since, log))
    check(stage, reference, count, 1, log, code)
    whole(count, 1)


def test_sigint(stage):
    whole(stop_at_random(*stage, stops=1, seed=4, how=signal.SIGINT), 1)


@needs_mount
def test_a_full_disk(stage):
    whole(disk_full(*stage, sizes=(0.1, 0.5)), 1)


@needs_mount
def test_a_read_only_disk(stage):
    whole(read_only(*stage), 1)
