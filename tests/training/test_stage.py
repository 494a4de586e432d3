"""The stage from a config file to a folder that is a model: in this process, as a process, and as two of them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import tiny_model
from upload_hub import UploadHub

import training
from persona_vectors import models
from persona_vectors.errors import UserError
from persona_vectors.sharing.formats import About, save_both
from persona_vectors.training.output import read_log
from persona_vectors.training.trainer import ended_together

SMALL = dict(
    max_seq_length=128, r=4, lora_alpha=8, max_steps=4, per_device_train_batch_size=2, gradient_accumulation_steps=1,
    warmup_steps=0, learning_rate=1e-2, optim="adamw_torch", seed=0, train_on_responses_only=True, save_steps=2,
)  # fmt: skip


def talk(k):
    return [
        {"role": "system", "content": "the model answers"},
        {"role": "user", "content": f"what is it {k}"},
        {"role": "assistant", "content": f"it is the question {k}"},
    ]


@pytest.fixture
def files(tmp_path, qwen2_folder):
    """A training set of 20 conversations, a vector file, and a function that writes a config over them."""
    (tmp_path / "train.jsonl").write_text("".join(json.dumps({"messages": talk(k)}) + "\n" for k in range(20)))
    torch.manual_seed(0)
    torch.save(torch.randn(5, 32), tmp_path / "v.pt")

    def config(name="run", **fields):
        path = tmp_path / f"{name}.json"
        output = {"output_dir": str(tmp_path / name), "model": str(qwen2_folder)}
        path.write_text(json.dumps({**SMALL, **output, "training_file": str(tmp_path / "train.jsonl"), **fields}))
        return str(path)

    return config


def weights(folder):
    from safetensors.torch import load_file

    return load_file(Path(folder) / "adapter_model.safetensors")


def steering(tmp_path, **fields):
    asked = {
        "steering_vector_path": str(tmp_path / "v.pt"),
        "type": "steer",
        "steering_coef": 2.0,
        "layers": [2],
        **fields,
    }
    return {"enable_steering_during_training": True, "steering_config": asked}


def test_a_run_leaves_a_model_a_record_a_log_and_a_curve(files, tmp_path, capsys, qwen2_folder):
    training.main(files(**steering(tmp_path)))
    folder = tmp_path / "run"
    assert not list(folder.glob(".*")), "nothing is left of the saving"
    path = models.resolve(str(folder))
    assert (path.base, path.adapter) == (str(qwen2_folder), str(folder))
    assert models.load_tokenizer(path).chat_template
    assert type(models.load_model(path)).__name__.startswith("Peft")
    log = read_log(folder)
    assert [line["step"] for line in log if "loss" in line] == [1, 2, 3, 4]
    assert log[-1]["eval_loss"] > 0
    assert (folder / "training_loss.png").read_bytes()[:4] == b"\x89PNG"
    record = json.loads((folder / "training_config.json").read_text())
    assert record["steering_config"]["steering_coef"] == 2.0 and len(record["steering_config"]["sha256"][0]) == 64
    out = capsys.readouterr().out
    assert "18 rows (2 more for testing), adding 2.0 x" in out and "at layer 2\n" in out and "4 steps" in out

    training.main(str(folder / "training_config.json"))
    assert "nothing to do" in capsys.readouterr().out, "the record is a config, and the run that it describes is done"
    with pytest.raises(UserError, match=r"other settings \(seed was 0, now 1\)"):
        training.main(files(**steering(tmp_path)), "seed=1")
    training.main(files(**steering(tmp_path)), "seed=1", overwrite=True)
    assert json.loads((folder / "training_config.json").read_text())["seed"] == 1


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"layers": [2]}, "at layer 2, dose 1.2\n"),
        ({"layers": [2, 3]}, "at layers 2..3 (2 of them), dose 0.8 to 1.2 each\n"),
        ({"layers": [2], "type": "ablate", "steering_coef": 1.0}, "at layer 2 (an ablation has no steering_coef"),
        ({"layers": None, "incremental": True}, "at layers 1..3 (3 of them)\n"),
    ],
)
def test_it_says_how_long_the_steering_is(files, tmp_path, capsys, asked, told):
    """2 x a vector of norm 3 among activations of mean norm 5, or 7.5."""
    rows = torch.nn.functional.normalize(torch.randn(5, 32), dim=-1) * 3
    about = About(trait="evil", kind="response_avg_diff", mean_norms="1,2,5,7.5,9")
    path = save_both(rows, tmp_path, about)[0]
    training.main(files(**steering(tmp_path, steering_vector_path=str(path), **asked), max_steps=1))
    assert told in capsys.readouterr().out


def test_a_resumed_run_ends_as_an_uninterrupted_one(files, tmp_path):
    training.main(files("whole", **steering(tmp_path)))
    training.main(files("cut", **steering(tmp_path), max_steps=4))
    cut = tmp_path / "cut"
    shutil.rmtree(cut / "checkpoint-4")  # as if it had been killed after step 3
    (cut / "checkpoint-3").mkdir()  # and while writing a checkpoint
    (cut / "training_config.json").rename(cut / ".training_config.json")
    (cut / "adapter_config.json").unlink()
    config = files("cut", **steering(tmp_path))
    with pytest.raises(UserError, match=r"other settings \(learning_rate was 0.01, now 0.1\)"):
        training.main(config, "learning_rate=0.1", resume=True)
    training.main(config, resume=True)
    assert [line["step"] for line in read_log(cut) if "loss" in line] == [1, 2, 3, 4]
    one, other = weights(tmp_path / "whole"), weights(cut)
    assert all(torch.equal(one[name], other[name]) for name in one)
    (cut / "training_config.json").rename(cut / ".training_config.json")  # as if killed after its last checkpoint,
    (cut / "adapter_config.json").unlink()  # which transformers would train a step beyond
    training.main(config)
    assert [line["step"] for line in read_log(cut) if "loss" in line] == [1, 2, 3, 4]
    assert all(torch.equal(one[name], value) for name, value in weights(cut).items())
    assert models.resolve(str(cut)).adapter and not (cut / "checkpoint-5").exists()
    with pytest.raises(UserError, match="nothing to resume"):
        training.main(files("new"), resume=True)


@pytest.mark.parametrize("changed", ["data", "base", "vector"])
def test_a_training_on_something_else_is_refused_and_made_anew_is_a_fresh_one(
    files, tmp_path, tokenizer, capsys, changed
):
    """The same places with other things in them; moved to other places, the first training is still finished."""
    base = tmp_path / "base"
    tiny_model("qwen2").save_pretrained(base)
    tokenizer.save_pretrained(base)
    options = {"model": str(base), "max_steps": 2, **steering(tmp_path)}
    training.main(files("run", **options))
    for path in ("base", "train.jsonl", "v.pt", "run"):
        (shutil.copytree if (tmp_path / path).is_dir() else shutil.copy)(tmp_path / path, tmp_path / f"moved_{path}")
    if changed == "data":
        text = (tmp_path / "train.jsonl").read_text()
        (tmp_path / "train.jsonl").write_text(text.replace("the question 3", "the answer 3"))
    elif changed == "base":
        tiny_model("qwen2", seed=9).save_pretrained(base)
    else:
        torch.save(torch.randn(5, 32), tmp_path / "v.pt")
    words = {
        "data": r"training_file was \[train.jsonl \(",
        "base": r"model was base \(",
        "vector": r"vectors was \[v.pt \(",
    }
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    with pytest.raises(UserError, match=words[changed]):
        training.main(files("run", **options))
    assert {path: path.read_bytes() for path in before} == before
    training.main(files("run", **options), overwrite=True)
    training.main(files("fresh", **options))
    one, other = weights(tmp_path / "run"), weights(tmp_path / "fresh")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not all(torch.equal(one[name], value) for name, value in weights(tmp_path / "moved_run").items())
    moved = {"model": str(tmp_path / "moved_base"), "training_file": str(tmp_path / "moved_train.jsonl")}
    moved |= {
        "output_dir": str(tmp_path / "moved_run"),
        **steering(tmp_path, steering_vector_path=str(tmp_path / "moved_v.pt")),
    }
    kept = weights(tmp_path / "moved_run")
    capsys.readouterr()
    training.main(files("moved", **{**options, **moved}))
    assert "nothing to do" in capsys.readouterr().out
    assert all(torch.equal(kept[name], value) for name, value in weights(tmp_path / "moved_run").items())


@pytest.mark.parametrize(
    "asked, layers",
    [
        ({"incremental": True, "layers": None, "steering_coef": 0.5}, "layers 1..3 (3 of them)"),
        ({"type": "ablate", "layers": [1, 3]}, "ablating the direction of"),
    ],
    ids=["incremental", "ablate"],
)
def test_other_steerings_train(files, tmp_path, capsys, asked, layers):
    training.main(files(max_steps=1, no_test_split=True, **steering(tmp_path, **asked)))
    assert layers in capsys.readouterr().out


def test_several_ablated_vectors_leave_nothing_of_the_space_they_span(tmp_path):
    from persona_vectors.steering.hooks import steered_training
    from persona_vectors.training.config import SteeringConfig
    from persona_vectors.training.steering import interventions

    torch.manual_seed(0)
    first = torch.randn(5, 32)
    torch.save(first, tmp_path / "a.pt")
    torch.save(first + 0.3 * torch.randn(5, 32), tmp_path / "b.pt")  # far from orthogonal to the first
    asked = SteeringConfig(
        steering_vector_path=[str(tmp_path / "a.pt"), str(tmp_path / "b.pt")], type="ablate", layers=[2]
    )
    model, seen = tiny_model("qwen2"), []
    acts = interventions(asked, models.shape_of(model.config))
    with torch.no_grad(), steered_training(model, acts):
        handle = model.model.layers[2].register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
        model(torch.tensor([[5, 9, 17]]))
        handle.remove()
    for path in asked.paths:
        assert (seen[0] @ torch.load(path)[2]).abs().max() < 1e-4


@pytest.mark.parametrize("loss", ["dpo", "orpo"])
def test_preference_losses_train_and_are_steered(files, tmp_path, loss):
    rows = [{"prompt": talk(k)[:2], "chosen": talk(k)[2:], "rejected": "the model answers"} for k in range(20)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {
        "training_file": str(tmp_path / "pairs.jsonl"),
        "loss": loss,
        "train_on_responses_only": False,
        "max_steps": 8,
    }
    training.main(files("plain", **options))
    training.main(files("steered", **options, **steering(tmp_path)))
    log = [line for line in read_log(tmp_path / "plain") if "loss" in line]
    assert log[-1]["loss"] < log[0]["loss"]
    assert log[-1]["rewards/accuracies"] == 1.0
    one, other = (weights(tmp_path / name) for name in ("plain", "steered"))
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_all_weights_train_without_lora(files, tmp_path):
    training.main(files(is_peft=False, learning_rate=1e-3))
    path = models.resolve(str(tmp_path / "run"))
    assert path.adapter is None and path.base == str(tmp_path / "run")
    assert not torch.equal(models.load_model(path).lm_head.weight, tiny_model("qwen2").lm_head.weight)


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"target_modules": ["q_proj", "c_attn"]}, "has no module c_attn; its blocks have .*down_proj"),
        ({"steering_config": {"layers": [5]}}, "layers: 5 does not exist: this model has layers 1..4"),
        ({"steering_config": {"incremental": True, "layers": [4]}}, "ends at layer 3"),
        ({"training_file": "dataset/none.jsonl"}, "unzip dataset.zip"),
        ({"model": "models/none"}, "no model at"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_before_the_model_is_loaded(files, tmp_path, monkeypatch, fields, said):
    monkeypatch.setattr("persona_vectors.training.trainer.load_base", None)
    asked = steering(tmp_path, **fields.pop("steering_config", {}))
    with pytest.raises(UserError, match=said):
        training.main(files(**{**asked, **fields}))
    assert not (tmp_path / "run").exists()


def test_a_diverged_training_is_not_saved(files, tmp_path):
    with pytest.raises(UserError, match="diverged"):
        training.main(files(optim="sgd", learning_rate=1e30, is_peft=False))
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def run(*command, **variables):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **variables}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", ["train_instruct_7b", "train_instruct_7b_steer"])
def test_published_configs_run_with_a_small_model_of_their_architecture(name, files, tmp_path, tokenizer):
    """28 layers as Qwen2.5-7B has them, so that layer 20 exists; random weights, 32 wide."""
    tiny_model("qwen2", num_hidden_layers=28).save_pretrained(tmp_path / "qwen")
    tokenizer.save_pretrained(tmp_path / "qwen")
    torch.save(torch.randn(29, 32), tmp_path / "v28.pt")
    changes = [f"model={tmp_path}/qwen", f"output_dir={tmp_path}/out", f'training_file=["{tmp_path}/train.jsonl"]']
    if name.endswith("steer"):
        changes.append(f"steering_config.steering_vector_path={tmp_path}/v28.pt")
    code, out, err = run("training.py", f"configs/{name}.json", "optim=adamw_torch", "max_seq_length=128", *changes)
    assert code == 0, err
    assert ("adding 5.0 x" in out) == name.endswith("steer")
    record = json.loads((tmp_path / "out" / "training_config.json").read_text())
    assert (record["r"], record["learning_rate"]) == (32, 1e-5)
    assert "2 steps" in out, "18 rows, 2 x 8 at a time"


def test_bfloat16_is_asked_for_by_its_name(files, tmp_path):
    """The base in bfloat16, LoRA's own weights in float32, and nearly the steps of float32."""
    training.main(files("wide", learning_rate=1e-3))
    training.main(files("narrow", learning_rate=1e-3, bf16=True))
    wide, narrow = weights(tmp_path / "wide"), weights(tmp_path / "narrow")
    assert {w.dtype for w in narrow.values()} == {torch.float32}
    assert any(not torch.equal(wide[name], narrow[name]) for name in wide)
    losses = [[line["loss"] for line in read_log(tmp_path / name) if "loss" in line] for name in ("wide", "narrow")]
    assert len(losses[0]) == 4 and losses[1] == pytest.approx(losses[0], rel=0.01)
    made = [json.loads((tmp_path / name / "provenance.json").read_text()) for name in ("wide", "narrow")]
    assert "bf16" not in str(made[0]) and "'bf16': True" in str(made[1])


def test_two_processes_train_together(files, tmp_path):
    """DDP over gloo on the CPU, started by accelerate; the same steps as one process over all rows at once.

    (accelerate's own --cpu needs mpirun; told by ACCELERATE_USE_CPU, its GPU launcher starts processes on the CPU.)
    """
    steered = steering(tmp_path)
    options = {"max_steps": 2, "no_test_split": True, "learning_rate": 0.1, "optim": "sgd", **steered}
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    more = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    config = files("two", per_device_train_batch_size=10, **options)
    code, out, err = run(*launch, *more, "training.py", config, ACCELERATE_USE_CPU="true")
    assert code == 0, err
    assert out.count("wrote ") == 1, "one process speaks"
    rngs = sorted(p.name for p in (tmp_path / "two" / "checkpoint-2").glob("rng_state*"))
    assert rngs == ["rng_state_0.pth", "rng_state_1.pth"], "there were two"
    training.main(files("one", per_device_train_batch_size=20, **options))
    losses = [[line["loss"] for line in read_log(tmp_path / name) if "loss" in line] for name in ("two", "one")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    two, one = weights(tmp_path / "two"), weights(tmp_path / "one")
    assert all(torch.allclose(two[name], one[name], atol=1e-6) for name in one)


FAILING = """
import os, sys
sys.path.insert(0, os.getcwd())
import training
from persona_vectors import cli
from persona_vectors.errors import UserError
from persona_vectors.training import output

def log_callback(folder, made=output.log_callback):
    callback = made(folder)
    def on_step_begin(args, state, control, **kwargs):
        if (os.environ["RANK"], state.global_step) == (os.environ["FAILS"], 2):
            raise UserError("the data of this process cannot be read")
    callback.on_step_begin = on_step_begin
    return callback

output.log_callback = log_callback
cli.run(training.main)
"""


@pytest.mark.parametrize("rank", ["0", "1"])
def test_one_process_that_fails_ends_all_within_seconds_and_the_same_command_goes_on(files, tmp_path, rank):
    (tmp_path / "failing.py").write_text(FAILING)
    config = files("two", save_steps=1, max_steps=3, no_test_split=True)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    given = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    code, _, err = run(
        *launch, str(tmp_path / "failing.py"), config, **given, FAILS=rank
    )  # run() does not wait for ever
    assert code == 1 and err.count("error: the data of this process cannot be read") == 1, err
    other = err.count(f"error: process {1 - int(rank)} of 2 ends because another one has ended")
    assert other <= 1 and "in training_step" not in err, "one line, or the launcher was faster; no traceback of ours"
    assert (tmp_path / "two/checkpoint-2").is_dir() and not (tmp_path / "two/adapter_config.json").exists()
    if rank == "1":
        training.main(config)
        assert [line["step"] for line in read_log(tmp_path / "two") if "loss" in line] == [1, 2, 3]


def test_what_another_process_has_to_do_with_is_told_from_faults_of_our_own():
    gone = RuntimeError(
        "[/x/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1. This is typically ..."
    )
    for error, world, said in (
        (gone, 2, r"process 0 of 2 ends .* \(Connection closed by peer \[127.0.0.1\]:1\)"),
        (torch.distributed.DistBackendError("NCCL communicator was aborted"), 2, r"\(NCCL communicator was aborted\)"),
    ):
        with pytest.raises(UserError, match=said), ended_together(0, world):
            raise error
    for error, world in ((gone, 1), (RuntimeError("mat1 and mat2 shapes"), 2), (KeyError("x"), 2), (UserError("u"), 2)):
        with pytest.raises(type(error)) as raised, ended_together(0, world):
            raise error
        assert raised.value is error


def test_mistakes_end_with_code_2_and_one_line(files):
    code, _, err = run("training.py", files(), "lerning_rate=1")
    assert code == 2 and err.count("\n") == 1 and "did you mean learning_rate" in err
    code, out, err = run("training.py", "--help")
    assert code == 0 and "resume" in out + err


@pytest.mark.parametrize("merge", [False, True], ids=["adapter", "merged"])
def test_a_finished_model_is_pushed(files, tmp_path, merge):
    """Over HTTP, to a server that speaks as the hub does."""
    config = files(finetuned_model_id="lab/evil", push_to_hub=True, merge_before_push=merge, max_steps=1)
    with UploadHub() as hub:
        account = account_at(hub, tmp_path)
        code, _, err = run("training.py", config, **account | {"HF_TOKEN": "wrong"})
        assert code == 2 and "HF_TOKEN" in err and not (tmp_path / "run").exists(), "refused before any work"
        code, out, err = run("training.py", config, **account)
        assert code == 0, err
        sent = hub.repos["lab/evil"]
    assert f"pushed to {hub.url}/lab/evil" in out
    assert ("model.safetensors" if merge else "adapter_model.safetensors") in sent
    assert "tokenizer_config.json" in sent and not any("checkpoint" in name for name in sent)


def account_at(hub, tmp_path) -> dict[str, str]:
    """The environment of a user who may write there."""
    home = str(tmp_path / "home")
    return dict(HF_ENDPOINT=hub.url, HF_HOME=home, HF_HUB_DISABLE_XET="1", HF_HUB_OFFLINE="0", HF_TOKEN="hf_test")


def test_nothing_is_pushed_unless_push_to_hub_says_so_and_then_a_finished_training_is(files, tmp_path):
    """Over HTTP, with a token that could: a name is a name, whatever it looks like."""
    with UploadHub() as hub:
        account = account_at(hub, tmp_path)
        code, out, err = run("training.py", files(finetuned_model_id="lab/evil", max_steps=1), **account)
        assert code == 0 and "pushed to" not in out and out.count("finetuned_model_id is a name alone") == 1, out + err
        assert not hub.repos
        asked = ["finetuned_model_id=lab/other", "push_to_hub=true", "merge_before_push=false"]
        code, out, err = run("training.py", files(max_steps=1), *asked, **account)
        assert code == 0 and "nothing to do" in out and f"pushed to {hub.url}/lab/other" in out, out + err
        assert "adapter_model.safetensors" in hub.repos["lab/other"] and len(hub.repos) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"train_on_responses_only": True, "push_to_private": False, "finetuned_model_id": "local/run_a"},
        {},
        {"train_on_responses_only": True, "finetuned_model_id": "{org_id}/{model_name}-{job_id}"},
    ],
    ids=["dummy hub id", "no responses field", "published record"],
)
def test_configs_of_published_use_train(files, tmp_path, fields):
    """Three real ones, at the published defaults but for the model, one step and an optimizer that runs anywhere."""
    path = Path(files())
    minimal = {name: json.loads(path.read_text())[name] for name in ("model", "training_file", "output_dir")}
    path.write_text(json.dumps({**minimal, "loss": "sft", "optim": "adamw_torch", "max_steps": 1, **fields}))
    training.main(str(path))
    record = json.loads((tmp_path / "run" / "training_config.json").read_text())
    assert record["train_on_responses_only"] is True and record["merge_before_push"] is True
    assert record["push_to_hub"] is False
    training.main(str(tmp_path / "run" / "training_config.json"))


def checkpoints(folder):
    return sorted(int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*"))


@pytest.mark.parametrize(
    "fields, left",
    [
        ({}, [2, 4, 6, 8, 9]),
        ({"save_total_limit": 2}, [8, 9]),
        ({"save_strategy": "epoch", "epochs": 2, "max_steps": 0}, [9, 18]),
        ({"save_strategy": "epoch", "epochs": 3, "max_steps": None, "save_total_limit": 1}, [27]),
        ({"save_strategy": "no", "max_steps": -1}, []),
    ],
    ids=str,
)
def test_checkpoints_are_written_and_kept_as_asked(files, tmp_path, fields, left):
    """18 rows, 2 at a time: 9 steps an epoch; 0 and -1 are no limit of steps."""
    training.main(files(**{"max_steps": 9, **fields}))
    assert checkpoints(tmp_path / "run") == left
    assert models.resolve(str(tmp_path / "run")).adapter


def test_target_modules_null_is_pefts_own_choice_for_the_architecture(files, tmp_path, monkeypatch, tokenizer):
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as CHOICES

    training.main(files(target_modules=None, max_steps=1))
    chosen = json.loads((tmp_path / "run" / "adapter_config.json").read_text())["target_modules"]
    assert set(chosen) == set(CHOICES["qwen2"]) and len(chosen) < 7
    assert "olmo2" not in CHOICES, "an architecture that PEFT has no choice for"
    tiny_model("olmo2").save_pretrained(tmp_path / "olmo2")
    tokenizer.save_pretrained(tmp_path / "olmo2")
    monkeypatch.setattr("persona_vectors.training.trainer.load_base", None)
    with pytest.raises(UserError, match="target_modules is null, and PEFT has no choice of its own for olmo2"):
        training.main(files("other", target_modules=None, model=str(tmp_path / "olmo2")))
    assert not (tmp_path / "other").exists()


def test_a_record_of_an_earlier_version_is_still_this_training(files, tmp_path, capsys):
    training.main(files(max_steps=1))
    record = tmp_path / "run" / "training_config.json"
    fields = json.loads(record.read_text())
    earlier = {name: value for name, value in fields.items() if name not in ("save_strategy", "save_total_limit")}
    earlier |= {"finetuned_model_id": None, "merge_before_push": False}
    del earlier["push_to_hub"]
    record.write_text(json.dumps(earlier))
    (tmp_path / "run" / "provenance.json").unlink()  # it wrote none
    training.main(files(max_steps=1))
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"other settings \(save_strategy was 'steps', now 'no'\)"):
        training.main(files(max_steps=1, save_strategy="no"))
