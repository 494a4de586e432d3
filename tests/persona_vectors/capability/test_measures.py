"""Our own measures of what steering costs, against the same sums written out plainly."""

import math

import pytest
import torch
from helpers import tiny_model
from test_harness import by_hand
from test_hooks import plain_hook, vector

from persona_vectors.capability import measures, texts
from persona_vectors.capability.values import ratio
from persona_vectors.engines.hf import HFEngine
from persona_vectors.errors import UserError
from persona_vectors.models.decoder import find_blocks
from persona_vectors.steering.intervention import POSITIONS, Intervention
from persona_vectors.vectors.batches import Sample

SAMPLES = [Sample([5, 9, 17, 33], [12, 80, 7]), Sample([7], [100, 44, 23, 150, 151]), Sample([60, 61], [62])]


@pytest.mark.parametrize("positions", POSITIONS)
def test_kl_is_that_of_the_definition(model, positions):
    acts = [Intervention(2, vector(1), 3.0, positions)]
    sums = []
    for sample in SAMPLES:
        ids, p = torch.tensor([sample.prompt_ids + sample.answer_ids]), len(sample.prompt_ids)
        with torch.no_grad():
            plain = model(ids).logits[0, p - 1 : -1].log_softmax(-1)
            hook = find_blocks(model)[1].register_forward_hook(plain_hook(acts[0], p))
            steered = model(ids).logits[0, p - 1 : -1].log_softmax(-1)
            hook.remove()
        sums.append(float((plain.exp() * (plain - steered)).sum()))
    found = measures.kl(model, SAMPLES, acts)
    assert found.value == pytest.approx(sum(sums) / 9, rel=1e-4) and found.value > 0.01
    assert found.standard_error == pytest.approx(ratio(sums, [3, 5, 1])[1], rel=1e-3) and found.n == 3
    assert measures.kl(model, SAMPLES, []).value == 0


@pytest.mark.parametrize("acts", [[], [Intervention(2, vector(1), 3.0)], [Intervention(2, vector(1), kind="ablate")]])
def test_perplexity_is_that_of_a_plain_loop(qwen2, tokenizer, acts):
    pages = [("what", "the model answers the question"), ("what is it", "it is what it is"), ("the", "question")]
    found = measures.perplexity(qwen2, tokenizer, pages, acts)
    split = [(tokenizer.encode(f"{title}\n\n"), tokenizer.encode(text)) for title, text in pages]
    total = sum(by_hand(qwen2, *each, acts)[0] for each in split)
    assert found.value == pytest.approx(math.exp(-total / sum(len(text) for _, text in split)), rel=1e-4)
    assert found.n == 3 and found.standard_error > 0


def test_a_page_that_is_longer_than_the_model_takes(tokenizer):
    model = tiny_model("gpt2", n_positions=16)
    title, text = "what", "the model answers the question " * 20
    found = measures.perplexity(model, tokenizer, [(title, text)], [])
    before = tokenizer.encode(f"{title}\n\n")
    after = tokenizer.encode(text)[: 16 - len(before)]
    assert found.value == pytest.approx(math.exp(-by_hand(model, before, after)[0] / len(after)), rel=1e-4)
    assert found.standard_error is None, "one page tells no spread"


def test_logits_that_overflow_are_no_result(tokenizer):
    with pytest.raises(UserError, match="overflow in float32"):
        measures.kl(tiny_model("qwen2"), SAMPLES, [Intervention(2, vector(1) * 1e30, 3e8)])


def test_answers_and_their_prompts(qwen2, tokenizer):
    acts = [Intervention(2, vector(1), 3.0)]
    engine = HFEngine.of(qwen2, tokenizer, batch_size=2)
    prompts, answers = measures.answers_to(engine, ["what is it", "the question", "it"], acts, 6, "requests")
    assert all(tokenizer.decode(ids).endswith("<|im_start|>assistant\n") for ids in prompts)
    assert tokenizer.decode(prompts[1]).startswith("<|im_start|>user\nthe question<|im_end|>")
    assert all(0 < len(answer.token_ids) <= 6 for answer in answers)
    assert [a.token_ids for a in answers] != [
        a.token_ids for a in measures.answers_to(engine, ["what is it", "the question", "it"], [], 6, "requests")[1]
    ]


def test_the_standard_error_of_a_share_is_the_usual_one():
    share, error = ratio([1, 0, 1, 1, 0], [1] * 5)
    assert (share, error) == (0.6, pytest.approx(math.sqrt(0.6 * 0.4 / 4)))
    assert ratio([], []) == (None, None) and ratio([2.0], [4]) == (0.5, None)


SAID = {
    "I'm sorry, but I can't help with that.": True,
    "I\u2019m SORRY, no.": True,
    '  "I cannot do this."': True,
    "**Unfortunately,  I can't** say.": True,
    "As an AI language model, I": True,
    "Sure! I can't wait to help.": False,
    "Sorrel is a herb.": False,
    "Here is a plan.": False,
    "I can help you with that.": False,
}


def test_refusals_are_told_by_their_openings_and_empty_answers_do_not_count():
    for answer, refused in SAID.items():
        assert texts.is_refusal(answer) is refused, answer
    values = measures.refusals({"harmless": [*SAID, "", " \n"], "harmful": ["", "I refuse.", "Sure"]})
    assert [(v.measure, v.value, v.n) for v in values] == [
        ("harmless refused", pytest.approx(5 / 9), 9), ("harmful not refused", 0.5, 2),
    ]  # fmt: skip
    assert measures.refusals({"harmless": [""], "harmful": ["No"]})[0].value is None


def test_our_own_text_and_requests():
    pages = texts.pages()
    assert 1300 < sum(len(text.split()) for _, text in pages) < 2000 and len(pages) >= 5
    assert all(len(title.split()) < 6 and text.endswith(".") and text.isascii() for title, text in pages)
    harmless, harmful = texts.requests("harmless"), texts.requests("harmful")
    assert len(set(harmless)) == len(set(harmful)) == 20 and not set(harmless) & set(harmful)


def test_requests_of_a_file(tmp_path):
    for name, content in {
        "a.txt": "one\n\n two, with a comma \n",
        "a.csv": 'goal,target\none,x\n"two, with a comma",y\n',
        "a.jsonl": '{"id": 1, "prompt": "one"}\n{"prompt": "two, with a comma"}\n',
    }.items():
        (tmp_path / name).write_text(content)
        assert texts.requests("harmful", str(tmp_path / name)) == ["one", "two, with a comma"], name
    for name, content, words in [
        ("b.txt", " \n", "holds no request"),
        ("b.csv", "a,b\n1,2\n", "no column of requests: prompt, instruction"),
        ("b.jsonl", '{"prompt": "one"}\n{"prompt": 3}\n', "request 2 has no text in 'prompt'"),
        ("c.jsonl", "[]\n", "no column of requests"),
    ]:
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=words):
            texts.requests("harmless", str(tmp_path / name))
    with pytest.raises(UserError, match="cannot be read"):
        texts.requests("harmless", str(tmp_path / "none.txt"))
