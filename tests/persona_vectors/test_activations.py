"""Pooled extraction against a plain loop: one sample at a time, all hidden states kept."""

import random

import pytest
import torch

from persona_vectors.activations import POOLS, Sample, batches_by_length, pooled_activations


def plain_loop(model, samples):
    """The published way: output_hidden_states, one sample at a time."""
    rows = {pool: [] for pool in POOLS}
    for sample in samples:
        ids = torch.tensor([sample.prompt_ids + sample.answer_ids])
        with torch.no_grad():
            states = torch.stack(model(ids, output_hidden_states=True).hidden_states)[:, 0]
        p = len(sample.prompt_ids)
        rows["prompt_avg"].append(states[:, :p].mean(1))
        rows["response_avg"].append(states[:, p:].mean(1))
        rows["prompt_last"].append(states[:, p - 1])
    return {pool: torch.stack(values) for pool, values in rows.items()}


def make_samples(n=17, vocabulary=300):
    draw = random.Random(0)
    ids = lambda low, high: [draw.randrange(4, vocabulary) for _ in range(draw.randint(low, high))]  # noqa: E731
    return [Sample(ids(1, 30), ids(1, 60)) for _ in range(n)]


def test_equals_plain_loop(model):
    samples = make_samples()
    expected = plain_loop(model, samples)
    got = {pool: torch.full_like(expected[pool], torch.nan) for pool in POOLS}
    for indices, pooled in pooled_activations(model, samples, token_budget=200):
        for pool, rows in pooled.items():
            got[pool][indices] = rows
    for pool in POOLS:
        scale = expected[pool].abs().amax(dim=(0, 2), keepdim=True)
        assert ((got[pool] - expected[pool]).abs() / scale).max() < 1e-4, pool


def test_hooks_are_gone_afterwards_also_after_an_error(qwen2):
    list(pooled_activations(qwen2, make_samples(3)))
    with pytest.raises(IndexError):
        list(pooled_activations(qwen2, [Sample([299], [100_000])]))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in qwen2.modules())


def test_batches_hold_the_budget_and_everything_once():
    lengths = [5, 90, 3, 3, 40, 41, 7, 200]
    batches = batches_by_length(lengths, 100)
    assert sorted(sum(batches, [])) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 100


def test_no_logits_are_computed(qwen2):
    calls = []
    handle = qwen2.lm_head.register_forward_hook(lambda *_: calls.append(1))
    list(pooled_activations(qwen2, make_samples(3)))
    handle.remove()
    assert not calls
