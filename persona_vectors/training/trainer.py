"""A training config's model and TRL trainer.

Knows transformers, PEFT and TRL; what is trained on comes tokenised, what is steered is the stage's business.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from persona_vectors.errors import UserError, first_line
from persona_vectors.models.adapters import quiet_bitsandbytes
from persona_vectors.models.decoder import find_blocks
from persona_vectors.models.loading import ModelPath, attention_of, ends_of, in_4bit, loading_errors
from persona_vectors.processes import accelerator, gpu_count, has_bfloat16
from persona_vectors.training.config import TrainingConfig


@contextmanager
def ended_together(rank: int, world: int) -> Iterator[None]:
    """Within the block, that another process has ended is said in one line: what broke here is the connection to it.

    Raises:
        UserError: in the place of what gloo or NCCL raise of a connection that is gone.

    Example:
        with ended_together(state.process_index, state.num_processes):
            trainer.train()
    """
    try:
        yield
    except RuntimeError as error:
        if world == 1 or not _is_of_a_connection(error):
            raise
        reason = re.sub(r"^\[\S+\] ", "", first_line(error, 200)).partition(". ")[0]
        raise UserError(
            f"process {rank} of {world} ends because another one has ended, whose own message or the launcher's report says why "
            f"({reason}); the same command goes on from the last checkpoint"
        ) from error


def _is_of_a_connection(error: RuntimeError) -> bool:
    from torch.distributed import DistError

    return isinstance(error, DistError) or "gloo/transport" in str(error)


def check_architecture(path: ModelPath, config: TrainingConfig) -> None:
    """Refuse what this model has no place for, before its weights are loaded (a model without weights is built).

    Raises:
        UserError: decoder blocks that cannot be found, a name in target_modules that no module has, or null there
            where PEFT has no choice of its own.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with loading_errors(path), torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path.base))
    if config.steering is not None:
        find_blocks(skeleton)
    if config.is_peft and config.target_modules is None:
        from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as CHOICES

        if skeleton.config.model_type not in CHOICES:
            raise UserError(
                f"target_modules is null, and PEFT has no choice of its own for {skeleton.config.model_type}: name the "
                'modules, or "all-linear"'
            )
    elif config.is_peft and config.target_modules != "all-linear":
        names = {part for name, _ in skeleton.named_modules() for part in (name, name.rsplit(".", 1)[-1])}
        missing = [target for target in config.target_modules if target not in names]
        if missing:
            blocks = find_blocks(skeleton)
            there = sorted(
                {n.rsplit(".", 1)[-1] for n, m in blocks.named_modules() if hasattr(m, "weight") and m.weight.ndim > 1}
            )
            raise UserError(
                f"target_modules: {path.name} has no module {', '.join(missing)}; its blocks have {', '.join(there)} "
                '(or "all-linear")'
            )


def stop_tokens(path: ModelPath, tokenizer) -> list[int]:
    """The ids that the model's files call ends: where any tool stops, and so what an answer has to end with."""
    from persona_vectors.engines.base import named_stop_ids

    return named_stop_ids(ends_of(path), tokenizer)


def precision(config: TrainingConfig) -> str:
    """What a training step computes in: the config's ``bf16``; by default what a GPU has of bfloat16 and float16.

    LoRA's own weights are float32 in any case. On a CPU with AVX512-BF16 a step in bfloat16 takes half the time.
    """
    gpu = gpu_count() > 0
    if config.bf16 and gpu and not has_bfloat16():
        raise UserError("bf16 is true, but this GPU has no bfloat16; set it to null")
    if config.bf16 is None and gpu:
        return "bfloat16" if has_bfloat16() else "float16"
    return "bfloat16" if config.bf16 else "float32"


def load_base(path: ModelPath, config: TrainingConfig):
    """The model to train, under LoRA in the precision of :func:`precision`, else in float32; 4-bit where asked for.

    Without ``accelerate launch``, a machine with several GPUs holds one model in pieces.
    """
    import torch
    from accelerate import PartialState
    from transformers import AutoModelForCausalLM

    quiet_bitsandbytes()

    gpus = gpu_count()
    if config.load_in_4bit and not gpus:
        raise UserError("load_in_4bit needs a GPU; set it to false")
    options = {"dtype": getattr(torch, precision(config)) if config.is_peft else torch.float32}
    if gpus > 1 and PartialState().num_processes == 1:
        options["device_map"] = "auto"
    if config.load_in_4bit:
        options["device_map"] = options.get("device_map", {"": PartialState().local_process_index})
        options["quantization_config"] = in_4bit(options["dtype"])
    with loading_errors(path):
        return AutoModelForCausalLM.from_pretrained(path.base, **attention_of(path), **options)


def make_trainer(config: TrainingConfig, model, tokenizer, train: list[dict], test: list[dict] | None, callback):
    """TRL's trainer for the config's loss, ready to run, with the adapter (if any) on the model.

    Args:
        train, test: rows as :mod:`persona_vectors.training.data` makes them.
        callback: told of every log line; the only one that prints.
    """
    import transformers
    from datasets import Dataset, disable_progress_bars
    from peft import LoraConfig
    from transformers import PrinterCallback, ProgressCallback

    arguments, trainer_class, own = _trl(config)
    gpu = gpu_count() > 0
    args = arguments(
        output_dir=config.output_dir,
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        per_device_train_batch_size=config.per_device_train_batch_size,
        per_device_eval_batch_size=8,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        warmup_steps=config.warmup_steps,
        learning_rate=config.learning_rate,
        logging_steps=config.logging_steps,
        logging_nan_inf_filter=False,
        optim=config.optim,
        weight_decay=config.weight_decay,
        lr_scheduler_type=config.lr_scheduler_type,
        seed=config.seed,
        data_seed=config.seed,
        save_steps=config.save_steps,
        save_strategy=config.save_strategy,
        save_total_limit=config.save_total_limit,
        max_length=config.max_seq_length,
        gradient_checkpointing=gpu if config.gradient_checkpointing is None else config.gradient_checkpointing,
        bf16=precision(config) == "bfloat16",
        fp16=precision(config) == "float16",
        use_cpu=accelerator() == "cpu",
        report_to=config.report_to,
        dataloader_pin_memory=gpu,
        disable_tqdm=True,
        remove_unused_columns=config.loss != "orpo",
        **own,
    )
    lora = LoraConfig(
        r=config.r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        bias=config.lora_bias,
        use_rslora=config.use_rslora,
        target_modules=config.target_modules,
        task_type="CAUSAL_LM",
    )
    disable_progress_bars()
    transformers.set_seed(config.seed)
    trainer = trainer_class(
        model=model,
        args=args,
        train_dataset=Dataset.from_list(train),
        eval_dataset=Dataset.from_list(test) if test else None,
        processing_class=tokenizer,
        peft_config=lora if config.is_peft else None,
        callbacks=[callback],
    )
    for printing in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printing)
    return trainer


def _trl(config: TrainingConfig) -> tuple[type, type, dict]:
    """TRL's arguments and trainer of a loss, and the fields that only it has."""
    if config.loss == "sft":
        from trl import SFTConfig, SFTTrainer

        return SFTConfig, SFTTrainer, {"dataset_kwargs": {"skip_prepare_dataset": True}}  # tokenised, labelled, cut
    if config.loss == "dpo":
        from trl import DPOConfig, DPOTrainer

        return DPOConfig, DPOTrainer, {"beta": config.beta}
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    return ORPOConfig, ORPOTrainer, {"beta": config.beta}
