"""Stage: can the judge be trusted? Two scores of the same answers: two judges', or a judge's and people's.

    python -m eval.judge_agreement --file_path evil.csv --columns evil,evil_llr
    python -m eval.judge_agreement --file_path evil.csv evil_labels.csv --columns evil
    python -m eval.judge_agreement --pos_path pos.csv --neg_path neg.csv --columns evil_a,evil_b --model_name MODEL

Correlations, Cohen's kappa at the threshold, bias and limits of agreement, with 95 % intervals by bootstrap over questions.
Of the answers of both signs also which pairs are effective to each, and with a model the cosine between the vectors that
both would make. A second file with people's choices between two answers (eval.label --pairs) is compared by pairs: appendix
B of the paper.
"""

from typing import Annotated

from persona_vectors import cli, models
from persona_vectors.analysis.two_scores import Side, is_choices, question_of, read_both, read_choices, sides_of
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import of_file
from persona_vectors.files.jsonfile import write_json
from persona_vectors.files.tables import write_table
from persona_vectors.options import ReadingOptions

MOST = 50  # rows of the file of differences


@cli.command
def main(
    columns: cli.Several[str],
    file_path: cli.Files | None = None,
    pos_path: cli.Files | None = None,
    neg_path: cli.Files | None = None,
    model_name: str | None = None,
    threshold: cli.Score = 50.0,
    output: str = "judge_agreement",
    seed: Annotated[int, cli.Between(0)] = 0,
    *,
    reading: ReadingOptions,
):
    """Compare two scores of the same answers.

    Args:
        columns: the two score columns; one, where it is the same in two files. A column <trait>_llr is a log-likelihood ratio, a yes from 0 on.
        file_path: the answers CSV with both columns, or two files: rows are the same where prompt and answer are. The last may be of people's choices.
        pos_path: in place of file_path: answers under positive instructions, one file or two. Adds the effect on pairs.
        neg_path: the same under negative instructions.
        model_name: with pos_path and neg_path: the model whose vectors both choices of pairs make.
        threshold: from where on a score is a yes; a pair is effective as in generate_vec.
        output: beginning of the files to write.
        seed: draws the bootstrap.
    """
    if bool(file_path) == bool(pos_path or neg_path) or bool(pos_path) != bool(neg_path):
        raise UserError("name --file_path, or --pos_path and --neg_path")
    if model_name and not pos_path:
        raise UserError("--model_name makes vectors of pairs: it goes with --pos_path and --neg_path")
    paths = [*(file_path or ()), *(pos_path or ()), *(neg_path or ())]
    if file_path and is_choices(file_path[-1]):
        return by_choices(file_path, columns, output, seed)
    sides = [sides_of(files, columns) for files in (file_path, pos_path, neg_path) if files]
    tables = [read(*pair) for pair in sides]
    names = (sides[0][0].name, sides[0][1].name)
    if pos_path and len(set(columns)) == 1:
        names = (f"{columns[0]}, first file", f"{columns[0]}, second file")
    path = reading.resolve(model_name) if model_name else None

    import pandas

    from persona_vectors.analysis.agreement import agreement

    table = pandas.concat(tables, ignore_index=True)
    both = table.dropna(subset=["a", "b"])
    if both.empty:
        raise UserError(f"no answer has both scores: {' and '.join(names)}")
    paired = pairs_of(tables, (pos_path[0], neg_path[0]), sides[0]) if pos_path and neg_path else None
    thresholds = (sides[0][0].threshold(threshold), sides[0][1].threshold(threshold))
    comparable = not any(side.is_ratio for side in sides[0])
    found = agreement(both["a"], both["b"], question_of(both), thresholds, comparable, seed)
    result = {
        "a": names[0], "b": names[1], "thresholds": thresholds, "answers": len(both),
        "questions": int(question_of(both).nunique()),
        "without_score": {name: int(table[side].isna().sum()) for name, side in zip(names, "ab", strict=True)},
        "yes": decisions(both["a"] >= thresholds[0], both["b"] >= thresholds[1]),
    } | {name: estimate.as_dict() for name, estimate in found.items()}  # fmt: skip
    print("\n".join(in_words(result, found)))
    written = [f"{output}.json", f"{output}_rows.csv", f"{output}.png"]
    if paired is not None:
        pairs, result["pairs"] = compare_pairs(paired, sides[0], threshold)
        written.append(f"{output}_pairs.csv")
        write_table(changed(pairs), written[-1])
        if path:
            result["cosines"] = cosines(path, reading, pairs)
    write_table(most_different(both, comparable), written[1])
    draw(both, result, comparable, written[2])
    save(result, written[0], paths, path, columns, threshold, seed)
    print("wrote " + ", ".join(written))


def read(a: Side, b: Side):
    """Both scores of the answers that both sides have."""
    table, left_out = read_both(a, b)
    if left_out:
        print(left_out)
    return table


def decisions(a, b) -> dict[str, int]:
    """How often both say yes, one alone, and neither."""
    return {
        "both": int((a & b).sum()),
        "a": int((a & ~b).sum()),
        "b": int((~a & b).sum()),
        "neither": int((~a & ~b).sum()),
    }


def in_words(result: dict, found: dict) -> list[str]:
    """The measures, a line each."""
    a, b = result["a"], result["b"]
    low, high = (f"{threshold:g}" for threshold in result["thresholds"])
    lines = [
        f"{result['answers']} answers to {result['questions']} questions: a is {a}, b is {b}"
        + "".join(f"; {count} without {name}" for name, count in result["without_score"].items() if count),
        f"Pearson's r {found['pearson']}, Spearman's rho {found['spearman']}",
        f"Cohen's kappa {found['kappa']} at {low} and {high}: decided alike {found['alike']}",
    ]
    if found["bias"].value is not None:
        limits = f"{found['lower'].value:.1f} to {found['upper'].value:.1f}"
        lines.append(f"b - a: {found['bias']} on average; 95 % of the differences are expected in {limits}")
    return lines


def most_different(both, comparable: bool):
    """The rows on which the two differ most: by score, or by percentile where their units differ."""
    a, b = (both["a"], both["b"]) if comparable else (100 * both[side].rank(pct=True) for side in "ab")
    table = both.drop(columns=["coherence_a", "coherence_b", "occurrence"], errors="ignore")
    table = table.assign(**{"difference" if comparable else "difference_of_percentiles": b - a})
    return table.iloc[(a - b).abs().argsort(kind="stable")[::-1][:MOST]]


def pairs_of(tables: list, paths: tuple[str, str], sides: tuple[Side, Side]):
    """The pairs of the answers of both signs; refused where a side has no coherence, or nothing pairs them."""
    from persona_vectors.vectors.pairs import pair_tables

    for side, name in zip(sides, "ab", strict=True):
        if any(table[f"coherence_{name}"].isna().all() for table in tables):
            raise UserError(f"{side.path} has no column 'coherence', which effective pairs need")
    return pair_tables(*(table.drop(columns="occurrence", errors="ignore") for table in tables), paths)


def compare_pairs(pairs, sides: tuple[Side, Side], threshold: float) -> tuple:
    """(the pairs, with the columns effective_a and effective_b; how many each finds, and their kappa)."""
    from persona_vectors.analysis.agreement import agreement
    from persona_vectors.vectors.pairs import effective_pairs

    for side, name in zip(sides, "ab", strict=True):
        scores = {f"score_{sign}": pairs[f"{name}_{sign}"] for sign in ("pos", "neg")}
        if side.is_ratio:  # a yes is any score from 50 on, a no any below
            scores = {column: (100.0 * (score >= 0)).where(score.notna()) for column, score in scores.items()}
        coherences = {f"coherence_{sign}": pairs[f"coherence_{name}_{sign}"] for sign in ("pos", "neg")}
        print(f"pairs by {side.name}:")
        try:
            found = effective_pairs(pairs.assign(**scores, **coherences), "score", 50 if side.is_ratio else threshold)
            kept = found.index
        except UserError:  # none is: a result here
            kept = pairs.index[:0]
        pairs[f"effective_{name}"] = pairs.index.isin(kept)
    a, b = pairs["effective_a"], pairs["effective_b"]
    questions = pairs["question_pos"] if "question_pos" in pairs else pairs["prompt_pos"]
    kappa = agreement(a, b, questions, (1, 1))["kappa"]
    counts = {"pairs": len(pairs), **decisions(a, b)}
    print(
        f"{len(pairs)} pairs: effective to both {counts['both']}, to a alone {counts['a']}, to b alone {counts['b']}, to "
        f"neither {counts['neither']}; kappa {kappa}"
    )
    return pairs, counts | {"kappa": kappa.as_dict()}


def changed(pairs):
    """The pairs that are effective to one of the two alone."""
    told = [f"{name}_{sign}" for name in ("question", "question_id", "answer", "a", "b") for sign in ("pos", "neg")]
    found = pairs[pairs["effective_a"] != pairs["effective_b"]]
    return found[[*(name for name in told if name in found), "effective_a", "effective_b"]]


def cosines(path, reading: ReadingOptions, pairs) -> list[float] | None:
    """Per layer, the cosine between the response vectors of both choices of pairs; every answer is run once."""
    from persona_vectors.vectors.pairs import samples_of

    a, b = pairs["effective_a"], pairs["effective_b"]
    if not (a.any() and b.any()):
        print("one of the two finds no effective pair: there are no two vectors to compare")
        return None
    longest = models.describe(path, reading.trust_remote_code).max_length
    tokenizer = models.load_tokenizer(path, reading.trust_remote_code)
    groups = {}
    for name, rows in (("both", pairs[a & b]), ("a", pairs[a & ~b]), ("b", pairs[~a & b])):
        pos, neg = (samples_of(tokenizer, rows, sign, longest)[0] for sign in ("pos", "neg"))
        kept = [(p, n) for p, n in zip(pos, neg, strict=True) if p and n and p.answer_ids and n.answer_ids]
        if len(kept) < len(rows):
            print(f"{len(rows) - len(kept)} pairs cannot be run through {path.name} and are left out")
        if kept:
            groups[name] = list(zip(*kept, strict=True))

    import torch

    from persona_vectors.vectors.extraction import mean_activations

    model = models.load_model(path, reading.dtype, reading.trust_remote_code)
    means: dict[str, torch.Tensor] = {}
    for name, signs in groups.items():
        pos, neg = (mean_activations(model, s, reading.token_budget, f"pairs of {name}")[0] for s in signs)
        means[name] = (pos["response_avg"] - neg["response_avg"]).double()
    vectors = []
    for own in "ab":
        parts = [(len(groups[name][0]), means[name]) for name in ("both", own) if name in groups]
        if not parts:
            raise UserError(f"no effective pair of {own} can be run through {path.name}")
        vectors.append(sum(count * mean for count, mean in parts) / sum(count for count, _ in parts))
    found = torch.nn.functional.cosine_similarity(*vectors, dim=-1).tolist()
    middle = len(found) // 2
    print(f"cosine between both vectors: {found[middle]:.4f} at layer {middle}, {min(found[1:]):.4f} at the lowest")
    return found


def by_choices(paths: tuple[str, ...], columns: tuple[str, ...], output: str, seed: int) -> None:
    """The share of people's choices between two answers that the judge's scores agree with."""
    from persona_vectors.analysis.agreement import choices_alike

    if len(paths) < 2 or len(columns) != 1:
        raise UserError("people's choices go with one judge: --file_path judged.csv choices.csv --columns evil")
    choices = read_choices(paths[-1], paths[:-1], columns[0])
    made = choices[choices["choice"].isin(["1", "2"])]
    rated = made.dropna(subset=["score_1", "score_2"])
    if rated.empty:
        raise UserError(f"{paths[-1]} has no choice between two answers that {' and '.join(paths[:-1])} have scores of")
    gap = (rated["score_2"] - rated["score_1"]).astype(float)
    found = choices_alike(gap, rated["choice"] == "2", rated["question"], seed)
    apart = {
        f"{low}-{high}": gap.abs().between(low, high, inclusive="left") for low, high in ((0, 20), (20, 60), (60, 101))
    }
    by_gap = {
        name: {"choices": int(rows.sum())}
        | choices_alike(gap[rows], rated["choice"][rows] == "2", rated["question"][rows], seed).as_dict()
        for name, rows in apart.items()
        if rows.any()
    }
    result = {
        "judge": columns[0], "choices": len(rated), "not_chosen": len(choices) - len(made), "without_score": len(made) - len(rated),
        "equal_scores": int((gap == 0).sum()), "agreement": found.as_dict(), "by_difference_of_scores": by_gap,
    }  # fmt: skip
    disagreeing = rated[(gap != 0) & ((gap > 0) != (rated["choice"] == "2"))]
    print(f"{columns[0]} agrees with {found} of {len(rated)} choices between two answers")
    for name, part in by_gap.items():
        print(f"  scores {name} apart: {part['value']:.3f} of {part['choices']}")
    write_table(disagreeing, f"{output}_rows.csv")
    save(result, f"{output}.json", paths, None, columns, None, seed)
    print(f"wrote {output}.json, {output}_rows.csv")


def save(result: dict, path: str, files, model, columns, threshold: float | None, seed: int) -> None:
    """Write the record, with what it was made from."""
    made_of = models.made_of(model) if model else {}
    made_from = provenance.record(
        answers=[of_file(file) for file in files], columns=columns, threshold=threshold, seed=seed, **made_of
    )
    with provenance.writing(path, made_from):
        write_json(path, result)


def draw(both, result: dict, comparable: bool, path: str) -> None:
    """Both scores against each other with the thresholds, and their difference against their mean."""
    from persona_vectors.plots import COLOURS, new_figure, save_figure

    figure, (left, right) = new_figure(columns=2, width=4.0, height=3.4)
    dots = {"s": 12, "alpha": 0.5, "linewidth": 0, "color": COLOURS[0]}
    left.scatter(both["a"], both["b"], **dots)
    left.axvline(result["thresholds"][0], color="grey", linewidth=0.8, linestyle=":")
    left.axhline(result["thresholds"][1], color="grey", linewidth=0.8, linestyle=":")
    left.set(xlabel=result["a"], ylabel=result["b"])
    if result["pearson"]["value"] is not None:
        left.set_title(f"r = {result['pearson']['value']:.2f}", fontsize=9)
    a, b = (both["a"], both["b"]) if comparable else (100 * both[side].rank(pct=True) for side in "ab")
    right.scatter((a + b) / 2, b - a, **dots)
    right.axhline(0, color="grey", linewidth=0.8)
    if comparable:
        left.plot([0, 100], [0, 100], color="grey", linewidth=0.8)
        for name, style in (("bias", "-"), ("lower", "--"), ("upper", "--")):
            right.axhline(result[name]["value"], color=COLOURS[1], linewidth=1, linestyle=style)
        right.set_title("difference, with bias and limits of agreement", fontsize=9)
    else:
        right.set_title("difference of percentiles", fontsize=9)
    right.set(xlabel="mean of both", ylabel="b - a")
    save_figure(figure, path)


if __name__ == "__main__":
    cli.run(main)
