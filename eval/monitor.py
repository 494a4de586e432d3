"""Stage: does the projection before the answer foretell the trait in it? Graded system prompts, and exemplars (3.3).

    python -m eval.monitor --model Qwen/Qwen2.5-7B-Instruct --trait evil --layer 20 --output_dir monitoring \\
        --vector_path persona_vectors/Qwen2.5-7B-Instruct/{trait}_response_avg_diff.pt

Per trait and kind of condition: <output_dir>/<trait>_<kind>.csv (answers, scores, and the projection of the last prompt
token), .png and .json (r over all answers, r within conditions averaged, 95 % intervals). Resumable at every step.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from persona_vectors import cli, models
from persona_vectors.asking.ask import ask_and_judge, dry_run
from persona_vectors.asking.choose_judge import JudgeSettings
from persona_vectors.asking.sheet import UNJUDGED, AnswerSheet
from persona_vectors.asking.subject import Subject
from persona_vectors.errors import UserError
from persona_vectors.files.jsonfile import write_json
from persona_vectors.files.rows import open_rows
from persona_vectors.files.tables import read_answers
from persona_vectors.options import CostOptions, EngineOptions, JudgeOptions, ModelOptions, SamplingOptions
from persona_vectors.steering.steering_list import ListGrid
from persona_vectors.steering.sweep import Grid
from persona_vectors.traits.artifact import Question, Trait, load_trait
from persona_vectors.vectors.pairs import MIN_COHERENCE, effective_answers
from persona_vectors.vectors.storage import check_fit, chosen_layer, is_missing, load_vectors

KINDS = ("system_prompts", "many_shot")
PROJECT_ANEW = (
    "eval.cal_projection --overwrite makes this column anew (--projection_type prompt_last_proj), --overwrite here asks "
    "and judges anew as well; or choose another --output_dir"
)
STEERED_ANEW = "--overwrite asks and judges anew as well; or choose another --output_dir"


@cli.command
def main(
    model: str,
    trait: cli.Several[str],
    vector_path: str,
    layer: str,
    output_dir: str,
    kind: cli.Several[Literal[KINDS]] = ("system_prompts",),
    pos_path: str | None = None,
    neg_path: str | None = None,
    shots: cli.Distinct[Annotated[int, cli.Between(0)]] = (0, 5, 10, 15, 20),
    *,
    steering: str | None = None,
    min_coherence: Annotated[cli.Score, cli.InFull] = MIN_COHERENCE,
    generation: SamplingOptions,
    judge: JudgeOptions,
    costs: CostOptions,
    overwrite: bool = False,
    trait_dir: str = "data_generation",
    engine: EngineOptions,
    loading: ModelOptions,
):
    """Ask under graded conditions, judge, project the last prompt token, correlate.

    Args:
        model: Hugging Face id, local folder, folder of checkpoints, LoRA adapter folder or GGUF file.
        trait: trait(s); evaluation questions are asked.
        vector_path: vector file; {trait} is filled in.
        layer: layer to project at, or the best.json of eval.select_layer; {trait} is filled in.
        output_dir: folder to write to.
        kind: which conditions: system_prompts (eight, from <trait_dir>/monitoring/<trait>.json) and/or many_shot (exemplars).
        pos_path: many_shot: extraction answers CSV made with --persona_instruction_type pos; {trait} is filled in.
        neg_path: the same with neg; exemplars are the positive halves of the effective pairs.
        shots: numbers of exemplars.
        steering: JSON list of {vector, layer, coef, positions, kind} by which the model is steered, while it answers and
            while its last prompt token is read; {trait} is filled in.
        min_coherence: many_shot: both answers of an effective pair are at least so coherent; 0 takes them as they are.
        overwrite: begin anew although the output, or an unfinished run of it, exists.
        trait_dir: folder of trait_data_eval/ and monitoring/.
    """
    generated, judging = generation.with_dtype(loading.dtype), costs.limiting(judge.settings())
    check_flags(judge.judge_model, trait, kind, vector_path, pos_path, neg_path)
    traits = {name: load_trait(name, "eval", trait_dir) for name in trait}
    path = loading.resolve(model)
    shape = models.describe(path, loading.trust_remote_code)
    grid = read_grid(steering, list(traits), shape, may_come=costs.dry_run)
    layers, vectors = read_vectors(vector_path, layer, there(vector_path, layer, traits, grid, costs.dry_run), shape)
    conditions = Conditions(trait_dir, pos_path, neg_path, sorted(shots), generation.seed, min_coherence, costs.dry_run)
    settings = asdict(generated) | {"judge_model": judge.judge_model}
    sheets = make_sheets(output_dir, traits, kind, conditions, settings, grid, judging)

    from persona_vectors.vectors.project_file import FileProjector
    from persona_vectors.vectors.projection import make_columns

    projecting = FileProjector(path, loading.dtype, loading.trust_remote_code)
    columns = {t: make_columns(path.basename, vectors[t], [layers[t]], ["prompt_last_proj"]) for t in layers}
    from_model, todo, lacking = models.made_of(path), [], {}
    steered = {name: reading_under(grid, name) for name in layers}
    for (name, each), sheet in sheets.items():
        sheet.settings |= from_model | judging.made_of(path, sheet.trait)
        is_known = name not in grid.to_come and not conditions.to_come(each, name)
        if not overwrite and is_known and sheet.is_done and sheet.take_up():
            rows, remedy = open_rows(sheet.output_path), STEERED_ANEW if steering else PROJECT_ANEW
            if name in layers:
                lacking[name, each] = projecting.missing(rows, columns[name], remedy, steered[name])
        else:
            todo.append(sheet)
    if todo or costs.dry_run:
        subject = Subject(path, shape, engine.settings().choose(path), generated, loading.trust_remote_code)
        if costs.dry_run:
            return dry_run(todo, subject, judging, grid, overwrite, conditions.unknown(list(sheets)))
        ask_and_judge(todo, subject, judging, grid, overwrite)
    found = []
    for (name, each), sheet in sheets.items():
        projecting.add(open_rows(sheet.output_path), lacking.get((name, each), columns[name]), steered[name])
        found.append(correlate(name, each, layers[name], columns[name][0].name, sheet.output_path))
    draw(found, output_dir)
    print("\n".join(map(in_words, found)))
    print(f"wrote {', '.join(f'{output_dir}/{t}_{k}.csv/.png/.json' for t, k in sheets)}")


def check_flags(
    judge_model: str,
    traits: Sequence[str],
    kinds: Sequence[str],
    vector_path: str,
    pos_path: str | None,
    neg_path: str | None,
) -> None:
    """Refuse flags that do not go together."""
    if judge_model == UNJUDGED:
        raise UserError(f"--judge_model {UNJUDGED} leaves nothing to correlate projections with")
    if "many_shot" in kinds and not (pos_path and neg_path):
        raise UserError("--kind many_shot needs --pos_path and --neg_path: answers CSVs of the extraction questions")
    if len(set(traits)) > 1 and any(p and "{trait}" not in p for p in (vector_path, pos_path, neg_path)):
        raise UserError("several traits need {trait} in --vector_path (and --pos_path, --neg_path)")


def read_grid(steering: str | None, traits: Sequence[str], shape: models.Shape, may_come: bool = False) -> Grid:
    """The steering of a list's file, checked against the model; none without one."""
    grid = ListGrid.read(steering) if steering else Grid.of([0.0])
    grid.load(list(traits), may_come)
    grid.check(shape.layers, shape.hidden)
    return grid


def there(vector_path: str, layer: str, traits: Iterable[str], grid: Grid, may_come: bool) -> list[str]:
    """The traits whose prompts can be projected: all, but where it ``may_come`` those whose vector, layer and steering are there."""
    found = []
    for trait in traits:
        chosen = layer.replace("{trait}", trait)
        is_chosen = not chosen.endswith(".json") or Path(chosen).exists()
        has_all = is_chosen and not is_missing(vector_path.replace("{trait}", trait)) and trait not in grid.to_come
        found += [trait] if has_all or not may_come else []
    return found


def read_vectors(vector_path: str, layer: str, traits: Iterable[str], shape: models.Shape) -> tuple[dict, dict]:
    """{trait: its layer} and {trait: {file: [layers + 1, hidden]}}; vectors that do not fit the model are refused."""
    layers, vectors = {name: chosen_layer(layer, name) for name in traits}, {}
    for name in layers:
        file = vector_path.replace("{trait}", name)
        vectors[name] = {file: load_vectors(file)}
        check_fit(file, vectors[name][file], shape.layers, shape.hidden, [layers[name]])
    return layers, vectors


def make_sheets(
    output_dir: str,
    traits: dict[str, Trait],
    kinds: Sequence[str],
    conditions: "Conditions",
    settings: dict,
    grid: Grid,
    judging: JudgeSettings,
) -> dict[tuple[str, str], AnswerSheet]:
    """{(trait, kind): the answers and scores of a trait under the conditions of one kind}."""
    sheets = {}
    for name, trait in traits.items():
        steered = grid.settings(name) if is_steered(grid) else {}
        for kind in kinds:
            told = settings | {"kind": kind} | steered
            prompts = judging.prompts(trait)
            path, questions = f"{output_dir}/{name}_{kind}.csv", conditions.questions(kind, trait)
            sheets[name, kind] = AnswerSheet(
                path, trait, questions, settings["n_per_question"], grid.cells, prompts, told
            )
    return sheets


def is_steered(grid: Grid) -> bool:
    """Whether anything acts."""
    return any(cell.coef for cell in grid.cells)


def reading_under(grid: Grid, trait: str):
    """How the model is steered while a trait's prompts are read (``project_file.Steered``); None where it is not."""
    if not is_steered(grid):
        return None
    from persona_vectors.steering.steer import steer
    from persona_vectors.vectors.project_file import Steered

    made = grid.interventions(trait, grid.cells[0])
    return Steered({"steering": grid.settings(trait)["steering"]}, lambda model: steer(model, made))


@dataclass(frozen=True)
class Conditions:
    """Where the conditions come from, and what draws the exemplars; answers that ``may_come`` later are stood in for."""

    trait_dir: str
    pos_path: str | None
    neg_path: str | None
    shots: list[int]
    seed: int
    min_coherence: float
    may_come: bool = False

    def to_come(self, kind: str, trait: str) -> list[str]:
        """The files of answers to draw exemplars from that are not there yet."""
        files = (path.replace("{trait}", trait) for path in (self.pos_path, self.neg_path) if path)
        return [file for file in files if self.may_come and kind == "many_shot" and not Path(file).exists()]

    def unknown(self, made: Sequence[tuple[str, str]]) -> list[str]:
        """What cannot be known yet of (trait, kind)s, in words."""
        missing = [file for trait, kind in made for file in self.to_come(kind, trait)]
        if not missing:
            return []
        return [
            f"not there yet: {', '.join(missing)}; the exemplars' answers are not in the tokens of prompts, and whether there will "
            f"be {max(self.shots)} effective pairs of each trait is not known"
        ]

    def questions(self, kind: str, trait: Trait) -> list[Question]:
        """The evaluation questions under every condition of ``kind``."""
        from persona_vectors.traits import conditions

        if kind == "system_prompts":
            return conditions.under_system_prompts(trait, conditions.load_system_prompts(trait.name, self.trait_dir))
        if self.to_come(kind, trait.name):
            pool = [(trait.questions[k % len(trait.questions)], "") for k in range(max(self.shots))]
        else:
            paths = (p.replace("{trait}", trait.name) for p in (self.pos_path, self.neg_path))
            pool = effective_answers(*paths, trait.name, self.min_coherence)
        return conditions.after_exemplars(trait, pool, self.shots, self.seed)


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


def in_words(result: dict) -> str:
    """Both correlations in one line."""
    r, conditions = result["within"]["r"], result["within"]["conditions"]
    words = "not defined" if r is None else f"{r:.3f} over {len(conditions)} conditions"
    if result["within"]["ceiling"] is not None:
        words += f", of {result['within']['ceiling']:.3f} that a prompt could tell"
    return f"{result['trait']}, {result['kind']}: overall {result['overall_in_words']}; within conditions r = {words}"


def draw(found: list[dict], output_dir: str) -> None:
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
