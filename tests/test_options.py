"""Groups of flags: what they refuse, and what they give to the library."""

import dataclasses
from typing import get_args

import pytest

from persona_vectors import options
from persona_vectors.asking.choose_judge import JudgeSettings
from persona_vectors.asking.subject import EngineSettings, Generation
from persona_vectors.cli.command import section
from persona_vectors.engines import BACKENDS
from persona_vectors.errors import UserError
from persona_vectors.models import ModelPath
from persona_vectors.steering.sweep import Cell

GROUPS = [group for group in vars(options).values() if dataclasses.is_dataclass(group)]


def test_the_backends_are_the_engines_own():
    assert get_args(options.Backend) == BACKENDS


@pytest.mark.parametrize("group", GROUPS)
def test_every_field_has_one_text_and_a_default(group):
    own = [name for name in group.__annotations__]
    assert list(section(group.__doc__.replace("\n    ", "\n"), "Attributes")) == own
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(group(), own[0], None)


def test_a_text_stands_once():
    names = [name for group in GROUPS for name in group.__annotations__]
    assert len(names) == len(set(names))


def test_what_the_library_gets():
    assert options.SamplingOptions(9, 1, True, 3).with_dtype("float32") == Generation(9, 3, 1, True, "float32")
    assert options.EngineOptions().settings() == EngineSettings("auto", 64, {})
    given = options.ClusterOptions("vllm", 8, 2, None, 0.5, 3, "ray").settings(5)
    sizes = {"tensor_parallel_size": 2, "pipeline_parallel_size": 3, "gpu_memory_utilization": 0.5}
    assert given == EngineSettings("vllm", 5, {**sizes, "distributed_executor_backend": "ray"})
    assert options.JudgeOptions("gpt-x", 7).settings() == JudgeSettings("gpt-x", 7)
    assert options.JudgeOptions("likelihood").settings() == JudgeSettings("likelihood", 100, None, 2)
    assert options.JudgeOptions("likelihood", scorer_pairs=5).settings().pairs == 5
    assert options.SteeringOptions().grid().cells == [Cell(None, 0.0)]
    grid = options.SteeringOptions((0.0, 1.5), "v.pt", ("all", 3), "prompt").grid()
    assert grid.cells == [Cell(3, 0.0), Cell(3, 1.5), Cell("all", 0.0), Cell("all", 1.5)]
    assert (grid.vector_path, grid.positions) == ("v.pt", "prompt")


@pytest.mark.parametrize(
    ("make", "refusal"),
    [
        (lambda: options.EngineOptions(gpu_memory_utilization=1.5), "--gpu_memory_utilization is a part of the memory"),
        (lambda: options.EngineOptions(gpu_memory_utilization=0.0), "more than 0 and at most 1, not 0"),
        (lambda: options.JudgeOptions("gpt-x", scorer="m"), "--scorer goes with --judge_model likelihood"),
        (lambda: options.JudgeOptions("gpt-x", scorer_pairs=3), "--scorer_pairs goes with --judge_model likelihood"),
        (lambda: options.SteeringOptions((1.5,), None, (3,)).grid(), "--coef 1.5 needs --vector_path"),
        (lambda: options.SteeringOptions((1.5,), "v.pt").grid(), "--coef 1.5 needs --layer"),
        (lambda: options.SteeringOptions(layer=(3, 4)).grid(), "--layer 3,4 with --coef 0 steers nothing"),
        (
            lambda: EngineSettings("hf", 1, {"data_parallel_size": 2}).choose(ModelPath("m", "m")),
            "data_parallel_size is vLLM's",
        ),
    ],
)
def test_what_is_refused(make, refusal):
    with pytest.raises(UserError) as caught:
        make()
    assert refusal in str(caught.value)
