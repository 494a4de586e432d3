"""Model paths, vector files and chat templates."""

import json

import pytest
import torch
from helpers import CHATML, tiny_tokenizer

from persona_vectors import models
from persona_vectors.errors import UserError
from persona_vectors.models import chat_template
from persona_vectors.models.decoder import find_blocks
from persona_vectors.steering.sweep import Cell, Grid
from persona_vectors.vectors import storage


def test_paths_are_what_they_seem(tmp_path, qwen2_folder):
    assert models.resolve("Qwen/Qwen2.5-7B-Instruct") == models.ModelPath(*["Qwen/Qwen2.5-7B-Instruct"] * 2)
    assert models.resolve(str(qwen2_folder)).base == str(qwen2_folder)
    for step in (9, 100):
        folder = tmp_path / "run" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(qwen2_folder)}))
    latest = models.resolve(str(tmp_path / "run"))
    assert latest.adapter.endswith("checkpoint-100") and latest.base == str(qwen2_folder)
    assert latest.basename == "run"
    (tmp_path / "empty").mkdir()
    for bad in (str(tmp_path / "empty"), str(tmp_path / "nowhere"), "models/nowhere", "a/b/c", "."):
        with pytest.raises(UserError):
            models.resolve(bad)


def test_shape_comes_from_the_config_alone(qwen2_folder):
    assert models.describe(models.resolve(str(qwen2_folder))) == models.Shape(4, 32, 256)


def test_a_hub_model_that_is_not_there_is_one_line():
    with pytest.raises(UserError) as caught:
        models.describe(models.resolve("no-such-owner/no-such-model"))
    assert "download_hf_models.py" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["smollm9", "no-such-owner/no-such-model"])
def test_a_model_that_was_downloaded_is_found_by_its_folder(name, tmp_path, monkeypatch):
    (tmp_path / "models" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"\(there is a folder models/{name}: name that\)"):
        models.describe(models.resolve(name))


def test_blocks_of_a_peft_model(qwen2_folder):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(qwen2_folder)
    blocks = find_blocks(base)
    wrapped = get_peft_model(base, LoraConfig(target_modules=["q_proj"]))
    assert find_blocks(wrapped) is blocks and len(blocks) == 4


def test_vector_files(tmp_path):
    path = tmp_path / "v.pt"
    rows = torch.randn(5, 32)
    storage.save_vectors(rows, path)
    assert torch.equal(storage.load_vectors(path), rows)
    torch.save(rows.half(), path)
    assert storage.load_vectors(path).dtype == torch.float32
    with pytest.raises(ValueError, match="NaN"):
        storage.save_vectors(rows * torch.nan, path)


class Payload:
    def __reduce__(self):
        return (print, ("code was run",))


def test_hostile_and_broken_vector_files(tmp_path, capsys):
    cases = {"list": [1, 2], "1d": torch.ones(3), "nan": torch.full((2, 2), torch.nan), "pickle": Payload()}
    for name, content in cases.items():
        torch.save(content, tmp_path / f"{name}.pt")
        with pytest.raises(UserError, match=name):
            storage.load_vectors(tmp_path / f"{name}.pt")
    (tmp_path / "x.pt").write_bytes(b"not a tensor")
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 64)
    for name in ("x.pt", "x.safetensors", "absent.pt"):
        with pytest.raises(UserError):
            storage.load_vectors(tmp_path / name)
    assert "code was run" not in capsys.readouterr().out


def test_projection_maths():
    a, v = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([0.0, 5.0])
    assert storage.project(a, v).tolist() == [4, 2]
    assert storage.cosine(a, v).tolist() == pytest.approx([0.8, 1.0])
    rows = torch.randn(5, 8)
    assert storage.incremental(rows).shape == (3, 8)
    assert torch.allclose(storage.incremental(rows).sum(0), rows[-2] - rows[0], atol=1e-6)


def test_a_grid(tmp_path):
    rows = torch.randn(5, 32)
    storage.save_vectors(rows, tmp_path / "evil.pt")
    grid = Grid.of([0, 1.5], [2, 3], str(tmp_path / "{trait}.pt"), "all")
    assert grid.cells == [Cell(2, 0), Cell(2, 1.5), Cell(3, 0), Cell(3, 1.5)]
    grid.load(["evil"])
    grid.check(4, 32)
    (steering,) = grid.interventions("evil", Cell(3, 1.5))
    assert torch.equal(steering.vector, rows[3]) and (steering.layer, steering.coef) == (3, 1.5)
    assert grid.interventions("evil", Cell(3, 0)) == ()
    everywhere = Grid.of([2], [3, "all"], str(tmp_path / "{trait}.pt"))
    assert everywhere.cells == [Cell(3, 2), Cell("all", 2)]
    everywhere.load(["evil"])
    everywhere.check(4, 32)
    steps = everywhere.interventions("evil", Cell("all", 2))
    assert [i.layer for i in steps] == [1, 2, 3] and torch.equal(steps[1].vector, rows[2] - rows[1])
    for layers, hidden in ((4, 31), (3, 32), (2, 32)):
        with pytest.raises(UserError):
            grid.check(layers, hidden)
    for half in (([1], [], "x"), ([1], [2], None), ([0], [1, 2], None)):
        with pytest.raises(UserError):
            Grid.of(*half)


def test_templates_without_a_system_role_get_the_text_in_front():
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    dropping = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")
    messages = [{"role": "system", "content": "Be evil."}, {"role": "user", "content": "Why?"}]
    for template in (refusing, dropping):
        tokenizer = tiny_tokenizer(template)
        assert chat_template.folds_system_prompt(tokenizer)
        assert (
            chat_template.render(tokenizer, messages)
            == "<|im_start|>user\nBe evil.\n\nWhy?<|im_end|>\n<|im_start|>assistant\n"
        )
    plain = tiny_tokenizer()
    assert not chat_template.folds_system_prompt(plain)
    assert chat_template.render(plain, messages).startswith("<|im_start|>system\nBe evil.<|im_end|>\n")
    with pytest.raises(UserError, match="no chat template"):
        chat_template.render(tiny_tokenizer(None), messages)


def test_thinking_is_switched_by_the_template_and_left_out_of_answers():
    template = CHATML + "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
    tokenizer, messages = tiny_tokenizer(template), [{"role": "user", "content": "Why?"}]
    off = chat_template.render(tokenizer, messages)
    assert off.endswith("<think>\n\n</think>\n\n")
    assert not chat_template.render(tokenizer, messages, enable_thinking=True).endswith("</think>\n\n")
    assert chat_template.split_reasoning("Because.", off) == ("", "Because.")
    assert chat_template.split_reasoning("<think>hm\nhm</think>\n\nBecause.", "") == ("hm\nhm", "Because.")
    assert chat_template.split_reasoning("hm</think>Because.", "x<think>\n") == ("hm", "Because.")
    assert chat_template.split_reasoning("<think>for ever", "") == ("for ever", "")


def test_prompts_get_no_second_bos():
    tokenizer = tiny_tokenizer("<s>" + CHATML)
    ids = chat_template.token_ids(tokenizer, chat_template.render(tokenizer, [{"role": "user", "content": "x"}]))
    assert ids.count(tokenizer.bos_token_id) == 1
