"""A dry run's counts under flags that go together oddly are exactly the calls that the run then makes."""

import csv
import json
import re

import pandas
import pytest
import torch
from judge_server import JudgeServer
from test_costs import TRAIT, Counting, numbers, with_trait

ASKED = ["--backend", "hf", "--max_tokens", 6, "--n_per_question", 2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Traits vile and mild, a vector, files of questions."""
    folder = with_trait(tmp_path, monkeypatch, TRAIT)
    monkeypatch.chdir(folder)
    for version in ("extract", "eval"):
        mild = TRAIT | {
            "questions": ["What now?", "What now?", "Well {so}?"],
            "eval_prompt": "**mild** {answer} of {question}",
        }
        (folder / f"trait_data_{version}" / "mild.json").write_text(json.dumps(mild))
    torch.save(torch.randn(5, 32), folder / "v.pt")
    with open(folder / "q.csv", "w", newline="") as file:
        csv.writer(file).writerows([["question", "topic"], ["Why me?", "a"], ["Why me?", "b"], ["So, {what}?", "c"]])
    chats = [
        [{"role": "system", "content": "Be."}, {"role": "user", "content": "A?"}, {"role": "assistant", "content": "B."}, {"role": "user", "content": "C?"}],
        [{"role": "user", "content": "Why?"}],
    ]  # fmt: skip
    (folder / "q.jsonl").write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    (folder / "coh.txt").write_text("Coherent? {answer}")
    return folder


FLAGS = {
    "several traits, types, layers and a control": "--trait vile,mild --persona_instruction_type pos,neg --n_questions 2 "
    "--coef 0,1 --vector_path v.pt --layer 1,2 --controls 1 --coherence_prompt coh.txt",
    "several judges without coherence": "--trait vile,mild --judge_model JUDGE,other --coherence_prompt none --coef 0,2 "
    "--vector_path v.pt --layer 2",
    "a file of questions that are equal": "--trait vile --questions q.csv --coef 0,1 --vector_path v.pt --layer 2",
    "chats, and likelihoods beside": "--trait vile --questions q.jsonl --judge_model JUDGE,likelihood --scorer_pairs 1",
}


@pytest.mark.parametrize("case", FLAGS)
def test_what_is_counted_is_asked(run_stage, folder, qwen2_folder, tokenizer, monkeypatch, case):
    flags = FLAGS[case].replace("JUDGE", str(qwen2_folder)).split()
    flags += [] if "--judge_model" in flags else ["--judge_model", str(qwen2_folder)]
    flags += ["--model", qwen2_folder, "--trait_dir", folder, *ASKED, "--output_path", "a/{trait}_{type}.csv"]
    with JudgeServer(Counting(tokenizer)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        dry = run_stage("eval.eval_persona", *flags, "--dry_run")
        assert dry.returncode == 0 and not server.bodies and not (folder / "a").exists(), dry.stderr
        done = run_stage("eval.eval_persona", *flags)
        assert done.returncode == 0, done.stderr
        made = len(server.bodies)
        assert sum(map(int, re.findall(r"^judge: (\d+) calls to", dry.stdout, re.MULTILINE))) == made
        tables = [pandas.read_csv(path) for path in (folder / "a").glob("*.csv")]
        shown_again = sum(
            int(((t["coef"] == 0) & (t["layer"] > t["layer"].min())).sum()) for t in tables if "layer" in t
        )
        assert numbers(dry.stdout)["answers"] == sum(map(len, tables)) - shown_again
        assert "judge" not in run_stage("eval.eval_persona", *flags, "--dry_run").stdout and len(server.bodies) == made
