"""The vLLM engine on base models with a plain chat template: answers, ids and finish reasons are those of transformers."""

import os

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from base_models import ANSWER, base_model, base_tokenizer
from vllm_models import spare_inspection, without_vllm

from persona_vectors import models
from persona_vectors.engines.base import Request, Sampling
from persona_vectors.engines.hf import HFEngine
from persona_vectors.models.chat_template import render, token_ids

reason = without_vllm()
pytestmark = pytest.mark.skipif(reason is not None, reason=f"the vLLM engine is not tested here: {reason}")
CHATS = [[{"role": "user", "content": text}] for text in ("what is it", "the model", "it")]


SIZES = {  # attention of vLLM on a CPU takes heads of 32
    "gpt_neox": {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32},
    "gpt2": {"n_embd": 128},
}


def make(kind: str, folder: str) -> tuple:
    """A model of ``kind`` in a folder: (its path, requests, {(max_tokens, key): answer of transformers})."""
    base_model(kind, **SIZES[kind]).save_pretrained(folder)
    base_tokenizer().save_pretrained(folder)
    path = models.resolve(folder, chat_template="plain")
    engine = HFEngine(path, "float32")
    requests = [Request(str(k), token_ids(engine.tokenizer, render(engine.tokenizer, c))) for k, c in enumerate(CHATS)]
    return path, requests, {n: {a.key: a for a in engine.generate(requests, Sampling(n, 0.0))} for n in (60, 3)}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """{kind: what :func:`make` says}, in a process of its own: in this one, vLLM may have patched transformers' classes."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return {kind: fresh.submit(make, kind, str(tmp_path_factory.mktemp(kind))).result() for kind in SIZES}


@pytest.mark.parametrize("kind", SIZES)
def test_answers_end_before_the_next_question_as_with_transformers(kind, worlds):
    from persona_vectors.engines.vllm.engine import VLLMEngine

    path, requests, expected = worlds[kind]
    spare_inspection("GPTNeoXForCausalLM", "GPT2LMHeadModel")
    engine = VLLMEngine(
        path, max_model_len=128, dtype="float32", steer=kind != "gpt2"
    )  # whose blocks vLLM cannot steer
    try:
        for max_tokens, finish in ((60, "stop"), (3, "length")):
            made = {a.key: a for a in engine.generate(requests, Sampling(max_tokens, 0.0))}
            assert made == expected[max_tokens]
            assert {a.finish_reason for a in made.values()} == {finish}
            if finish == "stop":
                assert {a.text for a in made.values()} == {ANSWER} and all(len(a.token_ids) < 12 for a in made.values())
    finally:
        engine.close()
