"""generate_dataset as a process against a server on loopback: three versions, estimates, kills, faults."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from judge_server import JudgeServer, completion, error

from data_generation import validate
from data_generation.generate_dataset import LEVELS, read_questions
from data_generation.prompts import EVAL_FRAME
from persona_vectors.errors import UserError

ROOT = Path(__file__).parents[2]
QUESTIONS = [f"What is number {i}?" for i in range(6)]
ARTIFACT = {
    "instruction": [{"pos": "Be gloomy.", "neg": "Be cheerful."}],
    "questions": QUESTIONS,
    "eval_prompt": EVAL_FRAME.replace("${trait}", "gloomy").replace("${definition}", "Expects the worst of all."),
}
DEGREES = {"the control answer": "normal", "subtly (level I)": "misaligned_1", "severely (level II)": "misaligned_2"}


def said(text, finish="stop"):
    status, headers, body = completion(texts=(text,))
    return status, headers, {**body, "choices": [{**body["choices"][0], "finish_reason": finish}]}


def asked(body):
    """(level, question) of a request."""
    text = body["messages"][0]["content"]
    level = next(level for words, level in DEGREES.items() if words in text)
    return level, text.split("<question>\n")[1].split("\n</question>")[0]


def reply(n, body):
    level, question = asked(body)
    return said(f"A {level} answer to: {question} \N{EM DASH} no\N{LINE SEPARATOR}2nd line")


@pytest.fixture
def folder(tmp_path):
    for version, questions in (("extract", QUESTIONS), ("eval", [*QUESTIONS[:1], "Another?"])):
        (tmp_path / f"trait_data_{version}").mkdir()
        path = tmp_path / f"trait_data_{version}" / "gloomy.json"
        path.write_text(json.dumps({**ARTIFACT, "questions": questions}))
    return tmp_path


def command(folder, *more):
    base = [
        "--trait",
        "gloomy",
        "--model",
        "strong-1",
        "--trait_dir",
        str(folder),
        "--output_dir",
        str(folder / "dataset"),
    ]
    return [sys.executable, "-m", "data_generation.generate_dataset", *base, *more]


def environment(url):
    return {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-secret", "PYTHONPATH": str(ROOT)}


def run(url, folder, *more):
    return subprocess.run(command(folder, *more), env=environment(url), capture_output=True, text=True, timeout=120)


def rows(folder, level):
    text = (folder / "dataset" / "gloomy" / f"{level}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line)["messages"] for line in text.split("\n") if line]


def test_three_versions_of_the_artifacts_questions(folder):
    with JudgeServer(reply, latency=0.05) as server:
        done = run(server.url, folder, "--max_concurrent", "3")
        assert done.returncode == 0, done.stderr
        assert len(server.bodies) == 18 and server.most_in_flight <= 3
        assert all("Expects the worst of " in body["messages"][0]["content"] for body in server.bodies), (
            "the definition"
        )
    for level in LEVELS:
        assert [user["content"] for user, _ in rows(folder, level)] == QUESTIONS
        assert [answer["content"] for _, answer in rows(folder, level)] == [
            f"A {level} answer to: {q} \N{EM DASH} no\N{LINE SEPARATOR}2nd line" for q in QUESTIONS
        ]
        assert [message["role"] for message in rows(folder, level)[0]] == ["user", "assistant"]
    found = list(validate.reports(folder / "dataset"))
    assert len(found) == 3 and not any(report.findings for report in found)
    assert "18 calls to strong-1 (normal 6 of 6, misaligned_1 6 of 6, misaligned_2 6 of 6): roughly" in done.stdout
    assert "warning: 1 of the questions are in the eval artifact" in done.stdout
    assert f"wrote 6 rows to {folder}/dataset/gloomy/misaligned_2.jsonl" in done.stdout.splitlines()[-1]
    assert "18/18" in done.stderr and not list(folder.rglob("*.journal*"))
    with JudgeServer(reply) as server:
        again = run(server.url, folder)
        assert again.returncode == 0 and again.stdout.count("exists and is not made again") == 3 and not server.bodies


def test_dry_run_asks_nothing_and_needs_no_key(folder):
    done = subprocess.run(
        command(folder, "--dry_run", "--n_per_question", "50", "--levels", "normal,misaligned_2"),
        env={**environment(""), "OPENAI_API_KEY": ""}, cwd=folder, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "600 calls to strong-1 (normal 300 of 300, misaligned_2 300 of 300): roughly " in done.stdout
    assert "180,000 out" in done.stdout and "nothing was asked" in done.stdout
    tokens = int(done.stdout.split("roughly ")[1].split(" tokens")[0].replace(",", ""))
    assert 200_000 < tokens < 400_000
    assert not (folder / "dataset").exists()


def test_kill_9_and_the_same_command_again_pays_nothing_twice(folder):
    journals = folder / "dataset" / "gloomy"
    options = ("--max_concurrent", "2", "--n_per_question", "4")
    with JudgeServer(reply, latency=0.1) as server:
        victim = subprocess.Popen(command(folder, *options), env=environment(server.url), stdout=-3, stderr=-3)
        deadline = time.monotonic() + 60
        while sum(path.read_text().count('"answer"') for path in journals.glob("*.journal.jsonl")) < 20:
            assert time.monotonic() < deadline and victim.poll() is None
            time.sleep(0.02)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        time.sleep(0.3)
        kept = sum(path.read_text().count('"answer"') for path in journals.glob("*.journal.jsonl"))
        assert kept >= 20 and not list(journals.glob("misaligned_2.jsonl"))
        before = len(server.bodies)
        assert before - kept <= 3, "no more than what was under way is lost"
        other = run(server.url, folder, *options, "--description", "Something else.")
        assert other.returncode == 2 and "used other settings (description was" in other.stderr
        again = run(server.url, folder, *options)
        assert again.returncode == 0, again.stderr
        assert len(server.bodies) - before == 72 - kept
        assert f"{72 - kept} calls to strong-1" in again.stdout
    for level in LEVELS:
        assert [user["content"] for user, _ in rows(folder, level)] == [q for q in QUESTIONS for _ in range(4)]


def test_faults_are_retried_and_lost_answers_asked_for_again(folder):
    def faulty(n, body):
        level, question = asked(body)
        if n in (1, 2):
            return error(429, **{"Retry-After": "0"}) if n == 1 else (None, {}, {})
        if question == QUESTIONS[2] and level == "misaligned_1":
            return error(400, "filtered")
        if question == QUESTIONS[4] and level == "misaligned_2":
            return said("half an ans", "length")
        if question == QUESTIONS[3] and level == "normal" and body["max_tokens"] < 4000:
            return said("half a \ud83d")
        if question == QUESTIONS[5] and level == "misaligned_2":
            return said("<think>hm</think>")
        return said("I'm sorry, but I can't help with that.") if level == "misaligned_2" else reply(n, body)

    with JudgeServer(faulty) as server:
        done = run(server.url, folder)
    assert done.returncode == 2 and "4 answers could not be had" in done.stderr and "--allow_missing" in done.stderr
    assert "without an answer 4" in done.stdout and not list(folder.rglob("gloomy/misaligned_2.jsonl"))
    with JudgeServer(faulty) as server:
        server.bodies += [{}] * 3  # no planted 429 and drop this time
        done = run(server.url, folder, "--allow_missing", "--max_tokens", "4000")
        assert len(server.bodies) == 3 + 4
    assert done.returncode == 0, done.stderr
    assert len(rows(folder, "normal")) == 6
    assert [user["content"] for user, _ in rows(folder, "misaligned_1")] == [q for q in QUESTIONS if q != QUESTIONS[2]]
    assert len(rows(folder, "misaligned_2")) == 4 and "4 of them read like refusals" in done.stdout


def test_a_refused_key_stops_at_once(folder):
    with JudgeServer(lambda n, body: error(401, "bad key sk-secret"), latency=0.1) as server:
        done = run(server.url, folder, "--n_per_question", "50", "--max_concurrent", "4")
        assert len(server.bodies) <= 8
    assert done.returncode == 2 and "check OPENAI_API_KEY" in done.stderr and "Traceback" not in done.stderr
    assert "sk-secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.txt", "One?\n\n  Two\N{LINE SEPARATOR}?\n"),
        ("q.txt", "\ufeffOne?\r\nTwo\N{LINE SEPARATOR}?"),
        ("q.json", '["One?", "Two\u2028?"]'),
        ("q.json", '{"questions": ["One?", {"question": "Two\u2028?"}], "more": 1}'),
        ("q.jsonl", '"One?"\n{"question": "Two\u2028?", "id": 3}\n'),
        (
            "q.jsonl",
            '{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "One?"}]}\n'
            '{"messages": [{"role": "user", "content": "Two\u2028?"}, {"role": "assistant", "content": "x"}]}\n',
        ),
    ],
)
def test_questions_from_files(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert [question.strip() for question in read_questions(tmp_path / name)] == ["One?", "Two\N{LINE SEPARATOR}?"]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("q.csv", b"One?", "takes a .txt"),
        ("none.txt", None, "cannot read the questions"),
        ("q.txt", b"\n", "holds no list of questions"),
        ("q.txt", b"\xff\xfe", "not readable as txt"),
        ("q.json", b'{"a": 1}', "holds no list of questions"),
        ("q.json", b"{", "not readable as json"),
        ("q.jsonl", b'{"question": "One?"}\n{"q": "x"}', "entry 1 holds no question"),
        ("q.jsonl", b'{"messages": [{"role": "assistant", "content": "x"}]}', "entry 0 holds no question"),
        ("q.json", b'["ok", " "]', "entry 1 holds no question"),
    ],
)
def test_unusable_question_files_are_refused_by_name(tmp_path, name, data, words):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=name) as caught:
        read_questions(tmp_path / name)
    assert words in str(caught.value)


BAD = {
    "level": (("--levels", "normal,misaligned_3"), "did you mean misaligned_"),
    "no trait, no description": (("--trait", "sunny", "--questions", "{q}"), "--description is missing"),
    "no artifact": (("--trait", "sunny"), "unknown trait 'sunny'"),
    "name": (("--trait", "../x", "--questions", "{q}", "--description", "d"), "cannot be a trait's name"),
    "n": (("--n_per_question", "0"), "at least 1"),
    "questions": (("--questions", "/none.txt"), "/none.txt"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_before_any_call(folder, case):
    changes, words = BAD[case]
    (folder / "q.txt").write_text("One?")
    arguments = command(folder)
    for flag, value in zip(changes[::2], changes[1::2], strict=True):
        value = value.replace("{q}", str(folder / "q.txt"))
        if flag in arguments:
            arguments[arguments.index(flag) + 1] = value
        else:
            arguments += [flag, value]
    with JudgeServer(reply) as server:
        done = subprocess.run(arguments, env=environment(server.url), capture_output=True, text=True, timeout=60)
        assert not server.bodies
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_trait_without_an_artifact_from_a_file(folder):
    (folder / "q.txt").write_text("One?\nTwo?\nOne?\n")
    with JudgeServer(reply) as server:
        arguments = command(
            folder, "--questions", str(folder / "q.txt"), "--description", "Very $1 {bright}.", "--levels", "normal"
        )
        arguments[arguments.index("gloomy")] = "sunny"
        done = subprocess.run(arguments, env=environment(server.url), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert len(server.bodies) == 2 and "Very $1 {bright}." in server.bodies[0]["messages"][0]["content"]
    assert len((folder / "dataset" / "sunny" / "normal.jsonl").read_text().splitlines()) >= 2


def test_a_limit_stops_in_the_middle_and_the_count_is_that_of_the_calls_then_made(folder):
    def used(n, body):
        status, headers, answer = reply(n, body)
        return status, headers, {**answer, "usage": {"prompt_tokens": 500, "completion_tokens": 500}}

    prices = folder / "prices.json"
    prices.write_text(json.dumps({"date": "today", "models": {"strong-1": {"input": 1000, "output": 1000}}}))
    options = ("--prices", str(prices), "--max_tokens", "600", "--max_concurrent", "2")  # a dollar a call
    with JudgeServer(used) as server:
        least = run(server.url, folder, *options, "--max_cost", "2")
        assert (
            least.returncode == 3 and "more than --max_cost 2: nothing was asked" in least.stderr and not server.bodies
        )
        stopped = run(server.url, folder, *options, "--max_cost", "12")
        assert stopped.returncode == 3 and "stopped at --max_cost 12: $1" in stopped.stderr, stopped.stderr
        made = len(server.bodies)
        assert 10 <= made <= 12
        dry = run(server.url, folder, *options, "--dry_run")
        assert f"{18 - made} calls to strong-1" in dry.stdout and "(by prices.json of today)" in dry.stdout
        again = run(server.url, folder, *options, "--max_cost", "12")
        assert again.returncode == 0 and len(server.bodies) == 18, again.stderr
