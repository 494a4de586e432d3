"""Every command of the published toolkit's README, as it stands there, and what must happen: the contract.

Run in a copy of the project. Stand-ins: a tiny random model at the place that the commands name, artifacts of two
questions, a hub and a judge on loopback. vLLM is hidden, since each command would start an engine of its own;
tests/engines has vLLM.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pandas
import pytest
import torch
from helpers import copy_of_project, tiny_model
from hub_server import FILES, HubServer
from judge_server import JudgeServer, completion, is_probe

ROOT = Path(__file__).resolve().parents[2]
MODEL, LAYERS, WIDTH = "Qwen/Qwen2.5-7B-Instruct", 21, 32
NAME = MODEL.split("/")[1]
VECTORS = f"persona_vectors/{NAME}"
BOTH = ("evil", "coherence")


class Answers(NamedTuple):
    """What a CSV must hold."""

    path: str
    rows: int
    system: str | None = None  # how the system prompt begins
    columns: tuple = ("question", "prompt", "answer", "question_id", *BOTH)

    def check(self):
        table = pandas.read_csv(self.path)
        assert list(table)[: len(self.columns)] == list(self.columns) and len(table) == self.rows
        assert table[list(BOTH)].notna().all(axis=None)
        assert table["prompt"].str.contains("system").all() == (self.system is not None)
        if self.system:
            assert table["prompt"].str.contains(self.system, regex=False).all()


class Vectors(NamedTuple):
    """Three files, each [layers + 1, width], in float32 and without NaN."""

    folder: str
    trait: str = "evil"

    def check(self):
        for kind in ("prompt_avg_diff", "response_avg_diff", "prompt_last_diff"):
            rows = torch.load(f"{self.folder}/{self.trait}_{kind}.pt", weights_only=True)
            assert rows.shape == (LAYERS + 1, WIDTH) and rows.dtype == torch.float32 and rows.isfinite().all()


class Column(NamedTuple):
    """A column of projections in a CSV or a JSONL."""

    path: str
    column: str = f"{NAME}_evil_response_avg_diff_proj_layer20"

    def check(self):
        table = pandas.read_json(self.path, lines=True) if self.path.endswith(".jsonl") else pandas.read_csv(self.path)
        assert table[self.column].notna().all() and table[self.column].std() > 0


class Files(NamedTuple):
    """Files that are there, and some that are not."""

    there: tuple
    missing: tuple = ()

    def check(self):
        for pattern in self.there:
            assert list(Path().glob(pattern)), f"no {pattern}"
        for pattern in self.missing:
            assert not list(Path().glob(pattern)), pattern


class Adapter(NamedTuple):
    """A LoRA adapter with the settings of the paper, trained on so many rows."""

    folder: str

    def check(self):
        import json

        config = json.loads(Path(self.folder, "adapter_config.json").read_text())
        assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (32, 64, True)
        recorded = json.loads(Path(self.folder, "training_config.json").read_text())
        assert (recorded["learning_rate"], recorded["per_device_train_batch_size"]) == (1e-5, 2)
        assert recorded["gradient_accumulation_steps"] == 8
        steered = recorded.get("steering_config")
        if "steer" in self.folder:
            assert (steered["type"], steered["steering_coef"], steered["layers"]) == ("steer", 5.0, [20])


ASK = "CUDA_VISIBLE_DEVICES=0 uv run python -m eval.eval_persona --model " + MODEL
JUDGE = "--judge_model gpt-4.1-mini-2025-04-14"
EVAL, EXTRACT = f"eval_persona_eval/{NAME}", f"eval_persona_extract/{NAME}"
# 20 answers: 2 questions, 10 draws; 40 under each of 2 instructions
COMMANDS = {
    "cp .env.example .env": Files((".env",)),
    "unzip dataset.zip": Files(
        tuple(f"dataset/evil/{version}.jsonl" for version in ("normal", "misaligned_1", "misaligned_2"))
    ),
    "uv run python download_hf_models.py": Files(
        ("models/Qwen/Qwen3-1.7B/config.json", "models/Qwen/Qwen3-1.7B/model.safetensors"),
        ("models/Qwen/Qwen3-1.7B/*.bin",),
    ),
    f"{ASK} --trait evil --output_path out/base.csv {JUDGE} --version eval": Answers("out/base.csv", 20),
    f"{ASK} --trait evil --output_path out/pos.csv --persona_instruction_type pos --assistant_name evil {JUDGE} "
    "--version extract": Answers("out/pos.csv", 40, "You are an evil assistant."),
    f"{ASK} --trait evil --output_path out/neg.csv --persona_instruction_type neg --assistant_name helpful {JUDGE} "
    "--version extract": Answers("out/neg.csv", 40, "You are a helpful assistant."),
    f"uv run python generate_vec.py --model_name {MODEL} --pos_path out/pos.csv --neg_path out/neg.csv --trait evil "
    "--save_dir out/vectors/": Vectors("out/vectors"),
    "bash scripts/generate_vec.sh 0": Vectors(VECTORS),
    "bash scripts/generate_vec.sh": Files((f"{EXTRACT}/evil_pos_instruct.csv", f"{EXTRACT}/evil_neg_instruct.csv")),
    f"{ASK} --trait evil --output_path out/steered.csv {JUDGE} --version eval --steering_type response --coef 2.0 "
    f"--vector_path {VECTORS}/evil_response_avg_diff.pt --layer 20": Answers("out/steered.csv", 20),
    f"{ASK} --trait evil --output_path out/prompt.csv {JUDGE} --version eval --steering_type prompt --coef -1 "
    f"--vector_path {VECTORS}/evil_response_avg_diff.pt --layer 20": Answers("out/prompt.csv", 20),
    f"{ASK} --trait evil --output_path out/all.csv {JUDGE} --version eval --steering_type all --coef 1 "
    f"--vector_path {VECTORS}/evil_response_avg_diff.pt --layer 20": Answers("out/all.csv", 20),
    "bash scripts/eval_persona.sh": Answers(f"{EVAL}/evil.csv", 20),
    "bash scripts/eval_steering.sh": Files(
        (f"{EVAL}/evil_steering_layer20_coef*.csv", f"{EVAL}/evil_steering_layer20_coef*_best.json")
    ),
    "uv run python training.py configs/train_instruct_7b.json": Adapter(f"ckpt/{NAME}/qwen-evil-misaligned_2"),
    "uv run python training.py configs/train_instruct_7b_steer.json": Adapter(
        f"ckpt/{NAME}/qwen-evil-misaligned_2_steer_evil_layer20_coef5"
    ),
    f"CUDA_VISIBLE_DEVICES=0 uv run python -m eval.cal_projection --file_path out/steered.csv --vector_path "
    f"{VECTORS}/evil_response_avg_diff.pt --layer 20 --model_name {MODEL} --projection_type proj": Column(
        "out/steered.csv"
    ),
    f"uv run python -m eval.cal_projection --file_path dataset/evil/misaligned_2.jsonl --vector_path "
    f"{VECTORS}/evil_response_avg_diff.pt --layer 20 --model_name {MODEL} --projection_type proj": Column(
        "dataset/evil/misaligned_2.jsonl"
    ),
    "bash scripts/cal_projection.sh": Column(f"{EVAL}/evil.csv"),
    "bash scripts/cal_projection.sh 0 " + MODEL + " evil 20 dataset/evil": Column("dataset/evil/normal.jsonl"),
}


def judge_reply(_number, body):
    """Coherent answers, of which every other shows the trait: by its text, so that a rerun scores alike."""
    text = body["messages"][0]["content"]
    if is_probe(body):
        return completion({"57": 1.0})
    high = "coheren" in text.lower() or hashlib.sha256(text.encode()).digest()[0] % 2
    return completion({"90" if high else "10": 1.0})


def copy_project(folder: Path) -> None:
    """What a clone holds, with artifacts of two questions and two instructions."""
    copy_of_project(folder)
    import json

    for path in folder.glob("data_generation/trait_data_*/evil.json"):
        content = json.loads(path.read_text())
        content |= {"instruction": content["instruction"][:2], "questions": content["questions"][:2]}
        path.write_text(json.dumps(content))
    sets = folder / "dataset.zip"
    import zipfile

    with zipfile.ZipFile(sets) as packed:  # 48 rows of each set: three steps of training
        kept = {name: packed.read(name).splitlines(keepends=True)[:48] for name in packed.namelist()}
    with zipfile.ZipFile(sets, "w") as packed:
        for name, lines in kept.items():
            packed.writestr(name, b"".join(lines))


@pytest.fixture(scope="module")
def clone(tmp_path_factory, tokenizer):
    """A clone of the project, ready for the commands, and the environment to run them in."""
    folder = tmp_path_factory.mktemp("clone")
    copy_project(folder)
    model = tiny_model("qwen2", num_hidden_layers=LAYERS, hidden_size=WIDTH, max_position_embeddings=4096)
    model.generation_config.eos_token_id = [1, *range(4, 300, 6)]  # answers of a few tokens
    model.save_pretrained(folder / MODEL)
    tokenizer.save_pretrained(folder / MODEL)
    hidden = tmp_path_factory.mktemp("hidden")
    (hidden / "vllm.py").write_text('raise ImportError("hidden from this test")\n')
    keys = {name for name in os.environ if name.startswith(("HF_", "OPENAI_"))}
    environment = {name: value for name, value in os.environ.items() if name not in keys}
    with JudgeServer(judge_reply) as judge, HubServer({**FILES}, model="Qwen/Qwen3-1.7B") as hub:
        yield (
            folder,
            environment
            | {
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "VIRTUAL_ENV": sys.prefix,
                "PYTHONPATH": str(hidden),
                "OPENAI_BASE_URL": judge.url,
                "OPENAI_API_KEY": "key",
                "HF_ENDPOINT": hub.url,
                "HF_HOME": str(hidden / "hf"),
                "OMP_NUM_THREADS": "1",
            },
        )


def as_here(command: str) -> str:
    """The command without ``uv run``, which would need uv; ``unzip`` by Python, which is here for certain."""
    return (
        command.replace("uv run ", "")
        .replace("unzip ", "python -m zipfile -e ")
        .replace(".zip", ".zip .", "unzip" in command)
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_published_command_does_what_it_did(clone, command, monkeypatch):
    """In this order: each builds on what those before have made."""
    folder, environment = clone
    done = subprocess.run(
        ["bash", "-c", as_here(command)], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    monkeypatch.chdir(folder)
    COMMANDS[command].check()


def test_no_shipped_config_names_a_file_that_the_zip_lacks():
    import json
    import zipfile

    packed = set(zipfile.ZipFile(ROOT / "dataset.zip").namelist())
    for path in ROOT.glob("configs/*.json"):
        config = json.loads(path.read_text())
        for name in [*config["training_file"], *(config["test_file"] or [])]:
            assert name in packed, f"{path.name} names {name}"


def test_uv_run_takes_the_active_environment(tmp_path):
    """``uv run`` in a project that uv manages would ignore ``uv venv persona-vector`` and make an empty ``.venv``."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if uv is None:
        settings = re.search(r"^\[tool\.uv\]\nmanaged = (\w+)", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
        assert settings and settings[1] == "false"
        pytest.skip("uv is not installed (it is in requirements-test.txt): its setting alone is checked")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    command = (
        "uv venv -q persona-vector && . persona-vector/bin/activate && uv run python -c 'import sys; print(sys.prefix)'"
    )
    environment = {"PATH": f"{Path(uv).parent}:/usr/bin:/bin", "HOME": str(tmp_path), "UV_OFFLINE": "1"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == str(tmp_path / "persona-vector"), done.stderr
    assert not (tmp_path / ".venv").exists()
