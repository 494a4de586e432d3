"""Stage: a second opinion on optimism that no language model has a hand in: the sentiment of answers by a word list.

    python -m eval.sentiment --file_path eval_persona_eval/smollm2/optimistic_steering_layer18_coef-4,0,4.csv --trait optimistic

VADER (Hutto and Gilbert, 2014) rates English text by its words, from -1 to 1; here as 0 to 100, a mean over the answer's sentences.
It knows cheerful words, not what they are said of. Writes <file>_sentiment.csv, and prints it beside the trait's score.
"""

import re
from pathlib import Path

from persona_vectors import cli
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import of_file
from persona_vectors.files.tables import read_answers, write_table

SETTINGS = ("layer", "coef", "control")


@cli.command
def main(file_path: str, trait: str):
    """Rate the answers of a CSV by VADER and compare that with the trait's score.

    Args:
        file_path: answers CSV of eval_persona.
        trait: the score column to compare with.
    """
    answers = read_answers(file_path, (trait,))
    if "answer" not in answers:
        raise UserError(f"{file_path} has no column 'answer'")
    answers = answers[answers["answer"].str.strip() != ""]
    if answers.empty:
        raise UserError(f"{file_path} holds no answers")
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as error:
        raise UserError("VADER is not installed: pip install vaderSentiment==3.3.2") from error
    analyser = SentimentIntensityAnalyzer()
    settings = [name for name in SETTINGS if name in answers]
    named = [name for name in ("question", "question_id") if name in answers]
    table = answers[[*named, *settings, trait]].copy()
    table["sentiment"] = [sentiment(analyser, answer) for answer in answers["answer"]]
    output = str(Path(file_path).with_suffix("")) + "_sentiment.csv"
    with provenance.writing(output, provenance.record(answers=of_file(file_path))):
        write_table(table, output)
    if settings:
        means = table.assign(coef=table["coef"].astype(float) if "coef" in table else 0.0)
        means["control"] = means["control"].str.replace(r" \d+$", "", regex=True) if "control" in means else ""
        by = [name for name in ("control", "layer", "coef") if name in settings and means[name].nunique() > 1]
        if by:
            print(means.groupby(by)[[trait, "sentiment"]].mean().round(1).to_string())
    print(f"r of {trait} with sentiment over {len(table)} answers: {table[trait].corr(table['sentiment']):.2f}")
    print(f"wrote {output}")


def sentiment(analyser, answer: str) -> float:
    """The mean of VADER's compound score over an answer's sentences, from 0 (all bad) to 100; 50 says nothing."""
    sentences = [part for part in re.split(r"(?<=[.!?])\s+", answer.strip()) if part]
    return 50 + 50 * sum(analyser.polarity_scores(part)["compound"] for part in sentences) / len(sentences)


if __name__ == "__main__":
    cli.run(main)
