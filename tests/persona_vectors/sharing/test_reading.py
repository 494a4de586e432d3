"""Vectors from files of every kind and from a hub on loopback, with the real client."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hub_server import HubServer
from safetensors.torch import save

from persona_vectors.errors import UserError
from persona_vectors.sharing.control_vectors import save_control_vector
from persona_vectors.sharing.formats import About, save_both
from persona_vectors.sharing.reading import load_vectors

ROOT = Path(__file__).resolve().parents[3]
VECTORS = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
ABOUT = About(model="tiny", architecture="qwen2", trait="evil", kind="response_avg_diff")


def as_pt(content) -> bytes:
    made = io.BytesIO()
    torch.save(content, made)
    return made.getvalue()


def test_every_format_gives_the_same_numbers(tmp_path):
    paths = [*save_both(VECTORS, tmp_path, ABOUT), tmp_path / "evil.gguf", f"{tmp_path / 'all.pt'}:evil"]
    save_control_vector(VECTORS, paths[2], ABOUT)
    (tmp_path / "all.pt").write_bytes(as_pt({"evil": VECTORS, "kind": -VECTORS}))
    for path in paths:
        found = load_vectors(path)
        assert torch.equal(found, VECTORS) and found.dtype == torch.float32, path


def test_a_control_vector_of_another_program(tmp_path):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(str(tmp_path / "v.gguf"), "controlvector")
    writer.add_tensor("direction.2", VECTORS[3].numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = load_vectors(tmp_path / "v.gguf", rows=5)
    assert torch.equal(found[3], VECTORS[3]) and not found[[0, 1, 2, 4]].any()
    with pytest.raises(UserError, match=r"does not say how many layers .* rows=layers \+ 1"):
        load_vectors(tmp_path / "v.gguf")
    with pytest.raises(UserError, match="leave ':x' out"):
        load_vectors(f"{tmp_path / 'v.gguf'}:x")


def test_what_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("folder/a.pt").write_bytes(as_pt(VECTORS))
    for path, words in {
        "folder": "is a folder: name a file in it .it has a.pt",
        "no/such.pt": "no vector file at no/such.pt",
        "no/such.safetensors": "no vector file at",
        "no/such.gguf": "no file at no/such.gguf",
        "nothing": "no vector file at nothing",
        "a/b/c": "no vector file at a/b/c",
    }.items():
        with pytest.raises(UserError, match=words):
            load_vectors(path)


ONE = {
    "README.md": b"x",
    "evil_response_avg_diff.pt": as_pt(VECTORS),
    "evil_response_avg_diff.safetensors": b"not read",
}
TWO = {
    "evil_response_avg_diff.safetensors": save({"vectors": VECTORS}),
    "kind_response_avg_diff.pt": as_pt(-VECTORS),
    "all.pt": as_pt({"evil": VECTORS}),
}


def from_hub(path, files, folder, **changes):
    """``load_vectors`` in a process that knows the hub on loopback alone; its norm or its refusal, and what was fetched."""
    code = (
        "import sys; from persona_vectors.errors import UserError; from persona_vectors.sharing.reading import load_vectors\n"
        "try: print(load_vectors(sys.argv[1]).sum().item())\n"
        "except UserError as error: print('refused:', error)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    with HubServer(files, model="lab/vectors") as hub:
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder), "NO_PROXY": "127.0.0.1", **changes}
        command = [sys.executable, "-c", code, path]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert not done.returncode, done.stderr
        return done.stdout.strip(), [name for name, _ in hub.gets]


@pytest.mark.parametrize(
    ("files", "path", "sign", "fetched"),
    [
        (ONE, "lab/vectors", 1, "evil_response_avg_diff.pt"),
        (ONE, "lab/vectors:evil_response_avg_diff", 1, "evil_response_avg_diff.pt"),
        (TWO, "lab/vectors:evil_response_avg_diff.safetensors", 1, "evil_response_avg_diff.safetensors"),
        (TWO, "lab/vectors:kind_response_avg_diff", -1, "kind_response_avg_diff.pt"),
        (TWO, "lab/vectors:all.pt:evil", 1, "all.pt"),
    ],
)
def test_from_the_hub(files, path, sign, fetched, tmp_path):
    found, gets = from_hub(path, files, tmp_path)
    assert float(found) == pytest.approx(sign * VECTORS.sum().item(), abs=1e-5) and gets == [fetched]
    if path.endswith((".pt", ".safetensors")):  # a whole name is found again without the hub
        again, gets = from_hub(path, files, tmp_path, HF_HUB_OFFLINE="1")
        assert again == found and not gets


@pytest.mark.parametrize(
    ("files", "path", "words"),
    [
        (TWO, "lab/vectors", "holds 3 vectors: say which, as lab/vectors:"),
        (
            TWO,
            "lab/vectors:evil_response_avg.pt",
            "has no vector file 'evil_response_avg.pt' (did you mean evil_response_avg_diff",
        ),
        (TWO, "lab/vectors:happy", "has no vector file 'happy'"),
        ({"README.md": b""}, "lab/vectors", "holds no vector file"),
        (TWO, "lab/other", "no file at lab/other, and as a repository on the hub: http"),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(files, path, words, tmp_path):
    found, gets = from_hub(path, files, tmp_path)
    assert found.startswith("refused:") and words in found and "\n" not in found and not gets
