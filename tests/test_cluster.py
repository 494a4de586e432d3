"""The jobs of scripts/cluster/, as far as a machine without a cluster can tell: what they run is run, on the toy."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import torch
import yaml
from helpers import copy_of_project

sys.path.insert(0, str(Path(__file__).parent / "examples"))
import notebooks

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = ROOT / "scripts/cluster"
TOY = "--trait_dir data_generation/toy --backend hf --n_per_question 1 --max_tokens 24 --n_questions 4"


def bash(command, folder=ROOT, **environment):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "VIRTUAL_ENV": sys.prefix, **environment}
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=folder, env=environment)


def test_each_is_short_and_holds_no_key():
    files = sorted(CLUSTER.iterdir())
    assert {path.suffix for path in files} == {".sh", ".py", ".yaml", ".ipynb"} and len(files) == 5
    for path in files:
        written = path.read_text()
        if path.suffix == ".ipynb":
            written = "\n".join("".join(cell["source"]) for cell in json.loads(written)["cells"])
        assert len(written.splitlines()) < 60, path
        assert not re.search(r"(sk|hf)[-_]\w{8,}|(API_KEY|TOKEN)=\S", path.read_text()), path


def test_the_job_and_the_notebook_run_on_the_toy(tmp_path, monkeypatch):
    """Every code cell but the one that installs; the job in it makes vectors, a sweep, an adapter and its answers."""
    assert (ROOT / "models/toy/config.json").exists(), "bash scripts/test.sh makes the toy model"
    copy_of_project(tmp_path)
    os.symlink(ROOT / "models", tmp_path / "models")
    config = json.loads((ROOT / "configs/train_toy.json").read_text()) | {"max_steps": 2}
    (tmp_path / "two_steps.json").write_text(json.dumps(config))
    notebook = json.loads((CLUSTER / "colab.ipynb").read_text())
    assert notebook["nbformat"] == 4
    install = [cell for cell in notebook["cells"] if "install" in cell["metadata"].get("tags", ())]
    assert len(install) == 1 and "pip install --quiet -r requirements-cpu.txt" in "".join(install[0]["source"])
    notebook["cells"].remove(install[0])
    (tmp_path / "colab.ipynb").write_text(json.dumps(notebook))

    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    given = {"MODEL": "models/toy", "CONFIG": "two_steps.json", "FLAGS": TOY, "FAMILY": "dataset/toy_{trait}"}
    given |= {"COEFS": "0,2", "LAYERS": "2", "VIRTUAL_ENV": sys.prefix, "CUDA_VISIBLE_DEVICES": ""}
    given["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    names = notebooks.run(tmp_path / "colab.ipynb")
    assert names["job"].returncode == 0 and names["figure"].stat().st_size > 5000
    assert torch.load("persona_vectors/toy/evil_response_avg_diff.pt", weights_only=True).norm() > 0
    sweep = pandas.read_csv("eval_persona_eval/toy/evil_steering_layer2_coef0,2.csv")
    assert len(sweep) == 2 * 4 and sweep["evil"].notna().all()
    assert len(pandas.read_csv("eval_persona_eval/toy/evil_finetuned.csv")) == 4
    assert (tmp_path / "output/toy/evil/adapter_config.json").exists()


def cell_that_installs(folder, repository):
    """The notebook's first cells, run in a folder, all but pip: what they end with, and where they leave the kernel."""
    cells = json.loads((CLUSTER / "colab.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"][:2]
    assert code[0].count('REPOSITORY = ""') == 1
    code[0] = code[0].replace('REPOSITORY = ""', f"REPOSITORY = {repository!r}")
    lines = [line for line in "\n".join(code).splitlines() if not line.startswith("!pip")]
    script = folder / "cells.py"
    script.write_text("\n".join([*lines, "print(os.getcwd())", "print(os.path.exists(JOB))"]))
    return subprocess.run([sys.executable, str(script)], cwd=folder, capture_output=True, text=True)


def test_the_notebook_says_that_its_address_is_not_filled_in_and_takes_a_folder_or_a_zip(tmp_path):
    for empty in ("", "https://github.com/<owner>/<name>"):
        done = cell_that_installs(tmp_path, empty)
        assert done.returncode == 1 and done.stderr.startswith("Nothing to run yet: fill in REPOSITORY"), done.stderr
    toolkit = tmp_path / "from" / "persona_vectors"
    (toolkit / "scripts/cluster").mkdir(parents=True)
    shutil.copy(CLUSTER / "job.sh", toolkit / "scripts/cluster")
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=toolkit, check=True)
    places = {name: tmp_path / name for name in ("cloned", "zipped", "uploaded", "other")}
    for place in places.values():
        place.mkdir()
    shutil.make_archive(str(places["zipped"] / "persona_vectors"), "zip", toolkit.parent)
    shutil.copytree(toolkit, places["uploaded"] / "persona_vectors")
    for name in ("cloned", "zipped", "uploaded"):
        done = cell_that_installs(places[name], str(toolkit) if name == "cloned" else "")
        assert done.stdout.split() == [str(places[name] / "persona_vectors"), "True"], done.stderr
    again = cell_that_installs(places["cloned"] / "persona_vectors", "")  # the cell once more
    assert again.stdout.split()[1] == "True"
    (places["other"] / "persona_vectors").mkdir()
    assert "is not the toolkit" in cell_that_installs(places["other"], "").stderr


def test_slurm_runs_one_trait_a_job(tmp_path):
    text = (CLUSTER / "slurm.sh").read_text()
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", text, re.M))
    assert len(options) == text.count("\n#SBATCH") == 10
    shapes = {
        "job-name": r"[\w-]+", "array": r"\d+-\d+", "nodes": r"\d+", "ntasks": r"\d+", "gpus-per-task": r"\d+",
        "cpus-per-task": r"\d+", "mem": r"\d+[KMGT]", "time": r"(\d+-)?\d+:\d\d:\d\d", "requeue": "",
        "output": r"[\w.%-]+",
    }  # fmt: skip
    for name, value in options.items():
        assert re.fullmatch(shapes[name], value), name
    head = text[: text.index("set -euo")].splitlines()  # sbatch stops reading options at the first command
    assert all(line.startswith("#") for line in head)

    (tmp_path / "scripts/cluster").mkdir(parents=True)
    (tmp_path / "scripts/cluster/job.sh").write_text('printf "%s|" "$@"\n')
    (tmp_path / "spool").mkdir()
    shutil.copy(CLUSTER / "slurm.sh", tmp_path / "spool/slurm_script")
    defaults = ["all", "Qwen/Qwen2.5-7B-Instruct", "evil,sycophantic", "configs/train_instruct_7b.json"]
    for words, given in {
        "": defaults,
        "m": ["all", "m", *defaults[2:]],
        "m a,b c.json -- --x 'y z'": ["all", "m", "a,b", "c.json", "--", "--x", "y z"],
        "m -- --x": ["all", "m", *defaults[2:], "--", "--x"],
    }.items():
        ran = bash(f"bash spool/slurm_script {words}", tmp_path, SLURM_SUBMIT_DIR=str(tmp_path))
        assert (ran.returncode, ran.stdout) == (0, "".join(f"{word}|" for word in given)), ran.stderr
    lost = bash("bash spool/slurm_script", tmp_path, SLURM_SUBMIT_DIR=str(tmp_path / "spool"))
    assert lost.returncode == 2 and lost.stderr.startswith("error: ") and "submit the job from there" in lost.stderr


def test_a_job_of_an_array_takes_its_own_trait(tmp_path):
    """With stages that only say what they were asked for."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "dataset").mkdir()
    for stage in ("generate_vec", "eval_steering"):
        (tmp_path / f"scripts/{stage}.sh").write_text(f'echo "{stage} $*"\n')
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text('#!/bin/sh\necho "python $*"\n')
    (tmp_path / "bin/python").chmod(0o755)
    run = "PATH=$PWD/bin:$PATH LAYERS=1,2 bash scripts/cluster/job.sh all m a,b c.json -- --x 1"

    def lines(trait):
        return [
            f"generate_vec all m {trait} -- --x 1",
            f"eval_steering all m {trait} 0,1,2 1,2 -- --x 1",
            *(
                line
                for one in trait.split(",")
                for line in (
                    f"python training.py c.json model=m training_file=dataset/{one}/misaligned_2.jsonl output_dir=output/m/{one}",
                    f"python -m eval.eval_persona --model output/m/{one} --trait {one} --version eval "
                    f"--output_path eval_persona_eval/m/{one}_finetuned.csv --x 1",
                )
            ),
        ]

    assert bash(run, tmp_path).stdout.splitlines() == lines("a,b")
    assert bash(f"SLURM_ARRAY_TASK_ID=1 {run}", tmp_path).stdout.splitlines() == lines("b")
    assert bash(f"JOB_COMPLETION_INDEX=0 {run}", tmp_path).stdout.splitlines() == lines("a")
    none = bash(f"JOB_COMPLETION_INDEX=2 {run}", tmp_path)
    assert none.returncode == 2 and not none.stdout
    assert none.stderr.startswith("error: job 2 has nothing to do: there are 2 traits, counted from 0")
    helped = bash("cd /tmp && bash $OLDPWD/scripts/cluster/job.sh --help", tmp_path)
    assert helped.returncode == 0 and "bash scripts/cluster/job.sh [GPU]" in helped.stdout


def test_kubernetes_takes_the_job_as_it_is_described():
    """The fields that the API asks for, and those that go together."""
    job = yaml.safe_load((CLUSTER / "kubernetes.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job") and re.fullmatch(
        r"[a-z0-9-]+", job["metadata"]["name"]
    )
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert spec["completionMode"] == "Indexed" and pod["restartPolicy"] == "Never"  # as backoffLimitPerIndex needs
    (container,) = pod["containers"]
    assert {"name", "image", "command", "args"} <= container.keys()
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    assert all(isinstance(value, str) for value in given.values())
    assert spec["completions"] == spec["parallelism"] == len(given["TRAITS"].split(","))
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert subprocess.run(["bash", "-n", "-c", container["args"][0]]).returncode == 0
    assert (ROOT / given["CONFIG"]).exists() and "--from-env-file=.env" in (CLUSTER / "kubernetes.yaml").read_text()


def test_modal_says_what_it_needs(tmp_path):
    source = (CLUSTER / "modal_app.py").read_text()
    compile(source, "modal_app.py", "exec")
    if importlib.util.find_spec("modal"):
        code = "import runpy; found = runpy.run_path('scripts/cluster/modal_app.py'); print(found['app'], found['job'])"
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
        return
    done = subprocess.run([sys.executable, CLUSTER / "modal_app.py"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: this needs Modal's client: pip install modal && modal setup\n"


@pytest.mark.parametrize("script", sorted(CLUSTER.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_parse(script):
    subprocess.run(["bash", "-n", script], check=True)
