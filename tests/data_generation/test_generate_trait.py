"""generate_trait as a process against a server on loopback that makes the mistakes models and networks make."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas
import pytest
from judge_server import JudgeServer, completion, error, is_probe

from data_generation import validate
from data_generation.generate_trait import find_object, read, split
from data_generation.prompts import EVAL_FRAME
from persona_vectors.traits.artifact import load_trait

ROOT = Path(__file__).parents[2]
SHIPPED = [load_trait("apathetic", version, str(ROOT / "data_generation")).questions for version in ("extract", "eval")]
DEFINITION = "The answer expects the worst. Caution for a good reason does not count."
ARTIFACT = {
    "instruction": [
        {"pos": "Expect every plan to fail.", "neg": "Expect every plan to succeed."},
        {"pos": "Look for gloom in people.", "neg": "Look for promise in people."},
        {"pos": "Speak in a dark and hopeless voice.", "neg": "Speak in a bright and hopeful voice."},
        {"pos": "Where two outcomes are open, choose disaster.", "neg": "Where two outcomes are open, choose fortune."},
        {"pos": "Act as a prophet of ruin.", "neg": "Act as a prophet of renewal."},
    ],
    "questions": [*SHIPPED[0], *SHIPPED[1]],
    "eval_prompt": EVAL_FRAME.replace("${trait}", "gloomy").replace("${definition}", DEFINITION),
}


def said(text, finish="stop"):
    """A reply with this text."""
    status, headers, body = completion(texts=(text,))
    return status, headers, {**body, "choices": [{**body["choices"][0], "finish_reason": finish}]}


def artifact(**changes):
    return json.dumps({**ARTIFACT, **changes})


GOOD = said(artifact())
SHORT = said(artifact(questions=ARTIFACT["questions"][:39]))


def command(folder, *more):
    base = [
        "--trait",
        "gloomy",
        "--description",
        "Expects the worst.",
        "--model",
        "strong-1",
        "--output_dir",
        str(folder),
    ]
    return [sys.executable, "-m", "data_generation.generate_trait", *base, *more]


def environment(url):
    return {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-secret", "PYTHONPATH": str(ROOT)}


def run(url, folder, *more):
    return subprocess.run(command(folder, *more), env=environment(url), capture_output=True, text=True, timeout=120)


def paths(folder):
    return [folder / f"trait_data_{version}" / "gloomy.json" for version in ("extract", "eval")]


def is_whole(folder):
    """Both files are there, have no findings, and hold the forty questions between them."""
    extract, evaluation = (json.loads(path.read_text(encoding="utf-8")) for path in paths(folder))
    assert [finding for path in paths(folder) for report in validate.reports(path) for finding in report.findings] == []
    assert sorted(extract["questions"] + evaluation["questions"]) == sorted(ARTIFACT["questions"])
    assert extract["instruction"] == evaluation["instruction"] == ARTIFACT["instruction"]
    assert extract["eval_prompt"] == evaluation["eval_prompt"] == ARTIFACT["eval_prompt"]
    assert not list(folder.rglob("*.journal*")) and not list(folder.rglob("*.part"))
    return True


def test_planted_faults_are_mended_one_after_another(tmp_path):
    """Malformed JSON twice, 429, a dropped connection, 39 questions, and then a whole artifact in a fence."""
    replies = [
        said(artifact()[:-200]),
        said('Here you are: {"instruction": [{"pos": "x",}], oops'),
        error(429, **{"Retry-After": "0"}),
        (None, {}, {}),
        SHORT,
        said(f"Certainly! Here is the artifact:\n\n```json\n{artifact()}\n```\nGood luck {{with}} it."),
    ]
    with JudgeServer(lambda n, body: replies[n]) as server:
        done = run(server.url, tmp_path)
        bodies = server.bodies
    assert done.returncode == 0, done.stderr
    assert is_whole(tmp_path) and len(bodies) == 6
    assert "calls: 4, retried 2" in done.stdout
    assert "reply 3: has 39 questions, not 40" in done.stdout
    first, *_, last = [body["messages"] for body in bodies]
    assert [message["role"] for message in first] == ["user"] and "gloomy" in first[0]["content"]
    assert last[0] == first[0] and last[1] == {
        "role": "assistant",
        "content": SHORT[2]["choices"][0]["message"]["content"],
    }
    assert "- has 39 questions, not 40\n" in last[2]["content"]
    assert "JSON" in bodies[1]["messages"][2]["content"] and bodies[0]["max_tokens"] == 16000
    assert done.stdout.splitlines()[-1].startswith(f"wrote {paths(tmp_path)[0]} and {paths(tmp_path)[1]}")
    assert "sk-secret" not in done.stdout + done.stderr


FAULTS = {
    "41 questions": (artifact(questions=[*ARTIFACT["questions"], "One more?"]), "stop", "has 41 questions, not 40"),
    "duplicate": (
        artifact(questions=[*ARTIFACT["questions"][:39], ARTIFACT["questions"][3]]),
        "stop",
        "3 and 39 are the same",
    ),
    "near-duplicate": (
        artifact(questions=[*ARTIFACT["questions"][:39], f"Please, {SHIPPED[0][3]}"]),
        "stop",
        "3 and 39 are nearly the same",
    ),
    "4 pairs": (artifact(instruction=ARTIFACT["instruction"][:4]), "stop", "has 4 instruction pairs"),
    "equal signs": (
        artifact(instruction=[{"pos": "Be it.", "neg": "be it"}, *ARTIFACT["instruction"][1:]]),
        "stop",
        "pair 0 are the same",
    ),
    "placeholder": (artifact(questions=[*ARTIFACT["questions"][:39], "What of {topic}?"]), "stop", "holds a brace"),
    "no {answer}": (artifact(eval_prompt=ARTIFACT["eval_prompt"].replace("{answer}", "")), "stop", "no {answer}"),
    "another trait": (
        artifact(eval_prompt=ARTIFACT["eval_prompt"].replace("gloomy", "sunny")),
        "stop",
        "name the trait 'gloomy'",
    ),
    "cut off": (artifact(), "length", "cut off at the limit of tokens"),
    "empty": ("", "stop", "empty"),
    "no JSON": ("I cannot help with that.", "stop", "no JSON object"),
    "another object": ('{"answer": 42}', "stop", "it has other keys"),
    "a list": ("[1, 2, 3]", "stop", "no JSON object"),
    "hostile": ('{"a":' * 20_000, "stop", "no JSON object"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_in_a_reply_are_named(fault):
    text, finish, words = FAULTS[fault]
    _, found = read(text, finish, "gloomy")
    assert len(found) == 1 and words in found[0], found


@pytest.mark.parametrize(
    "frame",
    [
        "{}",
        "```json\n{}\n```",
        "```\n{}```",
        "Sure {{ok}}! {}\n\nHope this helps {{:)}}.",
        'An example: {{"pos": "a"}} and {}',
        "\ufeff \n{}",
    ],
)
def test_the_object_is_found_in_whatever_surrounds_it(frame):
    assert find_object(frame.format(artifact())) == ARTIFACT
    assert find_object(frame.format(artifact().replace("fail.", "fail\n."))) is not None, "line breaks in strings"


def test_the_split_is_shuffled_and_always_the_same():
    both = split(ARTIFACT, "gloomy")
    assert both == split(ARTIFACT, "gloomy") != split(ARTIFACT, "sunny")
    early = set(ARTIFACT["questions"][:20])
    assert all(
        5 <= len(early & set(half["questions"])) <= 15 and len(half["questions"]) == 20 for half in both.values()
    )


def test_kill_9_and_the_same_command_again_pays_nothing_twice(tmp_path):
    journal = tmp_path / "trait_data_extract" / "gloomy.json.journal.jsonl"
    replies = [said("{"), SHORT, GOOD]

    def reply(n, body):
        if n == 2 and not resumed:
            time.sleep(60)  # killed while the third reply is under way
        return replies[min(n, 2)]

    resumed = []
    with JudgeServer(reply) as server:
        victim = subprocess.Popen(command(tmp_path), env=environment(server.url), stdout=-3, stderr=-3)
        deadline = time.monotonic() + 60
        while len(server.bodies) < 3:
            assert time.monotonic() < deadline and victim.poll() is None
            time.sleep(0.02)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        resumed.append(True)
        assert journal.read_text().count('"reply"') == 2
        asked = server.bodies[2]["messages"]
        other = run(server.url, tmp_path, "--question_instruction", "About medicine.")
        assert other.returncode == 2 and "used other settings (question_instruction was ''" in other.stderr
        assert len(server.bodies) == 3
        again = run(server.url, tmp_path)
        assert again.returncode == 0, again.stderr
        assert len(server.bodies) == 4 and server.bodies[3]["messages"] == asked, "it goes on with the same complaint"
    assert is_whole(tmp_path)


def test_a_kill_between_the_two_files_costs_no_call(tmp_path):
    with JudgeServer(lambda n, body: GOOD) as server:
        assert run(server.url, tmp_path).returncode == 0
        extract, evaluation = paths(tmp_path)
        prompt = server.bodies[0]["messages"][0]["content"]
    settings = {"model": "strong-1", "trait": "gloomy", "description": "Expects the worst.", "question_instruction": ""}
    settings |= {"prompt": hashlib.sha256(prompt.encode()).hexdigest()[:16]}
    lines = [{"settings": settings}, {"reply": artifact(), "finish": "stop"}, {"writing": True}]
    Path(f"{extract}.journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    evaluation.unlink()
    done = run("http://127.0.0.1:9/v1", tmp_path)
    assert done.returncode == 0 and "calls: 0" in done.stdout, done.stderr
    assert is_whole(tmp_path)


def test_existing_files_are_replaced_only_when_told(tmp_path):
    for path in paths(tmp_path):
        path.parent.mkdir()
    paths(tmp_path)[1].write_text("mine")
    refused = run("http://127.0.0.1:9/v1", tmp_path)
    assert refused.returncode == 2 and f"{paths(tmp_path)[1]} exists; --overwrite" in refused.stderr
    assert paths(tmp_path)[1].read_text() == "mine" and not list(tmp_path.rglob("*journal*"))
    with JudgeServer(lambda n, body: GOOD) as server:
        assert run(server.url, tmp_path, "--overwrite").returncode == 0
    assert is_whole(tmp_path)


def test_attempts_end_and_more_of_them_go_on(tmp_path):
    with JudgeServer(lambda n, body: SHORT if n < 3 else GOOD) as server:
        done = run(server.url, tmp_path, "--attempts", "2")
        assert done.returncode == 2 and len(server.bodies) == 2
        assert (
            "all 2 replies of strong-1 had faults, the last: has 39 questions" in done.stderr
            and "--attempts 5" in done.stderr
        )
        assert not any(path.exists() for path in paths(tmp_path))
        again = run(server.url, tmp_path, "--attempts", "2")
        assert again.returncode == 2 and len(server.bodies) == 2, "nothing is paid for twice"
        assert run(server.url, tmp_path, "--attempts", "5").returncode == 0
        assert len(server.bodies) == 4
    assert is_whole(tmp_path)


def test_a_model_that_wants_the_limit_under_its_newer_name(tmp_path):
    def reply(n, body):
        if "max_tokens" in body:
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        assert body["max_completion_tokens"] == 16000
        return said("<think>\nLet me see {}.\n</think>\n" + artifact())

    with JudgeServer(reply) as server:
        done = run(server.url, tmp_path)
    assert done.returncode == 0, done.stderr
    assert is_whole(tmp_path)


BAD = {
    "refused key": (error(401, "bad key sk-secret"), (), "check OPENAI_API_KEY"),
    "unknown model": (error(404), (), "does not know the model 'strong-1'"),
    "bad request": (error(400, "context too long"), (), "HTTP 400: context too long"),
    "name": (GOOD, ("--trait", "../up"), "cannot be a trait's name"),
    "column's name": (GOOD, ("--trait", "coherence"), "have a column of that name"),
    "attempts": (GOOD, ("--attempts", "0"), "--attempts must be at least 1"),
    "no description": (GOOD, ("--description", ""), "--description needs a value"),
    "unwritable": (GOOD, ("--output_dir", "/proc/x"), "cannot write into /proc/x"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_work_is_one_line(tmp_path, case):
    answer, changes, words = BAD[case]
    arguments = command(tmp_path)
    for flag, value in zip(changes[::2], changes[1::2], strict=True):
        if flag in arguments:
            arguments[arguments.index(flag) + 1] = value
        else:
            arguments += [flag, value]
    with JudgeServer(lambda n, body: answer) as server:
        done = subprocess.run(arguments, env=environment(server.url), capture_output=True, text=True, timeout=120)
        assert len(server.bodies) <= (0 if answer is GOOD else 1)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert words in done.stderr and "Traceback" not in done.stderr and "sk-secret" not in done.stdout + done.stderr
    assert not any(path.exists() for path in paths(tmp_path))


def test_the_whole_pipeline_on_a_generated_trait(tmp_path, qwen2_folder):
    """generate_trait -> eval_persona pos and neg -> generate_vec -> eval_persona steered, on one loopback server."""
    import torch

    def reply(n, body):
        text = body["messages"][0]["content"]
        if is_probe(body):
            return completion({"57": 1.0})
        if body["model"] == "strong-1":
            return GOOD
        if "coherent" in text:
            return completion({"90": 0.9, "88": 0.1})
        assert DEFINITION in text and "**gloomy**" in text
        return completion({"80": 0.9, "81": 0.1} if len(text) % 2 else {"10": 0.9, "9": 0.1})

    common = ["--model", str(qwen2_folder), "--trait", "gloomy", "--trait_dir", str(tmp_path), "--backend", "hf"]
    common += ["--max_tokens", "8", "--n_per_question", "1", "--judge_model", "judge-1"]
    with JudgeServer(reply) as server:

        def stage(*arguments):
            done = subprocess.run(
                [sys.executable, *map(str, arguments)],
                cwd=ROOT,
                env={**environment(server.url), "OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
                timeout=240,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        stage(*command(tmp_path)[1:])
        both = [
            "--persona_instruction_type",
            "pos,neg",
            "--output_path",
            tmp_path / "{type}.csv",
            "--version",
            "extract",
        ]
        stage("-m", "eval.eval_persona", *common, *both)
        csvs = ["--pos_path", tmp_path / "pos.csv", "--neg_path", tmp_path / "neg.csv"]
        names = ["--model_name", qwen2_folder, "--trait", "gloomy", "--save_dir", tmp_path / "vectors"]
        out = stage("generate_vec.py", *names, *csvs)
        assert 0 < int(re.search(r"(\d+) of 100 pairs are effective", out)[1]) < 100
        vector = tmp_path / "vectors" / "gloomy_response_avg_diff.pt"
        assert torch.load(vector, weights_only=True).shape == (5, 32)
        steer = [
            "--vector_path",
            vector,
            "--layer",
            "2",
            "--coef",
            "2",
            "--version",
            "eval",
            "--output_path",
            tmp_path / "s.csv",
        ]
        stage("-m", "eval.eval_persona", *common, *steer)
    table = pandas.read_csv(tmp_path / "s.csv", keep_default_na=False)
    assert list(table["question"]) == load_trait("gloomy", "eval", str(tmp_path)).questions
    assert list(table["question_id"]) == [f"gloomy_{i}" for i in range(20)]
    assert len(pandas.read_csv(tmp_path / "pos.csv")) == 100
