"""The cache of scores where users meet it: an experiment made twice, its parts scored elsewhere, and the flag against it."""

import json
from pathlib import Path

import pytest
from judge_server import JudgeServer, completion, is_probe

TRAIT = {
    "instruction": [{"pos": f"Be bad, {k}.", "neg": f"Be good, {k}."} for k in range(2)],
    "questions": ["What now?", "Why me?", "Who is it?"],
    "eval_prompt": "Rate **vile**. Q: {question} A: {answer}",
}


def reply(_number, body):
    text = body["messages"][0]["content"]
    return completion({"57": 1.0}) if is_probe(body) else completion({str(len(text) % 90): 1 / 3, "95": 2 / 3})


@pytest.fixture
def server(tmp_path, monkeypatch, score_cache):
    for version in ("extract", "eval"):
        (tmp_path / f"trait_data_{version}").mkdir()
        (tmp_path / f"trait_data_{version}" / "vile.json").write_text(json.dumps(TRAIT))
    (tmp_path / "monitoring").mkdir()
    (tmp_path / "monitoring" / "vile.json").write_text(json.dumps({"system_prompts": ["be it all", "what is it"]}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with JudgeServer(reply) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        yield running


@pytest.fixture
def persona(run_stage, qwen2_folder):
    """eval_persona of the tiny model, in this process."""

    def run(output, *more):
        flags = ["--trait", "vile", "--trait_dir", ".", "--backend", "hf", "--max_tokens", 8, "--n_per_question", 2]
        done = run_stage("eval.eval_persona", "--model", qwen2_folder, *flags, "--output_path", output, *more)
        assert done.returncode == 0, done.stderr
        return done

    return run


def test_the_same_experiment_with_another_output_makes_no_call(server, persona, run_stage):
    done = persona("one.csv")
    calls = len(server.bodies)
    assert calls == len({body["messages"][0]["content"] for body in server.bodies}) > 6, "a prompt was paid for twice"
    done = persona("two.csv")
    assert len(server.bodies) == calls and Path("one.csv").read_bytes() == Path("two.csv").read_bytes()
    assert "judge calls: 0, retried 0, no score 0, given up 0; 12 scores came from the cache" in done.stdout
    persona("one.csv", "--overwrite")
    assert len(server.bodies) == calls
    done = persona("three.csv", "--no_cache")
    assert len(server.bodies) == calls + 1 + 12 and "cache" not in done.stdout
    assert Path("three.csv").read_bytes() == Path("one.csv").read_bytes()

    flags = ["--trait", "vile", "--trait_dir", ".", "--name", "again,sense"]
    done = run_stage("eval.judge", "--file_path", "one.csv", *flags)
    assert done.returncode == 0 and len(server.bodies) == calls + 13 + 1, "the probe of a stage that is new"
    assert "12 scores came from the cache" in done.stdout
    assert run_stage("eval.judge", "--file_path", "three.csv", *flags).returncode == 0
    assert len(server.bodies) == calls + 13 + 1 + 1, "another file"
    assert run_stage("eval.judge", "--file_path", "one.csv", *flags, "--overwrite").returncode == 0
    assert len(server.bodies) == calls + 15


def test_another_seed_pays_for_its_own_answers_alone(server, persona):
    persona("one.csv")
    before = [body["messages"][0]["content"] for body in server.bodies]
    persona("two.csv", "--seed", 7)
    new = [body["messages"][0]["content"] for body in server.bodies[len(before) :] if not is_probe(body)]
    assert new and not set(new) & set(before) and len(new) == len(set(new))


def test_what_a_cache_gives_is_not_asked_of_a_server_that_is_gone(server, persona):
    persona("one.csv")
    server.__exit__(None, None, None)
    persona("two.csv")
    assert Path("one.csv").read_bytes() == Path("two.csv").read_bytes()


def test_monitoring_is_paid_for_once(server, run_stage, qwen2_folder):
    import torch

    torch.manual_seed(1)
    torch.save(torch.randn(5, 32), "v.pt")
    flags = ["--trait", "vile", "--trait_dir", ".", "--backend", "hf", "--max_tokens", 4, "--n_per_question", 1]
    flags += ["--vector_path", "v.pt", "--layer", 2]
    calls = []
    for output in ("m1", "m2"):
        done = run_stage("eval.monitor", "--model", qwen2_folder, "--output_dir", output, *flags)
        assert done.returncode == 0, done.stderr
        calls.append(len(server.bodies))
    assert calls[0] == calls[1] and "scores came from the cache" in done.stdout
    assert Path("m1/vile_system_prompts.csv").read_bytes() == Path("m2/vile_system_prompts.csv").read_bytes()


def test_scores_made_anew_are_not_taken_for_the_first_judges(server, persona, run_stage, qwen2_folder):
    """The record of a file says of each score column who made it last, and those who read it look there."""
    for sign in ("pos", "neg"):
        persona(f"{sign}.csv", "--persona_instruction_type", sign)
    flags = ["--file_path", "pos.csv", "--trait", "vile", "--trait_dir", ".", "--judge_model", "another"]
    refused = run_stage("eval.judge", *flags)
    assert refused.returncode == 2 and "pos.csv has a column 'vile' already" in refused.stderr
    assert run_stage("eval.judge", *flags, "--overwrite").returncode == 0
    files = ["--pos_path", "pos.csv", "--neg_path", "neg.csv", "--trait", "vile", "--save_dir", "v"]
    mixed = run_stage("generate_vec", "--model_name", qwen2_folder, *files, "--threshold", 0, "--min_coherence", 0)
    assert mixed.returncode == 2 and "pos.csv and neg.csv do not belong together: judge_model" in mixed.stderr
    again = run_stage(
        "eval.eval_persona", "--model", qwen2_folder, "--trait", "vile", "--trait_dir", ".", "--backend", "hf",
        "--max_tokens", 8, "--n_per_question", 2, "--persona_instruction_type", "pos", "--output_path", "pos.csv",
    )  # fmt: skip
    assert again.returncode == 2 and "the scores 'vile' in pos.csv were made anew by another" in again.stderr
