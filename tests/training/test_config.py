"""Training configs: the published fields and defaults, and one line for whatever is wrong."""

import json
import zipfile
from pathlib import Path

import pytest
import torch

from persona_vectors.errors import UserError
from persona_vectors.training.config import (
    LINEAR_LAYERS,
    Optimizer,
    Scheduler,
    TrainingConfig,
    check_packages,
    read_config,
)

CONFIGS = sorted(Path("configs").glob("*.json"))
MINIMAL = {"model": "m", "training_file": "a.jsonl"}
PUBLISHED = {  # field -> default; model, training_file and loss have none
    "test_file": None, "no_test_split": False, "finetuned_model_id": "{org_id}/{model_name}-{job_id}",
    "max_seq_length": 2048, "load_in_4bit": False, "is_peft": True, "target_modules": list(LINEAR_LAYERS),
    "lora_bias": "none", "r": 16, "lora_alpha": 16, "lora_dropout": 0.0, "use_rslora": True, "merge_before_push": True,
    "push_to_private": True, "epochs": 1, "max_steps": None, "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 8, "warmup_steps": 5, "learning_rate": 1e-4, "logging_steps": 1,
    "optim": "adamw_8bit", "weight_decay": 0.01, "lr_scheduler_type": "linear", "seed": 3407, "beta": 0.1,
    "save_steps": 5000, "output_dir": "./tmp", "train_on_responses_only": True,
    "enable_steering_during_training": False, "steering_config": None,
}  # fmt: skip
OURS = {
    "chat_template",
    "gradient_checkpointing",
    "bf16",
    "report_to",
    "push_to_hub",
    "save_strategy",
    "save_total_limit",
}


def write(tmp_path, **fields):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**MINIMAL, **fields}))
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_valid_and_name_every_published_field(path):
    config = read_config(path)
    left_out = {"no_test_split", "enable_steering_during_training", "steering_config"}
    assert set(TrainingConfig.model_fields) - OURS - left_out <= set(json.loads(path.read_text()))
    assert not config.push_to_hub and config.finetuned_model_id is None


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_train_on_files_that_the_shipped_zip_holds(path):
    config = read_config(path)
    with zipfile.ZipFile("dataset.zip") as shipped:
        held = set(shipped.namelist())
    assert {*config.files("training_file"), *config.files("test_file")} <= held


@pytest.mark.parametrize("field", PUBLISHED)
def test_defaults_are_the_published_ones(tmp_path, field):
    assert getattr(read_config(write(tmp_path)), field) == PUBLISHED[field]
    again = getattr(read_config(write(tmp_path, **{field: PUBLISHED[field]})), field)
    assert again == PUBLISHED[field], "written out, it is taken as well"


def test_no_published_field_is_missing_and_none_is_added_unnoticed():
    assert set(TrainingConfig.model_fields) == {"model", "training_file", "loss"} | set(PUBLISHED) | OURS
    assert read_config("configs/train_toy.json").loss == "sft" == TrainingConfig.model_fields["loss"].default


@pytest.mark.parametrize("loss", ["sft", "dpo", "orpo"])
def test_every_loss_goes_with_the_defaults_and_with_its_own_record(tmp_path, loss):
    config = read_config(write(tmp_path, loss=loss))
    assert config.train_on_responses_only == (loss != "orpo"), "orpo has loss on the prompt too"
    assert read_config(write(tmp_path, **config.model_dump(mode="json"))) == config


@pytest.mark.parametrize(
    "name", ["local/run_a", "{org_id}/{model_name}-{job_id}", "", None, "evil-7b", "a/b/c", "me/evil", "a model"]
)
def test_a_name_for_the_result_is_no_push(tmp_path, name, monkeypatch):
    """Whatever it is, with a token and the hub within reach: nothing is looked up."""
    monkeypatch.setattr("persona_vectors.training.push.check_push", None)
    config = read_config(write(tmp_path, optim="adamw_torch", finetuned_model_id=name, push_to_private=False))
    check_packages(config, "c.json")
    assert not config.push_to_hub
    assert (config.name_alone is None) == (name in ("", None, "{org_id}/{model_name}-{job_id}"))


@pytest.mark.parametrize(
    "fields, field, value",
    [
        ({"max_steps": 0}, "max_steps", None),
        ({"max_steps": -1}, "max_steps", None),
        ({"max_steps": 7}, "max_steps", 7),
        ({"beta": 0}, "beta", 0),
        ({"beta": 0, "loss": "orpo"}, "beta", 0),
        ({"target_modules": None}, "target_modules", None),
        ({"save_total_limit": 2}, "save_total_limit", 2),
        ({"save_total_limit": 0}, "save_total_limit", None),
        ({"save_strategy": "epoch"}, "save_strategy", "epoch"),
        ({"save_strategy": "no"}, "save_strategy", "no"),
        ({"learning_rate": "2e-5"}, "learning_rate", 2e-5),
        ({"learning_rate": -5}, "learning_rate", 1e-5),
        ({"learning_rate": "-4"}, "learning_rate", 1e-4),
        ({"steering_config": {}}, "steering_config", None),
        ({"test_file": ""}, "test_file", None),
        ({"chat_template": ""}, "chat_template", None),
        ({"output_dir": "~/runs/a"}, "output_dir", f"{Path.home()}/runs/a"),
        ({"training_file": ["~/a.jsonl", "b.jsonl"]}, "training_file", [f"{Path.home()}/a.jsonl", "b.jsonl"]),
    ],
    ids=str,
)
def test_published_ways_to_say_it_are_taken(tmp_path, fields, field, value):
    assert getattr(read_config(write(tmp_path, **fields)), field) == value


@pytest.mark.parametrize("more", [{"mode": "all"}, {"hookpoints": ["model.layers.19"]}, {"_comment": "layer 20 of 28"}])
def test_keys_of_a_steering_config_that_change_nothing_are_taken_and_not_recorded(tmp_path, more):
    steering = {"steering_vector_path": "v.pt", "type": "steer", "steering_coef": 5.0, "layers": [20]}
    plain, config = (read_config(write(tmp_path, steering_config=steering | extra)) for extra in ({}, more))
    assert config.model_dump() == plain.model_dump()


def test_published_values():
    plain, steer = (read_config(f"configs/train_instruct_7b{end}.json") for end in ("", "_steer"))
    for config in (plain, steer):
        assert (config.r, config.lora_alpha, config.use_rslora, config.learning_rate) == (32, 64, True, 1e-5)
        assert (config.per_device_train_batch_size, config.gradient_accumulation_steps, config.epochs) == (2, 8, 1)
        assert config.optim == "adamw_8bit" and config.train_on_responses_only and config.max_seq_length == 2048
    assert plain.steering is None
    assert (steer.steering.type, steer.steering.steering_coef, steer.steering.layers) == ("steer", 5.0, [20])


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"lerning_rate": 1}, "unknown field 'lerning_rate' .did you mean learning_rate"),
        (
            {"steering_config": {"steering_coeff": 1}},
            "unknown field 'steering_config.steering_coeff' .did you mean steering_coef",
        ),
        ({"model": None}, "model is null"),
        ({"optim": "adamw_torc"}, 'optim is "adamw_torc".*did you mean adamw_torch'),
        ({"lr_scheduler_type": "cosin"}, "did you mean cosine"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"learning_rate": -1e-5}, "learning_rate is -1e-05"),
        ({"learning_rate": "nan"}, "learning_rate is"),
        ({"max_steps": -2}, "max_steps is -2"),
        ({"beta": -1}, "beta is -1"),
        ({"beta": 0, "loss": "dpo"}, "dpo would learn nothing"),
        ({"save_strategy": "best"}, 'save_strategy is "best".*no, steps, epoch'),
        ({"save_total_limit": -3}, "save_total_limit is -3"),
        ({"packing": True}, "unknown field 'packing': nothing would read it"),
        ({"steering_config": {"vllm": 1}}, "unknown field 'steering_config.vllm': nothing would read it"),
        (
            {"steering_config": {"steering_vector_path": "v.pt", "layers": [20], "mode": "decode_only"}},
            'mode "decode_only" does not exist here',
        ),
        (
            {"steering_config": {"steering_vector_path": "v.pt", "layers": [20], "hookpoints": "model.layers.20"}},
            "hookpoints are not the blocks of layers",
        ),
        ({"learning_rate": "fast"}, 'learning_rate is "fast"'),
        ({"lora_dropout": 1}, "lora_dropout is 1"),
        ({"epochs": 0}, "epochs is 0"),
        ({"loss": "ppo"}, "must be one of sft, dpo, orpo"),
        ({"enable_steering_during_training": True}, "there is no steering_config"),
        ({"no_test_split": True, "test_file": "b.jsonl"}, "one of them has to go"),
        ({"loss": "orpo", "train_on_responses_only": True}, "cannot be true for orpo"),
        ({"load_in_4bit": True, "is_peft": False}, "needs is_peft"),
        ({"push_to_hub": True, "finetuned_model_id": "name"}, "owner/name, not 'name'"),
        ({"push_to_hub": True, "finetuned_model_id": None}, "owner/name, not ''"),
        ({"push_to_hub": True}, "owner/name, not '{org_id}"),
        ({"training_file": []}, "names no file"),
        ({"steering_config": {"steering_vector_path": "v.pt"}}, "layers is missing"),
        ({"steering_config": {"steering_vector_path": "v.pt", "layers": [0]}}, "greater than or equal to 1"),
        ({"steering_config": {"steering_vector_path": "v.pt", "layers": [2, 2]}}, "names a layer twice"),
        ({"steering_config": {"steering_vector_path": [], "layers": [2]}}, "names no file"),
        (
            {"steering_config": {"steering_vector_path": ["v", "w"], "layers": [1], "steering_coef": [1, 2, 3]}},
            "3 values for 2 vector files",
        ),
        (
            {"steering_config": {"steering_vector_path": "v", "type": "ablate", "incremental": True}},
            'incremental is for type "steer"',
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, fields, said):
    with pytest.raises(UserError, match=said) as error:
        read_config(write(tmp_path, **fields))
    assert "\n" not in str(error.value)


def test_changes_on_top_of_a_file(tmp_path):
    path = write(tmp_path, steering_config={"steering_vector_path": "v.pt", "layers": [2]})
    config = read_config(
        path, ["seed=7", "steering_config.layers=[1,3]", "optim=adamw_torch", "test_file=null", "model=a/b"]
    )
    assert (config.seed, config.steering_config.layers, config.optim, config.model) == (7, [1, 3], "adamw_torch", "a/b")
    with pytest.raises(UserError, match="field=value"):
        read_config(path, ["seed"])
    with pytest.raises(UserError, match="unknown field 'sead' .did you mean seed"):
        read_config(path, ["sead=1"])
    with pytest.raises(UserError, match="no training config at"):
        read_config(tmp_path / "none.json")


def test_choices_are_those_of_transformers():
    from transformers import SchedulerType
    from transformers.training_args import OptimizerNames

    assert set(Optimizer.__args__) <= {o.value for o in OptimizerNames}
    assert set(Scheduler.__args__) <= {s.value for s in SchedulerType}


def test_missing_packages_are_refused_with_the_remedy(tmp_path, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("bitsandbytes", "wandb") else find(name)
    )
    with pytest.raises(UserError, match=r"python training.py .*config.json optim=adamw_torch"):
        check_packages(read_config(write(tmp_path)), tmp_path / "config.json")
    with pytest.raises(UserError, match="pip install wandb"):
        check_packages(read_config(write(tmp_path, optim="adamw_torch", report_to="wandb")), "c.json")
    check_packages(read_config(write(tmp_path, optim="adamw_torch")), "c.json")


def test_a_push_without_a_token_or_offline_is_refused_before_any_work(tmp_path, monkeypatch):
    config = read_config(write(tmp_path, optim="adamw_torch", finetuned_model_id="me/evil", push_to_hub=True))
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        check_packages(config, "c.json")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="put HF_TOKEN into .env"):
        check_packages(config, "c.json")


def test_a_vector_file_that_changed_since_is_refused(tmp_path):
    torch.save(torch.ones(5, 32), tmp_path / "v.pt")
    steering = {"steering_vector_path": str(tmp_path / "v.pt"), "layers": [2]}
    config = read_config(write(tmp_path, enable_steering_during_training=True, steering_config=steering))
    (digest,) = config.steering.digests()
    again = read_config(write(tmp_path, steering_config={**steering, "sha256": [digest]}))
    assert again.steering_config.digests() == [digest]
    torch.save(torch.zeros(5, 32), tmp_path / "v.pt")
    with pytest.raises(UserError, match="is not the file"):
        again.steering_config.digests()
