"""Published names for extracting vectors (``generate_vec``), and the JSONL reader of ``utils``."""

from collections.abc import Sequence

from persona_vectors.files.jsonfile import parse_json

POOLS = ("prompt_avg", "prompt_last", "response_avg")  # in the published order


def get_persona_effective(pos_path, neg_path, trait, threshold=50) -> tuple:
    """The effective pairs of two answers files.

    Today: :func:`persona_vectors.vectors.pairs.read_pairs` and ``effective_pairs``.

    Returns:
        ``(positive rows, negative rows, positive prompts, negative prompts, positive answers, negative answers)``: two
        tables, then four lists of texts.

    Raises:
        UserError: there is no effective pair.

    Example:
        pos, neg, *texts = get_persona_effective("evil_pos.csv", "evil_neg.csv", "evil")
    """
    from persona_vectors.vectors.pairs import effective_pairs, read_pairs

    pairs = effective_pairs(read_pairs(pos_path, neg_path, trait), trait, threshold)
    pos, neg = (pairs.filter(regex=f"{sign}$").rename(columns=lambda name: name[:-4]) for sign in ("_pos", "_neg"))
    return pos, neg, *(table[column].tolist() for column in ("prompt", "answer") for table in (pos, neg))


def get_hidden_p_and_r(
    model, tokenizer, prompts: Sequence[str], responses: Sequence[str], layer_list: Sequence[int] | None = None
) -> tuple[list, list, list]:
    """``(prompt_avg, prompt_last, response_avg)``: lists by layer, 0..L, of float32 tensors [rows, hidden].

    Today: :func:`persona_vectors.vectors.activations.pooled_activations`.

    Prompt and answer are tokenised separately, as they were when the answer was generated. Layers not in ``layer_list``
    are empty lists.

    Raises:
        UserError: an empty prompt or answer, or the two together exceed the model's context length.

    Example:
        prompt_avg, prompt_last, response_avg = get_hidden_p_and_r(model, tokenizer, prompts, answers, layer_list=[20])
        response_avg[20].shape  # [rows, hidden]
    """
    import torch
    from tqdm import tqdm

    from persona_vectors.files.rows import Exchange
    from persona_vectors.models.loading import shape_of
    from persona_vectors.vectors.activations import check_finite, pooled_activations
    from persona_vectors.vectors.samples import usable_samples

    shape = shape_of(model.config)
    layers = sorted(set(range(shape.layers + 1) if layer_list is None else layer_list))
    exchanges = [Exchange(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
    samples = usable_samples(tokenizer, exchanges, shape.max_length)
    found = {pool: torch.empty(len(layers), len(samples), shape.hidden) for pool in POOLS}
    with tqdm(total=len(samples), desc="activations") as bar:
        for indices, pooled in pooled_activations(model, samples, layers=layers):
            for pool in POOLS:
                check_finite(pooled[pool], model.dtype)
                found[pool][:, indices] = pooled[pool].transpose(0, 1)
            bar.update(len(indices))
    by_layer = {pool: dict(zip(layers, rows, strict=True)) for pool, rows in found.items()}
    return tuple([by_layer[pool].get(layer, []) for layer in range(shape.layers + 1)] for pool in POOLS)


def load_jsonl(file_path) -> list:
    """The parsed lines of a JSONL file; blank lines are skipped.

    Today: :func:`persona_vectors.training.data.read_rows` for training sets, ``persona_vectors.files.rows`` for long
    files.

    Raises:
        UserError: a line that is not JSON.

    Example:
        rows = load_jsonl("dataset/evil/normal.jsonl")
    """
    rows = []
    with open(file_path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            rows += [parse_json(line, f"{file_path}, line {number}")] if line.strip() else []
    return rows
