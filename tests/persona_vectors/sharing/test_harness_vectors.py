"""Steering files of lm-evaluation-harness: its own model `steered` does with them what we do at position all."""

import pytest
import torch
from helpers import tiny_model
from lm_eval.api.instance import Instance
from lm_eval.models.hf_steered import SteeredModel

import share_vectors
from persona_vectors.capability.harness import SteeredLM
from persona_vectors.errors import UserError
from persona_vectors.models.decoder import find_blocks
from persona_vectors.sharing import formats
from persona_vectors.sharing.harness_vectors import (
    blocks_name,
    read_harness_content,
    read_harness_vector,
    save_harness_vector,
)
from persona_vectors.steering.intervention import Intervention

ROWS = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
PAIRS = [("what is it", " the model answers"), ("the question", " answers"), ("it is", " what"), ("", "what is it")]


def about(architecture):
    return formats.About(model="lab/tiny", architecture=architecture, trait="evil", kind="response_avg_diff")


def requests(kind, arguments):
    return [Instance(kind, {}, one, k) for k, one in enumerate(arguments)]


@pytest.mark.parametrize("kind", ["qwen2", "gpt2", "gpt_neox", "gemma2"])
def test_lm_evals_own_steered_model_equals_position_all(kind, tokenizer, tmp_path):
    model = tiny_model(kind)
    model.save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    save_harness_vector(ROWS, tmp_path / "v.pt", about(kind), layer=2, coef=1.5)
    theirs = SteeredModel(str(tmp_path / "m"), str(tmp_path / "v.pt"), device="cpu", dtype="float32", batch_size=4)
    ours = SteeredLM(model, tokenizer, batch_size=4)
    plain = ours.loglikelihood(requests("loglikelihood", PAIRS), disable_tqdm=True)
    ours.interventions = [Intervention(2, ROWS[2], 1.5, "all")]
    found = ours.loglikelihood(requests("loglikelihood", PAIRS), disable_tqdm=True)
    wanted = theirs.loglikelihood(requests("loglikelihood", PAIRS), disable_tqdm=True)
    assert [score for score, _ in found] == pytest.approx([score for score, _ in wanted], rel=1e-6)
    assert [score for score, _ in found] != pytest.approx([score for score, _ in plain], rel=1e-2)
    answer = requests("generate_until", [("what is it the", {"until": ["</never>"], "max_gen_toks": 5})])
    assert ours.generate_until(answer, disable_tqdm=True) == theirs.generate_until(answer, disable_tqdm=True)


def test_the_blocks_name_is_the_models(model):
    name = blocks_name(model.config.model_type)
    assert dict(model.base_model.named_modules())[name] is find_blocks(model)
    with pytest.raises(UserError, match="of nonesuch it is not known"):
        blocks_name("nonesuch")


def test_there_and_back(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    formats.save_both(ROWS, "vectors", about("qwen2"))
    share_vectors.export(vectors="vectors", output_dir="out", format="lm_eval", layer=3, coef=2)
    assert "wrote out/evil_response_avg_diff_layer3.lm_eval.pt" in capsys.readouterr().out
    ((place, entry),) = torch.load("out/evil_response_avg_diff_layer3.lm_eval.pt", weights_only=True).items()
    assert place == "layers.2" and entry["steering_coefficient"] == 2 and entry["action"] == "add"
    assert torch.equal(entry["steering_vector"], ROWS[3])
    share_vectors.import_(vectors="out/evil_response_avg_diff_layer3.lm_eval.pt", save_dir="back")
    assert "steers layer 3 (coefficient 2); its other rows are zero" in capsys.readouterr().out
    back, told = formats.read_shared("back/evil_response_avg_diff.pt")
    assert torch.equal(back[3], ROWS[3]) and not back[[0, 1, 2, 4]].any() and back.shape == ROWS.shape
    assert told == about("qwen2")


def test_a_file_of_somebody_elses(tmp_path, monkeypatch, qwen2_folder, capsys):
    monkeypatch.chdir(tmp_path)
    place = {
        "steering_vector": ROWS[2][None],
        "steering_coefficient": 4,
        "action": "add",
        "bias": None,
        "head_index": None,
    }
    torch.save({"layers.1": place, "layers.3": place | {"steering_coefficient": -1.0}}, "v.pt")
    share_vectors.import_(vectors="v.pt", save_dir="back", trait="vile", model_name=str(qwen2_folder))
    assert "layer 2 (coefficient 4), 4 (coefficient -1)" in capsys.readouterr().out
    back, told = formats.read_shared("back/vile_response_avg_diff.pt")
    assert torch.equal(back[[2, 4]], ROWS[[2, 2]]) and not back[[0, 1, 3]].any() and told.model == qwen2_folder.name
    with pytest.raises(UserError, match="does not say how many layers its model has: pass --model_name"):
        share_vectors.import_(vectors="v.pt", save_dir="none", trait="vile")


GOOD = {"steering_vector": ROWS[2], "steering_coefficient": 1.0, "action": "add"}
REFUSED = {
    "a clamp": ({"layers.1": GOOD | {"action": "clamp"}}, "does something else than to add"),
    "a head": ({"layers.1": GOOD | {"head_index": 0}}, "does something else than to add"),
    "a bias": ({"layers.1": GOOD | {"bias": ROWS[1]}}, "does something else than to add"),
    "no block": ({"layers.1.mlp": GOOD}, "'layers.1.mlp' is no decoder block"),
    "an expert": ({"layers.1.experts.0": GOOD}, "'layers.1.experts.0' is no decoder block"),
    "a head of a block": ({"layers.1.heads.3.0": GOOD}, "is no decoder block"),
    "one block twice": ({"layers.1": GOOD, "model.layers.1": GOOD}, "has two vectors for block 1: model.layers.1 is"),
    "a matrix": ({"layers.1": GOOD | {"steering_vector": ROWS}}, "must hold a float tensor"),
    "NaN": ({"layers.1": GOOD | {"steering_vector": ROWS[2] * torch.nan}}, "must hold a float tensor"),
    "words": ({"layers.1": GOOD | {"steering_coefficient": "2"}}, "and a coefficient"),
    "two widths": ({"layers.1": GOOD, "layers.2": GOOD | {"steering_vector": ROWS[2, :8]}}, "vectors of one width"),
    "too deep": ({"layers.4": GOOD}, "steers block 4, but a model of 4 layers ends at 3"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_addition_to_a_block_is_refused(name, tmp_path):
    content, words = REFUSED[name]
    torch.save(content, tmp_path / "v.pt")
    with pytest.raises(UserError, match=words):
        read_harness_vector(read_harness_content(tmp_path / "v.pt"), tmp_path / "v.pt", 5)


def test_rows_that_are_no_number_are_not_read(tmp_path):
    torch.save({"layers.1": GOOD | {"persona_vectors": {"rows": "\u00b2"}}}, tmp_path / "v.pt")
    vectors, _, _ = read_harness_vector(read_harness_content(tmp_path / "v.pt"), tmp_path / "v.pt", 5)
    assert torch.equal(vectors[2], ROWS[2])


@pytest.mark.parametrize("format", ["lm_eval", "gguf"])
def test_a_row_of_zeros_is_not_exported(tmp_path, format):
    zero = ROWS.clone()
    zero[3] = 0
    formats.save_both(zero, tmp_path, about("qwen2"))
    with pytest.raises(UserError, match="row 3 of the vector is zero"):
        share_vectors.export(vectors=str(tmp_path), output_dir=str(tmp_path / "out"), format=format, layer=3)
    share_vectors.export(vectors=str(tmp_path), output_dir=str(tmp_path / "out"), format=format, layer=2)


def test_flags_that_do_not_go_together(tmp_path):
    formats.save_both(ROWS, tmp_path, about("qwen2"))
    vectors = str(tmp_path)
    for flags, words in [
        ({"format": "lm_eval"}, "--format lm_eval needs --layer"),
        ({"format": "lm_eval", "layer": 9}, "--layer 9 does not exist: this model has layers 1..4"),
        ({"format": "pt", "coef": 2.0}, "--coef is for --format lm_eval"),
    ]:
        with pytest.raises(UserError, match=words):
            share_vectors.export(vectors=vectors, output_dir=str(tmp_path / "out"), **flags)
