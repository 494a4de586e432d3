"""Bad input to every stage: one clear line and exit code 2 before a model is loaded, or the stage works."""

import gc
import json
import os
import shutil

import pandas
import pytest
import torch
import transformers
from bad_input import ASKING, BROKEN_WEIGHTS, REFUSED, TAKEN, WITH_MODEL, arguments, trait
from helpers import tiny_model
from judge_server import JudgeServer, error
from stages import KEY, TRAIT, score

PROMPT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def judge():
    with JudgeServer(score) as server:
        yield server


@pytest.fixture
def folder(tmp_path, monkeypatch, qwen2_folder, judge):
    """Everything that the commands below need, and can have broken."""
    for name in ("trait_data_extract", "trait_data_eval"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vile.json").write_text(json.dumps(TRAIT))
    (tmp_path / "monitoring").mkdir()
    (tmp_path / "monitoring" / "vile.json").write_text(json.dumps({"system_prompts": ["be it all", "what is it"]}))
    torch.manual_seed(1)
    torch.save(torch.randn(5, 32), tmp_path / "v.pt")
    for sign in ("pos", "neg"):
        table = {"question": ["q0", "q1"], "prompt": [PROMPT.format(k) for k in range(2)], "answer": ["the", "what"]}
        table |= {"question_id": [f"vile_{k}_{sign}_0" for k in range(2)], "vile": 90 if sign == "pos" else 3}
        pandas.DataFrame({**table, "coherence": 90}).to_csv(tmp_path / f"{sign}.csv", index=False)
    talk = [{"role": "user", "content": "what is it"}, {"role": "assistant", "content": "the question"}]
    (tmp_path / "set.jsonl").write_text((json.dumps({"messages": talk}) + "\n") * 4)
    shutil.copytree(qwen2_folder, tmp_path / "tiny")
    config = {"model": str(tmp_path / "tiny"), "training_file": str(tmp_path / "set.jsonl"), "optim": "adamw_torch"}
    config["enable_steering_during_training"] = True
    config |= {"output_dir": str(tmp_path / "out"), "max_steps": 1, "max_seq_length": 64, "r": 2, "lora_alpha": 2}
    config |= {"steering_config": {"steering_vector_path": str(tmp_path / "v.pt"), "type": "steer", "layers": [2],
                                   "steering_coef": 1.0}}  # fmt: skip
    (tmp_path / "train.json").write_text(json.dumps(config))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", judge.url)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def each(cases):
    return [
        pytest.param(stage, *rest, id=f"{stage} {name}") for name, (stages, *rest) in cases.items() for stage in stages
    ]


def refused(done, words):
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    (line,) = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    assert words in line and len(line) < 1000, line


@pytest.mark.parametrize(("stage", "breaks", "flags", "words"), each(REFUSED))
def test_one_line_before_a_model_is_loaded(folder, run_stage, monkeypatch, judge, stage, breaks, flags, words):
    def never(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", never)
    breaks(folder)
    asked = len(judge.bodies)
    refused(run_stage(stage, *arguments(stage, flags)), words)
    assert len(judge.bodies) <= asked + 1, "the judge was asked for more than its tokenizer"
    assert not list(folder.rglob("*.part")) and not list(folder.rglob("*.lock"))


@pytest.mark.parametrize("bytes_left", BROKEN_WEIGHTS.values(), ids=BROKEN_WEIGHTS)
@pytest.mark.parametrize("stage", WITH_MODEL)
def test_weights_that_cannot_be_read_are_one_line(folder, run_stage, stage, bytes_left):
    weights = folder / "tiny" / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink() if bytes_left is None else weights.write_bytes(content[:bytes_left])
    refused(run_stage(stage, *arguments(stage, {})), "cannot load")


@pytest.mark.parametrize(("stage", "changes", "flags"), each(TAKEN))
def test_what_is_unusual_but_clear_works(folder, run_stage, stage, changes, flags):
    changes(folder)
    done = run_stage(stage, *arguments(stage, flags))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("stage", ASKING)
@pytest.mark.parametrize("changed", ["questions", "eval_prompt", "model"])
def test_a_journal_of_another_model_or_prompt_is_not_mixed_in(folder, run_stage, judge, stage, changed):
    """A run that was stopped, then the same output with something else: refused by name, and nothing is lost."""
    with JudgeServer(lambda n, body: score(n, body) if n < 2 else error(401)) as server:
        os.environ["OPENAI_BASE_URL"] = server.url  # the fixture's monkeypatch puts it back
        assert run_stage(stage, *arguments(stage, {})).returncode == 2
    os.environ["OPENAI_BASE_URL"] = judge.url
    gc.collect()  # the stopped run's lock would have died with its process
    (journal,) = folder.rglob("*.journal.jsonl")
    before, flags = journal.read_bytes(), {}
    if changed == "model":
        shutil.copytree(folder / "tiny", folder / "other")
        tiny_model("qwen2", seed=1).save_pretrained(folder / "other")  # a mere copy would be the same model
        flags = {"--model": "other"}
    else:
        trait(**{changed: ["Other?"] if changed == "questions" else "Other: {question} {answer}"})(folder)
    refused(run_stage(stage, *arguments(stage, flags)), "used other settings")
    assert journal.read_bytes() == before
    assert run_stage(stage, *arguments(stage, {**flags, "--overwrite": "true"})).returncode == 0
