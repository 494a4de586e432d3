"""Stage: ask a model the questions of a trait, steered or not, and have a judge score the answers.

    python -m eval.eval_persona --model Qwen/Qwen2.5-7B-Instruct --trait evil --output_path evil.csv --version eval

Answers and scores are journaled beside the output as they arrive: after a kill, the same command goes on from there.
"""

from dataclasses import asdict, replace

from eval.prompts import Prompts
from persona_vectors import cli, models
from persona_vectors.asking.ask import ask_and_judge
from persona_vectors.asking.choose_judge import JudgeFlags
from persona_vectors.asking.sheet import AnswerSheet, summarise
from persona_vectors.asking.subject import EngineFlags, Generation, Subject
from persona_vectors.engines import BACKENDS
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.tables import read_answers
from persona_vectors.steering.sweep import Grid
from persona_vectors.traits.artifact import SIGNS, VERSIONS, Trait, load_trait, make_questions


def main(
    model: str,
    trait: cli.Several,
    output_path: str,
    coef: cli.Several = "0",
    vector_path: str = None,
    layer: cli.Several = None,
    steering_type: str = "response",
    controls: int = 0,
    n_questions: int = None,
    max_tokens: int = 1000,
    n_per_question: int = 10,
    batch_process: bool = True,
    max_concurrent_judges: int = 100,
    persona_instruction_type: cli.Several = None,
    assistant_name: str = None,
    judge_model: str = "gpt-4.1-mini-2025-04-14",
    scorer: str = None,
    scorer_pairs: int = None,
    version: str = "extract",
    overwrite: bool = False,
    trait_dir: str = "data_generation",
    backend: str = "auto",
    batch_size: int = 64,
    dtype: str = "auto",
    seed: int = 0,
    enable_thinking: bool = False,
    trust_remote_code: bool = False,
    tensor_parallel_size: int = None,
    pipeline_parallel_size: int = None,
    data_parallel_size: int = None,
    gpu_memory_utilization: float = None,
    distributed_executor_backend: str = None,
):
    """Ask and judge; writes a CSV: question, prompt, answer, question_id, <trait>, coherence.

    Several traits, instruction types, coefficients or layers go into one call, separated by commas or spaces; the model
    is loaded once. Several coefficients or layers add the columns coef and layer.

    Args:
        model: Hugging Face id, local folder, folder of checkpoints (the latest is taken), LoRA adapter folder or GGUF
            file (one on the hub is written owner/name:file.gguf).
        trait: name of the artifact, e.g. evil; several need {trait} in output_path.
        output_path: CSV to write; {trait} and {type} are filled in. If it exists, it is summarised and not redone.
        coef: steering coefficient(s); 0 is unsteered.
        vector_path: vector file [layers+1, hidden] (.pt or .safetensors; file.pt:key is one of a dict of tensors); {trait}
            is filled in.
        layer: layer(s) to steer, 1..L: reads row l, acts on the output of block l-1. all: every layer at once, with
            incremental vectors.
        steering_type: response (last prompt token and generated ones), prompt, or all.
        controls: random vectors of the same norm that steer beside the trait's own; they add the column control.
        n_questions: ask only the first so many of the artifact's questions.
        max_tokens: longest answer, in tokens.
        n_per_question: answers per question (and instruction); 1 is greedy, more are drawn at temperature 1.
        batch_process: false makes one question at a time, for little memory.
        max_concurrent_judges: judge calls under way at a time.
        persona_instruction_type: pos or neg (or pos,neg) puts the artifact's instructions into the system prompt.
        assistant_name: "You are a/an <name> assistant."; by default the trait for pos, helpful for neg, else none.
        judge_model: the judge, as its endpoint names it (OPENAI_BASE_URL, OPENAI_API_KEY; see .env.example). likelihood
            needs none: a model reads the answers under the artifact's instructions, and a column <trait>_llr is added.
        scorer: likelihood: the model that reads them; by default the one that answers, without adapter and unsteered.
        scorer_pairs: likelihood: instruction pairs that each answer is read under (2), none of them its own.
        version: which questions: extract or eval.
        overwrite: begin anew although the output, or an unfinished run of it, exists.
        trait_dir: folder of trait_data_extract/ and trait_data_eval/.
        backend: auto, hf or vllm.
        batch_size: sequences per batch of the hf backend.
        dtype: auto (bfloat16 on a GPU, float32 on a CPU), float32, bfloat16 or float16.
        seed: draws the answers; the same seed gives the same answers.
        enable_thinking: let models that can think do so; answers are judged without the reasoning.
        trust_remote_code: run code that comes with the model. Only for models whose code you have read.
        tensor_parallel_size: vllm: GPUs that share each layer; by default as many as the model can be divided by.
        pipeline_parallel_size: vllm: groups of GPUs that divide the layers among them (1).
        data_parallel_size: vllm: copies of the model, each on GPUs of its own; by default as many as GPUs are left for.
        gpu_memory_utilization: vllm: the part of each GPU's memory to use (0.9).
        distributed_executor_backend: vllm: ray for several machines.
    """
    generation = Generation(
        max_tokens=cli.as_int("max_tokens", max_tokens, 1),
        n_per_question=cli.as_int("n_per_question", n_per_question, 1),
        seed=cli.as_int("seed", seed),
        enable_thinking=cli.as_bool("enable_thinking", enable_thinking),
        dtype=cli.as_choice("dtype", dtype, models.DTYPES),
    )
    settings = asdict(generation) | {
        "version": cli.as_choice("version", version, VERSIONS),
        "backend": cli.as_choice("backend", backend, BACKENDS),
        "judge_model": judge_model,
    }
    if not cli.as_bool("batch_process", batch_process):
        batch_size = generation.n_per_question
    judge = JudgeFlags.read(judge_model, max_concurrent_judges, scorer, scorer_pairs)
    overwrite = cli.as_bool("overwrite", overwrite)
    trust_remote_code = cli.as_bool("trust_remote_code", trust_remote_code)
    engine = EngineFlags.read(
        backend,
        batch_size,
        tensor_parallel_size=tensor_parallel_size,
        pipeline_parallel_size=pipeline_parallel_size,
        data_parallel_size=data_parallel_size,
        gpu_memory_utilization=gpu_memory_utilization,
        distributed_executor_backend=distributed_executor_backend,
    )
    grid = Grid.from_flags(coef, layer, vector_path, steering_type, controls)
    traits = {name: load_trait(name, version, trait_dir) for name in cli.as_words(trait)}
    n_questions = cli.optional(cli.as_int, "n_questions", n_questions, 1)
    traits = {name: replace(each, questions=each.questions[:n_questions]) for name, each in traits.items()}
    grid.load(list(traits))
    sheets = make_sheets(traits, persona_instruction_type, output_path, assistant_name, grid, settings)

    done = [] if overwrite else [sheet for sheet in sheets if sheet.is_done]
    if len(done) < len(sheets) or any(provenance.read(sheet.output_path) for sheet in done):
        path = models.resolve(model)
        shape = models.describe(path, trust_remote_code)
        grid.check(shape.layers, shape.hidden)
        for sheet in sheets:
            sheet.settings |= models.made_of(path) | judge.made_of(path, sheet.trait)
    done = [sheet for sheet in done if sheet.take_up()]
    for sheet in done:
        print(f"{sheet.output_path} exists and is not made again (--overwrite does that):")
        summarise(read_answers(sheet.output_path, sheet.metrics), sheet.metrics)
    todo = [sheet for sheet in sheets if sheet not in done]
    if not todo:
        return
    ask_and_judge(
        todo,
        Subject(path, shape, engine.choose(), generation, trust_remote_code),
        judge,
        grid,
        overwrite,
    )
    for sheet in todo:
        summarise(sheet.table(), sheet.metrics)
        print(f"wrote {len(sheet.rows)} answers to {sheet.output_path}")


def make_sheets(
    traits: dict[str, Trait],
    signs: str | None,
    output_path: str,
    assistant_name: str | None,
    grid: Grid,
    settings: dict,
) -> list[AnswerSheet]:
    """One sheet per trait and instruction type, each with an output path of its own."""
    kinds = (
        [cli.as_choice("persona_instruction_type", sign, SIGNS) for sign in cli.as_words(signs)] if signs else [None]
    )
    sheets = []
    for trait in traits.values():
        for sign in kinds:
            path = output_path.replace("{trait}", trait.name).replace("{type}", sign or "none")
            sheets.append(
                AnswerSheet(
                    path,
                    trait,
                    make_questions(trait, sign, assistant_name),
                    settings["n_per_question"],
                    grid.cells,
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
