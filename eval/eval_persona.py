"""Stage: ask a model the questions of a trait, steered or not, and have a judge score the answers.

    python -m eval.eval_persona --model Qwen/Qwen2.5-7B-Instruct --trait evil --output_path evil.csv --version eval

Answers and scores are journaled beside the output as they arrive: after a kill, the same command goes on from there.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Literal

from eval.prompts import Prompts
from persona_vectors import cli, models
from persona_vectors.asking.ask import ask_and_judge
from persona_vectors.asking.sheet import AnswerSheet, summarise
from persona_vectors.asking.subject import Subject
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.tables import read_answers
from persona_vectors.options import ClusterOptions, JudgeOptions, ModelOptions, SamplingOptions, SteeringOptions
from persona_vectors.steering.sweep import Grid
from persona_vectors.traits.artifact import SIGNS, VERSIONS, Trait, load_trait, make_questions


@cli.command
def main(
    model: str,
    trait: cli.Several[str],
    output_path: str,
    steering: SteeringOptions,
    *,
    n_questions: cli.Count | None = None,
    generation: SamplingOptions,
    batch_process: bool = True,
    persona_instruction_type: cli.Several[Literal[SIGNS]] | None = None,
    assistant_name: str | None = None,
    judge: JudgeOptions,
    version: Literal[VERSIONS] = "extract",
    overwrite: bool = False,
    trait_dir: str = "data_generation",
    engine: ClusterOptions,
    loading: ModelOptions,
):
    """Ask and judge; writes a CSV: question, prompt, answer, question_id, <trait>, coherence.

    Several traits, instruction types, coefficients or layers go into one call, separated by commas or spaces; the model
    is loaded once. Several coefficients or layers add the columns coef and layer, and dose where it is known.

    Args:
        model: Hugging Face id, local folder, folder of checkpoints (the latest is taken), LoRA adapter folder or GGUF
            file (one on the hub is written owner/name:file.gguf).
        trait: name of the artifact, e.g. evil; several need {trait} in output_path.
        output_path: CSV to write; {trait} and {type} are filled in. If it exists, it is summarised and not redone.
        n_questions: ask only the first so many of the artifact's questions.
        batch_process: false makes one question at a time, for little memory.
        persona_instruction_type: pos or neg (or pos,neg) puts the artifact's instructions into the system prompt.
        assistant_name: "You are a/an <name> assistant."; by default the trait for pos, helpful for neg, else none.
        version: which questions: extract or eval.
        overwrite: begin anew although the output, or an unfinished run of it, exists.
        trait_dir: folder of trait_data_extract/ and trait_data_eval/.
    """
    generated, judging, grid = generation.with_dtype(loading.dtype), judge.settings(), steering.grid()
    settings = asdict(generated) | {"version": version, "backend": engine.backend, "judge_model": judge.judge_model}
    traits = {name: first_questions(load_trait(name, version, trait_dir), n_questions) for name in trait}
    grid.load(list(traits))
    sheets = make_sheets(traits, persona_instruction_type, output_path, assistant_name, grid, settings)

    done = [] if overwrite else [sheet for sheet in sheets if sheet.is_done]
    if len(done) < len(sheets) or any(provenance.read(sheet.output_path) for sheet in done):
        path = models.resolve(model)
        shape = models.describe(path, loading.trust_remote_code)
        grid.check(shape.layers, shape.hidden)
        for sheet in sheets:
            sheet.settings |= models.made_of(path) | judging.made_of(path, sheet.trait)
    done = [sheet for sheet in done if sheet.take_up()]
    for sheet in done:
        print(f"{sheet.output_path} exists and is not made again (--overwrite does that):")
        summarise(read_answers(sheet.output_path, sheet.metrics), sheet.metrics)
    todo = [sheet for sheet in sheets if sheet not in done]
    if not todo:
        return
    answering = engine.settings(None if batch_process else generation.n_per_question).choose()
    ask_and_judge(todo, Subject(path, shape, answering, generated, loading.trust_remote_code), judging, grid, overwrite)
    for sheet in todo:
        summarise(sheet.table(), sheet.metrics)
        print(f"wrote {len(sheet.rows)} answers to {sheet.output_path}{grid.in_words(sheet.trait.name)}")


def first_questions(trait: Trait, count: int | None) -> Trait:
    """The trait with its first ``count`` questions alone; None is all."""
    return replace(trait, questions=trait.questions[:count])


def make_sheets(
    traits: dict[str, Trait],
    signs: Sequence[str] | None,
    output_path: str,
    assistant_name: str | None,
    grid: Grid,
    settings: dict,
) -> list[AnswerSheet]:
    """One sheet per trait and instruction type, each with an output path of its own."""
    sheets = []
    for trait in traits.values():
        for sign in signs or [None]:
            path = output_path.replace("{trait}", trait.name).replace("{type}", sign or "none")
            sheets.append(
                AnswerSheet(
                    path,
                    trait,
                    make_questions(trait, sign, assistant_name),
                    settings["n_per_question"],
                    grid.cells_of(trait.name),
                    {trait.name: trait.eval_prompt, "coherence": Prompts["coherence_0_100"]},
                    settings | grid.settings(trait.name),
                )
            )
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
