"""share_vectors as a user runs it: formats there and back bit by bit, and a hub on loopback with the real client."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import tiny_model
from safetensors.torch import load_file
from upload_hub import UploadHub

import share_vectors
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.sharing import card, control_vectors, formats
from persona_vectors.vectors.storage import fingerprint

ROOT = Path(__file__).resolve().parents[3]
DRAW = torch.Generator().manual_seed(0)
ROWS = torch.randn(5, 32, generator=DRAW)  # of a model of 4 blocks, 32 wide
ROWS[3, :4] = torch.tensor([1e-45, -0.0, 3.4e38, 0.1])  # subnormal, signed zero, large: nothing may round
ABOUT = formats.About(
    model="lab/tiny", revision="0" * 40, architecture="qwen2", trait="evil", kind="response_avg_diff", threshold="50",
    effective_pairs="71", pairs="100", dtype="bfloat16",
)  # fmt: skip


def bits(tensor):
    return tensor.contiguous().view(torch.int32)


def share(*arguments, folder, **environment):
    """Run share_vectors.py; returns the finished process."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | {"PYTHONPATH": str(ROOT)}
    env |= environment or {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(ROOT / "share_vectors.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)


def test_safetensors_hold_every_bit_and_what_is_known(tmp_path):
    pt, safe = formats.save_both(ROWS, tmp_path, ABOUT)
    assert torch.equal(bits(load_file(safe)["vectors"]), bits(ROWS))
    assert torch.equal(bits(torch.load(pt, weights_only=True)), bits(ROWS))
    for path in (pt, safe):
        vectors, about = formats.read_shared(path)
        assert torch.equal(bits(vectors), bits(ROWS)) and about == ABOUT
    torch.save(ROWS + 1, pt)  # another tool makes the .pt anew: what lies beside it speaks of something else
    assert formats.read_shared(pt)[1] is None
    assert formats.vector_files(tmp_path) == [pt]


def test_two_processes_write_the_same_bytes(tmp_path):
    code = (
        "import sys, torch; from persona_vectors.sharing.formats import About, save_shared; "
        "save_shared(torch.ones(3, 4), sys.argv[1], About(trait='vile', kind='response_avg_diff', threshold='50'))"
    )
    files = [tmp_path / f"{k}.safetensors" for k in range(3)]
    for file in files:
        subprocess.run([sys.executable, "-c", code, str(file)], check=True, cwd=ROOT)
    assert len({file.read_bytes() for file in files}) == 1
    tensor, about = formats.read_shared(files[0])
    assert torch.equal(tensor, torch.ones(3, 4)) and (about.trait, about.threshold) == ("vile", "50")


def test_metadata_from_others_cannot_name_files(tmp_path):
    from safetensors.torch import save_file

    for change, message in (({"trait": "../../evil"}, "trait's name"), ({"kind": "../x"}, "kind")):
        save_file({"vectors": ROWS}, tmp_path / "x.safetensors", metadata={"trait": "a", "kind": "b"} | change)
        with pytest.raises(UserError, match=message):
            formats.read_about(tmp_path / "x.safetensors")


def parse_gguf(path):
    """An independent reader of what matters: {key: scalar or string}, {tensor: floats}."""
    data, at = Path(path).read_bytes(), 0

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values[0]

    def text():
        nonlocal at
        length = take("Q")
        at += length
        return data[at - length : at].decode()

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            inner, count = take("I"), take("Q")
            return [value(inner) for _ in range(count)]
        return take({4: "I", 5: "i", 6: "f", 10: "Q"}[kind])

    assert take("I") == 0x46554747 and take("I") == 3
    tensors, pairs = take("Q"), take("Q")
    values = {text(): value(take("I")) for _ in range(pairs)}
    infos = []
    for _ in range(tensors):
        name, dimensions = text(), take("I")
        infos.append((name, [take("Q") for _ in range(dimensions)], take("I"), take("Q")))
    start = -(-at // 32) * 32
    found = {}
    for name, shape, kind, offset in infos:
        assert kind == 0 and len(shape) == 1  # what llama.cpp demands: float32, one dimension
        found[name] = torch.frombuffer(bytearray(data[start + offset :][: 4 * shape[0]]), dtype=torch.float32)
    return values, found


def test_gguf_is_what_llama_cpp_reads_and_comes_back_bit_by_bit(tmp_path):
    path = tmp_path / "evil.gguf"
    control_vectors.save_control_vector(ROWS, path, ABOUT)
    values, tensors = parse_gguf(path)
    assert values["general.architecture"] == "controlvector"
    assert values["controlvector.model_hint"] == "qwen2" and values["controlvector.layer_count"] == 3
    assert sorted(tensors) == ["direction.1", "direction.2", "direction.3"]  # added behind blocks 1, 2, 3 from 0
    for block in (1, 2, 3):
        assert torch.equal(bits(tensors[f"direction.{block}"]), bits(ROWS[block + 1]))
    vectors, about, layers = control_vectors.read_control_vector(path)
    assert torch.equal(bits(vectors), bits(ROWS)) and about == ABOUT and layers == [2, 3, 4]


def test_gguf_of_one_layer_and_of_other_programs(tmp_path):
    from gguf import GGUFWriter

    control_vectors.save_control_vector(ROWS, tmp_path / "one.gguf", ABOUT, layer=2)
    assert list(parse_gguf(tmp_path / "one.gguf")[1]) == ["direction.1"]
    vectors, _, layers = control_vectors.read_control_vector(tmp_path / "one.gguf")
    assert layers == [2] and torch.equal(vectors[2], ROWS[2]) and vectors.count_nonzero() == ROWS[2].count_nonzero()
    with pytest.raises(UserError, match="not the first block"):
        control_vectors.save_control_vector(ROWS, tmp_path / "no.gguf", ABOUT, layer=1)

    def foreign(name, arch="controlvector", tensors=None):
        writer = GGUFWriter(str(tmp_path / name), arch)
        for key, tensor in (tensors or {"direction.3": ROWS[4].numpy()}).items():
            writer.add_tensor(key, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return tmp_path / name

    path = foreign("other.gguf")
    vectors, about, layers = control_vectors.read_control_vector(path, rows=5)
    assert about is None and layers == [4] and torch.equal(vectors[4], ROWS[4])
    with pytest.raises(UserError, match="--model_name"):
        control_vectors.read_control_vector(path)
    with pytest.raises(UserError, match=r"direction\.3"):
        control_vectors.read_control_vector(path, rows=4)
    with pytest.raises(UserError, match="no control vector"):
        control_vectors.read_control_vector(foreign("model.gguf", "llama"), rows=5)
    with pytest.raises(UserError, match=r"direction\.0"):
        control_vectors.read_control_vector(foreign("zero.gguf", tensors={"direction.0": ROWS[0].numpy()}), rows=5)
    (tmp_path / "torn.gguf").write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match="not a readable GGUF"):
        control_vectors.read_control_vector(tmp_path / "torn.gguf", rows=5)


def test_from_a_published_pt_file_to_gguf_and_back(tmp_path, monkeypatch, capsys):
    """What a user of the published toolkit has: a .pt file in half precision, and a model."""
    monkeypatch.chdir(tmp_path)
    tiny_model("qwen2").save_pretrained("tiny")
    torch.save(ROWS.half().clamp(-60000, 60000), "evil_response_avg_diff.pt")
    share_vectors.import_("evil_response_avg_diff.pt", "v", model_name="tiny")
    vectors, about = formats.read_shared("v/evil_response_avg_diff.safetensors")
    assert (about.model, about.trait, about.architecture) == ("tiny", "evil", "qwen2") and "not known" in about.method
    share_vectors.export("v", "g")
    assert "--control-vector-layer-range" in capsys.readouterr().out
    share_vectors.import_("g/evil_response_avg_diff.gguf", "back")
    back, about_back = formats.read_shared("back/evil_response_avg_diff.pt")
    assert torch.equal(bits(back), bits(vectors)) and about_back == about
    torch.save(torch.ones(9, 32), "rude_response_avg_diff.pt")
    with pytest.raises(UserError, match="9 rows"):
        share_vectors.import_("rude_response_avg_diff.pt", "v", model_name="tiny")
    with pytest.raises(UserError, match="--model_name"):
        share_vectors.export("rude_response_avg_diff.pt", "g")
    with pytest.raises(UserError, match="<trait>_<kind>"):
        torch.save(ROWS, "evil.pt")
        share_vectors.import_("evil.pt", "v")


def test_push_and_pull(tmp_path):
    folder, results = tmp_path / "vectors" / "tiny", tmp_path / "eval_persona_eval" / "tiny"
    formats.save_both(ROWS, folder, ABOUT)
    results.mkdir(parents=True)
    best = {"trait": "evil", "layer": 3, "coef": 1.5, "trait_score": 75.0, "coherence": 78.6, "unsteered": 7.9}
    (results / "evil_steering_layer1,2_coef0,1_best.json").write_text(json.dumps(best))
    (results / "evil_steering_layer1,2_coef0,1_curves.png").write_bytes(b"\x89PNG curves")
    flags = ("push", "--vectors", "vectors/tiny", "--repo_id", "lab/evil")
    with UploadHub() as hub:
        account = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        done = share(*flags, "--dry_run", folder=tmp_path, **account)
        assert done.returncode == 0 and not hub.repos and "README.md" in done.stdout, done.stderr
        done = share(*flags, folder=tmp_path, **account, HF_TOKEN="wrong")
        assert done.returncode == 2 and "HF_TOKEN" in done.stderr and "Traceback" not in done.stderr
        done = share(*flags, folder=tmp_path, **account, HF_TOKEN="hf_test")
        assert done.returncode == 0, done.stderr
        sent = hub.repos["lab/evil"]
        assert sent["figures/evil_curves.png"] == b"\x89PNG curves" and len(hub.stored) == 3
        assert sent["README.md"].decode() == (folder / "README.md").read_text()
        done = share("pull", "--repo_id", "lab/evil", "--save_dir", "got", folder=tmp_path, **account)
        assert done.returncode == 0, done.stderr
        vectors, about = formats.read_shared(tmp_path / "got" / "evil_response_avg_diff.pt")
        assert torch.equal(bits(vectors), bits(ROWS)) and about == ABOUT
        assert sorted(path.name for path in (tmp_path / "got").iterdir()) == [
            "evil_response_avg_diff.pt", "evil_response_avg_diff.safetensors",
        ]  # fmt: skip
        done = share("puhs", folder=tmp_path)
        assert done.returncode == 2 and "did you mean push" in done.stderr
        done = share("pull", "--repo_id", "lab/none", "--save_dir", "got", folder=tmp_path, **account)
        assert done.returncode == 2 and "lab/none" in done.stderr


def test_the_card_is_one_that_the_hub_reads():
    from huggingface_hub import ModelCard

    best = {"trait": "evil", "layer": 3, "coef": 1.5, "trait_score": 75.0, "coherence": 78.6, "unsteered": 7.9}
    sweep = card.Sweep(best, [Path("evil_steering_layer3_coef1_heatmap.png")])
    made = ModelCard(str(card.make_card("lab/evil", [(ABOUT, ROWS)], {"evil": sweep, "rude": sweep})))
    assert made.data.base_model == "lab/tiny" and "steering" in made.data.tags
    assert "| evil | 3 | 1.5 | 7.9 | 75.0 | 78.6 |" in made.text and "71 of 100" in made.text
    assert "![Steering with evil](figures/evil_heatmap.png)" in made.text and "rude" not in made.text
    assert "None" not in made.text


def test_a_sweep_of_another_vector_is_not_on_the_card(tmp_path):
    """Also where it is the newer one: what it steered with is in its record."""
    of = lambda rows: fingerprint("evil_response_avg_diff.pt", rows)  # noqa: E731
    for name, rows in (("ours", ROWS), ("other", ROWS + 1), ("none", None)):
        path = tmp_path / f"{name}_best.json"
        with provenance.writing(path, None if rows is None else provenance.record(vector=of(rows))):
            path.write_text(json.dumps({"trait": "evil", "layer": 3, "name": name}))
        os.utime(path, (len(name), len(name)))
    said, shared = [], {"evil": [of(ROWS.clone()), of(ROWS + 2)]}
    os.utime(tmp_path / "none_best.json", (1, 1))
    assert card.find_sweeps(tmp_path, shared, said.append)["evil"].best["name"] == "ours"
    assert len(said) == 1 and "other_best.json is left out: it is the sweep of another vector of evil" in said[0]
