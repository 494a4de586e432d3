"""steer() around what other libraries do with a model: gradients, a step of TRL's, scores of lm-evaluation-harness."""

import copy
import itertools

import pytest
import torch
from helpers import tiny_model
from plain_steering import batch, plain, state, unchanged, until_eos
from test_hooks import PROMPTS, plain_greedy, vector

from persona_vectors.steering.intervention import POSITIONS, Intervention
from persona_vectors.steering.steer import steer
from persona_vectors.steering.tokens import prompts_told

ROWS = [row for row in PROMPTS if len(row) > 1]


def next_token_loss(logits, ids):
    return torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="sum")


def size_of_logits(logits, _ids):
    """A loss that reads the last token too, as that of a reward or a value does."""
    return logits.square().sum()


def plain_gradients(model, acts, loss=next_token_loss):
    """Of a mean loss: one row at a time, no padding, a plain hook."""
    model.zero_grad()
    count = sum(len(row) - 1 for row in ROWS)
    for row in ROWS:
        with plain(model, len(row), *acts):
            ids = torch.tensor(row)
            (loss(model(ids[None], use_cache=False).logits[0], ids) / count).backward()
    return gradients(model)


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def close(found, wanted, scale=1e-4):
    return found.keys() == wanted.keys() and all(
        torch.allclose(found[name], wanted[name], rtol=1e-3, atol=scale * wanted[name].abs().max()) for name in wanted
    )


def batch_loss(model, left, loss=size_of_logits):
    inputs = batch(ROWS, left)
    ids, real = inputs["input_ids"], inputs["attention_mask"].bool()
    logits = model(**inputs, position_ids=(real.cumsum(1) - 1).clamp_min(0), use_cache=False).logits
    total = sum(loss(logits[row, real[row]], ids[row, real[row]]) for row in range(len(ROWS)))
    return total / sum(len(row) - 1 for row in ROWS)


@pytest.mark.parametrize("kind", ["add", "ablate"])
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("left", [True, False])
def test_gradients_equal_those_of_a_plain_hook(model, positions, left, kind):
    model = copy.deepcopy(model)
    acts = Intervention(2, vector(1), 3.0, positions, kind)
    for loss in (size_of_logits, next_token_loss):
        wanted, without = plain_gradients(model, [acts], loss), plain_gradients(model, [], loss)
        model.zero_grad()
        with steer(model, acts):
            batch_loss(model, left, loss).backward()
        assert close(gradients(model), wanted)
        # No label comes after the last token, which is the only one that `response` steers where nothing is generated.
        assert close(wanted, without, 1e-3) == (positions == "response" and loss is next_token_loss)


@pytest.mark.parametrize("reentrant", [False, True])
def test_blocks_that_are_computed_again_in_backward(reentrant):
    """With another forward in between, padded on the other side: a reference model's, as some preference losses have."""
    model = tiny_model("qwen2").train()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    for acts in [Intervention(2, vector(1), 3.0, *how) for how in itertools.product(POSITIONS, ("add", "ablate"))]:
        wanted = plain_gradients(model, [acts], size_of_logits)
        model.zero_grad()
        with steer(model, acts):
            loss = batch_loss(model, left=True)
            if not reentrant:
                with torch.no_grad():
                    batch_loss(model, left=False)
            loss.backward()
        assert close(gradients(model), wanted), acts


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_step_of_trl_equals_a_plain_hook(positions, tokenizer, tmp_path):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    acts = Intervention(2, vector(1), 3.0, positions)
    config = SFTConfig(
        output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=len(ROWS), optim="sgd", learning_rate=1.0,
        lr_scheduler_type="constant", max_grad_norm=0, report_to="none", use_cpu=True, bf16=False, save_strategy="no",
        dataset_kwargs={"skip_prepare_dataset": True}, remove_unused_columns=False,
    )  # fmt: skip
    model = tiny_model("qwen2")
    wanted, without = plain_gradients(model, [acts]), plain_gradients(model, [])
    model.zero_grad()
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    data = Dataset.from_list([{"input_ids": row, "labels": row} for row in ROWS])
    trainer = SFTTrainer(model, config, train_dataset=data, processing_class=tokenizer)
    before = hooks(model)
    with steer(model, acts):
        trainer.train()
    assert hooks(model) == before
    step = {name: weights[name] - p.detach() for name, p in model.named_parameters()}
    assert close(step, wanted, 1e-3)
    assert close(wanted, without, 1e-3) == (positions == "response")  # the last token's logits are in no loss


def hooks(model):
    """On all modules but the embedding, where gradient checkpointing has the trainer put one of its own."""
    modules = [m for m in model.modules() if not isinstance(m, torch.nn.Embedding)]
    return [(list(m._forward_hooks), list(m._forward_pre_hooks)) for m in modules]


@pytest.fixture
def harness(tokenizer):
    pytest.importorskip("lm_eval", reason="pip install lm-eval")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    def ask(model, kind, arguments):
        scorer = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, device="cpu")
        requests = [Instance(kind, {}, argument, k) for k, argument in enumerate(arguments)]
        return getattr(scorer, kind)(requests, disable_tqdm=True)

    return ask


PAIRS = [("what is it", " the model"), ("the question", " answers the model"), ("it is", " what"), ("answers", " it")]


@pytest.mark.parametrize("positions", ["all", "prompt"])
def test_likelihoods_of_lm_evaluation_harness_equal_a_plain_hook(model, tokenizer, harness, positions):
    """Each text is one forward padded on the right, without a mask or a cache: a prompt from its first token to its last."""
    acts, before, wanted = Intervention(2, vector(1), 3.0, positions), state(model), []
    for context, answer in PAIRS:
        first, ids = tokenizer.encode(context), tokenizer.encode(context + answer)
        with torch.no_grad(), plain(model, len(ids), acts):
            scores = model(torch.tensor([ids[:-1]])).logits[0].log_softmax(-1)
        wanted.append(sum(scores[k - 1, ids[k]].item() for k in range(len(first), len(ids))))
    with steer(model, acts):
        found = [score for score, _ in harness(model, "loglikelihood", PAIRS)]
    assert found == pytest.approx(wanted, rel=1e-4)
    assert found != pytest.approx([score for score, _ in harness(model, "loglikelihood", PAIRS)], rel=1e-2)
    assert unchanged(model, before)


@pytest.mark.parametrize("positions", POSITIONS)
def test_answers_of_lm_evaluation_harness_equal_a_plain_hook(model, tokenizer, harness, positions):
    acts, before, wanted = Intervention(2, vector(1), 3.0, positions), state(model), []
    contexts = [context + answer for context, answer in PAIRS]
    for context in contexts:
        ids = plain_greedy(model, tokenizer.encode(context), [acts], 8)
        wanted.append(tokenizer.decode(ids, skip_special_tokens=True))
    arguments = [(context, {"until": ["</never>"], "max_gen_toks": 8}) for context in contexts]
    with steer(model, acts):
        assert harness(model, "generate_until", arguments) == wanted
    assert harness(model, "generate_until", arguments) != wanted
    assert unchanged(model, before)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("left", [True, False])
def test_whole_texts_whose_prompts_are_told_equal_a_plain_hook(model, positions, left):
    """As a score reads them: prompt and answer in one forward, padded on either side, with and without a cache."""
    acts, before = Intervention(2, vector(1), 3.0, positions), state(model)
    lengths = [2, 0, 3][: len(ROWS)] + [2] * (len(ROWS) - 3)
    inputs = batch(ROWS, left)
    real = inputs["attention_mask"].bool()
    first = real.int().argmax(1).tolist()  # padding before the prompt counts
    for cached in (False, True):
        with torch.no_grad(), steer(model, acts), prompts_told([a + n for a, n in zip(first, lengths, strict=True)]):
            places = (real.cumsum(1) - 1).clamp_min(0)
            found = model(**inputs, position_ids=places, use_cache=cached).logits
        for row, (ids, length) in enumerate(zip(ROWS, lengths, strict=True)):
            with torch.no_grad(), plain(model, length, acts):
                wanted = model(torch.tensor([ids]), use_cache=False).logits[0]
            assert torch.allclose(found[row, real[row]], wanted, rtol=1e-3, atol=1e-3 * wanted.abs().max()), (
                row,
                length,
            )
    assert unchanged(model, before)


def test_prompts_that_are_told_are_those_of_one_forward(qwen2):
    acts = Intervention(2, vector(1), 3.0)
    with torch.no_grad(), steer(qwen2, acts), prompts_told([2]):
        cache = qwen2(torch.tensor([[5, 9, 17]]), use_cache=True).past_key_values
        with pytest.raises(RuntimeError, match="the prompts of 1 whole texts were told, and this forward takes 2 rows"):
            qwen2(torch.tensor([[5, 9], [6, 7]]))
        with pytest.raises(RuntimeError, match="takes 1 rows after 3 columns"):
            qwen2(torch.tensor([[4]]), past_key_values=cache)
        ids = torch.tensor([[5, 9, 17, 33]])  # generate tells itself where its prompt ends
        found = qwen2.generate(
            ids, max_new_tokens=4, do_sample=False, pad_token_id=2, attention_mask=torch.ones_like(ids)
        )
    assert until_eos([found[0, 4:].tolist()]) == [plain_greedy(qwen2, [5, 9, 17, 33], [acts], 4)]
