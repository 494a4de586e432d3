"""Vector files with several tensors: ``file.pt:key`` is one of them wherever a vector file is read."""

import importlib
import pickle
import subprocess
from pathlib import Path

import numpy
import pandas
import pytest
import torch
from safetensors.torch import save_file

from persona_vectors.errors import UserError
from persona_vectors.sharing.formats import read_shared
from persona_vectors.steering.sweep import Cell, Grid
from persona_vectors.vectors.storage import (
    check_vector_folder,
    digest,
    load_vectors,
    save_vectors,
    short_names,
    split_key,
    vector_name,
)

ROOT = Path(__file__).resolve().parents[3]
torch.manual_seed(3)
EVIL, KIND = torch.randn(5, 32), torch.randn(5, 32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"evil": EVIL, "kind": KIND.half(), "layers": 4, "note": "mine", "one": torch.randn(32)}, "all.pt")
    torch.save({"evil": {"response_avg_diff": EVIL, 20: KIND}, "a:b": KIND}, "deep.pt")
    save_file({"evil": EVIL, "kind": KIND}, "all.safetensors")
    save_file({"vectors": EVIL}, "single.safetensors")
    save_vectors(EVIL, "plain.pt")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "expected", "name"),
    [
        ("all.pt:evil", EVIL, "evil"),
        ("all.pt:kind", KIND.half().float(), "kind"),
        ("all.safetensors:kind", KIND, "kind"),
        ("deep.pt:evil:response_avg_diff", EVIL, "evil_response_avg_diff"),
        ("deep.pt:evil:20", KIND, "evil_20"),
        ("deep.pt:a:b", KIND, "a_b"),
        ("single.safetensors", EVIL, "single"),
        ("single.safetensors:vectors", EVIL, "vectors"),
        ("plain.pt", EVIL, "plain"),
    ],
)
def test_a_key_chooses_the_tensor(folder, path, expected, name):
    for given in (path, folder / path):
        found = load_vectors(given)
        assert torch.equal(found, expected) and found.dtype == torch.float32 and vector_name(given) == name


def test_a_colon_in_a_files_own_name(folder):
    """The whole name wins; what comes after the longest name of a file is the key."""
    save_vectors(KIND, "all.pt:evil")
    save_vectors(EVIL, "2025-01-01T10:30.pt")
    torch.save({"x": KIND}, "run:7.pt")
    assert torch.equal(load_vectors("all.pt:evil"), KIND) and vector_name("all.pt:evil") == "all"
    assert (
        torch.equal(load_vectors("2025-01-01T10:30.pt"), EVIL)
        and vector_name("2025-01-01T10:30.pt") == "2025-01-01T10:30"
    )
    assert torch.equal(load_vectors("run:7.pt:x"), KIND) and split_key("run:7.pt:x")[1] == "x"


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        ("all.pt", "all.pt must hold one float tensor [layers + 1, hidden_size]; it holds a dict: say which as all.pt:evil "
         "(it has evil, kind)"),
        ("all.safetensors", "it holds a dict: say which as all.safetensors:evil (it has evil, kind)"),
        ("deep.pt", "say which as deep.pt:evil:response_avg_diff (it has evil:response_avg_diff, evil:20, a:b)"),
        ("deep.pt:evil", "say which as deep.pt:evil:response_avg_diff (it has response_avg_diff, 20)"),
        ("all.pt:evli", "all.pt has no key 'evli' (did you mean evil?): it has evil, kind, layers, note, one"),
        ("all.pt:", "all.pt must hold one float tensor"),
        ("all.pt:layers", "[layers + 1, hidden_size], not something of type int"),
        ("all.pt:one", "[layers + 1, hidden_size], not a tensor [32] of float32, one layer's vector"),
        ("plain.pt:evil", "plain.pt holds no dict of tensors: leave ':evil' out"),
        ("single.safetensors:evil", "single.safetensors has no key 'evil': it has vectors"),
        ("absent.pt:evil", "no vector file at absent.pt:evil"),
        ("by_layer.pt", "not one vector per layer (it has 0, 1, 2, 3, 4): stack them, row l for the output of block l"),
        ("by_name.pt", "not one vector per layer (it has layer_1, layer_2): stack them"),
        ("rows.pt", "not one vector per layer (it has 16, 20): stack them"),
        ("list.pt", "not one vector per layer (it has 0, 1, 2, 3, 4): stack them"),
        ("numbers.pt", "not something of type list"),
        ("meta.pt", "not a dict without such a tensor (it has layer, vector)"),
        ("ints.pt", "not a tensor [5, 32] of int64"),
        ("batch.pt", "not a tensor [2, 5, 32] of float32"),
        ("sparse.pt", "not a sparse tensor (.to_dense() makes it a plain one)"),
        ("without_values.pt", "not a tensor without values"),
        ("numpy.pt", "it holds more than tensors, and files are not allowed to run code here; where you trust it, open it by its own program"),
        ("pickled.pt", "it holds more than tensors"),
        ("v.npy", "it is NumPy's; save it as torch.save(torch.from_numpy(array), 'vector.pt')"),
        ("nan.pt:x", "nan.pt:x holds NaN or infinity"),
        ("itself.pt", "must hold one float tensor"),
    ],
)  # fmt: skip
def test_refusals_say_what_there_is_and_what_to_write(folder, path, refusal):
    contents = {
        "by_layer": dict(enumerate(EVIL)), "by_name": {"layer_1": EVIL[0], "layer_2": EVIL[1]}, "list": list(EVIL),
        "rows": {16: EVIL[:1], 20: EVIL[1:2]}, "numbers": [1, 2], "meta": {"layer": 20, "vector": EVIL[0]},
        "sparse": EVIL.to_sparse(), "without_values": EVIL.to("meta"), "numpy": EVIL.numpy(),
        "ints": EVIL.long(), "batch": torch.stack([EVIL, KIND]), "nan": {"x": EVIL * torch.nan},
    }  # fmt: skip
    contents["itself"] = {}
    contents["itself"]["again"] = contents["itself"]
    for name, content in contents.items():
        torch.save(content, f"{name}.pt")
    Path("pickled.pt").write_bytes(pickle.dumps(EVIL, protocol=2))
    numpy.save("v.npy", EVIL.numpy())
    with pytest.raises(UserError) as caught:
        load_vectors(path)
    assert refusal in str(caught.value) and "\n" not in str(caught.value), caught.value


def test_keys_stand_for_traits_and_count_in_fingerprints(folder):
    grid = Grid.of([1.5], [3], "all.pt:{trait}")
    grid.load(["evil", "kind"])
    assert torch.equal(grid.interventions("evil", Cell(3, 1.5))[0].vector, EVIL[3])
    assert grid.settings("evil")["vector"] != grid.settings("kind")["vector"]
    assert digest("plain.pt") != digest("all.pt:evil") and digest("all.pt:evil") != digest("all.pt:kind")
    assert short_names(["all.pt:evil", "all.pt:kind", "plain.pt"]) == ["evil", "kind", "plain"]
    for name in ("a", "b"):
        (folder / name / "v").mkdir(parents=True)
        save_vectors(EVIL, f"{name}/v/evil.pt")
    same = ["a/v/evil.pt", "b/v/evil.pt"]
    assert short_names(same) == same  # their last folders are called alike as well


def test_shared_files(folder):
    assert read_shared("all.pt:evil")[1] is None  # all.safetensors beside it speaks for the whole file, not for a key
    assert torch.equal(read_shared(folder / "all.safetensors:kind")[0], KIND)


def test_stages_take_a_key(folder, run_stage, qwen2_folder):
    """cal_projection, vector_similarity: the same numbers as from files of their own."""
    torch.save({"evil": EVIL, "kind": KIND}, "both.pt")
    save_vectors(EVIL, "evil.pt")
    save_vectors(KIND, "kind.pt")
    table = pandas.DataFrame({"prompt": ["the model", "what is"], "answer": ["answers", "it"]})
    for kind, paths in (("keys", ["both.pt:evil", "both.pt:kind"]), ("files", ["evil.pt", "kind.pt"])):
        table.to_csv(f"{kind}.csv", index=False)
        done = run_stage("eval.cal_projection", "--file_path", f"{kind}.csv", "--model_name", qwen2_folder,
                         "--vector_path", *paths, "--layer", 2)  # fmt: skip
        assert done.returncode == 0, done.stderr
        done = run_stage("eval.vector_similarity", "--vector_path", *paths, "--layer", 2, "--output", f"{kind}_cosines")
        assert done.returncode == 0, done.stderr
    for end in ("", "_cosines"):
        assert (folder / f"keys{end}.csv").read_text() == (folder / f"files{end}.csv").read_text()
    assert list(pandas.read_csv("keys.csv"))[2:] == [f"tiny-qwen2_{name}_proj_layer2" for name in ("evil", "kind")]


def test_import_and_training_take_a_key(folder):
    import share_vectors
    from persona_vectors.training.config import SteeringConfig
    from persona_vectors.training.steering import interventions

    share_vectors.import_("all.pt:evil", str(folder / "got"), trait="evil")
    assert torch.equal(load_vectors(folder / "got" / "evil_response_avg_diff.pt"), EVIL)
    share_vectors.import_("deep.pt:evil:response_avg_diff", str(folder / "named"))  # named <trait>_<kind> by its keys
    assert torch.equal(load_vectors(folder / "named" / "evil_response_avg_diff.pt"), EVIL)

    class Shape:
        layers, hidden = 4, 32

    fields = {"steering_vector_path": ["all.pt:evil", "all.pt:kind"], "layers": [2], "steering_coef": 1.0}
    steering = SteeringConfig(**fields, type="steer")
    first, second = interventions(steering, Shape)
    assert torch.equal(first.vector, EVIL[2]) and torch.equal(second.vector, KIND.half().float()[2])
    recorded = steering.digests()
    assert len(set(recorded)) == 2
    swapped = {**fields, "steering_vector_path": ["all.pt:kind", "all.pt:evil"], "sha256": recorded}
    with pytest.raises(UserError, match="not the file that steering_config.sha256 was recorded from"):
        SteeringConfig(**swapped, type="steer").digests()
    with pytest.raises(UserError, match="no vector file at absent.pt:evil"):
        SteeringConfig(**{**fields, "steering_vector_path": "absent.pt:evil"}, type="steer").digests()


@pytest.fixture
def package(folder):
    """The package's folder as the toolkit has it: code, a package inside it, and the vectors of models beside that."""
    for name in ("persona_vectors", "persona_vectors/engines", "persona_vectors/engines/vllm", "eval"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").touch()
    (folder / "persona_vectors" / "Qwen2.5-7B-Instruct").mkdir()
    (folder / "link").symlink_to(folder / "persona_vectors" / "engines")
    return folder


@pytest.mark.parametrize(
    ("where", "instead"),
    [
        ("persona_vectors", "persona_vectors/<model>"),
        ("persona_vectors/", "persona_vectors/<model>"),
        ("persona_vectors/engines/", "persona_vectors/engines-vectors"),
        ("persona_vectors/engines/vllm", "persona_vectors/vllm-vectors"),
        ("persona_vectors/engines/toy", "persona_vectors/engines-vectors"),
        ("persona_vectors/toy/../engines", "persona_vectors/engines-vectors"),
        ("link", "persona_vectors/engines-vectors"),
        ("persona_vectors/Qwen2.5-7B-Instruct", None),
        ("persona_vectors/persona_vectors", None),
        ("persona_vectors/new/deep", None),
        ("engines", None),
        ("eval", None),  # a user's own packages are the user's business
        (".", None),
    ],
)
def test_no_vectors_among_the_code(package, where, instead):
    if instead is None:
        check_vector_folder(where)
        save_vectors(EVIL, package / where / "evil.pt")
        return
    with pytest.raises(UserError) as caught:
        check_vector_folder(where)
    assert (
        str(caught.value) == f"{where} is a folder of this toolkit's code; vectors need one of their own, as {instead}"
    )
    with pytest.raises(UserError, match="this toolkit's code"):
        save_vectors(EVIL, package / where / "evil.pt")
    assert not list(package.rglob("evil*"))


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("generate_vec", "--model_name none --pos_path no.csv --neg_path no.csv --trait evil --save_dir"),
        ("share_vectors import", "--vectors plain.pt --trait evil --save_dir"),
        ("share_vectors pull", "--repo_id me/none --save_dir"),
        ("share_vectors export", "--vectors plain.pt --format pt --model_name {model} --output_dir"),
        ("eval.mitigation random", "--vector_path plain.pt --output_path"),
    ],
)
def test_every_writer_of_vectors_refuses_the_packages_folders(
    package, run_stage, monkeypatch, qwen2_folder, command, argv
):
    module, _, word = command.partition(" ")
    if word:
        functions = {"import": "import_"}
        main = getattr(importlib.import_module(module), functions.get(word, word))
        monkeypatch.setattr(importlib.import_module(module), "main", main, raising=False)
    (package / "evil_response_avg_diff.pt").write_bytes((package / "plain.pt").read_bytes())
    where = f"{ROOT}/persona_vectors/engines"
    if word == "random":
        where += "/random.pt"
    words = argv.format(model=qwen2_folder).replace("plain.pt --format", "evil_response_avg_diff.pt --format").split()
    done = run_stage(module, *words, where)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "persona_vectors/engines is a folder of this toolkit's code" in done.stderr
    assert not list((ROOT / "persona_vectors" / "engines").glob("*.pt"))


def test_the_pipeline_refuses_such_a_model_before_it_asks():
    done = subprocess.run(
        ["bash", "scripts/generate_vec.sh", "cpu", "somebody/engines"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: persona_vectors/engines is a folder of this toolkit's code")
