"""Stage: what steering costs. Tasks of lm-evaluation-harness and measures of our own, steered and unsteered.

    python -m eval.capability --model Qwen/Qwen2.5-7B-Instruct --layer 20 --coef 0,1,2 --controls 1 \\
        --vector_path persona_vectors/Qwen2.5-7B-Instruct/evil_response_avg_diff.pt --tasks kl,perplexity,refusals,mmlu \\
        --output capability

kl: how far the next token's distribution moves, over the unsteered model's own answers. perplexity: of plain English.
refusals: harmless requests refused, harmful ones not refused. Other names are lm-eval's, or of --task_dir; in tasks that
compare likelihoods, `response` steers from the last token of each question on. Writes <output>.csv (coef, layer, control,
task, measure, value, standard_error, n, and dose where it is known), <output>.json and <output>.png. After a kill, the same command goes on.
"""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from persona_vectors import cli, models
from persona_vectors.capability import texts
from persona_vectors.capability.sheet import CapabilitySheet, in_words, read
from persona_vectors.capability.subject import Subject, first
from persona_vectors.engines import choose_backend
from persona_vectors.errors import UserError
from persona_vectors.files.atomic import make_folder
from persona_vectors.files.fingerprints import of_json
from persona_vectors.models.chat_template import check_template
from persona_vectors.options import Backend, ModelOptions, SteeringOptions
from persona_vectors.steering.broken import beyond
from persona_vectors.steering.intervention import most_ablated
from persona_vectors.vectors.storage import vector_name

if TYPE_CHECKING:
    from persona_vectors.capability.tasks import Tasks


@cli.command
def main(
    model: str,
    output: str,
    steering: SteeringOptions,
    *,
    tasks: cli.Distinct[str] = ("kl", "perplexity", "refusals"),
    task_dir: str | None = None,
    limit: float | None = None,
    num_fewshot: Annotated[int, cli.Between(0)] | None = None,
    apply_chat_template: bool = False,
    harmless_path: str | None = None,
    harmful_path: str | None = None,
    max_tokens: cli.Count = 64,
    batch_size: cli.Count = 8,
    overwrite: bool = False,
    backend: Backend = "hf",
    loading: ModelOptions,
):
    """Measure what steering does to abilities; one loaded model, each measurement kept as soon as it is made.

    Args:
        model: Hugging Face id, local folder, folder of checkpoints, LoRA adapter folder or GGUF file.
        output: beginning of the files to write.
        tasks: kl, perplexity, refusals, and tasks or groups of lm-evaluation-harness.
        task_dir: folder of task files (YAML) of your own.
        limit: only the first so many questions of each task, pages or requests; below 1, this share of them.
        num_fewshot: worked examples before each question, instead of the task's own number.
        apply_chat_template: put the questions of tasks into the model's chat template.
        harmless_path: requests that should be answered, one a line, or a CSV or JSONL; by default twenty of our own.
        harmful_path: the same of requests that should be refused.
        max_tokens: longest answer to a request, in tokens; tasks have their own limits.
        batch_size: questions that are read, or answers that are written, at a time, by the hf backend.
        overwrite: begin anew although the output, or an unfinished run of it, exists.
        backend: the engine: vLLM or transformers (hf); auto takes vLLM where it can run and do these tasks.
    """
    check(steering.vector_path, limit)
    grid, name = steering.grid(), vector_name(steering.vector_path or "none")
    kinds = {"harmless": harmless_path, "harmful": harmful_path}
    asked = {kind: first(texts.requests(kind, file), limit) for kind, file in kinds.items()}
    grid.load([name])
    path = loading.resolve(model)
    shape = models.describe(path, loading.trust_remote_code)
    grid.check(shape.layers, shape.hidden)
    own = {"kl": asked["harmless"], "perplexity": first(texts.pages(), limit), "refusals": [asked, texts.OPENINGS]}
    harness = load_tasks([task for task in tasks if task not in own], task_dir, num_fewshot, grid.positions)
    backend = choose_backend(backend, path.load_in_4bit, harness.not_by_vllm() if harness else None)
    content = {task: of_json(task, own[task]) if task in own else harness.fingerprint(task) for task in tasks}
    settings = {"dtype": loading.dtype, "limit": limit, "num_fewshot": num_fewshot, "max_tokens": max_tokens}
    settings |= {"apply_chat_template": apply_chat_template, "tasks": content, **grid.settings(name)}
    settings |= {} if backend == "hf" else {"backend": backend}  # a record without one is of hf
    sheet = CapabilitySheet(output, grid.cells_of(name), tasks, {**models.made_of(path), **settings})
    if not overwrite and sheet.is_done and sheet.take_up():
        return show(sheet)
    if apply_chat_template or not {"kl", "refusals"}.isdisjoint(tasks):
        check_template(models.load_tokenizer(path, loading.trust_remote_code))
    begin(sheet, warning=beyond(grid, name))
    most = max(most_ablated(grid.interventions(name, cell)) for cell in sheet.cells)
    subject = Subject(
        path, loading.dtype, loading.trust_remote_code, batch_size, harness, asked, max_tokens, limit,
        apply_chat_template, backend, most,
    )  # fmt: skip
    with sheet.opened(overwrite), closing(subject):
        subject.fill(sheet, lambda cell: grid.interventions(name, cell))
        about = {"model": model, "vector": grid.vector_path, "positions": grid.positions, "limit": limit}
        table = sheet.write({**about, "requests": asked, "refusals_begin": texts.OPENINGS})
    print(f"{in_words(table)}\nwrote {output}.csv, {output}.json, {output}.png")


def show(sheet: CapabilitySheet) -> None:
    """Print what is there already."""
    print(f"{sheet.path} exists and is not made again (--overwrite does that):\n{in_words(read(sheet.path))}")


def begin(sheet: CapabilitySheet, warning: str) -> None:
    """Make the output's folder, and say what a steering is warned of."""
    if warning:
        print(f"warning: {warning}")
    make_folder(Path(sheet.path).parent)


def check(vector_path: str | None, limit: float | None) -> None:
    """Refuse values that fit no run."""
    if vector_path and "{trait}" in vector_path:
        raise UserError(f"--vector_path {vector_path}: one vector at a time is measured here; name its file")
    if limit is not None and (limit <= 0 or (limit > 1 and limit % 1)):
        raise UserError(f"--limit takes a whole number, or a share between 0 and 1, not {limit:g}")


def load_tasks(names: list[str], folder: str | None, num_fewshot: int | None, positions: str) -> "Tasks | None":
    """The tasks of lm-eval, with their data; None where none is named."""
    if not names:
        if folder is not None:
            raise UserError(f"--task_dir {folder}: --tasks names none of its tasks")
        return None
    from persona_vectors.capability.tasks import Tasks

    found = Tasks(names, folder, num_fewshot)
    found.check_positions(positions)
    return found


if __name__ == "__main__":
    cli.run(main)
