"""Compute the log-probabilities of given answers' tokens, and the entropies of the model's own predictions.

All answers to a prompt share its KV cache, which is computed once. Works on token ids and models; knows nothing about
traits, questions or files.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor, nn

from persona_vectors.models.decoder import embedding, find_decoder
from persona_vectors.vectors.activations import check_finite
from persona_vectors.vectors.batches import Sample, batches_by_length, token_budget_for
from persona_vectors.vectors.shared_prompts import prompts_for_answers, sharing_pays

LOGITS = 1 << 27  # most elements in a batch's logits: 512 MiB of float32
NEVER = -1000.0  # log-probability of impossible tokens; it contributes 0 to an entropy


@dataclass(frozen=True)
class TokenLikelihoods:
    """Likelihoods of one answer after one prompt; each array is [tokens of the answer], float32.

    Attributes:
        logprobs: log p of the token given everything before it, in nats.
        entropies: entropy of the model's next-token distribution there (the mean of -log p), in nats.
        variances: variance of -log p under that distribution, in nats squared.
    """

    logprobs: numpy.ndarray
    entropies: numpy.ndarray
    variances: numpy.ndarray


@torch.inference_mode()
def token_likelihoods(
    model: nn.Module, samples: Sequence[Sample], token_budget: int | None = None
) -> list[TokenLikelihoods]:
    """The likelihoods of every sample's answer, given its prompt (and the text between the two, if any).

    Args:
        model: a causal language model of transformers, PEFT-wrapped or not, on any device.
        samples: each with a prompt and an answer of at least one token.
        token_budget: padded tokens per batch; None chooses by device and vocabulary size.

    Raises:
        UserError: the logits are NaN or infinite.
        ValueError: a sample without a prompt or an answer.

    Example:
        (found,) = token_likelihoods(model, [Sample(prompt_ids, answer_ids)])
        found.logprobs.sum()  # log p(answer | prompt)
    """
    if not all(sample.prompt_ids and sample.answer_ids for sample in samples):
        raise ValueError("a sample without a prompt or an answer has no likelihood")
    decoder = find_decoder(model)
    device, vocabulary = embedding(model).device, len(embedding(model))
    budget = token_budget or max(1, min(token_budget_for(device), LOGITS // vocabulary))
    shared = min(len(sample.prompt_ids) for sample in samples) > 1 and sharing_pays(decoder, samples)
    make = _shared_batches if shared else _plain_batches
    found: dict[int, TokenLikelihoods] = {}
    for indices, logits, starts in make(model, decoder, samples, budget, device):
        for index, row, start in zip(indices, logits, starts, strict=True):
            first, last = samples[index].answer_span
            ids = torch.tensor(samples[index].answer_ids, device=row.device)
            found[index] = _likelihoods(row[start + first : start + last], ids)
    return [found[index] for index in range(len(samples))]


def _likelihoods(logits: Tensor, ids: Tensor) -> TokenLikelihoods:
    """Likelihoods of the tokens ``ids`` [tokens] under ``logits`` [tokens, vocabulary]."""
    logits = logits.float()
    total = logits.logsumexp(-1, keepdim=True)
    check_finite(total, logits.dtype)
    logprobs = (logits - total).clamp_(min=NEVER)
    chosen = logprobs.gather(-1, ids[:, None])[:, 0]
    weighted = logprobs.exp() * logprobs
    entropies = -weighted.sum(-1)
    variances = weighted.mul_(logprobs).sum(-1) - entropies.square()
    return TokenLikelihoods(*(numbers.cpu().numpy() for numbers in (chosen, entropies, variances.clamp_(min=0))))


Batches = Iterator[
    tuple[list[int], Tensor, list[int]]
]  # (sample indices, their logits, the row of the logits that predicts the first token after each prompt)


def _plain_batches(model, _decoder, samples: Sequence[Sample], budget: int, device) -> Batches:
    """Each sample separately: the prompt and the tokens written after it, except the last."""
    sequences = [(sample.prompt_ids + sample.written_ids)[:-1] for sample in samples]
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    can_leave_out = "logits_to_keep" in inspect.signature(base.forward).parameters
    for indices in batches_by_length(list(map(len, sequences)), budget):
        ids, _ = _padded([sequences[index] for index in indices], device)
        before = min(len(samples[index].prompt_ids) for index in indices) - 1 if can_leave_out else 0
        options = {"logits_to_keep": ids.shape[1] - before} if can_leave_out else {}
        logits = model(input_ids=ids, use_cache=False, **options).logits  # right padding: causal attention ignores it
        yield indices, logits, [len(samples[index].prompt_ids) - 1 - before for index in indices]


def _shared_batches(model, decoder, samples: Sequence[Sample], budget: int, device) -> Batches:
    """Each prompt once, except its last token; everything written after the prompt continues from that token."""
    from transformers.cache_utils import DynamicCache

    written_after: dict[tuple[int, ...], list[int]] = {}
    for index, sample in enumerate(samples):
        written_after.setdefault(tuple(sample.prompt_ids), []).append(index)
    prompts = list(written_after)
    for chosen in batches_by_length(list(map(len, prompts)), budget):
        cache = DynamicCache(config=decoder.config)
        ids, seen = _padded([prompts[k][:-1] for k in chosen], device)
        decoder(input_ids=ids, past_key_values=cache, use_cache=True)
        answers = [(row, index) for row, k in enumerate(chosen) for index in written_after[prompts[k]]]
        for some in batches_by_length([len(samples[index].written_ids) for _, index in answers], budget):
            indices = [answers[k][1] for k in some]
            rows = torch.tensor([answers[k][0] for k in some], device=device)
            ids, mask = _padded(
                [samples[index].prompt_ids[-1:] + samples[index].written_ids[:-1] for index in indices], device
            )
            starts = seen[rows].sum(-1, keepdim=True)
            logits = model(
                input_ids=ids,
                attention_mask=torch.cat([seen[rows], mask], dim=1),
                position_ids=starts + torch.arange(ids.shape[1], device=device),
                past_key_values=prompts_for_answers(cache, rows),
                use_cache=True,
            ).logits
            yield indices, logits, [0] * len(indices)


def _padded(sequences: Sequence[Sequence[int]], device) -> tuple[Tensor, Tensor]:
    """Ids [batch, width] padded on the right, and their attention mask: 1 for tokens, 0 for padding."""
    width = max(map(len, sequences))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in sequences], device=device)
    lengths = torch.tensor(list(map(len, sequences)), device=device)
    return ids, (torch.arange(width, device=device) < lengths[:, None]).long()
