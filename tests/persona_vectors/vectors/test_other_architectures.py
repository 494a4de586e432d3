"""Architectures beside those of every other test: the numbers of the plain loop, or a refusal in words."""

import pytest
import torch
from helpers import COMMON, make_samples, plain_loop, tiny_model

import persona_vectors as pv
from persona_vectors.errors import UserError
from persona_vectors.models.decoder import find_blocks
from persona_vectors.vectors.activations import pooled_activations
from persona_vectors.vectors.batches import Sample

RIGHT = ["llama4_text", "gemma3_text", "olmo2", "granite", "cohere2", "stablelm", "glm4", "gpt_oss", "recurrent_gemma"]
GEMMA3N = dict(
    num_hidden_layers=5, layer_types=["sliding_attention"] * 4 + ["full_attention"], num_kv_shared_layers=0, laurel_rank=4,
    vocab_size_per_layer_input=300, hidden_size_per_layer_input=8, intermediate_size=[64] * 5,
    activation_sparsity_pattern=[0.0] * 5,
)  # fmt: skip
REFUSED = {
    "an encoder": ("bert", {}, "is an encoder"),
    "an encoder of RoBERTa": ("roberta", {}, "is an encoder"),
    "a decoder made an encoder": ("gemma3_text", {"use_bidirectional_attention": True}, "is an encoder"),
    "tokens of its own in front": ("cpmant", {}, "one row a token"),
    "several streams": ("gemma3n_text", GEMMA3N, "one row a token"),
}


def seen_thrice():
    """Samples of which three each share a prompt, so that the quick path is taken where there is one."""
    samples = make_samples(6)
    return [Sample(samples[k // 3].prompt_ids, samples[k].answer_ids[:20]) for k in range(6)]


def mllama():
    """The language model of Llama 3.2 Vision, whose second block is for images."""
    from transformers import MllamaForCausalLM
    from transformers.models.mllama.configuration_mllama import MllamaTextConfig

    options = {name: value for name, value in COMMON.items() if name != "head_dim"}
    return MllamaForCausalLM(MllamaTextConfig(**options, cross_attention_layers=[1])).eval()


def pooled(model, samples, layers=None):
    return list(pooled_activations(model, samples, token_budget=120, layers=layers))


@pytest.mark.parametrize("kind", RIGHT)
def test_reading_and_steering_equal_the_plain_loop(kind):
    model, samples = tiny_model(kind), seen_thrice()
    expected = plain_loop(model, samples)
    for indices, found in pooled(model, samples):
        for pool, rows in found.items():
            scale = expected[pool].abs().amax()
            assert (rows - expected[pool][indices]).abs().max() < 1e-4 * scale, pool
    ids, vector = torch.tensor([samples[0].prompt_ids + samples[0].answer_ids]), torch.randn(32)
    for layer in range(1, 5):
        with torch.no_grad(), pv.steer(model, vector, layer=layer, coef=0.7, positions="all"):
            steered = model(ids).logits
        add = lambda _m, _i, out: (out[0] + 0.7 * vector, *out[1:]) if isinstance(out, tuple) else out + 0.7 * vector  # noqa: E731
        handle = find_blocks(model)[layer - 1].register_forward_hook(add)
        with torch.no_grad():
            by_hand = model(ids).logits
            handle.remove()
            assert torch.allclose(steered, by_hand, atol=1e-5) and not torch.allclose(steered, model(ids).logits)


@pytest.mark.parametrize("name", REFUSED)
def test_activations_that_would_be_of_other_tokens_are_refused(name):
    kind, changes, words = REFUSED[name]
    with pytest.raises(UserError, match=words):
        pooled(tiny_model(kind, **changes), seen_thrice())


def test_blocks_that_text_alone_does_not_run_are_refused():
    """Their rows would be missing, and every later row taken for the layer before it; steering them would do nothing."""
    model, samples = mllama(), seen_thrice()
    for layers in (None, [1], [0, 1, 2]):
        with pytest.raises(UserError, match="leaves out blocks"):
            pooled(model, samples, layers)
    (ran,) = {rows["prompt_avg"].shape[1] for _, rows in pooled(model, samples, [0, 2, 3])}
    assert ran == 3
    ids = torch.tensor([samples[0].prompt_ids])
    with pytest.raises(UserError, match=r"layers \[2\] on text alone"), pv.steer(model, torch.ones(32), layer=2):
        model(ids)
    with pv.steer(model, torch.ones(32), layer=3):
        model(ids)
