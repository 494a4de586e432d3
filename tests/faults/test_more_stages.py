"""Monitoring and screening killed at random moments, on a full disk, twice at once; see test_faults."""

import signal

import pytest
from breaking import disk_full, read_only, stop_at_random, undisturbed
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


def test_sigint(stage):
    whole(stop_at_random(*stage, stops=1, seed=4, how=signal.SIGINT), 1)


@needs_mount
def test_a_full_disk(stage):
    whole(disk_full(*stage, sizes=(0.1, 0.5)), 1)


@needs_mount
def test_a_read_only_disk(stage):
    whole(read_only(*stage), 1)
