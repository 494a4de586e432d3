"""A vector's card in its metadata: whose it is, what does not go with it, and what others may write there."""

import json
from dataclasses import replace

import pytest
import torch

from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import of_json
from persona_vectors.sharing import quality
from persona_vectors.sharing.card import make_card
from persona_vectors.sharing.formats import About, read_shared, save_both, save_shared
from persona_vectors.vectors.storage import fingerprint

ROWS = torch.randn(7, 16, generator=torch.Generator().manual_seed(0))
ABOUT = About(model="lab/tiny", trait="evil", kind="response_avg_diff")


def card(**more) -> dict:
    of_layer = [0.123456789 * k for k in range(7)]
    pairs = {name: of_layer for name in quality.BY_LAYER} | {
        "count": 12,
        "mean_norms": of_layer,
        "read_from": {"model": "m"},
    }
    whole = {"trait": "evil", "vector": "/home/me/evil.pt", "model": "lab/tiny", "pairs": pairs, "dose_of_1": of_layer}
    return whole | {"verdict": "works at layers 2-3", "overlap": {}} | more


def written(folder, of=ROWS, **more):
    """A vector with a card beside it, recorded as that of the vector ``of``."""
    path, _ = save_both(ROWS, folder, ABOUT)
    beside = quality.path_beside(path)
    with provenance.writing(beside, provenance.record(vector=fingerprint(path, of), seed=0)):
        beside.write_text(json.dumps(card(**more)))
    return path, beside


def test_a_card_of_this_vector_is_found(tmp_path):
    path, _ = written(tmp_path)
    said: list = []
    text = quality.find(path, ROWS, said.append)
    told = quality.parse(text, ROWS)
    assert not said and told["verdict"] == "works at layers 2-3" and told["pairs"]["auc"][6] == 0.7407
    assert "home" not in text and "mean_norms" not in text and "read_from" not in text
    assert quality.find(tmp_path / "none.pt", ROWS, said.append) == "" and not said


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path, _: torch.save(ROWS + 1, path), "it is of another vector than"),
        (
            lambda _, beside: beside.write_text(json.dumps(card(verdict="splendid"))),
            "it was changed after it was written",
        ),
        (lambda _, beside: provenance.path_of(beside).unlink(), "nothing records which vector it is of"),
        (lambda _, beside: beside.write_text("{"), "is not readable as JSON"),
        (lambda path, _: written(path.parent, verdict=None), "it is no card of eval.vector_quality"),
        (lambda path, _: written(path.parent, pairs={}), "it is no card of eval.vector_quality"),
        (lambda path, _: written(path.parent, overlap={"x" * 70000: 1}), "65536 at most travel with a vector"),
    ],
)
def test_any_other_is_left_out_aloud(tmp_path, change, reason):
    path, beside = written(tmp_path)
    change(path, beside)
    said: list = []
    assert quality.find(path, torch.load(path, weights_only=True), said.append) == ""
    assert len(said) == 1 and reason in said[0] and said[0].startswith(f"{beside} is left out: ")


def test_cells_of_a_large_sweep_stay_behind(tmp_path):
    cells = [{"layer": k, "score": 1 / 3, "note": "x" * 100} for k in range(700)]
    path, _ = written(tmp_path, sweep={"cells": cells, "best": cells[2], "broken_from": {"2": 0.5}})
    sweep = quality.parse(quality.find(path, ROWS), ROWS)["sweep"]
    assert "cells" not in sweep and sweep["broken_from"] == {"2": 0.5} and sweep["best"]["score"] == 0.3333


@pytest.mark.parametrize(
    "text",
    ["x", "[]", "{}", "[" * 9000, json.dumps(card()), json.dumps(card(of="sha256:0")), "{" + " " * 70000 + "}",
     quality.compact(card(), ROWS + 1), quality.compact(card(dose_of_1=[1.0]), ROWS),
     quality.compact(card(dose_of_1=["1"] * 7), ROWS), quality.compact(card(pairs=[]), ROWS)],
)  # fmt: skip
def test_what_other_programs_write_there_is_not_taken(tmp_path, caplog, text):
    save_shared(ROWS, tmp_path / "evil_response_avg_diff.safetensors", replace(ABOUT, quality=text))
    rows, about = read_shared(tmp_path / "evil_response_avg_diff.safetensors")
    assert about.quality == "" and about.model == "lab/tiny" and "it is none of this vector" in caplog.text
    assert "worth" not in str(make_card("me/x", [(replace(about, quality=text), rows)], {}))


def test_files_of_earlier_versions_have_no_card(tmp_path):
    from safetensors.torch import save_file

    save_file({"vectors": ROWS}, tmp_path / "a.safetensors", metadata={"trait": "evil", "kind": "response_avg_diff"})
    assert read_shared(tmp_path / "a.safetensors")[1].quality == ""


def test_a_page_of_an_odd_card_is_a_page():
    """Metadata of others: lines in the verdict, no number where a number should be."""
    odd = card(verdict="good\n# buy\nnow", sweep={"layers": {"2": {"per_dose": "x"}}, "best": {"layer": 99}})
    odd["pairs"]["pair_cosine"] = [None, 0.1, 0.9, None, 0.2, 0.3, 0.8]
    text = str(make_card("me/x", [(replace(ABOUT, quality=quality.compact(odd, ROWS)), ROWS)], {}))
    assert "good # buy now." in text and "\n# buy" not in text
    shown = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert shown == ["| 1", "| 2", "| 4", "| 5"]  # neither the embedding nor the last row, which nothing steers
    nothing = card()
    nothing["pairs"] |= {name: [None] * 7 for name in quality.BY_LAYER}  # of one question
    page = str(make_card("me/x", [(replace(ABOUT, quality=quality.compact(nothing, ROWS)), ROWS)], {}))
    assert "works at layers 2-3." in page and "held-out AUC" not in page


def test_a_fingerprint_is_of_the_numbers_alone():
    assert of_json("a", 1).id != fingerprint("", ROWS).id == fingerprint("x.pt", ROWS.clone()).id
