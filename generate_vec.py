"""Stage: judged answers of both signs -> persona vectors.

    python generate_vec.py --model_name Qwen/Qwen2.5-7B-Instruct --pos_path evil_pos_instruct.csv \\
        --neg_path evil_neg_instruct.csv --trait evil --save_dir persona_vectors/Qwen2.5-7B-Instruct/

Writes <trait>_{prompt_avg,response_avg,prompt_last}_diff.pt, each float32 [layers + 1, hidden_size]: per layer the
mean activation over effective positive answers minus that over the negative ones (section 2.2). The .safetensors file
beside each holds the same, and says which model, trait and answers it comes from (share_vectors.py).
"""

from pathlib import Path

from persona_vectors import chat, cli, models
from persona_vectors.errors import UserError
from persona_vectors.pairs import effective_pairs, read_pairs
from persona_vectors.results import locked, make_folder
from persona_vectors.sharing import About, about_model, save_both


def main(
    model_name: str,
    pos_path: str,
    neg_path: str,
    trait: str,
    save_dir: str,
    threshold: int = 50,
    dtype: str = "auto",
    token_budget: int = None,
    trust_remote_code: bool = False,
):
    """Make a trait's persona vectors from the judged answers of eval_persona.

    Args:
        model_name: Hugging Face id, local folder, folder of checkpoints, LoRA adapter folder or GGUF file.
        pos_path: answers CSV made with --persona_instruction_type pos.
        neg_path: the same with neg.
        trait: name of the score column, and of the files.
        save_dir: folder to write to.
        threshold: a pair counts where pos >= threshold, neg < 100 - threshold, both coherences >= 50.
        dtype: auto (bfloat16 on a GPU, float32 on a CPU), float32, bfloat16 or float16.
        token_budget: padded tokens per batch (8192 on a GPU, 512 on a CPU); lower it if memory runs out.
        trust_remote_code: run code that comes with the model. Only for models whose code you have read.
    """
    threshold = cli.as_number("threshold", threshold, 0, 100)
    cli.as_choice("dtype", dtype, models.DTYPES)
    token_budget = cli.optional(cli.as_int, "token_budget", token_budget, 1)
    trust_remote_code = cli.as_bool("trust_remote_code", trust_remote_code)
    path = models.resolve(model_name)
    pairs = read_pairs(pos_path, neg_path, trait)
    effective = effective_pairs(pairs, trait, threshold)
    make_folder(Path(save_dir))

    tokenizer = models.load_tokenizer(path, trust_remote_code)
    longest = models.describe(path, trust_remote_code).max_length
    samples = {sign: tokenised(tokenizer, effective, sign) for sign in ("pos", "neg")}
    fits = [max(len(p), len(n)) <= (longest or len(p) + len(n)) for p, n in zip(*samples.values(), strict=True)]
    effective = effective[fits]
    if effective.empty:
        raise UserError(f"every effective pair is longer than the {longest} tokens that {model_name} takes")
    print(f"{trait}: {len(effective)} of {len(pairs)} pairs are effective", end="")
    print(f" ({len(fits) - len(effective)} more are longer than {longest} tokens)" if not all(fits) else "")

    import torch

    from persona_vectors.separation import held_out_auc

    model = models.load_model(path, dtype, trust_remote_code)
    means, answers = {}, {}
    for sign in samples:
        chosen = [sample for sample, fit in zip(samples[sign], fits, strict=True) if fit]
        means[sign], answers[sign] = mean_activations(model, chosen, token_budget, f"{trait} {sign}")

    counts = {"threshold": f"{threshold:g}", "effective_pairs": str(len(effective)), "pairs": str(len(pairs))}
    told = about_model(path, model.config, str(model.dtype).removeprefix("torch.")) | counts
    files = []
    with locked(Path(save_dir) / f".{trait}.lock", f"vectors of {trait} into {save_dir}"):
        for pool in means["pos"]:
            about = About(trait=trait, kind=f"{pool}_diff", **told)
            files += save_both(means["pos"][pool] - means["neg"][pool], save_dir, about)
    odd_questions = torch.tensor(question_numbers(effective)) % 2 == 1
    aucs = held_out_auc(answers["pos"], answers["neg"], odd_questions)
    report(means, aucs)
    print("wrote " + ", ".join(map(str, files)))


def tokenised(tokenizer, pairs, sign: str) -> list:
    """The samples of one sign: ids of prompt and answer, each tokenised by itself and put end to end."""
    from persona_vectors.activations import Sample

    texts = zip(pairs[f"prompt_{sign}"], pairs[f"answer_{sign}"], strict=True)
    return [Sample(chat.token_ids(tokenizer, prompt), chat.token_ids(tokenizer, answer)) for prompt, answer in texts]


def mean_activations(model, samples: list, token_budget: int | None, label: str) -> tuple[dict, object]:
    """Means over the samples by pool, float32 [layers + 1, hidden], and each answer's own mean in half precision.

    The single answers, [samples, layers + 1, hidden] bfloat16, only serve to measure separation.
    """
    import torch
    from tqdm import tqdm

    from persona_vectors.activations import check_finite, pooled_activations

    sums, answers = {}, None
    with tqdm(total=len(samples), desc=label) as bar:
        for indices, pooled in pooled_activations(model, samples, token_budget=token_budget):
            for pool, rows in pooled.items():
                check_finite(rows, model.dtype)
                sums[pool] = sums.get(pool, 0) + rows.double().sum(0)
            rows = pooled["response_avg"]
            if answers is None:
                answers = torch.empty(len(samples), *rows.shape[1:], dtype=torch.bfloat16)
            answers[indices] = rows.bfloat16()
            bar.update(len(indices))
    return {pool: (total / len(samples)).float() for pool, total in sums.items()}, answers


def question_numbers(pairs) -> list[int]:
    """A number per question: rows that ask the same thing share it."""
    column = "question_pos" if "question_pos" in pairs else "prompt_pos"
    return pairs[column].factorize()[0].tolist()


def report(means: dict, aucs) -> None:
    """Print, per layer, the length of the response vector and how well its direction separates held-out questions."""
    vector = means["pos"]["response_avg"] - means["neg"]["response_avg"]
    print("layer  norm of response_avg_diff  relative to activations  held-out AUC")
    for layer, row in enumerate(vector):
        scale = means["neg"]["response_avg"][layer].norm()
        print(f"{layer:5d}  {row.norm():25.4f}  {row.norm() / scale:23.3f}  {aucs[layer]:12.3f}")


save_persona_vector = main  # its published name


def __getattr__(name: str):
    """The published module's other names; see :mod:`persona_vectors.published`."""
    if name.startswith("__"):  # of the import system
        raise AttributeError(name)
    from persona_vectors.published import find

    return find("generate_vec", name)


if __name__ == "__main__":
    cli.run(main)
