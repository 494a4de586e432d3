"""GGUF files as models: what they are called, where they are converted to, and that this happens once, whole or not at all."""

import ctypes
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from gguf_files import write_gguf
from helpers import tiny_model
from hub_server import HubServer

from persona_vectors import models
from persona_vectors.errors import UserError
from persona_vectors.files import atomic
from persona_vectors.models import gguf_conversion
from persona_vectors.sharing.formats import About, about_model, save_both
from persona_vectors.steering.vector_folder import NamedVectors

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def written(tmp_path_factory, tokenizer):
    """Two files of the same size with other weights."""
    folder = tmp_path_factory.mktemp("gguf")
    return [write_gguf(folder / f"{seed}.gguf", tiny_model("llama", seed), tokenizer) for seed in (0, 1)]


@pytest.fixture
def file(tmp_path, written):
    return Path(shutil.copy(written[0], tmp_path / "Tiny-1B.Q8_0.gguf"))


@pytest.fixture(autouse=True)
def forgotten(monkeypatch, tmp_path):
    """As in a process that has not looked a file up yet; the user's cache folder is the test's."""
    gguf_conversion._folder_of.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def convert(file, *, again=True) -> Path:
    if again:
        gguf_conversion._folder_of.cache_clear()
    return Path(models.resolve(str(file)).base)


def times(folder: Path) -> dict:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_names(file, tmp_path):
    for name in (str(file), "owner/name:Tiny-1B.Q8_0.gguf", "owner/name:sub/Tiny-1B.Q8_0.gguf"):
        path = models.resolve(name)
        assert (path.source, path.basename, path.adapter) == (name, "Tiny-1B.Q8_0", None)
    folder = models.resolve(str(tmp_path))
    assert folder.source == str(file) and folder.basename == tmp_path.name
    assert not list(tmp_path.glob("*.transformers")), "a model that nobody has asked for was converted"
    shutil.copy(file, tmp_path / "other.gguf")
    with pytest.raises(UserError, match=r"holds 2 GGUF files; name one: Tiny-1B.Q8_0.gguf, other.gguf"):
        models.resolve(str(tmp_path))
    for bad in ("nowhere.gguf", "models/x.gguf", "a/b.gguf", "owner/name:../x.gguf", "owner/name:.gguf", "name:x.gguf"):
        with pytest.raises(
            UserError, match=f"no file at {bad}; one on the Hugging Face hub is written owner/name:file"
        ):
            models.resolve(bad)


def test_shell_and_python_call_a_model_the_same(file, tmp_path):
    (tmp_path / "m.gguf").mkdir()
    names = [str(file), str(tmp_path / "m.gguf"), "owner/name:sub/x.Q4.gguf", "owner/name", "models/toy/", "./a:b.gguf"]
    names += ["models/X.GGUF", "x.Q4.gguf/"]
    asked = f"source scripts/pipeline.sh; cd {tmp_path}; for name in {' '.join(names)}; do name_of $name; done"
    done = subprocess.run(["bash", "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [models.basename(name) for name in names]
    assert done.stdout.split() == ["Tiny-1B.Q8_0", "m.gguf", "x.Q4", "name", "toy", "b", "X", "x.Q4"]


def test_an_ending_in_capitals_and_a_slash_behind_it(file, tmp_path):
    (tmp_path / "m").mkdir()
    file = file.rename(tmp_path / "m" / "X.GGUF")
    for name in (str(file), f"{file}/", str(tmp_path / "m")):
        assert Path(models.resolve(name).base) == tmp_path / "m" / "X.transformers"
    assert models.basename(f"{file}/") == "X"


def test_a_config_beside_a_file_is_no_model_without_weights(file, tmp_path, qwen2_folder):
    """Repositories of GGUF files have one; where weights lie beside it, they are the model."""
    shutil.copy(qwen2_folder / "config.json", tmp_path)
    assert models.resolve(str(tmp_path)).source == str(file)
    shutil.copy(qwen2_folder / "model.safetensors", tmp_path)
    assert models.resolve(str(tmp_path)).source == str(tmp_path)
    file.unlink()
    (tmp_path / "model.safetensors").unlink()
    assert models.resolve(str(tmp_path)).source == str(tmp_path)  # without either it is a broken folder


def test_files_in_parts_are_refused_as_such(file, tmp_path, tokenizer):
    """The second part says nothing of a model; one of the hub is not even fetched."""
    (tmp_path / "parts").mkdir()
    first, second = (tmp_path / "parts" / f"big-0000{k}-of-00002.gguf" for k in (1, 2))
    write_gguf(first, tiny_model("llama"), tokenizer, split__count=2)
    shutil.copy(first, second)
    names = [str(first), str(second), str(first.parent), "owner/name:big-00001-of-00002.gguf"]
    for name in names:
        with pytest.raises(UserError, match=r"big-0000\d-of-00002.gguf is one of 2 parts; join them first"):
            assert models.resolve(name).base
    first.unlink()
    with pytest.raises(UserError, match="big-00002-of-00002.gguf is one of 2 parts"):
        models.resolve(str(first.parent))
    whole = file.rename(tmp_path / "whole-00001-of-00001.gguf")
    assert convert(whole).name == "whole-00001-of-00001.transformers"


def test_a_file_that_is_no_model_is_called_a_file(qwen2_folder):
    with pytest.raises(UserError, match=r"model.safetensors is a file: a model is a folder \(.*tiny-qwen2\?\)"):
        models.resolve(str(qwen2_folder / "model.safetensors"))


def test_vectors_of_a_file_know_it_by_its_name(file, tmp_path):
    """They are shared under the file's name; the model that they belong to is not taken for a stranger."""
    told = about_model(models.resolve(str(file)), tiny_model("llama").config, "float32")
    save_both(torch.ones(5, 32), tmp_path, About(trait="evil", kind="response_avg_diff", **told))
    named = NamedVectors(str(tmp_path), "response_avg_diff", 4, 32)
    assert told["model"] == "Tiny-1B.Q8_0" and not named.other_models(str(file))
    assert "another model: evil of Tiny-1B.Q8_0" in named.other_models("owner/name:Tiny-1B.Q4_0.gguf")


def test_an_adapter_over_a_file_or_over_its_folder(file, tmp_path):
    from peft import LoraConfig, get_peft_model

    base = models.load_model(models.resolve(str(file)), "float32")
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tmp_path / "Tiny-1B.Q8_0.transformers")
    ids = torch.tensor([[5, 9, 20]])
    for base in (config["base_model_name_or_path"], str(file)):
        (tmp_path / "adapter" / "adapter_config.json").write_text(
            json.dumps({**config, "base_model_name_or_path": base})
        )
        loaded = models.load_model(models.resolve(str(tmp_path / "adapter")), "float32")
        with torch.no_grad():
            assert torch.equal(loaded(ids).logits, adapted(ids).logits)


def test_a_folder_with_a_model_of_its_own_is_that_model(file, tmp_path, qwen2_folder):
    shutil.copytree(qwen2_folder, tmp_path / "m.gguf")
    shutil.copy(file, tmp_path / "m.gguf" / "x.gguf")
    path = models.resolve(str(tmp_path / "m.gguf"))
    assert path.base == path.source == str(tmp_path / "m.gguf") and path.basename == "m.gguf"


def test_converted_once_and_recorded(file, tmp_path):
    folder = convert(file)
    assert folder == tmp_path / "Tiny-1B.Q8_0.transformers"
    record = json.loads((folder / "gguf.provenance.json").read_text())
    assert record["sha256"] == gguf_conversion.sha256(file) and record["quantisation"] == {"F32": 39}
    assert record["dtype"] == "float32" and set(record["libraries"]) == {"transformers", "gguf"}
    assert set(record["files"]) | {"gguf.provenance.json"} == set(times(folder))
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name, folder.name]
    before = times(folder)
    assert convert(file) == folder and times(folder) == before
    shutil.copytree(folder, tmp_path / "moved" / folder.name)  # a record goes where its folder goes
    shutil.copy(file, tmp_path / "moved" / file.name)
    assert gguf_conversion.is_conversion(convert(tmp_path / "moved" / file.name), record["sha256"])
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]


def other_weights(file, folder, written):
    stat = file.stat()
    shutil.copy(written[1], file)  # of the same size, and with the times of the first
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def other_library(file, folder, written):
    record = json.loads((folder / "gguf.provenance.json").read_text())
    record["libraries"]["transformers"] = "5.0.0"
    (folder / "gguf.provenance.json").write_text(json.dumps(record))


CHANGES = {
    "other weights": other_weights,
    "another version": other_library,
    "a record that is none": lambda file, folder, _: (folder / "gguf.provenance.json").write_text("[]"),
    "weights cut off": lambda file, folder, _: os.truncate(folder / "model.safetensors", 1000),
    "tokenizer lost": lambda file, folder, _: (folder / "tokenizer.json").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_match_its_record_is_converted_anew(change, file, written, capfd):
    folder = convert(file)
    weights = (folder / "model.safetensors").read_bytes()
    CHANGES[change](file, folder, written)
    capfd.readouterr()
    assert convert(file) == folder and "wrote" in capfd.readouterr().err
    assert gguf_conversion.is_conversion(folder, gguf_conversion.sha256(file))
    assert ((folder / "model.safetensors").read_bytes() == weights) == (change != "other weights")


def test_a_folder_that_is_no_conversion_is_left_alone(file, tmp_path):
    (tmp_path / "Tiny-1B.Q8_0.transformers").mkdir()
    (tmp_path / "Tiny-1B.Q8_0.transformers" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else; move it away"):
        convert(file)
    assert (tmp_path / "Tiny-1B.Q8_0.transformers" / "mine.txt").read_text() == "mine"


def test_large_models_are_written_in_bfloat16(file, monkeypatch):
    monkeypatch.setattr(gguf_conversion, "LARGE", 50_000)
    record = json.loads((convert(file) / "gguf.provenance.json").read_text())
    assert record["dtype"] == "bfloat16" and record["files"]["model.safetensors"] < 2.2 * 56_352


def test_without_room_nothing_is_begun(file, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 100_000))
    with pytest.raises(UserError, match=r"Tiny-1B.Q8_0.gguf takes 0.0 GB as float32, and 0.0 GB are free"):
        convert(file)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def forked(work, *arguments):
    process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    process.start()
    return process


def die_at(place, file):
    module, name = place
    real = getattr(module, name)

    def kill(*given, **named):
        if name != "replace" or str(given[1]).endswith(".transformers"):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **named)

    setattr(module, name, kill)
    convert(file)


PLACES = {
    "before the first byte": (gguf_conversion.shutil, "disk_usage"),
    "with the weights written": (gguf_conversion, "write_json"),
    "with all written": (atomic.os, "replace"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_conversion_leaves_nothing_that_is_taken_for_a_model(place, file, tmp_path):
    process = forked(die_at, PLACES[place], file)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    left = [path for path in tmp_path.iterdir() if path != file]
    assert left and all(path.name.startswith(".") for path in left)
    assert models.resolve(str(tmp_path)).source == str(file)
    assert gguf_conversion.is_conversion(convert(file), gguf_conversion.sha256(file))
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name, "Tiny-1B.Q8_0.transformers"]


def slowly(file, seconds):
    real = gguf_conversion.convert

    def convert_slowly(*given):
        time.sleep(seconds)
        return real(*given)

    gguf_conversion.convert = convert_slowly
    assert gguf_conversion.is_conversion(convert(file), gguf_conversion.sha256(file))


def test_two_at_once_convert_once(file, capfd, tmp_path):
    first = forked(slowly, file, 1.0)
    while not list(tmp_path.glob(".*.part")):
        time.sleep(0.01)
    second = forked(slowly, file, 0.0)
    first.join(60), second.join(60)
    assert (first.exitcode, second.exitcode) == (0, 0)
    said = capfd.readouterr().err
    assert said.count("converting Tiny-1B.Q8_0.gguf (F32)") == said.count("wrote") == 1
    assert said.count("another run is converting Tiny-1B.Q8_0.gguf; waiting for it") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name, "Tiny-1B.Q8_0.transformers"]


def base_of(name, **environment):
    """(exit code, base, last line of stderr) of a process that asks for a model's base as the stages do."""
    asked = (
        f"from persona_vectors import cli, models\ndef main():\n    print(models.resolve({name!r}).base)\ncli.run(main)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | environment
    command = [sys.executable, "-c", asked]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.strip().splitlines()[-1:], done.stderr.strip().splitlines()[-1:]


def test_a_file_of_the_hub_is_fetched_and_converted_into_the_cache(file, tmp_path):
    files = {"sub/tiny.gguf": file.read_bytes(), "README.md": b"hello"}
    settings = {"HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1"}
    with HubServer(files) as hub:
        settings["HF_ENDPOINT"] = hub.url
        code, (base,), _ = base_of("lab/tiny:sub/tiny.gguf", **settings)
        digest = gguf_conversion.sha256(file)
        assert code == 0 and Path(base) == tmp_path / "cache/persona_vectors/gguf" / digest[:16] / "tiny.transformers"
        assert gguf_conversion.is_conversion(Path(base), digest)
        code, _, (line,) = base_of("lab/tiny:other.gguf", **settings)
        page = f"{hub.url}/lab/tiny/tree/main"
        assert code == 2 and line == f"error: lab/tiny has no file other.gguf; {page} lists its files"
        code, _, (line,) = base_of("lab/none:tiny.gguf", **settings)
        assert code == 2 and "has no model lab/none" in line
    code, (again,), _ = base_of("lab/tiny:sub/tiny.gguf", **settings, HF_HUB_OFFLINE="1")
    assert code == 0 and again == base
    code, _, (line,) = base_of("lab/tiny:other.gguf", **settings, HF_HUB_OFFLINE="1")
    assert code == 2 and "HF_HUB_OFFLINE is set" in line


def with_little_disk(file):
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # less than the weights take
    with pytest.raises(UserError, match=rf"cannot write {file.parent}/Tiny-1B.Q8_0.transformers: .*\S"):
        convert(file)


def test_a_disk_that_is_full_is_one_line(file, tmp_path):
    process = forked(with_little_disk, file)
    process.join(60)
    assert process.exitcode == 0 and [path.name for path in tmp_path.iterdir()] == [file.name]


NEW_MOUNTS = 0x20000


def may_mount() -> bool:
    tried = ["unshare", "-m", "mount", "-t", "tmpfs", "x", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(tried, capture_output=True).returncode == 0


def from_read_only_folder(file, place):
    folder = str(file.parent)
    if os.geteuid() == 0:  # permissions do not hold root up
        assert ctypes.CDLL(None).unshare(NEW_MOUNTS) == 0
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
    else:
        file.parent.chmod(0o555)
    assert convert(file) == place


@pytest.mark.skipif(os.geteuid() == 0 and not may_mount(), reason="needs the right to mount, or not to be root")
def test_beside_a_file_that_cannot_be_written_the_cache_is_used(file, tmp_path, capfd):
    (tmp_path / "shared").mkdir()
    file = file.rename(tmp_path / "shared" / file.name)
    place = tmp_path / "cache/persona_vectors/gguf" / gguf_conversion.sha256(file)[:16] / "Tiny-1B.Q8_0.transformers"
    for wrote in (1, 0):
        process = forked(from_read_only_folder, file, place)
        process.join(60)
        assert process.exitcode == 0 and capfd.readouterr().err.count("wrote") == wrote
    assert [path.name for path in (tmp_path / "shared").iterdir()] == [file.name]
    file.parent.chmod(0o755)
