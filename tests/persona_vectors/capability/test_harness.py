"""lm-evaluation-harness on a steered model, against a plain loop that adds the vector from the last context token on."""

import sys
from pathlib import Path

import pytest
import torch
from helpers import tiny_model
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from persona_vectors.capability.harness import SteeredLM
from persona_vectors.errors import UserError
from persona_vectors.models.decoder import find_blocks
from persona_vectors.steering.intervention import POSITIONS, Intervention
from persona_vectors.steering.steer import steer

sys.path.insert(0, str(Path(__file__).parents[1] / "steering"))
from test_hooks import plain_greedy, plain_hook, vector

PAIRS = [
    ("what is it", " the model answers"), ("the question", " answers"), ("it is", " what"), ("answers", " it is what"),
    ("what is it", " the question"), ("", "what is it"),
]  # fmt: skip
TEXTS = ["what is it the model answers the question " * 12, "the model"]


@torch.no_grad()
def by_hand(model, context, continuation, acts=()):
    """(log p, greedy) of a continuation of token ids: one text, no padding, plain hooks that know where the context ends."""
    ids = torch.tensor([context + continuation])
    hooks = [find_blocks(model)[i.layer - 1].register_forward_hook(plain_hook(i, len(context))) for i in acts]
    logits = model(ids[:, :-1]).logits[0, len(context) - 1 :].log_softmax(-1)
    for hook in hooks:
        hook.remove()
    rows = range(len(continuation))
    return sum(logits[k, continuation[k]].item() for k in rows), logits.argmax(-1).tolist() == continuation


def ask(scorer, kind, arguments):
    return getattr(scorer, kind)([Instance(kind, {}, one, k) for k, one in enumerate(arguments)], disable_tqdm=True)


def plainly(model, scorer, acts):
    found = []
    for context, continuation in PAIRS:
        pair = scorer._encode_pair(context, continuation) if context else ([0], scorer.tok_encode(continuation))
        found.append(by_hand(model, *pair, acts))
    return found


def same(found, wanted, tolerance=2e-5):
    scores, greedy = zip(*found, strict=True)
    expected, expected_greedy = zip(*wanted, strict=True)
    return scores == pytest.approx(expected, rel=tolerance) and greedy == expected_greedy


@pytest.mark.parametrize("kind", ["add", "ablate"])
@pytest.mark.parametrize("positions", POSITIONS)
def test_likelihoods_equal_a_plain_loop_question_by_question(model, tokenizer, positions, kind):
    acts = [Intervention(2, vector(1), 3.0, positions, kind), Intervention(3, vector(2), -1.0, "response")]
    scorer = SteeredLM(model, tokenizer, batch_size=4)
    unsteered = ask(scorer, "loglikelihood", PAIRS)
    assert unsteered == ask(HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4), "loglikelihood", PAIRS)
    scorer.interventions = acts
    found = ask(scorer, "loglikelihood", PAIRS)
    assert same(found, plainly(model, scorer, acts))
    assert not same(found, unsteered, 1e-2)
    scorer.interventions = ()
    assert ask(scorer, "loglikelihood", PAIRS) == unsteered, "no hook is left"


def test_the_obvious_way_steers_nothing(qwen2, tokenizer):
    """A block of steer() around the harness takes each text for a prompt: of a batch that is padded without a mask only the
    last column is steered, which is padding in all rows but the longest."""
    acts = [Intervention(2, vector(1), 50.0)]
    scorer = SteeredLM(qwen2, tokenizer, batch_size=len(PAIRS))
    unsteered = ask(scorer, "loglikelihood", PAIRS)
    with steer(qwen2, acts):
        obvious = ask(scorer, "loglikelihood", PAIRS)
    scorer.interventions = acts
    right = ask(scorer, "loglikelihood", PAIRS)
    assert same(right, plainly(qwen2, scorer, acts))
    moved = [[abs(x[0] - y[0]) > 1e-3 for x, y in zip(found, unsteered, strict=True)] for found in (obvious, right)]
    lengths = [len(tokenizer.encode(context + continuation)) for context, continuation in PAIRS]
    assert moved[0] == [length == max(lengths) for length in lengths] and moved[0].count(False) > 2
    assert all(moved[1])


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_requests_that_look_alike(qwen2, tokenizer, batch_size):
    """lm-eval shares one forward among equal texts, and pads with zeros: where the context ends tells them apart."""
    acts = [Intervention(2, vector(1), 3.0)]
    scorer = SteeredLM(qwen2, tokenizer, batch_size=batch_size)
    scorer.interventions = acts
    pairs = [
        ([5, 9, 17], [33, 12]), ([5, 9, 17, 33], [12]), ([5, 9], [17, 33, 12]), ([5, 9, 17, 33], [80]),
        ([5, 9, 0], [0, 0, 7]), ([5, 9], [0, 0, 0, 7]), ([5, 9, 0, 0], [0]), ([5], [9, 0]), ([0, 0], [0, 0]), ([0], [0]),
        ([5, 9, 17], [33, 12]),
    ]  # fmt: skip
    found = scorer._loglikelihood_tokens([((str(k), ""), *pair) for k, pair in enumerate(pairs)], disable_tqdm=True)
    assert same(found, [by_hand(qwen2, *pair, acts) for pair in pairs])


def test_a_context_that_is_cut_on_the_left(tokenizer):
    model = tiny_model("qwen2", max_position_embeddings=32)
    acts = [Intervention(2, vector(1), 3.0)]
    scorer = SteeredLM(model, tokenizer, batch_size=2)
    scorer.interventions = acts
    context, continuation = list(range(10, 60)), [5, 9, 17]
    found = scorer._loglikelihood_tokens([(("", ""), context, continuation)], disable_tqdm=True)
    assert same(found, [by_hand(model, context[-(33 - 3) :], continuation, acts)])


def test_scores_that_are_no_numbers_are_refused(tokenizer):
    scorer = SteeredLM(tiny_model("qwen2").half(), tokenizer, batch_size=2)
    assert ask(scorer, "loglikelihood", PAIRS[:2])
    scorer.interventions = [Intervention(2, vector(1), 60000.0)]
    with pytest.raises(UserError, match="overflow in float16"):
        ask(scorer, "loglikelihood", PAIRS[:2])
    with pytest.raises(UserError, match="overflow in float16"):
        ask(scorer, "loglikelihood_rolling", [(TEXTS[1],)])
    with pytest.raises(UserError, match="overflow in float16"):
        ask(scorer, "generate_until", [("what is it", {"until": ["x"], "max_gen_toks": 2})])


@pytest.mark.parametrize("length", [0, 17])
def test_an_answer_that_does_not_fit_is_not_cut(tokenizer, length):
    scorer = SteeredLM(tiny_model("qwen2", max_position_embeddings=16), tokenizer, batch_size=2)
    assert scorer._loglikelihood_tokens([(("", ""), [5], [7] * 16)], disable_tqdm=True)
    with pytest.raises(UserError, match=f"an answer of {length} tokens .* 1 to 16 "):
        scorer._loglikelihood_tokens([(("", ""), [5], [7] * length)], disable_tqdm=True)


@pytest.mark.parametrize("positions", ["response", "all"])
def test_texts_that_are_scored_whole_are_steered_at_every_token(tokenizer, positions):
    model = tiny_model("qwen2", max_position_embeddings=32)
    scorer = SteeredLM(model, tokenizer, batch_size=2)
    plain = ask(scorer, "loglikelihood_rolling", [(text,) for text in TEXTS])
    scorer.interventions = [Intervention(2, vector(1), 3.0, positions)]
    found = ask(scorer, "loglikelihood_rolling", [(text,) for text in TEXTS])
    unsteered = SteeredLM(model, tokenizer, batch_size=2)
    with steer(model, vector(1), layer=2, coef=3.0, positions="all"):
        assert found == pytest.approx(ask(unsteered, "loglikelihood_rolling", [(text,) for text in TEXTS]), rel=1e-5)
    assert found != pytest.approx(plain, rel=1e-2)


@pytest.mark.parametrize("positions", POSITIONS)
def test_generated_answers_equal_a_plain_hook(qwen2, tokenizer, positions):
    acts = [Intervention(2, vector(1), 3.0, positions)]
    scorer = SteeredLM(qwen2, tokenizer, batch_size=4)
    scorer.interventions = acts
    contexts = [context + continuation for context, continuation in PAIRS]
    arguments = [(context, {"until": ["</never>"], "max_gen_toks": 8}) for context in contexts]
    ids = [plain_greedy(qwen2, tokenizer.encode(context), acts, 8) for context in contexts]
    assert ask(scorer, "generate_until", arguments) == [tokenizer.decode(i, skip_special_tokens=True) for i in ids]


def test_an_adapter_is_steered_too(tokenizer):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(tiny_model("qwen2"), LoraConfig(target_modules=["v_proj"], init_lora_weights=False)).eval()
    acts = [Intervention(2, vector(1), 3.0)]
    scorer = SteeredLM(model, tokenizer, batch_size=4)
    scorer.interventions = acts
    assert same(ask(scorer, "loglikelihood", PAIRS), plainly(model, scorer, acts))
