"""steer() against a slow loop: one row at a time, no padding, no cache, a plain forward hook."""

import copy
import threading
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch
from helpers import tiny_model
from test_hooks import PROMPTS, plain_greedy, vector

from persona_vectors.errors import UserError
from persona_vectors.models.decoder import find_blocks
from persona_vectors.steering.hooks import steered
from persona_vectors.steering.intervention import POSITIONS, Intervention
from persona_vectors.steering.steer import steer
from persona_vectors.steering.tokens import Span

OTHERS = [[4, 5, 6, 7], [90, 3, 91]]
STEPS = 8


@contextmanager
def plain(model, length, *interventions):
    """A forward hook of a few lines: the prompt is the first ``length`` columns of every forward."""

    def hook_for(i):
        def hook(_module, _args, output):
            h = (output[0] if isinstance(output, tuple) else output).clone()
            at = torch.arange(h.shape[1])
            chosen = {"prompt": at < length, "response": at >= length - 1, "all": at >= 0}[i.positions]
            if i.kind == "add":
                h[:, chosen] += i.coef * i.vector
            else:
                u = i.vector / i.vector.norm()
                h[:, chosen] -= (h[:, chosen] @ u)[..., None] * u
            return (h, *output[1:]) if isinstance(output, tuple) else h

        return hook

    with ExitStack() as stack:
        for i in interventions:
            stack.callback(find_blocks(model)[i.layer - 1].register_forward_hook(hook_for(i)).remove)
        yield


def batch(prompts, left=True):
    width = max(map(len, prompts))
    ids, mask = torch.full((len(prompts), width), 2), torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        where = slice(width - len(prompt), width) if left else slice(len(prompt))
        ids[row, where], mask[row, where] = torch.tensor(prompt), 1
    return {"input_ids": ids, "attention_mask": mask}


def until_eos(rows):
    return [row[: row.index(1) + 1] if 1 in row else row for row in rows]


def generate(model, prompts, steps=STEPS, **options):
    inputs = batch(prompts)
    made = model.generate(**inputs, max_new_tokens=steps, do_sample=False, pad_token_id=2, **options)
    return until_eos(made[:, inputs["input_ids"].shape[1] :].tolist())


@torch.no_grad()
def decode(model, prompts, left):
    """A user's own loop with a cache, padded on either side."""
    inputs = batch(prompts, left)
    ids, mask, rows = inputs["input_ids"], inputs["attention_mask"], torch.arange(len(prompts))
    at, cache, made = (mask.cumsum(1) - 1).clamp_min(0), None, []
    for _ in range(STEPS):
        out = model(ids, attention_mask=mask, position_ids=at, past_key_values=cache, use_cache=True)
        last = (mask * torch.arange(mask.shape[1])).argmax(1) if cache is None else torch.zeros(len(prompts), dtype=int)
        cache, ids, at = out.past_key_values, out.logits[rows, last].argmax(-1, keepdim=True), mask.sum(1, keepdim=True)
        mask = torch.cat([mask, torch.ones_like(ids)], 1)
        made.append(ids)
    return until_eos(torch.cat(made, 1).tolist())


def expected(model, prompts, *interventions):
    return [plain_greedy(model, prompt, interventions, STEPS) for prompt in prompts]


def state(model):
    hooks = [(list(m._forward_hooks), list(m._forward_pre_hooks), sorted(vars(m))) for m in model.modules()]
    return hooks, [p.clone() for p in model.parameters()], model.generate


def unchanged(model, before):
    hooks, parameters, own = state(model)
    return hooks == before[0] and all(map(torch.equal, parameters, before[1])) and own == before[2]


@pytest.mark.parametrize("positions", POSITIONS)
def test_any_padding_and_any_number_of_generates_equal_a_plain_hook(model, positions):
    acts, before = Intervention(2, vector(1), 3.0, positions), state(model)
    wanted = expected(model, PROMPTS, acts)
    assert wanted != expected(model, PROMPTS), "this steering changes nothing"
    with steer(model, vector(1), layer=2, coef=3.0, positions=positions):
        assert generate(model, PROMPTS) == wanted
        assert decode(model, PROMPTS, left=True) == wanted == decode(model, PROMPTS, left=False)
        assert generate(model, OTHERS) == decode(model, OTHERS, left=False) != wanted
        assert [generate(model, [prompt])[0] for prompt in PROMPTS] == wanted == generate(model, PROMPTS)
    with steered(model, [(acts,)] * len(PROMPTS), list(map(len, PROMPTS)), max(map(len, PROMPTS))):
        assert generate(model, PROMPTS) == wanted
    assert unchanged(model, before)


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


CACHES = {
    "no cache": dict(use_cache=False),
    "prefill in chunks": dict(prefill_chunk_size=2),
    "prefill in odd chunks": dict(prefill_chunk_size=4),
    "static cache": dict(cache_implementation="static"),
    "static cache in chunks": dict(cache_implementation="static", prefill_chunk_size=3),
    "hybrid cache": dict(cache_implementation="hybrid"),
}


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
    with steer(qwen2, acts):
        assert generate(qwen2, [prompt], prompt_lookup_num_tokens=3) == wanted
        embeds = qwen2.get_input_embeddings()(ids)
        assert until_eos(qwen2.generate(inputs_embeds=embeds, **options).tolist()) == wanted
        assert until_eos(qwen2.generate(ids, **options)[:, 7:].tolist()) == wanted
        with torch.no_grad():
            # What generate is given is the prompt, though its beginning lies in a cache; `response` spares the beginning.
            begin = qwen2(ids[:, :4]) if positions != "response" else None
        if begin is not None:
            made = qwen2.generate(ids, past_key_values=begin.past_key_values, **options)
            assert until_eos(made[:, 7:].tolist()) == wanted
        several = qwen2.generate(ids, num_return_sequences=3, **{**options, "do_sample": True}, max_length=None)
        assert several.shape[0] == 3
        cfg = generate(qwen2, PROMPTS[:1], guidance_scale=1.5)
    with plain(qwen2, len(PROMPTS[0]), acts):  # the second prompt, of one token, is a sequence of its own
        assert len(cfg[0]) == STEPS or cfg[0][-1] == 1


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


def test_ways_to_say_it(qwen2):
    whole = torch.stack([vector(10 + layer) for layer in range(5)])
    two = [Intervention(2, whole[2], 2.0, "all"), Intervention(3, whole[3], 2.0, "all")]
    assert (wanted := expected(qwen2, PROMPTS, *two)) != expected(qwen2, PROMPTS, two[0])
    for way in (
        steer(qwen2, two),
        steer(qwen2, tuple(two)),
        steer(qwen2, {2: whole[2], 3: whole[3].numpy()}, coef=2.0, positions="all"),
        steer(qwen2, {np.int64(2): 2 * whole[2].double(), 3: (2 * whole[3]).tolist()}, positions="all"),
    ):
        with way:
            assert generate(qwen2, PROMPTS) == wanted
    first = expected(qwen2, PROMPTS, two[0])
    for given in (whole, whole.numpy(), whole[2], whole[2].tolist(), whole.requires_grad_()):
        with steer(qwen2, given, layer=2, coef=2, positions="all"):
            assert generate(qwen2, PROMPTS) == first
    for positions in POSITIONS:
        wanted = expected(qwen2, PROMPTS, Intervention(2, vector(1), positions=positions, kind="ablate"))
        with steer(qwen2, vector(1), layer=2, kind="ablate", positions=positions):
            assert generate(qwen2, PROMPTS) == wanted


def test_the_last_layer_is_before_the_final_norm(model):
    seen = []
    handle = find_blocks(model)[3].register_forward_hook(lambda _m, _a, out: seen.append(out))
    ids = torch.tensor(PROMPTS[:1])
    with torch.no_grad():
        for coef in (0, 3.0):
            with steer(model, vector(1), layer=4, coef=coef, positions="all"):
                again = find_blocks(model)[3].register_forward_hook(lambda _m, _a, out: seen.append(out))
                model(ids)
                again.remove()
    handle.remove()
    plain_state, steered_state = (out[0] if isinstance(out, tuple) else out for out in (seen[1], seen[3]))
    assert torch.allclose(steered_state - plain_state, (3.0 * vector(1)).expand_as(plain_state), atol=1e-4)


def test_blocks_nest_and_the_inner_restores(model):
    outer, inner = Intervention(2, vector(1), 3.0), Intervention(3, vector(2), 3.0, "prompt")
    before = state(model)
    neither, one, both = (expected(model, PROMPTS, *acts) for acts in ((), (outer,), (outer, inner)))
    assert neither != one != both
    with steer(model, outer):
        within = state(model)
        with steer(model, inner):
            assert generate(model, PROMPTS) == both
        assert unchanged(model, within)
        assert generate(model, PROMPTS) == one
        with steer(model, vector(1), layer=2, coef=-3.0):
            assert generate(model, PROMPTS) == neither
        with steered(model, [(inner,)] * 4, list(map(len, PROMPTS)), max(map(len, PROMPTS))):
            assert generate(model, PROMPTS) == both
    assert unchanged(model, before)


def in_threads(*work):
    found, together = [None] * len(work), threading.Barrier(len(work))

    def run(k):
        together.wait()
        found[k] = [work[k]() for _ in range(4)]

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_threads_that_steer_have_each_their_own(qwen2):
    acts, before = [Intervention(1 + k, vector(k), 3.0, POSITIONS[k]) for k in range(3)], state(qwen2)

    def work(interventions, prompts):
        def once():
            with steer(qwen2, interventions):
                return generate(qwen2, prompts)

        return once

    jobs = [([acts[0]], PROMPTS), ([acts[1]], OTHERS), ([acts[2]], PROMPTS[:1]), ([], PROMPTS)]
    wanted = [expected(qwen2, prompts, *interventions) for interventions, prompts in jobs]
    for found in (in_threads(*(work(*job) for job in jobs)), steered_meanwhile(qwen2, *(work(*job) for job in jobs))):
        assert found == [[answers] * 4 for answers in wanted]
    assert unchanged(qwen2, before)


def steered_meanwhile(model, *work):
    with steer(model, vector(9), layer=2):
        return in_threads(*work)


def test_a_thread_that_steers_nothing_while_two_others_steer_is_refused(qwen2):
    entered, done = threading.Barrier(3), threading.Barrier(3)

    def steering(layer):
        with steer(qwen2, vector(1), layer=layer):
            entered.wait()
            done.wait()

    threads = [threading.Thread(target=steering, args=(layer,)) for layer in (2, 3)]
    for thread in threads:
        thread.start()
    entered.wait()
    with pytest.raises(RuntimeError, match="several threads steer this model"):
        generate(qwen2, PROMPTS)
    with steer(qwen2, []):
        found = generate(qwen2, PROMPTS)
    done.wait()
    for thread in threads:
        thread.join()
    assert found == expected(qwen2, PROMPTS)


def test_threads_within_one_block(model):
    acts = Intervention(2, vector(1), 3.0)
    with steer(model, acts):
        found = in_threads(
            lambda: generate(model, PROMPTS),
            lambda: decode(model, OTHERS, left=False),
            lambda: generate(model, OTHERS, use_cache=False),
        )
    for answers, prompts in zip(found, (PROMPTS, OTHERS, OTHERS), strict=True):
        assert answers == [expected(model, prompts, acts)] * 4


def test_blocks_of_threads_that_end_in_any_order_leave_nothing(qwen2):
    before, first, second = state(qwen2), steer(qwen2, vector(1), layer=2), steer(qwen2, vector(2), layer=3)
    wanted = expected(qwen2, PROMPTS, Intervention(3, vector(2)))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert generate(qwen2, PROMPTS, use_cache=False) == wanted
    second.__exit__(None, None, None)
    assert unchanged(qwen2, before)


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_model_wrapped_by_peft(positions):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    wrapped = get_peft_model(tiny_model("qwen2"), LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    wrapped.eval()
    acts = Intervention(2, vector(1), 3.0, positions)
    wanted, before = expected(wrapped, PROMPTS, acts), state(wrapped)
    for entered in (wrapped, wrapped.get_base_model()):
        with steer(entered, acts):
            for options in ({}, CACHES["no cache"], CACHES["prefill in chunks"]):
                assert generate(wrapped, PROMPTS, **options) == wanted
    assert unchanged(wrapped, before)


def test_an_error_within_leaves_the_model_as_it_was(qwen2):
    before = state(qwen2)
    with pytest.raises(ZeroDivisionError), steer(qwen2, vector(1), layer=2), steer(qwen2, vector(1), layer=3):
        raise ZeroDivisionError
    handle = find_blocks(qwen2)[3].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), steer(qwen2, vector(1), layer=2):
        generate(qwen2, PROMPTS)
    handle.remove()
    assert unchanged(qwen2, before)


def test_a_generate_of_the_users_own_is_kept():
    model = tiny_model("qwen2")
    own = model.generate
    model.generate = lambda *args, **kwargs: own(*args, **kwargs)
    kept, wanted = model.generate, expected(model, PROMPTS, Intervention(2, vector(1), 3.0))
    with steer(model, vector(1), layer=2, coef=3.0):
        assert generate(model, PROMPTS, use_cache=False) == wanted
    assert model.generate is kept


def test_a_compiled_model_is_steered_and_then_is_not(qwen2):
    compiled, inputs = torch.compile(qwen2, backend="eager"), batch(PROMPTS)
    acts = Intervention(2, vector(1), 3.0)
    for steering in ([], [acts], []):
        wanted = expected(qwen2, PROMPTS, *steering)
        with steer(qwen2, steering):
            made = until_eos(compiled.generate(**inputs, max_new_tokens=STEPS, do_sample=False)[:, 11:].tolist())
            assert made == wanted


@pytest.mark.parametrize(
    ("wrong", "message"),
    {
        "no layer": (dict(layer=None), "which layer"),
        "layer 0": (dict(layer=0), "layers 1..4"),
        "layer 5": (dict(layer=5), "layers 1..4"),
        "a layer from the end": (dict(layer=-1), "layers 1..4"),
        "half a layer": (dict(layer=2.5), "whole number"),
        "layer of a name": (dict(layer="2"), "whole number"),
        "row -1 of all": (dict(vector=torch.ones(5, 32), layer=-1), "layers 1..4"),
        "layer of a name of all": (dict(vector=torch.ones(5, 32), layer="2"), "layers 1..4"),
        "too few rows": (dict(vector=torch.ones(4, 32)), "5 rows"),
        "three dimensions": (dict(vector=torch.ones(1, 5, 32)), "one dimension"),
        "another width": (dict(vector=torch.ones(31)), "31 wide"),
        "all of another width": (dict(vector=torch.ones(5, 64)), "64 wide"),
        "integers": (dict(vector=torch.ones(32, dtype=torch.long)), "float dtype"),
        "a list of integers": (dict(vector=[1] * 32), "float dtype"),
        "complex numbers": (dict(vector=torch.ones(32, dtype=torch.complex64)), "float dtype"),
        "not a number": (dict(vector=torch.full((32,), torch.nan)), "not finite"),
        "too large": (dict(vector=torch.full((32,), torch.inf)), "not finite"),
        "a path": (dict(vector="evil.pt"), "not str"),
        "nothing": (dict(vector=None), "not NoneType"),
        "positions": (dict(positions="answer"), "steering type"),
        "kind": (dict(kind="multiply"), "adds or ablates"),
        "coefficient": (dict(coef=float("nan")), "coefficient"),
        "coefficient of a name": (dict(coef="2"), "coefficient"),
        "said twice": (dict(vector=Intervention(2, torch.ones(32)), layer=2), "of their own"),
        "a dict and a layer": (dict(vector={2: torch.ones(32)}), "leave layer out"),
        "a dict of names": (dict(vector={"2": torch.ones(32)}, layer=None), "whole number"),
        "a model that is none": (dict(model=torch.nn.Linear(2, 2)), "not a language model"),
    }.values(),
)
def test_what_does_not_fit_is_refused_in_one_line_before_anything_runs(qwen2, wrong, message):
    arguments = {"model": qwen2, "vector": torch.ones(32), "layer": 2, **wrong}
    before = state(qwen2)
    with pytest.raises(UserError, match=message) as error:
        steer(**arguments)
    assert "\n" not in str(error.value) and unchanged(qwen2, before)


def test_models_whose_prompt_is_not_what_they_are_given_are_refused():
    from peft import PromptTuningConfig, get_peft_model
    from transformers import T5Config, T5ForConditionalGeneration

    tuned = get_peft_model(tiny_model("qwen2"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    shape = dict(vocab_size=300, d_model=32, d_ff=64, d_kv=8, num_heads=4, num_layers=4, num_decoder_layers=4)
    for model, message in ((tuned, "PROMPT_TUNING"), (T5ForConditionalGeneration(T5Config(**shape)), "encoder")):
        with pytest.raises(UserError, match=message):
            steer(model, vector(1), layer=2)
