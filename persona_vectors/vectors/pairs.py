"""Effective pairs: the positive and negative answers that vectors are made of.

A pair is the positive and the negative answer to the same question under the same instruction index (and with the same
repetition index); it is effective where the judge saw the trait in the one, not in the other, and both are coherent.
"""

import logging
from collections import Counter
from itertools import compress
from typing import TYPE_CHECKING, Any

from persona_vectors.errors import UserError
from persona_vectors.files.fingerprints import Fingerprint, of_json
from persona_vectors.files.tables import describe_columns, read_scored

if TYPE_CHECKING:
    import pandas

logger = logging.getLogger(__name__)

MIN_COHERENCE = 50.0
PAIRED_BY = ("question_id", "row")


def read_pairs(
    pos_path: str, neg_path: str, trait: str, by: str = "question_id", min_coherence: float = MIN_COHERENCE
) -> "pandas.DataFrame":
    """Pair the rows of two answers files: a DataFrame with every column twice, ``_pos`` and ``_neg``.

    Args:
        by: ``question_id`` (its ``_pos_`` / ``_neg_`` part aside) and repetition index; where a file has no question
            ids, by row. ``row``: the first with the first and so on, as the published code does, whatever was asked:
            files of two traits, say.
        min_coherence: at 0 the column coherence may be missing.

    Raises:
        UserError: a file that cannot be read, no question id in common, or other numbers of rows to pair by row.
    """
    tables = {}
    for sign, path in (("pos", pos_path), ("neg", neg_path)):
        table = read_scored(path, trait, min_coherence)
        for column in ("prompt", "answer"):
            if column not in table:
                raise UserError(f"{path} has no column '{column}' {describe_columns(list(table.columns))}")
        tables[sign] = table
    return pair_tables(tables["pos"], tables["neg"], (pos_path, neg_path), by)


def pair_tables(
    pos: "pandas.DataFrame", neg: "pandas.DataFrame", paths: tuple[str, str], by: str = "question_id"
) -> "pandas.DataFrame":
    """:func:`read_pairs` of tables that are read; ``paths`` are for messages."""
    pos_path, neg_path = paths
    if ("reasoning" in pos) != ("reasoning" in neg):  # no answer of the one sign came after thoughts
        (neg if "reasoning" in pos else pos)["reasoning"] = ""
    if by == "question_id" and "question_id" in pos and "question_id" in neg:
        for table in (pos, neg):
            table["pair"] = table["question_id"].str.replace(r"_(pos|neg)_(\d+)$", r"_\2", regex=True)
            table["occurrence"] = table.groupby("pair").cumcount()
        pairs = pos.merge(neg, on=["pair", "occurrence"], suffixes=("_pos", "_neg"))
        if pairs.empty:
            raise UserError(
                f"no question of {pos_path} is asked in {neg_path} too (by question_id); --pair_by row pairs the first "
                f"row with the first and so on, where both have as many (these have {len(pos)} and {len(neg)})"
            )
        return pairs
    if len(pos) != len(neg):
        why = "--pair_by row needs as many in both" if by == "row" else "there is no question_id to pair them by"
        raise UserError(f"{pos_path} has {len(pos)} rows, {neg_path} has {len(neg)}: {why}")
    return pos.add_suffix("_pos").join(neg.add_suffix("_neg"))


def effective_pairs(
    pairs: "pandas.DataFrame", trait: str, threshold: float = 50, min_coherence: float = MIN_COHERENCE
) -> "pandas.DataFrame":
    """The rows of ``pairs`` that are effective; why the others are not is logged.

    Effective: pos trait >= threshold, neg trait < 100 - threshold, both coherences >= min_coherence, both answers not
    empty (section 2.2 and the published code, where that is 50). A missing score is never effective; with a
    ``min_coherence`` of 0 coherence is not looked at.

    Raises:
        UserError: none is; a vector of nothing would be NaN.
    """
    tests = {
        f"positive answer scores < {threshold:g}": ~(pairs[f"{trait}_pos"] >= threshold),
        f"negative answer scores >= {100 - threshold:g}": ~(pairs[f"{trait}_neg"] < 100 - threshold),
        **({} if min_coherence == 0 else _incoherent(pairs, min_coherence)),
        "an answer is empty": (pairs["answer_pos"].str.strip() == "") | (pairs["answer_neg"].str.strip() == ""),
        "a prompt is empty": (pairs["prompt_pos"].str.strip() == "") | (pairs["prompt_neg"].str.strip() == ""),
    }
    failed = {reason: int(test.sum()) for reason, test in tests.items() if test.any()}
    keep = ~sum(tests.values()).astype(bool)
    for reason, count in failed.items():
        logger.info(f"  {count} of {len(pairs)} pairs: {reason} (or not scored)")
    if not keep.any():
        why = "; ".join(f"{reason}: {count}" for reason, count in failed.items())
        raise UserError(
            f"none of {len(pairs)} pairs is effective ({why}): nothing is saved; look at the answers, lower --threshold, "
            "or use instructions that the model follows"
        )
    return pairs[keep]


def _incoherent(pairs: "pandas.DataFrame", min_coherence: float) -> dict:
    return {
        "positive answer incoherent": ~(pairs["coherence_pos"] >= min_coherence),
        "negative answer incoherent": ~(pairs["coherence_neg"] >= min_coherence),
    }


def effective_answers(
    pos_path: str, neg_path: str, trait: str, min_coherence: float = MIN_COHERENCE
) -> list[tuple[str, str]]:
    """(question, answer) of the extraction answers that show the trait: the positive half of the effective pairs."""
    pairs = read_pairs(pos_path, neg_path, trait, min_coherence=min_coherence)
    pairs = effective_pairs(pairs, trait, min_coherence=min_coherence)
    if "question_pos" not in pairs:
        raise UserError(f"{pos_path} has no column 'question': exemplars need it")
    return list(zip(pairs["question_pos"], pairs["answer_pos"], strict=True))


def fingerprint(effective: "pandas.DataFrame") -> Fingerprint:
    """What the vectors are made of: prompts, answers and thoughts of the effective pairs, in their order."""
    texts = [
        effective[f"{part}_{sign}"].tolist()
        for sign in ("pos", "neg")
        for part in ("prompt", "answer", "reasoning")
        if f"{part}_{sign}" in effective
    ]
    return of_json("effective pairs", texts)


def samples_of(tokenizer: Any, pairs: "pandas.DataFrame", sign: str, longest: int | None) -> tuple[list, list[str]]:
    """The samples of one sign: prompt, thoughts where the file has them, and answer; and what is wrong with each, if
    anything."""
    from persona_vectors.files.rows import Exchange
    from persona_vectors.vectors.samples import make_samples

    columns = [pairs[f"{name}_{sign}"] for name in ("prompt", "answer", "reasoning") if f"{name}_{sign}" in pairs]
    samples, problems = make_samples(tokenizer, [Exchange(*row) for row in zip(*columns, strict=True)], longest)
    return samples, [
        problem or ("" if sample else "no prompt") for sample, problem in zip(samples, problems, strict=True)
    ]


def runnable_pairs(
    tokenizer: Any, effective: "pandas.DataFrame", longest: int | None, model_name: str
) -> tuple["pandas.DataFrame", dict[str, list]]:
    """(the pairs both of whose answers can be run, their samples by sign); how many are left out and why is logged.

    Raises:
        UserError: none can be.
    """
    made = {sign: samples_of(tokenizer, effective, sign, longest) for sign in ("pos", "neg")}
    reasons = [pos or neg for pos, neg in zip(made["pos"][1], made["neg"][1], strict=True)]
    kept = [not reason for reason in reasons]
    samples = {sign: list(compress(every, kept)) for sign, (every, _) in made.items()}
    left_out = "; ".join(f"{count} left out: {reason}" for reason, count in Counter(filter(None, reasons)).items())
    if not any(kept):
        raise UserError(f"no effective pair can be run through {model_name}: {left_out}")
    if left_out:
        logger.info(f"  of these {left_out}")
    return effective[kept], samples


def question_numbers(pairs: "pandas.DataFrame") -> list[int]:
    """A number per question: rows that ask the same thing share it."""
    column = "question_pos" if "question_pos" in pairs else "prompt_pos"
    return pairs[column].factorize()[0].tolist()
