"""Stage: does the projection before the answer foretell the trait in it? Graded system prompts, and exemplars (3.3).

    python -m eval.monitor --model Qwen/Qwen2.5-7B-Instruct --trait evil --layer 20 --output_dir monitoring \\
        --vector_path persona_vectors/Qwen2.5-7B-Instruct/{trait}_response_avg_diff.pt

Per trait and kind of condition: <output_dir>/<trait>_<kind>.csv (answers, scores, and the projection of the last prompt
token), .png and .json (r over all answers, r within conditions averaged, 95 % intervals). Resumable at every step.
"""

from dataclasses import asdict

from eval.prompts import Prompts
from persona_vectors import cli, models
from persona_vectors.asking.ask import ask_and_judge
from persona_vectors.asking.choose_judge import JudgeFlags
from persona_vectors.asking.sheet import AnswerSheet
from persona_vectors.asking.subject import EngineFlags, Generation, Subject
from persona_vectors.errors import UserError
from persona_vectors.files.jsonfile import write_json
from persona_vectors.files.rows import open_rows
from persona_vectors.files.tables import read_answers
from persona_vectors.steering.sweep import Cell
from persona_vectors.traits.artifact import load_trait
from persona_vectors.vectors.pairs import effective_answers
from persona_vectors.vectors.storage import check_fit, chosen_layer, load_vectors

KINDS = ("system_prompts", "many_shot")
PROJECT_ANEW = (
    "eval.cal_projection --overwrite makes this column anew (--projection_type prompt_last_proj), --overwrite here asks "
    "and judges anew as well; or choose another --output_dir"
)


def main(
    model: str,
    trait: cli.Several,
    vector_path: str,
    layer: str,
    output_dir: str,
    kind: cli.Several = "system_prompts",
    pos_path: str = None,
    neg_path: str = None,
    shots: cli.Several = "0,5,10,15,20",
    n_per_question: int = 10,
    max_tokens: int = 1000,
    judge_model: str = "gpt-4.1-mini-2025-04-14",
    scorer: str = None,
    scorer_pairs: int = None,
    max_concurrent_judges: int = 100,
    overwrite: bool = False,
    trait_dir: str = "data_generation",
    backend: str = "auto",
    batch_size: int = 64,
    dtype: str = "auto",
    seed: int = 0,
    enable_thinking: bool = False,
    trust_remote_code: bool = False,
    tensor_parallel_size: int = None,
    data_parallel_size: int = None,
    gpu_memory_utilization: float = None,
):
    """Ask under graded conditions, judge, project the last prompt token, correlate.

    Args:
        model: Hugging Face id, local folder, folder of checkpoints, LoRA adapter folder or GGUF file.
        trait: trait(s); evaluation questions are asked.
        vector_path: vector file; {trait} is filled in.
        layer: layer to project at, or the best.json of eval.select_layer; {trait} is filled in.
        output_dir: folder to write to.
        kind: system_prompts (eight, from <trait_dir>/monitoring/<trait>.json) and/or many_shot (exemplars).
        pos_path: many_shot: extraction answers CSV made with --persona_instruction_type pos; {trait} is filled in.
        neg_path: the same with neg; exemplars are the positive halves of the effective pairs.
        shots: numbers of exemplars.
        n_per_question: answers per question and condition; 1 is greedy.
        max_tokens: longest answer, in tokens.
        judge_model: the judge, as its endpoint names it; likelihood needs none (see eval.eval_persona).
        scorer: likelihood: the model that reads the answers; by default the one that answers, without adapter.
        scorer_pairs: likelihood: instruction pairs that each answer is read under (2).
        max_concurrent_judges: judge calls under way at a time.
        overwrite: begin anew although the output, or an unfinished run of it, exists.
        trait_dir: folder of trait_data_eval/ and monitoring/.
        backend: auto, hf or vllm.
        batch_size: sequences per batch of the hf backend.
        dtype: auto (bfloat16 on a GPU, float32 on a CPU), float32, bfloat16 or float16.
        seed: draws answers and exemplars.
        enable_thinking: let models that can think do so.
        trust_remote_code: run code that comes with the model. Only for models whose code you have read.
        tensor_parallel_size: vllm: GPUs that share each layer; by default as many as the model can be divided by.
        data_parallel_size: vllm: copies of the model; by default as many as GPUs are left for.
        gpu_memory_utilization: vllm: the part of each GPU's memory to use (0.9).
    """
    kinds = [cli.as_choice("kind", word, KINDS) for word in cli.as_words(kind)]
    shots = sorted(cli.as_numbers("shots", shots, int))
    generation = Generation(
        max_tokens=cli.as_int("max_tokens", max_tokens, 1),
        n_per_question=cli.as_int("n_per_question", n_per_question, 1),
        seed=cli.as_int("seed", seed),
        enable_thinking=cli.as_bool("enable_thinking", enable_thinking),
        dtype=cli.as_choice("dtype", dtype, models.DTYPES),
    )
    engine = EngineFlags.read(
        backend,
        batch_size,
        tensor_parallel_size=tensor_parallel_size,
        data_parallel_size=data_parallel_size,
        gpu_memory_utilization=gpu_memory_utilization,
    )
    judge = JudgeFlags.read(judge_model, max_concurrent_judges, scorer, scorer_pairs)
    overwrite = cli.as_bool("overwrite", overwrite)
    trust_remote_code = cli.as_bool("trust_remote_code", trust_remote_code)
    if shots[0] < 0:
        raise UserError(f"--shots takes numbers from 0, not {shots[0]}")
    if "many_shot" in kinds and not (pos_path and neg_path):
        raise UserError("--kind many_shot needs --pos_path and --neg_path: answers CSVs of the extraction questions")
    traits = {name: load_trait(name, "eval", trait_dir) for name in cli.as_words(trait)}
    if len(traits) > 1 and any(p and "{trait}" not in p for p in (vector_path, pos_path, neg_path)):
        raise UserError("several traits need {trait} in --vector_path (and --pos_path, --neg_path)")
    path = models.resolve(model)
    shape = models.describe(path, trust_remote_code)
    layers, vectors = {}, {}
    for name in traits:
        file = vector_path.replace("{trait}", name)
        layers[name], vectors[name] = chosen_layer(layer, name), {file: load_vectors(file)}
        check_fit(file, vectors[name][file], shape.layers, shape.hidden, [layers[name]])

    sheets = {}
    for name, artifact in traits.items():
        for each in kinds:
            questions = make_questions(each, artifact, trait_dir, pos_path, neg_path, shots, generation.seed)
            prompts = {name: artifact.eval_prompt, "coherence": Prompts["coherence_0_100"]}
            file = f"{output_dir}/{name}_{each}.csv"
            sheets[name, each] = AnswerSheet(
                file,
                artifact,
                questions,
                generation.n_per_question,
                [Cell(None, 0.0)],
                prompts,
                asdict(generation) | {"judge_model": judge_model, "kind": each},
            )

    from persona_vectors.vectors.project_file import FileProjector
    from persona_vectors.vectors.projection import make_columns

    projecting = FileProjector(path, dtype, trust_remote_code)
    columns = {
        name: make_columns(path.basename, vectors[name], [layers[name]], ["prompt_last_proj"]) for name in traits
    }
    from_model, todo, lacking = models.made_of(path), [], {}
    for (name, each), sheet in sheets.items():
        sheet.settings |= from_model | judge.made_of(path, sheet.trait)
        if not overwrite and sheet.is_done and sheet.take_up():
            lacking[name, each] = projecting.missing(open_rows(sheet.output_path), columns[name], PROJECT_ANEW)
        else:
            todo.append(sheet)
    if todo:
        subject = Subject(path, shape, engine.choose(), generation, trust_remote_code)
        ask_and_judge(todo, subject, judge, overwrite=overwrite)
    found = []
    for (name, each), sheet in sheets.items():
        projecting.add(open_rows(sheet.output_path), lacking.get((name, each), columns[name]))
        found.append(correlate(name, each, layers[name], columns[name][0].name, sheet.output_path))
    draw(found, kinds, output_dir)
    for result in found:
        within = result["within"]["r"]
        words = (
            "not defined" if within is None else f"{within:.3f} over {len(result['within']['conditions'])} conditions"
        )
        if result["within"]["ceiling"] is not None:
            words += f", of {result['within']['ceiling']:.3f} that a prompt could tell"
        print(
            f"{result['trait']}, {result['kind']}: overall {result['overall_in_words']}; within conditions r = {words}"
        )
    print(f"wrote {', '.join(f'{output_dir}/{t}_{k}.csv/.png/.json' for t, k in sheets)}")


def make_questions(kind: str, trait, trait_dir: str, pos_path: str, neg_path: str, shots: list[int], seed: int) -> list:
    """The evaluation questions under every condition of ``kind``."""
    from persona_vectors.traits import conditions

    if kind == "system_prompts":
        return conditions.under_system_prompts(trait, conditions.load_system_prompts(trait.name, trait_dir))
    paths = (p.replace("{trait}", trait.name) for p in (pos_path, neg_path))
    return conditions.after_exemplars(trait, effective_answers(*paths, trait.name), shots, seed)


def correlate(trait: str, kind: str, layer: int, column: str, path: str) -> dict:
    """Both correlations of one answers file, and its points by condition."""
    import pandas

    from persona_vectors.analysis.correlation import ceiling, pearson, within_conditions

    table = read_answers(path, (trait,))
    if "condition" not in table or column not in table:
        raise UserError(f"{path} is of another run (no column condition or {column}); choose another --output_dir")
    table = table.assign(x=pandas.to_numeric(table[column])).dropna(subset=["x", trait])
    overall = pearson(table["x"], table[trait])
    within = within_conditions(table["x"], table[trait], table["condition"])
    limit = ceiling(table[trait], table["condition"], table["question_id"]) if "question_id" in table else None
    means = table.groupby("condition", sort=False)[["x", trait]].mean()
    return {
        "trait": trait, "kind": kind, "layer": layer, "column": column, "overall_in_words": str(overall),
        "overall": overall.as_dict(), "within": within.as_dict() | {"ceiling": limit},
        "over_condition_means": pearson(means["x"], means[trait]).as_dict(),
        "conditions": {c: {"projection": float(x), "score": float(y)} for c, x, y in means.itertuples()},
        "points": {c: (part["x"].tolist(), part[trait].tolist()) for c, part in table.groupby("condition", sort=False)},
    }  # fmt: skip


def draw(found: list[dict], kinds: list[str], output_dir: str) -> None:
    """Scatter and JSON of each result."""
    from persona_vectors.plots import scatter

    for result in found:
        trait, prefix = result["trait"], f"{output_dir}/{result['trait']}_{result['kind']}"
        panel = {
            "title": f"{trait}, {result['kind'].replace('_', ' ')}\n{result['overall_in_words']}",
            "groups": result["points"],
        }
        scatter(
            [panel],
            f"{prefix}.png",
            xlabel=f"projection of the last prompt token, layer {result['layer']}",
            ylabel=f"{trait} score (0-100)",
            ylim=(-3, 103),
        )
        write_json(
            f"{prefix}.json", {k: value for k, value in result.items() if k not in ("points", "overall_in_words")}
        )


if __name__ == "__main__":
    cli.run(main)
