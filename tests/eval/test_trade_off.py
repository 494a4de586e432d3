"""What steering costs beside what it gives: cells of a sweep and of eval.capability, put together or refused."""

import json

import pandas
import pytest

from persona_vectors.analysis.trade_off import COLUMNS, PER_NAT, TradeOff
from persona_vectors.capability.figure import axis_of, named, with_intervals
from persona_vectors.capability.values import interval
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import of_json

TINY, OTHER = of_json("tiny", 1), of_json("other", 2)
MADE = {"model": TINY, "adapter": None, "vector": TINY, "positions": "response"}
CELLS = [(16, 0.0, ""), (16, 1.0, ""), (16, 2.0, ""), (20, 0.0, ""), (20, 1.0, ""), (20, 2.0, "")]
CELLS += [(layer, coef, f"random {k}") for layer in (16, 20) for coef in (1.0, 2.0) for k in (1, 2)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep(path="sweep.csv", cells=CELLS, made=MADE, doses=False, coherent=True, trait="evil"):
    """Three answers of each cell, one a question: layer 20 at 2 is best (20 + 2 * 20 = 60), the controls do nothing."""
    rows = []
    for layer, coef, control in cells:
        score = 20 + (0 if control else coef * layer)
        row = {"prompt": "p", "answer": "a", "coef": coef, "layer": layer, "control": control}
        row |= {"dose": coef * layer / 100} if doses else {}
        for d in (-1, 0, 1):
            rows.append(row | {"question": f"q{d}", trait: score + d} | ({"coherence": 90 + d} if coherent else {}))
    with provenance.writing(path, provenance.record(**made) if made is not None else None):
        pandas.DataFrame(rows).to_csv(path, index=False)
    return path


def costs(path="cap.csv", cells=CELLS, made=MADE, doses=False, extra=()):
    rows = []
    for layer, coef, control in cells:
        at = {"coef": coef, "layer": layer, "control": control} | ({"dose": coef * layer / 100} if doses else {})
        weight = 0.1 if control else 1.0
        found = [
            ("kl", "kl", weight * coef, 0.1 * coef, 20),
            ("perplexity", "perplexity", 10 + 5 * weight * coef, 1.0, 7),
        ]
        found += [("refusals", "harmless refused", 0.05 * coef, 0.05, 20), *extra]
        names = ("task", "measure", "value", "standard_error", "n")
        rows += [at | dict(zip(names, one, strict=True)) for one in found]
    with provenance.writing(path, provenance.record(**made) if made is not None else None):
        pandas.DataFrame(rows).to_csv(path, index=False)
    return path


def select(run_stage, *more, **kwargs):
    return run_stage(
        "eval.select_layer", "--file_path", "sweep.csv", "--trait", "evil", "--capability", "cap.csv", *more
    )


@pytest.mark.parametrize("doses", [False, True])
def test_figure_table_and_price(folder, run_stage, doses):
    sweep(doses=doses)
    before = run_stage("eval.select_layer", "--file_path", "sweep.csv", "--trait", "evil")
    plain = json.loads((folder / "sweep_best.json").read_text())
    assert before.returncode == 0 and not (folder / "sweep_tradeoff.csv").exists()
    costs(doses=doses, extra=[("mmlu", "acc", 0.5, 0.1, 25)])
    done = select(run_stage)
    assert done.returncode == 0, done.stderr
    best = json.loads((folder / "sweep_best.json").read_text())
    price = best.pop("price")
    assert best == plain, "what was there before is as it was"
    assert list(price) == ["kl", "perplexity", "refusals: harmless refused", "mmlu: acc", PER_NAT]
    error = 1.96 * 20 * 0.2 / 2  # of the KL alone: every question gains 40
    ends = {"low": pytest.approx(20 - error), "high": pytest.approx(20 + error)}
    assert price[PER_NAT] == {"value": 20.0, **ends, "unsteered": None, "random": 0.0}, "(60 - 20) / 2 nats"
    assert price["kl"] == {"value": 2.0, "low": 2 - 1.96 * 0.2, "high": 2 + 1.96 * 0.2, "unsteered": 0.0, "random": 0.2}
    assert (price["perplexity"]["value"], price["perplexity"]["unsteered"], price["perplexity"]["random"]) == (
        20,
        10,
        11,
    )
    assert "it costs: kl 2 [1.61, 2.39] (random 0.2), perplexity 10 -> 20 [18.1, 22.1] (random 11)" in done.stdout
    assert "points per nat of KL 20 [16.1, 23.9] (random 0)" in done.stdout
    assert "not in" not in done.stdout and "no record" not in done.stdout

    table = pandas.read_csv(folder / "sweep_tradeoff.csv", keep_default_na=False)
    assert list(table.columns) == [*COLUMNS, *(["dose"] if doses else [])]
    assert list(table["what"].unique()) == ["evil score", "coherence", *price]
    assert len(table) == len(CELLS) * 6 + len(CELLS) - 2 and axis_of(table)[0] == ("dose" if doses else "coef")
    at = table.set_index(["what", "layer", "coef", "control"]).sort_index()
    assert (
        at.loc[("evil score", 20, 2.0, ""), "value"].item() == 60
        and at.loc[("kl", 16, 1.0, "random 2"), "value"].item() == 0.1
    )
    assert float(at.loc[("evil score", 20, 2.0, ""), "high"]) == pytest.approx(60 + 1.96 / 3**0.5)
    record = provenance.result_of(folder / "sweep_best.json")
    assert record["capability"]["name"] == "cap.csv" and provenance.result_of(folder / "sweep_tradeoff.csv") == record
    assert (folder / "sweep_tradeoff.png").stat().st_size > 15_000
    assert int.from_bytes((folder / "sweep_tradeoff.png").read_bytes()[16:20]) * 96 / 160 == pytest.approx(365, abs=1)


REFUSED = {
    "another vector": (MADE | {"vector": OTHER}, CELLS, "do not belong together: vector of the one is tiny"),
    "another model": (MADE | {"model": OTHER}, CELLS, "do not belong together: model of the one is tiny"),
    "an adapter": (MADE | {"adapter": OTHER}, CELLS, "do not belong together: adapter of the one is none"),
    "other positions": (MADE | {"positions": "all"}, CELLS, "positions of the one is 'response', of the other 'all'"),
    "another layer": (MADE, [(8, 0.0, ""), (8, 1.0, "")], "have no steered cell in common: the sweep has layer 16; layer 20; the capability has layer 8"),
    "other coefficients": (MADE, [(20, 0.0, ""), (20, 3.0, "")], "the capability has layer 20, coefficient 3"),
    "a list": ({"model": TINY, "steering": []}, [("list", 1.0, "")], "have no steered cell in common"),
    "nothing steered": (MADE, [("", 0.0, "")], "cap.csv measures nothing steered"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_belong_together_is_one_line(folder, run_stage, name):
    made, cells, words = REFUSED[name]
    sweep()
    costs(cells=cells, made=made)
    done = select(run_stage)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert "sweep.csv" in done.stderr or "measures nothing" in words
    assert not list(folder.glob("*.png")) and not (folder / "sweep_best.json").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "is not readable as CSV"),
        ("a,b\n1,2\n", "is no table of eval.capability: it has no column 'coef'"),
        (
            "coef,layer,control,task,measure,value,standard_error,n\n1,20,,kl,kl,much,0,2\n",
            "without a number in 'value'",
        ),
        (
            "coef,layer,control,task,measure,value,standard_error,n\n1,deep,,kl,kl,1,0,2\n",
            "without a number in 'layer'",
        ),
    ],
)
def test_what_is_no_table_is_one_line(folder, run_stage, text, words):
    sweep()
    if text is not None:
        (folder / "cap.csv").write_text(text)
    done = select(run_stage)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_cells_that_one_of_the_two_lacks_are_told(folder, run_stage):
    """Measured at one layer, without its best coefficient and with one control: drawn, and said."""
    sweep(made=None)
    costs(cells=[(20, 0.0, ""), (20, 1.0, ""), (20, 3.0, ""), (20, 1.0, "random 1")], made=None)
    done = select(run_stage)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "sweep_best.json").read_text())["price"] is None
    assert "what it costs is not known: cap.csv has no such cell" in done.stdout
    assert "not in the sweep: layer 20, coefficient 3" in done.stdout
    assert "not in cap.csv: layer 16; layer 20, coefficient 1, random 2; layer 20, coefficient 2; " in done.stdout
    assert "(5 in all)" in done.stdout and "cap.csv has no record of what it was made from" in done.stdout
    table = pandas.read_csv(folder / "sweep_tradeoff.csv", keep_default_na=False)
    assert set(table["layer"]) == {20}


def test_unsteered_rows_serve_every_layer_and_a_number_may_be_missing(folder):
    """As eval.capability leaves a perplexity beyond a float, and as a sweep without coherence has it."""
    from persona_vectors.analysis.sweeps import read_sweep

    sweep(cells=[(16, 0.0, ""), (20, 2.0, "")], coherent=False)
    costs(cells=[("", 0.0, ""), (20, 2.0, "")], extra=[("long", "perplexity", None, None, 7)])
    found = TradeOff.of(read_sweep(["sweep.csv"], "evil", 0), "cap.csv", "evil")
    table = found.table
    assert sorted(set(table.loc[table["coef"] == 0, "what"])) == [
        "evil score",
        "kl",
        "perplexity",
        "refusals: harmless refused",
    ]
    price = found.price({"layer": 20, "coef": 2.0})
    assert "long: perplexity" not in price, "no cell has a number of it"
    assert price["perplexity"]["unsteered"] == 10 and "random" not in price["perplexity"]


def test_several_traits_have_a_table_each(folder, run_stage):
    for trait in ("evil", "kind"):
        sweep(f"{trait}.csv", trait=trait)
        costs(f"{trait}_cap.csv")
    command = ["eval.select_layer", "--file_path", "{trait}.csv", "--trait", "evil,kind", "--capability"]
    assert run_stage(*command, "{trait}_cap.csv").returncode == 0
    assert (folder / "kind_tradeoff.png").exists() and (folder / "evil_tradeoff.csv").exists()
    done = run_stage(*command, "evil_cap.csv")
    assert done.returncode == 2 and "several traits need {trait} in --capability" in done.stderr


@pytest.mark.parametrize(
    ("given", "ends"),
    [
        (("refusals", "harmless refused", 0.0, 0.0, 20), (0, 0.1611)),  # Wilson, as R's binom::binom.wilson has it
        (("mmlu", "acc", 0.5, 0.05, 100), (0.4038, 0.5962)),
        (("x", "exact_match (strict)", 1.0, 0.0, 10), (0.7225, 1)),
        (("perplexity", "perplexity", 10.0, 1.0, 7), (10 / 1.2165, 10 * 1.2165)),
        (("kl", "kl", 0.1, 0.1, 20), (0, 0.296)),
        (("kl", "kl", 0.0, 0.0, 20), (0, 0)),
        (("wiki", "bits_per_byte", 1.0, 0.1, 5), (0.804, 1.196)),
    ],
)
def test_intervals(given, ends):
    assert interval(*given) == pytest.approx(ends, abs=1e-3)


@pytest.mark.parametrize("value", [(None, None), (float("nan"), 0.1), (1.5, None), (1.5, float("nan"))])
def test_what_has_no_error_has_no_interval(value):
    low, high = interval("wiki", "bits_per_byte", *value, 5)
    assert low != low and high != high


def test_names_of_measures():
    assert [named("kl", "kl"), named("mmlu", "acc")] == ["kl", "mmlu: acc"]
    costs_of = with_intervals(
        pandas.DataFrame([{"task": "kl", "measure": "kl", "value": 1.0, "standard_error": 0.0, "n": 2}])
    )
    assert costs_of[["what", "low", "high"]].iloc[0].tolist() == ["kl", 1.0, 1.0]


def test_a_table_of_another_kind_of_control_has_no_cell_of_it(folder):
    from persona_vectors.analysis.sweeps import read_sweep

    shuffled = [(layer, coef, control.replace("random", "shuffled")) for layer, coef, control in CELLS]
    sweep(cells=shuffled)
    costs()
    found = TradeOff.of(read_sweep(["sweep.csv"], "evil"), "cap.csv", "evil")
    assert "layer 16, coefficient 1, shuffled 1" in found.alone["sweep"]
    assert "layer 16, coefficient 1, random 1" in found.alone["capability"]
    with pytest.raises(UserError, match="no steered cell in common"):
        sweep(cells=shuffled[6:])
        costs(cells=CELLS[6:])
        TradeOff.of(read_sweep(["sweep.csv"], "evil"), "cap.csv", "evil")
