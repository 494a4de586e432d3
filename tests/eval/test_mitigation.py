"""The table of mitigations: what is read from where, and the control."""

import json

import pandas
import pytest
import torch

from eval import mitigation
from persona_vectors.errors import UserError


def make_arm(folder, arm, score, losses=None, coefs=None, coherence=80.0):
    rows = [
        {"question": "q", "prompt": "p", "answer": "a", "question_id": "x", "evil": score + d, "coherence": coherence}
        for d in (-1, 1)
    ]
    if coefs:
        rows = [{**row, "coef": c, "layer": 2, "evil": row["evil"] + 10 * c} for c in coefs for row in rows]
    folder.mkdir(parents=True, exist_ok=True)
    pandas.DataFrame(rows).to_csv(folder / f"{arm}.csv", index=False)
    if losses:
        (folder / arm).mkdir()
        log = [{"loss": loss, "step": k} for k, loss in enumerate(losses, 1)] + [
            {"eval_loss": losses[-1] + 1, "step": 16}
        ]
        (folder / arm / "training_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))


def test_the_table_holds_every_arm_with_means_and_ranges(tmp_path, capsys):
    for seed, shift in enumerate((0, 6)):
        folder = tmp_path / "evil" / f"seed{seed}"
        make_arm(folder, "base", 5)
        make_arm(folder, "plain_misaligned_2", 90 - shift, losses=[3.0] * 8 + [1.0] * 8)
        make_arm(folder, "steer_0.5", 40 + shift, losses=[2.0] * 8 + [1.0] * 8)
        make_arm(folder, "random_0.5", 80, losses=[3.0] * 8 + [1.0] * 8)
        make_arm(folder, "ablate", 88, losses=[3.0] * 8 + [1.0] * 8)
        make_arm(folder, "inference", 90, coefs=(0.0, -0.5))
    mitigation.report(str(tmp_path))
    table = pandas.read_csv(tmp_path / "mitigation.csv").set_index(["arm", "coef"])
    steer = table.loc["steer", 0.5]
    assert (steer["score"], steer["score_low"], steer["score_high"], steer["seeds"], steer["answers"]) == (
        43,
        40,
        46,
        2,
        4,
    )
    assert (steer["loss_first"], steer["loss_last"], steer["test_loss"]) == (2.0, 1.0, 2.0)
    assert table.loc["plain_misaligned_2", 0.0]["score"] == 87
    assert table.loc["inference", 0.5]["score"] == 85, "the sign of an inference-time coefficient is turned"
    assert len(pandas.read_csv(tmp_path / "mitigation_runs.csv")) == 14
    assert (tmp_path / "mitigation.png").read_bytes()[:4] == b"\x89PNG"
    out = capsys.readouterr().out
    assert (
        "| evil | preventative steering | 0.5 | 43.0 (40.0-46.0) | 80.0 (80.0-80.0) | 2.000 -> 1.000 | 2.000 |" in out
    )
    assert "| evil | steering at inference | -0.5 |" in out and "| evil | base model |  | 5.0" in out


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="scripts/mitigation.sh makes them"):
        mitigation.report(str(tmp_path))


def test_the_control_has_the_norms_of_the_vector_and_another_direction(tmp_path):
    vectors = torch.randn(5, 32, generator=torch.Generator().manual_seed(5)) * torch.arange(1, 6)[:, None]
    torch.save(vectors, tmp_path / "v.pt")
    mitigation.random(str(tmp_path / "v.pt"), str(tmp_path / "r.pt"), seed=1)
    drawn = torch.load(tmp_path / "r.pt")
    assert torch.allclose(drawn.norm(dim=-1), vectors.norm(dim=-1))
    assert torch.nn.functional.cosine_similarity(drawn, vectors).abs().max() < 0.6
    mitigation.random(str(tmp_path / "v.pt"), str(tmp_path / "r.pt"), seed=1)
    with pytest.raises(UserError, match="seed was 1, now 2"):
        mitigation.random(str(tmp_path / "v.pt"), str(tmp_path / "r.pt"), seed=2)
    assert torch.equal(torch.load(tmp_path / "r.pt"), drawn), "a rerun does not change what was trained with"
