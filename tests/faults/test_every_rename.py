"""Stopped before or after any of the renames by which files appear, the same command makes the same files, records too.

Kills at random moments seldom meet the milliseconds in which a file and its record are replaced; these meet each of them.
"""

import gc
import os
import shutil

import pytest
from bad_input import arguments
from test_bad_input import folder, judge  # noqa: F401

TWICE = ("eval.cal_projection", "eval.judge", "eval.projection_difference")
ONCE = ("eval.eval_persona", "eval.monitor", "eval.finetuning_shift", "generate_vec")
MOMENTS = [(stage, when) for stage in TWICE for when in ("before", "after")] + [(stage, "after") for stage in ONCE]


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


class Renames:
    """``os.replace`` that counts, and is interrupted before or after the ``stop``-th call."""

    def __init__(self, stop=0, when="after"):
        self.real, self.count, self.stop, self.when = os.replace, 0, stop, when

    def __call__(self, *paths):
        self.count += 1
        if self.count == self.stop and self.when == "before":
            raise KeyboardInterrupt
        self.real(*paths)
        if self.count == self.stop:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("stage", "when"), MOMENTS)
def test_whichever_rename_was_the_last(folder, run_stage, monkeypatch, tmp_path_factory, stage, when):  # noqa: F811
    flags = {"--select": "high", "--k": "2"} if stage == "eval.projection_difference" else {}
    clean = shutil.copytree(folder, tmp_path_factory.mktemp("clean") / "copy")
    counted = Renames()
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", counted)
        assert run_stage(stage, *arguments(stage, flags)).returncode == 0
    expected = contents(folder)
    assert counted.count >= 3
    for number in range(1, counted.count + 1):
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(clean, folder, dirs_exist_ok=True)
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", Renames(number, when))
            assert run_stage(stage, *arguments(stage, flags)).returncode == 130
        gc.collect()  # the stopped run's lock would have died with its process
        done = run_stage(stage, *arguments(stage, flags))
        found = contents(folder)
        differ = {name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)}
        assert done.returncode == 0 and not differ, (number, counted.count, differ, done.stderr)
        assert "no record" not in done.stdout, (number, counted.count, done.stdout)
