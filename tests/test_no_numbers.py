"""Numbers that are none, and other ends of a run that used to be tracebacks or empty results."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import tiny_model
from judge_server import JudgeServer, completion

from persona_vectors.engines.hf import HFEngine
from persona_vectors.errors import UserError
from persona_vectors.files.jsonfile import read_json, write_json
from persona_vectors.models.loading import ModelPath, ensure_padding, loading_errors
from persona_vectors.steering.hooks import steered
from persona_vectors.steering.intervention import Intervention

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def loud(tmp_path_factory, tokenizer):
    """A model whose activations are finite in float32 and overflow in float16."""
    folder = tmp_path_factory.mktemp("models") / "loud"
    model = tiny_model("qwen2")
    with torch.no_grad():
        for block in model.model.layers:
            block.mlp.down_proj.weight.mul_(3e5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Answers, a vector and an artifact in the working directory, and a judge that likes everything."""
    monkeypatch.chdir(tmp_path)
    row = "question,prompt,answer,question_id,vile,coherence\nq,what is it,the model,vile_0_{sign}_0,{score},90\n"
    (tmp_path / "pos.csv").write_text(row.format(sign="pos", score=90))
    (tmp_path / "neg.csv").write_text(row.format(sign="neg", score=5))
    torch.save(torch.randn(5, 32), "v.pt")
    artifact = {
        "instruction": [{"pos": "p", "neg": "n"}],
        "questions": ["what is it"],
        "eval_prompt": "{question} {answer}",
    }
    for version in ("eval", "extract"):
        (tmp_path / f"trait_data_{version}").mkdir()
        (tmp_path / f"trait_data_{version}" / "vile.json").write_text(json.dumps(artifact))
    with JudgeServer(lambda n, body: completion({"57": 1.0})) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        yield tmp_path


STAGES = {
    "generate_vec": "--model_name {m} --pos_path pos.csv --neg_path neg.csv --trait vile --save_dir out --dtype {d}",
    "eval.eval_persona": "--model {m} --trait vile --trait_dir . --version eval --output_path out.csv --backend hf "
    "--max_tokens 4 --n_per_question 2 --dtype {d}",
    "eval.finetuning_shift": "--base_model {m} --model_list {m}2 --trait vile --trait_dir . --vector_path v.pt --layer 2 "
    "--output out --dtype {d}",
}


@pytest.mark.parametrize("stage", STAGES)
def test_overflow_is_said_and_nothing_is_saved(stage, run_stage, files, loud, tmp_path_factory):
    import shutil

    if not Path(f"{loud}2").exists():
        shutil.copytree(loud, f"{loud}2")
    for dtype, code in (("float16", 2), ("float32", 0)):
        done = run_stage(stage, *STAGES[stage].format(m=loud, d=dtype).split())
        assert done.returncode == code, done.stderr
        if code:
            assert done.stderr.strip().splitlines()[-1].startswith("error: the model's activations overflow in float16")
            assert not list(files.glob("out*/*.pt")) + list(files.glob("out.csv"))


def test_empty_answers_are_counted(run_stage, files, tokenizer):
    model = tiny_model("qwen2")
    model.generation_config.eos_token_id = list(range(300))  # every token ends the answer, and is special or not
    model.save_pretrained(files / "mute")
    tokenizer.save_pretrained(files / "mute")
    done = run_stage(
        "eval.eval_persona", *STAGES["eval.eval_persona"].format(m="mute", d="float32").split(), "--overwrite"
    )
    table = (files / "out.csv").read_text() if (files / "out.csv").exists() else ""
    if "answers are empty" not in done.stdout:  # then none is empty
        assert table.count("\n") == 3 and ',"",' not in table


def test_the_summary_says_how_many_answers_are_empty(capsys):
    import pandas

    from persona_vectors.asking.sheet import summarise

    summarise(pandas.DataFrame({"answer": ["a", " ", ""], "vile": [1.0, None, None]}), ["vile"])
    assert capsys.readouterr().out.startswith("2 of 3 answers are empty")


def test_a_tokenizer_without_an_end_token_is_one_line(tokenizer):
    import copy

    bare = copy.deepcopy(tokenizer)
    bare.pad_token = bare.eos_token = None
    with pytest.raises(UserError, match="neither an end token nor one for padding: set eos_token"):
        ensure_padding(bare, "mine")
    with pytest.raises(UserError, match="eos_token"):
        HFEngine.of(tiny_model("qwen2"), bare)
    bare.eos_token = "<|im_end|>"
    ensure_padding(bare)
    assert bare.pad_token == "<|im_end|>"


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "compressed-tensors"])
def test_a_missing_package_of_a_quantised_base_is_one_line(method, run_stage, files, qwen2_folder, monkeypatch):
    """transformers' own refusal where the package can be missing here; bitsandbytes is installed, so it is hidden."""
    import importlib.util
    import shutil

    shutil.copytree(qwen2_folder, "quantised")
    config = json.loads(Path("quantised/config.json").read_text())
    known = {
        "bitsandbytes": {"load_in_4bit": True},
        "gptq": {"bits": 4},
        "awq": {"bits": 4, "version": "gemm"},
        "compressed-tensors": {"config_groups": {}, "format": "dense"},
    }
    config["quantization_config"] = {"quant_method": method, **known[method]}
    Path("quantised/config.json").write_text(json.dumps(config))
    find = importlib.util.find_spec
    hidden = {"bitsandbytes", "gptqmodel", "auto_gptq", "optimum", "awq", "compressed_tensors"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in hidden else find(name, *a))
    import transformers.utils.import_utils as checks

    for name in dir(checks):
        if name.startswith("is_") and hasattr(getattr(checks, name), "cache_clear"):
            getattr(checks, name).cache_clear()
    try:
        done = run_stage("generate_vec", *STAGES["generate_vec"].format(m="quantised", d="float32").split())
    finally:
        for name in dir(checks):
            if name.startswith("is_") and hasattr(getattr(checks, name), "cache_clear"):
                getattr(checks, name).cache_clear()
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: cannot load quantised: "), done.stderr


def test_an_import_error_while_loading_is_one_line():
    with (
        pytest.raises(UserError, match="needs a package that is not installed: No module named 'kernels'"),
        loading_errors(ModelPath("m", "m")),
    ):
        raise ModuleNotFoundError("No module named 'kernels'\nmore")


def test_json_files_are_read_with_a_reason(tmp_path):
    path = tmp_path / "a.json"
    for content, words in (
        ("{", "not readable as JSON"),
        ("[1]", "must hold one JSON object, not list"),
        ("[" * 100_000, "not readable"),
        ("\x00", "not readable"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=words):
            read_json(path)
    with pytest.raises(UserError, match="no file at"):
        read_json(tmp_path / "b.json")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not readable"):
        read_json(path)
    write_json(path, {"a": [1]})
    assert read_json(path) == {"a": [1]} and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("content", ["{", "[]", '{"layer": 2}', '{"trait": 3}'])
def test_a_broken_recommendation_beside_a_card_is_one_line(content, tmp_path):
    from persona_vectors.sharing.card import find_sweeps

    (tmp_path / "evil_best.json").write_text(content)
    with pytest.raises(UserError, match=r"evil_best\.json"):
        find_sweeps(tmp_path, {})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("shift.json", "{"),
        ("shift.json", "[]"),
        ("shift.csv", "a,b\n1,2\n"),
        ("x_best.json", '{"trait": "x", "layer": 2}'),
    ],
)
def test_a_broken_result_of_a_report_is_one_line(name, content, run_stage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(content)
    if name == "shift.csv":
        (tmp_path / "shift.json").write_text('{"correlations": {"x": {}}}')
    done = run_stage("eval.report", "--model", "m", "--trait", "x", "--folder", ".", "--steering", "{trait}")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "-m eval.eval_persona --help",
        "generate_vec.py --help",
        "-m data_generation.generate_trait --help",
        "training.py --help",
    ],
)
def test_an_interrupt_while_importing_is_one_line(command):
    """At any moment between the first import of the project and the end; before that Python itself is starting."""
    import signal

    seen = set()
    for delay in (0.04, 0.06, 0.08, 0.12, 0.2, 0.4, 1, 5):
        process = subprocess.Popen(
            [sys.executable, *command.split()], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        if "Traceback" in err:  # only from before the watch, or from while it is set up
            begun = [line for line in err.splitlines() if f"{ROOT}/persona_vectors/" in line]
            assert all("persona_vectors/__init__.py" in line or "interrupts.py" in line for line in begun), err
        if "interrupted: " in err:
            assert err.endswith("interrupted: finished work is kept; the same command goes on from there\n"), err
            seen.add(delay)
        if delay >= 0.12 and (seen or process.returncode == 0):
            break
    assert seen or process.returncode == 0, err


class TestOneGeneration:
    """steered() counts the columns of one batch: what it would count wrongly is refused."""

    by = Intervention(2, torch.randn(32, generator=torch.Generator().manual_seed(0)), 2.0)
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])

    def test_a_second_forward_in_one_block(self, qwen2):
        with pytest.raises(RuntimeError, match="one generation"), steered(qwen2, [(self.by,)] * 2, [4, 4], 4):
            qwen2(self.ids)
            qwen2(self.ids)

    def test_a_second_generate_in_one_block(self, qwen2):
        options = dict(max_new_tokens=3, do_sample=False, attention_mask=torch.ones_like(self.ids), eos_token_id=None)
        with pytest.raises(RuntimeError, match="one generation"), steered(qwen2, [(self.by,)] * 2, [4, 4], 4):
            qwen2.generate(self.ids, **options)
            qwen2.generate(self.ids, **options)

    def test_a_generation_without_a_cache(self, qwen2):
        with pytest.raises(RuntimeError, match="with a cache"), steered(qwen2, [(self.by,)] * 2, [4, 4], 4):
            qwen2.generate(self.ids, max_new_tokens=3, do_sample=False, use_cache=False, eos_token_id=None)

    @pytest.mark.parametrize(
        "mask", [[[1, 1, 1, 1], [1, 1, 0, 0]], [[1, 1, 1, 1], [0, 1, 1, 1]], [[1, 0, 1, 1], [0, 0, 1, 1]]]
    )
    def test_padding_that_is_not_where_it_was_said(self, qwen2, mask):
        with pytest.raises(RuntimeError, match="padded on the left"), steered(qwen2, [(self.by,)] * 2, [4, 2], 4):
            qwen2(self.ids, attention_mask=torch.tensor(mask))

    def test_what_is_right_is_steered_as_before(self, qwen2):
        mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
        with torch.no_grad(), steered(qwen2, [(self.by,)] * 2, [4, 2], 4):
            first = qwen2(self.ids, attention_mask=mask, use_cache=True)
            more = torch.cat([mask, torch.ones(2, 1, dtype=mask.dtype)], dim=1)
            second = qwen2(self.ids[:, :1], attention_mask=more, past_key_values=first.past_key_values)
        assert first.logits.isfinite().all() and second.logits.shape[1] == 1
        with steered(qwen2, [()], [4], 4):  # nothing to steer, nothing to refuse
            qwen2(self.ids)
            qwen2(self.ids)
