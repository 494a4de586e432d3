"""Weights in 4 bits: bitsandbytes' own on a CPU, against a model whose weights went through the same quantisation."""

import importlib.util
import json

import pandas
import pytest
import torch
from helpers import make_samples, plain_loop, tiny_model
from judge_server import JudgeServer, completion, is_probe

from persona_vectors import models
from persona_vectors.engines import choose_backend
from persona_vectors.engines.hf import HFEngine
from persona_vectors.errors import UserError
from persona_vectors.sharing.formats import read_shared
from persona_vectors.vectors.extraction import mean_activations

WIDE = dict(hidden_size=64, intermediate_size=128, head_dim=16)  # bitsandbytes takes blocks of 64 weights


@pytest.fixture(scope="module")
def wide_folder(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("models") / "wide-qwen2"
    tiny_model("qwen2", **WIDE).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    """A trait, judged answers of both signs, and the model, as files in one folder."""
    artifact = {"instruction": [{"pos": "Be bad.", "neg": "Be good."}], "questions": ["What now?", "Why me?"]}
    (tmp_path / "trait_data_extract").mkdir()
    (tmp_path / "trait_data_extract/vile.json").write_text(
        json.dumps(artifact | {"eval_prompt": "Rate **vile**. {question} {answer}"})
    )
    for sign, score in (("pos", 90), ("neg", 1)):
        table = {"prompt": [f"{sign} {k}" for k in range(3)], "answer": ["What", "it", "is"], "coherence": 90}
        table |= {"question_id": [f"vile_{k}_{sign}_0" for k in range(3)], "vile": score}
        pandas.DataFrame(table).to_csv(tmp_path / f"{sign}.csv", index=False)
    return tmp_path


def requantised(model):
    """The model with what every linear layer but the head is in 4 bits, back in float32."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            kept, state = quantize_4bit(module.weight.data, quant_type="nf4", compress_statistics=True)
            module.weight.data = dequantize_4bit(kept, state)
    return model


def check_near(found, expected, full) -> None:
    """``found`` is ``expected``, but for the bfloat16 within bitsandbytes' CPU kernel, and clearly not ``full``."""
    assert (found - expected).norm() < 0.1 * (full - expected).norm() and (full - expected).norm() > 0.01 * full.norm()


def test_numbers_are_those_of_the_quantised_weights(wide_folder):
    model = models.load_model(models.resolve(str(wide_folder), load_in_4bit=True))
    assert type(model.model.layers[0].mlp.up_proj).__name__ == "Linear4bit" and model.dtype == torch.float32
    samples, reference = make_samples(6), requantised(tiny_model("qwen2", **WIDE))
    means, _ = mean_activations(model, samples)
    full = plain_loop(tiny_model("qwen2", **WIDE), samples)
    for pool, rows in plain_loop(reference, samples).items():
        check_near(means[pool], rows.mean(0), full[pool].mean(0))


def test_an_adapter_goes_over_a_base_in_4_bits(tmp_path, wide_folder):
    """Plain PEFT over the requantised base gives the same; the loader keeps bases in 4 bits and in full apart."""
    from peft import LoraConfig, PeftModel, get_peft_model

    lora = LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    get_peft_model(tiny_model("qwen2", **WIDE), lora).save_pretrained(tmp_path / "adapter")
    path = models.ModelPath("adapter", str(wide_folder), str(tmp_path / "adapter"))
    ids = torch.arange(4, 20)[None]
    loader = models.Loader("float32")
    with torch.no_grad():
        full = PeftModel.from_pretrained(tiny_model("qwen2", **WIDE), tmp_path / "adapter")(ids).logits
        quantised = PeftModel.from_pretrained(requantised(tiny_model("qwen2", **WIDE)), tmp_path / "adapter")(
            ids
        ).logits
        for in_4bit in (True, False, True):
            logits = loader.load(models.ModelPath("adapter", path.source, path.adapter, in_4bit))(ids).logits
            check_near(logits, quantised, full) if in_4bit else torch.testing.assert_close(logits, full)


def test_records_tell_a_model_in_4_bits_from_the_same_in_full(run_stage, folder, wide_folder, monkeypatch):
    ask = ["--model", wide_folder, "--trait", "vile", "--trait_dir", folder, "--backend", "hf", "--max_tokens", "3",
           "--output_path", folder / "out.csv", "--n_per_question", "1"]  # fmt: skip
    make = ["--model_name", wide_folder, "--pos_path", folder / "pos.csv", "--neg_path", folder / "neg.csv",
            "--trait", "vile", "--save_dir", folder / "v"]  # fmt: skip
    with JudgeServer(lambda _, body: completion({"57" if is_probe(body) else "60": 1.0})) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        for flag in ([], ["--load_in_4bit"]):  # each is taken up by its own kind alone
            done = run_stage("eval.eval_persona", *ask, *flag, "--overwrite")
            assert done.returncode == 0, done.stderr
            assert "not made again" in run_stage("eval.eval_persona", *ask, *flag).stdout
            other = run_stage("eval.eval_persona", *ask, *([] if flag else ["--load_in_4bit"]))
            assert other.returncode == 2 and "in 4 bits (" in other.stderr and "model was" in other.stderr
    made = {}
    for flag in ([], ["--load_in_4bit"], ["--load_in_4bit"]):
        done = run_stage("generate_vec", *make, *flag)
        assert done.returncode == 0, done.stderr
        made[len(made)] = torch.load(folder / "v/vile_response_avg_diff.pt")
    assert "not made again" in done.stdout and not torch.equal(made[0], made[1])
    assert read_shared(folder / "v/vile_response_avg_diff.safetensors")[1].dtype == "float32, weights in 4 bits"
    record = json.loads((folder / "v/vile_response_avg_diff.pt.provenance.json").read_text())
    assert record["result"]["model"]["name"] == f"{wide_folder.name} in 4 bits"


def test_what_cannot_be_is_refused_in_a_line(run_stage, folder, wide_folder, monkeypatch):
    ask = ["--model", wide_folder, "--trait", "vile", "--trait_dir", folder, "--output_path", folder / "x.csv"]
    if importlib.util.find_spec("vllm"):
        from vllm.platforms import current_platform

        if current_platform.is_cpu():
            refused = run_stage("eval.eval_persona", *ask, "--load_in_4bit", "--backend", "vllm")
            said = "--backend vllm cannot run here: vLLM's build for CPUs cannot put weights into 4 bits; --backend hf"
            assert refused.returncode == 2 and refused.stderr.startswith(f"error: {said}")
            assert choose_backend("auto", load_in_4bit=True) == "hf" and choose_backend("auto") == "vllm"
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "bitsandbytes" else find(name, *a)
    )
    refused = run_stage("eval.eval_persona", *ask, "--load_in_4bit")
    said = "error: --load_in_4bit needs bitsandbytes, which is not installed (pip install bitsandbytes)\n"
    assert (refused.returncode, refused.stderr) == (2, said)
    with pytest.raises(UserError, match="needs bitsandbytes"):
        HFEngine(models.resolve(str(wide_folder), load_in_4bit=True))
