"""A JSON list of vectors that act together: a file, a request and a plain hook say the same; what is wrong is refused."""

import json

import pytest
import torch
from helpers import tiny_model
from plain_steering import expected, generate, plain

from persona_vectors import bake, options
from persona_vectors.errors import UserError
from persona_vectors.files.fingerprints import differences
from persona_vectors.files.fingerprints import plain as as_json
from persona_vectors.sharing.card import find_sweeps
from persona_vectors.sharing.formats import About, save_both
from persona_vectors.steering.hooks import steered
from persona_vectors.steering.intervention import Intervention, most_ablated
from persona_vectors.steering.steer import steer
from persona_vectors.steering.steering_list import LISTED, ListGrid, parse_parts
from persona_vectors.steering.sweep import Cell
from persona_vectors.steering.vector_folder import NamedVectors
from persona_vectors.steering.vector_rows import VectorRows

PROMPTS = [[4, 5, 6, 7, 8], [90, 3, 91], [17]]


@pytest.fixture(scope="module")
def model():
    return tiny_model("qwen2")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two vectors of the tiny model, and where a list is looked for from."""
    draw = torch.Generator().manual_seed(0)
    for trait in ("evil", "kind"):
        rows = torch.randn(5, 32, generator=draw)
        rows[0] = 0
        save_both(rows, tmp_path, About(trait=trait, kind="response_avg_diff"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(parts, name="steer.json"):
    with open(name, "w") as file:
        json.dump(parts, file)
    return name


def path_of(trait):
    return f"{trait}_response_avg_diff.pt"


def rows_of(trait):
    return VectorRows.load(path_of(trait)).vectors


TWO = [
    {"vector": path_of("{trait}"), "layer": 2, "coef": 1.5},
    {"vector": path_of("kind"), "layer": 3, "coef": -0.5, "positions": "all"},
    {"vector": path_of("kind"), "layer": 1, "kind": "ablate", "positions": "prompt"},
]


def grid_of(parts, coefs=(1.0,), **more):
    grid = ListGrid.read(written(parts), coefs, **more)
    grid.load(["evil"])
    grid.check(4, 32)
    return grid


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_two_vectors_at_two_layers_equal_plain_hooks(folder, model, factor):
    grid = grid_of(TWO[:2], [0.0, factor])
    assert grid.cells == [Cell(LISTED, 0.0), Cell(LISTED, factor)]
    made = grid.interventions("evil", grid.cells[1])
    hooks = [
        Intervention(2, rows_of("evil")[2], 1.5 * factor, "response"),
        Intervention(3, rows_of("kind")[3], -0.5 * factor, "all"),
    ]
    with torch.no_grad():
        for prompt in PROMPTS:
            ids = torch.tensor([prompt])
            with steered(model, [made], [len(prompt)], len(prompt)):
                found = model(ids).logits
            with plain(model, len(prompt), *hooks):
                wanted = model(ids).logits
            torch.testing.assert_close(found, wanted, rtol=0, atol=2e-6)
            assert (found - model(ids).logits).abs().max() > 0.1
    wanted = expected(model, PROMPTS, *hooks)
    with steer(model, made):
        assert generate(model, PROMPTS) == wanted
    assert grid.interventions("evil", grid.cells[0]) == ()


def test_an_ablation_acts_whole_at_every_coefficient_but_zero(folder):
    grid = grid_of(TWO, [0.0, 1.0, 3.0])
    for cell in grid.cells[1:]:
        *_, ablating = grid.interventions("evil", cell)
        assert (ablating.kind, ablating.coef, ablating.layer, ablating.positions) == ("ablate", 1.0, 1, "prompt")
    assert grid.interventions("evil", grid.cells[0]) == ()
    assert most_ablated(grid.interventions("evil", grid.cells[1])) == 1 and most_ablated(()) == 0


def test_a_file_and_a_request_make_the_same_interventions(folder):
    named = NamedVectors(folder, "response_avg_diff", 4, 32)
    asked = [part | {"vector": part["vector"].format(trait="evil").partition("_")[0]} for part in TWO]
    listwise = {
        "vector": ["evil", "kind", "kind"], "layer": [2, 3, 1], "coef": [1.5, -0.5, 1],
        "steering_type": ["response", "all", "prompt"], "kind": ["add", "add", "ablate"],
    }  # fmt: skip
    grid = grid_of(TWO)
    told = [
        [(i.layer, i.coef, i.positions, i.kind, i.vector.tolist()) for i in made]
        for made in (
            grid.interventions("evil", grid.cells[0]),
            named.from_request({"steering": asked}),
            named.from_request(listwise),
        )
    ]
    assert told[0] == told[1] == told[2] and len(told[0]) == 3
    everywhere = named.from_request({"steering": [{"vector": "evil", "layer": "all"}]})
    assert [i.layer for i in everywhere] == [1, 2, 3]


def test_what_is_recorded_is_the_content_and_not_the_path(folder):
    first = grid_of(TWO).settings("evil")
    assert [part["vector"].name for part in first["steering"]] == [path_of("evil"), path_of("kind"), path_of("kind")]
    (folder / path_of("kind")).rename(folder / "moved.pt")
    moved = [part | {"vector": part["vector"].replace(path_of("kind"), "moved.pt")} for part in TWO]
    assert differences(as_json(first), grid_of(moved).settings("evil")) == []
    for change in (
        {"coef": 1.25},
        {"layer": 1},
        {"positions": "prompt"},
        {"vector": "moved.pt"},
        {"kind": "ablate", "coef": 1},
    ):
        other = [moved[0] | change, *moved[1:]]
        (said,) = differences(as_json(first), grid_of(other).settings("evil"))
        assert said.startswith("steering was ")
    assert "steering" not in grid_of(moved, [0.0]).settings("evil")


def test_controls_of_a_list_are_independent_and_of_the_same_norm(folder):
    grid = grid_of(TWO, controls=2)
    own, first, second = (grid.interventions("evil", cell) for cell in grid.cells)
    assert grid.cells_of("evil") == grid.cells and {cell.dose for cell in grid.cells_of("evil")} == {None}
    assert grid.in_words("evil") == ""
    for control in (first, second):
        for one, other in zip(own, control, strict=True):
            assert other.vector.norm().item() == pytest.approx(one.vector.norm().item(), rel=1e-6)
            assert not other.vector.equal(one.vector)
    assert not first[0].vector.equal(second[0].vector)
    same_draw = torch.cosine_similarity(grid._controls[path_of("evil"), 1, "random", 0].vectors,
                                        grid._controls[path_of("kind"), 1, "random", 1].vectors)  # fmt: skip
    assert same_draw[1:].abs().max() < 0.7


GOOD = {"vector": path_of("evil"), "layer": 2}
REFUSED = {
    "no list": ({"vector": "x"}, "must hold a list"),
    "an empty list": ([], "must hold a list of vectors"),
    "no object": (["evil.pt"], "entry 1: an entry is an object"),
    "an unknown key": ([GOOD, GOOD | {"coeff": 2}], r"entry 2: unknown key 'coeff' \(did you mean coef\?\)"),
    "no layer": ([{"vector": "x.pt"}], "entry 1: layer must be said"),
    "a missing file": ([GOOD, GOOD | {"vector": "none.pt"}], "entry 2: no vector file at none.pt"),
    "no name": ([GOOD | {"vector": 3}], "vector must be a text"),
    "no number": ([GOOD | {"coef": "1"}], "coef of .* must be a finite number, not '1'"),
    "true": ([GOOD | {"coef": True}], "must be a finite number"),
    "positions": ([GOOD | {"positions": "answer"}], "positions takes one of response, prompt, all"),
    "kind": ([GOOD | {"kind": "abalte"}], r"kind takes one of add, ablate, not 'abalte' \(did you mean ablate\?\)"),
    "a layer's name": ([GOOD | {"layer": "last"}], "must be a whole number or 'all'"),
    "half a layer": ([GOOD | {"layer": 1.5}], "must be a whole number"),
    "layer 5": ([GOOD | {"layer": 5}], r"entry 1: layer 5 does not exist: this model has layers 1..4"),
    "layer 0": ([GOOD | {"layer": 0}], "layer 0 does not exist"),
    "a row of zeros": ([{"vector": "zero.pt", "layer": 2}], "entry 1: row 2 of zero.pt is zero"),
    "another width": ([GOOD, {"vector": "wide.pt", "layer": 2}], "entry 2: wide.pt is 33 wide"),
    "other rows": ([{"vector": "deep.pt", "layer": 2}], "deep.pt has 6 rows"),
    "ablating with a coefficient": ([GOOD | {"kind": "ablate", "coef": 2}], "an ablation has no coef"),
    "ablating everywhere": ([GOOD | {"kind": "ablate", "layer": "all"}], "an ablation names one layer"),
    "too much": ([GOOD | {"coef": 1e39}], "entry 1: coef 1e[+]39 times .* is more than float32 can hold"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(folder, case):
    for name, shape in (("zero", (5, 32)), ("wide", (5, 33)), ("deep", (6, 32))):
        torch.save((torch.zeros if name == "zero" else torch.ones)(shape), f"{name}.pt")
    parts, message = REFUSED[case]
    with pytest.raises(UserError, match=f"^steer.json.*{message}"):
        grid_of(parts)


def test_flags_beside_a_list(folder):
    written(TWO)
    asked = lambda *given, **more: options.SteeringOptions(*given, steering="steer.json", **more).grid()  # noqa: E731
    assert asked().cells == [Cell(LISTED, 1.0)]
    assert asked((0.0,)).cells == [Cell(LISTED, 0.0)]  # typed: unsteered
    assert [cell.key for cell in asked((0.0, 2.0), controls=1).cells] == [
        [LISTED, 0.0], [LISTED, 2.0], [LISTED, 2.0, "random1"]
    ]  # fmt: skip
    for more, message in (
        ({"vector_path": "v.pt"}, "--vector_path cannot be given beside --steering"),
        ({"layer": (2,)}, "--layer cannot be given beside --steering"),
        ({"steering_type": "all"}, "--steering_type cannot be given beside --steering"),
        ({"dose": (0.3,)}, "--dose is of one vector: it cannot be given beside --steering"),
    ):
        with pytest.raises(UserError, match=message):
            asked(**more)
    with pytest.raises(UserError, match="no steering list at none.json"):
        options.SteeringOptions(steering="none.json").grid()
    with pytest.raises(UserError, match="--controls 1 with --coef 0"):
        asked((0.0,), controls=1)
    written(TWO[2:])
    with pytest.raises(UserError, match="only ablates"):
        asked((1.0, 2.0))


def test_a_coefficient_that_is_typed_is_not_the_default():
    from eval.eval_persona import main
    from persona_vectors.cli.values import convert

    flag = main.flags["coef"]
    assert flag.default is options.NOT_GIVEN
    for typed in ("0", 0, 0.0, (0.0,), [0]):
        assert convert("coef", flag.annotation, typed) == (0.0,)
        assert convert("coef", flag.annotation, typed) is not options.NOT_GIVEN


def test_parts_are_compared_by_what_they_say():
    assert parse_parts([GOOD], "a") == parse_parts([GOOD | {"coef": 1, "kind": "add"}], "b")


def test_a_sweep_of_several_vectors_is_on_no_vector_s_card(tmp_path):
    from persona_vectors.files import provenance

    for name, made_from in (("one", {"vector": "x"}), ("two", {"steering": []})):
        path = tmp_path / f"{name}_best.json"
        with provenance.writing(path, made_from):
            path.write_text(json.dumps({"trait": name, "layer": 2}))
    assert list(find_sweeps(tmp_path)) == ["one"]


def test_a_baked_list_does_what_the_list_does(folder, model):
    from helpers import tiny_tokenizer
    from transformers import AutoModelForCausalLM

    tiny_model("llama").save_pretrained("llama")
    tiny_tokenizer().save_pretrained("llama")
    parts = [part | {"vector": part["vector"].format(trait="evil"), "positions": "all"} for part in TWO[:2]]
    bake.main("llama", "baked", coef=2.0, steering=written(parts))
    ids, source = torch.tensor([[5, 9, 17, 33, 12]]), tiny_model("llama")
    hooks = [Intervention(2, rows_of("evil")[2], 3.0, "all"), Intervention(3, rows_of("kind")[3], -1.0, "all")]
    with torch.no_grad(), plain(source, ids.shape[1], *hooks):
        wanted = source(ids).logits
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained("baked", dtype=torch.float32).eval()(ids).logits
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)
    for change, message in (
        ({"positions": "response"}, "no positions but all"),
        ({"kind": "ablate", "coef": 1}, "adds at"),
    ):
        with pytest.raises(UserError, match=f"entry 2: .*{message}"):
            bake.main("llama", "other", steering=written([parts[0], parts[1] | change]))
    with pytest.raises(UserError, match="one --coef"):
        bake.main("llama", "other", coef="1,2", steering=written(parts))
    with pytest.raises(UserError, match="leave --vector_path"):
        bake.main("llama", "other", vector_path=path_of("evil"), layer=2, steering=written(parts))
    assert not (folder / "other").exists()
