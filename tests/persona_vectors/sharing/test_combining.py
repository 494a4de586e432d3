"""Vectors made of others: the arithmetic, what goes with the result, and what is refused."""

import json

import pytest
import torch

import share_vectors
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.sharing.combining import combine
from persona_vectors.sharing.formats import About, read_shared, save_both
from persona_vectors.vectors.storage import fingerprint, load_vectors, vector_name

KIND = "response_avg_diff"


@pytest.fixture
def vectors(tmp_path, monkeypatch):
    """Vectors a to d, [5, 32], written in both formats; d's row 2 is zero."""
    draw = torch.Generator().manual_seed(0)
    found = {name: torch.randn(5, 32, generator=draw) for name in "abcd"}
    found["d"][2] = 0
    monkeypatch.chdir(tmp_path)
    for name, rows in found.items():
        save_both(rows, "v", About(model="tiny", trait=name, kind=KIND, dtype="float32", threshold="50"))
    return found


def path_of(name):
    return f"v/{name}_{KIND}.pt"


def make(name="new", **roles):
    share_vectors.combine(f"out/{name}_{KIND}.pt", **{role: list(map(path_of, names)) for role, names in roles.items()})
    return load_vectors(f"out/{name}_{KIND}.pt")


def test_sums_differences_and_means(vectors):
    a, b, c, _ = vectors.values()
    close = {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(make("sum", add="ab"), a + b, **close)
    torch.testing.assert_close(make("less", add="ab", subtract="c"), a + b - c, **close)
    torch.testing.assert_close(make("mean", average="abc"), (a + b + c) / 3, **close)
    torch.testing.assert_close(make("all", average="ab", add="c", subtract="ab"), (a + b) / 2 + c - a - b, **close)
    torch.testing.assert_close(make("minus", subtract="a"), -a, **close)


@pytest.mark.parametrize("others", ["b", "bc", "bd", "bcd", "bb"])
def test_nothing_is_left_along_any_direction_of_the_span(vectors, others):
    made = make(add="a", orthogonal_to=others)
    for row in range(5):
        basis = torch.stack([vectors[name][row] for name in others])
        basis = basis[basis.norm(dim=-1) > 0].double()
        own = vectors["a"][row].double()
        inside = basis.T @ torch.linalg.lstsq(basis.T, own[:, None], driver="gelsd").solution[:, 0]
        torch.testing.assert_close(made[row].double(), own - inside, rtol=0, atol=2e-6)
        assert (made[row].double() @ basis.T).abs().max() < 1e-5


def test_a_row_of_zeros_takes_nothing_out(vectors):
    made = make(add="a", orthogonal_to="d")
    assert made[2].equal(vectors["a"][2]) and not made[1].equal(vectors["a"][1])


def test_the_recipe_goes_with_both_files(vectors, capsys):
    make(add="ab", orthogonal_to="c")
    _, about = read_shared(f"out/new_{KIND}.safetensors")
    assert (about.trait, about.kind, about.model, about.dtype, about.threshold) == ("new", KIND, "tiny", "float32", "")
    said, _, recipe = about.method.partition(" combine ")
    assert said == "share_vectors.py"
    ids = {name: fingerprint(path_of(name), vectors[name]).id for name in "abc"}
    told = {role: [entry["id"] for entry in entries] for role, entries in json.loads(recipe).items()}
    assert told == {"add": [ids["a"], ids["b"]], "orthogonal_to": [ids["c"]]}
    assert read_shared(f"out/new_{KIND}.pt")[1] == about
    record = provenance.result_of(f"out/new_{KIND}.pt")
    assert record["add"] == [{"name": f"{vector_name(path_of(name))}.pt", "id": ids[name]} for name in "ab"]
    before = provenance.read(f"out/new_{KIND}.pt")
    capsys.readouterr()
    make(add="ab", orthogonal_to="c")
    assert "is there and is kept" in capsys.readouterr().out
    with pytest.raises(UserError, match="does not match this command .*subtract was none"):
        make(add="ab", orthogonal_to="c", subtract="d")
    assert provenance.read(f"out/new_{KIND}.pt") == before
    share_vectors.combine(f"out/new_{KIND}.pt", add=path_of("a"), overwrite=True)
    assert load_vectors(f"out/new_{KIND}.pt").equal(vectors["a"])


def test_vectors_of_different_models_are_told(vectors, capsys):
    save_both(vectors["b"], "v", About(model="other", trait="b", kind=KIND, dtype="float32"))
    make(average="ab")
    assert "different models: other, tiny" in capsys.readouterr().out
    about = read_shared(f"out/new_{KIND}.pt")[1]
    assert (about.model, about.dtype) == ("", "float32")


def test_what_cannot_be_combined_is_refused(vectors):
    for name, shape in (("wide", (5, 33)), ("deep", (6, 32))):
        torch.save(torch.ones(shape), f"{name}.pt")
    made = f"out/new_{KIND}.pt"
    for arguments, message in (
        ({"add": [path_of("a"), "wide.pt"]}, r"wide.pt is \[5, 33\], .* must have the same rows and width"),
        ({"add": path_of("a"), "subtract": "deep.pt"}, r"deep.pt is \[6, 32\]"),
        ({"add": path_of("a"), "orthogonal_to": "wide.pt"}, "same rows and width"),
        ({"add": "none.pt"}, "no vector file at none.pt"),
        ({"orthogonal_to": path_of("a")}, "say what to combine"),
        ({"add": path_of("a"), "subtract": path_of("a")}, "nothing is left"),
        ({"add": path_of("a"), "orthogonal_to": path_of("a")}, "nothing is left"),
        ({"add": [path_of("a"), path_of("b")], "orthogonal_to": [path_of("b"), path_of("a")]}, "nothing is left"),
    ):
        with pytest.raises(UserError, match=message):
            share_vectors.combine(made, **arguments)
    for path, message in ((f"new_{KIND}.gguf", "ends in .pt or .safetensors"), ("new.pt", "<trait>_<kind>")):
        with pytest.raises(UserError, match=message):
            share_vectors.combine(path, add=path_of("a"))
    with pytest.raises(UserError, match="toolkit's code"):
        share_vectors.combine(f"{share_vectors.__file__}/../persona_vectors/steering/x_{KIND}.pt", add=path_of("a"))
    with pytest.raises(UserError, match="nothing is left"):
        combine({"add": [torch.zeros(5, 32)]})
