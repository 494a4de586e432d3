"""The base again, whatever adapter was over it: against models that are loaded each by itself, in a fresh object."""

import copy
import json

import peft
import pytest
import torch
from helpers import tiny_model
from transformers import AutoModelForCausalLM

from persona_vectors import models
from persona_vectors.errors import UserError
from persona_vectors.models import loading
from persona_vectors.models.adapters import changes_base
from persona_vectors.models.decoder import find_decoder

IDS = torch.tensor([[5, 17, 23, 42, 250, 299, 4, 8]])
TARGETS = ["q_proj", "v_proj", "o_proj"]
ROWS = 310  # more than the base's 300


def biased_base(folder, tokenizer):
    """A Qwen2 model, whose attention has biases that a LoRA may train."""
    tiny_model("qwen2").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


KINDS = {
    "plain": peft.LoraConfig(r=2, target_modules=TARGETS),
    "biases of lora layers": peft.LoraConfig(r=2, target_modules=TARGETS, bias="lora_only"),
    "all biases": peft.LoraConfig(r=2, target_modules=TARGETS, bias="all"),
    "dora": peft.LoraConfig(r=2, target_modules=TARGETS, use_dora=True),
    "modules trained whole": peft.LoraConfig(r=2, target_modules=TARGETS, modules_to_save=["lm_head", "embed_tokens"]),
    "some tokens": peft.LoraConfig(r=2, target_modules=TARGETS, trainable_token_indices=[5, 42]),
    "pissa": peft.LoraConfig(r=2, target_modules=TARGETS, init_lora_weights="pissa"),
    "ia3": peft.IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "added tokens": peft.LoraConfig(r=2, target_modules=TARGETS),
}
OUTSIDE = {
    "prompt tuning": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    "prefix tuning": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    "p-tuning": peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=4, encoder_hidden_size=8),
    "a LoRA that words switch on": peft.LoraConfig(
        r=2, target_modules=TARGETS, alora_invocation_tokens=[5], task_type="CAUSAL_LM"
    ),
}
LEAVES_BASE_ALONE = {"plain", "dora"}


def make_adapter(folder, base, kind, tokenizer):
    """An adapter whose every parameter was changed, as PEFT saves it."""
    model = AutoModelForCausalLM.from_pretrained(base)
    if kind == "added tokens":
        more = copy.deepcopy(tokenizer)
        more.add_tokens([f"<|{k}|>" for k in range(ROWS - len(more))])
        model.resize_token_embeddings(ROWS)
        more.save_pretrained(folder)
    model = peft.get_peft_model(model, KINDS[kind])
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad or ("added" in kind and "embed" in name):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(folder, save_embedding_layers=kind == "added tokens")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(base)}))
    with torch.no_grad():
        return model.eval()(IDS).logits


@pytest.fixture(scope="module")
def world(tmp_path_factory, tokenizer):
    """The base, its logits, and {kind: (folder, logits that PEFT itself gives)}."""
    folder = tmp_path_factory.mktemp("adapters")
    base = biased_base(folder / "base", tokenizer)
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(base).eval()(IDS).logits
    made = {}
    for kind in KINDS:
        made[kind] = (
            folder / kind.replace(" ", "_"),
            make_adapter(folder / kind.replace(" ", "_"), base, kind, tokenizer),
        )
    return base, plain, made


@torch.no_grad()
def logits(model):
    return model(IDS).logits


@pytest.mark.parametrize("kind", KINDS)
def test_the_base_is_the_same_before_and_after_any_adapter(world, kind):
    base, plain, made = world
    folder, wanted = made[kind]
    loader = models.Loader("float32")
    as_base, as_adapter, other = (models.resolve(str(path)) for path in (base, folder, made["plain"][0]))
    assert torch.equal(logits(loader.load(as_base)), plain)
    torch.testing.assert_close(logits(loader.load(as_adapter)), wanted)
    assert (wanted[..., : plain.shape[-1]] - plain).abs().max() > 1e-2  # it does something
    torch.testing.assert_close(logits(loader.load(other)), made["plain"][1])
    torch.testing.assert_close(logits(loader.load(as_adapter)), wanted)
    assert torch.equal(logits(loader.load(as_base)), plain)
    assert changes_base(folder) == (kind not in LEAVES_BASE_ALONE)


def test_plain_adapters_share_their_base(world, monkeypatch):
    base, _, made = world
    loads = []
    own = models.load_model
    monkeypatch.setattr(loading, "load_model", lambda *a: loads.append(a) or own(*a))
    loader = models.Loader("float32")
    for path in (base, made["plain"][0], made["dora"][0], base):
        loader.load(models.resolve(str(path)))
    assert len(loads) == 1


def write_answers(folder):
    (folder / "a.csv").write_text(
        "question,prompt,answer\nq,what is it,the model answers\nq,the question,it is the question\n"
    )
    vector = torch.randn(5, 32, generator=torch.Generator().manual_seed(1))
    torch.save(vector, folder / "v.pt")
    return vector


@torch.no_grad()
def mean_answer(model, tokenizer, prompt, answer, layer):
    """A slow loop's mean activation over the answer's tokens."""
    ids, more = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, answer))
    hidden = model(torch.tensor([ids + more]), output_hidden_states=True).hidden_states[layer][0]
    return hidden[len(ids) :].mean(0)


@pytest.mark.parametrize("kind", KINDS)
def test_cal_projection_subtracts_the_true_base(world, kind, run_stage, tmp_path, monkeypatch, tokenizer):
    import pandas

    base, _, made = world
    monkeypatch.chdir(tmp_path)
    vector = write_answers(tmp_path)[2]
    folder = made[kind][0]
    done = run_stage(
        "eval.cal_projection", "--file_path", "a.csv", "--vector_path", "v.pt", "--layer", 2, "--model_name", folder,
        "--base_model", base, "--dtype", "float32",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pandas.read_csv("a.csv")
    (column,) = [name for name in table if "_minus_" in name]
    tuned = AutoModelForCausalLM.from_pretrained(base)
    if kind == "added tokens":
        tuned.resize_token_embeddings(ROWS)
    tuned = peft.PeftModel.from_pretrained(tuned, folder).eval()
    plain = AutoModelForCausalLM.from_pretrained(base).eval()
    for row in table.itertuples():
        shift = mean_answer(tuned, tokenizer, row.prompt, row.answer, 2) - mean_answer(
            plain, tokenizer, row.prompt, row.answer, 2
        )
        assert table[column][row.Index] == pytest.approx((shift @ vector / vector.norm()).item(), abs=1e-4)


def test_a_shift_does_not_depend_on_what_was_measured_before(world, run_stage, tmp_path, monkeypatch):
    import pandas

    base, _, made = world
    monkeypatch.chdir(tmp_path)
    write_answers(tmp_path)
    (tmp_path / "trait_data_eval").mkdir()
    artifact = {
        "instruction": [{"pos": "p", "neg": "n"}],
        "questions": ["what is it"],
        "eval_prompt": "{question} {answer}",
    }
    (tmp_path / "trait_data_eval" / "vile.json").write_text(json.dumps(artifact))

    def shifts(*kinds):
        name = "_".join(kinds).replace(" ", "")
        done = run_stage(
            "eval.finetuning_shift", "--base_model", base, "--model_list", ",".join(str(made[kind][0]) for kind in kinds),
            "--trait", "vile", "--trait_dir", ".", "--vector_path", "v.pt", "--layer", 2, "--output", name, "--dtype", "float32",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return pandas.read_csv(f"{name}.csv").set_index("model")["shift"]

    alone = shifts("plain")["plain"]
    together = shifts("all biases", "modules trained whole", "some tokens", "pissa", "plain")
    assert together["plain"] == alone and together.nunique() == 5


def test_tokens_without_embeddings_are_refused(world, tmp_path, tokenizer):
    _, _, made = world
    import shutil

    folder = tmp_path / "adapter"
    shutil.copytree(made["plain"][0], folder)
    more = copy.deepcopy(tokenizer)
    more.add_tokens([f"<|{k}|>" for k in range(305 - len(more))])
    more.save_pretrained(folder)
    with pytest.raises(UserError, match=r"has 305 tokens, but its base has embeddings of 300"):
        models.load_model(models.resolve(str(folder)), "float32")


@pytest.mark.parametrize("kind", OUTSIDE)
def test_adapters_that_act_outside_of_the_layers_are_refused(tmp_path, kind):
    """What they do is in PEFT's own forward: read past it, a finetuning shift would be 0 without a word."""
    model = peft.get_peft_model(tiny_model("qwen2"), OUTSIDE[kind])
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "owner/base"}))
    with pytest.raises(UserError, match="acts outside of the model's layers"):
        models.resolve(str(tmp_path))
    with pytest.raises(UserError, match="what is over Qwen2ForCausalLM"):  # one that a caller has put on
        find_decoder(model)
