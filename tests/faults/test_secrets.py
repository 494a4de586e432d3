"""Keys are sent to their endpoint and appear nowhere else; nothing runs code that came with a file unless told to."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from breaking import read_log, start, undisturbed
from judge_server import JudgeServer, error
from stages import KEY, STAGES, Asking, World, score

ROOT = Path(__file__).parents[2]
CODE = [path for path in ROOT.rglob("*.py") if not {".venv", "tests"} & set(path.relative_to(ROOT).parts)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World(tmp_path_factory.mktemp("secrets"), forked=True) as world:
        yield world


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_no_stage_writes_or_prints_a_key(world, monkeypatch):
    token = "hf_recognisable0123456789"
    monkeypatch.setenv("HF_TOKEN", token)
    for stage in STAGES:
        undisturbed(stage(world))
    asking = Asking(world)
    asking.prepare()
    process = start(asking)  # and its journal, half-way
    while not asking.is_busy():
        assert process.poll() is None, read_log(asking)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = everything_in(world.root)
    assert b"What now?" in written and asking.journal.exists()
    assert KEY.encode() not in written and token.encode() not in written


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_a_server_that_repeats_the_key_is_not_quoted(world, status):
    """The first call, and later ones, refused with the key in the message."""
    for well in (0, 1):
        asking = Asking(world)
        asking.prepare()
        good = world.server

        def reply(number, body, well=well):
            refusal = error(status, f"Incorrect API key provided: {KEY}", **{"x-should-retry": "false"})
            return score(number, body) if number < well else refusal

        with JudgeServer(reply) as world.server:
            process = start(asking)
            process.wait()
        world.server = good
        log = read_log(asking)
        assert KEY not in log and KEY.encode() not in everything_in(asking.folder), log[-2000:]
        assert "Traceback" not in log and ("error: " in log or "given up" in log), log[-2000:]


def test_a_key_in_the_address_is_not_shown(world):
    command = [sys.executable, *Asking(world).command()[1:]]
    for url in (f"http://user:{KEY}@127.0.0.1:9/v1", f"ftp://user:{KEY}@host/v1"):
        environment = {**world.environment, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 2 and KEY not in done.stderr + done.stdout, done.stderr


def test_servers_of_ours_bind_to_loopback():
    hosts = [
        re.findall(r"""(?:host|HOST)\s*[=:]\s*(?:str\s*=\s*)?["']([^"']+)["']""", path.read_text()) for path in CODE
    ]
    found = {host for hosts_of_file in hosts for host in hosts_of_file}
    assert found <= {"127.0.0.1", "localhost"} and found, found
    assert not [path for path in CODE if re.search(r"""["']0\.0\.0\.0["']|["']::["']""", path.read_text())]


def test_no_file_brings_code_unless_a_flag_says_so():
    for path in CODE:
        text = path.read_text()
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call, (path, call)
        plain = text.replace("model.eval(", "")
        assert not re.search(r"^\s*(import|from) (pickle|dill|joblib|cloudpickle)\b", plain, re.MULTILINE), path
        assert not re.search(r"allow_pickle=True|(?<![.\w])(eval|exec)\(|yaml\.load\(", plain), path
        for value in re.findall(r"trust_remote_code\s*(?::\s*bool)?\s*=\s*([\w.]+)", text):
            assert value in (
                "False",
                "trust_remote_code",
                "asked.trust_remote_code",
                "cli.as_bool",
                "self.trust_remote_code",
            ), (path, value)


def test_a_model_that_brings_code_is_refused_without_the_flag(world, tmp_path):
    """A custom architecture whose module would leave a mark if it were imported."""
    model = tmp_path / "model"
    model.mkdir()
    auto = {"AutoConfig": "custom.C", "AutoModelForCausalLM": "custom.M"}
    (model / "config.json").write_text(json.dumps({"model_type": "made-up", "auto_map": auto}))
    (model / "custom.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w').close()\n")
    command = Asking(world).command()
    command[command.index("--model") + 1] = str(model)
    environment = {**world.environment, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=200, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "mark").exists() and os.listdir(model)
