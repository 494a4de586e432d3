"""Stage: what a vector is worth, and how much of it to give: a card of numbers, a figure and a verdict.

    python -m eval.vector_quality --model Qwen/Qwen2.5-7B-Instruct --trait evil \\
        --vector_path persona_vectors/Qwen2.5-7B-Instruct/evil_response_avg_diff.pt \\
        --pos_path evil_pos_instruct.csv --neg_path evil_neg_instruct.csv --sweep evil_steering.csv

Per layer: the cosine between single pairs' differences and the separation of held-out answers, which foretell how steerable
a trait is (arXiv 2505.22637), the stability over halves of the pairs and over seeds, the overlap with other vectors, and
the dose of coefficient 1. Of a sweep: gain per dose, questions moved the wrong way (arXiv 2407.12404), the controls
and the prompt baseline, with 95 % intervals; with --capability, gain per nat of KL. Writes <output>.json
and <output>.png, which go with the vector where share_vectors.py finds them beside it; what was read from the model is not read again for the same pairs and vector.
"""

from pathlib import Path
from typing import Annotated, Literal

from persona_vectors import cli, models
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import of_file, plain
from persona_vectors.files.jsonfile import read_json, write_json
from persona_vectors.files.tables import read_scored
from persona_vectors.options import ReadingOptions
from persona_vectors.sharing import formats
from persona_vectors.sharing.quality import path_beside
from persona_vectors.vectors import pairs as pairing
from persona_vectors.vectors.storage import check_fit, fingerprint, short_names

FEW_PAIRS = 50  # directions of fewer are unstable
OWN_PAIRS = 0.9  # cosine of a vector with the direction of the pairs that it is made of, at least
OF_VECTOR = ("model", "adapter", "vector")  # what a sweep and its price have in common with the card
READ = "pairs"  # what was read from the model, in the card and in its record


@cli.command
def main(
    model: str,
    vector_path: cli.Several[str],
    pos_path: str,
    neg_path: str,
    trait: str,
    against: cli.Several[str] | None = None,
    sweep: cli.Files | None = None,
    prompt_path: str | None = None,
    capability: str | None = None,
    min_coherence: cli.Score = 75.0,
    threshold: cli.Score = 50.0,
    *,
    reading: ReadingOptions,
    pair_by: Literal[pairing.PAIRED_BY] = "question_id",
    seed: Annotated[int, cli.Between(0)] = 0,
    output: str | None = None,
    record_norms: bool = False,
):
    """Judge a vector by the answers it is made of, by other vectors and by a sweep.

    Args:
        model: Hugging Face id, local folder, folder of checkpoints, LoRA adapter folder or GGUF file.
        vector_path: the vector file [layers+1, hidden]; further ones are the same trait's of other seeds.
        pos_path: judged answers CSV made with --persona_instruction_type pos.
        neg_path: the same with neg.
        trait: name of the score column.
        against: vectors whose overlap counts: other traits', a refusal direction.
        sweep: answers CSV(s) of eval_persona steered with the vector, with coefficient 0 and perhaps --controls.
        prompt_path: the prompt baseline: answers to the sweep's questions made with --persona_instruction_type pos.
        capability: CSV of eval.capability, at layers and coefficients of the sweep: what its cells cost.
        min_coherence: cells of the sweep whose mean coherence is lower count for nothing; 0 takes cells and pairs as they
            are, scored for coherence or not.
        threshold: a pair counts where pos >= threshold, neg < 100 - threshold, both coherences >= 50.
        pair_by: question_id, or row, as generate_vec.py has it.
        seed: draws the halves and the bootstrap.
        output: beginning of the files to write; by default the vector's name and _quality, beside it.
        record_norms: write the activations' mean norms into the metadata beside the vector, where --dose reads them.
    """
    for flag, file, what in (("prompt_path", prompt_path, "baseline"), ("capability", capability, "price")):
        if file and not sweep:
            raise UserError(f"--{flag} is the {what} of a sweep, and there is no --sweep")
    first, seeds, others = vector_path[0], vector_path, against or ()
    vectors = read_vectors([*seeds, *others])
    if record_norms:
        formats.check_recordable(first)
    path = reading.resolve(model)
    shape = models.describe(path, reading.trust_remote_code)
    for file, rows in vectors.items():
        check_fit(file, rows, shape.layers, shape.hidden, [])
    of_pairs = pairing.MIN_COHERENCE if min_coherence else 0.0
    table = pairing.read_pairs(pos_path, neg_path, trait, pair_by, of_pairs)
    pairs = pairing.effective_pairs(table, trait, threshold, of_pairs)
    made_of = models.made_of(path) | {"vector": plain(fingerprint(first, vectors[first]))}
    answers = read_answers_of(sweep, trait, made_of, first, min_coherence, shape.layers)
    costs = read_costs_of(capability, answers, trait, made_of, first)
    prompted = read_prompted(prompt_path, trait, min_coherence)

    prefix = output or str(path_beside(first, ""))
    made_from = provenance.record(**made_of, pairs=pairing.fingerprint(pairs), dtype=reading.dtype, seed=seed)
    read = taken_up(f"{prefix}.json", made_from) or read_pairs(path, shape, reading, pairs, vectors[first], seed, trait)
    card = {"trait": trait, "vector": first, "model": model, "pairs_of": len(table), READ: read}
    norms = (None if record_norms else formats.read_norms(first)) or read["mean_norms"]
    card |= of_vectors({file: vectors[file] for file in seeds}, {file: vectors[file] for file in others}, norms)
    if answers is not None:
        warn_of_other_norms(answers, card["dose_of_1"], f"the norms of {first}")
        card |= of_sweep(answers, prompted, costs, trait, card["dose_of_1"], min_coherence, seed)
    card["verdict"] = verdict(card, min_coherence)
    inputs = [pos_path, neg_path, *(answers["file"].unique() if sweep else ()), prompt_path, capability]
    whole = made_from | {"answers": [of_file(file) for file in inputs if file], "threshold": threshold}
    with provenance.writing(f"{prefix}.json", whole, {READ: made_from}):
        write_json(f"{prefix}.json", card)
    from persona_vectors.analysis.quality_figure import draw

    draw(card, f"{prefix}.png", min_coherence)
    if record_norms:
        print(f"wrote the mean norms into {formats.record_norms(first, read['mean_norms'], read['read_from'])}")
    print(in_a_table(card))
    print(f"{trait}: {card['verdict']}\nwrote {prefix}.json, {prefix}.png")


def read_vectors(files) -> dict:
    """{file: [layers + 1, hidden]}, of any format, each file once."""
    from persona_vectors.sharing.reading import load_vectors

    if len(set(files)) < len(files):
        raise UserError("--vector_path and --against name a vector twice")
    return {file: load_vectors(file) for file in files}


def read_answers_of(sweep, trait: str, made_of: dict, vector: str, min_coherence: float, layers: int):
    """The sweep's answers, or None; a sweep of another model or vector, or of layers that the model lacks, is refused."""
    if not sweep:
        return None
    from persona_vectors.analysis.sweeps import NAMES, read_sweep

    answers = read_sweep(sweep, trait, min_coherence)
    for layer, file in answers[["layer", "file"]].drop_duplicates().itertuples(index=False, name=None):
        if layer not in NAMES and not 1 <= layer <= layers:
            raise UserError(f"{file} steers layer {layer}, which does not exist: this model has layers 1..{layers}")
    records = {file: provenance.result_of(file, trait) for file in answers["file"].unique()}
    for file, record in records.items():
        if record and "steering" in record:
            raise UserError(
                f"{file} was steered by a list of vectors (--steering), which tells nothing of {vector} alone"
            )
    provenance.refuse_mixture({vector: plain(made_of), **records}, OF_VECTOR)
    return answers


def read_prompted(path: str | None, trait: str, min_coherence: float):
    """The answers of the prompt baseline, or None."""
    if not path:
        return None
    prompted = read_scored(path, trait, min_coherence)
    if "question" not in prompted:
        raise UserError(f"{path} has no column 'question'")
    return prompted


def read_costs_of(capability, answers, trait: str, made_of: dict, vector: str):
    """What the sweep's cells cost, or None; a table of another model or vector, or of other cells, is refused."""
    if not capability:
        return None
    from persona_vectors.analysis.trade_off import TradeOff

    provenance.refuse_mixture({vector: plain(made_of), capability: provenance.result_of(capability)}, OF_VECTOR)
    return TradeOff.of(answers, capability, trait)


def taken_up(path: str, made_from: dict) -> dict | None:
    """What was read from the model for an earlier card, if it was the same model, pairs and vector."""
    if not (Path(path).is_file() and provenance.compare(path, made_from, READ).matches):
        return None
    print(f"{path} is of this model, vector and pairs: they are not read again")
    return read_json(path)[READ]


def read_pairs(path, shape, reading: ReadingOptions, pairs, vector, seed: int, trait: str) -> dict:
    """Read the pairs' activations from the model; what they say of the vector, by layer."""
    from persona_vectors.analysis.vector_quality import of_pairs
    from persona_vectors.vectors.extraction import mean_activations
    from persona_vectors.vectors.norms import MeanNorms

    tokenizer = models.load_tokenizer(path, reading.trust_remote_code)
    pairs, samples = pairing.runnable_pairs(tokenizer, pairs, shape.max_length, path.name)
    loaded = models.load_model(path, reading.dtype, reading.trust_remote_code)
    norms = MeanNorms(sum(map(len, samples.values())))
    answers = {
        sign: mean_activations(loaded, made, reading.token_budget, f"{trait} {sign}", norms=norms)[1]
        for sign, made in samples.items()
    }
    questions = pairing.question_numbers(pairs)
    return {
        "count": len(pairs),
        "questions": len(set(questions)),
        "read_from": formats.about_model(path, loaded.config, str(loaded.dtype).removeprefix("torch.")),
        "mean_norms": norms.mean(loaded).tolist(),
        **of_pairs(answers["pos"], answers["neg"], questions, vector, seed),
    }


def of_vectors(seeds: dict, others: dict, norms: list[float]) -> dict:
    """What the vectors say without a model: lengths, dose of coefficient 1, stability over seeds, overlaps."""
    from persona_vectors.analysis.vector_quality import over_seeds, overlaps

    vector = next(iter(seeds.values()))
    lengths = vector.norm(dim=-1).tolist()
    return {
        "norm": lengths,
        "mean_norm": norms,
        "dose_of_1": [length / norm for length, norm in zip(lengths, norms, strict=True)],
        "seed_cosine": over_seeds(list(seeds.values())) if len(seeds) > 1 else None,
        "overlap": overlaps(vector, dict(zip(short_names(list(others)), others.values(), strict=True)))
        if others
        else {},
    }


def warn_of_other_norms(answers, dose_of_1: list[float], told_by: str) -> None:
    """Log a warning where the sweep tells doses by other norms than the card."""
    import pandas

    from persona_vectors.analysis.sweeps import warn_of_doses

    own = [{"layer": layer, "coef": 1.0, "dose": unit, "file": told_by} for layer, unit in enumerate(dose_of_1)]
    if "dose" in answers:
        warn_of_doses(pandas.concat([answers, pandas.DataFrame(own)], ignore_index=True))


def of_sweep(answers, prompted, costs, trait: str, dose_of_1: list[float], min_coherence: float, seed: int) -> dict:
    """What the sweep, the prompt baseline and the price of its cells say."""
    from persona_vectors.analysis.steerability import against_prompt, best_cell, steerability

    found = steerability(answers, trait, lambda layer: dose_of_1[layer], min_coherence, seed)
    for cell in found["cells"] if costs else ():
        cell["price"] = costs.price(cell)
    found["best"] = best_cell(found)
    raising = best_cell(found, raises=True)  # which is what the prompt asks for
    prompt = None if prompted is None else against_prompt(answers, prompted, trait, raising, seed)
    return {"sweep": found, "prompt": prompt}


def verdict(card: dict, min_coherence: float) -> str:
    """All of the card in one line."""
    from persona_vectors.analysis.steerability import in_words

    read, said = card[READ], []
    if "sweep" in card:
        said.append(in_words(card["sweep"], card["prompt"], min_coherence))
    else:
        said.append("not steered with yet (--sweep)")
    layers = range(1, len(card["norm"]) - 1)  # the last row is after the final norm, where nothing is steered
    if read["auc"][0] is not None:
        best = max(layers, key=lambda layer: read["pair_cosine"][layer])
        said.append(
            f"pairs agree most at layer {best} (mean cosine {read['pair_cosine'][best]:.2f}, held-out AUC "
            f"{read['auc'][best]:.2f}, halves {read['half_cosine'][best]:.2f})"
        )
        if (own := read["agreement"][best]) is not None and own < OWN_PAIRS:
            said.append(
                f"these pairs are not what the vector is made of: cosine {own:+.2f} with their own direction there"
            )
    else:
        said.append("one question alone tells nothing of others")
    if read["count"] < FEW_PAIRS:
        said.append(f"{read['count']} pairs are few: directions of fewer than {FEW_PAIRS} are unstable")
    for name, cosines in card["overlap"].items():
        layer = max(layers, key=lambda layer, c=cosines: abs(c[layer]))
        said.append(f"cosine with {name} up to {cosines[layer]:+.2f} (layer {layer})")
    return "; ".join(said)


def in_a_table(card: dict) -> str:
    """The card's numbers by layer, as lines."""
    import pandas

    read = card[READ]
    columns = {
        "norm": card["norm"],
        "mean |h|": card["mean_norm"],
        "dose of 1": card["dose_of_1"],
        "pair cosine": read["pair_cosine"],
        "AUC": read["auc"],
        "d'": read["d_prime"],
        "halves": read["half_cosine"],
        "agreement": read["agreement"],
        **({"seeds": card["seed_cosine"]} if card["seed_cosine"] else {}),
        **card["overlap"],
    }
    table = pandas.DataFrame(columns).rename_axis("layer").reset_index()
    return table.to_string(index=False, float_format=lambda number: f"{number:.3f}", na_rep="")


if __name__ == "__main__":
    cli.run(main)
