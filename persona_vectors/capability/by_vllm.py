"""The measures of :mod:`persona_vectors.capability.measures` whose texts vLLM reads; their definitions are there."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from persona_vectors.capability.measures import LOGITS, divergence
from persona_vectors.engines.vllm.scoring import EVERY, Text, read_texts
from persona_vectors.steering.intervention import Intervention
from persona_vectors.vectors.batches import Sample, batches_by_length

if TYPE_CHECKING:
    from persona_vectors.engines.vllm.engine import VLLMEngine


def kl_sums(
    engine: "VLLMEngine", samples: Sequence[Sample], interventions: Sequence[Intervention], vocabulary: int
) -> list[float]:
    """sum over each answer's tokens of the divergence, in nats; see :func:`measures.kl_sums`.

    Args:
        engine: started with ``max_logprobs=-1``.
        vocabulary: numbers in a whole row, which say how many texts are read at a time.
    """
    from tqdm import tqdm

    sums = [0.0] * len(samples)
    budget = max(1, LOGITS // (2 * vocabulary))
    rounds = batches_by_length(list(map(len, samples)), budget) if interventions else ()
    for indices in tqdm(rounds, desc="kl", leave=False):
        texts = [text_of(samples[k], (), f"{k}") for k in indices]
        texts += [text_of(samples[k], interventions, f"{k} steered") for k in indices]
        rows = {text.key: _by_token(ids, logprobs) for text, ids, logprobs in read_texts(engine, texts, EVERY)}
        for k in indices:
            sums[k] = divergence(rows[f"{k}"], rows[f"{k} steered"])
    return sums


def nll_sums(engine: "VLLMEngine", samples: Sequence[Sample], interventions: Sequence[Intervention]) -> list[float]:
    """sum over each answer's tokens of -log p(token); see :func:`measures.nll_sums`."""
    texts = [text_of(sample, interventions, str(k)) for k, sample in enumerate(samples)]
    sums = {int(text.key): -float(logprobs[:, 0].double().sum()) for text, _, logprobs in read_texts(engine, texts)}
    return [sums[k] for k in range(len(samples))]


def text_of(sample: Sample, interventions: Sequence[Intervention], key: str) -> Text:
    """A prompt and its answer, to be read under a steering."""
    ids = sample.prompt_ids + sample.answer_ids
    return Text(key, ids, tuple(interventions), prompt_length=len(sample.prompt_ids))


def _by_token(ids: Tensor, logprobs: Tensor) -> Tensor:
    """Log-probabilities [rows, vocabulary] in the order of the vocabulary, from rows of the likeliest first."""
    return torch.empty_like(logprobs[:, 1:]).scatter_(1, ids[:, 1:], logprobs[:, 1:])
