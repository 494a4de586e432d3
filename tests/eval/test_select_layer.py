"""The layer and coefficients of a sweep, from one CSV or from one CSV per cell: the same numbers either way."""

import itertools
import json

import pandas
import pytest

from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import of_json, plain

LAYERS, COEFS = (16, 20), (-1.0, 0.0, 1.5)


def scores(layer: int, coef: float) -> pandas.DataFrame:
    """Four answers of one cell; layer 20 at 1.5 is best (mean 61.5 + 20 = 81.5), everything is coherent."""
    values = [50 + 10 * coef - 5 + layer * (coef > 0) + k for k in range(4)]
    questions = [f"q{k}" for k in range(4)]
    return pandas.DataFrame({"question": questions, "prompt": "p", "answer": "a", "evil": values, "coherence": 90.0})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder, name: str, cells=None, trait="evil"):
    """One CSV per cell, called by ``name`` with {layer} and {coef} filled in."""
    for layer, coef in cells or itertools.product(LAYERS, COEFS):
        path = folder / name.format(layer=layer, coef=coef)
        path.parent.mkdir(parents=True, exist_ok=True)
        scores(layer, coef).rename(columns={"evil": trait}).to_csv(path, index=False)


def best_of(done, path) -> dict:
    assert done.returncode == 0, done.stderr
    best = json.loads(path.read_text())
    assert {kind for kind in ("curves.png", "heatmap.png") if path.with_name(
        path.name.replace("best.json", kind)).stat().st_size > 5000} == {"curves.png", "heatmap.png"}  # fmt: skip
    return {key: value for key, value in best.items() if key != "file"}


BEST = {
    "trait": "evil", "layer": 20, "coef": 1.5, "trait_score": 81.5, "coherence": 90.0, "coef_range": [-1.0, 1.5],
    "unsteered": 46.5, "min_coherence": 75.0,
}  # fmt: skip


def test_one_csv_as_ever(folder, run_stage):
    cells = [scores(layer, coef).assign(coef=coef, layer=layer) for layer in LAYERS for coef in COEFS]
    sweep = folder / "evil_steering_layer16,20_coef-1,0,1.5.csv"  # the name eval_steering.sh gives it
    pandas.concat(cells).to_csv(sweep, index=False)
    done = run_stage(
        "eval.select_layer", "--file_path", "{trait}_steering_layer16,20_coef-1,0,1.5.csv", "--trait", "evil"
    )
    assert best_of(done, folder / "evil_steering_layer16,20_coef-1,0,1.5_best.json") == BEST
    assert json.loads((folder / "evil_steering_layer16,20_coef-1,0,1.5_best.json").read_text())["file"] == sweep.name


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("evil_steer_response_layer{layer}_coef{coef}.csv", None),
        ("layer_{layer}/coef_{coef}.csv", None),
        ("Qwen/layer20/layer={layer},coef={coef:g}.csv", None),  # the name counts, not the folder above it
        ("evil_Layer{layer}_coefficient{coef:+}.csv", None),
        ("a{coef}/evil_L{layer}.csv", "a{coef}/evil_L{layer}.csv"),
        ("layer-{layer}-coef-{coef:g}.csv", "layer-{layer}-coef-{coef}.csv"),
        ("{layer}/{layer}_{coef}_v2.csv", "{layer}/{layer}_{coef}_v*.csv"),
        ("[x] evil {layer}, {coef}.csv", "[x] evil {layer}, {coef}.csv"),
        ("evil_layer{layer}_coef{coef}.csv", "*_layer*_coef*.csv"),  # stars in quotes: the shell has not expanded them
        ("evil_layer{layer}_{coef}.csv", "evil_layer*_{coef}.csv"),
    ],
)
@pytest.mark.parametrize("absolute", [False, True])
def test_one_csv_per_cell(folder, run_stage, name, asked, absolute):
    """Shell-expanded names that say layer and coef, or a pattern that says where they stand."""
    write(folder / "out", name)
    inside = folder / "out" if absolute else "out"
    given = [f"{inside}/{asked}"] if asked else sorted((folder / "out").rglob("*.csv"))
    if not absolute:
        given = [str(path).replace(f"{folder}/", "") for path in given]
    done = run_stage("eval.select_layer", "--file_path", *given, "--trait", "evil")
    top = {"Qwen": "out/Qwen/layer20"}.get(name.split("/")[0], "out")
    assert best_of(done, folder / top / "evil_sweep_best.json") == BEST
    assert ("wrote out/" in done.stdout) is not absolute


def test_several_traits_by_a_pattern(folder, run_stage):
    for trait in ("evil", "sycophantic"):
        write(folder, f"r/{trait}_layer{{layer}}_coef{{coef}}.csv", trait=trait)
    pattern = "r/{trait}_layer{layer}_coef{coef}.csv"
    done = run_stage("eval.select_layer", "--file_path", pattern, "--trait", "evil", "sycophantic")
    for trait in ("evil", "sycophantic"):
        assert best_of(done, folder / f"r/{trait}_sweep_best.json") == BEST | {"trait": trait}
        assert json.loads((folder / f"r/{trait}_sweep_best.json").read_text())["file"] == pattern.replace(
            "{trait}", trait
        )


def test_cells_may_be_missing_and_sweeps_be_mixed(folder, run_stage):
    """A sweep of one layer with columns, and single cells of another: together they are one sweep."""
    pandas.concat([scores(16, coef).assign(coef=coef, layer=16) for coef in COEFS]).to_csv("evil_16.csv", index=False)
    write(folder, "layer{layer}_coef{coef:g}.csv", [(20, 1.5), (20, -1.0)])
    write(folder, "layerall_coef0.csv", [(0, 0.0)])
    done = run_stage("eval.select_layer", "--file_path", "evil_16.csv", "layer20_coef1.5.csv", "layer20_coef-1.csv",
                     "layerall_coef0.csv", "--trait", "evil", "--output", "mixed")  # fmt: skip
    # unsteered: the mean of the two cells with coefficient 0, 46.5 each
    assert best_of(done, folder / "mixed_best.json") == BEST
    one = run_stage("eval.select_layer", "--file_path", "layer{layer}_coef1.5.csv", "--trait", "evil")
    assert best_of(one, folder / "layer20_coef1.5_best.json")["coef_range"] == [1.5, 1.5]


@pytest.mark.parametrize(
    ("files", "given", "refusal"),
    [
        (["evil_layer20_coef2.csv", "evil_baseline.csv"], "*.csv",
         "evil_baseline.csv has no column 'layer', and no layer20 in its name; say how such files are called"),
        (["evil_layer20.csv", "evil_layer16.csv"], "*.csv", "has no column 'coef', and no coef1.5 in its name"),
        (["l20_a2.csv", "l20_a2_old.csv"], "l{layer}_a{coef}.csv", "l20_a2_old.csv does not fit l{layer}_a{coef}.csv"),
        (["l20_a2.csv", "l20.5_a2.csv"], "l{layer}_a{coef}.csv", "l20.5_a2.csv does not fit l{layer}_a{coef}.csv"),
        (["layer16,20_coef1.csv", "layer2_coef1.csv"], "*.csv", "layer16,20_coef1.csv has no column 'layer'"),
        (["layer20_coef0.5,1.csv", "layer2_coef1.csv"], "*.csv", "layer20_coef0.5,1.csv has no column 'coef'"),
        (["layer20_coef2.csv", "layer20_coef2.0.csv"], "*.csv",
         "two files hold layer 20, coefficient 2: layer20_coef2.0.csv and layer20_coef2.csv"),
        (["a/layer20_coef2.csv", "b/layer20_coef2.csv"], "*/*.csv",
         "two files hold layer 20, coefficient 2: a/layer20_coef2.csv and b/layer20_coef2.csv"),
        (["layer20_to_layer16_coef1.csv"], "*.csv", "layer20_to_layer16_coef1.csv is of more than one layer by its name: 16 and 20"),
        ([], "l{layer}_a{coef}.csv", "no file is called l{layer}_a{coef}.csv"),
        (["x.csv"], "y.csv x.csv", "no answers file at y.csv"),
        (["layer_wise_coef1.csv"], "layer_wise_coef1.csv", "has no column 'layer'"),
        (["layer-20_coef1.csv"], "layer-20_coef1.csv", "has no column 'layer'"),
    ],
)  # fmt: skip
def test_names_that_do_not_tell_are_one_line(folder, run_stage, files, given, refusal):
    for file in files:
        write(folder, file, [(20, 1.0)])
    done = run_stage("eval.select_layer", "--file_path", *given.split(), "--trait", "evil")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and refusal in done.stderr, done.stderr
    assert not list(folder.rglob("*.png"))


@pytest.mark.parametrize(
    ("column", "refusal"),
    [
        ({"coef": 2}, "is of coef 1 by its name, but its column 'coef' says otherwise"),
        ({"layer": [20, 20, 16, 20]}, "is of layer 20 by its name, but its column 'layer' says otherwise"),
        ({"layer": 20.5}, "has rows without a number in 'layer'"),
        ({"coef": "inf"}, "has rows without a number in 'coef'"),
    ],
)
def test_a_column_that_contradicts_the_pattern_is_refused(folder, run_stage, column, refusal):
    scores(20, 1.0).assign(**column).to_csv("l20_a1.csv", index=False)
    done = run_stage("eval.select_layer", "--file_path", "l{layer}_a{coef}.csv", "--trait", "evil")
    assert done.returncode == 2 and f"l20_a1.csv {refusal}" in done.stderr


def test_lists_of_files(folder, run_stage):
    write(folder, "a,b_layer{layer}_coef{coef}.csv")
    files = [path.name for path in sorted(folder.glob("*.csv"))]
    for given in ([",".join(files)], files, [*files, files[0]]):  # commas, spaces, one of them twice
        done = run_stage("eval.select_layer", "--file_path", *given, "--trait", "evil")
        if given[0] == files[0]:
            assert best_of(done, folder / "evil_sweep_best.json") == BEST
        else:  # commas in names and between them cannot be told apart
            assert done.returncode == 2 and "no answers file at" in done.stderr
    write(folder, "layer{layer}_coef{coef}.csv")
    files = [path.name for path in sorted(folder.glob("layer*.csv"))]
    done = run_stage("eval.select_layer", "--file_path", ",".join(files), "--trait", "evil", "--output", "commas")
    assert best_of(done, folder / "commas_best.json") == BEST
    for name in ("evil", "sycophantic"):
        (folder / f"{name}.csv").write_text("evil,coherence,layer,coef\n")
    empty = run_stage("eval.select_layer", "--file_path", "evil.csv", "--trait", "evil")
    assert empty.returncode == 2 and "evil.csv holds no answers" in empty.stderr
    several = run_stage("eval.select_layer", "--file_path", *files, "--trait", "evil", "sycophantic")
    assert several.returncode == 2 and "several traits need {trait} in --file_path" in several.stderr


@pytest.mark.parametrize(("name", "odd"), [("vector", 1), ("model", 1), ("adapter", 1), ("judge", 1), (None, 0)])
def test_cells_of_different_models_or_vectors_are_no_sweep(folder, run_stage, name, odd):
    write(folder, "evil_layer{layer}_coef{coef}.csv")
    for k, path in enumerate(sorted(folder.glob("*.csv"))):
        content = path.read_bytes()
        made_from = {"model": of_json("m", 0), "adapter": None, "judge": "logprobs"}
        made_from |= {} if "coef0" in path.name else {"vector": of_json("v", 0)}
        if name and k == odd + 1:
            made_from[name] = "sampling" if name == "judge" else of_json(name[0], 1)
        with provenance.writing(path, provenance.record(**made_from)):
            path.write_bytes(content)
    done = run_stage("eval.select_layer", "--file_path", *sorted(folder.glob("*.csv")), "--trait", "evil")
    best = folder / "evil_sweep_best.json"
    if name:
        assert done.returncode == 2 and f"do not belong together: {name} of the one is" in done.stderr
        assert not best.exists()
    else:
        assert best_of(done, best) == BEST
        assert provenance.result_of(best)["vector"] == plain(of_json("v", 0))


def test_doses_are_told_and_where_coherence_broke(folder, run_stage):
    """Two layers steered at the same doses, by coefficients of their own: one axis of doses, and what lies beyond it."""
    cells = []
    for layer, unit in ((16, 0.2), (20, 0.4)):
        for dose in (0.0, 0.3, 0.6, 0.9):
            cell = scores(layer, dose).assign(coef=dose / unit, layer=layer, dose=dose, control="")
            cell["coherence"] = 90.0 if dose < 0.6 or (layer == 16 and dose < 0.9) else 40.0
            cells += [cell, cell.assign(control="random 1")] if dose else [cell]
    pandas.concat(cells).to_csv("sweep.csv", index=False)
    done = run_stage("eval.select_layer", "--file_path", "sweep.csv", "--trait", "evil")
    best = best_of(done, folder / "sweep_best.json")
    assert best["broken_from"] == {"16": 0.9, "20": 0.6} and best["broken_below"] == {}
    assert (best["layer"], best["dose"], best["dose_range"]) == (20, 0.3, [0.3, 0.3])
    assert best["coef"] == pytest.approx(0.3 / 0.4)
    assert "coefficient 0.75 (dose 0.3)" in done.stdout
    assert "do not steer beyond: coherence fell below 75 from dose 0.9 at layer 16, 0.6 at layer 20" in done.stdout
    table = [line.split() for line in done.stdout.splitlines() if line.strip().startswith("evil ")]
    header = next(line.split() for line in done.stdout.splitlines() if line.strip().startswith("trait "))
    assert header[:4] == ["trait", "coefficient", "layer", "dose"] and [row[3] for row in table] == [
        "0",
        "0.3",
        "0.6",
        "0.9",
    ]


def test_where_nothing_is_coherent_the_doses_are_told_all_the_same(folder, run_stage):
    cell = scores(20, 1.5).assign(coef=1.5, layer=20, dose=0.8, coherence=20.0)
    down = cell.assign(coef=-0.5, dose=-0.3)
    pandas.concat([cell, down, scores(20, 0).assign(coef=0, layer=20, dose=0)]).to_csv("sweep.csv", index=False)
    done = run_stage("eval.select_layer", "--file_path", "sweep.csv", "--trait", "evil")
    assert best_of(done, folder / "sweep_best.json") == {
        "trait": "evil", "layer": None, "coef": None, "unsteered": 46.5, "min_coherence": 75.0, "broken_from": {"20": 0.8},
        "broken_below": {"20": -0.3},
    }  # fmt: skip
    assert "try smaller coefficients" in done.stdout and "from dose 0.8 at layer 20, -0.3 at layer 20" in done.stdout


def test_doses_with_controls_of_both_kinds_and_without_coherence(folder, run_stage):
    cells = []
    for layer, unit in ((16, 0.2), (20, 0.4)):
        for dose in (0.0, 0.3, 0.6):
            cell = (
                scores(layer, dose)
                .drop(columns="coherence")
                .assign(coef=dose / unit, layer=layer, dose=dose, control="")
            )
            kinds = ("random 1", "shuffled 1", "shuffled 2") if dose else ()
            cells += [cell, *(cell.assign(control=kind, evil=10 * k) for k, kind in enumerate(kinds))]
    pandas.concat(cells).to_csv("sweep.csv", index=False)
    done = run_stage("eval.select_layer", "--file_path", "sweep.csv", "--trait", "evil", "--min_coherence", 0)
    best = best_of(done, folder / "sweep_best.json")
    assert (best["layer"], best["dose"], best["dose_range"], best["coherence"]) == (20, 0.6, [0.3, 0.6], None)
    assert best["broken_from"] == {} and "do not steer beyond" not in done.stdout
    header, *rows = [line.split() for line in done.stdout.splitlines() if line.strip().startswith(("trait ", "evil "))]
    assert header == ["trait", "coefficient", "layer", "dose", "score", "+-", "random", "shuffled"]
    assert [row[3] for row in rows] == ["0", "0.3", "0.6"] and rows[-1][-2:] == ["0.0", "15.0"]


def test_of_several_traits_one_may_know_its_doses(folder, run_stage):
    for trait, dose in (("evil", None), ("kind", 0.3)):
        cell = scores(20, 1.5).rename(columns={"evil": trait}).assign(coef=1.5, layer=20)
        (cell if dose is None else cell.assign(dose=dose)).to_csv(f"{trait}.csv", index=False)
    done = run_stage("eval.select_layer", "--file_path", "{trait}.csv", "--trait", "evil,kind")
    assert done.returncode == 0 and "dose" in done.stdout.split("\n\n")[-1], done.stderr
