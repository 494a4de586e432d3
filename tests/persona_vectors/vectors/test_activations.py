"""Pooled extraction against a plain loop: one sample at a time, all hidden states kept."""

import pytest
import torch
from helpers import make_samples, plain_loop

from persona_vectors.models.decoder import find_blocks
from persona_vectors.vectors.activations import POOLS, pooled_activations
from persona_vectors.vectors.batches import Sample


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


@pytest.mark.parametrize(("layers", "blocks_run"), [([2], 2), ([0, 3], 3), ([1, 4], 4), ([0], 0)])
def test_chosen_layers_equal_the_plain_loop_and_later_blocks_are_not_run(model, layers, blocks_run):
    samples = make_samples(5)
    expected = plain_loop(model, samples)
    run = []
    handles = [block.register_forward_hook(lambda *_, n=n: run.append(n)) for n, block in enumerate(find_blocks(model))]
    for indices, pooled in pooled_activations(model, samples, token_budget=10_000, layers=layers):
        for pool, rows in pooled.items():
            scale = expected[pool][:, layers].abs().max()
            assert rows.shape[1] == len(layers)
            assert ((rows - expected[pool][indices][:, layers]).abs() / scale).max() < 1e-4, pool
    for handle in handles:
        handle.remove()
    assert run == list(range(blocks_run))
    again = plain_loop(model, samples[:2])  # the pass that was left early leaves nothing behind
    assert all(torch.equal(again[pool], expected[pool][:2]) for pool in POOLS)


def test_prompt_pools_do_not_run_the_answer(qwen2):
    samples, widths = make_samples(5), []
    expected = plain_loop(qwen2, samples)
    handle = find_blocks(qwen2)[0].register_forward_pre_hook(
        lambda _m, args, kwargs: widths.append((args[0] if args else kwargs["hidden_states"]).shape[1]),
        with_kwargs=True,
    )
    samples[0] = Sample(samples[0].prompt_ids, [])
    for indices, pooled in pooled_activations(qwen2, samples, ("prompt_last",), layers=[3]):
        assert torch.allclose(pooled["prompt_last"][:, 0], expected["prompt_last"][indices][:, 3], atol=1e-4)
    handle.remove()
    assert max(widths) == max(len(sample.prompt_ids) for sample in samples)
    with pytest.raises(ValueError, match="without an answer"):
        list(pooled_activations(qwen2, samples))


@pytest.mark.parametrize("layers", [[], [3, 1], [2, 2], [5], [-1]])
def test_layers_that_make_no_sense_are_refused(qwen2, layers):
    with pytest.raises(ValueError, match="ascend"):
        list(pooled_activations(qwen2, make_samples(2), layers=layers))


def test_hooks_are_gone_afterwards_also_after_an_error(qwen2):
    count = lambda: sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in qwen2.modules())  # noqa: E731
    before = count()  # transformers leaves hooks of its own behind when asked for hidden states
    list(pooled_activations(qwen2, make_samples(3)))
    list(pooled_activations(qwen2, make_samples(3), layers=[1]))
    with pytest.raises(IndexError):
        list(pooled_activations(qwen2, [Sample([299], [100_000])]))
    assert count() == before


def test_no_logits_are_computed(qwen2):
    calls = []
    handle = qwen2.lm_head.register_forward_hook(lambda *_: calls.append(1))
    list(pooled_activations(qwen2, make_samples(3)))
    handle.remove()
    assert not calls
