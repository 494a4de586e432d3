"""A model whose weights carry a steering does what the steered model does, after saving and loading."""

import os
import subprocess
import sys

import pytest
import torch
from helpers import tiny_model, tiny_tokenizer

from persona_vectors import bake
from persona_vectors.errors import UserError
from persona_vectors.sharing.formats import About, save_both
from persona_vectors.steering.hooks import steered
from persona_vectors.steering.intervention import Intervention
from persona_vectors.vectors.storage import incremental

IDS = torch.tensor([[5, 9, 17, 33, 12, 80, 44]])


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    path = tmp_path_factory.mktemp("v") / "v.pt"
    torch.save(torch.randn(5, 32, generator=torch.Generator().manual_seed(3)), path)
    return path


def folder_of(tmp_path, kind, **changes):
    tiny_model(kind, **changes).save_pretrained(tmp_path / kind)
    tiny_tokenizer().save_pretrained(tmp_path / kind)
    return str(tmp_path / kind)


def hooked_logits(model, interventions):
    with torch.no_grad(), steered(model, [interventions], [IDS.shape[1]], IDS.shape[1]):
        return model(IDS).logits


def load(path):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


@pytest.mark.parametrize("layer", ["2", "all"])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral", "gpt2", "gpt_neox"])
def test_logits_equal_those_of_the_steered_model(tmp_path, vectors, kind, layer):
    changes = (
        {"tie_word_embeddings": True} if kind == "qwen2" else {"sliding_window": None} if kind == "mistral" else {}
    )
    source = folder_of(tmp_path, kind, **changes)
    bake.main(source, str(tmp_path / "baked"), str(vectors), layer, 1.5)
    rows = torch.load(vectors)
    pairs = enumerate(incremental(rows), 1) if layer == "all" else [(2, rows[2])]
    expected = hooked_logits(load(source), [Intervention(number, row, 1.5, "all") for number, row in pairs])
    with torch.no_grad():
        found, plain = load(tmp_path / "baked")(IDS).logits, load(source)(IDS).logits
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, plain, atol=0.1)


@pytest.mark.parametrize("kind", ["qwen3", "gemma2", "phi3"])
def test_families_without_a_place_for_it_are_refused_by_name(tmp_path, vectors, kind):
    with pytest.raises(UserError, match=f"{kind} cannot be baked"):
        bake.main(folder_of(tmp_path, kind), str(tmp_path / "baked"), str(vectors), "2")
    assert not (tmp_path / "baked").exists()


def test_it_says_how_long_the_steering_is(tmp_path, capsys):
    about = About(trait="evil", kind="response_avg_diff", mean_norms="1,2,5,7,9")
    vector = save_both(torch.ones(5, 32), tmp_path, about)[0]
    bake.main(folder_of(tmp_path, "llama"), str(tmp_path / "baked"), str(vector), "2", -1.5)
    dose = -1.5 * 32**0.5 / 5
    assert f"steering by -1.5 x {vector} at layer 2, dose {dose:.3g}\n" in capsys.readouterr().out


def test_an_adapter_is_merged(tmp_path, vectors):
    from peft import LoraConfig, get_peft_model

    from persona_vectors.models.loading import load_model, resolve

    source = folder_of(tmp_path, "qwen2")
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    model = get_peft_model(load(source), lora)
    model.peft_config["default"].base_model_name_or_path = source
    model.save_pretrained(tmp_path / "adapter")
    bake.main(str(tmp_path / "adapter"), str(tmp_path / "merged"))
    bake.main(str(tmp_path / "adapter"), str(tmp_path / "baked"), str(vectors), "3", -1.0)
    adapted = load_model(resolve(str(tmp_path / "adapter")), "float32")
    with torch.no_grad():
        assert torch.allclose(load(tmp_path / "merged")(IDS).logits, adapted(IDS).logits, rtol=1e-4, atol=1e-4)
    expected = hooked_logits(adapted, [Intervention(3, torch.load(vectors)[3], -1.0, "all")])
    with torch.no_grad():
        assert torch.allclose(load(tmp_path / "baked")(IDS).logits, expected, rtol=1e-4, atol=1e-4)


def test_half_precision_and_other_rotations_survive(tmp_path, vectors):
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0}
    source = folder_of(tmp_path, "qwen2", rope_parameters=rope)
    bake.main(source, str(tmp_path / "baked"), str(vectors), "2", 1.5, dtype="bfloat16")
    expected = hooked_logits(load(source), [Intervention(2, torch.load(vectors)[2], 1.5, "all")])
    with torch.no_grad():
        found = load(tmp_path / "baked")(IDS).logits
    assert (found - expected).norm() < 0.03 * expected.norm()


def test_mistakes(tmp_path, vectors):
    source = folder_of(tmp_path, "qwen2")
    with pytest.raises(UserError, match="nothing to do"):
        bake.main(source, str(tmp_path / "baked"))
    with pytest.raises(UserError, match="layer 9 does not exist"):
        bake.main(source, str(tmp_path / "baked"), str(vectors), "9")
    with pytest.raises(UserError, match="exists already"):
        bake.main(source, str(tmp_path), str(vectors), "2")
    command = [sys.executable, "-m", "persona_vectors.bake", "--model", source, "--outptu_dir", "x"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2 and "did you mean --output_dir" in done.stderr
