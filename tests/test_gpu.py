"""On a GPU: the same numbers as plain loops on the CPU, in float32, over all architectures. Skipped where there is none."""

import copy

import pytest
import torch
from helpers import lora_model, make_samples, plain_loop, tiny_tokenizer

from persona_vectors.engines import Request, Sampling
from persona_vectors.engines.hf import HFEngine
from persona_vectors.likelihood.tokens import token_likelihoods
from persona_vectors.steering.hooks import steered_training
from persona_vectors.steering.intervention import POSITIONS, Intervention
from persona_vectors.vectors.activations import POOLS, pooled_activations

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use is here")


@pytest.fixture
def on_gpu(model):
    """The model of the CPU, and a copy of it on the GPU."""
    return model, copy.deepcopy(model).cuda()


def vector(seed: int) -> torch.Tensor:
    return torch.randn(32, generator=torch.Generator().manual_seed(seed))


STEERINGS = {
    **{positions: (Intervention(2, vector(1), 4.0, positions),) for positions in POSITIONS},
    "two": (Intervention(1, vector(2), 3.0, "all"), Intervention(3, vector(3), -3.0, "response")),
    "ablate": (Intervention(2, vector(4), kind="ablate", positions="all"),),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 6e-2)])
def test_activations_equal_the_plain_loop_on_the_cpu(on_gpu, dtype, tolerance):
    cpu, gpu = on_gpu
    samples = make_samples()
    expected = plain_loop(cpu, samples)
    for indices, pooled in pooled_activations(gpu.to(dtype), samples):
        for pool in POOLS:
            scale = expected[pool].abs().amax(dim=(0, 2), keepdim=True)
            assert ((pooled[pool].cpu() - expected[pool][indices]).abs() / scale).max() < tolerance, pool


def test_steered_answers_are_those_of_the_cpu_token_for_token(on_gpu):
    draw = torch.Generator().manual_seed(0)
    prompts = [torch.randint(4, 300, (length,), generator=draw).tolist() for length in (3, 17, 9)]
    asked = [
        Request(f"{name} {row}", ids, interventions)
        for name, interventions in {"none": (), **STEERINGS}.items()
        for row, ids in enumerate(prompts)
    ]
    found = [
        {a.key: a.token_ids for a in HFEngine.of(model, tiny_tokenizer()).generate(asked, Sampling(16, temperature=0))}
        for model in on_gpu
    ]
    assert found[0] == found[1]
    assert len({tuple(ids) for ids in found[1].values()}) > len(prompts), "steering changed no answer"


def test_likelihoods_are_those_of_the_cpu(on_gpu):
    samples = make_samples()
    for there, here in zip(*(token_likelihoods(model, samples) for model in on_gpu), strict=True):
        assert abs(there.logprobs - here.logprobs).max() < 1e-3 and abs(there.entropies - here.entropies).max() < 1e-3


@pytest.mark.parametrize("name", ["two", "ablate"])
def test_a_steered_training_step_has_the_gradients_of_the_cpu(name):
    interventions = [Intervention(i.layer, i.vector, i.coef, "all", kind=i.kind) for i in STEERINGS[name]]
    grown = lora_model()
    found = []
    ids = torch.randint(4, 300, (3, 12), generator=torch.Generator().manual_seed(0))
    for device in ("cpu", "cuda"):
        model, batch = grown.to(device), ids.to(device)
        with steered_training(model, interventions):
            model(input_ids=batch, attention_mask=torch.ones_like(batch), labels=batch, use_cache=False).loss.backward()
        found.append({n: p.grad.cpu().clone() for n, p in model.named_parameters() if p.requires_grad})
        model.zero_grad()
    assert all(torch.allclose(found[1][n], found[0][n], rtol=1e-3, atol=1e-5) for n in found[0])
    assert max(gradient.abs().max() for gradient in found[0].values()) > 1e-3


def test_a_folder_is_loaded_onto_the_gpu_in_bfloat16(qwen2_folder):
    from persona_vectors import models, processes

    assert processes.accelerator() == "cuda" and processes.gpu_count() >= 1
    loaded = models.load_model(models.resolve(str(qwen2_folder)))
    assert loaded.device.type == "cuda" and loaded.dtype == torch.bfloat16
    exact = models.load_model(models.resolve(str(qwen2_folder)), "float32")
    assert exact.device.type == "cuda" and exact.dtype == torch.float32
