"""What files beside a vector say of doses that broke coherence, and which of them are listened to."""

import json

import pytest
import torch

from persona_vectors.files import provenance
from persona_vectors.sharing import quality
from persona_vectors.sharing.formats import About, norms_text, save_both
from persona_vectors.steering.broken import beyond
from persona_vectors.steering.steering_list import ListGrid
from persona_vectors.steering.sweep import Grid
from persona_vectors.vectors.storage import fingerprint

ROWS = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
BROKEN = {"broken_from": {"2": 0.5, "3": 2.0}, "broken_below": {"2": -0.7}, "min_coherence": 70.0}
BY_ROW = [0.5] * 5
CARD = {"trait": "evil", "model": "m", "verdict": "works", "dose_of_1": BY_ROW, "sweep": BROKEN,
        "pairs": {name: BY_ROW for name in quality.BY_LAYER}}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    save_both(ROWS, tmp_path, About(trait="evil", kind="response_avg_diff", mean_norms=norms_text([2.0] * 5)))
    return tmp_path


def said(folder, doses=(0.5, 0.9), layers=(2,), positions="response"):
    grid = Grid.of([0.0], layers, str(folder / "{trait}_response_avg_diff.pt"), positions, 1, doses=[0.0, *doses])
    grid.load(["evil"])
    return beyond(grid, "evil")


def put(path, content, of=ROWS, **more):
    with provenance.writing(path, provenance.record(vector=fingerprint("v.pt", of), **more)):
        path.write_text(json.dumps(content))


def test_each_file_that_tells_is_named(folder):
    assert said(folder) == ""
    save_both(ROWS, folder, About(trait="evil", kind="response_avg_diff", mean_norms=norms_text([2.0] * 5),
                                  quality=quality.compact(CARD, ROWS)))  # fmt: skip
    told = "evil_response_avg_diff.safetensors says that coherence fell below 70 at such doses: 0.9 at layer 2 (from 0.5 on)"
    assert said(folder) == f"{folder}/{told}"
    put(folder / "evil_sweep_best.json", BROKEN, positions="response")
    assert said(folder).startswith(f"{folder}/evil_sweep_best.json says")
    put(folder / "evil_response_avg_diff_quality.json", CARD)
    assert said(folder).startswith(f"{folder}/evil_response_avg_diff_quality.json says")
    assert said(folder, doses=(0.5,))  # at the dose itself too
    assert "-0.9 at layer 2 (from -0.7 on)" in said(folder, doses=(-0.9, 0.4, -0.8))  # each sign has its own
    assert said(folder, doses=(-0.6, 0.4)) == "" == said(folder, doses=(-3.0,), layers=(3,))
    assert said(folder, doses=(0.49,)) == "" == said(folder, layers=(1,))
    assert "0.9 at layer 2 (from 0.5 on)" in said(folder, layers=(1, 2, 3)) and "layer 3" not in said(
        folder, layers=(2, 3)
    )


@pytest.mark.parametrize(
    "content",
    [[], {}, {"broken_from": {"2": "0.1"}}, {"broken_from": ["2"]}, {"broken_from": {"2": None}}, {"broken_from": {}}],
)
def test_what_tells_nothing_is_passed_over(folder, content):
    put(folder / "evil_best.json", content)
    put(folder / "evil_response_avg_diff_quality.json", {"sweep": content})
    (folder / "torn_best.json").write_text('{"broken')
    assert said(folder) == ""


def test_others_are_not_listened_to(folder):
    put(folder / "other_best.json", BROKEN, of=ROWS + 1)
    put(folder / "prompt_best.json", BROKEN, positions="prompt")
    put(folder / "evil_response_avg_diff_quality.json", CARD, of=ROWS + 1)
    (folder / "anybody_best.json").write_text(json.dumps(BROKEN))  # nothing proves of which vector
    assert said(folder) == "" and "prompt_best.json" in said(folder, positions="prompt")


def test_where_no_dose_is_known_nothing_is_said(folder):
    put(folder / "evil_best.json", BROKEN)
    path = str(folder / "evil_response_avg_diff.pt")
    (folder / "list.json").write_text(json.dumps([{"vector": path, "layer": 2, "coef": 9}]))
    unsteered = Grid.of([0.0])
    listed = ListGrid.read(str(folder / "list.json"))
    all_layers = Grid.of([9.0], ["all"], path)
    for grid in (unsteered, listed, all_layers):
        grid.load(["evil"])
        assert beyond(grid, "evil") == ""
