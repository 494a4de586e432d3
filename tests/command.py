"""A stage's command line run inside the test's process, through cli.run: torch is imported once for all of them."""

import sys
from importlib import import_module
from typing import NamedTuple

import pytest

from persona_vectors import cli


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run_stage(monkeypatch, capsys):
    """``run_stage("eval.monitor", "--flag", value, ...)`` -> exit code, stdout, stderr."""

    def run_stage(module: str, *arguments) -> Done:
        monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
        monkeypatch.setattr(sys.stdout, "reconfigure", lambda **_: None, raising=False)
        try:
            cli.run(import_module(module).main)
            code = 0
        except SystemExit as stopped:
            code = stopped.code
        return Done(code, *capsys.readouterr())

    return run_stage
