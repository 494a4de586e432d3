"""SmolLM2-135M-Instruct, loaded once; its tests are skipped, with the command that brings it, where it is missing."""

from pathlib import Path

import pytest
import torch
from real_model import FOLDER, GLOOMY, HOPEFUL, TOKENS, prompt_ids, requests_of

from persona_vectors import models
from persona_vectors.models import chat_template


def pytest_collection_modifyitems(items):
    missing = pytest.mark.skip(reason="models/smollm2 is missing: python download_hf_models.py --model_name smollm2")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.real)
            if not (FOLDER / "config.json").is_file():
                item.add_marker(missing)


@pytest.fixture(scope="session")
def path():
    return models.resolve(str(FOLDER))


@pytest.fixture(scope="session")
def engine(path):
    """The transformers engine, float32; it holds the model and its tokenizer."""
    from persona_vectors.engines.hf import HFEngine

    return HFEngine(path, "float32")


@pytest.fixture(scope="session")
def samples(engine):
    """A prompt with answers of both signs, tokenised."""
    from persona_vectors.vectors.batches import Sample

    prompt, tokenizer = prompt_ids(engine.tokenizer, "How will my week be?"), engine.tokenizer
    both = {"pos": HOPEFUL, "neg": GLOOMY}
    return {
        sign: [Sample(prompt, chat_template.token_ids(tokenizer, text)) for text in texts]
        for sign, texts in both.items()
    }


@pytest.fixture(scope="session")
def vectors(engine, samples):
    """Mean response activations of hopeful minus gloomy answers, float32 [layers + 1, hidden]."""
    from persona_vectors.vectors.activations import pooled_activations

    means = {}
    for sign, of_sign in samples.items():
        rows = [pooled["response_avg"] for _, pooled in pooled_activations(engine.model, of_sign)]
        means[sign] = torch.cat(rows).mean(0)
    return means["pos"] - means["neg"]


@pytest.fixture(scope="session")
def steered(engine, vectors):
    """The engine's greedy answers, and the logits of a plain hook over each whole sequence: {key: (ids, logits)}."""
    from engines.vllm_models import added

    from persona_vectors.engines import Sampling

    found = {}
    asked = {request.key: request for request in requests_of(engine.tokenizer, vectors)}
    for answer in engine.generate(list(asked.values()), Sampling(TOKENS, temperature=0)):
        request, ids = asked[answer.key], answer.token_ids
        start = len(request.prompt_ids)
        with added(engine.model, request.interventions, start), torch.no_grad():
            logits = engine.model(torch.tensor([request.prompt_ids + ids]), use_cache=False).logits[0, start - 1 : -1]
        found[answer.key] = ids, logits
    return found
