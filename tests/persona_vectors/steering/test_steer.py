"""steer() against a slow loop: one row at a time, no padding, no cache, a plain forward hook."""

import threading

import numpy as np
import pytest
import torch
from helpers import tiny_model
from plain_steering import CACHES, OTHERS, STEPS, batch, decode, expected, generate, state, unchanged, until_eos
from test_hooks import PROMPTS, vector

from persona_vectors.errors import UserError
from persona_vectors.models.decoder import find_blocks
from persona_vectors.steering.hooks import steered
from persona_vectors.steering.intervention import POSITIONS, Intervention
from persona_vectors.steering.steer import steer


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
    with steer(model, vector(1), layer=2, coef=3.0):
        model.generate = own
    assert model.generate is own


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


def test_a_cache_is_found_by_what_it_is_and_one_that_is_missing_is_refused(qwen2):
    """Releases of transformers rename the argument; a decoding step without a cache would be taken for a prompt."""
    from transformers import DynamicCache

    from persona_vectors.models.decoder import find_decoder
    from persona_vectors.steering.tokens import Span

    decoder, cache = find_decoder(qwen2), DynamicCache()
    with torch.no_grad():
        qwen2(torch.tensor([[5, 6, 7]]), past_key_values=cache)
    step = {"input_ids": torch.tensor([[8]]), "attention_mask": torch.ones(1, 4)}
    for name in ("past_key_values", "cache", "cache_params", "layer_cache"):
        span = Span(decoder, (), {**step, name: cache})
        assert (span.first, span.end) == (3, 4)
    with pytest.raises(RuntimeError, match="4 columns for 1 tokens, and no cache that holds the others"):
        Span(decoder, (), step).marks(None)
