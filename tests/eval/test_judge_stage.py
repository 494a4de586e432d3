"""eval.judge as users run it: files of answers, a judge over HTTP, and what is refused before it is asked."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import tiny_model
from judge_server import JudgeServer, completion, error, is_probe

from persona_vectors.asking import judge_file
from persona_vectors.files import provenance
from persona_vectors.likelihood.scores import LikelihoodScorer, Spoken

ROOT = Path(__file__).resolve().parents[2]
TRAIT = {
    "instruction": [{"pos": f"Be bad, {k}.", "neg": f"Be good, {k}."} for k in range(3)],
    "questions": ["What now?", "Why me?"],
    "eval_prompt": "Rate **vile**. Q: {question} A: {answer}",
}
AWKWARD = ['He said "no"', "line\nbreak\r\nand\rmore", "NA", "ünï 🙂", "a,b;c", "", "  ", "0012"]


def number(prompt):
    """What the judge below says to a prompt: a score that is no round number."""
    return (len(prompt) % 90 + 2 * 95) / 3


def reply(_number, body):
    text = body["messages"][0]["content"]
    return completion({"57": 1.0}) if is_probe(body) else completion({str(len(text) % 90): 1 / 3, "95": 2 / 3})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for version in ("extract", "eval"):
        (tmp_path / f"trait_data_{version}").mkdir()
        (tmp_path / f"trait_data_{version}" / "vile.json").write_text(json.dumps(TRAIT))
    (tmp_path / "long.txt").write_text("How long? {question} / {answer}")
    (tmp_path / "rude.txt").write_text("How rude? {answer}")
    with open(tmp_path / "a.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["id", "question", "answer"])
        writer.writerows([f"0{k}", f"q{k}?", answer] for k, answer in enumerate(AWKWARD))
    talk = [{"role": "system", "content": "Be it."}, {"role": "user", "content": "one?"}]
    turns = [{"role": "assistant", "content": "two"}, {"role": "user", "content": "three?"}]
    rows = [{"messages": [*talk, *turns, {"role": "assistant", "content": "four"}], "id": 1}, {"messages": [], "id": 2}]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server(monkeypatch):
    with JudgeServer(reply) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        yield running


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def judge(run_stage, *more):
    return run_stage("eval.judge", "--judge_model", "m", "--trait_dir", ".", *more)


def asked(server):
    return [body["messages"][0]["content"] for body in server.bodies if not is_probe(body)]


def test_several_prompts_for_several_files_in_one_pass(folder, run_stage, server):
    before = read("a.csv")
    prompts = ["--prompt_file", "long.txt", "rude.txt", "--trait", "vile", "--name", "length,rudeness,vile,coherence"]
    done = judge(run_stage, "--file_path", "a.csv", "b.jsonl", *prompts)
    assert done.returncode == 0, done.stderr
    after = read("a.csv")
    assert list(after[0]) == ["id", "question", "answer", "length", "rudeness", "vile", "coherence"]
    assert [{name: row[name] for name in before[0]} for row in after] == before
    for row in after:
        for name, prompt in (("length", "How long? {question} / {answer}"), ("rudeness", "How rude? {answer}")):
            expected = number(prompt.format(**row)) if row["answer"].strip() else None
            assert row[name] == "" if expected is None else float(row[name]) == pytest.approx(expected, rel=1e-12)
    first, second = (json.loads(line) for line in Path("b.jsonl").read_text().splitlines())
    assert first["length"] == pytest.approx(number("How long? three? / four")) and first["id"] == 1
    assert second == {"messages": [], "id": 2} | dict.fromkeys(("length", "rudeness", "vile", "coherence"))
    assert len(server.bodies) == 1 + 4 * (6 + 1)
    assert "2 of 8 rows have no value (or not all): empty answer" in done.stdout and "no messages" in done.stdout
    made_from = provenance.read("a.csv")["parts"]["length"]
    assert (
        made_from["judge_model"] == "m"
        and made_from["judge_kind"] == "0_100"
        and made_from["judge"].startswith("m (exp")
    )
    assert not list(folder.glob("*.journal*")) and not list(folder.glob("*.parts"))


def test_a_column_that_is_there_is_never_passed_off_as_the_new_one(folder, run_stage, server):
    command = ["--file_path", "a.csv", "--prompt_file", "rude.txt"]
    assert judge(run_stage, *command).returncode == 0
    calls, content = len(server.bodies), Path("a.csv").read_bytes()
    done = judge(run_stage, *command)
    assert done.returncode == 0 and "exists already, from this judge and prompt: skipped" in done.stdout
    other = run_stage("eval.judge", "--judge_model", "m2", *command)
    assert other.returncode == 2 and "column 'rude' already (judge_model was 'm', now 'm2')" in other.stderr
    Path("rude.txt").write_text("How very rude? {answer}")
    assert "judge_prompt was rude (" in judge(run_stage, *command).stderr
    assert len(server.bodies) == calls and Path("a.csv").read_bytes() == content
    assert judge(run_stage, *command, "--overwrite").returncode == 0 and len(server.bodies) == calls + 1 + 6
    Path("a.csv").write_text(Path("a.csv").read_text().replace("0012", "0013"))
    assert (
        "the file was changed since" in judge(run_stage, *command).stderr
        or "file was" in judge(run_stage, *command).stderr
    )
    Path("a.csv").write_text("question,answer,rude\nq,a,3\n")
    Path("a.csv.provenance.json").unlink()
    done = judge(run_stage, *command)
    assert done.returncode == 2 and "nobody knows how it was made); --name calls" in done.stderr


REFUSED = {
    "no prompt": ([], "give --prompt_file (a judge prompt) or --trait"),
    "a prompt without answer": (["--prompt_file", "no.txt"], "the judge prompt no.txt has no {answer}"),
    "other braces": (["--prompt_file", "braces.txt"], "may hold no braces but"),
    "no such prompt": (["--prompt_file", "x.txt"], "cannot read the judge prompt x.txt"),
    "a prompt of bytes": (["--prompt_file", "bytes.txt"], "it is not UTF-8"),
    "too few names": (["--trait", "vile", "--name", "x"], "1 names for 2 columns (vile, coherence)"),
    "the same name twice": (["--prompt_file", "rude.txt", "long.txt", "--name", "x,x"], "'x' cannot be the name"),
    "the answers' own name": (["--prompt_file", "rude.txt", "--name", "answer"], "'answer' cannot be the name"),
    "a path for a name": (["--prompt_file", "rude.txt", "--name", "../x"], "cannot be a trait's name"),
    "no answers": (["--prompt_file", "rude.txt", "--file_path", "none.csv"], "needs one column 'answer' (it has"),
    "no questions": (["--prompt_file", "long.txt", "--file_path", "plain.csv"], "needs one column 'question'"),
    "the same file twice": (["--prompt_file", "rude.txt", "--file_path", "a.csv", "./a.csv"], "names a file twice"),
    "a torn second file": (["--prompt_file", "rude.txt", "--file_path", "a.csv", "torn.csv"], "torn.csv, row 1"),
    "another kind": (["--prompt_file", "rude.txt", "--kind", "0_5"], "--kind takes one of 0_100"),
    "likelihood of a prompt": (["--prompt_file", "rude.txt", "--judge_model", "likelihood"], "takes one --trait"),
    "likelihood by nobody": (["--trait", "vile", "--judge_model", "likelihood"], "needs --scorer here"),
    "likelihood with a prompt": (["--trait", "vile", "--judge_model", "likelihood", "--coherence_prompt", "none"],
                                 "--coherence_prompt goes with judges that read prompts"),
}  # fmt: skip


@pytest.mark.parametrize("flags", REFUSED)
def test_refused_in_one_line_before_any_call(folder, run_stage, server, flags):
    Path("no.txt").write_text("How rude?")
    Path("braces.txt").write_text('Reply {"score": 1} to {answer}')
    Path("bytes.txt").write_bytes(b"\xff{answer}")
    Path("none.csv").write_text("question,reply\nq,a\n")
    Path("plain.csv").write_text("answer\na\n")
    Path("torn.csv").write_text("answer\na,b,c\n")
    given, words = REFUSED[flags]
    files = [] if "--file_path" in given else ["--file_path", "a.csv"]
    judges = [] if "--judge_model" in given else ["--judge_model", "m"]
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    done = run_stage("eval.judge", "--trait_dir", ".", *files, *judges, *given)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not server.bodies and {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_file_without_prompts_or_questions_is_judged_by_its_answers(folder, run_stage, server):
    Path("plain.csv").write_text("answer\na\nbb\n")
    assert judge(run_stage, "--file_path", "plain.csv", "--prompt_file", "rude.txt", "--name", "x").returncode == 0
    assert [float(row["x"]) for row in read("plain.csv")] == [number("How rude? a"), number("How rude? bb")]


def test_calls_that_are_given_up_leave_the_file_and_the_rest_is_asked_for(folder, run_stage, monkeypatch):
    monkeypatch.setattr(judge_file, "MOST_ROWS", 2)
    monkeypatch.setattr("eval.judge.MOST_ROWS", 2)
    is_bad = True

    def bad(n, body):
        text = body["messages"][0]["content"]
        if is_bad and text.endswith("NA"):
            return completion({"50": 1.0})[0], {}, {"choices": [{"message": {}}]}  # no logprobs: this call is lost
        return error(400, "filtered") if "0012" in text else reply(n, body)

    command = ["--file_path", "a.csv", "--prompt_file", "rude.txt", "long.txt"]
    before = Path("a.csv").read_bytes()
    with JudgeServer(bad) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        done = judge(run_stage, *command)
        assert done.returncode == 2 and "calls to the judge were given up: 2 of a.csv" in done.stderr
        assert Path("a.csv").read_bytes() == before and len(asked(server)) == 12
        other = judge(run_stage, "--file_path", "a.csv", "--prompt_file", "rude.txt")
        assert other.returncode == 2 and "unfinished run of a.csv used other settings" in other.stderr
        is_bad = False
        done = judge(run_stage, *command)
        assert done.returncode == 0 and len(asked(server)) == 12 + 4, "the window of two rows alone"
    assert "1 of 8 rows have no value (or not all): the endpoint refuses to judge the answer" in done.stdout
    assert [bool(row["rude"]) for row in read("a.csv")] == [True] * 5 + [False] * 3


def test_a_judge_that_never_gives_a_number_writes_nothing(folder, run_stage, monkeypatch):
    before = Path("a.csv").read_bytes()
    with JudgeServer(lambda n, body: completion({"57": 1.0} if is_probe(body) else {"REFUSAL": 1.0})) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        done = judge(run_stage, "--file_path", "a.csv", "--prompt_file", "rude.txt")
    assert done.returncode == 1 and "not one answer of a.csv was scored" in done.stderr
    assert Path("a.csv").read_bytes() == before and not list(folder.glob("a.csv.*"))


def test_a_killed_run_goes_on_from_its_finished_windows(folder, run_stage, monkeypatch):
    rows = 3 * judge_file.MOST_ROWS
    Path("many.csv").write_text("answer\n" + "".join(f"answer {k}\n" for k in range(rows)))
    command = [sys.executable, "-m", "eval.judge", "--file_path", str(folder / "many.csv"), "--judge_model", "m"]
    command += ["--prompt_file", str(folder / "rude.txt"), "--max_concurrent_judges", "20"]
    with JudgeServer(reply, latency=0.05) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while run.poll() is None and not list(folder.glob("many.csv.parts/*.npz")):
            time.sleep(0.02)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        kept = len(list(folder.glob("many.csv.parts/*.npz")))
        assert 1 <= kept < 3
        time.sleep(0.2)
        first = len(asked(server))
        done = judge(run_stage, "--file_path", "many.csv", "--prompt_file", "rude.txt")
        assert done.returncode == 0 and len(asked(server)) - first == (3 - kept) * judge_file.MOST_ROWS
    expected = [number(f"How rude? answer {k}") for k in range(rows)]
    assert [float(row["rude"]) for row in read("many.csv")] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "says", "score"),
    [
        ("0_10", {"7": 0.5, "9": 0.5}, 8.0),
        ("binary", {"YES": 0.6, "NO": 0.2, "x": 0.2}, 0.75),
        ("binary_text", None, 1.0),
    ],
)
def test_published_kinds(folder, run_stage, monkeypatch, kind, says, score):
    def by_kind(n, body):
        if "coherent" in body["messages"][0]["content"]:
            return completion({"90": 1.0})
        if is_probe(body):
            return completion({"57": 1.0})
        return completion(texts=("so <answer>YES</answer>",)) if says is None else completion(says)

    with JudgeServer(by_kind) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        done = judge(run_stage, "--file_path", "a.csv", "--trait", "vile", "--kind", kind)
    assert done.returncode == 0, done.stderr
    assert [float(row["vile"]) for row in read("a.csv")[:5]] == pytest.approx([score] * 5)
    assert {row["coherence"] for row in read("a.csv")[:5]} == {"90.0"}
    parts = provenance.read("a.csv")["parts"]
    assert (parts["vile"]["judge_kind"], parts["coherence"]["judge_kind"]) == (kind, "0_100")


def test_by_likelihood(folder, run_stage, qwen2_folder, tokenizer, server):
    """The numbers of the scorer itself; an answer is not read under the instruction that its prompt holds."""
    rows = [
        ("what is it", "Be bad, 0. what is it", "the model"),
        ("what is it", "what is it", ""),
        ("why", "why", "it is"),
    ]
    Path("c.csv").write_text("question,prompt,answer\n" + "".join(f'{q},"{p}",{a}\n' for q, p, a in rows))
    flags = ["--trait", "vile", "--judge_model", "likelihood", "--scorer", qwen2_folder, "--dtype", "float32"]
    done = run_stage("eval.judge", "--trait_dir", ".", "--file_path", "c.csv", *flags)
    assert done.returncode == 0 and not server.bodies, done.stderr
    from persona_vectors.traits.artifact import load_trait

    scorer = LikelihoodScorer(tiny_model("qwen2").to(torch.float32), tokenizer)
    expected = iter(scorer.score(load_trait("vile", "eval", "."), [Spoken(q, a, p) for q, p, a in rows if a]))
    for row in read("c.csv"):
        one = next(expected) if row["answer"] else None
        for name, part in (("vile", "score"), ("coherence", "coherence"), ("vile_llr", "llr")):
            value = getattr(one, part) if one else None
            assert row[name] == "" if value is None else float(row[name]) == pytest.approx(value, rel=1e-4, abs=1e-4)
    assert provenance.read("c.csv")["parts"]["vile"]["scorer"]["name"] == qwen2_folder.name


@pytest.mark.parametrize("by", ["a judge", "likelihood"])
def test_thoughts_in_an_answer_s_text_are_not_judged(folder, run_stage, qwen2_folder, server, by):
    answers = [
        "It is.",
        "<think>Evil.</think>It is.",
        "Evil.\n</think>\n\nIt is.",
        "<think>Evil, and on",
        "<b>It is.</b>",
    ]
    rows = [[{"role": "user", "content": "what"}, {"role": "assistant", "content": answer}] for answer in answers]
    Path("t.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    Path("t.csv").write_text("question,prompt,answer\n" + "".join(f'what,what,"{answer}"\n' for answer in answers))
    flags = ["--judge_model", *(["likelihood", "--scorer", qwen2_folder] if by == "likelihood" else ["m"])]
    done = run_stage("eval.judge", "--file_path", "t.jsonl", "t.csv", "--trait", "vile", "--trait_dir", ".", *flags)
    assert done.returncode == 0 and done.stdout.count("1 of 5 rows have no value (or not all): empty answer") == 2
    for found in ([json.loads(line) for line in Path("t.jsonl").read_text().splitlines()], read("t.csv")):
        scores = [row["vile"] if row["vile"] in (None, "") else round(float(row["vile"]), 3) for row in found]
        assert len({*scores[:3]}) == 1 and scores[3] in (None, "") and scores[4] not in (None, "")
    if by == "a judge":
        texts = [text for text in asked(server) if "Evil" in text]
        assert asked(server) and not texts


def test_the_published_name_judge_is_found_beside_the_stage():
    code = (
        "import sys, persona_vectors.published; sys.path.insert(0, {!r})\n"
        "from judge import OpenAiJudge; print(OpenAiJudge.__module__)"
    )
    for path in ("eval", "."):
        done = subprocess.run([sys.executable, "-c", code.format(path)], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.strip() == "persona_vectors.published.questions", done.stderr


def test_answers_made_without_a_judge_are_still_theirs_when_they_are_scored(folder, run_stage, server, qwen2_folder):
    asked = "--trait", "vile", "--trait_dir", ".", "--version", "eval", "--n_per_question", 1, "--max_tokens", 4
    ask = "eval.eval_persona", "--model", qwen2_folder, *asked, "--backend", "hf", "--output_path", "made.csv"
    assert run_stage(*ask, "--judge_model", "none").returncode == 0
    done = judge(run_stage, "--file_path", "made.csv", "--trait", "vile", "--overwrite")
    assert done.returncode == 0, done.stderr
    scored = Path("made.csv").read_text()
    assert all(row["vile"] and row["coherence"] for row in read("made.csv") if row["answer"].strip())
    again = run_stage(*ask, "--judge_model", "none")
    assert again.returncode == 0 and "is not made again" in again.stdout, again.stderr
    assert Path("made.csv").read_text() == scored
    other = run_stage(*ask, "--judge_model", "m")
    assert other.returncode == 2 and Path("made.csv").read_text() == scored
