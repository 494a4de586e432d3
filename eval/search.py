"""Stage: the layer and the dose to steer with, by a search instead of a grid: fewer cells for the same result.

    python -m eval.search --model Qwen/Qwen2.5-7B-Instruct --trait evil --output_path evil_search.csv \\
        --vector_path persona_vectors/Qwen2.5-7B-Instruct/evil_response_avg_diff.pt --dose 0.1,1

Looks for the highest trait score among cells whose answers stay coherent, by Bayesian optimisation in rounds of four cells
(Optuna; pip install optuna==5.0.0 scipy). Negative doses look for the lowest. --max_kl leaves cells aside that move the model's
next token too far from the unsteered model's, as eval.capability measures it. Writes the sweep that it asked, for
eval.select_layer and eval.vector_quality, and <output>_best.json. The same command goes on where it was stopped; more
--trials go on where it ended. Rounds are kept in <output>.search/.
"""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from persona_vectors import cli, models
from persona_vectors.capability import texts
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.atomic import locked, make_folder
from persona_vectors.files.fingerprints import of_json
from persona_vectors.files.jsonfile import write_json
from persona_vectors.files.tables import read_scored, write_table
from persona_vectors.options import EngineOptions, JudgeOptions, ModelOptions, SamplingOptions
from persona_vectors.steering.intervention import POSITIONS
from persona_vectors.steering.sweep import Cell, Grid
from persona_vectors.traits.artifact import Trait, load_trait, make_questions

if TYPE_CHECKING:
    from persona_vectors.asking.choose_judge import JudgeSettings
    from persona_vectors.asking.subject import Subject


SMALLEST = 0.001  # doses that are searched have three decimals
KL_TOKENS = 64  # longest of the unsteered model's answers over which KL is measured, as in eval.capability


@cli.command
def main(
    model: str,
    trait: str,
    vector_path: str,
    output_path: str,
    dose: cli.Distinct[float] = (0.1, 1.2),
    layer: cli.Distinct[int] | None = None,
    trials: cli.Count = 16,
    min_coherence: cli.Score = 75.0,
    max_kl: Annotated[Annotated[float, cli.Between(0)] | None, cli.InFull] = None,
    steering_type: Literal[*POSITIONS] = "response",
    *,
    n_questions: cli.Count | None = None,
    generation: SamplingOptions,
    judge: JudgeOptions,
    overwrite: bool = False,
    trait_dir: str = "data_generation",
    engine: EngineOptions,
    loading: ModelOptions,
):
    """Search for the layer and dose that bring out the most of a trait in coherent answers.

    Args:
        model: Hugging Face id, local folder, folder of checkpoints, LoRA adapter folder or GGUF file.
        trait: name of the artifact; its evaluation questions are asked.
        vector_path: vector file that tells how long activations are (generate_vec.py); {trait} is filled in.
        output_path: CSV of the sweep to write.
        dose: smallest and largest dose, coef * |v_l| / mean |h_l|; both negative to lower the trait.
        layer: lowest and highest layer (1 and the last but one).
        trials: cells to ask in all.
        min_coherence: mean coherence that a cell has to keep; 0 takes cells as they are, scored for coherence or not.
        max_kl: largest KL of the next token's distribution from the unsteered model's, in nats per token, that a cell may have
            (hf alone).
        steering_type: which positions: response (last prompt token and generated ones), prompt, or all.
        n_questions: ask only the first so many of the artifact's questions.
        overwrite: begin anew although the search, or its output, exists.
        trait_dir: folder of trait_data_eval/.
    """
    from persona_vectors.analysis.cell_search import CellSearch, Range, check_installed
    from persona_vectors.asking.subject import Subject
    from persona_vectors.engines.kept import kept_loaded

    check_installed()
    check(dose, judge, min_coherence)
    check_backend(max_kl, engine.backend)
    artifact = load_trait(trait, "eval", trait_dir)
    artifact = replace(artifact, questions=artifact.questions[:n_questions])
    generated, judging = generation.with_dtype(loading.dtype), judge.settings()
    path = loading.resolve(model)
    shape = models.describe(path, loading.trust_remote_code)
    within = Range(layers_of(layer, shape.layers), tuple(sorted(dose)))
    layers = list(range(within.layers[0], within.layers[1] + 1))
    grid = Grid.of([0.0], layers, vector_path, steering_type, doses=dose)
    grid.load([trait])
    grid.check(shape.layers, shape.hidden)
    settings = asdict(generated) | {"version": "eval", "backend": engine.backend, "judge_model": judge.judge_model}
    settings |= models.made_of(path) | judging.made_of(path, artifact) | grid.settings(trait)
    del settings["cells"]
    settings |= ceiling(max_kl)
    answering = engine.settings().choose(path)
    check_backend(max_kl, answering.backend)
    subject = Subject(path, shape, answering, generated, loading.trust_remote_code)

    folder = Path(f"{output_path}.search")
    if Path(output_path).exists() and not folder.exists() and not overwrite:
        raise UserError(f"{output_path} exists and is of no search; {provenance.REMEDY}")
    make_folder(folder.parent)
    with locked(Path(f"{output_path}.lock"), output_path), kept_loaded():
        if overwrite:
            shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder)
        rounds = Rounds(artifact, folder, settings, grid, subject, judging, min_coherence, max_kl)
        search = CellSearch(folder, within, min_coherence, rounds.made_from, generation.seed, max_kl)
        while cells := search.round(trials):
            found = rounds.ask(search.number, cells)
            search.tell(found)
            print(f"round {search.number}: " + ", ".join(map(in_short, found.items())))
        report(rounds, output_path, within.lowers)


def check(dose: tuple[float, ...], judge: JudgeOptions, min_coherence: float) -> None:
    """Refuse flags that fit no search."""
    from persona_vectors.asking.sheet import UNJUDGED

    if len(dose) != 2 or not min(dose) * max(dose) > 0 or min(map(abs, dose)) < SMALLEST:
        raise UserError(
            "--dose takes the smallest and the largest dose, both of one sign and neither 0 (0.001 at least), as 0.1,1.2"
        )
    if judge.judge_model == UNJUDGED:
        raise UserError(f"--judge_model {UNJUDGED} leaves nothing to search by")
    if judge.coherence_prompt == "none" and min_coherence:
        raise UserError(
            f"--coherence_prompt none leaves --min_coherence {min_coherence:g} unchecked; --min_coherence 0 does without"
        )


def ceiling(max_kl: float | None) -> dict:
    """What a search depends on of its ceiling of KL."""
    return {} if max_kl is None else {"max_kl": max_kl, "kl_requests": of_json("harmless", texts.requests("harmless"))}


def check_backend(max_kl: float | None, backend: str) -> None:
    """Refuse a ceiling of KL where the engine is not transformers', which measures it."""
    if max_kl is not None and backend == "vllm":
        raise UserError(
            "--max_kl is measured with transformers: it cannot be given beside --backend vllm (or auto, where that is vllm)"
        )


def layers_of(layer: tuple[int, ...] | None, layers: int) -> tuple[int, int]:
    """Lowest and highest layer; the last row of a vector file is after the final norm, and not searched unless asked for."""
    lowest, highest = (1, max(1, layers - 1)) if layer is None else (min(layer), max(layer))
    if not 1 <= lowest <= highest <= layers:
        raise UserError(f"--layer takes the lowest and the highest layer, within 1..{layers}")
    return lowest, highest


def in_short(cell: tuple[tuple[int, float], tuple[float, ...]]) -> str:
    """A cell's means, for the line of its round."""
    (layer, dose), (score, coherence, *drift) = cell
    told = [f"coherence {coherence:.1f}"] if coherence == coherence else []
    told += [f"KL {kl:.3g}" for kl in drift]
    means = f" ({', '.join(told)})" if told else ""
    return f"layer {layer} dose {dose:g}: {score:.1f}{means}"


@dataclass
class Rounds:
    """The rounds of a search: one answers CSV each, in the search's folder."""

    trait: Trait
    folder: Path
    settings: Mapping
    grid: Grid
    subject: "Subject"
    judging: "JudgeSettings"
    min_coherence: float
    max_kl: float | None = None

    def sheet_of(self, cells: list[Cell], name: str) -> Any:
        """The sheet of a round; of two cells or more it has the columns coef, layer and dose."""
        from persona_vectors.asking.sheet import AnswerSheet

        prompts = self.judging.prompts(self.trait)
        settings = {**self.settings, "cells": [cell.key for cell in cells]}
        path, questions = str(self.folder / f"{name}.csv"), make_questions(self.trait)
        return AnswerSheet(
            path, self.trait, questions, self.subject.generation.n_per_question, cells, prompts, settings
        )

    @property
    def made_from(self) -> dict:
        """What every round depends on."""
        return {name: value for name, value in self.sheet_of([], "none").settings.items() if name != "cells"}

    def ask(self, number: int, cells: list[tuple[int, float]]) -> dict[tuple[int, float], tuple[float, ...]]:
        """Have a round's cells answered and judged, those of an earlier round aside: {(layer, dose): (score, coherence)}, with
        their KL where it has a ceiling.
        """
        from persona_vectors.asking.ask import ask_and_judge

        known, drift = self.means(), self.drift(cells)  # before a scorer may take the engine's place
        new = [self.grid.with_dose(self.trait.name, Cell(*cell)) for cell in dict.fromkeys(cells) if cell not in known]
        if new:
            unsteered = [Cell(new[0].layer, 0.0, dose=0.0)] * (not known or len(new) == 1)
            ask_and_judge(
                [self.sheet_of([*unsteered, *new], f"round{number:03d}")], self.subject, self.judging, self.grid
            )
            known = self.means()
        nothing = (float("nan"), float("nan"))
        return {cell: (*known.get(cell, nothing), *([drift[cell]] if drift else [])) for cell in cells}

    def drift(self, cells: Iterable[tuple[int, float]]) -> dict[tuple[int, float], float]:
        """{(layer, dose): KL} of cells, each measured once and kept in the search's folder; nothing where it has no ceiling."""
        if self.max_kl is None:
            return {}
        from persona_vectors.capability.sheet import CapabilitySheet
        from persona_vectors.capability.subject import Subject as Measured

        asked, generation = {"harmless": texts.requests("harmless")}, self.subject.generation
        settings = (self.subject.path, generation.dtype, self.subject.trust_remote_code, self.subject.engine.batch_size)
        measured = Measured(*settings, harness=None, asked=asked, max_tokens=min(KL_TOKENS, generation.max_tokens))
        own = {cell: self.grid.with_dose(self.trait.name, Cell(*cell)) for cell in cells}
        sheet = CapabilitySheet(str(self.folder / "kl"), list(own.values()), ("kl",), dict(self.made_from))
        with sheet.opened():
            measured.fill(sheet, lambda cell: self.grid.interventions(self.trait.name, cell))
        return {cell: sheet.done[sheet.key(at, "kl")]["values"][0]["value"] for cell, at in own.items()}

    def tables(self) -> Any:
        """The answers of all rounds, (unsteered, steered), each once; None before the first."""
        import pandas

        tables = [
            read_scored(path, self.trait.name, self.min_coherence)
            for path in sorted(self.folder.glob("round[0-9]*.csv"))
        ]
        if not tables:
            return None
        steered = [table[table["coef"].astype(float) != 0] for table in tables]
        return tables[0][tables[0]["coef"].astype(float) == 0], pandas.concat(steered, ignore_index=True)

    def means(self) -> dict[tuple[int, float], tuple[float, float]]:
        """{(layer, dose): (score, coherence)} of all rounds."""
        tables = self.tables()
        if tables is None:
            return {}
        means = tables[1].groupby(["layer", "dose"])[[self.trait.name, "coherence"]].mean()
        asked = tables[1][["layer", "dose", "coef"]].drop_duplicates()
        for layer, dose, coef in asked.itertuples(index=False, name=None):
            now = self.grid.with_dose(self.trait.name, Cell(int(layer), float(dose))).coef
            if abs(now - float(coef)) > 1e-4 * abs(now):
                raise UserError(
                    f"{self.folder} has dose {dose} at layer {layer} as coefficient {coef}, which is {now:g} now: the mean norms "
                    f"beside {self.grid.path_for(self.trait.name)} were written anew; {provenance.REMEDY}"
                )
        return {(int(layer), float(dose)): (score, coherent) for (layer, dose), score, coherent in means.itertuples()}


def report(rounds: Rounds, output_path: str, lowers: bool) -> None:
    """Write all rounds as one sweep and its recommendation; print both."""
    import pandas

    from persona_vectors.analysis.recommendation import in_words, recommend
    from persona_vectors.analysis.sweeps import cell_means, read_sweep
    from persona_vectors.asking.sheet import summarise

    (unsteered, steered), trait = rounds.tables(), rounds.trait.name
    layers = sorted(steered["layer"].unique(), key=int)
    parts = [part for layer in layers for part in (unsteered.assign(layer=layer), steered[steered["layer"] == layer])]
    with provenance.writing(output_path, rounds.made_from):
        write_table(pandas.concat(parts), output_path)
    summarise(steered, tuple(rounds.judging.prompts(rounds.trait)))
    cells = cell_means(read_sweep([output_path], trait, rounds.min_coherence), trait)
    best: dict = {"trait": trait, "file": output_path}
    if rounds.max_kl is not None:
        asked = cells[cells["coef"] != 0].set_index(["layer", "dose"]).index
        drift = rounds.drift((int(layer), float(dose)) for layer, dose in asked)
        cells["kl"] = [drift.get((layer, dose), 0.0) for layer, dose in zip(cells["layer"], cells["dose"], strict=True)]
        best["cells"] = cells.loc[cells["coef"] != 0, ["layer", "coef", "dose", "kl"]].to_dict("records")
    best |= recommend(cells, rounds.min_coherence, lowers, rounds.max_kl)
    path = str(Path(output_path).with_suffix("")) + "_best.json"
    with provenance.writing(path, rounds.made_from):
        write_json(path, best)
    print(f"{in_words(best)}\nasked {len(cells[cells['coef'] != 0])} cells, {len(unsteered) + len(steered)} answers")
    print(f"wrote {output_path}, {path}")


if __name__ == "__main__":
    cli.run(main)
