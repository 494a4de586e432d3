"""What a training config may say: the published fields and defaults, and what is wrong with a file that says else.

    {"model": "Qwen/Qwen2.5-7B-Instruct", "training_file": "dataset/evil/misaligned_2.jsonl", "loss": "sft", ...}

Knows fields and their values, and which packages they need; knows nothing of tensors.
"""

import importlib.util
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from persona_vectors.cli.values import at_home
from persona_vectors.errors import UserError, suggest
from persona_vectors.files.jsonfile import read_json
from persona_vectors.vectors.storage import digest, split_key

NAME_TEMPLATE = "{org_id}/{model_name}-{job_id}"  # the published finetuned_model_id, which nothing fills in
LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
Optimizer = Literal[
    "adamw_8bit", "adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop",
    "adamw_bnb_8bit", "paged_adamw_32bit", "paged_adamw_8bit", "lion_32bit", "lion_8bit", "paged_lion_32bit",
    "paged_lion_8bit", "ademamix", "ademamix_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit", "rmsprop_bnb",
    "rmsprop_bnb_8bit", "rmsprop_bnb_32bit",
]  # fmt: skip
OF_TORCH = ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop")  # the others: bitsandbytes
Scheduler = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"
]  # fmt: skip
Positive, NotNegative = Annotated[int, Field(ge=1)], Annotated[int, Field(ge=0)]
Texts = str | list[str]


class _Fields(BaseModel):
    """An unknown field is an error, and so are a text where a number belongs, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _at_home(cls, value: object) -> object:
        return at_home(value)


class SteeringConfig(_Fields):
    """What is done to the residual stream of all tokens in every forward pass of the training."""

    steering_vector_path: Texts = Field(description="vector file [layers + 1, hidden], or a list of them")
    type: Literal["steer", "ablate"] = Field("steer", description="add the vector, or project its direction out (CAFT)")
    steering_coef: float | list[float] = Field(1.0, description="factor of `steer`, one for all vectors or one each")
    layers: list[Positive] | None = Field(None, description="row l acts on the output of block l-1; for all vectors")
    incremental: bool = Field(False, description="steer with v_l - v_(l-1), at every layer where `layers` names none")
    sha256: list[str] | None = Field(None, description="recorded by a run; where given, the files must be the same")
    # of forks, where nothing reads them or they say what is done here anyway; not recorded
    mode: str = Field("all", exclude=True, description="which tokens are steered: all")
    hookpoints: Texts | None = Field(None, exclude=True, description="names of the blocks that `layers` stands for")

    @property
    def paths(self) -> list[str]:
        """The vector files."""
        return [self.steering_vector_path] if isinstance(self.steering_vector_path, str) else self.steering_vector_path

    @property
    def coefs(self) -> list[float]:
        """A coefficient per vector file."""
        coefs = self.steering_coef
        return coefs if isinstance(coefs, list) else [coefs] * len(self.paths)

    @model_validator(mode="before")
    @classmethod
    def _without_notes(cls, fields: object) -> object:
        """A key such as ``_comment`` is a note: JSON has no other place for one."""
        notes = [name for name in fields if name.startswith("_")] if isinstance(fields, dict) else []
        return {name: value for name, value in fields.items() if name not in notes} if notes else fields

    @model_validator(mode="after")
    def _fits_together(self) -> "SteeringConfig":
        if not self.paths:
            raise ValueError("steering_vector_path names no file")
        if not self.incremental and not self.layers:
            raise ValueError('layers is missing: a list such as [20], or "incremental": true for every layer')
        if self.layers and len(set(self.layers)) < len(self.layers):
            raise ValueError("layers names a layer twice")
        if self.incremental and self.type == "ablate":
            raise ValueError('incremental is for type "steer"; an ablation at several layers names them in layers')
        if self.mode != "all":
            raise ValueError(f'mode "{self.mode}" does not exist here: all tokens are steered')
        points = [self.hookpoints] if isinstance(self.hookpoints, str) else self.hookpoints
        if points is not None and points != [f"model.layers.{layer - 1}" for layer in self.layers or []]:
            raise ValueError("hookpoints are not the blocks of layers (l acts at model.layers.l-1): remove them")
        if len(self.coefs) != len(self.paths):
            raise ValueError(f"steering_coef has {len(self.coefs)} values for {len(self.paths)} vector files")
        return self

    def digests(self) -> list[str]:
        """The sha256 of each vector file; raises :class:`UserError` where one is missing or not the recorded one."""
        found = []
        for path in self.paths:
            if not split_key(path)[0].is_file():
                raise UserError(f"no vector file at {path} (steering_vector_path); generate_vec.py makes one")
            found.append(digest(path))
        if self.sha256 is not None and self.sha256 != found:
            raise UserError("steering_vector_path is not the file that steering_config.sha256 was recorded from")
        return found


class TrainingConfig(_Fields):
    """The published fields, then ours. Defaults are the published ones."""

    model: str = Field(description="Hugging Face id or local folder")
    training_file: Texts = Field(description="JSONL file, or a list of them")
    test_file: Texts | None = Field(None, description="JSONL file whose loss is measured after training")
    no_test_split: bool = Field(False, description="train on every row, instead of keeping a tenth back for testing")
    finetuned_model_id: str | None = Field(NAME_TEMPLATE, description="a name; owner/name where push_to_hub is true")
    push_to_private: bool = Field(True, description="what is pushed is private")
    merge_before_push: bool = Field(True, description="push the merged model instead of the adapter")
    max_seq_length: Positive = Field(2048, description="longer conversations are cut at their end")
    load_in_4bit: bool = Field(False, description="QLoRA; needs bitsandbytes and a GPU")
    loss: Literal["sft", "dpo", "orpo"] = "sft"
    beta: float = Field(0.1, ge=0, description="of dpo and orpo")
    is_peft: bool = Field(True, description="LoRA; false trains all weights and reads none of the LoRA fields")
    target_modules: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)] | None = Field(
        list(LINEAR_LAYERS), description="names of modules; null: PEFT's own choice for the architecture"
    )
    lora_bias: Literal["none", "all", "lora_only"] = "none"
    r: Positive = 16
    lora_alpha: Annotated[float, Field(gt=0)] = 16
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    use_rslora: bool = True
    epochs: Positive = 1
    max_steps: Positive | None = Field(None, description="stop there, whatever epochs says; null, 0 and -1: do not")
    per_device_train_batch_size: Positive = 2
    gradient_accumulation_steps: Positive = 8
    warmup_steps: NotNegative = 5
    learning_rate: float = Field(1e-4, gt=0, description="a whole number or a text below zero is a power of ten")
    logging_steps: Positive = 1
    optim: Optimizer = "adamw_8bit"
    weight_decay: float = Field(0.01, ge=0)
    lr_scheduler_type: Scheduler = "linear"
    seed: NotNegative = 3407
    save_steps: Positive = 5000
    output_dir: str = "./tmp"
    train_on_responses_only: bool = Field(True, description="loss on the answers alone; for orpo false")
    enable_steering_during_training: bool = False
    steering_config: SteeringConfig | None = None
    # not published
    push_to_hub: bool = Field(False, description="upload the result to finetuned_model_id; nothing else does")
    save_strategy: Literal["no", "steps", "epoch"] = Field("steps", description="when a checkpoint is written")
    save_total_limit: Positive | None = Field(None, description="checkpoints kept, the latest; null, 0 and -1: all")
    gradient_checkpointing: bool | None = Field(None, description="saves memory, costs a third in time; null: on a GPU")
    bf16: bool | None = Field(None, description="train in bfloat16; null: on a GPU that has it (elsewhere float16)")
    report_to: Literal["none", "wandb", "trackio", "tensorboard"] = "none"
    chat_template: str | None = Field(None, description="a Jinja file, or plain, in the place of the model's template")

    @field_validator("output_dir", "model")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is empty")
        return value

    @field_validator("max_steps", "save_total_limit", mode="before")
    @classmethod
    def _no_limit(cls, value: object) -> object:
        """0 and -1 mean none, as in transformers."""
        return None if type(value) is int and value in (0, -1) else value

    @field_validator("test_file", "chat_template", mode="before")
    @classmethod
    def _none(cls, value: object) -> object:
        """An empty text means none, as published."""
        return None if value == "" else value

    @field_validator("learning_rate", mode="before")
    @classmethod
    def _power_of_ten(cls, value: object) -> object:
        """-5 and "-5" are 1e-5, as published; -5.0 is a mistake there and here."""
        if isinstance(value, str) or type(value) is int:
            with suppress(ValueError, OverflowError):
                return 10 ** float(value) if float(value) < 0 else value
        return value

    @model_validator(mode="before")
    @classmethod
    def _as_published(cls, fields: object) -> object:
        """An empty steering_config is none; orpo has no loss on answers alone, so its default is false."""
        if not isinstance(fields, dict):
            return fields
        fields = {name: value for name, value in fields.items() if name != "steering_config" or value != {}}
        return {"train_on_responses_only": False, **fields} if fields.get("loss") == "orpo" else fields

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainingConfig":
        if self.enable_steering_during_training and self.steering_config is None:
            raise ValueError("enable_steering_during_training is true, but there is no steering_config")
        if self.no_test_split and self.test_file is not None:
            raise ValueError("no_test_split is true, but a test_file is named; one of them has to go")
        if self.loss == "orpo" and self.train_on_responses_only:
            raise ValueError("train_on_responses_only cannot be true for orpo: its loss covers prompt and answer")
        if self.load_in_4bit and not self.is_peft:
            raise ValueError("load_in_4bit needs is_peft: 4-bit weights cannot be trained themselves")
        if self.loss == "dpo" and not self.beta:
            raise ValueError("beta is 0: dpo would learn nothing, since its loss is the same for all weights")
        if self.push_to_hub and not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", self.finetuned_model_id or ""):
            raise ValueError(
                f"push_to_hub needs finetuned_model_id as owner/name, not '{self.finetuned_model_id or ''}'"
            )
        if not all(self.files("training_file") or [""]):
            raise ValueError("training_file names no file")
        return self

    @property
    def name_alone(self) -> str | None:
        """The finetuned_model_id that somebody chose, and to which nothing is pushed."""
        return None if self.push_to_hub or self.finetuned_model_id in ("", NAME_TEMPLATE) else self.finetuned_model_id

    @property
    def steering(self) -> SteeringConfig | None:
        """The steering that is switched on, or None."""
        return self.steering_config if self.enable_steering_during_training else None

    def files(self, field: str) -> list[str]:
        """``training_file`` or ``test_file`` as a list, empty where null."""
        value = getattr(self, field)
        return [] if value is None else [value] if isinstance(value, str) else value


def read_config(path: str | Path, changes: list[str] | tuple[str, ...] = ()) -> TrainingConfig:
    """Read a config file, with ``field=value`` changes on top (``steering_config.layers=[2]``; values as in JSON).

    Raises:
        UserError: no such file, no JSON, an unknown field (the nearest known one is named), a value that cannot be.
    """
    fields = read_json(path, missing="no training config at {path}")
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise UserError(f"unexpected argument '{change}'; a change of the config is written field=value")
        *parents, last = name.strip().split(".")
        inner = fields
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise UserError(f"'{change}': {parent} has no fields of its own")
        inner[last] = _value(value)
    try:
        return TrainingConfig.model_validate(fields)
    except ValidationError as error:
        raise UserError(f"{path}: {_in_words(error)}") from error


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _in_words(error: ValidationError) -> str:
    """What is wrong, in one line; an unknown field first, since a misspelt one is missing too."""
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"]]
    known = SteeringConfig.model_fields if path[:1] == ["steering_config"] and path[1:] else TrainingConfig.model_fields
    if first["type"] == "extra_forbidden":
        return f"unknown field '{'.'.join(path)}'{suggest(path[-1], known) or ': nothing would read it; remove it'}"
    if first["type"] == "missing":
        return f"the field '{'.'.join(path)}' is missing"
    where = ".".join(
        part for part in path if part in TrainingConfig.model_fields or part in SteeringConfig.model_fields
    )
    message, given = first["msg"].removeprefix("Value error, "), first["input"]
    if isinstance(given, dict | BaseModel):
        return f"{where}: {message}" if where else message
    if first["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", first["ctx"]["expected"])
        message = f"it must be one of {', '.join(choices)}{suggest(str(given), choices)}"
    return f"{where} is {json.dumps(given, default=str)[:80]}: {message}"


def check_packages(config: TrainingConfig, path: str | Path) -> None:
    """Refuse, with the remedy, what this machine has no package, token or device for."""
    if config.optim not in OF_TORCH and not _installed("bitsandbytes"):
        raise UserError(
            f'"optim": "{config.optim}" in {path} needs bitsandbytes, which is not installed: pip install bitsandbytes '
            f"(it has a CPU build as well), or train with the 32-bit one: python training.py {path} optim=adamw_torch"
        )
    if config.load_in_4bit and not _installed("bitsandbytes"):
        raise UserError(f'"load_in_4bit" in {path} needs bitsandbytes, which is not installed; or set it to false')
    if config.report_to != "none" and not _installed(config.report_to):
        raise UserError(
            f'"report_to": "{config.report_to}" in {path} needs that package: pip install {config.report_to}'
        )
    if config.push_to_hub:
        from persona_vectors.training.push import check_push

        check_push(config.finetuned_model_id)


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
