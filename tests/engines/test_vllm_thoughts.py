"""Thoughts in the vLLM engine: split as the transformers engine splits them, family by family, from one running engine."""

import os

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("OMP_NUM_THREADS", "2")

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from thinking import ASK, STRUCTURES, ids_of, scripted_model
from vllm_models import spare_inspection, without_vllm

from persona_vectors.engines.base import Request, Sampling, stop_ids
from persona_vectors.engines.hf import HFEngine
from persona_vectors.engines.vllm.engine import VLLMEngine
from persona_vectors.models import chat_template
from persona_vectors.models.loading import ModelPath

reason = without_vllm()
pytestmark = pytest.mark.skipif(reason is not None, reason=f"the vLLM engine is not tested here: {reason}")

REASONING, ANSWER = "They ask why.\nHm.", "Because it is."
LENGTH = 2048


def test_both_engines_split_alike(tmp_path):
    """One model writes every family's answer: which one depends on how long the prompt is, which is filled up in front."""
    families, scripts, start = {}, {}, 0
    for name, structure in STRUCTURES.items():
        tokenizer = structure.tokenizer()
        prompt = ids_of(tokenizer, chat_template.render(tokenizer, ASK, True))
        script = ids_of(tokenizer, structure.raw(REASONING, ANSWER))
        start += len(prompt)
        families[name] = tokenizer, [7] * (start - len(prompt)) + prompt, script
        scripts[start] = script
        start += len(script) + 1
    assert start < LENGTH
    widest = max((tokenizer for tokenizer, _, _ in families.values()), key=len)
    path = str(scripted_model(tmp_path / "scripted", widest, scripts, LENGTH))
    cut_off = 4  # tokens: within the thoughts
    asked = [Sampling(len(max(scripts.values(), key=len)) + 1, 0.0), Sampling(cut_off, 0.0)]

    def answers(engine) -> dict:
        found = {}
        for name, (tokenizer, prompt, _) in families.items():
            engine.tokenizer = tokenizer
            for sampling in asked:
                (found[name, sampling.max_tokens],) = engine.generate([Request(name, prompt)], sampling)
        return found

    expected = answers(HFEngine(ModelPath(path, path), "float32"))
    spare_inspection("GPT2LMHeadModel")
    engine = VLLMEngine(
        ModelPath(path, path), max_model_len=LENGTH, steer=False, block_size=32, kv_cache_memory_bytes=256 << 20
    )
    try:
        got = answers(engine)
    finally:
        engine.close()
    assert got == expected
    for (name, max_tokens), answer in got.items():
        tokenizer, _, script = families[name]
        turn_end = script[-1] in stop_ids(1, tokenizer)  # Gemma 4's
        assert turn_end == (name == "gemma-4")
        assert answer.token_ids == (
            [*script, 1][: len(script) + (not turn_end)] if max_tokens > cut_off else script[:cut_off]
        )
        if max_tokens > cut_off:
            assert (answer.reasoning, answer.text) == (REASONING, ANSWER), name
        elif name != "words":  # whose opening mark is many tokens, and is cut off
            assert answer.text == "" and REASONING.startswith(answer.reasoning), name
