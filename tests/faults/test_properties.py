"""What must hold of steering and extraction for any batch, order, padding, thread and error; of tables for any text."""

import random
import threading

import pandas
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_untrusted import EXAMPLES

from persona_vectors.files.rows import open_rows
from persona_vectors.files.tables import read_answers, write_table
from persona_vectors.models.decoder import find_blocks
from persona_vectors.steering.hooks import steered, steered_training
from persona_vectors.steering.intervention import Intervention
from persona_vectors.vectors.activations import POOLS, pooled_activations
from persona_vectors.vectors.batches import Sample
from persona_vectors.vectors.storage import project

fuzz = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
some = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
ids = st.lists(st.integers(4, 299), min_size=1, max_size=12)
batches = st.lists(ids, min_size=1, max_size=5)
kinds = st.sampled_from(["response", "prompt", "all"])
VECTOR = torch.randn(32, generator=torch.Generator().manual_seed(3))


def padded(prompts, width, left):
    """(ids, mask, positions), each [batch, width], of prompts padded on one side."""
    table, mask = torch.full((len(prompts), width), 2), torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        place = slice(width - len(prompt), width) if left else slice(0, len(prompt))
        table[row, place], mask[row, place] = torch.tensor(prompt), 1
    return table, mask, (mask.cumsum(-1) - 1).clamp_min(0)


def at_tokens(model, prompts, width, left, hidden=False):
    """Logits [tokens, vocabulary] (or hidden states [layers + 1, tokens, hidden]) of each prompt's own tokens."""
    table, mask, positions = padded(prompts, width, left)
    with torch.no_grad():
        out = model(table, attention_mask=mask, position_ids=positions, use_cache=True, output_hidden_states=hidden)
    if hidden:
        states = torch.stack(out.hidden_states)
        return [states[:, row, mask[row].bool()] for row in range(len(prompts))]
    return [out.logits[row, mask[row].bool()] for row in range(len(prompts))]


def close(one, other, tolerance=2e-4):
    scale = max(float(x.abs().max()) for x in one)
    return all((a - b).abs().max() <= tolerance * scale for a, b in zip(one, other, strict=True))


def state(model):
    """Everything of a model that a hook could leave behind."""
    hooks = [(dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in model.modules()]
    return hooks, [p.clone() for p in model.parameters()], model.training


def unchanged(model, before):
    hooks, weights, training = state(model)
    return hooks == before[0] and all(map(torch.equal, weights, before[1])) and training == before[2]


@some
@given(prompts=batches, kind=kinds, extra=st.integers(0, 4), coef=st.floats(-5, 5))
def test_steered_logits_do_not_depend_on_the_padding(qwen2, prompts, kind, extra, coef):
    alone = []
    for prompt in prompts:
        with steered(qwen2, [(Intervention(2, VECTOR, coef, kind),)], [len(prompt)], len(prompt)):
            alone += at_tokens(qwen2, [prompt], len(prompt), left=True)
    width = max(map(len, prompts)) + extra
    rows = [(Intervention(2, VECTOR, coef, kind),)] * len(prompts)
    with steered(qwen2, rows, list(map(len, prompts)), width):
        assert close(alone, at_tokens(qwen2, prompts, width, left=True))


@some
@given(prompts=batches, extra=st.integers(0, 4))
def test_training_steers_the_same_tokens_padded_left_or_right(qwen2, prompts, extra):
    width, found = max(map(len, prompts)) + extra, {}
    for left in (True, False):
        with steered_training(qwen2, [Intervention(2, VECTOR, 2.0, "all"), Intervention(3, VECTOR, kind="ablate",
                                                                                     positions="all")]):  # fmt: skip
            found[left] = at_tokens(qwen2, prompts, width, left)
    assert close(found[True], found[False])


@some
@given(samples=st.lists(st.tuples(ids, ids), min_size=1, max_size=6), extra=st.integers(0, 4), data=st.data())
def test_activations_do_not_depend_on_padding_or_order(qwen2, samples, extra, data):
    whole = [prompt + answer for prompt, answer in samples]
    states = at_tokens(qwen2, whole, max(map(len, whole)) + extra, left=True, hidden=True)
    ends = [len(prompt) for prompt, _ in samples]
    expected = {
        "prompt_avg": torch.stack([s[:, :p].mean(1) for s, p in zip(states, ends, strict=True)]),
        "response_avg": torch.stack([s[:, p:].mean(1) for s, p in zip(states, ends, strict=True)]),
        "prompt_last": torch.stack([s[:, p - 1] for s, p in zip(states, ends, strict=True)]),
    }
    order = data.draw(st.permutations(range(len(samples))))
    shuffled = [Sample(*samples[k]) for k in order]
    for indices, pooled in pooled_activations(qwen2, shuffled, token_budget=data.draw(st.integers(1, 100))):
        for pool in POOLS:
            wanted = expected[pool][[order[index] for index in indices]]
            assert close([wanted], [pooled[pool]])
            assert close([project(wanted, VECTOR)], [project(pooled[pool], VECTOR)])


@some
@given(prompts=batches, kind=kinds, data=st.data())
def test_the_order_of_a_steered_batch_does_not_matter(qwen2, prompts, kind, data):
    rows = [(Intervention(1 + k % 4, VECTOR, float(k - 1), kind),) for k in range(len(prompts))]
    order, width = data.draw(st.permutations(range(len(prompts)))), max(map(len, prompts))
    with steered(qwen2, rows, list(map(len, prompts)), width):
        first = at_tokens(qwen2, prompts, width, left=True)
    with steered(qwen2, [rows[k] for k in order], [len(prompts[k]) for k in order], width):
        second = at_tokens(qwen2, [prompts[k] for k in order], width, left=True)
    assert close([first[k] for k in order], second)


@some
@given(prompts=batches, kind=kinds, coef=st.floats(-20, 20), layer=st.integers(1, 4))
def test_coef_0_is_the_identity_and_minus_c_restores(qwen2, prompts, kind, coef, layer):
    width, lengths = max(map(len, prompts)), list(map(len, prompts))
    by = lambda c: steered(qwen2, [(Intervention(layer, VECTOR, c, kind),)] * len(prompts), lengths, width)  # noqa: E731
    plain = at_tokens(qwen2, prompts, width, left=True)
    with by(0.0):
        assert all(map(torch.equal, plain, at_tokens(qwen2, prompts, width, left=True)))
    with by(coef), by(-coef):
        assert close(plain, at_tokens(qwen2, prompts, width, left=True))
    with by(coef):
        at_tokens(qwen2, prompts, width, left=True)
    assert all(map(torch.equal, plain, at_tokens(qwen2, prompts, width, left=True)))


@pytest.mark.parametrize("training", [False, True])
def test_an_error_within_a_steered_forward_leaves_the_model_as_it_was(qwen2, training):
    prompt, before = [5, 9, 17], state(qwen2)
    plain = at_tokens(qwen2, [prompt], 3, left=True)

    def fails(*_):
        raise RuntimeError("within a block")

    steering = Intervention(2, VECTOR, 3.0, "all")
    handle = find_blocks(qwen2)[2].register_forward_hook(fails)
    steer = steered_training(qwen2, [steering]) if training else steered(qwen2, [(steering,)], [3], 3)
    with pytest.raises(RuntimeError, match="within a block"), steer:
        at_tokens(qwen2, [prompt], 3, left=True)
    with pytest.raises(RuntimeError, match="within a block"):
        list(pooled_activations(qwen2, [Sample(prompt, prompt)]))
    handle.remove()
    assert unchanged(qwen2, before)
    assert all(map(torch.equal, plain, at_tokens(qwen2, [prompt], 3, left=True)))


def test_threads_that_share_a_model_each_have_their_own_steering(qwen2):
    """Some steer, each its own way, one is plain, one extracts: all get what they get alone, and no hook is left."""
    draw = random.Random(0)
    prompts = [[draw.randrange(4, 300) for _ in range(draw.randint(1, 9))] for _ in range(4)]
    lengths, width = list(map(len, prompts)), max(map(len, prompts))
    samples = [Sample(prompt, prompt[::-1]) for prompt in prompts]

    def steering(seed):
        vector = torch.randn(32, generator=torch.Generator().manual_seed(seed)) * 3
        rows = [(Intervention(1 + seed % 3, vector, 2.0, "all"),)] * len(prompts)
        with steered(qwen2, rows, lengths, width):
            return at_tokens(qwen2, prompts, width, left=True)

    def extracting():
        (batch,) = pooled_activations(qwen2, samples, token_budget=10_000)
        return list(batch[1].values())

    jobs = [lambda seed=seed: steering(seed) for seed in range(3)]
    jobs += [lambda: at_tokens(qwen2, prompts, width, left=True), extracting]
    alone, before = [job() for job in jobs], state(qwen2)
    assert not any(close(a, b) for k, a in enumerate(alone[:4]) for b in alone[:k])
    wrong, start = [], threading.Barrier(len(jobs))

    def work(k):
        start.wait()
        for _ in range(40):
            try:
                if not all(map(torch.equal, jobs[k](), alone[k])):
                    wrong.append(k)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:3]
    assert unchanged(qwen2, before)


@fuzz
@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=40), min_size=1, max_size=6))
def test_tables_keep_any_text(tmp_path, texts):
    """Written as answers, read, and extended with a column twice: every text is what it was."""
    path = tmp_path / "a.csv"
    write_table(pandas.DataFrame({"prompt": "p", "answer": texts, "vile": 50.5}), path)
    assert read_answers(path, ("vile",))["answer"].tolist() == texts
    rows = open_rows(path)
    assert [record[1] for record in rows.records()] == texts
    for value in (1.5, 2.5):
        rows.write_extended(["new"], [[value]] * len(texts))
        table = read_answers(path, ("vile", "new"))
        assert table["answer"].tolist() == texts and set(table["new"]) == {value}
        rows = open_rows(path)
