"""The steering hooks against a plain hook, one unpadded prompt at a time."""

import threading

import pytest
import torch

from persona_vectors.engines.base import Request, Sampling
from persona_vectors.engines.hf import HFEngine
from persona_vectors.errors import UserError
from persona_vectors.models.decoder import find_blocks
from persona_vectors.steering.hooks import steered
from persona_vectors.steering.intervention import Intervention

PROMPTS = [[5, 9, 17, 33, 12, 80], [7], [100, 44, 23, 150, 151, 9, 8, 77, 200, 14, 15], [60, 61, 62]]


def plain_hook(i, length):
    """A forward hook of a few lines for one unpadded row: the prompt is the first ``length`` columns of every forward."""

    def hook(_module, _args, output):
        h = (output[0] if isinstance(output, tuple) else output).clone()
        position = torch.arange(h.shape[1])
        chosen = {"prompt": position < length, "response": position >= length - 1, "all": position >= 0}[i.positions]
        if i.kind == "add":
            h[:, chosen] += i.coef * i.vector
        else:
            u = i.vector / i.vector.norm()
            h[:, chosen] -= (h[:, chosen] @ u)[..., None] * u
        return (h, *output[1:]) if isinstance(output, tuple) else h

    return hook


def plain_greedy(model, prompt, interventions, steps):
    """Greedy decoding without a cache: the whole sequence anew at every step, steered by absolute position."""
    ids, n = list(prompt), len(prompt)
    blocks = find_blocks(model)
    handles = [blocks[i.layer - 1].register_forward_hook(plain_hook(i, n)) for i in interventions]
    with torch.no_grad():
        for _ in range(steps):
            ids.append(model(torch.tensor([ids])).logits[0, -1].argmax().item())
            if ids[-1] == 1:
                break
    for handle in handles:
        handle.remove()
    return ids[n:]


def generate(model, tokenizer, prompts, interventions, steps=12, batch_size=8):
    requests = [Request(str(k), p, i) for k, (p, i) in enumerate(zip(prompts, interventions, strict=True))]
    answers = HFEngine.of(model, tokenizer, batch_size).generate(requests, Sampling(steps, temperature=0))
    return [answer.token_ids for answer in sorted(answers, key=lambda answer: int(answer.key))]


def vector(seed, size=4.0):
    return torch.randn(32, generator=torch.Generator().manual_seed(seed)) * size / 5


@pytest.mark.parametrize("positions", ["response", "prompt", "all"])
def test_greedy_answers_equal_a_plain_hook(model, tokenizer, positions):
    steering = (Intervention(2, vector(1), 3.0, positions),)
    expected = [plain_greedy(model, prompt, steering, 12) for prompt in PROMPTS]
    assert generate(model, tokenizer, PROMPTS, [steering] * 4) == expected
    assert expected != [plain_greedy(model, prompt, (), 12) for prompt in PROMPTS], "this steering changes nothing"


def test_every_request_has_its_own_interventions(model, tokenizer):
    rows = [
        (Intervention(1, vector(1), 3.0, "prompt"), Intervention(3, vector(2), -2.0, "response")),
        (),
        (Intervention(2, vector(3), kind="ablate", positions="all"), Intervention(2, vector(4), 2.0, "all")),
        (Intervention(4, vector(5), 0.0),),
    ]
    expected = [plain_greedy(model, prompt, row, 12) for prompt, row in zip(PROMPTS, rows, strict=True)]
    assert generate(model, tokenizer, PROMPTS, rows) == expected
    assert generate(model, tokenizer, PROMPTS, rows, batch_size=1) == expected


def test_position_kinds_differ(qwen2, tokenizer):
    kinds = [
        [plain_greedy(qwen2, prompt, (Intervention(2, vector(1), 3.0, positions),), 12) for prompt in PROMPTS]
        for positions in ("response", "prompt", "all")
    ]
    assert kinds[0] != kinds[1] != kinds[2] != kinds[0]


def test_coefficient_0_is_the_identity_and_minus_c_undoes_c(qwen2, tokenizer):
    plain = generate(qwen2, tokenizer, PROMPTS, [()] * 4)
    assert generate(qwen2, tokenizer, PROMPTS, [(Intervention(2, vector(1), 0.0),)] * 4) == plain
    both = (Intervention(2, vector(1), 3.0), Intervention(2, vector(1), -3.0))
    assert generate(qwen2, tokenizer, PROMPTS, [both] * 4) == plain


def test_hooks_are_gone_afterwards_also_after_an_error(qwen2):
    hooks = lambda: [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in qwen2.modules()]  # noqa: E731
    before = hooks()  # transformers leaves some of its own behind where hidden states were asked for
    with pytest.raises(RuntimeError), steered(qwen2, [(Intervention(2, vector(1)),)], [3], 3):
        raise RuntimeError
    assert hooks() == before


def test_two_threads_steer_two_models(tokenizer):
    from helpers import tiny_model

    models = [tiny_model("qwen2"), tiny_model("llama")]
    steering = (Intervention(2, vector(1), 3.0),)
    results = {}
    work = lambda k: results.update({k: generate(models[k], tokenizer, PROMPTS, [steering] * 4)})  # noqa: E731
    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(2):
        assert results[k] == [plain_greedy(models[k], p, steering, 12) for p in PROMPTS]


def test_what_does_not_fit_is_refused(qwen2):
    for bad in (Intervention(5, vector(1)), Intervention(0, vector(1)), Intervention(2, torch.ones(31))):
        with pytest.raises(UserError), steered(qwen2, [(bad,)], [3], 3):
            pass
    with pytest.raises(UserError):
        Intervention(2, vector(1), positions="answer")


def test_sampling_does_not_depend_on_the_batch(qwen2, tokenizer):
    requests = [Request(str(k), prompt, seed=k) for k, prompt in enumerate(PROMPTS)]
    together = {a.key: a.token_ids for a in HFEngine.of(qwen2, tokenizer).generate(requests, Sampling(12))}
    alone = {a.key: a.token_ids for a in HFEngine.of(qwen2, tokenizer, 1).generate(requests[::-1], Sampling(12))}
    assert together == alone
    other = [Request(r.key, r.prompt_ids, seed=r.seed + 100) for r in requests]
    assert together != {a.key: a.token_ids for a in HFEngine.of(qwen2, tokenizer).generate(other, Sampling(12))}


def test_sampling_draws_from_the_model_distribution(qwen2, tokenizer):
    requests = [Request(str(seed), PROMPTS[0], seed=seed) for seed in range(4000)]
    answers = HFEngine.of(qwen2, tokenizer, 4000).generate(requests, Sampling(1))
    drawn = torch.zeros(300)
    for answer in answers:
        drawn[answer.token_ids[0]] += 1 / len(requests)
    with torch.no_grad():
        expected = qwen2(torch.tensor([PROMPTS[0]])).logits[0, -1]
    expected[1] = -torch.inf  # no answer ends before its first token
    assert (drawn - expected.softmax(-1)).abs().max() < 0.03
