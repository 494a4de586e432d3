"""Stage: judged answers of both signs -> persona vectors.

    python generate_vec.py --model_name Qwen/Qwen2.5-7B-Instruct --pos_path evil_pos_instruct.csv \\
        --neg_path evil_neg_instruct.csv --trait evil --save_dir persona_vectors/Qwen2.5-7B-Instruct/

Writes <trait>_{prompt_avg,response_avg,prompt_last}_diff.pt, each float32 [layers + 1, hidden_size]: per layer the
mean activation over effective positive answers minus that over the negative ones (section 2.2). An answer is run after
the thoughts that it came after (column reasoning); they count for neither prompt nor answer. The .safetensors file
beside each holds the same, and says which model, trait and answers it comes from (share_vectors.py). Vectors that are there
and were made from these very pairs and this model are not made again.
"""

from pathlib import Path
from typing import Literal

from persona_vectors import cli, models
from persona_vectors.files import provenance
from persona_vectors.files.atomic import locked, make_folder
from persona_vectors.files.fingerprints import in_words, same
from persona_vectors.options import ReadingOptions
from persona_vectors.sharing.formats import ENDINGS, About, about_model, norms_text, save_both
from persona_vectors.vectors.pairs import (
    PAIRED_BY,
    effective_pairs,
    fingerprint,
    question_numbers,
    read_pairs,
    runnable_pairs,
)
from persona_vectors.vectors.storage import KINDS, check_vector_folder


@cli.command
def main(
    model_name: str,
    pos_path: str,
    neg_path: str,
    trait: str,
    save_dir: str,
    threshold: cli.Score = 50.0,
    *,
    reading: ReadingOptions,
    pair_by: Literal[PAIRED_BY] = "question_id",
    overwrite: bool = False,
):
    """Make a trait's persona vectors from the judged answers of eval_persona.

    Args:
        model_name: Hugging Face id, local folder, folder of checkpoints, LoRA adapter folder or GGUF file.
        pos_path: answers CSV made with --persona_instruction_type pos.
        neg_path: the same with neg.
        trait: name of the score column, and of the files.
        save_dir: folder to write to.
        threshold: a pair counts where pos >= threshold, neg < 100 - threshold, both coherences >= 50.
        pair_by: question_id, or row: the first positive answer with the first negative one and so on, as published.
        overwrite: make the vectors anew although they are there and would be the same.
    """
    check_vector_folder(save_dir)
    path = models.resolve(model_name)
    pairs = read_pairs(pos_path, neg_path, trait, pair_by)
    effective = effective_pairs(pairs, trait, threshold)
    print(f"{trait}: {len(effective)} of {len(pairs)} pairs are effective")
    make_folder(Path(save_dir))
    made_from = provenance.record(
        **models.made_of(path),
        trait=trait,
        threshold=threshold,
        pairs=fingerprint(effective),
        of=len(pairs),
        dtype=reading.dtype,
    )
    check_answers({pos_path: provenance.result_of(pos_path), neg_path: provenance.result_of(neg_path)}, made_from)
    files = [Path(save_dir) / f"{trait}_{kind}{ending}" for kind in KINDS for ending in ENDINGS]
    main_file = Path(save_dir) / f"{trait}_response_avg_diff.pt"
    with locked(Path(save_dir) / f".{trait}.lock", f"vectors of {trait} into {save_dir}"):
        if not overwrite and is_made(main_file, made_from):
            return

        longest = models.describe(path, reading.trust_remote_code).max_length
        tokenizer = models.load_tokenizer(path, reading.trust_remote_code)
        effective, samples = runnable_pairs(tokenizer, effective, longest, model_name)

        import torch

        from persona_vectors.vectors.extraction import differences, mean_activations
        from persona_vectors.vectors.norms import mean_norms
        from persona_vectors.vectors.separation import held_out

        model = models.load_model(path, reading.dtype, reading.trust_remote_code)
        means, answers = {}, {}
        for sign, made in samples.items():
            means[sign], answers[sign] = mean_activations(model, made, reading.token_budget, f"{trait} {sign}")

        vectors = differences(means["pos"], means["neg"])
        norms = mean_norms(model, samples["pos"] + samples["neg"], reading.token_budget)
        counts = {"threshold": f"{threshold:g}", "effective_pairs": str(len(effective)), "pairs": str(len(pairs))}
        counts["mean_norms"] = norms_text(norms)
        told = about_model(path, model.config, str(model.dtype).removeprefix("torch.")) | counts
        with provenance.writing(main_file, made_from, files=files):
            for pool, vector in vectors.items():
                save_both(vector, save_dir, About(trait=trait, kind=f"{pool}_diff", **told))
        odd_questions = torch.tensor(question_numbers(effective)) % 2 == 1
        aucs = held_out(answers["pos"], answers["neg"], odd_questions)
        report(vectors["response_avg"], norms, aucs)
        print("wrote " + ", ".join(map(str, files)))


def check_answers(records: dict[str, dict | None], made_from: dict) -> None:
    """Refuse positive and negative answers that different models gave or judges scored; say if they are another's."""
    provenance.refuse_mixture(records, ("model", "adapter", "judge_model", "judge", "trait"))
    for path, record in records.items():
        for name in ("model", "adapter"):
            if record and name in record and not same(record[name], made_from[name]):
                print(
                    f"note: {name} of {path} is {in_words(record[name])}; the vectors are of {in_words(made_from[name])}"
                )


def is_made(path: Path, made_from: dict) -> bool:
    """Whether the vectors are there, made from the same; prints so, or why they are made anew."""
    verdict = provenance.compare(path, made_from)
    if verdict.matches:
        print(
            f"{path} and the other vectors of this trait are there, made from this model and these pairs: not made again"
        )
    elif path.exists():
        changed = "; ".join(verdict.differences) or (
            "they were changed" if verdict.recorded else "they have no record of what they were made from"
        )
        print(f"the vectors at {path} are made anew: {changed}")
    return verdict.matches


def report(vector, norms, aucs) -> None:
    """Print, per layer, the response vector's length, the dose of coefficient 1 and how well it separates held-out questions."""
    if not vector.any():
        print(
            "the positive and the negative answers are the same: this vector is zero at every layer, and steers nothing"
        )
    print("layer  norm of response_avg_diff  dose of coefficient 1  held-out AUC")
    for layer, row in enumerate(vector):
        print(f"{layer:5d}  {row.norm():25.4f}  {row.norm() / norms[layer]:21.3f}  {aucs[layer]:12.3f}")


save_persona_vector = main  # its published name


def __getattr__(name: str):
    """The published module's other names; see :mod:`persona_vectors.published`."""
    if name.startswith("__"):  # of the import system
        raise AttributeError(name)
    from persona_vectors.published import find

    return find("generate_vec", name)


if __name__ == "__main__":
    cli.run(main)
