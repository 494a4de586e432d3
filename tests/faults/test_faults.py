"""Every stage is killed, interrupted, crowded and starved of disk; the same command again makes the same files.

The long part, with many more kills of processes that start from nothing: python -m tests.faults.long
"""

import signal

import pytest
from breaking import can_mount, disk_full, read_only, stop_at_random, torn_tail, two_at_once, undisturbed
from stages import STAGES, Asking, Projecting, World

JOURNALED = (Asking, Projecting)
needs_mount = pytest.mark.skipif(not can_mount(), reason="needs root and the right to mount a tmpfs")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World(tmp_path_factory.mktemp("faults"), forked=True) as world:
        yield world


@pytest.fixture(scope="module", params=STAGES, ids=lambda stage: stage.name)
def stage(request, world):
    stage = request.param(world)
    undisturbed(stage)  # the first one waits until the server that processes are forked from has imported everything
    return stage, undisturbed(stage)


def whole(count, tried):
    assert count.tried >= tried and count.recovered == count.tried, count.notes
    assert (count.lost, count.done_again) == (0, 0), count
    assert not [note for note in count.notes if "Traceback" in note or "instead of" in note], count.notes


def test_kill_9_at_random_moments(stage):
    whole(stop_at_random(*stage, stops=3, seed=0, how=signal.SIGKILL), 3)


def test_sigint(stage):
    whole(stop_at_random(*stage, stops=1, seed=1, how=signal.SIGINT), 1)


def test_two_runs_on_one_output(stage):
    whole(two_at_once(*stage, times=1), 1)


def test_a_torn_journal(stage):
    if isinstance(stage[0], JOURNALED):
        whole(torn_tail(*stage, times=1, seed=2), 1)
    else:
        assert not list(stage[0].folder.rglob("*.journal*")), "a stage with a journal that is not tested here"


@needs_mount
def test_a_full_disk(stage):
    whole(disk_full(*stage, sizes=(0.1, 0.4)), 1)


@needs_mount
def test_a_read_only_disk(stage):
    whole(read_only(*stage), 1)
