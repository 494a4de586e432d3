"""What lies at an output's path is taken up only if it was made from the same: every stage, every kind of change.

A change is refused in one line that says what was and what is, before a model is loaded, and nothing on disk changes.
Copied, moved and touched things are the same things. A file without a record is taken as it is, and that is said.
"""

import gc
import json
import os
import shutil

import pandas
import pytest
import torch
import transformers
from bad_input import arguments, edit, trait
from helpers import tiny_model
from judge_server import JudgeServer, completion, error
from stages import score
from test_bad_input import folder, judge, refused  # noqa: F401

from persona_vectors.files import provenance
from persona_vectors.files.atomic import replacing
from persona_vectors.files.journal import Journal


def weights(path="tiny"):
    """Other weights in the same folder."""
    return lambda root: tiny_model("qwen2", seed=1).save_pretrained(root / path)


def template(root):
    (root / "tiny" / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
    )


def vector(root):
    torch.manual_seed(9)
    torch.save(torch.randn(5, 32), root / "v.pt")


def adapter(root, seed=0):
    from peft import LoraConfig, get_peft_model

    base = tiny_model("qwen2")
    torch.manual_seed(seed)
    made = get_peft_model(base, LoraConfig(target_modules=["v_proj"], init_lora_weights=False))
    made.peft_config["default"].base_model_name_or_path = str(root / "tiny")
    made.save_pretrained(root / "lora")


def row(path="set.jsonl", old="the question", new="the answer"):
    """One answer of the data is another."""

    def change(root):
        text = (root / path).read_text()
        assert old in text
        (root / path).write_text(text.replace(old, new, 1))

    return change


def nothing(_folder):
    """A flag will differ."""


QUESTIONS, PROMPT = trait(questions=["Other?", "Another?"]), trait(eval_prompt="Is it vile? {question} {answer}")
GRADED = edit("monitoring/vile.json", system_prompts=["the question", "what is it"])
LORA = {"--model_list": "lora"}
BASE = {"--base_model": "base"}
# (stage, flags of all its runs, what changes, flags that change, what is said)
CHANGES = [
    ("eval.eval_persona", {}, weights(), {}, "model was tiny ("),
    ("eval.eval_persona", {}, template, {}, "model was tiny ("),
    ("eval.eval_persona", {"--model": "lora"}, lambda f: adapter(f, 1), {}, "adapter was lora ("),
    ("eval.eval_persona", {}, nothing, {"--model": "lora"}, "adapter was none, now lora ("),
    ("eval.eval_persona", {}, vector, {}, "vector was v.pt ("),
    ("eval.eval_persona", {}, QUESTIONS, {}, "artifact was vile ("),
    ("eval.eval_persona", {}, PROMPT, {}, "artifact was vile ("),
    ("eval.eval_persona", {}, nothing, {"--max_tokens": "5"}, "max_tokens was 4, now 5"),
    ("eval.eval_persona", {}, nothing, {"--coef": "2"}, "cells was [[2, 1.0]], now [[2, 2.0]]"),
    ("eval.eval_persona", {}, nothing, {"--judge_model": "other"}, "judge_model was 'gpt-4.1-mini-2025-04-14', now 'other'"),
    ("eval.eval_persona", {}, nothing, {"--version": "eval"}, "version was 'extract', now 'eval'"),
    ("eval.eval_persona", {}, nothing, {"--persona_instruction_type": "pos"}, "artifact was vile ("),
    ("eval.capability", {}, weights(), {}, "model was tiny ("),
    ("eval.capability", {"--model": "lora"}, lambda f: adapter(f, 1), {}, "adapter was lora ("),
    ("eval.capability", {}, vector, {}, "vector was v.pt ("),
    ("eval.capability", {}, nothing, {"--tasks": "kl"}, "tasks was "),
    ("eval.capability", {}, nothing, {"--max_tokens": "5"}, "max_tokens was 4, now 5"),
    ("eval.monitor", {}, weights(), {}, "model was tiny ("),
    ("eval.monitor", {"--model": "lora"}, lambda f: adapter(f, 1), {}, "adapter was lora ("),
    ("eval.monitor", {}, nothing, {"--model": "base"}, "model was tiny ("),
    ("eval.monitor", {}, vector, {}, "vector was v.pt ("),
    ("eval.monitor", {}, QUESTIONS, {}, "artifact was vile ("),
    ("eval.monitor", {}, GRADED, {}, "artifact was vile ("),
    ("eval.monitor", {}, nothing, {"--n_per_question": "2"}, "n_per_question was 1, now 2"),
    ("eval.monitor", {}, nothing, {"--enable_thinking": "true"}, "enable_thinking was False, now True"),
    ("eval.finetuning_shift", LORA, weights(), {}, "base_model was tiny ("),
    ("eval.finetuning_shift", LORA, lambda f: adapter(f, 1), {}, "adapter was lora ("),
    ("eval.finetuning_shift", {"--model_list": "base"}, weights("base"), {}, "(model was base ("),
    ("eval.finetuning_shift", LORA, nothing, BASE, "base_model was tiny ("),
    ("eval.finetuning_shift", LORA, vector, {}, "vector was v.pt ("),
    ("eval.finetuning_shift", LORA, nothing, {"--layer": "3"}, "layer was 2, now 3"),
    ("eval.finetuning_shift", LORA, QUESTIONS, {}, "questions was vile ("),
    ("eval.projection_difference", {}, weights(), {}, "model was tiny ("),
    ("eval.projection_difference", {"--model_name": "lora"}, lambda f: adapter(f, 1), {}, "adapter was lora ("),
    ("eval.projection_difference", {}, vector, {}, "vector was v.pt ("),
    ("eval.projection_difference", {}, row(), {}, "set was set.jsonl ("),
    ("eval.projection_difference", {}, nothing, {"--max_tokens": "5"}, "max_tokens was 4, now 5"),
    ("eval.projection_difference", {"--base_answers": "given.jsonl"}, row("given.jsonl", "the", "a"), {},
     "base_answers was given.jsonl ("),
    ("eval.projection_difference", {}, nothing, {"--base_answers": "given.jsonl"}, "base_answers was none, now given.jsonl ("),
    ("eval.projection_difference", {}, nothing, {"--estimate": "prompt_last"}, "type was 'proj minus proj'"),
    ("eval.projection_difference", {"--estimate": "sample", "--sample": "2"}, nothing, {"--sample": "3"}, "sample was 2, now 3"),
    ("eval.cal_projection", {}, weights(), {}, "model was tiny ("),
    ("eval.cal_projection", {"--model_name": "lora"}, lambda f: adapter(f, 1), {}, "adapter was lora ("),
    ("eval.cal_projection", BASE, weights("base"), {}, "base_model was base ("),
    ("eval.cal_projection", {}, vector, {}, "vector was v.pt ("),
    ("eval.cal_projection", {}, row("pos.csv", ",the,", ",what it is,"), {}, "file was pos.csv ("),
    ("eval.cal_projection", {}, nothing, {"--dtype": "bfloat16"}, "dtype was 'auto', now 'bfloat16'"),
    ("training", {}, weights(), {}, "model was tiny ("),
    ("training", {}, vector, {}, "vectors was [v.pt ("),
    ("training", {}, row(), {}, "training_file was [set.jsonl ("),
    ("training", {}, edit("train.json", r=4), {}, "r was 2, now 4"),
]  # fmt: skip


@pytest.fixture
def world(folder):  # noqa: F811
    """The folder of test_bad_input, a base model of other weights, an adapter, and base answers."""
    shutil.copytree(folder / "tiny", folder / "base")
    tiny_model("qwen2", seed=5).save_pretrained(folder / "base")
    adapter(folder)
    (folder / "given.jsonl").write_text('{"answer": "the model"}\n' * 4)
    return folder


def contents(root):
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def never(*_, **__):
    raise AssertionError("a model was loaded")


def named(stage, case):
    return f"{stage} {case.strip('( ')}"


@pytest.mark.parametrize(
    ("stage", "flags", "changes", "more", "words"), CHANGES, ids=[f"{c[0]} {k}" for k, c in enumerate(CHANGES)]
)
def test_a_result_of_something_else_is_refused(
    world,
    run_stage,
    monkeypatch,
    judge,  # noqa: F811
    stage,
    flags,
    changes,
    more,
    words,
):
    assert run_stage(stage, *arguments(stage, flags)).returncode == 0
    changes(world)
    before, asked, load = contents(world), len(judge.bodies), transformers.AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", never)
    done = run_stage(stage, *arguments(stage, {**flags, **more}))
    refused(done, words)
    assert "--overwrite" in done.stderr and ", now " in done.stderr
    assert contents(world) == before and len(judge.bodies) == asked, "something was written or paid for"
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", load)
    over = {"--overwrite": "true"}
    assert run_stage(stage, *arguments(stage, {**flags, **more, **over})).returncode == 0
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", never)
    again = run_stage(stage, *arguments(stage, {**flags, **more}))
    assert again.returncode == 0 and "no record" not in again.stdout + again.stderr, again


STAGES = {
    "eval.eval_persona": (
        {"--model": "lora"},
        {"--model": "new/lora", "--vector_path": "new/v.pt", "--trait_dir": "new"},
    ),
    "eval.monitor": (
        {},
        {"--model": "new/tiny", "--vector_path": "new/v.pt", "--trait_dir": "new", "--output_dir": "new/m"},
    ),
    "eval.finetuning_shift": (
        LORA,
        {"--model_list": "new/lora", "--base_model": "new/tiny", "--vector_path": "new/v.pt", "--output": "new/s"},
    ),
    "eval.projection_difference": (
        {},
        {"--model_name": "new/tiny", "--vector_path": "new/v.pt", "--output_dir": "new/d"},
    ),
    "eval.cal_projection": (
        BASE,
        {"--model_name": "new/tiny", "--base_model": "new/base", "--file_path": "new/pos.csv"},
    ),
    "eval.capability": (
        {"--model": "lora"},
        {"--model": "new/lora", "--vector_path": "new/v.pt", "--output": "new/c"},
    ),
    "training": ({}, {"": "new/train.json"}),
}


@pytest.mark.parametrize("stage", STAGES)
def test_copied_moved_and_touched_things_are_the_same(world, run_stage, monkeypatch, judge, stage):  # noqa: F811
    flags, moved = STAGES[stage]
    assert run_stage(stage, *arguments(stage, flags)).returncode == 0
    for path in world.rglob("*"):
        os.utime(path, (1, 1))
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", never)
    asked, before = len(judge.bodies), contents(world)
    done = run_stage(stage, *arguments(stage, flags))
    assert done.returncode == 0 and "no record" not in done.stdout, done
    shutil.copytree(world, world.parent / "copy")
    shutil.move(world.parent / "copy", world / "new")
    if stage == "training":
        config = json.loads((world / "train.json").read_text())
        for name, place in (("model", "tiny"), ("training_file", "set.jsonl"), ("output_dir", "out")):
            config[name] = str(world / "new" / place)
        config["steering_config"]["steering_vector_path"] = str(world / "new" / "v.pt")
        (world / "new" / "train.json").write_text(json.dumps(config))
    (world / "new" / "lora" / "adapter_config.json").write_text(
        (world / "lora" / "adapter_config.json").read_text().replace(str(world / "tiny"), str(world / "new" / "tiny"))
    )
    done = run_stage(stage, *arguments(stage, {**flags, **moved}))
    assert done.returncode == 0 and "no record" not in done.stdout, done
    results = {path: content for path, content in contents(world).items() if path in before and path.suffix != ".png"}
    assert results == {path: content for path, content in before.items() if path.suffix != ".png"}
    assert len(judge.bodies) == asked


@pytest.mark.parametrize("stage", STAGES)
def test_results_without_records_are_taken_as_they_are_and_that_is_said(world, run_stage, monkeypatch, judge, stage):  # noqa: F811
    flags, _ = STAGES[stage]
    assert run_stage(stage, *arguments(stage, flags)).returncode == 0
    for path in world.rglob("*provenance.json"):
        path.unlink()
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", never)
    asked = len(judge.bodies)
    done = run_stage(stage, *arguments(stage, flags))
    assert done.returncode == 0 and "no record of what it was" in done.stdout, done
    assert len(judge.bodies) == asked
    vector(world)
    assert run_stage(stage, *arguments(stage, flags)).returncode == (2 if stage == "training" else 0)


def test_a_published_table_needs_no_model_to_be_summarised(world, run_stage):
    (world / "a.csv").write_text("question,prompt,answer,question_id,vile,coherence\nq,p,a,vile_0,60,90\n")
    shutil.rmtree(world / "tiny")
    done = run_stage("eval.eval_persona", *arguments("eval.eval_persona", {}))
    assert done.returncode == 0 and "a.csv has no record of what it was made from" in done.stdout
    assert "vile:  60.00" in done.stdout and not list(world.glob("*.provenance.json"))


def test_columns_are_added_to_a_published_table_and_it_still_has_no_record(world, run_stage):
    (world / "a.csv").write_text("question,prompt,answer,question_id,vile,coherence\nq,p,a,vile_0,60,90\n")
    flags = {"--file_path": "a.csv"}
    assert run_stage("eval.cal_projection", *arguments("eval.cal_projection", flags)).returncode == 0
    done = run_stage("eval.eval_persona", *arguments("eval.eval_persona", {}))
    assert done.returncode == 0 and "a.csv has no record of what it was made from" in done.stdout
    vector(world)
    refused(run_stage("eval.cal_projection", *arguments("eval.cal_projection", flags)), "vector was v.pt (")


@pytest.mark.parametrize("stage", ["eval.eval_persona", "eval.monitor"])
@pytest.mark.parametrize("changes", [weights(), template, nothing], ids=["weights", "template", "nothing"])
def test_an_interrupted_run_goes_on_with_the_same_model_alone(world, run_stage, monkeypatch, judge, stage, changes):  # noqa: F811
    with JudgeServer(lambda n, body: score(n, body) if n < 3 else error(401)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert run_stage(stage, *arguments(stage, {"--max_concurrent_judges": "1"})).returncode == 2
    monkeypatch.setenv("OPENAI_BASE_URL", judge.url)
    gc.collect()  # the stopped run's lock would have died with its process
    (journal,) = world.rglob("*.journal.jsonl")
    before = journal.read_bytes()
    assert b'"answer"' in before
    shutil.copytree(world / "tiny", world / "copy" / "tiny")
    changes(world)
    if changes is not nothing:
        refused(run_stage(stage, *arguments(stage, {})), "used other settings (model was tiny (")
        assert journal.read_bytes() == before
    done = run_stage(stage, *arguments(stage, {"--model": "copy/tiny"}))  # as it was, elsewhere
    assert done.returncode == 0 and not journal.exists(), done.stderr
    again = run_stage(stage, *arguments(stage, {"--model": "copy/tiny"}))
    assert again.returncode == 0 and "no record" not in again.stdout


def interrupted(run_stage, monkeypatch, stage, flags):
    """Run a stage that is stopped when all windows are on disk and the file is still to be written."""
    import persona_vectors.files.resumable

    with monkeypatch.context() as patched:
        patched.setattr(
            persona_vectors.files.resumable.WindowedWork,
            "finish",
            lambda self: (_ for _ in ()).throw(KeyboardInterrupt),
        )
        assert run_stage(stage, *arguments(stage, flags)).returncode == 130
    gc.collect()


@pytest.mark.parametrize("changes", [weights(), vector, row("pos.csv", ",the,", ",what it is,"), nothing])
def test_interrupted_projections_go_on_with_the_same_inputs_alone(world, run_stage, monkeypatch, changes):
    stage = "eval.cal_projection"
    interrupted(run_stage, monkeypatch, stage, {})
    before = contents(world)
    assert any(path.suffix == ".npz" for path in before)
    changes(world)
    table = pandas.read_csv(world / "pos.csv")
    table.assign(mine=1).to_csv(world / "pos.csv", index=False)  # a column of the user's own in between
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", never if changes is not nothing else
                        transformers.AutoModelForCausalLM.from_pretrained)  # fmt: skip
    done = run_stage(stage, *arguments(stage, {}))
    if changes is nothing:
        assert done.returncode == 0 and "mine" in pandas.read_csv(world / "pos.csv"), done.stderr
        assert provenance.read(world / "pos.csv")["parts"]
    else:
        refused(done, "an unfinished run of pos.csv used other settings")


def test_a_kill_between_the_columns_and_their_record_is_made_up_for(world, run_stage, monkeypatch):
    """The columns are in the file, which says nothing of their vector: they are written again from what is on disk."""
    stage, saved = "eval.cal_projection", provenance._save
    calls = []

    def killed_at_the_second(output, known):
        calls.append(output)
        if len(calls) == 2:
            raise KeyboardInterrupt
        saved(output, known)

    monkeypatch.setattr(provenance, "_save", killed_at_the_second)
    assert run_stage(stage, *arguments(stage, {})).returncode == 130
    gc.collect()
    monkeypatch.setattr(provenance, "_save", saved)
    column = pandas.read_csv(world / "pos.csv").columns[-1]
    assert "_proj_layer2" in column
    monkeypatch.setattr("persona_vectors.vectors.projection.Projector.of_rows", never)  # every window is on disk
    done = run_stage(stage, *arguments(stage, {}))
    assert done.returncode == 0 and "computed anew" in done.stdout, done
    assert isinstance(provenance.read(world / "pos.csv")["parts"][column], dict)
    assert not list(world.glob("*.parts")) and not list(world.glob("*.journal.jsonl"))


@pytest.mark.parametrize("stage", ["eval.eval_persona", "eval.cal_projection", "data_generation.generate_dataset"])
def test_journals_of_the_toolkit_before_records_are_resumed(world, run_stage, monkeypatch, judge, stage):  # noqa: F811
    """Their settings name the model as it was typed, and vectors by sixteen digits; the result gets no record."""
    import hashlib

    if stage == "data_generation.generate_dataset":
        return older_dataset(world, run_stage, monkeypatch)
    digest = lambda content: hashlib.sha256(content).hexdigest()[:16]  # noqa: E731
    if stage == "eval.cal_projection":
        interrupted(run_stage, monkeypatch, stage, {})
        output = "pos.csv"
        settings = {"model": "tiny", "base_model": None, "vectors": [digest((world / "v.pt").read_bytes())], "dtype": "auto",
                    "enable_thinking": False, "file": digest((world / "pos.csv").read_bytes()),
                    "columns": ["tiny_v_proj_layer2"], "most_rows": 4096}  # fmt: skip
    else:
        with JudgeServer(lambda n, body: score(n, body) if n < 3 else error(401)) as server:
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
            assert run_stage(stage, *arguments(stage, {"--max_concurrent_judges": "1"})).returncode == 2
        monkeypatch.setenv("OPENAI_BASE_URL", judge.url)
        gc.collect()
        output = "a.csv"
        content = json.loads((world / "trait_data_extract" / "vile.json").read_text())
        from eval.prompts import Prompts

        asked = [[question, None] for question in content["questions"]]
        prompts = {"vile": content["eval_prompt"], "coherence": Prompts["coherence_0_100"]}
        settings = {"model": "tiny", "version": "extract", "n_per_question": 1, "max_tokens": 4, "seed": 0,
                    "enable_thinking": False, "dtype": "auto", "backend": "hf", "judge_model": "gpt-4.1-mini-2025-04-14",
                    "cells": [[2, 1.0]], "positions": "response", "vector": digest((world / "v.pt").read_bytes()),
                    "trait": "vile", "artifact": digest(json.dumps([*asked, prompts], sort_keys=True).encode())}  # fmt: skip
    journal = Journal.path_of(world / output)
    lines = journal.read_text().splitlines(True)
    for name in settings:
        wrong = settings | {name: "wrong"}
        journal.write_text(json.dumps({"settings": wrong}) + "\n" + "".join(lines[1:]))
        refused(run_stage(stage, *arguments(stage, {})), f"used other settings ({name} was 'wrong', now ")
        gc.collect()
    journal.write_text(json.dumps({"settings": settings}) + "\n" + "".join(lines[1:]))
    done = run_stage(stage, *arguments(stage, {}))
    assert done.returncode == 0 and not journal.exists(), done.stderr
    again = run_stage(stage, *arguments(stage, {}))
    assert again.returncode == 0 and "has no record" in again.stdout, "half of it came from nobody knows which weights"


def said(text):
    """A whole reply with this text."""
    status, headers, body = completion(texts=(text,))
    return status, headers, {**body, "choices": [{**body["choices"][0], "finish_reason": "stop"}]}


def dataset(url, monkeypatch, **flags):
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    given = {"--trait": "dour", "--model": "m", "--description": "Is dour.", "--questions": "asked.txt", "--output_dir": "sets",
             "--levels": "normal", "--trait_dir": ".", **flags}  # fmt: skip
    return [word for flag in given.items() for word in flag]


def older_dataset(world, run_stage, monkeypatch):
    import hashlib

    from data_generation import prompts

    (world / "asked.txt").write_text("one?\ntwo?\n")
    digest = lambda text: hashlib.sha256(text.encode()).hexdigest()[:16]  # noqa: E731
    settings = {"model": "m", "description": "Is dour.", "n_per_question": 1,
                "questions": digest(json.dumps(["one?", "two?"])), "prompt": digest(prompts.FINETUNE_PROMPTS["normal"])}  # fmt: skip
    path = world / "sets" / "dour" / "normal.jsonl"
    path.parent.mkdir(parents=True)
    lines = [{"settings": settings}, {"key": "0|0", "answer": "kept"}]
    Journal.path_of(path).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with JudgeServer(lambda n, body: said("new")) as server:
        assert run_stage("data_generation.generate_dataset", *dataset(server.url, monkeypatch)).returncode == 0
        assert len(server.bodies) == 1
    assert "kept" in path.read_text() and not provenance.path_of(path).exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"--model": "n"}, "model was 'm', now 'n'"),
        ({"--description": "Is glum."}, "description was 'Is dour.', now 'Is glum.'"),
        ({"--questions": "other.txt"}, "questions was asked.txt ("),
        ({"--n_per_question": "2"}, "n_per_question was 1, now 2"),
        ({}, ""),
    ],
)
def test_a_training_set_of_something_else_is_refused(world, run_stage, monkeypatch, flags, words):
    stage = "data_generation.generate_dataset"
    (world / "asked.txt").write_text("one?\ntwo?\n")
    (world / "other.txt").write_text("one?\nthree?\n")
    with JudgeServer(lambda n, body: said(body["messages"][0]["content"][-20:])) as server:
        assert run_stage(stage, *dataset(server.url, monkeypatch)).returncode == 0
        calls, before = len(server.bodies), contents(world)
        (world / "asked.txt").rename(world / "elsewhere.txt")
        shutil.copy(world / "elsewhere.txt", world / "asked.txt")
        done = run_stage(stage, *dataset(server.url, monkeypatch, **flags))
        assert len(server.bodies) == calls
        if not flags:
            assert done.returncode == 0 and "exists and is not made again" in done.stdout
            return
        refused(done, words)
        assert contents(world).items() >= {k: v for k, v in before.items() if k.name != "asked.txt"}.items()
        assert run_stage(stage, *dataset(server.url, monkeypatch, **flags, **{"--overwrite": "true"})).returncode == 0
    import data_generation.validate

    (report,) = data_generation.validate.reports(world / "sets" / "dour")
    assert report.name.endswith("normal.jsonl"), "records are no training sets"


def test_an_interrupted_training_goes_on_with_the_same_data_alone(world, run_stage):
    edit("train.json", max_steps=4, save_steps=2)(world)
    assert run_stage("training", "train.json").returncode == 0
    out = world / "out"
    shutil.rmtree(out / "checkpoint-4")
    (out / "training_config.json").rename(out / ".training_config.json")  # as a killed one is
    (out / "adapter_config.json").unlink()
    kept = (world / "set.jsonl").read_text()
    for changes, words in ((row(), "training_file was [set.jsonl ("), (weights(), "model was tiny (")):
        saved = contents(world / "tiny")
        changes(world)
        refused(run_stage("training", "train.json"), words)
        (world / "set.jsonl").write_text(kept)
        for path, content in saved.items():
            path.write_bytes(content)
    done = run_stage("training", "train.json")
    assert done.returncode == 0 and "going on from" in done.stdout, done
    assert "nothing to do" in run_stage("training", "train.json").stdout


def test_files_of_a_folder_are_replaced_one_by_one_and_none_passes_for_another(world, run_stage, monkeypatch):
    """A run with --overwrite is stopped after the first set: the second is still of the earlier vector, and says so."""
    (world / "two.jsonl").write_text((world / "set.jsonl").read_text())
    stage, flags = "eval.projection_difference", {"--file_path": "set.jsonl,two.jsonl"}
    assert run_stage(stage, *arguments(stage, flags)).returncode == 0
    vector(world)
    count = []

    def once(path):
        count.append(path)
        if any("two" in str(path) for path in count):
            raise KeyboardInterrupt
        return replacing(path)

    with monkeypatch.context() as patched:
        patched.setattr("persona_vectors.analysis.screening.replacing", once)
        assert run_stage(stage, *arguments(stage, {**flags, "--overwrite": "true"})).returncode == 130
    gc.collect()
    done = run_stage(stage, *arguments(stage, flags))
    differences = {}
    for name in ("set", "two"):
        (path,) = (world / "d").glob(f"*_{name}.jsonl")
        differences[name] = [json.loads(line)["tiny_v_proj_diff_layer2"] for line in path.read_text().splitlines()]
    assert done.returncode == 0, done.stderr
    assert differences["set"] == differences["two"], "the same rows and the same vector"
