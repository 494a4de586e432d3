"""eval.compare as users run it: files in, one line a comparison, tables and figures out."""

import json

import numpy
import pandas
import pytest


def write(path, shift: float, seed: int, **more):
    """Twenty questions, two answers each; the trait is ``shift`` higher than the questions' own levels."""
    random = numpy.random.default_rng(seed)
    level = numpy.repeat(numpy.linspace(20, 60, 20), 2)
    table = pandas.DataFrame({"question": [f"q{k // 2}" for k in range(40)], "prompt": "p", "answer": "a"})
    table["question_id"] = [f"evil_{k}" for k in range(40)]
    table["evil"], table["coherence"] = level + shift + random.normal(0, 2, 40), 90 + random.normal(0, 1, 40)
    table["evil_llr"] = random.normal(0, 1, 40)
    path.parent.mkdir(exist_ok=True)
    table.assign(**more).to_csv(path, index=False)
    return str(path)


def test_a_planted_difference_is_found(run_stage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [
        write(tmp_path / name, shift, k)
        for k, (name, shift) in enumerate({"a/x.csv": 0, "b/x.csv": 12, "c.csv": 0}.items())
    ]
    done = run_stage("eval.compare", *files, "--output", "out")
    assert done.returncode == 0, done.stderr
    table = pandas.read_csv("out.csv").set_index(["score", "file"])
    assert set(table.index.get_level_values("score")) == {"evil", "coherence"}, (
        "a ratio in nats is no score from 0 to 100"
    )
    moved, same = table.loc["evil", "b/x"], table.loc["evil"].drop("b/x").iloc[0]
    assert moved["low"] < 12 < moved["high"] and moved["low"] > 9 and same["low"] < 0 < same["high"]
    assert moved["questions"] == 20 and moved["paired"]
    assert len(pandas.read_csv("out_questions.csv")) == 20
    assert json.loads((tmp_path / "out.csv.provenance.json").read_text())
    assert all((tmp_path / name).stat().st_size > 4000 for name in ("out.png", "out_pareto.png"))
    assert "evil: b/x " in done.stdout and "(the same 20 questions)" in done.stdout


@pytest.mark.parametrize(
    ("more", "flags", "words"),
    [
        ({"coef": [0.0, 1.0] * 20}, [], "is a sweep: it has 2 values of 'coef'"),
        ({"evil": ""}, ["--trait", "evil"], "is not scored: no row has a number in column 'evil'"),
        ({}, ["--trait", "kind"], "has no column 'kind'"),
        (None, [], "two or more different answers files"),
    ],
)
def test_bad_input_is_one_line(more, flags, words, run_stage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [write(tmp_path / "a.csv", 0, 0)] + ([write(tmp_path / "b.csv", 0, 1, **more)] if more is not None else [])
    done = run_stage("eval.compare", *files, *flags)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        {"a.csv", "b.csv"} & {f.rsplit("/", 1)[-1] for f in files}
    )
