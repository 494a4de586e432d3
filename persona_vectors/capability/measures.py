"""What steering costs, without any task: distance to the unsteered model, perplexity of plain text, requests refused.

    kl          mean over answers' tokens of sum_x p(x) (log p(x) - log q(x)), p the unsteered and q the steered model's
                distribution of the next token, in nats. The answers are the unsteered model's own to harmless requests
                (greedy); the positions are those that `response` steers and that predict a token: the last one of the
                prompt and all of the answer but its last. A prompt that is steered too (`all`) moves them as well.
    perplexity  exp of the mean of -log p(token) over pages of plain English, after their titles, which are their prompt.
    refusals    share of harmless requests that are refused, and of harmful ones that are not: false refusal and harmful
                compliance. A refusal is known by its opening words, which is crude (:mod:`persona_vectors.capability.texts`).
                An empty answer is neither.

Standard errors are over answers, pages or requests. Knows models and steering; knows nothing of files or flags.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from persona_vectors.capability.texts import is_refusal
from persona_vectors.capability.values import Value, ratio
from persona_vectors.engines.base import OVERFLOW, Answer, Request, Sampling, prompts_of
from persona_vectors.errors import UserError
from persona_vectors.models.decoder import embedding
from persona_vectors.models.loading import shape_of
from persona_vectors.steering.intervention import Intervention
from persona_vectors.steering.steer import steer
from persona_vectors.steering.tokens import prompts_told
from persona_vectors.vectors.batches import Sample, batches_by_length

LOGITS = 1 << 26  # most elements in a batch's logits: 256 MiB of float32
MEASURES = ("kl", "perplexity", "refusals")


@torch.inference_mode()
def answer_logits(
    model: Any, samples: Sequence[Sample], indices: Sequence[int], interventions: Sequence[Intervention]
) -> list[Tensor]:
    """The logits that predict each answer's tokens, [tokens, vocabulary] float32, of one batch of ``samples``.

    Raises:
        UserError: NaN or infinite logits.
    """
    rows = [(samples[k].prompt_ids + samples[k].answer_ids)[:-1] for k in indices]
    width, device = max(map(len, rows)), embedding(model).device
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    prompts = [len(samples[k].prompt_ids) for k in indices]
    with steer(model, list(interventions)), prompts_told(prompts):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    found = [logits[r, p - 1 : len(row)].float() for r, (p, row) in enumerate(zip(prompts, rows, strict=True))]
    if not all(each.isfinite().all() for each in found):
        raise UserError(OVERFLOW.format(dtype=str(model.dtype).removeprefix("torch.")))
    return found


def batches(model: Any, samples: Sequence[Sample], title: str) -> Iterator[list[int]]:
    """Indices of samples that are read together, with a progress bar."""
    from tqdm import tqdm

    budget = max(1, LOGITS // len(embedding(model)))
    yield from tqdm(batches_by_length(list(map(len, samples)), budget), desc=title, leave=False)


def kl(model: Any, samples: Sequence[Sample], interventions: Sequence[Intervention]) -> Value:
    """KL divergence of the steered model's next token from the unsteered model's, over given answers.

    Example:
        kl(model, [Sample(prompt_ids, answer_ids)], [Intervention(20, vectors[20], 1.5)]).value  # nats per token
    """
    return kl_of(kl_sums(model, samples, interventions), samples)


def kl_of(sums: Sequence[float], samples: Sequence[Sample]) -> Value:
    """The measure, from the divergences of each answer's tokens, summed."""
    mean, error = ratio(sums, [len(sample.answer_ids) for sample in samples])
    return Value("kl", "kl", mean, error, len(samples))


def kl_sums(model: Any, samples: Sequence[Sample], interventions: Sequence[Intervention]) -> list[float]:
    """sum over each answer's tokens of the divergence, in nats."""
    sums = [0.0] * len(samples)
    for indices in batches(model, samples, "kl") if interventions else ():
        plain = answer_logits(model, samples, indices, ())
        for k, p, q in zip(indices, plain, answer_logits(model, samples, indices, interventions), strict=True):
            sums[k] = divergence(p.log_softmax(-1), q.log_softmax(-1))
    return sums


def divergence(p: Tensor, q: Tensor) -> float:
    """sum over rows of KL(p || q); p and q are log-probabilities [rows, vocabulary]."""
    return float((p.exp() * (p - q)).sum(-1).double().sum())


def perplexity(
    model: Any, tokenizer: Any, pages: Sequence[tuple[str, str]], interventions: Sequence[Intervention]
) -> Value:
    """Perplexity of pages of plain text after their titles; what is longer than the model takes is cut off.

    Title and text are tokenised by themselves, the title with the special tokens that the tokenizer puts before a text.
    """
    samples = page_samples(tokenizer, pages, shape_of(model.config).max_length)
    return perplexity_of(nll_sums(model, samples, interventions), samples)


def page_samples(tokenizer: Any, pages: Sequence[tuple[str, str]], longest: int | None) -> list[Sample]:
    """Titles as prompts and texts as answers, cut off where both have ``longest`` tokens; None: nowhere."""
    most = math.inf if longest is None else longest
    samples = []
    for title, text in pages:
        before = tokenizer(f"{title}\n\n")["input_ids"]
        after = tokenizer(text, add_special_tokens=False)["input_ids"]
        samples.append(Sample(before, after[: int(max(min(most - len(before), len(after)), 1))]))
    return samples


def nll_sums(model: Any, samples: Sequence[Sample], interventions: Sequence[Intervention]) -> list[float]:
    """sum over each answer's tokens of -log p(token)."""
    sums = [0.0] * len(samples)
    for indices in batches(model, samples, "perplexity"):
        for k, logits in zip(indices, answer_logits(model, samples, indices, interventions), strict=True):
            ids = torch.tensor(samples[k].answer_ids, device=logits.device)
            sums[k] = float(torch.nn.functional.cross_entropy(logits, ids, reduction="none").double().sum())
    return sums


def perplexity_of(sums: Sequence[float], samples: Sequence[Sample]) -> Value:
    """The measure, from the negative log-likelihoods of each page's tokens, summed."""
    mean, error = ratio(sums, [len(sample.answer_ids) for sample in samples])
    value = math.exp(mean) if mean is not None and mean < 700 else None  # beyond that a float ends
    return Value("perplexity", "perplexity", value, value * error if value and error else None, len(samples))


def answers_to(
    engine: Any, asked: Sequence[str], interventions: Sequence[Intervention], max_tokens: int, title: str
) -> tuple[list[list[int]], list[Answer]]:
    """(prompts as token ids, greedy answers) of an engine to requests, each a chat of its own without a system prompt."""
    from tqdm import tqdm

    chats = [[{"role": "user", "content": one}] for one in asked]
    _, ids = prompts_of(engine.tokenizer, chats, engine.longest, "request {}")
    wanted = [Request(str(k), row, tuple(interventions)) for k, row in enumerate(ids)]
    made = engine.generate(wanted, Sampling(max_tokens, temperature=0.0))
    found = {int(one.key): one for one in tqdm(made, total=len(wanted), desc=title, leave=False)}
    return ids, [found[k] for k in range(len(asked))]


def refusals(answers: Mapping[str, Sequence[str]]) -> list[Value]:
    """Shares of ``harmless`` requests that were refused and of ``harmful`` ones that were not, by their answers' texts."""
    values = []
    for kind, measure, counts in (("harmless", "harmless refused", True), ("harmful", "harmful not refused", False)):
        told = [answer for answer in answers[kind] if answer.strip()]
        share, error = ratio([float(is_refusal(answer) is counts) for answer in told], [1.0] * len(told))
        values.append(Value("refusals", measure, share, error, len(told)))
    return values
