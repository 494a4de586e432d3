"""Stage: ask a model the questions of a trait, steered or not, and have a judge score the answers.

    python -m eval.eval_persona --model Qwen/Qwen2.5-7B-Instruct --trait evil --output_path evil.csv --version eval

Answers and scores are journaled beside the output as they arrive: after a kill, the same command goes on from there.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from persona_vectors import cli, models
from persona_vectors.asking.ask import ask_and_judge, dry_run
from persona_vectors.asking.choose_judge import JudgeSettings
from persona_vectors.asking.each_model import ask_each, run_of, several_models
from persona_vectors.asking.sheet import RESERVED, UNJUDGED, AnswerSheet, summarise
from persona_vectors.asking.subject import Subject
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.tables import read_answers
from persona_vectors.options import (
    ClusterOptions,
    CostOptions,
    JudgeOptions,
    ModelOptions,
    SamplingOptions,
    SteeringOptions,
)
from persona_vectors.steering.broken import beyond
from persona_vectors.steering.sweep import Grid
from persona_vectors.traits.artifact import SIGNS, VERSIONS, Trait, load_trait, make_questions
from persona_vectors.traits.questions import QuestionFile, read_questions, trait_without_artifact


@cli.command
def main(
    model: str,
    trait: cli.Several[str],
    output_path: str,
    steering: SteeringOptions,
    *,
    questions: str | None = None,
    n_questions: cli.Count | None = None,
    generation: SamplingOptions,
    batch_process: bool = True,
    persona_instruction_type: cli.Several[Literal[SIGNS]] | None = None,
    assistant_name: str | None = None,
    judge: JudgeOptions,
    costs: CostOptions,
    version: Literal[VERSIONS] = "extract",
    overwrite: bool = False,
    trait_dir: str = "data_generation",
    engine: ClusterOptions,
    loading: ModelOptions,
    all_checkpoints: Annotated[bool, cli.InFull] = False,
):
    """Ask and judge; writes a CSV: question, prompt, answer, question_id, <trait>, coherence.

    Several traits, instruction types, coefficients or layers go into one call, separated by commas or spaces; the model
    is loaded once. Several coefficients or layers add the columns coef and layer, and dose where it is known.

    Args:
        model: Hugging Face id, local folder, folder of checkpoints (the latest is taken), LoRA adapter folder or GGUF
            file (one on the hub is written owner/name:file.gguf). A pattern in quotes asks every model that it matches.
        trait: name of the artifact, e.g. evil; several need {trait} in output_path.
        output_path: CSV to write; {trait}, {type} and {model} (the last part of its name) are filled in. If it exists,
            it is summarised and not redone.
        questions: CSV or JSONL with question or messages, asked in the place of the artifact's questions; question_id (or
            id) names a row, further columns are kept. With --judge_model none, trait is then only a column's name.
        n_questions: ask only the first so many of the questions.
        batch_process: false makes one question at a time, for little memory.
        persona_instruction_type: pos or neg (or pos,neg) puts the artifact's instructions into the system prompt.
        assistant_name: "You are a/an <name> assistant."; by default the trait for pos, helpful for neg, else none.
        version: which questions: extract or eval.
        overwrite: begin anew although the output, or an unfinished run of it, exists.
        trait_dir: folder of trait_data_extract/ and trait_data_eval/.
        all_checkpoints: ask every checkpoint-N of the folder model, and make a table and a figure over the steps.
    """
    given = locals().copy()
    if several := several_models(model, all_checkpoints, output_path):
        costs.refuse_several_runs()
        one = lambda name: main.__wrapped__(**given | {"model": name, "all_checkpoints": False})  # noqa: E731
        made = ask_each(several, one)
        return made if costs.dry_run else over_steps(several, trait, persona_instruction_type, output_path)
    output_path = output_path.replace("{model}", models.basename(model))
    generated, judging, grid = generation.with_dtype(loading.dtype), costs.limiting(judge.settings()), steering.grid()
    settings = asdict(generated) | {"version": version, "backend": engine.backend, "judge_model": judge.judge_model}
    asked = read_questions(questions, reserved_for(trait, judge.judge_model), n_questions) if questions else None
    settings |= {"questions": asked.fingerprint} if asked else {}
    needed = not asked or persona_instruction_type or judge.judge_model != UNJUDGED
    read = partial(load_trait, version=version, trait_dir=trait_dir) if needed else trait_without_artifact
    traits = {name: first_questions(read(name), n_questions) for name in trait}
    grid.load(list(traits), may_come=costs.dry_run)
    sheets = make_sheets(traits, persona_instruction_type, output_path, assistant_name, grid, settings, judging, asked)

    done = [] if overwrite else [s for s in sheets if s.is_done and s.trait.name not in grid.to_come]
    if len(done) < len(sheets) or any(provenance.read(sheet.output_path) for sheet in done):
        path = loading.resolve(model)
        shape = models.describe(path, loading.trust_remote_code)
        grid.check(shape.layers, shape.hidden)
        for sheet in sheets:
            sheet.settings |= models.made_of(path) | judging.made_of(path, sheet.trait)
    done = [sheet for sheet in done if sheet.take_up()]
    show(done)
    todo = [sheet for sheet in sheets if sheet not in done]
    if not todo:
        return
    for line in filter(None, (beyond(grid, name) for name in traits)):
        print(f"warning: {line}")
    answering = engine.settings(None if batch_process else generation.n_per_question).choose(path)
    subject = Subject(path, shape, answering, generated, loading.trust_remote_code)
    if costs.dry_run:
        return dry_run(todo, subject, judging, grid, overwrite)
    ask_and_judge(todo, subject, judging, grid, overwrite)
    for sheet in todo:
        summarise(sheet.table(), sheet.metrics)
        print(f"wrote {len(sheet.rows)} answers to {sheet.output_path}{grid.in_words(sheet.trait.name)}")


def show(done: Sequence[AnswerSheet]) -> None:
    """Print what is there already."""
    for sheet in done:
        print(f"{sheet.output_path} exists and is not made again (--overwrite does that):")
        summarise(read_answers(sheet.output_path, sheet.metrics, unscored=True), sheet.metrics)


def reserved_for(traits: Sequence[str], judges: str) -> set[str]:
    """Columns of answers files, those of each of several judges included; a condition is anybody's."""
    names = judges.split(",") if "," in judges else []
    of_judges = (f"{metric}_{name}" for metric in (*traits, "coherence") for name in names)
    return {*RESERVED, *traits, *(f"{trait}_llr" for trait in traits), *of_judges} - {"condition"}


def first_questions(trait: Trait, count: int | None) -> Trait:
    """The trait with its first ``count`` questions alone; None is all."""
    return replace(trait, questions=trait.questions[:count])


def filled(output_path: str, trait: str, sign: str | None) -> str:
    """The output path with the trait's name and the instruction type in it."""
    return output_path.replace("{trait}", trait).replace("{type}", sign or "none")


def over_steps(names: Sequence[str], traits: Sequence[str], signs: Sequence[str] | None, output_path: str) -> None:
    """Write tables and figures over the training's steps, where the models are checkpoints of one run."""
    from persona_vectors.analysis.training_steps import write_steps

    run = run_of(names)
    for trait in traits if run else ():
        for sign in signs or [None]:
            path = filled(output_path, trait, sign)
            files = {step: path.replace("{model}", models.basename(name)) for name, step in run[1].items()}
            title = f"{run[0]}, {sign}" if sign else run[0]
            written = write_steps(files, trait, path.replace("{model}", f"{run[0]}_by_step"), title)
            print("wrote " + ", ".join(map(str, written)))


def make_sheets(
    traits: dict[str, Trait],
    signs: Sequence[str] | None,
    output_path: str,
    assistant_name: str | None,
    grid: Grid,
    settings: dict,
    judging: JudgeSettings,
    asked: QuestionFile | None = None,
) -> list[AnswerSheet]:
    """One sheet per trait and instruction type, each with an output path of its own; ``asked`` are other questions."""
    sheets = []
    questions_of = asked.of_trait if asked else make_questions
    for trait in traits.values():
        for sign in signs or [None]:
            sheets.append(
                AnswerSheet(
                    filled(output_path, trait.name, sign),
                    trait,
                    questions_of(trait, sign, assistant_name),
                    settings["n_per_question"],
                    grid.cells_of(trait.name),
                    judging.prompts(trait),
                    settings | grid.settings(trait.name),
                )
            )
    if asked and any(Path(sheet.output_path).resolve() == Path(asked.path).resolve() for sheet in sheets):
        raise UserError(f"--output_path is the file of questions, {asked.path}; choose another")
    if len({sheet.output_path for sheet in sheets}) < len(sheets):
        raise UserError("several traits or types in one call need {trait} and {type} in --output_path")
    return sheets


def __getattr__(name: str):
    """The published module's other names; see :mod:`persona_vectors.published`."""
    if name.startswith("__"):  # of the import system
        raise AttributeError(name)
    from persona_vectors.published import find

    return find("eval.eval_persona", name)


if __name__ == "__main__":
    cli.run(main)
