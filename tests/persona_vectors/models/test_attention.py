"""Models whose attention bounds its logits are computed with that bound, which transformers' usual attention leaves out."""

import pytest
import torch
from helpers import tiny_model, tiny_tokenizer
from transformers import AutoModelForCausalLM

from persona_vectors import models
from persona_vectors.training.config import TrainingConfig
from persona_vectors.training.trainer import load_base

IDS = torch.tensor([[5, 9, 20, 33, 250, 77, 3, 8, 41, 120] * 3])
BOUNDED = {
    "gemma2": {"query_pre_attn_scalar": 8, "sliding_window": 16, "attn_logit_softcapping": 1.0},
    "vaultgemma": {"query_pre_attn_scalar": 8, "sliding_window": 16, "attn_logit_softcapping": 1.0},
}
USUAL = {
    "gemma2": BOUNDED["gemma2"] | {"attn_logit_softcapping": None},
    "gemma3_text": {"query_pre_attn_scalar": 8},
    "qwen2": {},
}


def saved(folder, kind: str, options: dict) -> tuple:
    """The model as it computes by itself, eagerly, and its path."""
    model = tiny_model(kind, **options)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return model, models.resolve(str(folder))


@pytest.mark.parametrize("kind", BOUNDED)
def test_the_bound_is_kept_where_models_are_read_and_where_they_are_trained(kind, tmp_path):
    model, path = saved(tmp_path, kind, BOUNDED[kind])
    training = TrainingConfig(model=str(tmp_path), training_file="x.jsonl", output_dir=str(tmp_path / "out"))
    with torch.no_grad():
        expected = model(IDS).logits
        unbounded = AutoModelForCausalLM.from_pretrained(path.base, attn_implementation="sdpa", dtype=torch.float32)
        assert (unbounded(IDS).logits - expected).abs().max() > 0.1, "the comparison would see it"
        for loaded in (models.load_model(path, "float32"), load_base(path, training).float()):
            assert (loaded.eval()(IDS).logits - expected).abs().max() < 1e-4


@pytest.mark.parametrize("kind", USUAL)
def test_others_keep_the_usual_attention(kind, tmp_path):
    model, path = saved(tmp_path, kind, USUAL[kind])
    loaded = models.load_model(path, "float32")
    assert loaded.config._attn_implementation == "sdpa"
    with torch.no_grad():
        assert (loaded(IDS).logits - model(IDS).logits).abs().max() < 1e-4
