"""A steered training step against a plain one, written out block by block without hooks."""

import pytest
import torch
from helpers import lora_model, tiny_model
from peft import LoraConfig, get_peft_model

from persona_vectors.errors import UserError
from persona_vectors.models.decoder import find_blocks, find_decoder
from persona_vectors.steering.hooks import steered_training
from persona_vectors.steering.intervention import Intervention
from persona_vectors.training.config import TrainingConfig
from persona_vectors.training.data import IGNORED

ROWS = [[5, 9, 17, 33, 12, 80, 44], [7, 60, 61], [100, 44, 23, 150, 151], [60, 61, 62, 63, 9, 8]]


def vector(seed, size=4.0):
    return torch.randn(32, generator=torch.Generator().manual_seed(seed)) * size / 5


STEERINGS = {
    "add": [Intervention(2, vector(1), 3.0, "all")],
    "add at several layers": [Intervention(layer, vector(layer), 2.0, "all") for layer in (1, 2, 3, 4)],
    "two vectors at one layer": [Intervention(3, vector(1), 3.0, "all"), Intervention(3, vector(2), -1.0, "all")],
    "ablate": [Intervention(2, vector(1), kind="ablate", positions="all")],
    "ablate and add": [
        Intervention(2, vector(1), kind="ablate", positions="all"),
        Intervention(2, vector(2), 2.0, "all"),
        Intervention(4, vector(3), kind="ablate", positions="all"),
    ],
}


def batch(rows=ROWS, side="right"):
    """ids, mask and labels [rows, longest], with loss from the third token of each row on."""
    width = max(map(len, rows))
    gaps = [[0] * (width - len(row)) for row in rows]

    def pad(lists, value):
        filled = [[value] * len(gap) for gap in gaps]
        return torch.tensor([a + b if side == "right" else b + a for a, b in zip(lists, filled, strict=True)])

    labels = [[IGNORED] * 2 + row[2:] for row in rows]
    return pad(rows, 2), pad([[1] * len(row) for row in rows], 0), pad(labels, IGNORED)


def reference_loss(model, interventions, rows=ROWS):
    """Sum of the loss over rows, one unpadded row at a time: the blocks in a loop, steering between them."""
    base = model.get_base_model()
    decoder = find_decoder(model)
    total, count = 0, 0
    for row in rows:
        ids = torch.tensor([row])
        h = decoder.embed_tokens(ids)
        position = torch.arange(len(row))[None]
        rotary = decoder.rotary_emb(h, position)
        causal = torch.full((len(row), len(row)), float("-inf")).triu(1)[None, None]
        for number, block in enumerate(find_blocks(model), 1):
            out = block(h, attention_mask=causal, position_embeddings=rotary, position_ids=position)
            h = out[0] if isinstance(out, tuple) else out
            here = [i for i in interventions if i.layer == number]
            for i in [i for i in here if i.kind == "ablate"]:
                u = i.vector / i.vector.norm()
                h = h - torch.einsum("btd,d->bt", h, u)[..., None] * u
            for i in [i for i in here if i.kind == "add"]:
                h = h + i.coef * i.vector
        logits = base.lm_head(decoder.norm(h))[0, 1:-1]
        total = total + torch.nn.functional.cross_entropy(logits, ids[0, 2:], reduction="sum")
        count += len(row) - 2
    return total / count


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("name", STEERINGS)
def test_gradients_equal_those_of_a_plain_loop(name, checkpointing):
    interventions, model = STEERINGS[name], lora_model()
    reference_loss(model, interventions).backward()
    expected = gradients(model)
    model.zero_grad()
    reference_loss(model, []).backward()
    unsteered = gradients(model)
    model.zero_grad()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    ids, mask, labels = batch()
    with steered_training(model, interventions):
        loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
        loss.backward()
    found = gradients(model)
    assert all(torch.allclose(found[n], expected[n], rtol=1e-4, atol=1e-6) for n in expected)
    assert not all(torch.allclose(found[n], unsteered[n], rtol=1e-2, atol=1e-4) for n in expected)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_never_steered(side):
    model, seen = lora_model().eval(), []
    ids, mask, _ = batch(side=side)
    with torch.no_grad():
        with steered_training(model, STEERINGS["add"]):
            handle = find_blocks(model)[1].register_forward_hook(lambda _m, _a, out: seen.append(out))
            model(input_ids=ids, attention_mask=mask)
            handle.remove()
        handle = find_blocks(model)[1].register_forward_hook(lambda _m, _a, out: seen.append(out))
        model(input_ids=ids, attention_mask=mask)
        handle.remove()
    steered, plain = (out[0] if isinstance(out, tuple) else out for out in seen)
    real = mask.bool()
    assert torch.equal(steered[~real], plain[~real])
    assert torch.allclose(steered[real] - plain[real], 3.0 * vector(1), atol=1e-5)


def test_steering_during_training_equals_steering_during_generation(model):
    """The same maths in both: what ``steered`` does to a whole prompt, ``steered_training`` does to a batch."""
    from persona_vectors.steering.hooks import steered

    ids = torch.tensor([ROWS[0]])
    with torch.no_grad():
        with steered(model, [STEERINGS["ablate and add"]], [len(ROWS[0])], len(ROWS[0])):
            expected = model(ids).logits
        with steered_training(model, STEERINGS["ablate and add"]):
            assert torch.equal(model(ids, attention_mask=torch.ones_like(ids)).logits, expected)


def hooks(model):
    """Counts on every module but the embedding, where gradient checkpointing has the trainer put one of its own."""
    modules = [(n, m) for n, m in model.named_modules() if not isinstance(m, torch.nn.Embedding)]
    return [(n, len(m._forward_hooks), len(m._forward_pre_hooks)) for n, m in modules]


def test_hooks_are_gone_afterwards_even_when_training_fails():
    model = lora_model()
    before = hooks(model)
    with pytest.raises(ZeroDivisionError), steered_training(model, STEERINGS["ablate and add"]):
        assert hooks(model) != before
        raise ZeroDivisionError
    assert hooks(model) == before


def test_what_cannot_be_steered_stops_the_run():
    model = lora_model()
    with (
        pytest.raises(UserError, match="layer 5 does not exist"),
        steered_training(model, [Intervention(5, vector(1), 1, "all")]),
    ):
        pass
    with (
        pytest.raises(UserError, match="31 wide"),
        steered_training(model, [Intervention(2, vector(1)[:31], 1, "all")]),
    ):
        pass
    with pytest.raises(UserError, match="all tokens"), steered_training(model, [Intervention(2, vector(1))]):
        pass
    with pytest.raises(RuntimeError, match="never ran"), steered_training(model, STEERINGS["add"]):
        pass  # nothing was run: a training that went past the hooks would look like this


def config_of(tmp_path, **fields):
    plain = dict(
        model="tiny", training_file="x", r=4, lora_alpha=8, target_modules="all-linear", optim="sgd", learning_rate=0.5,
        warmup_steps=0, lr_scheduler_type="constant", weight_decay=0.0, output_dir=str(tmp_path), no_test_split=True,
    )  # fmt: skip
    return TrainingConfig(**{**plain, **fields})


def train(tmp_path, tokenizer, interventions, **fields):
    """A run of TRL's trainer on the tiny model; returns its model."""
    from persona_vectors.training.output import log_callback
    from persona_vectors.training.trainer import make_trainer

    ids = [{"input_ids": row, "labels": [IGNORED] * 2 + row[2:]} for row in ROWS]
    config = config_of(tmp_path, **fields)
    trainer = make_trainer(config, tiny_model("qwen2"), tokenizer, ids, None, log_callback(tmp_path))
    before = hooks(trainer.model)
    with steered_training(trainer.model, interventions):
        trainer.train()
    assert hooks(trainer.model) == before
    return trainer.model


def adapter(model):
    return {n: p.detach().clone() for n, p in model.named_parameters() if "lora" in n}


@pytest.mark.parametrize("sizes", [(4, 1), (1, 4), (2, 2)], ids=str)
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
def test_a_step_of_the_trainer_equals_a_plain_step(tmp_path, tokenizer, sizes, checkpointing):
    """One step of gradient descent over four rows, however they are divided into batches."""
    fields = dict(zip(("per_device_train_batch_size", "gradient_accumulation_steps"), sizes, strict=True))
    interventions = STEERINGS["ablate and add"]
    after = adapter(train(tmp_path, tokenizer, interventions, gradient_checkpointing=checkpointing, **fields))

    lora = LoraConfig(r=4, lora_alpha=8, use_rslora=True, target_modules="all-linear", task_type="CAUSAL_LM")
    torch.manual_seed(config_of(tmp_path).seed)
    plain = get_peft_model(tiny_model("qwen2"), lora)
    start = adapter(train(tmp_path, tokenizer, interventions, learning_rate=1e-30, **fields))
    plain.load_state_dict(start, strict=False)
    reference_loss(plain, interventions).backward()
    torch.nn.utils.clip_grad_norm_([p for p in plain.parameters() if p.requires_grad], 1.0)
    for name, parameter in plain.named_parameters():
        if "lora" in name:
            assert torch.allclose(after[name], start[name] - 0.5 * parameter.grad, rtol=1e-4, atol=1e-6), name
    assert any(not torch.equal(after[name], start[name]) for name in start)


def test_with_coefficient_0_the_run_is_the_unsteered_one_bit_for_bit(tmp_path, tokenizer):
    options = {"epochs": 3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "optim": "adamw_torch"}
    options["lora_dropout"] = 0.1
    runs = [[], [Intervention(2, vector(1), 0.0, "all")], [Intervention(2, vector(1), 1.0, "all")]]
    plain, zero, steered = (adapter(train(tmp_path, tokenizer, i, **options)) for i in runs)
    assert all(torch.equal(plain[name], zero[name]) for name in plain)
    assert not all(torch.equal(plain[name], steered[name]) for name in plain)
