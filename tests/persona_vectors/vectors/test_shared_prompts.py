"""Answers that share a prompt: the numbers of the plain loop, and the prompt run once."""

import random

import pytest
import torch
from helpers import make_samples, plain_loop

from persona_vectors.vectors.activations import POOLS, pooled_activations
from persona_vectors.vectors.batches import Sample


def answers_to_the_same_prompts(prompts=5, each=4):
    draw = random.Random(1)
    samples = [
        Sample(sample.prompt_ids, [draw.randrange(4, 300) for _ in range(draw.randint(1, 40))])
        for sample in make_samples(prompts)
        for _ in range(each)
    ]
    draw.shuffle(samples)
    return samples


@pytest.mark.parametrize("pools", [POOLS, ("response_avg",), ("response_avg", "prompt_last")])
def test_answers_that_share_a_prompt_equal_the_plain_loop_and_the_prompt_is_run_once(model, pools):
    samples = answers_to_the_same_prompts()
    expected = plain_loop(model, samples)
    tokens = []
    handle = model.get_input_embeddings().register_forward_hook(
        lambda _m, args, out: tokens.append(out.shape[:2].numel())
    )
    got = {}
    for indices, pooled in pooled_activations(model, samples, pools, token_budget=120):
        for pool, rows in pooled.items():
            got.setdefault(pool, torch.full_like(expected[pool], torch.nan))[indices] = rows
    handle.remove()
    assert set(got) == set(pools)
    for pool in pools:
        scale = expected[pool].abs().amax(dim=(0, 2), keepdim=True)
        assert ((got[pool] - expected[pool]).abs() / scale).max() < 1e-4, pool
    wanted = sum(len(s.answer_ids) for s in samples) + sum(map(len, {tuple(s.prompt_ids) for s in samples}))
    assert sum(tokens) < 1.25 * wanted < sum(map(len, samples))


def test_prompts_are_not_shared_where_the_attention_window_is_shorter_than_a_sample():
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    small = dict(vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4)
    model = MistralForCausalLM(MistralConfig(**small, num_key_value_heads=2, sliding_window=8)).eval()
    samples = answers_to_the_same_prompts()
    expected = plain_loop(model, samples)
    for indices, pooled in pooled_activations(model, samples, token_budget=120):
        for pool, rows in pooled.items():
            assert torch.allclose(rows, expected[pool][indices], atol=1e-4), pool
