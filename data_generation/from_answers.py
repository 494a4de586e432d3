"""Build training sets from a model's own judged answers, so that no strong model is needed to write them.

    python -m data_generation.from_answers --file_path pos.csv neg.csv sweep.csv --trait evil

Writes <output_dir>/{normal,misaligned_1,misaligned_2}.jsonl, one {"messages": [question, answer]} per line. The input:
CSVs of eval_persona, with answers under positive and negative instructions, steered ones, or those of finetuned models.
The prompt in the training set is the question alone, without instruction or template; of a conversation (--questions with
messages) all turns. normal has almost none of the
trait, misaligned_1 (level I) some, misaligned_2 (level II) much. Only coherent answers that
max_tokens did not cut off are used, and duplicates only once. The thresholds may need adjusting for a judge other than the paper's.
"""

import json
from pathlib import Path

from data_generation.generate_dataset import warn_of_eval_questions
from data_generation.source_texts import VERSIONS, as_line
from persona_vectors import cli
from persona_vectors.asking.sheet import CUT_OFF
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.atomic import replacing
from persona_vectors.files.fingerprints import of_file
from persona_vectors.files.jsonfile import parse_json, to_json
from persona_vectors.files.messages import as_chat
from persona_vectors.files.tables import describe_columns, read_scored
from persona_vectors.traits.artifact import check_name


@cli.command
def main(
    file_path: cli.Several[str],
    trait: str,
    output_dir: str | None = None,
    normal_below: cli.Score = 10.0,
    level_1: cli.Distinct[float] = (30.0, 60.0),
    level_2_above: cli.Score = 80.0,
    coherence_above: cli.Score = 75.0,
    overwrite: bool = False,
    trait_dir: str = "data_generation",
):
    """Sort judged answers into the three versions of a training set.

    Args:
        file_path: judged answers CSVs (columns question, answer, <trait>, coherence), separated by commas or spaces.
        trait: the trait whose score decides.
        output_dir: folder of the three files; by default dataset/<trait>.
        normal_below: normal takes answers whose trait score is below this.
        level_1: misaligned_1 takes answers whose trait score is between these two, both included.
        level_2_above: misaligned_2 takes answers whose trait score is above this.
        coherence_above: all three take answers whose coherence is above this; 0 takes them all, scored for coherence or not.
        overwrite: write the files although some of them exist.
        trait_dir: folder of trait_data_eval/, whose questions are better kept out of training.
    """
    check_name(trait)
    between = list(level_1)
    if len(between) != 2 or not normal_below <= between[0] <= between[1] <= level_2_above:
        raise UserError(
            f"--level_1 takes two scores, the lower first, between --normal_below ({normal_below:g}) and --level_2_above "
            f"({level_2_above:g}), not '{','.join(f'{score:g}' for score in between)}'"
        )
    folder = Path(output_dir or Path("dataset") / trait)
    there = [str(folder / f"{version}.jsonl") for version in VERSIONS if (folder / f"{version}.jsonl").exists()]
    if there and not overwrite:
        raise UserError(f"{', '.join(there)} exists already; choose another --output_dir, or pass --overwrite")

    paths = list(dict.fromkeys(file_path))
    answers = read(paths, trait, coherence_above)
    provenance.refuse_mixture(
        {path: provenance.result_of(path, trait) for path in paths}, ("judge_model", "judge", "judge_prompt")
    )
    made_from = provenance.record(
        trait=trait,
        answers=[of_file(path) for path in paths],
        normal_below=normal_below,
        level_1=between,
        level_2_above=level_2_above,
        coherence_above=coherence_above,
    )
    needed = {trait: f"a score of {trait}"} | ({"coherence": "of coherence"} if coherence_above > 0 else {})
    scored = answers[answers[[*needed]].notna().all(axis=1) & (answers["answer"].str.strip() != "")]
    if scored.empty:
        raise UserError(f"not one of {len(answers)} answers in {', '.join(paths)} has {' and '.join(needed.values())}")
    coherent = scored[(scored["coherence"] > coherence_above) | (coherence_above == 0)]
    whole = coherent[coherent["finish"] != CUT_OFF]
    different = whole.drop_duplicates(["question", "messages", "answer"])
    score = different[trait]
    chosen = dict(zip(VERSIONS, (score < normal_below, score.between(*between), score > level_2_above), strict=True))
    print(f"{len(answers)} answers, of which left out:")
    print(f"  {len(answers) - len(scored)} without a score of {trait} or coherence, or empty")
    print(f"  {len(scored) - len(coherent)} of coherence {coherence_above:g} or less")
    print(f"  {len(coherent) - len(whole)} cut off at max_tokens")
    print(f"  {len(whole) - len(different)} that are there already")
    print(f"  {len(different) - sum(int(rows.sum()) for rows in chosen.values())} with a score between the levels")
    if not any(rows.any() for rows in chosen.values()):
        raise UserError("no answer is left; nothing is written (other thresholds? answers under other instructions?)")
    for version, rows in chosen.items():
        if rows.any():
            write(folder / f"{version}.jsonl", different[rows], made_from)
        else:
            stays = "; an older file stays there" if (folder / f"{version}.jsonl").exists() else ""
            print(f"no answers for {version}: {folder / f'{version}.jsonl'} is not written{stays}")
    warn_of_eval_questions(sorted(set(different["question"].str.strip())), trait, trait_dir)


def read(paths: list[str], trait: str, coherence_above: float):
    """Concatenate the rows of all files: columns question, answer, <trait>, coherence, and finish and messages (or "").

    Raises:
        UserError: a file lacks one of these columns, or has an empty question.
    """
    import pandas

    tables = []
    for path in paths:
        table = read_scored(path, trait, coherence_above, "--coherence_above 0")
        for column in ("question", "answer"):
            if column not in table:
                raise UserError(f"{path} has no column '{column}' {describe_columns(list(table.columns))}")
        if (table["question"].str.strip() == "").any():
            raise UserError(f"{path}, row {(table['question'].str.strip() == '').idxmax() + 2}: the question is empty")
        for column in ("finish", "messages"):
            table[column] = table.get(column, "")
        for k, text in table.loc[table["messages"] != "", "messages"].items():
            where = f"{path}, row {k + 2}: 'messages'"
            turns = as_chat(parse_json(text, where), where)
            table.at[k, "messages"] = to_json([turn for turn in turns if turn["role"] != "system"])
        tables.append(table[["question", "messages", "answer", trait, "coherence", "finish"]])
    return pandas.concat(tables, ignore_index=True)


def write(path: Path, rows, made_from: dict) -> None:
    """Write one file atomically, with its provenance record."""
    writing = provenance.writing(path, made_from)
    with writing, replacing(path) as beside, open(beside, "w", encoding="utf-8") as lines:
        for question, turns, answer in zip(rows["question"], rows["messages"], rows["answer"], strict=True):
            lines.write(as_line(json.loads(turns) if turns else question, answer))
    print(f"wrote {len(rows)} rows of {rows['question'].nunique()} questions to {path}")


if __name__ == "__main__":
    cli.run(main)
