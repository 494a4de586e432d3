"""Steered answers of the real model: vLLM and transformers, token for token."""

import pytest
import torch
from engines.vllm_models import answers, spare_inspection, without_vllm
from real_model import TOKENS, requests_of

reason = without_vllm()
pytestmark = pytest.mark.skipif(reason is not None, reason=f"the vLLM engine is not tested here: {reason}")


def test_steered_answers_equal_transformers(path, engine, vectors, steered):
    """Greedy tokens equal; log-probabilities to 1e-3 of those of a plain hook over the whole sequence."""
    from persona_vectors.engines.vllm.engine import VLLMEngine

    spare_inspection("LlamaForCausalLM")
    other = VLLMEngine(path, dtype="float32", max_model_len=256, kv_cache_memory_bytes=256 << 20)
    try:
        found = answers(other, requests_of(engine.tokenizer, vectors), TOKENS)
    finally:
        other.close()
    assert {key: ids for key, (ids, _) in found.items()} == {key: ids for key, (ids, _) in steered.items()}
    for key, (ids, logits) in steered.items():
        expected = logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0].tolist()
        assert found[key][1] == pytest.approx(expected, abs=1e-3), key
