"""Stage: people's labels, to hold the judge against: a local page that shows one answer at a time, or two.

    python -m eval.label --file_path evil_pos.csv evil_neg.csv --trait evil
    python -m eval.label --file_path evil_pos.csv evil_neg.csv --trait evil --pairs 50

Answers are shuffled and shown without what made them. Labels are journaled as they are given; the same command goes on from
there. Writes a CSV for eval.judge_agreement when all is labelled, and at Ctrl-C.
"""

import contextlib
from pathlib import Path
from typing import Annotated

from eval.prompts import Prompts
from persona_vectors import cli
from persona_vectors.app.page import address, listen
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import of_file, of_json
from persona_vectors.files.journal import Journal
from persona_vectors.files.tables import describe_columns, read_answers, write_table
from persona_vectors.options import Port
from persona_vectors.traits.artifact import load_trait


@cli.command
def main(
    file_path: cli.Files,
    trait: str,
    output_path: str | None = None,
    pairs: cli.Count | None = None,
    min_difference: cli.Score = 60.0,
    seed: Annotated[int, cli.Between(0)] = 0,
    port: Port = 7861,
    host: str = "127.0.0.1",
    overwrite: bool = False,
    trait_dir: str = "data_generation",
):
    """Open a page on which a person labels answers.

    Args:
        file_path: answers CSV(s): question and answer.
        trait: what is looked for: the name of an artifact, or coherence. People can read what the judge is told.
        output_path: CSV to write; by default <trait>_labels.csv, of pairs <trait>_choices.csv.
        pairs: show so many pairs of answers to a question, for which shows the trait more (keys 1 and 2); by default each answer, for a number 0-100.
        min_difference: pairs: by how much the judge's scores in the files differ at least; 0 takes any two answers.
        seed: shuffles, and draws the pairs.
        port: of the page; 0 takes a free one.
        host: to listen on; by default this machine alone can open the page.
        overwrite: begin anew although the output, or an unfinished run of it, exists.
        trait_dir: folder of trait_data_eval/ and trait_data_extract/.
    """
    output = output_path or f"{trait}_{'choices' if pairs else 'labels'}.csv"
    told = judge_prompt(trait, trait_dir).format(question="(the question)", answer="(the answer)")
    answers = read(file_path, trait if pairs and min_difference else None)

    from persona_vectors.app.labelling import Labels, paired_items, single_items

    items = paired_items(answers, trait, pairs, min_difference, seed) if pairs else single_items(answers, seed)
    if not items:
        raise UserError(f"{', '.join(file_path)}: every answer is empty")
    settings = provenance.record(
        answers=[of_file(path) for path in file_path], trait=trait, artifact=of_json(trait, told), pairs=pairs, seed=seed,
        min_difference=min_difference if pairs else None,
    )  # fmt: skip
    made = Path(output).exists() and not overwrite and not Journal.settings_of(output)
    if made and provenance.take_up(output, settings):
        print(f"{output} has {len(read_answers(output))} labels and is not made again (--overwrite does that)")
        return
    journal = Journal(output, settings, overwrite=overwrite)
    labels = Labels(items, journal)

    def write() -> None:
        with provenance.writing(output, settings):
            write_table(labels.table(answers, trait), output)

    try:
        serve(labels, trait, told, write, listen(host, port))
    finally:
        if labels.given:
            write()
            rest = "" if labels.is_complete else "; the same command goes on from there"
            print(f"wrote {len(labels.given)} of {len(items)} labels to {output}{rest}")
        journal.close(remove=labels.is_complete)


def judge_prompt(trait: str, trait_dir: str) -> str:
    """What the judge is told of the trait, with {question} and {answer}."""
    if trait == "coherence":
        return Prompts["coherence_0_100"]
    there = [
        version for version in ("eval", "extract") if Path(trait_dir, f"trait_data_{version}", f"{trait}.json").exists()
    ]
    return load_trait(trait, there[0] if there else "eval", trait_dir).eval_prompt


def read(paths: tuple[str, ...], score: str | None):
    """The answers of all files in one table, with the judge's score where one is needed."""
    import pandas

    tables = []
    for path in paths:
        if score and score not in (table := read_answers(path)):
            raise UserError(
                f"{path} has no column '{score}' {describe_columns(list(table.columns))}: --min_difference 0 pairs any two answers"
            )
        table = read_answers(path, (score,) if score else ())
        for name in ("question", "answer"):
            if name not in table:
                raise UserError(f"{path} has no column '{name}' {describe_columns(list(table.columns))}")
        tables.append(table)
    return pandas.concat(tables, ignore_index=True)


def serve(labels, trait: str, told: str, complete, listener) -> None:
    """Serve the page until interrupted."""
    import uvicorn

    from persona_vectors.app.label_server import make_app

    url, loopback = address(listener)
    what = "pairs of answers" if labels.pairs else "answers"
    print(f"{len(labels.items)} {what}, {len(labels.given)} labelled: open {url} (Ctrl-C ends it and writes the CSV)")
    if not loopback:
        print("everybody who can reach this machine can use the page; without --host nobody else can")
    app = make_app(labels, trait, told, complete, loopback)
    with contextlib.suppress(KeyboardInterrupt):  # which ends the page, and is no interruption of the work
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    cli.run(main)
