"""``steer`` finds out by itself which tokens are which: against a plain hook, one unpadded prompt at a time."""

import threading

import pytest
import torch
from test_hooks import PROMPTS, plain_greedy, vector

from persona_vectors.errors import UserError
from persona_vectors.models.decoder import find_blocks
from persona_vectors.steering.intervention import Intervention
from persona_vectors.steering.steer import steer

STEPS = 8


def batch(prompts, side: str) -> dict:
    width = max(map(len, prompts))
    ids, mask = torch.zeros(len(prompts), width, dtype=torch.long), torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        where = slice(width - len(prompt), width) if side == "left" else slice(0, len(prompt))
        ids[row, where], mask[row, where] = torch.tensor(prompt), 1
    return {"input_ids": ids, "attention_mask": mask}


def greedy(model, prompts, **options) -> list[list[int]]:
    given = batch(prompts, "left")
    with torch.no_grad():
        made = model.generate(**given, max_new_tokens=STEPS, do_sample=False, pad_token_id=0, eos_token_id=1, **options)
    rows = [row[given["input_ids"].shape[1] :].tolist() for row in made]
    return [row[: row.index(1) + 1] if 1 in row else row for row in rows]


def plain(model, prompts, interventions) -> list[list[int]]:
    return [plain_greedy(model, prompt, interventions, STEPS) for prompt in prompts]


@pytest.mark.parametrize("positions", ["response", "prompt", "all"])
def test_generation_equals_a_plain_hook_again_and_again(model, positions):
    steering = (Intervention(2, vector(1), 3.0, positions),)
    expected = plain(model, PROMPTS, steering)
    assert expected != plain(model, PROMPTS, ())
    with steer(model, vector(1), layer=2, coef=3.0, positions=positions):
        assert greedy(model, PROMPTS) == expected
        assert greedy(model, PROMPTS[::-1]) == expected[::-1], "a second generate in the same block"
        assert greedy(model, PROMPTS, use_cache=False) == expected
        assert [greedy(model, [prompt])[0] for prompt in PROMPTS] == expected
    assert greedy(model, PROMPTS) == plain(model, PROMPTS, ())


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_forward_equals_a_plain_hook_on_either_side_of_padding(model, side):
    for positions in ("response", "prompt", "all"):
        with steer(model, vector(1), layer=2, coef=3.0, positions=positions), torch.no_grad():
            given = batch(PROMPTS, side)
            if side == "left":
                given["position_ids"] = (given["attention_mask"].cumsum(1) - 1).clamp(min=0)
            logits = model(**given).logits
            alone = [model(torch.tensor([prompt])).logits[0] for prompt in PROMPTS]
        chosen = {"response": -1, "prompt": slice(None), "all": slice(None)}[positions]

        def add(_module, _args, output, chosen=chosen):
            h = (output[0] if isinstance(output, tuple) else output).clone()
            h[:, chosen] += 3.0 * vector(1)
            return (h, *output[1:]) if isinstance(output, tuple) else h

        handle = find_blocks(model)[1].register_forward_hook(add)
        with torch.no_grad():
            expected = [model(torch.tensor([prompt])).logits[0] for prompt in PROMPTS]
        handle.remove()
        for row, mask, one, want in zip(logits, given["attention_mask"].bool(), alone, expected, strict=True):
            torch.testing.assert_close(one, want, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(row[mask], want, atol=2e-4, rtol=2e-4)


def test_several_layers_ablation_and_nesting(qwen2):
    outer = [Intervention(1, vector(2), 2.0, "all"), Intervention(3, vector(3), kind="ablate", positions="all")]
    inner = [Intervention(2, vector(1), -3.0, "response")]
    both, alone = plain(qwen2, PROMPTS, [*outer, *inner]), plain(qwen2, PROMPTS, outer)
    with steer(qwen2, outer):
        with steer(qwen2, {2: vector(1)}, coef=-3.0):
            assert greedy(qwen2, PROMPTS) == both
        assert greedy(qwen2, PROMPTS) == alone != both
    rows = torch.stack([vector(k) for k in range(5)])
    by_row = plain(qwen2, PROMPTS, [Intervention(2, rows[2], 3.0)])
    with steer(qwen2, rows, layer=2, coef=3.0):
        assert greedy(qwen2, PROMPTS) == by_row


def test_beams_chunks_and_several_answers(qwen2):
    with steer(qwen2, vector(1), layer=2, coef=3.0):
        beams = [greedy(qwen2, [prompt], num_beams=3)[0] for prompt in PROMPTS]
        assert greedy(qwen2, PROMPTS, num_beams=3) == beams
        assert greedy(qwen2, PROMPTS, prefill_chunk_size=4) == greedy(qwen2, PROMPTS)
        with torch.no_grad():  # a cached continuation of several tokens is generation
            first = qwen2(torch.tensor([PROMPTS[2]]), use_cache=True)
            more = qwen2(torch.tensor([[8, 9, 10]]), past_key_values=first.past_key_values).logits
    rows = [Intervention(2, vector(1), 3.0)]
    expected = steered_from(qwen2, PROMPTS[2] + [8, 9, 10], len(PROMPTS[2]) - 1, rows[0])
    torch.testing.assert_close(more[0], expected[-3:], atol=1e-5, rtol=1e-5)


def steered_from(model, ids, start: int, i: Intervention):
    """Logits [tokens, vocabulary] with the vector added from column ``start`` on, by a plain hook."""

    def add(_module, _args, output):
        h = (output[0] if isinstance(output, tuple) else output).clone()
        h[:, start:] += i.coef * i.vector
        return (h, *output[1:]) if isinstance(output, tuple) else h

    handle = find_blocks(model)[i.layer - 1].register_forward_hook(add)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    handle.remove()
    return logits


def test_threads_steer_their_own_way(qwen2):
    """One that enters no block is steered by those of all threads: generate may run in a thread of a streamer's."""
    expected = {c: plain(qwen2, PROMPTS, [Intervention(2, vector(1), c)] if c else ()) for c in (3.0, -3.0, 0.0)}
    found, start = {}, threading.Barrier(3)

    def work(coef):
        start.wait()
        with steer(qwen2, vector(1), layer=2, coef=coef) if coef else steer(qwen2, []):
            found[coef] = [greedy(qwen2, PROMPTS) for _ in range(3)]

    threads = [threading.Thread(target=work, args=(coef,)) for coef in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {coef: [rows] * 3 for coef, rows in expected.items()}
    with steer(qwen2, vector(1), layer=2, coef=3.0):
        streamer = threading.Thread(target=lambda: found.update(streamed=greedy(qwen2, PROMPTS)))
        streamer.start()
        streamer.join()
    assert found["streamed"] == expected[3.0]


def test_an_adapter_and_an_error_leave_no_trace(qwen2):
    import copy

    from peft import LoraConfig, get_peft_model

    tuned = get_peft_model(copy.deepcopy(qwen2), LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj"]))
    before = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in tuned.modules()]
    with steer(tuned, vector(1), layer=2, coef=3.0):
        steered = greedy(tuned, PROMPTS)
    assert steered == plain(tuned, PROMPTS, [Intervention(2, vector(1), 3.0)]) != plain(tuned, PROMPTS, ())
    with pytest.raises(KeyError), steer(tuned, vector(1), layer=2):
        raise KeyError
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in tuned.modules()] == before
    assert "generate" not in vars(tuned.get_base_model())


@pytest.mark.parametrize("checkpointing", [None, True, False])
def test_gradients_flow_as_through_a_plain_hook(qwen2, checkpointing):
    """In training every real token is steered by ``all``; blocks that backward computes again are steered again."""
    import copy

    model = copy.deepcopy(qwen2).train()
    if checkpointing is not None:
        model.gradient_checkpointing_enable({"use_reentrant": checkpointing})
        model.enable_input_require_grads()
    given = batch(PROMPTS, "right")
    labels = given["input_ids"].masked_fill(given["attention_mask"] == 0, -100)
    with steer(model, vector(1), layer=2, coef=3.0, positions="all"):
        model(**given, labels=labels, use_cache=False).loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    def add(_module, _args, output):
        h = output[0] if isinstance(output, tuple) else output
        h = h + given["attention_mask"][..., None] * 3.0 * vector(1)
        return (h, *output[1:]) if isinstance(output, tuple) else h

    reference = copy.deepcopy(qwen2).train()
    find_blocks(reference)[1].register_forward_hook(add)
    reference(**given, labels=labels, use_cache=False).loss.backward()
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"vector": vector(1), "layer": 5}, "layer 5 does not exist: this model has layers 1..4"),
        ({"vector": vector(1)}, "say which layer"),
        ({"vector": torch.ones(31), "layer": 2}, "31 wide"),
        ({"vector": torch.ones(32, dtype=torch.long), "layer": 2}, "of a float dtype"),
        ({"vector": torch.full((32,), torch.nan), "layer": 2}, "not finite"),
        ({"vector": torch.ones(5, 32), "layer": 7}, "layer 7 does not exist: this model has layers 1..4"),
        ({"vector": ["x"], "layer": 2}, "a tensor of numbers, not list"),
        ({"vector": vector(1), "layer": 2, "positions": "last"}, "steering type must be one of"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(qwen2, given, words):
    with pytest.raises(UserError, match=words), steer(qwen2, **given):
        pass


def test_inside_the_evaluation_harness(qwen2, tokenizer):
    """lm-evaluation-harness batches and pads as it likes: scores and answers are those of a plain hook, one by one."""
    pytest.importorskip("lm_eval", reason="pip install lm-eval")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    i = Intervention(2, vector(1), 3.0, "all")
    harness = HFLM(pretrained=qwen2, tokenizer=tokenizer, batch_size=3, device="cpu")
    pairs = [("what is it", " the question"), ("the model answers", " it"), ("is it", " what is the answer")]
    asked = [Instance("loglikelihood", {}, pair, k) for k, pair in enumerate(pairs)]
    with steer(qwen2, [i]):
        found = harness.loglikelihood(asked, disable_tqdm=True)
    for (context, continuation), (logprob, _) in zip(pairs, found, strict=True):
        start, rest = harness._encode_pair(context, continuation)
        logits = steered_from(qwen2, (start + rest)[:-1], 0, i).log_softmax(-1)[len(start) - 1 :]
        assert logprob == pytest.approx(logits.gather(-1, torch.tensor(rest)[:, None]).sum().item(), abs=1e-3)
    until = {"until": ["zzz"], "max_gen_toks": 6, "do_sample": False}
    asked = [Instance("generate_until", {}, (context, until), k) for k, (context, _) in enumerate(pairs)]
    with steer(qwen2, vector(1), layer=2, coef=3.0):
        texts = harness.generate_until(asked, disable_tqdm=True)
    for (context, _), text in zip(pairs, texts, strict=True):
        ids = plain_greedy(qwen2, harness.tok_encode(context), [Intervention(2, vector(1), 3.0)], 6)
        assert text == tokenizer.decode(ids, skip_special_tokens=True)
