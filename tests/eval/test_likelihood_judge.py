"""--judge_model likelihood in the stages: no key, no server, resumable, recorded, and no scorer loaded twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy
import pandas
import pytest
import torch
from helpers import CHATML, tiny_model, tiny_tokenizer

from persona_vectors import models
from persona_vectors.files import provenance
from persona_vectors.likelihood.scores import LikelihoodScorer, Spoken
from persona_vectors.traits.artifact import Trait

TRAIT = {
    "instruction": [{"pos": f"Be bad, {k}.", "neg": f"Be good, {k}."} for k in range(4)],
    "questions": ["What now?", "Why me?", "Who is it?"],
    "eval_prompt": "Rate **vile**. Q: {question} A: {answer}",
}
VILE = Trait("vile", **TRAIT)
COLUMNS = ["question", "prompt", "answer", "question_id", "vile", "coherence", "vile_llr"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the trait's artifacts; no judge can be reached."""
    for version in ("extract", "eval"):
        (tmp_path / f"trait_data_{version}").mkdir()
        (tmp_path / f"trait_data_{version}" / "vile.json").write_text(json.dumps(TRAIT))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    return tmp_path


def ask(folder, model, *more):
    """The command with further flags; one that it has already is given the new value."""
    flags = {
        "--model": model, "--trait": "vile", "--trait_dir": folder, "--backend": "hf", "--max_tokens": 8,
        "--n_per_question": 2, "--judge_model": "likelihood", "--output_path": folder / "out.csv",
    }  # fmt: skip
    switches = [word for word in more if word == "--overwrite"]
    rest = [word for word in more if word != "--overwrite"]
    flags |= dict(zip(rest[::2], rest[1::2], strict=True))
    return ["eval.eval_persona", *(word for flag in flags.items() for word in flag), *switches]


def ok(done):
    assert done.returncode == 0, done.stderr
    return done


def scored(model, tokenizer, table, systems, pairs=2):
    """What the library gives the rows of a table, by itself: {column: values}."""
    spoken = [Spoken(q, a, s) for q, a, s in zip(table["question"], table["answer"], systems, strict=True)]
    found = [LikelihoodScorer(model, tokenizer, pairs).score(VILE, [one])[0] for one in spoken]
    columns = {"vile": "score", "coherence": "coherence", "vile_llr": "llr"}
    return {column: [getattr(one, name) for one in found] for column, name in columns.items()}


def check(folder, model, tokenizer, systems, **options):
    table = pandas.read_csv(folder / "out.csv", keep_default_na=False)
    assert list(table.columns[:7]) == COLUMNS
    for column, values in scored(model, tokenizer, table, systems, **options).items():
        assert table[column].astype(float).tolist() == pytest.approx(values, abs=1e-3), column
    return table


@pytest.fixture
def loaded(monkeypatch):
    """The models that are loaded, by name."""
    names, load = [], models.load_model
    monkeypatch.setattr(models, "load_model", lambda path, *rest: names.append(path.name) or load(path, *rest))
    return names


def test_answers_under_instructions_are_scored_by_other_pairs(run_stage, folder, qwen2_folder, tokenizer, loaded):
    done = ok(run_stage(*ask(folder, qwen2_folder, "--persona_instruction_type", "pos")))
    assert "judge: likelihood under 2 held-out instruction pairs, read by tiny-qwen2 (" in done.stdout
    assert "scored 24 answers" in done.stdout and len(loaded) == 1
    systems = [f"You are a vile assistant. Be bad, {k}." for _ in range(3) for k in range(4) for _ in range(2)]
    table = check(folder, tiny_model("qwen2"), tokenizer, systems)
    assert len(table) == 24 and not list(folder.glob("*.journal*"))
    found = provenance.result_of(folder / "out.csv")
    scorer = models.made_of(models.resolve(str(qwen2_folder)))["model"]
    assert found["scorer"]["id"] == scorer.id and found["scorer_pairs"] == 2 and found["judge_model"] == "likelihood"
    assert found["judge"].startswith("likelihood under 2 held-out") and scorer.id.split(":")[1][:12] in found["judge"]
    assert found["instructions"]["id"].startswith("sha256:")


def test_a_sweep_and_the_same_file_twice(run_stage, folder, qwen2_folder, tokenizer):
    torch.manual_seed(0)
    torch.save(torch.randn(5, 32), folder / "v.pt")
    sweep = ["--coef", "0,3", "--layer", "1,2", "--vector_path", folder / "v.pt"]
    ok(run_stage(*ask(folder, qwen2_folder, *sweep)))
    table = check(folder, tiny_model("qwen2"), tokenizer, [None] * 24)
    assert list(table.columns[7:]) == ["coef", "layer", "finish"]
    first = (folder / "out.csv").read_bytes()
    assert "is not made again" in ok(run_stage(*ask(folder, qwen2_folder, *sweep))).stdout
    ok(run_stage(*ask(folder, qwen2_folder, *sweep, "--overwrite")))
    assert (folder / "out.csv").read_bytes() == first


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory):
    """A scorer of another architecture, with a tokenizer and a chat template of its own."""
    folder = tmp_path_factory.mktemp("models") / "other"
    tiny_model("llama", seed=3).save_pretrained(folder)
    tiny_tokenizer(CHATML.replace("assistant", "other")).save_pretrained(folder)
    return folder


def test_another_scorer_reads_with_its_own_tokenizer(run_stage, folder, qwen2_folder, other_folder, loaded):
    flags = ["--scorer", other_folder, "--scorer_pairs", 3]
    ok(run_stage(*ask(folder, qwen2_folder, *flags)))
    assert loaded == [str(qwen2_folder), str(other_folder)]
    own = models.load_tokenizer(models.resolve(str(other_folder)))
    check(folder, tiny_model("llama", seed=3), own, [None] * 6, pairs=3)
    for other, words in ((["--scorer", qwen2_folder], "scorer was"), (flags[:2], "scorer_pairs was 3, now 2")):
        refused = run_stage(*ask(folder, qwen2_folder, *other))
        assert refused.returncode == 2 and words in refused.stderr and "--overwrite" in refused.stderr
    changed = {**TRAIT, "instruction": [{"pos": "Be worse.", "neg": "Be best."}, *TRAIT["instruction"][1:]]}
    (folder / "trait_data_extract" / "vile.json").write_text(json.dumps(changed))
    refused = run_stage(*ask(folder, qwen2_folder, *flags))
    assert refused.returncode == 2 and "instructions was" in refused.stderr


@pytest.mark.parametrize("bias", ["none", "all"])
def test_an_adapters_answers_are_read_by_its_base(run_stage, folder, qwen2_folder, tokenizer, loaded, bias):
    """In the engine's own model with the adapter off; in one that is loaded anew where the adapter has changed the base."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, bias=bias)
    base = models.load_model(models.resolve(str(qwen2_folder)), "float32")
    tuned = get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "bias" in name and parameter.requires_grad:
                parameter.add_(1.0)
    tuned.save_pretrained(folder / "tuned")
    settings = json.loads((folder / "tuned" / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = str(qwen2_folder)
    (folder / "tuned" / "adapter_config.json").write_text(json.dumps(settings))
    loaded.clear()
    ok(run_stage(*ask(folder, folder / "tuned")))
    assert loaded == [str(folder / "tuned")] + [str(qwen2_folder)] * (bias == "all")
    check(folder, tiny_model("qwen2"), tokenizer, [None] * 6)
    loaded.clear()
    ok(run_stage(*ask(folder, folder / "tuned", "--scorer", folder / "tuned", "--overwrite")))
    assert loaded == [str(folder / "tuned")]
    check(folder, models.load_model(models.resolve(str(folder / "tuned")), "float32"), tokenizer, [None] * 6)


def process(command):
    return [sys.executable, "-m", *map(str, command)]


def test_kill_9_between_scores_and_the_same_command_again(folder, qwen2_folder):
    """What was scored stays; the rest gets the numbers of an undisturbed run."""
    command = process(ask(folder, qwen2_folder, "--n_per_question", 60))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    journal, deadline = folder / "out.csv.journal.jsonl", time.monotonic() + 90
    victim = subprocess.Popen(command, env=environment, stdout=-3, stderr=-3)
    while not (journal.exists() and journal.read_text().count('"metric"') >= 70):
        assert time.monotonic() < deadline and victim.poll() is None
        time.sleep(0.001)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    lines = journal.read_bytes().splitlines(True)
    kept = [json.loads(line) for line in lines if line.endswith(b"\n")]
    before = sum(line.get("metric") == "vile" for line in kept)
    assert 0 < before < 180 and not (folder / "out.csv").exists()
    another = process(ask(folder, qwen2_folder, "--n_per_question", 60, "--scorer_pairs", 1))
    refused = subprocess.run(another, env=environment, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 2 and "scorer_pairs was 2, now 1" in refused.stderr
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    missing = 180 - sum({"vile", "coherence"} <= metrics for metrics in metrics_of(kept).values())
    assert f"scored {missing} answers" in again.stdout
    resumed = (folder / "out.csv").read_bytes()
    (folder / "out.csv").unlink()
    whole = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert whole.returncode == 0 and (folder / "out.csv").read_bytes() == resumed


def metrics_of(lines):
    """{key of an answer: the metrics that it has}."""
    found = {}
    for line in lines:
        if "metric" in line:
            found.setdefault(line["key"], set()).add(line["metric"])
    return found


def test_scores_of_another_judge_are_not_mixed_in(run_stage, folder, qwen2_folder):
    """Not in a file that is whole; one that is not is in the test of the kill."""
    ok(run_stage(*ask(folder, qwen2_folder)))
    refused = run_stage(*ask(folder, qwen2_folder, "--judge_model", "gpt-x"))
    assert refused.returncode == 2 and "judge_model was 'likelihood', now 'gpt-x'" in refused.stderr


def test_an_empty_answer_has_no_score(run_stage, folder, qwen2_folder, monkeypatch):
    from persona_vectors.engines import hf

    generate = hf.HFEngine.generate

    def first_is_empty(self, requests, sampling):
        for number, answer in enumerate(generate(self, requests, sampling)):
            yield type(answer)(**{**vars(answer), "text": " "}) if number == 0 else answer

    monkeypatch.setattr(hf.HFEngine, "generate", first_is_empty)
    done = ok(run_stage(*ask(folder, qwen2_folder)))
    table = pandas.read_csv(folder / "out.csv")
    assert table[["vile", "coherence", "vile_llr"]].isna().sum().tolist() == [1, 1, 1]
    assert "1 of 6 answers are empty" in done.stdout and "scored 5 answers" in done.stdout


def test_conversations_are_read_as_they_were(run_stage, folder, qwen2_folder, tokenizer):
    """Earlier turns are read before the answer, by every road; an instruction in the user's own words is held out."""
    chats = [
        [("user", "Who?"), ("assistant", "the model"), ("user", "And?")],
        [("system", "Be bad, 0."), ("user", "And?")],
        [("user", "Be bad, 1. And?")],
    ]
    rows = [[{"role": role, "content": content} for role, content in chat] for chat in chats]
    (folder / "q.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    ok(run_stage(*ask(folder, qwen2_folder, "--questions", folder / "q.jsonl", "--n_per_question", 1)))
    table = pandas.read_csv(folder / "out.csv")
    scorer = LikelihoodScorer(tiny_model("qwen2"), tokenizer)
    spoken = [Spoken.after(row, answer) for row, answer in zip(rows, table["answer"], strict=True)]
    expected = [[one.score, one.coherence, one.llr] for one in scorer.score(VILE, spoken)]
    assert table[COLUMNS[-3:]].to_numpy() == pytest.approx(numpy.array(expected), abs=1e-3)
    (alone,) = scorer.score(VILE, [Spoken("And?", spoken[0].answer)])
    assert alone.llr != pytest.approx(expected[0][2], abs=1e-4)
    answered = [[*row, {"role": "assistant", "content": one.answer}] for row, one in zip(rows, spoken, strict=True)]
    answered.append([{"role": "tool", "content": "x"}, *answered[0]])
    (folder / "a.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in answered))
    flags = ["--trait", "vile", "--trait_dir", folder, "--judge_model", "likelihood", "--scorer", qwen2_folder]
    done = ok(run_stage("eval.judge", "--file_path", folder / "a.jsonl", *flags))
    assert "1 of 4 rows have no value (or not all): a conversation with a message of 'tool'" in done.stdout
    found = [json.loads(line) for line in (folder / "a.jsonl").read_text().splitlines()][:3]
    assert [[row[name] for name in COLUMNS[-3:]] for row in found] == [pytest.approx(row, abs=1e-3) for row in expected]
    rows[0][1]["role"] = "tool"
    (folder / "q.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    refused = run_stage(*ask(folder, qwen2_folder, "--questions", folder / "q.jsonl", "--overwrite"))
    assert refused.returncode == 2 and "vile_0 cannot be scored by likelihood: a conversation with" in refused.stderr


def test_a_base_model_scores_a_file_by_the_template_that_is_given(run_stage, folder, qwen2_folder, monkeypatch):
    """It goes on record, and the scorer is loaded as the flags say."""
    shutil.copytree(qwen2_folder, folder / "mute")
    (folder / "mute" / "chat_template.jinja").unlink()
    (folder / "a.csv").write_text("question,prompt,answer\nwhat,User: what,it is\n")
    flags = ["--file_path", folder / "a.csv", "--trait", "vile", "--trait_dir", folder, "--judge_model", "likelihood"]
    ok(run_stage("eval.judge", *flags, "--scorer", folder / "mute", "--chat_template", "plain"))
    (row,) = pandas.read_csv(folder / "a.csv").to_dict("records")
    plain = models.load_tokenizer(models.resolve(str(folder / "mute"), chat_template="plain"))
    (expected,) = LikelihoodScorer(tiny_model("qwen2"), plain).score(VILE, [Spoken("what", "it is")])
    assert row["vile_llr"] == pytest.approx(expected.llr, abs=1e-4)
    assert provenance.read(folder / "a.csv")["parts"]["vile"]["chat_template"]["name"] == "plain"
    refused = run_stage("eval.judge", *flags, "--scorer", qwen2_folder, "--chat_template", "plain")
    assert refused.returncode == 2 and "has a column 'vile' already (scorer was mute" in refused.stderr
    monkeypatch.setattr(models.loading.importlib.util, "find_spec", lambda _: None)
    refused = run_stage("eval.judge", *flags, "--scorer", qwen2_folder, "--load_in_4bit", "true", "--name", "a,b,c")
    assert refused.returncode == 2 and "--load_in_4bit needs bitsandbytes" in refused.stderr


BAD = {
    "scorer without likelihood": (["--judge_model", "gpt-x", "--scorer", "models/none"], "--scorer goes with"),
    "pairs without likelihood": (["--judge_model", "gpt-x", "--scorer_pairs", "3"], "--scorer_pairs goes with"),
    "in capitals": (["--judge_model", "Likelihood"], "write likelihood in small letters"),
    "nobody, in capitals": (["--judge_model", "None"], "write none in small letters"),
    "no such scorer": (["--scorer", "models/none"], "models/none"),
    "a folder without a model": (["--scorer", "{folder}"], "holds no model"),
    "a scorer without a chat template": (["--scorer", "{mute}"], "no chat template"),
    "no pair": (["--scorer_pairs", "0"], "at least 1"),
    "too many pairs": (["--scorer_pairs", "5"], "vile has 4 instruction pairs"),
    "all pairs, one of them its own": (
        ["--scorer_pairs", "4", "--persona_instruction_type", "neg"],
        "of which 3 did not make the answer",
    ),
    "unknown trait": (["--trait", "viel"], "did you mean vile?"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_2_before_any_model(run_stage, folder, qwen2_folder, loaded, case):
    options, words = BAD[case]
    shutil.copytree(qwen2_folder, folder / "mute")
    (folder / "mute" / "chat_template.jinja").unlink()
    options = [option.format(folder=folder, mute=folder / "mute") for option in options]
    done = run_stage(*ask(folder, qwen2_folder, *options))
    assert done.returncode == 2, (done.stdout, done.stderr)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and words in last and "Traceback" not in done.stderr
    assert not loaded and not (folder / "out.csv").exists()


def test_monitoring_by_likelihood_holds_the_graded_instructions_out(run_stage, folder, qwen2_folder, tokenizer):
    prompts = [
        "Be bad, 0. Do this in every sentence.",
        "Be bad, 1. Mostly.",
        "You are a helpful assistant.",
        "Be good, 0.",
    ]
    (folder / "monitoring").mkdir()
    (folder / "monitoring" / "vile.json").write_text(json.dumps({"system_prompts": prompts}))
    torch.manual_seed(0)
    torch.save(torch.randn(5, 32), folder / "v.pt")
    ok(
        run_stage(
            "eval.monitor", "--model", qwen2_folder, "--trait", "vile", "--layer", 2, "--output_dir", folder / "out",
            "--vector_path", folder / "v.pt", "--trait_dir", folder, "--backend", "hf", "--max_tokens", 8,
            "--n_per_question", 1, "--judge_model", "likelihood",
        )
    )  # fmt: skip
    (folder / "out.csv").write_bytes((folder / "out" / "vile_system_prompts.csv").read_bytes())
    table = check(folder, tiny_model("qwen2"), tokenizer, prompts * 3)
    assert table.columns[7] == "condition" and len(table) == 12
