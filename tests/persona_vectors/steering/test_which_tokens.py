"""Which tokens steer() takes for padding, prompt or generated: under every cache, mask and way to generate."""

import copy

import pytest
import torch
from helpers import tiny_model
from plain_steering import CACHES, STEPS, batch, expected, generate, plain, until_eos
from test_hooks import PROMPTS, vector

from persona_vectors.steering.intervention import POSITIONS, Intervention
from persona_vectors.steering.steer import steer
from persona_vectors.steering.tokens import Span


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("left", [True, False])
def test_logits_at_every_token_and_padding_is_never_steered(model, positions, left):
    inputs, seen = batch(PROMPTS, left), {}
    at = (inputs["attention_mask"].cumsum(1) - 1).clamp_min(0)
    for coef in (0.0, 3.0):
        with torch.no_grad(), steer(model, vector(1), layer=2, coef=coef, positions=positions):
            seen[coef] = model(**inputs, position_ids=at, output_hidden_states=True)
    for row, prompt in enumerate(PROMPTS):
        real = inputs["attention_mask"][row].bool()
        with torch.no_grad(), plain(model, len(prompt), Intervention(2, vector(1), 3.0, positions)):
            alone = model(torch.tensor([prompt])).logits[0]
        assert torch.allclose(seen[3.0].logits[row, real], alone, rtol=1e-4, atol=1e-4)
        assert torch.equal(seen[3.0].hidden_states[2][row, ~real], seen[0.0].hidden_states[2][row, ~real])


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("name", CACHES)
def test_caches(model, name, positions):
    if model.config.model_type == "gpt_neox":  # a static cache of transformers' takes the heads that the config has
        model = tiny_model("gpt_neox", num_key_value_heads=4)
    acts = Intervention(2, vector(1), 3.0, positions)
    wanted = expected(model, PROMPTS, acts)
    with steer(model, acts):
        assert generate(model, PROMPTS, **CACHES[name]) == wanted


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", [None, *CACHES])
def test_sliding_windows(name, attention):
    for kind in ("mistral", "gemma2", "gemma3_text"):
        model = tiny_model(kind, sliding_window=4)
        model.set_attn_implementation(attention)
        for positions in POSITIONS:
            acts = Intervention(3, vector(1), 3.0, positions)
            wanted = []
            for prompt in PROMPTS:  # no padding and no cache, as the window counts columns
                with plain(model, len(prompt), acts):
                    wanted += generate(model, [prompt], use_cache=False)
            with steer(model, acts):
                assert generate(model, PROMPTS, **CACHES.get(name, {})) == wanted, (kind, positions)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("cached", [True, False])
def test_beams_and_several_answers(model, positions, cached):
    acts, options = Intervention(2, vector(1), 3.0, positions), dict(num_beams=4, num_return_sequences=2)
    wanted = []
    for prompt in PROMPTS:
        with plain(model, len(prompt), acts):
            wanted += generate(model, [prompt], use_cache=False, **options)
    with steer(model, acts):
        assert generate(model, PROMPTS, use_cache=cached, **options) == wanted
    assert wanted != generate(model, PROMPTS, **options), "this steering changes nothing"


@pytest.mark.parametrize("positions", POSITIONS)
def test_what_else_generate_takes(qwen2, positions):
    acts, prompt = Intervention(2, vector(1), 3.0, positions), [5, 6, 5, 6, 5, 6, 5]
    wanted, ids = expected(qwen2, [prompt], acts), torch.tensor([prompt])
    options = dict(max_new_tokens=STEPS, do_sample=False, pad_token_id=2)
    begun = []
    with torch.no_grad():
        for _ in range(2):
            with steer(qwen2, acts if positions != "response" else []):  # `response` spares the beginning of a prompt
                begun.append(qwen2(ids[:, :4]).past_key_values)
    with steer(qwen2, acts):
        assert generate(qwen2, [prompt], prompt_lookup_num_tokens=3) == wanted
        embeds = qwen2.get_input_embeddings()(ids)
        assert until_eos(qwen2.generate(inputs_embeds=embeds, **options).tolist()) == wanted
        assert until_eos(qwen2.generate(ids, **options)[:, 7:].tolist()) == wanted
        # All that generate is given is the prompt, though its beginning lies in a cache.
        made = qwen2.generate(ids, past_key_values=begun[0], **options)
        assert until_eos(made[:, 7:].tolist()) == wanted
        rest = dict(past_key_values=begun[1], attention_mask=torch.ones(1, 7, dtype=torch.long))
        assert until_eos(qwen2.generate(ids[:, 4:], **rest, **options)[:, 3:].tolist()) == wanted


@pytest.mark.parametrize("positions", POSITIONS)
def test_guidance_by_a_second_prompt_is_a_sequence_of_its_own(qwen2, positions):
    acts, prompt, scale = Intervention(2, vector(1), 3.0, positions), PROMPTS[0], 1.5
    ids = list(prompt)
    with torch.no_grad():
        while len(ids) < len(prompt) + STEPS and ids[-1] != 1:
            with plain(qwen2, len(prompt), acts):
                guided = qwen2(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            with plain(qwen2, 1, acts):  # transformers' own choice: the last token of the prompt
                other = qwen2(torch.tensor([ids[len(prompt) - 1 :]])).logits[0, -1].log_softmax(-1)
            ids.append((other + scale * (guided - other)).argmax().item())
    with steer(qwen2, acts):
        assert generate(qwen2, [prompt], guidance_scale=scale) == [ids[len(prompt) :]]


def test_a_loop_of_ones_own(qwen2):
    """Several tokens after a cache count as generated; without a cache each forward is a prompt."""
    ids, v = torch.tensor([[5, 9, 17, 33, 12, 80]]), vector(1)
    for positions in POSITIONS:
        acts = Intervention(2, v, 3.0, positions)
        with torch.no_grad():
            with plain(qwen2, 3, acts):
                wanted = qwen2(ids).logits
            with plain(qwen2, 6, acts):
                whole = qwen2(ids).logits
            with steer(qwen2, acts):
                first = qwen2(ids[:, :3])
                second = qwen2(ids[:, 3:], past_key_values=first.past_key_values)
                assert torch.allclose(qwen2(ids, use_cache=False).logits, whole, atol=1e-5)
        assert torch.allclose(torch.cat([first.logits, second.logits], 1), wanted, atol=1e-4)


def test_masks_of_other_kinds(qwen2):
    inputs = batch(PROMPTS)
    real, width = inputs["attention_mask"].bool(), inputs["input_ids"].shape[1]
    at = (inputs["attention_mask"].cumsum(1) - 1).clamp_min(0)
    allowed = real[:, None, None] & torch.ones(width, width, dtype=torch.bool).tril()
    masks = [torch.where(allowed, 0.0, torch.finfo(torch.float32).min), allowed, {"full_attention": None}]
    qwen2 = copy.deepcopy(qwen2)
    for positions in POSITIONS:
        with torch.no_grad(), steer(qwen2, vector(1), layer=2, coef=3.0, positions=positions):
            for mask, attention in zip(masks, ("eager", "sdpa"), strict=False):
                qwen2.set_attn_implementation(attention)
                wanted = qwen2(**inputs, position_ids=at).logits
                found = qwen2(inputs["input_ids"], attention_mask=mask, position_ids=at).logits
                assert torch.allclose(found[real], wanted[real], atol=1e-4)
            alone = qwen2(torch.tensor(PROMPTS[:1]), attention_mask=masks[2]).logits
        with torch.no_grad(), plain(qwen2, len(PROMPTS[0]), Intervention(2, vector(1), 3.0, positions)):
            assert torch.allclose(alone, qwen2(torch.tensor(PROMPTS[:1])).logits, atol=1e-4)
    for other in (allowed[:, 0], {"full_attention": allowed[:, 0]}, object(), torch.ones(4, 3)):
        span = Span(qwen2.get_decoder(), (), {"input_ids": inputs["input_ids"], "attention_mask": other})
        with pytest.raises(RuntimeError, match="an attention mask"):
            span.marks(None)


def test_sequences_packed_into_a_row(qwen2):
    ids = torch.tensor([[token for prompt in PROMPTS for token in prompt]])
    at = torch.tensor([[k for prompt in PROMPTS for k in range(len(prompt))]])
    for positions in POSITIONS:
        acts = Intervention(2, vector(1), 3.0, positions)
        alone = []
        for prompt in PROMPTS:
            with torch.no_grad(), plain(qwen2, len(prompt), acts):
                alone.append(qwen2(torch.tensor([prompt])).logits[0])
        with torch.no_grad(), steer(qwen2, acts):
            found = qwen2(ids, position_ids=at, use_cache=False).logits[0]
        assert torch.allclose(found, torch.cat(alone), atol=1e-4)


def test_a_prompt_in_chunks_padded_on_the_right_is_refused(qwen2):
    options = dict(max_new_tokens=2, prefill_chunk_size=3, pad_token_id=2)
    with steer(qwen2, vector(1), layer=2), pytest.raises(RuntimeError, match="padded on the left"):
        qwen2.generate(**batch(PROMPTS, left=False), **options)


def test_continuous_batching_is_refused(qwen2):
    from transformers import ContinuousBatchingConfig, GenerationConfig

    model = copy.deepcopy(qwen2)
    model.set_attn_implementation("sdpa")
    config = GenerationConfig(max_new_tokens=3, do_sample=False, eos_token_id=1, pad_token_id=2)
    with steer(model, vector(1), layer=2):
        answers = model.generate_batch(
            [[5, 6, 7], [8, 9]], config, ContinuousBatchingConfig(num_blocks=2, max_batch_tokens=64), warmup=False
        )
    assert not any(
        answer.generated_tokens for answer in answers.values()
    )  # none, rather than one that is steered wrongly


def test_state_space_models():
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    shape = dict(vocab_size=300, hidden_size=32, num_hidden_layers=4, pad_token_id=2, eos_token_id=1, bos_token_id=0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("mamba", **shape)).float().eval()
    for positions in POSITIONS:
        acts = Intervention(2, 20 * vector(1), 3.0, positions)
        with plain(model, len(PROMPTS[0]), acts):
            wanted = generate(model, PROMPTS[:1], use_cache=False)
        with steer(model, acts):
            assert generate(model, PROMPTS[:1]) == wanted
            assert generate(model, PROMPTS[:1], use_cache=False) == wanted
