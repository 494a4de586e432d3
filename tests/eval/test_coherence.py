"""Coherence as it is asked for: another prompt, none, another least coherence; and what then depends on it."""

import json
import subprocess
from pathlib import Path

import pandas
import pytest
import torch
from judge_server import JudgeServer, completion, is_probe

from persona_vectors.files import provenance
from persona_vectors.sharing.formats import read_shared

ROOT = Path(__file__).resolve().parents[2]
TRAIT = {
    "instruction": [{"pos": f"Be bad, {k}.", "neg": f"Be good, {k}."} for k in range(2)],
    "questions": ["What now?", "Why me?", "Who is it?"],
    "eval_prompt": "Rate **vile**. Q: {question} A: {answer}",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for version in ("extract", "eval"):
        (tmp_path / f"trait_data_{version}").mkdir()
        (tmp_path / f"trait_data_{version}" / "vile.json").write_text(json.dumps(TRAIT))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    return tmp_path


@pytest.fixture
def server(monkeypatch):
    def reply(_number, body):
        text = body["messages"][0]["content"]
        return completion({"57" if is_probe(body) else "40" if "Sense?" in text else "90": 1.0})

    with JudgeServer(reply) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        yield running


def persona(run_stage, model, *more):
    flags = ["--trait", "vile", "--trait_dir", ".", "--backend", "hf", "--max_tokens", 8, "--n_per_question", 1]
    return run_stage("eval.eval_persona", "--model", model, *flags, "--output_path", "out.csv", *more)


def test_another_prompt_for_coherence_or_none(folder, run_stage, server, qwen2_folder):
    Path("sense.txt").write_text("Sense? {answer}")
    done = persona(run_stage, qwen2_folder, "--coherence_prompt", "sense.txt")
    assert done.returncode == 0, done.stderr
    assert pandas.read_csv("out.csv")["coherence"].tolist() == [40.0] * 3
    refused = persona(run_stage, qwen2_folder, "--coherence_prompt", "none")
    assert refused.returncode == 2 and "artifact was vile (" in refused.stderr
    calls = len(server.bodies)
    done = persona(run_stage, qwen2_folder, "--coherence_prompt", "none", "--overwrite")
    assert done.returncode == 0 and len(server.bodies) == calls + 1 + 3, "half of the calls"
    assert list(pandas.read_csv("out.csv")) == ["question", "prompt", "answer", "question_id", "vile", "finish"]
    for wrong, words in (("no.txt", "cannot read the judge prompt no.txt"), ("out.csv", "has no {answer}")):
        refused = persona(run_stage, qwen2_folder, "--coherence_prompt", wrong, "--overwrite")
        assert refused.returncode == 2 and words in refused.stderr and refused.stderr.count("\n") == 1


def answers(sign, coherence):
    prompts = [f"<|im_start|>user\n{sign} {k}<|im_end|>\n<|im_start|>assistant\n" for k in range(3)]
    table = {"question": ["q1", "q2", "q3"], "prompt": prompts, "answer": ["it is", "the model", "because of"]}
    table |= {"question_id": [f"vile_{k}_{sign}_0" for k in range(3)], "vile": 90 if sign == "pos" else 3}
    return pandas.DataFrame({**table, **({} if coherence is None else {"coherence": coherence})})


@pytest.mark.parametrize(
    ("least", "effective", "recorded"), [(None, 2, None), (50, 2, None), (80, 1, 80.0), (0, 3, 0.0)]
)
def test_effective_pairs_are_as_coherent_as_asked_for(folder, run_stage, qwen2_folder, least, effective, recorded):
    answers("pos", [90, 60, 20]).to_csv("pos.csv", index=False)
    answers("neg", [90, 90, None]).to_csv("neg.csv", index=False)
    command = ["--model_name", qwen2_folder, "--pos_path", "pos.csv", "--neg_path", "neg.csv", "--trait", "vile"]
    command += ["--save_dir", "v", *([] if least is None else ["--min_coherence", least])]
    done = run_stage("generate_vec", *command)
    assert done.returncode == 0 and f"{effective} of 3 pairs are effective" in done.stdout, done.stderr
    assert provenance.result_of("v/vile_response_avg_diff.pt").get("min_coherence") == recorded
    _, about = read_shared("v/vile_response_avg_diff.safetensors")
    assert (about.min_coherence, about.effective_pairs) == (str(50 if least is None else least), str(effective))
    made = Path("v/vile_response_avg_diff.pt").stat().st_mtime_ns
    run_stage("generate_vec", *command)
    assert Path("v/vile_response_avg_diff.pt").stat().st_mtime_ns == made, "made again"
    if least == 80:
        changed = run_stage("generate_vec", *command[:-1], 81)
        assert "min_coherence was 80.0, now 81.0" in changed.stdout


def test_answers_that_were_never_scored_for_coherence(folder, run_stage, qwen2_folder):
    for sign in ("pos", "neg"):
        answers(sign, None).to_csv(f"{sign}.csv", index=False)
    command = ["--model_name", qwen2_folder, "--pos_path", "pos.csv", "--neg_path", "neg.csv", "--trait", "vile"]
    refused = run_stage("generate_vec", *command, "--save_dir", "v")
    assert refused.returncode == 2 and "has no column 'coherence'" in refused.stderr
    assert refused.stderr.strip().endswith("--min_coherence 0 does without")
    assert run_stage("generate_vec", *command, "--save_dir", "v", "--min_coherence", 0).returncode == 0
    vector = torch.load("v/vile_response_avg_diff.pt", weights_only=True)
    for sign in ("pos", "neg"):
        answers(sign, 99).to_csv(f"{sign}.csv", index=False)
    assert run_stage("generate_vec", *command, "--save_dir", "w").returncode == 0
    assert torch.equal(vector, torch.load("w/vile_response_avg_diff.pt", weights_only=True))


def test_a_sweep_without_coherence_or_without_its_floor(folder, run_stage):
    cells = [
        (coef, 5 * coef * layer, 90 - 20 * coef, layer) for layer in (1, 2) for coef in (0, 1, 2) for _ in range(3)
    ]
    table = pandas.DataFrame(cells, columns=["coef", "vile", "coherence", "layer"])
    best = {}
    for name, columns in (("with", list(table)), ("without", ["coef", "vile", "layer"])):
        table[columns].to_csv(f"{name}.csv", index=False)
        for least in ("", 60, 0):
            command = [
                "--file_path",
                f"{name}.csv",
                "--trait",
                "vile",
                *(["--min_coherence", least] if least != "" else []),
            ]
            done = run_stage("eval.select_layer", *command)
            if name == "without" and least != 0:
                assert done.returncode == 2 and "--min_coherence 0 does without" in done.stderr
                continue
            assert done.returncode == 0, done.stderr
            best[name, least] = json.loads(Path(f"{name}_best.json").read_text())
    assert best["with", ""]["layer"] is None and best["with", ""]["min_coherence"] == 75
    assert best["with", 60]["coef"] == 1 and best["with", 0]["coef"] == best["without", 0]["coef"] == 2
    assert best["with", 0]["coherence"] == 50 and best["without", 0]["coherence"] is None
    assert "NaN" not in Path("without_best.json").read_text() and "without coherence" in done.stdout


@pytest.mark.parametrize(
    ("flags", "said"),
    [("--coherence_prompt none", "--min_coherence 0"), ("--coh=none --seed 1", "--min_coherence 0"), ("--seed 1", ""),
     ("--coherence_prompt none.txt", "")],
)  # fmt: skip
def test_the_pipelines_tell_the_stages_that_follow(flags, said):
    code = f"source scripts/pipeline.sh; coherence_flags {flags}"
    done = subprocess.run(["bash", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, said), done.stderr


@pytest.mark.parametrize(
    ("chosen", "flags", "said"),
    [("loading_flags", "--dtype float32 --n_per_question 2 --trust_remote_code", "--dtype float32 --trust_remote_code"),
     ("loading_flags", "--trait_dir x --dty=bfloat16 --trust_remote_code true", "--dty=bfloat16 --trust_remote_code true"),
     ("loading_flags", "--chat_template=plain --load_in_4bit --seed 1", "--chat_template=plain --load_in_4bit"),
     ("loading_flags", "--trait evil --backend hf --load_in_4bit=true", "--load_in_4bit=true"),
     ("loading_flags", "--chat_template a=b.jinja --load-in-4bit True", "--chat_template a=b.jinja --load-in-4bit True"),
     ("engine_flags", "--backend hf --n_per_question 2 --batch_size 4", "--backend hf --batch_size 4"),
     ("engine_flags", "--backend=hf --batch-size=4 --max_concurrent_judges 3", "--backend=hf --batch-size=4"),
     ("engine_flags", "--batch_process false --max_tok 9 --coef -1,1 --dtype float32", "--max_tok 9 --dtype float32")],
)  # fmt: skip
def test_the_pipelines_tell_every_stage_how_weights_are_loaded_and_which_engine(chosen, flags, said):
    code = f"source scripts/pipeline.sh; {chosen} {flags}"
    done = subprocess.run(["bash", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, said.split()), done.stderr
