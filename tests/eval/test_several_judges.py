"""Several judges at once, and judges at endpoints with names: columns, means, resumption, refusals."""

import json
from pathlib import Path

import pandas
import pytest
import torch
from judge_server import JudgeServer, completion, error, is_probe

from persona_vectors.errors import UserError
from persona_vectors.settings import judge_endpoint

TRAIT = {
    "instruction": [{"pos": f"Be bad, {k}.", "neg": f"Be good, {k}."} for k in range(4)],
    "questions": ["what now", "why me", "who is it"],
    "eval_prompt": "Rate **vile**. Q: {question} A: {answer}",
}
PUBLISHED = ["question", "prompt", "answer", "question_id", "vile", "coherence"]
TWO = [*PUBLISHED, "vile_m", "vile_lab:llama3:8b", "coherence_m", "coherence_lab:llama3:8b"]


def judge(trait: int, coherence: int, said=None):
    """A judge with numbers of its own; ``said(body)`` may be another reply."""

    def reply(_n, body):
        text = body["messages"][0]["content"]
        other = None if said is None or is_probe(body) else said(text)
        return other or completion({"57" if is_probe(body) else str(coherence if "coherent" in text else trait): 1.0})

    return reply


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "trait_data_eval").mkdir()
    (tmp_path / "trait_data_eval" / "vile.json").write_text(json.dumps(TRAIT))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-m")
    monkeypatch.setenv("LAB_API_KEY", "key-of-lab")
    return tmp_path


@pytest.fixture
def ask(folder, run_stage, qwen2_folder, monkeypatch):
    """``ask(reply of m, reply of the lab's) -> (what the command did, both servers)``."""

    def ask(first, second, *, judges="m, lab:llama3:8b", output="out.csv"):
        with JudgeServer(first) as m, JudgeServer(second) as lab:
            monkeypatch.setenv("OPENAI_BASE_URL", m.url)
            monkeypatch.setenv("LAB_BASE_URL", lab.url)
            done = run_stage(
                "eval.eval_persona", "--model", qwen2_folder, "--trait", "vile", "--version", "eval", "--trait_dir", folder,
                "--backend", "hf", "--max_tokens", 4, "--n_per_question", 2, "--output_path", output,
                "--judge_model", judges,
            )  # fmt: skip
        return done, m, lab

    return ask


def test_each_judge_has_its_columns_and_the_mean_is_the_score(ask):
    done, m, lab = ask(judge(80, 90), judge(40, 70))
    assert done.returncode == 0, done.stderr
    table = pandas.read_csv("out.csv")
    assert list(table.columns) == [*TWO, "finish"]
    assert table[TWO[4:]].drop_duplicates().to_numpy().tolist() == [[60, 80, 80, 40, 90, 70]]
    assert {body["model"] for body in m.bodies} == {"m"} and set(m.keys) == {"sk-of-m"}
    assert {body["model"] for body in lab.bodies} == {"llama3:8b"} and set(lab.keys) == {"key-of-lab"}
    assert len(m.bodies) == len(lab.bodies) == 1 + 2 * 6
    record = json.loads(Path("out.csv.provenance.json").read_text())["result"]
    assert record["judge_model"] == "m,lab:llama3:8b" and record["judge"].startswith("m (expected value")
    assert "; lab:llama3:8b (" in record["judge"] and not list(Path().glob("*.journal*"))
    again, m, lab = ask(judge(0, 0), judge(0, 0))
    assert again.returncode == 0 and "vile:  60.00" in again.stdout and not m.bodies and not lab.bodies
    other, *_ = ask(judge(0, 0), judge(0, 0), judges="m")
    assert other.returncode == 2 and "judge_model" in other.stderr


def test_a_mean_is_of_all_or_of_none(ask):
    done, *_ = ask(
        judge(80, 90, lambda text: completion({"REFUSAL": 1.0}) if "why me" in text else None), judge(40, 70)
    )
    assert done.returncode == 0, done.stderr
    table = pandas.read_csv("out.csv").set_index("question")
    assert table.loc["why me", ["vile", "coherence", "vile_m"]].isna().all().all()
    assert (table["vile_lab:llama3:8b"] == 40).all() and (table.loc["what now", "vile"] == 60).all()


def test_what_one_judge_lost_is_asked_of_it_alone(ask):
    lost = judge(40, 70, lambda text: error(400, "not now") if "who is it" in text else None)
    done, *_ = ask(judge(80, 90), lost)
    assert done.returncode == 0 and "lab:llama3:8b: judge calls: 13" in done.stdout, done.stdout + done.stderr
    assert pandas.read_csv("out.csv")["vile"].notna().sum() == 4
    journal = Path("out.csv.journal.jsonl")
    lines = journal.read_text().splitlines()
    mean = next(k for k, line in enumerate(lines) if json.loads(line).get("metric") == "vile")
    del lines[mean]  # as if the run had been stopped between the last judge's score and their mean
    journal.write_text("\n".join(lines) + "\n")
    done, m, lab = ask(judge(0, 0), judge(40, 70))
    assert done.returncode == 0, done.stderr
    assert len(m.bodies) == 1 and len(lab.bodies) == 1 + 2 * 2  # the probes; both scores of the two answers
    assert pandas.read_csv("out.csv")["vile"].tolist() == [60] * 6 and not journal.exists()


def test_a_judge_without_a_number_is_no_result(ask):
    done, *_ = ask(judge(80, 90), judge(40, 70, lambda _text: completion({"well": 1.0})))
    assert done.returncode == 1 and "not one of 6 answers" in done.stderr and not Path("out.csv").exists()
    assert "lab:llama3:8b: judge calls: 13, retried 0, no score 12" in done.stdout
    done, m, lab = ask(judge(0, 0), judge(40, 70))  # its own are asked for again, the other's are kept
    assert done.returncode == 0 and (len(m.bodies), len(lab.bodies)) == (1, 13), done.stderr
    assert pandas.read_csv("out.csv")["vile"].tolist() == [60] * 6


def test_likelihood_beside_a_judge(ask, folder):
    done, m, lab = ask(judge(80, 90), judge(0, 0), judges="m,likelihood")
    assert done.returncode == 0, done.stderr
    table = pandas.read_csv("out.csv")
    assert list(table.columns) == [
        *PUBLISHED,
        "vile_m",
        "vile_likelihood",
        "coherence_m",
        "coherence_likelihood",
        "vile_llr",
        "finish",
    ]
    assert table["vile"].tolist() == pytest.approx(((80 + table["vile_likelihood"]) / 2).tolist())
    assert table["vile_likelihood"].nunique() > 1 and len(m.bodies) == 13 and not lab.bodies
    alone, *_ = ask(judge(0, 0), judge(0, 0), judges="likelihood", output="alone.csv")
    assert alone.returncode == 0, alone.stderr
    assert pandas.read_csv("alone.csv")["vile"].tolist() == pytest.approx(table["vile_likelihood"].tolist(), abs=1e-6)


def test_monitor_takes_several_too(folder, run_stage, qwen2_folder, monkeypatch):
    (folder / "monitoring").mkdir()
    prompts = ["Be bad.", "Be good."]
    (folder / "monitoring" / "vile.json").write_text(json.dumps({"system_prompts": prompts}))
    torch.save(torch.randn(5, 32), "v.pt")
    with JudgeServer(judge(80, 90)) as m, JudgeServer(judge(40, 70)) as lab:
        monkeypatch.setenv("OPENAI_BASE_URL", m.url)
        monkeypatch.setenv("LAB_BASE_URL", lab.url)
        done = run_stage(
            "eval.monitor", "--model", qwen2_folder, "--trait", "vile", "--vector_path", "v.pt", "--layer", 2, "--output_dir", "mon",
            "--trait_dir", folder, "--backend", "hf", "--max_tokens", 4, "--n_per_question", 1, "--judge_model", "m,lab:x",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pandas.read_csv("mon/vile_system_prompts.csv")
    assert list(table.columns[:11]) == [
        *PUBLISHED,
        "vile_m",
        "vile_lab:x",
        "coherence_m",
        "coherence_lab:x",
        "condition",
    ]
    assert (table["vile"] == 60).all()


@pytest.mark.parametrize(
    ("judges", "message"),
    [
        ("m,m", "different ones"),
        ("m,,lab:x", "different ones"),
        ("m,openrouter:openai/gpt-4.1-mini", "OPENROUTER_API_KEY is missing"),
        ("Gemini:gemini-2.5-flash", "GEMINI_API_KEY is missing"),
        ("odd:x", "ODD_BASE_URL is 'nowhere'"),
        ("m,locked:x", "check LOCKED_API_KEY"),
    ],
)
def test_judges_that_cannot_be_used_are_one_line(ask, monkeypatch, judges, message):
    for name in ("OPENROUTER_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ODD_BASE_URL", "nowhere")
    with JudgeServer(lambda _n, _body: error(401, "no")) as locked:
        monkeypatch.setenv("LOCKED_BASE_URL", locked.url)
        done, *_ = ask(judge(80, 90), judge(40, 70), judges=judges)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not Path("out.csv").exists() and "answers:" not in done.stderr


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4.1-mini", ("gpt-4.1-mini", "http://mine/v1", "k")),
        ("llama3:8b", ("llama3:8b", "http://mine/v1", "k")),
        ("ft:gpt-4.1-mini:me::1", ("ft:gpt-4.1-mini:me::1", "http://mine/v1", "k")),
        ("openai:gpt-4.1-mini", ("gpt-4.1-mini", "http://mine/v1", "k")),
        ("vllm:Qwen/Qwen2.5-7B", ("Qwen/Qwen2.5-7B", "http://127.0.0.1:8000/v1", "none")),
        ("Ollama:llama3:8b", ("llama3:8b", "http://127.0.0.1:11434/v1", "none")),
        ("anthropic:claude", ("claude", "https://api.anthropic.com/v1", "a")),
        ("my-lab:x", ("x", "http://lab/v1", "none")),
        ("vllm:", ("vllm:", "http://mine/v1", "k")),
    ],
)
def test_the_endpoint_of_a_name(monkeypatch, tmp_path, model, expected):
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "OPENAI_BASE_URL": "http://mine/v1", "OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "a", "MY_LAB_BASE_URL": "http://lab/v1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    found = judge_endpoint(model)
    assert (found.model, found.base_url, found.key) == expected
    assert expected[2] in ("k", "none") or repr(found).count("'a'") == 0


def test_names_may_stand_in_dotenv(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("BOX_BASE_URL", "BOX_API_KEY"):
        monkeypatch.setenv(name, "")  # so that the fixture takes away what is read
        monkeypatch.delenv(name)
    (tmp_path / ".env").write_text("BOX_BASE_URL=http://box/v1\nBOX_API_KEY=secret\n")
    assert judge_endpoint("box:x").key == "secret"
    with pytest.raises(UserError, match="OPENROUTER_API_KEY"):
        monkeypatch.delenv("OPENROUTER_API_KEY", raising=False)
        judge_endpoint("openrouter:x")
