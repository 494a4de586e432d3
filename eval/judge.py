"""Stage: have the answers of a file scored; adds score columns to it.

    python -m eval.judge --file_path answers.csv --prompt_file verbosity.txt --name verbosity
    python -m eval.judge --file_path answers.csv --trait evil --judge_model other --name evil_other coherence_other

Reads a CSV (answer, question) or a JSONL (messages), of any length and from any tool. A prompt is a text with {answer} and
perhaps {question}; --trait takes the artifact's own, and coherence beside it. All columns of all files are asked for in
one pass. Finished windows of rows are on disk: after a kill, the same command goes on from there. Scores that were paid for
before come from the cache of scores. A file is replaced when all of it is judged, and its record says by whom.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from persona_vectors import cli
from persona_vectors.asking.choose_judge import LIKELIHOOD, JudgeSettings
from persona_vectors.asking.judge_file import MOST_ROWS, PromptJudge, ScoreColumn, finish, judged_by, lacking, opened
from persona_vectors.asking.sheet import RESERVED, UNJUDGED
from persona_vectors.errors import UserError
from persona_vectors.files.resumable import WindowedWork, tidy
from persona_vectors.files.rows import Rows, open_rows
from persona_vectors.judge.judge import KINDS
from persona_vectors.options import JudgeOptions, ModelOptions
from persona_vectors.traits.artifact import VERSIONS, Trait, check_name, load_judge_prompt, load_trait

FIXED = RESERVED - {"coherence"}


@cli.command
def main(
    file_path: cli.Files,
    prompt_file: cli.Files | None = None,
    name: cli.Several[str] | None = None,
    trait: cli.Several[str] | None = None,
    *,
    kind: Literal[KINDS] = "0_100",
    judge: JudgeOptions,
    version: Literal[VERSIONS] = "extract",
    overwrite: bool = False,
    trait_dir: str = "data_generation",
    loading: ModelOptions,
):
    """Have the answers of CSV or JSONL files scored.

    Args:
        file_path: CSV(s) with answer (and question), or JSONL(s) with messages; each is replaced when all of it is judged.
        prompt_file: file(s) with a judge prompt: a text with {answer} and perhaps {question}.
        name: the new columns, one per prompt: prompt files, traits, then coherence. By default the files' names without
            ending, the traits, and coherence.
        trait: artifact(s) whose own judge prompt is asked, and coherence.
        kind: what the prompts ask for: a number 0_100 or 0_10, YES or NO as the first token (binary) or within a text
            (binary_text). Coherence is always 0_100.
        version: which artifact: extract or eval.
        overwrite: judge anew what exists already, and forget an unfinished run with other settings.
        trait_dir: folder of trait_data_extract/ and trait_data_eval/.
    """
    from tqdm import tqdm

    judging = judge.settings()
    if judging.model == UNJUDGED or len(judging.names) > 1:
        raise UserError(f"one judge at a time adds columns: --judge_model is {judging.model} (--name calls them apart)")
    if judging.batch:
        raise UserError(
            "--judge_batch goes with eval.eval_persona and eval.monitor: here scores are asked for one by one"
        )
    traits = [load_trait(one, version, trait_dir) for one in trait or ()]
    if judging.model == LIKELIHOOD:
        needs, records, open_judge = by_likelihood(judging, traits, prompt_file, name, kind, loading)
    else:
        needs, records, open_judge = by_prompts(judging, traits, prompt_file or (), name, kind)
    files = open_files(file_path, needs)
    works = []
    for rows in files:
        tidy(rows.path)
        columns = list(records) if overwrite else lacking(rows, records, print)
        if columns:
            settings = {"judged": {column: records[column] for column in columns}}
            works.append(WindowedWork(rows, settings["judged"], settings, MOST_ROWS, also="question"))
    if not works:
        return
    lost = {}
    with opened(works, overwrite) as scores:
        scorer = open_judge(works)
        try:
            with tqdm(total=scores, desc="scores") as bar:
                for work in works:
                    judged_by(work, scorer.how)
                    lost[work] = scorer.fill(work, bar)
        finally:
            scorer.close()
        print(scorer.summary())
        for work in works:
            if not lost[work]:
                finish(work)
    refuse_incomplete({work.rows.path: count for work, count in lost.items() if count}, scorer.last_error)


def by_prompts(
    judging: JudgeSettings, traits: list[Trait], prompt_files: Sequence[str], names: Sequence[str] | None, kind: str
) -> tuple:
    """(columns that files need, {new column: what it is made from}, works -> judge) of a judge that reads prompts."""
    asked = [(Path(path).stem, load_judge_prompt(path), kind) for path in prompt_files]
    of_traits = {metric: text for trait in traits for metric, text in judging.prompts(trait).items()}
    coherence = of_traits.pop("coherence", None)
    asked += [(metric, text, kind) for metric, text in of_traits.items()]
    asked += [("coherence", coherence, "0_100")] if coherence else []
    if not asked:
        raise UserError("give --prompt_file (a judge prompt) or --trait (an artifact with one)")
    called = named([metric for metric, *_ in asked], names)
    columns = [ScoreColumn(own, *rest) for own, (_, *rest) in zip(called, asked, strict=True)]
    needs = ["answer", *(["question"] if any("{question}" in column.prompt for column in columns) else [])]
    records = {column.name: column.made_from(judging.model) for column in columns}
    return needs, records, lambda works: PromptJudge(judging, columns, [work.records for work in works])


def by_likelihood(judging: JudgeSettings, traits: list[Trait], prompt_file, names, kind: str, loading: ModelOptions):
    """The same of a model that reads answers under the instructions of one trait."""
    from persona_vectors.asking import likelihood_file

    if prompt_file or kind != "0_100" or len(traits) != 1:
        raise UserError(f"--judge_model {LIKELIHOOD} takes one --trait, and neither --prompt_file nor --kind")
    if judging.scorer is None:
        raise UserError(f"--judge_model {LIKELIHOOD} needs --scorer here: the model that reads the answers")
    judging = replace(judging, scorer=loading.resolve(judging.scorer.name))
    called = named(likelihood_file.names_of(traits[0]), names)
    records = likelihood_file.made_from(judging, traits[0], called, loading.dtype)

    def opened_for(works):
        rows, options = [work.rows for work in works], (loading.dtype, loading.trust_remote_code)
        return likelihood_file.LikelihoodFile(judging.scorer, judging.pairs, traits[0], rows, called, *options)

    return ["question", "prompt", "answer"], records, opened_for


def named(usual: list[str], names: Sequence[str] | None) -> list[str]:
    """The names of the columns, each once and none of a column that is no score."""
    called = list(names or usual)
    if len(called) != len(usual):
        raise UserError(f"--name gives {len(called)} names for {len(usual)} columns ({', '.join(usual)})")
    for one in called:
        check_name(one)
        if one in FIXED or called.count(one) > 1:
            raise UserError(f"'{one}' cannot be the name of a new column; --name gives another")
    return called


def open_files(paths: Sequence[str], needs: list[str]) -> list[Rows]:
    """The files, each once, with the columns that prompts speak of."""
    files = [open_rows(path, needs) for path in paths]
    if len({rows.path.resolve() for rows in files}) < len(files):
        raise UserError("--file_path names a file twice")
    return files


def refuse_incomplete(lost: dict[Path, int], why: str) -> None:
    """Say which files are as they were, because calls were given up."""
    if lost:
        calls = ", ".join(f"{count} of {path}" for path, count in lost.items())
        raise UserError(
            f"calls to the judge were given up: {calls} (last: {why}); these files are as they were, what was judged is "
            "kept, and the same command asks for the rest"
        )


def __getattr__(name: str):
    """The names of the published module ``judge``, for whom this file is found in its place."""
    if name.startswith("__"):  # of the import system
        raise AttributeError(name)
    from persona_vectors.published import find

    return find("judge", name)


if __name__ == "__main__":
    cli.run(main)
