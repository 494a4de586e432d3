"""download_hf_models as a process, against a server on loopback that speaks the hub's protocol: the real client."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import FILES, SHA, WEIGHTS, HubServer

from download_hf_models import needed

OURS = {"config.json", "tokenizer.json", "merges.txt", "README.md", "model.safetensors"}


def download(url, folder, *more, model="lab/tiny", **changes):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": url, "HF_HOME": str(folder.parent / "hf"), "NO_PROXY": "127.0.0.1", **changes}
    script = Path(__file__).resolve().parent.parent / "download_hf_models.py"
    command = [sys.executable, str(script), "--model_name", model, "--local_dir", str(folder), *more]
    return subprocess.run(command, cwd=folder.parent, env=environment, capture_output=True, text=True, timeout=120)


def found(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_only_what_inference_needs_arrives_whole(tmp_path):
    with HubServer() as hub:
        done = download(hub.url, tmp_path / "m")
    assert done.returncode == 0, done.stderr
    assert found(tmp_path / "m") == {name: FILES[name] for name in OURS}
    assert {name for name, _ in hub.gets} == OURS
    assert (
        "5 of 11 files, 3 MB" in done.stdout
        and done.stdout.splitlines()[-1] == f"wrote 5 files of lab/tiny to {tmp_path}/m"
    )


def test_pickled_weights_only_where_there_are_no_others(tmp_path):
    files = {name: data for name, data in FILES.items() if not name.endswith(".safetensors")}
    with HubServer(files) as hub:
        assert download(hub.url, tmp_path / "m").returncode == 0
    assert set(found(tmp_path / "m")) == OURS - {"model.safetensors"} | {"pytorch_model.bin"}


def test_which_files_are_needed():
    sharded = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    assert needed([*sharded, "pytorch_model.bin.index.json", "pytorch_model-1.bin"]) == sharded
    assert needed(["pytorch_model.bin.index.json", "pytorch_model-1.bin"]) == [
        "pytorch_model.bin.index.json",
        "pytorch_model-1.bin",
    ]
    assert needed(["adapter_config.json", "adapter_model.safetensors", "optimizer.pt", "scheduler.bin"]) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    template = "additional_chat_templates/tools.jinja"
    assert needed([template, "chat_template.jinja", "tokenizer.model", "tf_model.h5"]) == [
        "chat_template.jinja",
        "tokenizer.model",
        template,
    ]


def test_a_dropped_connection_is_taken_up_where_it_broke(tmp_path):
    large = WEIGHTS * 10  # the client takes it up in steps of 10 MiB
    with HubServer({**FILES, "model.safetensors": large}) as hub:
        hub.cut = {"model.safetensors": 1}
        done = download(hub.url, tmp_path / "m")
        ranges = [given for name, given in hub.gets if name == "model.safetensors"]
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == large
    assert ranges == [None, f"bytes={10 * 2**20}-"]


def test_the_same_command_again_fetches_only_what_is_missing(tmp_path):
    with HubServer() as hub:
        assert download(hub.url, tmp_path / "m").returncode == 0
        (tmp_path / "m" / "model.safetensors").unlink()
        hub.gets.clear()
        assert download(hub.url, tmp_path / "m").returncode == 0
        assert [name for name, _ in hub.gets] == ["model.safetensors"]
        hub.gets.clear()
        assert download(hub.url, tmp_path / "m").returncode == 0
        assert not hub.gets
    assert found(tmp_path / "m") == {name: FILES[name] for name in OURS}


def test_a_revision_and_the_token_of_dotenv_are_sent(tmp_path):
    (tmp_path / ".env").write_text("HF_TOKEN=hf_secret\n")
    with HubServer(revisions=("v1", SHA)) as hub:
        done = download(hub.url, tmp_path / "m", "--revision", "v1")
        assert done.returncode == 0, done.stderr
        assert hub.tokens == {"Bearer hf_secret"}
    assert "hf_secret" not in done.stdout + done.stderr


BAD = {
    "gated, without a token": (
        dict(status=401, code="GatedRepo"),
        {},
        "lab/tiny is gated: accept its terms",
        "HF_TOKEN",
    ),
    "gated, with a token": (
        dict(status=403, code="GatedRepo"),
        {"HF_TOKEN": "hf_secret"},
        "is gated",
        "wait for access",
    ),
    "missing": (dict(status=404, code="RepoNotFound"), {}, "no model lab/tiny", "check the name"),
    "missing or private": (dict(status=401), {}, "no model lab/tiny", "private"),
    "private, with a token": (
        dict(status=404, code="RepoNotFound"),
        {"HF_TOKEN": "hf_secret"},
        "no model lab/tiny",
        "may not see",
    ),
    "a token that is none": (dict(status=401), {"HF_TOKEN": "hf_secret"}, "refuses the token", "check HF_TOKEN"),
    "revision": (dict(revisions=()), {}, "has no revision 'main'", "branches and tags"),
    "the hub is down": (dict(status=500), {}, "HTTP 500", "again later"),
    "offline": ({}, {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set", "unset it"),
    "no weights": (
        dict(files={"config.json": b"{}", "x.gguf": b""}),
        {},
        "no weights",
        "safetensors",
        "--model lab/tiny:x.gguf",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_had_is_one_line_and_leaves_nothing(tmp_path, case):
    options, changes, *words = BAD[case]
    with HubServer(**options) as hub:
        done = download(hub.url, tmp_path / "m", **changes)
    assert done.returncode == 2, (done.stdout, done.stderr)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and all(word in last for word in words), last
    assert "Traceback" not in done.stderr and "hf_secret" not in done.stderr
    assert not (tmp_path / "m").exists()


def test_no_network_and_bad_names(tmp_path):
    done = download("http://127.0.0.1:9", tmp_path / "m")
    assert done.returncode == 2 and "cannot fetch lab/tiny from http://127.0.0.1:9" in done.stderr
    for name in ("a/b/c", "../x", "models/", "https://huggingface.co/lab/tiny"):
        done = download("http://127.0.0.1:9", tmp_path / "m", model=name)
        assert done.returncode == 2 and "not a model on the hub" in done.stderr
    done = download("http://127.0.0.1:9", tmp_path / "m", model="lab/tiny:sub/x.gguf")
    assert done.returncode == 2 and "fetched where it is used: --model lab/tiny:sub/x.gguf" in done.stderr
    (tmp_path / "m").write_text("")
    assert "is a file" in download("http://127.0.0.1:9", tmp_path / "m").stderr
