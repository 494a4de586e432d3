"""Every decoder-only architecture that transformers can build from its defaults has its blocks found, or is named here."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from persona_vectors.errors import UserError
from persona_vectors.models.decoder import find_blocks, find_decoder

# Refused by name: no single list of num_hidden_layers blocks (byte-latent, looped, doubled or split blocks, and
# an encoder-decoder).
REFUSED = {"blenderbot", "blt", "hrm_text", "longcat_flash", "xlm"}


def build(kind):
    """The architecture with its default config on the meta device (no memory), or None where defaults do not build."""
    try:
        config = AutoConfig.for_model(kind)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except Exception:
        return None


def test_blocks_are_found_in_every_architecture():
    found, refused, unbuildable = [], set(), []
    for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        model = build(kind)
        if model is None:
            unbuildable.append(kind)
            continue
        try:
            blocks = find_blocks(model)
        except UserError as error:
            assert type(model).__name__ in str(error)
            refused.add(kind)
        else:
            assert len(blocks) == model.config.get_text_config(decoder=True).num_hidden_layers
            assert find_decoder(model).get_output_embeddings() is None, kind  # else it has no last_hidden_state
            found.append(kind)
    assert refused == REFUSED
    assert len(found) >= 150, unbuildable


def test_an_ambiguous_model_is_refused(qwen2):
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.config, self.a = qwen2.config, torch.nn.ModuleList(qwen2.model.layers)
            self.b = torch.nn.ModuleList(qwen2.model.layers)

        def get_decoder(self):
            return self

    with pytest.raises(UserError, match="a, b"):
        find_blocks(Two())
