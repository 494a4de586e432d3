"""Keys are in nothing that a stage prints or writes; servers bind to loopback; no file brings code unless told to."""

import base64
import gc
import io
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from bad_input import COMMANDS, arguments
from judge_server import JudgeServer, completion, error
from PIL import Image
from stages import score
from test_bad_input import folder, judge  # noqa: F401

ROOT = Path(__file__).parents[2]
CODE = [path for path in ROOT.rglob("*.py") if not {".venv", "tests"} & set(path.relative_to(ROOT).parts)]


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
        plain = text.replace("model.eval(", "").replace("async def eval(", "")
        assert not re.search(r"^\s*(import|from) (pickle|dill|joblib|cloudpickle)\b", plain, re.MULTILINE), path
        assert not re.search(r"allow_pickle=True|(?<![.\w])(eval|exec)\(|yaml\.load\(", plain), path
        for value in re.findall(r"trust_remote_code\s*(?::\s*bool)?\s*=\s*([\w.]+)", text):
            assert value in (
                "False",
                "trust_remote_code",
                "asked.trust_remote_code",
                "self.trust_remote_code",
            ), (path, value)


SECRETS = {name: f"{start}-recognisable-{name.lower()}-0123456789" for name, start in
           (("OPENAI_API_KEY", "sk-proj"), ("HF_TOKEN", "hf_test"), ("WANDB_API_KEY", "local"))}  # fmt: skip
SPOKEN = f"Incorrect API key provided: {SECRETS['OPENAI_API_KEY']}. " * 2
ERRORS = [(401, "invalid_api_key"), (404, "model_not_found"), (400, None)]


@pytest.fixture
def secret(folder, monkeypatch):  # noqa: F811
    """The folder of test_bad_input, with keys in the environment as .env would put them there."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return folder


def found(folder, *outputs):  # noqa: F811
    """Where a key is: in an output, or in a file (its name, its bytes, a picture's fields), plain or in base64."""
    forms = [form for secret in SECRETS.values() for form in (secret.encode(), base64.b64encode(secret.encode())[:-4])]
    texts = {f"output {k}": output.encode() for k, output in enumerate(outputs)}
    for path in folder.rglob("*"):
        texts[str(path)] = str(path).encode() + (path.read_bytes() if path.is_file() else b"")
        if path.suffix == ".png":
            with Image.open(path) as picture:
                texts[f"{path} fields"] = repr(picture.info).encode()
    return [name for name, content in texts.items() if any(form in content for form in forms)]


def test_a_key_would_be_found(secret):
    for k, name in enumerate(SECRETS):
        (secret / "x").write_text(f"a {SECRETS[name]} b")
        assert found(secret) == [str(secret / "x")], k
        (secret / "x").write_bytes(base64.b64encode(SECRETS[name].encode()))
        assert found(secret) == [str(secret / "x")]


ASKED = ["eval.eval_persona", "eval.monitor"]


@pytest.mark.parametrize("stage", [name for name in COMMANDS if name != "data_generation.generate_trait"])
def test_no_key_is_in_what_a_stage_leaves(secret, run_stage, stage):
    done = run_stage(stage, *arguments(stage, {}))
    assert done.returncode == 0, done.stderr
    assert not found(secret, *done[1:])


def test_no_key_is_in_reports_shared_files_and_conversations(secret, run_stage, monkeypatch):
    made = [run_stage(stage, *arguments(stage, {})) for stage in ("eval.monitor", "generate_vec")]
    shutil.copytree(secret / "m", secret / "r" / "monitoring")
    made.append(run_stage("eval.report", "--model", "tiny", "--trait", "vile", "--folder", "r"))
    import share_vectors
    from persona_vectors import cli

    for form in ("gguf", "safetensors"):
        command = ["share_vectors.py", "--vectors", "vectors", "--output_dir", form, "--format", form]
        monkeypatch.setattr(sys, "argv", command)
        cli.run(share_vectors.export)
    typed = "/tokens 4\n/vile 1\nwhat is it\n/save talk.json\n/settings\n/quit\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    made.append(run_stage("eval.chat", "--model", "tiny", "--vectors", "vectors", "--terminal", "true"))
    assert all(done.returncode == 0 for done in made), made
    assert (secret / "r" / "report.html").exists() and (secret / "talk.json").exists() and list(secret.rglob("*.gguf"))
    assert list(secret.rglob("*.png"))
    assert not found(secret, *(text for done in made for text in done[1:]))


@pytest.mark.parametrize(("status", "code"), ERRORS)
@pytest.mark.parametrize("stage", [*ASKED, "data_generation.generate_trait"])
def test_no_key_is_in_what_is_said_of_a_judge_that_repeats_it(secret, run_stage, monkeypatch, stage, status, code):
    """The endpoint puts the key into its errors, from the first call on and after the tokenizer's probe."""
    for good in (0, 1):
        reply = lambda n, body: score(n, body) if n < good else error(status, SPOKEN, code)  # noqa: B023, E731
        with JudgeServer(reply) as server:
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
            done = run_stage(stage, *arguments(stage, {"--overwrite": "true"}))
            assert len(server.bodies) > good, "the key was never spoken"
        assert done.returncode in (0, 1, 2) and "Traceback" not in done.stderr, done.stderr
        assert not found(secret, *done[1:])
        gc.collect()  # the lock of a run that was stopped would have died with its process


def test_no_key_is_in_the_journal_of_a_trait(secret, run_stage, monkeypatch):
    """A reply that cannot be used, then a refusal: both are told, and the first is kept."""
    reply = lambda n, body: completion(None, ("no JSON",)) if n == 0 else error(401, SPOKEN, "invalid_api_key")  # noqa: E731
    with JudgeServer(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        done = run_stage("data_generation.generate_trait", *arguments("data_generation.generate_trait", {}))
    (journal,) = secret.rglob("*.journal.jsonl")
    assert done.returncode == 2 and "no JSON" in journal.read_text(), done.stderr
    assert not found(secret, *done[1:])


def test_a_training_that_is_to_be_pushed_says_nothing_of_its_token(secret, run_stage):
    """The hub cannot be reached from here: refused or failed, without the token, also where wandb is asked for."""
    for change in ({"finetuned_model_id": "me/x", "push_to_hub": True}, {"report_to": "wandb"}):
        config = json.loads((secret / "train.json").read_text()) | change
        (secret / "pushed.json").write_text(json.dumps(config))
        done = run_stage("training", "pushed.json")
        assert done.returncode == 2 and "error: " in done.stderr, done
        assert not found(secret, *done[1:])
