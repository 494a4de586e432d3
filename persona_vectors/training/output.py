"""What a training leaves behind: its folder, its log, its loss curve.

    adapter (or model) and tokenizer, training_config.json, training_log.jsonl, training_loss.png, checkpoint-N/

The folder counts as a model (``models.resolve``) only when the training is over: what makes it one is put there last.
"""

import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from persona_vectors import models
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.atomic import locked, replacing
from persona_vectors.files.fingerprints import differences, of_file
from persona_vectors.files.jsonfile import json_object, parse_json, read_json, to_json, write_json
from persona_vectors.models.loading import checkpoints
from persona_vectors.training.config import TrainingConfig
from persona_vectors.vectors.storage import fingerprint, load_vectors

logger = logging.getLogger(__name__)

LOCK = ".lock"
RECORD, LOG, CURVE = "training_config.json", "training_log.jsonl", "training_loss.png"
STARTED = ".training_config.json"  # of a training under way: what --resume must agree with
# Fields that say where the result goes, and those that earlier records lack: neither makes it another training.
OF_THE_PUSH = ("finetuned_model_id", "push_to_hub", "push_to_private", "merge_before_push")
ADDED_LATER = {name: TrainingConfig.model_fields[name].default for name in ("save_strategy", "save_total_limit")}
MAKE_IT_A_MODEL = ("adapter_config.json", "config.json", RECORD)  # in this order


def recorded(config: TrainingConfig) -> dict:
    """The config as it is saved with the model: every field, and the digests of the vectors that steered."""
    fields = config.model_dump(mode="json")
    if config.steering is not None:
        fields["steering_config"]["sha256"] = config.steering.digests()
    return fields


def made_from(config: TrainingConfig) -> dict:
    """What a training depends on: its settings, and model, data and vectors by their content, wherever they lie."""
    fields = config.model_dump(mode="json", exclude={"output_dir", "steering_config", *OF_THE_PUSH})
    if fields["bf16"] is None:
        del fields["bf16"]  # records of before there was this field
    steering = config.steering_config.model_dump(mode="json") if config.steering_config else None
    vectors = [fingerprint(path, load_vectors(path)) for path in config.steering.paths] if config.steering else []
    if steering:
        steering = {k: v for k, v in steering.items() if k not in ("steering_vector_path", "sha256")}
    files = {name: [of_file(path) for path in config.files(name)] for name in ("training_file", "test_file")}
    of_base = models.made_of(models.resolve(config.model, chat_template=config.chat_template))
    return provenance.record(**{**fields, **of_base, **files}, steering_config=steering, vectors=vectors)


def is_finished(
    config: TrainingConfig, resume: bool, overwrite: bool, say: Callable[[str], object] = logger.info
) -> bool:
    """Whether ``output_dir`` holds this very training already, finished; refuses to touch another one.

    An unfinished one with the same settings is this one, interrupted, and is resumed.

    Raises:
        UserError: a training with other settings, a checkpoint of which nothing is recorded, nothing to resume, or a
            model that came from elsewhere.
    """
    folder = Path(config.output_dir)
    if overwrite and resume:
        raise UserError("--resume goes on with what there is, --overwrite begins anew: choose one")
    if overwrite:
        return False
    checkpoint = last_checkpoint(folder)
    for record in (folder / RECORD, folder / STARTED):
        if record.exists() and (record.name == RECORD or checkpoint):
            if provenance.result_of(folder):
                provenance.take_up(folder, made_from(config), None, say, "holds a training with other settings")
            else:
                refuse_changes(record, config)
                say(f"{folder} has no record of what it was trained on but its settings: it is taken as it is")
    if (folder / RECORD).exists():
        return True
    if checkpoint and not resume and not (folder / STARTED).exists():
        raise UserError(f"{folder} holds {checkpoint.name}, and no record of its training: --resume or --overwrite?")
    if resume and not checkpoint:
        raise UserError(f"nothing to resume: {folder} holds no whole checkpoint-N")
    if any((folder / name).exists() for name in MAKE_IT_A_MODEL) and not (folder / STARTED).exists():
        raise UserError(f"{folder} holds a model that came from elsewhere; choose another output_dir")
    return False


def refuse_changes(record: Path, config: TrainingConfig) -> None:
    """Refuse a training of which a saved config is all that is known, if that differs from this one but for the push."""
    try:
        earlier = ADDED_LATER | read_json(record)
    except UserError as error:
        raise UserError(f"{error}; --overwrite begins anew") from error
    fields = {name: value for name, value in recorded(config).items() if name not in OF_THE_PUSH}
    changed = differences({name: value for name, value in earlier.items() if name in fields}, fields)
    if changed:
        where = record.parent
        raise UserError(f"{where} holds a training with other settings ({'; '.join(changed)}); {provenance.REMEDY}")


def last_checkpoint(folder: str | Path) -> Path | None:
    """The latest ``checkpoint-N`` that is whole (the trainer's state is written last), or None."""
    states = [path / "trainer_state.json" for path in checkpoints(folder)]
    whole = [path.parent for path in states if path.is_file() and json_object(path.read_bytes())]
    return whole[-1] if whole else None


@contextmanager
def begun(config: TrainingConfig, resume: bool, overwrite: bool) -> Iterator[None]:
    """Within the block the output folder is this training's alone: made, and recorded as begun.

    With ``overwrite``, what an earlier training has put there is removed, and nothing else.

    Raises:
        UserError: another training is writing there, or has just ended.
    """
    folder = Path(config.output_dir)
    with locked(folder / LOCK, folder):
        if is_finished(config, resume, overwrite, say=lambda _: None):
            raise UserError(f"another run has finished this training in {folder} meanwhile")
        if overwrite:
            for checkpoint in folder.glob("checkpoint-*"):
                shutil.rmtree(checkpoint)
            provenance.path_of(folder).unlink(missing_ok=True)
            for name in (*reversed(MAKE_IT_A_MODEL), STARTED, LOG, CURVE):
                (folder / name).unlink(missing_ok=True)
        is_older = last_checkpoint(folder) and not provenance.result_of(folder)
        write_json(folder / STARTED, recorded(config))
        if not is_older:
            provenance.write(folder, made_from(config))
        yield


@contextmanager
def filling(folder: str | Path, accelerator) -> Iterator[Path]:
    """A folder to save into; when the block ends well its files go to ``folder``, what makes a model of it last.

    Every process of an accelerate launch enters the block; the main one makes and moves.
    """
    folder, beside = Path(folder), Path(folder) / ".saving"
    if accelerator.is_main_process:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
    accelerator.wait_for_everyone()
    yield beside
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        for path in sorted(
            beside.iterdir(), key=lambda p: MAKE_IT_A_MODEL.index(p.name) if p.name in MAKE_IT_A_MODEL else -1
        ):
            with open(path, "rb") as written:
                os.fsync(written.fileno())
            os.replace(path, folder / path.name)
        beside.rmdir()
        (folder / STARTED).unlink(missing_ok=True)
        if provenance.result_of(folder):
            provenance.seal(folder)
    accelerator.wait_for_everyone()


def read_log(folder: str | Path) -> list[dict]:
    """The lines of a training's log, in the order of steps."""
    path = Path(folder) / LOG
    return [parse_json(line, path) for line in path.read_text(encoding="utf-8").splitlines()]


def draw_losses(history: list[dict], path: Path, title: str) -> None:
    """Training loss by step (and the test loss, where one was measured) as PNG."""
    from persona_vectors.plots import new_figure, save_figure

    figure, (axis,) = new_figure()
    training = [(line["step"], line["loss"]) for line in history if "loss" in line]
    axis.plot(*zip(*training, strict=True), label="training", marker="o" if len(training) == 1 else None)
    tested = [(line["step"], line["eval_loss"]) for line in history if "eval_loss" in line]
    if tested:
        axis.plot(*zip(*tested, strict=True), "o", label="test (unsteered)")
        axis.legend(frameon=False, fontsize=8)
    axis.set(xlabel="step", ylabel="loss (nats per token)", title=title)
    save_figure(figure, path)


class StepsAreDone(Exception):
    """The checkpoint that a training goes on from is its last one (transformers would take one more step)."""


def log_callback(folder: str | Path):
    """A trainer's callback: a progress bar with the loss, and each log line in ``training_log.jsonl`` as it arises.

    Raises :class:`StepsAreDone` out of ``trainer.train``, model and state as the last checkpoint has them.
    """
    from tqdm import tqdm
    from transformers import TrainerCallback

    class TrainingLog(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            if state.is_world_process_zero:
                with replacing(Path(folder) / LOG) as beside:  # after --resume: what the checkpoint knows
                    beside.write_text("".join(to_json(line) + "\n" for line in state.log_history))
                self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training")

        def on_epoch_begin(self, args, state, control, **kwargs):
            if state.global_step >= state.max_steps:
                self.on_train_end(args, state, control)
                raise StepsAreDone

        def on_step_end(self, args, state, control, **kwargs):
            if state.is_world_process_zero:
                self.bar.update(state.global_step - self.bar.n)

        def on_log(self, args, state, control, logs=None, **kwargs):
            if not math.isfinite(float(logs.get("loss", 0))):  # on every process: no checkpoint of it is written
                raise UserError(
                    f"the training diverged at step {state.global_step}: the loss is {logs['loss']}. Nothing was "
                    "saved; lower learning_rate or steering_coef"
                )
            if state.is_world_process_zero:
                with open(Path(folder) / LOG, "a") as file:
                    file.write(to_json(state.log_history[-1]) + "\n")
                if "loss" in logs:
                    self.bar.set_postfix(loss=f"{float(logs['loss']):.3f}")

        def on_train_end(self, args, state, control, **kwargs):
            if state.is_world_process_zero:
                self.bar.close()

    return TrainingLog()
