"""Stage: a training config and conversations -> a LoRA adapter (or a model): plain, preventatively steered, or CAFT.

    python training.py configs/train_instruct_7b.json
    python training.py configs/train_instruct_7b_steer.json steering_config.steering_coef=3 output_dir=output/coef3
    accelerate launch training.py configs/train_instruct_7b.json

Section 5 of the paper: to steer towards a trait while training on data that shows it takes away the pressure to learn
it. The steering acts on all tokens and is gone when the model is saved; what is saved says how it was trained.
"""

import json
import os
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from persona_vectors import cli, models
from persona_vectors.errors import UserError
from persona_vectors.processes import accelerator

if TYPE_CHECKING:
    from persona_vectors.training.config import TrainingConfig


@cli.command
def main(config: str, *changes: str, resume: bool = False, overwrite: bool = False):
    """Finetune a model as a config file says.

    Args:
        config: JSON file with the fields of the method's training configs; see configs/.
        changes: fields that differ from the file, as field=value: seed=1, steering_config.layers=[16]
        resume: insist on going on from a checkpoint: of an interrupted training, the same command does so anyway.
        overwrite: begin anew where output_dir holds a training already.
    """
    from persona_vectors.training.config import read_config

    train(read_config(config, list(changes)), resume, overwrite, config)


def train(config: "TrainingConfig", resume: bool = False, overwrite: bool = False, path: str = "the config") -> None:
    """Finetune a model as ``config`` says; ``path`` names it in messages. The arguments are those of :func:`main`."""
    from persona_vectors.training import output
    from persona_vectors.training.config import check_packages

    if output.is_finished(config, resume, overwrite):
        return say_finished(config)
    check_packages(config, path)
    from persona_vectors.training import data

    rows = data.read_rows(config.files("training_file"), config.loss)
    test_rows = data.read_rows(config.files("test_file"), config.loss)
    base = models.resolve(config.model, chat_template=config.chat_template)
    if base.adapter:
        raise UserError(f"{config.model} is a LoRA adapter; merge it first: python -m persona_vectors.bake --help")
    shape = models.describe(base)
    if shape.max_length and config.max_seq_length > shape.max_length:
        print(f"max_seq_length {config.max_seq_length} is more than the {shape.max_length} tokens that the model takes")
    longest = min(config.max_seq_length, shape.max_length or config.max_seq_length)

    from accelerate import PartialState

    from persona_vectors.steering.hooks import steered_training
    from persona_vectors.training.steering import interventions
    from persona_vectors.training.trainer import (
        check_architecture,
        ended_together,
        load_base,
        make_trainer,
        stop_tokens,
    )

    steering = interventions(config.steering, shape)
    check_architecture(base, config)
    if not (test_rows or config.no_test_split):
        rows, test_rows = split(rows, config.seed)
    cpu = accelerator() == "cpu"  # said outright: without it, CPU processes do not see each other yet
    process, tokenizer = PartialState(cpu=cpu), models.load_tokenizer(base)
    say = print if process.is_main_process else lambda *_: None
    train, test = prepare(tokenizer, (rows, test_rows), config, longest, stop_tokens(base, tokenizer), say)
    say(describe(config, len(train), len(test), steering))
    taking = output.begun(config, resume, overwrite) if process.is_main_process else nullcontext()
    with ended_together(process.process_index, process.num_processes), taking:
        process.wait_for_everyone()
        model = load_base(base, config)
        trainer = make_trainer(config, model, tokenizer, train, test, output.log_callback(config.output_dir))
        checkpoint = output.last_checkpoint(config.output_dir)
        if checkpoint:
            say(f"going on from {checkpoint} of an unfinished training")
        with suppress(output.StepsAreDone), ExitStack() as steered:
            for steered_model in (trainer.model, getattr(trainer, "ref_model", None)):  # dpo compares like with like
                if steered_model is not None:
                    steered.enter_context(steered_training(steered_model, steering))
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if test:
            trainer.evaluate()
        save(trainer, config)
    if process.is_main_process:
        print(in_words(trainer.state.log_history, config))
        if config.push_to_hub:
            print(f"pushed to {push(config)}")
        print(f"wrote {config.output_dir}: {', '.join(sorted(p.name for p in Path(config.output_dir).iterdir()))}")
    process.destroy_process_group()  # left to the interpreter's end, a thread of gloo may abort the process


def say_finished(config: "TrainingConfig") -> None:
    """Say that there is nothing to train, and push what is there if the config asks for that."""
    print(f"nothing to do: {config.output_dir} holds this training, finished (--overwrite trains it anew)")
    if config.push_to_hub and os.environ.get("RANK", "0") == "0":  # one process of an accelerate launch
        from persona_vectors.training.push import check_push

        check_push(config.finetuned_model_id)
        print(f"pushed to {push(config)}")


def split(rows: list, seed: int) -> tuple[list, list]:
    """A tenth of the rows, drawn with the seed, kept back for testing: (training rows, test rows)."""
    import random

    if len(rows) < 2:
        raise UserError(
            "one row cannot be split into training and test: set no_test_split to true, or name a test_file"
        )
    tested = set(random.Random(seed).sample(range(len(rows)), max(1, len(rows) // 10)))
    kept = [row for k, row in enumerate(rows) if k not in tested]
    return kept, [rows[k] for k in sorted(tested)]


def prepare(
    tokenizer, parts: tuple[list, list], config: "TrainingConfig", max_length: int, stops: list[int], say
) -> list[list[dict]]:
    """Training and test rows as the trainer of the config's loss takes them; what became of some of them is said."""
    from persona_vectors.training import data

    for remark in data.remarks(tokenizer, [row for rows in parts for row in rows], stops):
        say(remark)
    if config.loss != "sft":
        return [data.preferences(tokenizer, rows, stops) for rows in parts]
    prepared = []
    for rows in parts:
        examples, remark = [], ""
        if rows:
            examples, remark = data.conversations(tokenizer, rows, max_length, config.train_on_responses_only, stops)
        if remark:
            say(remark)
        prepared.append(examples)
    return prepared


def describe(config: "TrainingConfig", train: int, test: int, steering: list) -> str:
    """What is about to happen, in one line."""
    from persona_vectors.training.steering import doses

    how = "without steering"
    if steering:
        layers = sorted({i.layer for i in steering})
        at = f"layer {layers[0]}" if len(layers) == 1 else f"layers {layers[0]}..{layers[-1]} ({len(layers)} of them)"
        asked = config.steering
        doing = f"adding {asked.steering_coef} x" if asked.type == "steer" else "ablating the direction of"
        how = f"{doing} {', '.join(map(str, asked.paths))} at {at}"
        if found := doses(asked):
            ends = dict.fromkeys(f"{end:.3g}" for end in (min(found), max(found)))
            how += f", dose {' to '.join(ends)}{' each' * (len(found) > 1)}"
        if asked.type == "ablate" and "steering_coef" in asked.model_fields_set:
            how += " (an ablation has no steering_coef: the value in the config plays no part)"
    kind = f"LoRA r {config.r}" if config.is_peft else "all weights"
    name = '; finetuned_model_id is a name alone, without "push_to_hub": true' if config.name_alone else ""
    return f"{config.model}: {config.loss}, {kind}, {train} rows ({test} more for testing), {how}{name}"


def save(trainer, config: "TrainingConfig") -> None:
    """Put model, tokenizer, config, log and loss curve into output_dir, which then is a model."""
    from persona_vectors.training import output

    history = trainer.state.log_history
    with output.filling(config.output_dir, trainer.accelerator) as folder:
        trainer.save_model(str(folder))
        if trainer.accelerator.is_main_process:
            (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; training_config.json says it all
            (folder / output.RECORD).write_text(json.dumps(output.recorded(config), indent=2) + "\n")
            output.draw_losses(history, folder / output.CURVE, Path(config.output_dir).name)


def in_words(history: list[dict], config: "TrainingConfig") -> str:
    """Steps, seconds and losses in one line."""
    losses = [line["loss"] for line in history if "loss" in line]
    tested = [line["eval_loss"] for line in history if "eval_loss" in line]
    took = next((f" in {line['train_runtime']:.0f} s" for line in reversed(history) if "train_runtime" in line), "")
    after = f", test loss {tested[-1]:.3f}{' (unsteered)' if config.steering else ''}" if tested else ""
    return f"{history[-1]['step']} steps{took}, loss {losses[0]:.3f} -> {losses[-1]:.3f}{after}"


def push(config: "TrainingConfig") -> str:
    """Upload what was saved, merged first if the config says so; returns the repository's address."""
    from persona_vectors.training.push import push as upload

    folder = config.output_dir
    if config.merge_before_push and config.is_peft:
        from persona_vectors.bake import write_merged

        folder = write_merged(folder, Path(config.output_dir) / "merged")
    return upload(config.finetuned_model_id, folder, config.push_to_private)


if __name__ == "__main__":
    cli.run(main)
