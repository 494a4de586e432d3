"""The table of mitigations: what is read from where, and the control."""

import json
import shutil

import pandas
import pytest
import torch
from helpers import tiny_model

from eval import mitigation
from persona_vectors import models
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import of_json, plain
from persona_vectors.sharing.formats import About, save_both
from persona_vectors.vectors.storage import save_vectors


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
    shutil.rmtree(tmp_path / "evil/seed1")  # of one seed there is no range
    mitigation.report(str(tmp_path), output=str(tmp_path / "one"))
    out = capsys.readouterr().out
    assert "range" not in out and "| evil | preventative steering | 0.5 | 40.0 | 80.0 | 2.000 -> 1.000 | 2.000 |" in out


def test_coefficients_have_their_doses_where_they_are_known(tmp_path, capsys):
    about = About(trait="evil", kind="response_avg_diff", mean_norms="1,2,5")
    vector = save_both(torch.ones(3, 4), tmp_path / "v", about)[0]  # of norm 2
    folder = tmp_path / "out" / "evil" / "seed0"
    for arm in ("steer_0.5", "random_0.5", "steer_2", "inference"):
        make_arm(folder, arm, 40, losses=[2.0, 1.0], coefs=(0.0, -0.5) if arm == "inference" else None)
        steering = {"steering_vector_path": str(vector), "steering_coef": 0.5, "layers": [2]}
        record = {"steering_config": steering if arm == "steer_0.5" else steering | {"steering_vector_path": "gone.pt"}}
        (folder / arm / "training_config.json").write_text(json.dumps(record))
    mitigation.report(str(tmp_path / "out"))
    out, table = (
        capsys.readouterr().out,
        pandas.read_csv(tmp_path / "out" / "mitigation.csv").set_index(["arm", "coef"]),
    )
    for arm, coef in (
        ("preventative steering", 0.5),
        ("random vector of the same norm", 0.5),
        ("steering at inference", -0.5),
    ):
        assert f"| evil | {arm} | {coef:g} (dose {coef * 2 / 5:.3g}) |" in out, "as long as the trait's own"
    assert "| preventative steering | 2 |" in out and table["dose"].notna().sum() == 3
    torch.save(torch.ones(3, 4) * 2, vector)  # another vector than the training's: nothing is known
    mitigation.report(str(tmp_path / "out"))
    assert "dose" not in capsys.readouterr().out


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


def recorded(path, **made_from):
    """Give a file that is there a record."""
    content = path.read_bytes()
    with provenance.writing(path, provenance.record(**made_from)):
        path.write_bytes(content)


def arms(root, model, vector, judge="logprobs"):
    """A trait's arms with records, as eval_persona and training.py leave them."""
    folder = root / "evil" / "seed0"
    of = lambda arm: of_json(arm, arm)  # noqa: E731
    common = {"model": model, "artifact": of("questions"), "judge_model": "j", "judge": judge}
    for arm in ("base", "plain_misaligned_2", "steer_1", "ablate", "inference"):
        make_arm(folder, arm, 50, losses=None if arm in ("base", "inference") else [1.0] * 8, coefs=None)
        steered = {"vector": vector} if arm == "inference" else {}
        recorded(folder / f"{arm}.csv", **common, adapter=None if arm == "base" else of(arm), **steered)
        if (folder / arm).is_dir():
            provenance.write(folder / arm, provenance.record(model=model, vectors=[vector]))
    return folder


TINY, OTHER = of_json("tiny", 1), of_json("tiny", 2)


def test_the_table_says_what_it_is_made_from(tmp_path, capsys):
    arms(tmp_path, TINY, OTHER)
    mitigation.report(str(tmp_path))
    made_from = provenance.result_of(tmp_path / "mitigation.csv")
    assert made_from["model"] == plain(TINY) and made_from["vectors"] == {"evil": [plain(OTHER)]}
    assert len(made_from["answers"]) == 5 and "evil/seed0/steer_1.csv" in made_from["answers"]
    assert "no record" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arm", "changes", "words"),
    [
        ("base", {"model": OTHER}, "model of the one is tiny"),
        ("inference", {"vector": TINY}, "vector of the one is tiny"),
        ("ablate", {"artifact": TINY}, "artifact of the one is tiny"),
        ("steer_1", {"judge_model": "k"}, "judge_model of the one is 'j', of the other 'k'"),
        ("plain_misaligned_2", {"judge": "sampling"}, "judge of the one is 'logprobs', of the other 'sampling'"),
    ],
)
def test_results_of_different_things_are_not_one_table(tmp_path, arm, changes, words):
    path = arms(tmp_path, TINY, OTHER) / f"{arm}.csv"
    recorded(path, **{**provenance.result_of(path), **changes})
    with pytest.raises(UserError, match="do not belong together") as told:
        mitigation.report(str(tmp_path))
    assert words in str(told.value) and arm in str(told.value)
    assert not (tmp_path / "mitigation.csv").exists()


def test_a_training_from_another_base_or_vector_is_not_in_the_table(tmp_path):
    folder = arms(tmp_path, TINY, OTHER)
    provenance.write(folder / "steer_1", provenance.record(model=TINY, vectors=[TINY]))
    with pytest.raises(UserError, match="vector of the one"):
        mitigation.report(str(tmp_path))
    provenance.write(folder / "steer_1", provenance.record(model=OTHER, vectors=[OTHER]))
    with pytest.raises(UserError, match="model of the one"):
        mitigation.report(str(tmp_path))


def test_answers_of_an_adapter_that_was_trained_anew_since_are_refused(tmp_path, qwen2_folder):
    from peft import LoraConfig, get_peft_model

    folder = arms(tmp_path, TINY, OTHER)
    base = tiny_model("qwen2")
    adapter = get_peft_model(base, LoraConfig(target_modules=["v_proj"], init_lora_weights=False))
    adapter.peft_config["default"].base_model_name_or_path = str(qwen2_folder)
    adapter.save_pretrained(folder / "ablate")
    of_model = models.made_of(models.resolve(str(folder / "ablate")))
    for path in folder.glob("*.csv"):
        of_arm = {"adapter": of_model["adapter"]} if path.stem == "ablate" else {}
        recorded(path, **{**provenance.result_of(path), "model": of_model["model"], **of_arm})
    for trained in ("plain_misaligned_2", "steer_1", "ablate"):
        provenance.write(folder / trained, provenance.record(model=of_model["model"], vectors=[OTHER]))
    mitigation.report(str(tmp_path))
    anew = get_peft_model(tiny_model("qwen2"), LoraConfig(target_modules=["q_proj"]))
    anew.peft_config["default"].base_model_name_or_path = str(qwen2_folder)
    anew.save_pretrained(folder / "ablate")
    with pytest.raises(UserError, match="adapter of the one is ablate"):
        mitigation.report(str(tmp_path))


def test_answers_without_records_are_counted(tmp_path, capsys):
    folder = arms(tmp_path, TINY, OTHER)
    provenance.path_of(folder / "ablate.csv").unlink()
    mitigation.report(str(tmp_path))
    assert "1 of 5 answers files have no record" in capsys.readouterr().out


def test_the_control_is_drawn_anew_only_when_told(tmp_path):
    for name, seed in (("v", 5), ("w", 6)):
        save_vectors(torch.randn(5, 32, generator=torch.Generator().manual_seed(seed)), tmp_path / f"{name}.pt")
    control = lambda name, **flags: mitigation.random(str(tmp_path / f"{name}.pt"), str(tmp_path / "r.pt"), **flags)  # noqa: E731
    control("v")
    drawn = torch.load(tmp_path / "r.pt")
    shutil.copy(tmp_path / "v.pt", tmp_path / "x.pt")
    control("x")
    with pytest.raises(UserError, match=r"vector was v.pt \(.*\), now w.pt \("):
        control("w")
    assert torch.equal(torch.load(tmp_path / "r.pt"), drawn)
    control("w", overwrite=True)
    assert torch.allclose(torch.load(tmp_path / "r.pt").norm(dim=-1), torch.load(tmp_path / "w.pt").norm(dim=-1))


def make_costs(folder, arm, numbers, **made_from):
    """capability/<arm>.csv as eval.capability leaves it: {coefficient: perplexity}, with kl and a control beside it."""
    (folder / "capability").mkdir(exist_ok=True)
    path = folder / "capability" / f"{arm}.csv"
    rows = []
    for coef, value in numbers.items():
        at = {"coef": coef, "layer": 2 if arm == "inference" else None, "control": None, "standard_error": 0.5, "n": 7}
        rows += [at | {"task": "perplexity", "measure": "perplexity", "value": value}]
        rows += [at | {"task": "refusals", "measure": "harmless refused", "value": 0.1}]
        rows += [at | {"task": "kl", "measure": "kl", "value": 0.0}, {**rows[-2], "control": "random 1", "value": 99.0}]
    with provenance.writing(path, provenance.record(**made_from) if made_from else None):
        pandas.DataFrame(rows).to_csv(path, index=False)
    return path


def test_what_each_arm_costs_stands_beside_its_scores(tmp_path, capsys):
    for seed in (0, 1):
        folder = tmp_path / "evil" / f"seed{seed}"
        for arm in ("base", "plain_misaligned_2", "steer_1", "random_1"):
            make_arm(folder, arm, 50, losses=None if arm == "base" else [1.0] * 8)
        make_arm(folder, "inference", 50, coefs=(0.0, -0.5))
        make_costs(folder, "base", {0.0: 8.0})
        make_costs(folder, "steer_1", {0.0: 10.0 + 2 * seed})
        make_costs(folder, "inference", {0.0: 9.0, -0.5: 12.0})
    mitigation.report(str(tmp_path))
    table = pandas.read_csv(tmp_path / "mitigation.csv")
    columns = list(table.columns)
    assert columns[columns.index("model") + 1 :] == [
        f"{name}{end}" for name in ("perplexity", "refusals: harmless refused") for end in ("", "_low", "_high")
    ], "behind what was there before; kl is the distance from the same model"
    at = table.set_index(["arm", "coef"])["perplexity"]
    assert at["base", 0.0] == 8 and at["steer_1".split("_")[0], 1.0] == 11 and at["inference", 0.5] == 12
    assert at["plain_misaligned_2", 0.0] == at["inference", 0.0] == 9, "steering at inference is on the plain finetune"
    assert table.set_index("arm").loc["random", "perplexity"] != table.set_index("arm").loc["random", "perplexity"]
    out = capsys.readouterr().out
    assert "| test loss | perplexity | refusals: harmless refused |" in out
    assert "| 2.000 | 11 (10-12) | 0.1 (0.1-0.1) |" in out and "| random vector of the same norm | 1 |" in out
    assert len(provenance.result_of(tmp_path / "mitigation.csv")["capability"]) == 6


def test_costs_of_another_model_vector_or_measure_are_refused(tmp_path):
    folder = arms(tmp_path, TINY, OTHER)
    of = lambda arm: of_json(arm, arm)  # noqa: E731
    good = {"model": TINY, "tasks": {"perplexity": of("pages")}, "limit": None}
    make_costs(folder, "steer_1", {0.0: 9.0}, **good, adapter=of("steer_1"))
    make_costs(folder, "inference", {0.0: 9.0, -1.0: 9.0}, **good, adapter=of("inference"), vector=OTHER)
    (folder / "plain_misaligned_2.csv").unlink()  # in this test, of another adapter than that of inference
    mitigation.report(str(tmp_path))
    for arm, changes, words in (
        ("steer_1", {"adapter": of("ablate")}, "adapter of the one is steer_1"),
        ("steer_1", {"adapter": of("steer_1"), "model": OTHER}, "model of the one is tiny"),
        ("steer_1", {"adapter": of("steer_1"), "limit": 5}, "limit of the one is"),
        ("steer_1", {"adapter": of("steer_1"), "tasks": {"perplexity": of("other pages")}}, "tasks of the one is"),
        ("inference", {"adapter": of("inference"), "vector": TINY}, "vector of the one is"),
    ):
        path = make_costs(folder, arm, {0.0: 9.0, -1.0: 9.0}, **(good | changes))
        with pytest.raises(UserError, match="do not belong together") as told:
            mitigation.report(str(tmp_path))
        assert words in str(told.value) and f"capability/{arm}.csv" in str(told.value), told.value
        kept = {"adapter": of(arm), **({"vector": OTHER} if arm == "inference" else {})}
        make_costs(folder, arm, {0.0: 9.0, -1.0: 9.0}, **good, **kept)
        assert path.exists()
    mitigation.report(str(tmp_path))
