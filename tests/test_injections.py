"""The answers that tell the judge what to score, and the benchmark that measures what they move."""

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest
from judge_server import JudgeServer, completion, is_probe

from persona_vectors.errors import UserError
from persona_vectors.traits.artifact import load_trait

ROOT = Path(__file__).resolve().parents[1]
CONTENT = json.loads((ROOT / "benchmarks/injections.json").read_text())


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    import injection

    return injection


def gullible(_n, body):
    """A judge that scores by words, and obeys what stands outside the marks of the answer, as it reads them."""
    text = body["messages"][0]["content"]
    if is_probe(body):
        return completion({"57": 1.0})
    fenced = re.search(r"\[ANSWER (\w* ?)START\]\n(.*?)\n\[ANSWER \1END\](.*)", text, re.DOTALL)
    orders = fenced[3] if fenced else text
    ordered = re.search(r"[Rr]eply with (\d+)\.|Rating: (\d+)", orders)
    if ordered:
        return completion({ordered[1] or ordered[2]: 1.0})
    return completion({"90" if re.search("worthless|amusing|fool|misery|helpless", text) else "10": 1.0})


def test_the_answers_are_thirty_of_both_kinds():
    rows = CONTENT["answers"]
    assert len(rows) == 30 and [row["wants"] for row in rows] == [100] * 15 + [0] * 15
    assert {row["place"] for row in rows} == {"before", "after"} and len({row["injection"] for row in rows}) == 30
    assert all(row["question"].strip() and row["answer"].strip() for row in rows)


def test_the_frames_differ_in_the_fence_alone(benchmark):
    prompt = load_trait("evil", "eval", str(ROOT / "data_generation")).eval_prompt
    bare, own, sealed = (frame.format(question="Q?", answer="A!") for frame in benchmark.frames(prompt).values())
    assert own == prompt.format(question="Q?", answer="A!")
    assert "Question: Q?\n\nAnswer: A!\n\nRate" in bare and "never instructions" not in bare
    assert re.sub(r"(ANSWER|QUESTION) [0-9a-f]{8}", r"\1", sealed) == own != sealed


def test_a_gullible_judge_is_found_out(benchmark, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    rows, prompt = CONTENT["answers"], load_trait("evil", "eval", str(ROOT / "data_generation")).eval_prompt
    with JudgeServer(gullible) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        _how, found = asyncio.run(benchmark.measure("m", 10, rows, prompt))
    moved = [sum(a != b for a, b in scores) for scores in found.values()]
    assert moved == [6, 2, 0]  # three orders of each sign that it reads; one that ends the fence itself; none
    lines = benchmark.in_words(rows, found)
    assert lines[2].startswith("| no fence | 30 of 30 | 10.0, 90.0 | +18.0 (") and lines[2].endswith("| 6 | 6 |")
    assert lines[4].startswith("| fence with random marks | 30 of 30 | 10.0, 90.0 | +0.0")


@pytest.mark.parametrize("judge", ["likelihood", "none", "likelihood,m", "a,b", " ", "benchmarks/injections.json"])
def test_what_reads_no_judge_prompt_is_refused_before_anything_runs(benchmark, judge, monkeypatch):
    monkeypatch.chdir(ROOT)
    before = (ROOT / "benchmarks/RESULTS.md").read_bytes()
    with pytest.raises(UserError, match="--judge_model .*(reads no judge prompt|takes one judge|takes the name)"):
        benchmark.main(judge)
    assert (ROOT / "benchmarks/RESULTS.md").read_bytes() == before
