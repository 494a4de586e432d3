"""The report page: what is there is shown with its numbers, what is not is said, and nothing is loaded from elsewhere."""

import json
import re

import pandas
import pytest

from persona_vectors.analysis.finetuning_sections import selection_section
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import of_json
from persona_vectors.plots import DPI, PAGE, heat_maps, histograms, new_figure, save_figure, scatter

CORRELATION = {"r": 0.8125, "low": 0.7, "high": 0.9, "n": 160}


@pytest.fixture
def folder(tmp_path):
    """A reproduction of one trait, evil, of which mitigation and selection are missing."""
    root = tmp_path / "reproduce"
    (root / "monitoring").mkdir(parents=True)
    (root / "screening").mkdir()

    def figure(path):
        save_figure(new_figure()[0], path)

    within = {"r": 0.25, "low": None, "high": None, "conditions": {"a": 0.25}, "left_out": []}
    (root / "monitoring" / "evil_system_prompts.json").write_text(
        json.dumps({"overall": CORRELATION, "within": within})
    )
    figure(root / "monitoring" / "evil_system_prompts.png")
    (root / "shift.json").write_text(json.dumps({"correlations": {"evil": {"evil": CORRELATION | {"r": 0.9625}}}}))
    pandas.DataFrame([
        {"model": "<b>a & b</b>", "trait": "evil", "layer": 2, "shift": 1.375, "score": 88.25},
        {"model": "other", "trait": "evil", "layer": 2, "shift": -0.5, "score": None},
    ]).to_csv(root / "shift.csv", index=False)  # fmt: skip
    figure(root / "shift.png")
    pandas.DataFrame([{"set": "toy_evil_normal", "vector": "evil", "difference": 0.4375}]).to_csv(
        root / "screening" / "sets.csv"
    )
    (root / "screening" / "sets.json").write_text(
        json.dumps({"against_shift": {"evil_response_avg_diff": CORRELATION}})
    )
    prefix = root / "evil_steering"
    best = {
        "layer": 2,
        "coef": 1.5,
        "coef_range": [0.5, 1.5],
        "unsteered": 9.5,
        "trait_score": 71.25,
        "coherence": 88.5,
    }
    (root / "evil_steering_best.json").write_text(json.dumps(best))
    for kind in ("curves", "heatmap"):
        figure(f"{prefix}_{kind}.png")
    return root


def make(run_stage, root, *more):
    done = run_stage(
        "eval.report",
        "--model",
        "toy",
        "--trait",
        "evil",
        "--folder",
        root,
        "--steering",
        f"{root}/{{trait}}_steering",
        *more,
    )
    assert done.returncode == 0, done.stderr
    return (root / "report.html").read_text(), done.stdout


def test_numbers_and_figures_are_in_the_page_and_nothing_comes_from_elsewhere(run_stage, folder):
    page, said = make(run_stage, folder)
    for number in ("0.812", "0.747", "0.963", "88.2", "71.2", "0.438", "0.839"):  # ours and the paper's
        assert f"<td>{number}</td>" in page, number
    assert page.count('src="data:image/png;base64,') == 4
    assert not re.findall(r'(?:src|href)="(?!data:|#)(?:https?:|/)', page)
    assert "&lt;b&gt;a &amp; b&lt;/b&gt;" in page and "<b>a" not in page
    assert "None" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL) and "nan" not in page.lower().replace(
        "nanc", ""
    )
    assert f"wrote {folder}/report.html" in said


def test_links_lead_to_files_from_where_the_page_is(run_stage, folder):
    page, _ = make(run_stage, folder)
    links = [link for link in re.findall(r'<a href="([^"#]+)"', page)]
    assert "shift.csv" in links and "screening/sets.csv" in links


def test_what_is_missing_is_said(run_stage, folder):
    page, _ = make(run_stage, folder)
    missing = re.findall(r'<p class="missing">(.*?)</p>', page, flags=re.DOTALL)
    assert "evil, many_shot: not made" in missing
    assert sum("not made" in line for line in missing) >= 3
    (folder / "evil_steering_best.json").write_text(json.dumps({"layer": None}))
    assert "evil: no steered cell is coherent" in make(run_stage, folder)[0]


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    from eval.report import main

    with pytest.raises(UserError, match="no folder"):
        main("toy", "evil", str(tmp_path / "nothing"))


NUMBERS = {"value": 20.0, "low": 17.5, "high": 22.5, "unsteered": 10.0, "random": 11.0}


def priced(folder, price: dict | None = NUMBERS):
    """What eval.select_layer --capability and eval.vector_quality leave."""
    path = folder / "evil_steering_best.json"
    price = None if price is None else {"perplexity": price}
    path.write_text(json.dumps({**json.loads(path.read_text()), "price": price}))
    rows = [
        {
            "layer": 2,
            "coef": coef,
            "control": control,
            "what": what,
            "value": value,
            "low": value - 2.5,
            "high": value + 2.5,
        }
        for what, values in (("evil score", (9.5, 71.25, 12)), ("perplexity", (10, 20000.25, 11)))
        for (coef, control), value in zip(((0, ""), (1.5, ""), (1.5, "random 1")), values, strict=True)
        if price or coef == 0
    ]
    pandas.DataFrame(rows).to_csv(folder / "evil_steering_tradeoff.csv", index=False)
    save_figure(new_figure()[0], folder / "evil_steering_tradeoff.png")
    gain = {"value": 61.8, "low": 50.1, "high": 70.2}
    cell = {"layer": 2, "coef": 1.5, "works": True, "gain": gain, "wrong_way": {"value": 0.05, "low": 0, "high": 0.1}}
    card = {
        "trait": "evil", "verdict": "works at layer 2 & more", "sweep": {"cells": [cell]},
        "pairs": {"count": 44, **{name: [None, 0.11, 0.234, 0.9] for name in ("pair_cosine", "auc", "half_cosine")}},
        "prompt": {"score": 55.5, "steering_less_prompt": {"value": 6.25, "low": 1, "high": 11}},
    }  # fmt: skip
    (folder / "quality").mkdir(exist_ok=True)
    (folder / "quality" / "evil.json").write_text(json.dumps(card))
    save_figure(new_figure()[0], folder / "quality" / "evil.png")


def test_what_steering_costs_and_what_vectors_are_worth(run_stage, folder):
    page, said = make(run_stage, folder)
    assert "evil: not made (eval.capability, then eval.select_layer --capability)" in page
    assert "evil: not made (eval.vector_quality)" in page and "4 of 9 sections" in said
    priced(folder)
    page, said = make(run_stage, folder)
    assert "6 of 9 sections" in said and page.count('src="data:image/png;base64,') == 6
    assert "<caption>evil, layer 2, coefficient 1.5</caption>" in page and "<th>95 %</th><th>random</th>" in page
    assert "<tr><td>evil score</td><td>9.5</td><td>71.2</td><td>68.8 to 73.8</td><td>12</td></tr>" in page
    assert "<tr><td>perplexity</td><td>10</td><td>20000</td><td>19998 to 20003</td><td>11</td></tr>" in page
    assert "evil: works at layer 2 &amp; more" in page
    assert (
        "<tr><td>evil</td><td>44</td><td>2</td><td>0.234</td><td>0.234</td><td>0.234</td><td>61.8</td><td>50.1 to 70.2</td>"
        in page
    )
    assert "<td>0.05</td><td>55.5</td><td>6.25</td></tr>" in page
    for ending in ("json", "png"):  # where eval.vector_quality puts it by itself
        (folder / "quality" / f"evil.{ending}").rename(folder / f"evil_v_quality.{ending}")
    beside, said = make(run_stage, folder, "--quality", f"{folder}/{{trait}}_v_quality")
    assert "6 of 9 sections" in said and beside.count('src="data:image/png;base64,') == 6
    assert "evil: not made (eval.vector_quality)" in make(run_stage, folder)[0]


def test_a_price_that_is_not_known_or_no_longer_is_said(run_stage, folder):
    priced(folder, None)
    assert "evil: not measured at the recommended setting" in make(run_stage, folder)[0]
    path = folder / "evil_steering_best.json"
    best = json.loads(path.read_text())
    del best["price"]  # eval.select_layer again, without --capability: the table beside it is of an earlier run
    path.write_text(json.dumps(best))
    page, said = make(run_stage, folder)
    assert "evil: not made (eval.capability" in page and "5 of 9 sections" in said


TINY, OTHER = of_json("tiny", 1), of_json("tiny", 2)


def recorded(path, result=None, parts=None):
    """Give a file a record, making it if need be."""
    content = path.read_bytes() if path.is_file() else b"question,prompt,answer,evil\nq,p,a,50\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with provenance.writing(path, result, parts):
        path.write_bytes(content)


def results(root, odd="", **other):
    """Records of everything that the page shows, all of one model and one vector; ``odd`` is made from ``other``."""
    column = "toy_evil_response_avg_diff_prompt_last_proj_layer2"
    found = json.loads((root / "monitoring" / "evil_system_prompts.json").read_text())
    (root / "monitoring" / "evil_system_prompts.json").write_text(json.dumps({**found, "column": column}))

    def made(name, **what):
        return provenance.record(**{**what, **(other if name == odd else {})})

    recorded(root / "evil_steering.csv", made("sweep", model=TINY, vector=OTHER))
    recorded(root / "evil_steering_best.json", made("best", model=TINY, vector=OTHER))
    monitored = root / "monitoring" / "evil_system_prompts.csv"
    recorded(root / "evil_steering_tradeoff.csv", made("tradeoff", model=TINY, vector=OTHER))
    recorded(root / "quality" / "evil.json", made("quality", model=TINY, vector=OTHER))
    recorded(monitored, made("monitored", model=TINY))
    recorded(monitored, parts={column: made("projection", vector=OTHER), "other": made("", vector=TINY)})
    recorded(root / "shift.csv", parts={"other, evil": made("shift", base_model=TINY, model=OTHER, vector=OTHER)})
    vectors = {"evil_response_avg_diff": other.get("vector", OTHER) if odd == "sets" else OTHER}
    recorded(root / "screening" / "sets.csv", made("sets", model=TINY, vectors=vectors))
    recorded(root / "mitigation.csv", provenance.record(model=TINY, vectors={"evil": [OTHER]}))
    recorded(root / "selected" / "evil" / "high.csv", made("selected", model=TINY, adapter=OTHER))


def test_results_of_one_model_and_one_vector_are_one_page(run_stage, folder):
    priced(folder)
    results(folder)
    _, said = make(run_stage, folder)
    assert "no record" not in said


@pytest.mark.parametrize(
    ("odd", "other", "words"),
    [
        ("sweep", {"model": OTHER}, "model of the one"),
        ("monitored", {"model": OTHER}, "model of the one"),
        ("shift", {"base_model": OTHER}, "model of the one"),
        ("sets", {"model": OTHER}, "model of the one"),
        ("selected", {"model": OTHER}, "model of the one"),
        ("sweep", {"vector": TINY}, "vector of the one"),
        ("best", {"vector": TINY}, "vector of the one"),
        ("tradeoff", {"vector": TINY}, "vector of the one"),
        ("tradeoff", {"model": OTHER}, "model of the one"),
        ("quality", {"vector": TINY}, "vector of the one"),
        ("quality", {"model": OTHER}, "model of the one"),
        ("projection", {"vector": TINY}, "vector of the one"),
        ("shift", {"vector": TINY}, "vector of the one"),
        ("sets", {"vector": TINY}, "vector of the one"),
    ],
)
def test_results_of_different_models_or_vectors_are_no_page(run_stage, folder, odd, other, words):
    results(folder, odd, **other)
    command = ["--model", "toy", "--trait", "evil", "--folder", folder, "--steering", f"{folder}/{{trait}}_steering"]
    done = run_stage("eval.report", *command)
    assert done.returncode == 2 and words in done.stderr and "do not belong together" in done.stderr, done
    assert not (folder / "report.html").exists()


def test_results_without_records_are_named(run_stage, folder):
    _, said = make(run_stage, folder)
    assert "3 of these results have no record of what they were made from: " in said and "shift.csv" in said


@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_no_row_of_panels_is_wider_than_the_page(tmp_path, count):
    axes = new_figure(columns=count)[1]
    assert len(axes) == count and all(axis.get_visible() for axis in axes)
    cosines = pandas.DataFrame([[0.5] * 81] * 81)
    heat_maps([("evil", cosines)] * count, tmp_path / "cosines.png", xlabel="layer", ylabel="layer", digits=None)
    panels = [{"title": "evil", "groups": {"normal": ([1, 2, 3], [4, 5, 7])}}] * count
    scatter(panels, tmp_path / "scatter.png", xlabel="shift", ylabel="score")
    histograms([{"title": "evil", "groups": {"normal": [1, 2, 4]}}] * count, tmp_path / "rows.png", xlabel="difference")
    pictures = list(tmp_path.glob("*.png"))
    widths = [int.from_bytes(picture.read_bytes()[16:20]) for picture in pictures]
    assert len(widths) == 3 and max(widths) <= PAGE * DPI


def test_selected_rows_are_compared_with_intervals(tmp_path):
    """The order of three means is no finding of its own: how far the steps are known stands beside them."""
    for end, shift in (("high", 30.0), ("random", 29.0), ("low", 0.0)):
        rows = [{"question": f"q{k}", "evil": 20 + shift + 5 * ((k * 7 + len(end)) % 5)} for k in range(20)]
        (tmp_path / "evil").mkdir(exist_ok=True)
        pandas.DataFrame(rows).to_csv(tmp_path / "evil" / f"{end}.csv", index=False)
    section = selection_section(["evil", "kind"], tmp_path)
    (_, columns, ((trait, *means, unclear, clear),)), *_ = section.tables
    assert trait == "evil" and means == pytest.approx([60, 59, 30]) and len(columns) == 6
    assert re.fullmatch(r"\+1\.0 \(-\d\.\d to \+\d\.\d\)", unclear)
    assert re.fullmatch(r"\+29\.0 \(\+2\d\.\d to \+3\d\.\d\)", clear)
    assert section.missing == ["kind: not made"]
