"""Log-probabilities of answers: equal to one sequence at a time without a cache, on every architecture."""

import numpy
import pytest
import torch
from helpers import tiny_model

from persona_vectors.errors import UserError
from persona_vectors.likelihood.tokens import token_likelihoods
from persona_vectors.vectors.batches import Sample


def slowly(model, sample):
    """One sequence at a time, no cache, the whole logits: log p, entropy and variance of each token of the answer."""
    ids = torch.tensor([sample.prompt_ids + sample.between_ids + sample.answer_ids])
    with torch.no_grad():
        logprobs = model(ids).logits[0].double().log_softmax(-1)
    found = []
    for place in range(ids.shape[1] - len(sample.answer_ids), ids.shape[1]):
        row = logprobs[place - 1]
        surprise, p = -row, row.exp()
        mean = (p * surprise).sum()
        found.append([row[ids[0, place]], mean, (p * (surprise - mean) ** 2).sum()])
    return numpy.array(found, dtype=float).T


def samples(prompts: int, answers: int, between: int = 0):
    draw = numpy.random.default_rng(0)
    made = []
    for _ in range(prompts):
        prompt = draw.integers(4, 300, draw.integers(2, 30)).tolist()
        for _ in range(answers):
            lengths = draw.integers(1, 20), draw.integers(0, between + 1)
            made.append(Sample(prompt, *(draw.integers(4, 300, n).tolist() for n in lengths)))
    return made


def check(model, some, **options):
    found = token_likelihoods(model, some, **options)
    for sample, one in zip(some, found, strict=True):
        expected = slowly(model, sample)
        assert len(one.logprobs) == len(sample.answer_ids)
        for numbers, slow in zip((one.logprobs, one.entropies, one.variances), expected, strict=True):
            assert numbers == pytest.approx(slow, abs=1e-4)


@pytest.mark.parametrize("budget", [None, 40])
@pytest.mark.parametrize(
    "shape", [(3, 4), (4, 1), (2, 3, 5)], ids=["shared prompts", "own prompts", "thoughts between"]
)
def test_equal_to_one_sequence_at_a_time_without_a_cache(model, shape, budget):
    check(model, samples(*shape), token_budget=budget)


def test_a_prompt_of_one_token_and_an_answer_of_one(qwen2):
    check(qwen2, [Sample([5], [7]), Sample([5], [8, 9]), Sample([5, 6], [7]), Sample([5, 6], [9])])


def test_a_window_shorter_than_the_sample_and_an_adapter():
    check(tiny_model("mistral", sliding_window=8), samples(2, 4))
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(tiny_model("qwen2"), LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False))
    check(model.eval(), samples(2, 4))
    check(model.eval(), samples(3, 1))


def test_logits_that_are_no_numbers_are_refused():
    model = tiny_model("qwen2")
    model.lm_head.weight.data[7] = torch.inf
    with pytest.raises(UserError, match="overflow"):
        token_likelihoods(model, samples(1, 2))
