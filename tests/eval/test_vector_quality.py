"""A vector's card, each of its numbers against a plain computation."""

import itertools
import json

import numpy
import pandas
import pytest
import torch
from helpers import make_samples, plain_loop

from persona_vectors.analysis import steerability, vector_quality
from persona_vectors.analysis.sweeps import LISTED
from persona_vectors.analysis.trade_off import PER_NAT
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import of_json
from persona_vectors.plots import DPI
from persona_vectors.sharing.formats import About, norms_text, read_norms, save_both
from persona_vectors.sharing.quality import find
from persona_vectors.vectors.norms import mean_norms
from persona_vectors.vectors.separation import auc, d_prime, held_out
from persona_vectors.vectors.storage import random_like, save_vectors

CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


def cos(a, b) -> float:
    return float(a @ b / a.norm() / b.norm())


@pytest.fixture(scope="module")
def activations():
    """Two classes that differ along a direction of their own at each of three layers, for twelve questions of two pairs."""
    draw = torch.Generator().manual_seed(0)
    negative = torch.randn(24, 3, 16, generator=draw)
    shift = torch.randn(3, 16, generator=draw) * torch.tensor([0.0, 0.3, 3.0])[:, None]
    return negative + shift + torch.randn(24, 3, 16, generator=draw) / 2, negative, [k // 2 for k in range(24)], shift


def test_what_the_pairs_say(activations):
    positive, negative, questions, shift = activations
    found = vector_quality.of_pairs(positive, negative, questions, shift)
    for layer in range(3):
        differences = positive[:, layer] - negative[:, layer]
        plain = [cos(a, b) for a, b in itertools.combinations(differences, 2)]
        assert found["pair_cosine"][layer] == pytest.approx(sum(plain) / len(plain), abs=1e-5)
        assert layer == 0 or found["agreement"][layer] == pytest.approx(
            cos(differences.mean(0), shift[layer]), abs=1e-5
        )
        assert -1 <= found["half_cosine_lowest"][layer] <= found["half_cosine"][layer] <= 1
    for name in ("pair_cosine", "auc", "d_prime", "half_cosine"):
        assert found[name][0] < found[name][1] < found[name][2] + 1e-9, name
    assert found["half_cosine"][2] > 0.95 and found["auc"][2] == 1.0 and abs(found["half_cosine"][0]) < 0.5
    assert vector_quality.of_pairs(positive, negative, questions, shift) == found  # the halves are drawn by the seed


def test_halves_keep_questions_whole(activations):
    _, _, questions, _ = activations
    halves = vector_quality._halves(torch.tensor(questions), 0)
    assert len(halves) == vector_quality.SPLITS
    for half in halves:
        assert int(half.sum()) == 12 and torch.equal(half[::2], half[1::2])
    assert not vector_quality._halves(torch.tensor([4, 4]), 0)


def test_too_few_say_nothing(activations):
    positive, negative, _, shift = activations
    one = vector_quality.of_pairs(positive[:1], negative[:1], [0], shift)
    assert {name: one[name] for name in ("pair_cosine", "auc", "d_prime", "half_cosine")} == dict.fromkeys(
        ("pair_cosine", "auc", "d_prime", "half_cosine"), [None] * 3
    )
    json.dumps(one, allow_nan=False)


def test_d_prime_and_auc_of_numbers_one_can_follow():
    pos, neg = torch.tensor([3.0, 5.0]), torch.tensor([0.0, 2.0])
    assert float(d_prime(pos, neg)) == pytest.approx(3 / 2**0.5)
    assert float(auc(pos, neg)) == 1.0 and d_prime(pos[:1], neg).isnan()
    rows = torch.tensor([[[3.0]], [[5.0]], [[3.0]], [[5.0]]])
    fold = torch.tensor([True, True, False, False])
    assert held_out(rows, rows - 3, fold, d_prime).tolist() == pytest.approx([3 / 2**0.5])


def test_seeds_and_overlaps():
    rows = [torch.randn(2, 8, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    plain = [sum(cos(a[l], b[l]) for a, b in itertools.combinations(rows, 2)) / 3 for l in range(2)]  # noqa: E741
    assert vector_quality.over_seeds(rows) == pytest.approx(plain, abs=1e-5)
    assert vector_quality.overlaps(rows[0], {"x": rows[1]})["x"] == pytest.approx([cos(rows[0][0], rows[1][0]), cos(rows[0][1], rows[1][1])], abs=1e-5)  # fmt: skip
    assert vector_quality.mean_cosine(torch.zeros(2, 4)) == 0


def sweep(gains: dict, controls: dict | None = None, coherence=None, questions=20) -> pandas.DataFrame:
    """A sweep: {(layer, coef): gain of every question, a list or a number}, over scores of 30 with some spread."""
    rows = []
    for layer in dict.fromkeys(layer for layer, _ in gains):
        cells = {(layer, 0.0): 0, **{cell: gain for cell, gain in gains.items() if cell[0] == layer}}
        for control, values in (("", cells), ("random 1", controls or {})):
            for (at, coef), gain in values.items():
                if at == layer:
                    for k in range(questions):
                        gained = gain[k] if isinstance(gain, list) else gain
                        rows.append(
                            (layer, coef, control, f"q{k}", 30 + k % 5 + gained, (coherence or {}).get(coef, 90.0))
                        )
    table = pandas.DataFrame(rows, columns=["layer", "coef", "control", "question", "evil", "coherence"])
    return table.assign(file="sweep.csv")


def test_a_sweep_in_numbers():
    half_against = [20.0] * 15 + [-8.0] * 5
    table = sweep(
        {(16, 1.0): 10, (16, 2.0): 20, (20, 1.0): half_against, (20, 2.0): 60, (20, -1.0): -15},
        {(16, 1.0): 9.8, (16, 2.0): 2, (20, 1.0): 1, (20, 2.0): 0, (20, -1.0): 0},
        {2.0: 80.0},
    )
    noise = pandas.Series(range(len(table))) % 7 - 3  # so that 10 and 9.8 are not told apart
    table.loc[table["layer"] == 16, "evil"] += noise
    found = steerability.steerability(table, "evil", lambda layer: {16: 0.1, 20: 0.2}[layer])
    cells = {(cell["layer"], cell["coef"]): cell for cell in found["cells"]}
    assert len(cells) == 5 and cells[20, 2.0]["dose"] == pytest.approx(0.4) and cells[20, -1.0]["dose"] == -0.2
    assert cells[20, 1.0]["gain"]["value"] == pytest.approx(13) and cells[20, 1.0]["wrong_way"]["value"] == 0.25
    low, high = cells[20, 1.0]["wrong_way"]["low"], cells[20, 1.0]["wrong_way"]["high"]
    assert 0 <= low < 0.25 < high < 0.6
    assert cells[20, -1.0]["wrong_way"]["value"] == 0 and cells[20, -1.0]["works"]  # down is where it was to go
    assert not cells[16, 1.0]["works"] and cells[16, 2.0]["works"]
    # the slope through the unsteered score: sum d y / sum d^2, per question
    expected = [(0.2 * (20 if k < 15 else -8) + 0.4 * 60 + 0.2 * 15) / (0.04 + 0.16 + 0.04) for k in range(20)]
    assert found["layers"]["20"]["per_dose"]["value"] == pytest.approx(sum(expected) / 20)
    words = steerability.in_words(
        found, steerability.against_prompt(table, table.assign(evil=95.0), "evil", cells[20, 2.0])
    )
    assert words.startswith(
        "works at layers 16, 20, dose -0.2 and 0.2 to 0.4; 0% [0%, 16%] of questions move the wrong way"
    )
    assert "no better than a random vector at layer 16, dose 0.1" in words
    assert "the prompt alone reaches 95.0 (coherence" in words and "steering -3.0 from there" in words


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_intervals_of_shares_cover_as_often_as_they_say(share):
    """Those by bootstrap over 20 questions cover a share of .02 in 31 % of draws: without one wrong question they are a point."""
    draws = numpy.random.default_rng(0).random((400, 20)) < share
    found = [steerability.share_of(pandas.Series(draw)) for draw in draws]
    assert sum(one["low"] <= share <= one["high"] for one in found) / len(found) > 0.92
    assert steerability.share_of(pandas.Series([], dtype=bool)) is None
    assert steerability.share_of(pandas.Series([True, True]))["low"] is None


def test_what_chance_makes_is_said_to_be_chance():
    """Of fifteen cells of a vector that does nothing, one works in its 95 % interval every third time."""
    draw, said = numpy.random.default_rng(0), []
    for _ in range(25):
        noise = lambda: draw.normal(0, 12, 20).tolist()  # noqa: E731
        table = sweep({(layer, coef): noise() for layer in (2, 3, 4) for coef in (0.5, 1.0, 1.5, 2.0, 2.5)})
        said.append(steerability.in_words(steerability.steerability(table, "evil", lambda layer: 0.2)))
    works = [words for words in said if words.startswith("works")]
    assert (
        len(works) >= 4 and sum("but of 15 coherent cells chance alone" in words for words in works) >= len(works) - 2
    )
    strong = steerability.steerability(sweep({(2, 1.0): 40, (3, 1.0): noise()}), "evil", lambda layer: 0.2)
    assert "chance" not in steerability.in_words(strong)


def test_the_prompt_is_compared_with_what_raises_the_trait():
    found = steerability.steerability(sweep({(2, -1.0): -25, (2, 1.0): 8}), "evil", lambda layer: 0.2)
    assert steerability.best_cell(found)["coef"] == -1 and steerability.best_cell(found, raises=True)["coef"] == 1
    lowered = steerability.steerability(sweep({(2, -1.0): -25}), "evil", lambda layer: 0.2)
    assert steerability.best_cell(lowered, raises=True) is None


def test_incoherent_cells_count_for_nothing():
    found = steerability.steerability(
        sweep({(20, 1.0): 30, (20, 2.0): -90}, coherence={2.0: 20.0}), "evil", lambda _: 0.2
    )
    assert [cell["works"] for cell in found["cells"]] == [True, False]
    assert found["layers"]["20"]["per_dose"]["value"] == pytest.approx(150)
    assert "not compared with random vectors" in steerability.in_words(found)
    broken = steerability.steerability(sweep({(20, 1.0): 30}, coherence={1.0: 20.0}), "evil", lambda _: 0.2)
    assert broken["layers"] == {} and "no steered cell is coherent" in steerability.in_words(broken)


def test_a_vector_that_does_nothing_and_one_of_every_layer():
    nothing = [1.0, -1.0] * 10
    found = steerability.steerability(sweep({(20, 1.0): nothing}, {(20, 1.0): nothing}), "evil", lambda _: 0.2)
    assert steerability.in_words(found).startswith(
        "does not work: in its 95 % interval, no cell moves the trait more than"
    )
    everywhere = steerability.steerability(sweep({(10**6, 1.0): 30}), "evil", lambda _: 1 / 0)  # has no one dose
    assert everywhere["cells"][0]["dose"] is None and everywhere["cells"][0]["layer"] == "all"
    assert steerability.in_words(everywhere).startswith("works at layer all; 0%")
    listed = steerability.steerability(sweep({(LISTED, 1.0): 30}), "evil", lambda _: 1 / 0)
    assert steerability.in_words(listed).startswith("works at layer list; 0%")


def test_controls_are_called_by_their_kind():
    nothing = [1.0, -1.0] * 10
    table = sweep({(20, 1.0): 10}, {(20, 1.0): 10})
    shuffled = table.assign(control=table["control"].str.replace("random", "shuffled"))
    found = steerability.steerability(shuffled, "evil", lambda _: 0.2)
    assert found["controls"] == ["shuffled"] and "more than a shuffled vector does" in steerability.in_words(found)
    both = pandas.concat([sweep({(20, 1.0): nothing}, {(20, 1.0): nothing}), shuffled[shuffled["control"] != ""]])
    found = steerability.steerability(both, "evil", lambda _: 0.2)
    assert "than the strongest random or shuffled vector does" in steerability.in_words(found)


@pytest.mark.parametrize("sign", [1, -1])
def test_one_random_vector_that_does_as_much_is_enough_to_doubt(sign):
    """Four random vectors do nothing, the fifth does what the trait's own does: beside their mean that would be hidden."""
    own, noise = {(20, 1.0 * sign): 10.0 * sign}, [2.0, -2.0, 1.0, -1.0] * 5
    table = sweep(own, {(20, 1.0 * sign): noise})
    for number, gain in ((2, 0.0), (3, 0.0), (4, 0.0), (5, 9.5 * sign)):
        more = sweep(own, {(20, 1.0 * sign): [gain + n for n in noise]}).query("control == 'random 1'")
        table = pandas.concat([table, more.assign(control=f"random {number}")])
    found = steerability.steerability(table, "evil", lambda _: 0.2)
    (cell,) = found["cells"]
    assert cell["over_controls"]["value"] == pytest.approx(sign * (10 - 9.5 / 5)) and found["control_vectors"] == 5
    assert cell["over_controls"]["low"] * sign > 0 and cell["over_strongest"]["value"] == pytest.approx(0.5 * sign)
    assert not cell["works"] and "more than the strongest random vector does" in steerability.in_words(found)
    found = steerability.steerability(table[table["control"] != "random 5"], "evil", lambda _: 0.2)
    assert found["cells"][0]["works"]


def test_answers_without_coherence_count_where_none_is_asked_for():
    table = sweep({(20, 1.0): 30}).assign(coherence=float("nan"))
    found = steerability.steerability(table, "evil", lambda _: 0.2, min_coherence=0)
    assert found["cells"][0]["works"] and found["cells"][0]["coherence"] is None and found["layers"]["20"]
    prompt = steerability.against_prompt(table, table.assign(evil=95.0), "evil", steerability.best_cell(found))
    assert "the prompt alone reaches 95.0, steering" in steerability.in_words(found, prompt, 0)
    json.dumps([found, prompt], allow_nan=False)
    assert not steerability.steerability(table, "evil", lambda _: 0.2)["cells"][0]["works"]


def test_few_questions_have_no_interval_and_prove_nothing():
    found = steerability.steerability(sweep({(20, 1.0): 50}, questions=2), "evil", lambda _: 0.2)
    assert found["cells"][0]["gain"] == {"value": 50.0, "low": None, "high": None} and not found["cells"][0]["works"]
    assert steerability.in_words(found).startswith("not known to work: fewer than three questions")


def test_a_sweep_without_steered_scores_is_not_a_vector_that_fails():
    table = sweep({(20, 1.0): 50})
    found = steerability.steerability(table.assign(evil=table["evil"].where(table["coef"] == 0)), "evil", lambda _: 0.2)
    assert steerability.in_words(found).startswith("not known to work: the sweep has no steered answers with a score")


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda table: table.drop(columns="question"), "has no column 'question'"),
        (lambda table: table[table["coef"] != 0], "has no unsteered answers"),
    ],
)
def test_a_sweep_that_cannot_tell_is_refused(change, refusal):
    with pytest.raises(UserError, match=refusal):
        steerability.steerability(change(sweep({(20, 1.0): 5})), "evil", lambda _: 0.2)


@pytest.fixture
def made(tmp_path, monkeypatch, tokenizer, qwen2):
    """Answers files of both signs, the vector of them, another one, and a sweep; the samples that the answers are."""
    monkeypatch.chdir(tmp_path)
    words = ["the model answers", "what is it", "is it the model", "the question", "it is", "answers the"]
    samples = {}
    for sign, score in (("pos", 90), ("neg", 5)):
        rows = [
            {
                "question": words[k % 4], "prompt": CHAT.format(words[k % 4]), "answer": f"{sign} {words[(k * 5) % 6]} {k}",
                "question_id": f"vile_{k % 4}_{sign}_0", "vile": score, "coherence": 90,
            }
            for k in range(12)
        ]  # fmt: skip
        pandas.DataFrame(rows).to_csv(f"{sign}.csv", index=False)
        ids = [(tokenizer(r["prompt"], add_special_tokens=False)["input_ids"], tokenizer(r["answer"], add_special_tokens=False)["input_ids"]) for r in rows]  # fmt: skip
        samples[sign] = [type(make_samples(1)[0])(*pair) for pair in ids]
    pooled = {sign: plain_loop(qwen2, each)["response_avg"] for sign, each in samples.items()}
    vector = pooled["pos"].mean(0) - pooled["neg"].mean(0)
    save_vectors(vector, "vile_response_avg_diff.pt")
    save_vectors(random_like(vector, 1), "other_response_avg_diff.pt")
    sweep({(2, 1.0): 40, (2, -1.0): -10}, {(2, 1.0): 1, (2, -1.0): 0}).rename(columns={"evil": "vile"}).drop(
        columns="file"
    ).to_csv("sweep.csv", index=False)
    return samples, pooled, vector


def card(run_stage, folder, *more, vector="vile_response_avg_diff.pt"):
    return run_stage(
        "eval.vector_quality", "--model", folder, "--vector_path", vector, "--pos_path", "pos.csv", "--neg_path", "neg.csv",
        "--trait", "vile", *more,
    )  # fmt: skip


def test_a_card(made, run_stage, qwen2_folder, qwen2, tmp_path):
    samples, pooled, vector = made
    prompted = pandas.read_csv("sweep.csv").query("coef == 0").assign(vile=88.0)
    prompted.drop(columns=["coef", "layer", "control"]).to_csv("prompted.csv", index=False)
    done = card(run_stage, qwen2_folder, "--sweep", "sweep.csv", "--prompt_path", "prompted.csv",
                "--against", "other_response_avg_diff.pt", "--record_norms")  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "vile_response_avg_diff_quality.json").read_text())
    norms = mean_norms(qwen2, samples["pos"] + samples["neg"])
    other = random_like(vector, 1)
    for layer in range(5):
        differences = pooled["pos"][:, layer] - pooled["neg"][:, layer]
        plain = [cos(a, b) for a, b in itertools.combinations(differences, 2)]
        assert found["pairs"]["pair_cosine"][layer] == pytest.approx(sum(plain) / len(plain), abs=0.02)  # bfloat16
        assert found["pairs"]["agreement"][layer] > 0.99
        assert found["dose_of_1"][layer] == pytest.approx(float(vector[layer].norm() / norms[layer]), rel=1e-3)
        assert found["overlap"]["other"][layer] == pytest.approx(cos(vector[layer], other[layer]), abs=1e-4)
    assert (found["pairs"]["count"], found["pairs"]["questions"], found["pairs_of"]) == (12, 4, 12)
    assert found["prompt"]["score"] == 88.0 and "works at layer 2" in found["verdict"]
    assert "12 pairs are few" in found["verdict"] and found["verdict"] in done.stdout
    assert "are not what the vector is made of" not in found["verdict"]
    figure = (tmp_path / "vile_response_avg_diff_quality.png").read_bytes()
    assert len(figure) > 20000 and int.from_bytes(figure[16:20]) * 96 / DPI < 700  # two fit into a page of 70 rem
    assert read_norms("vile_response_avg_diff.pt") == pytest.approx(norms.tolist(), rel=1e-4)  # --record_norms
    again = card(run_stage, qwen2_folder)
    assert "they are not read again" in again.stdout and "not steered with yet" in again.stdout
    assert json.loads((tmp_path / "vile_response_avg_diff_quality.json").read_text())["pairs"] == found["pairs"]
    stranger = card(run_stage, qwen2_folder, "--output", "stranger", vector="other_response_avg_diff.pt")
    assert "these pairs are not what the vector is made of: cosine " in stranger.stdout
    several = card(run_stage, qwen2_folder, "--seed", 1, vector="vile_response_avg_diff.pt,other_response_avg_diff.pt")
    assert "not read again" not in several.stdout  # other halves
    seeds = json.loads((tmp_path / "vile_response_avg_diff_quality.json").read_text())["seed_cosine"]
    assert seeds == pytest.approx([cos(vector[k], other[k]) for k in range(5)], abs=1e-4)


def costs(path="cap.csv", layer=2, **made):
    """A table of eval.capability: a nat at coefficient 1, half of it at -1."""
    rows = [(0.0, 0.0), (1.0, 1.0), (-1.0, 0.5)]
    table = pandas.DataFrame(rows, columns=["coef", "value"]).assign(layer=layer, control="", n=20)
    with provenance.writing(path, provenance.record(**made) if made else None):
        table.assign(task="kl", measure="kl", standard_error=0.05).to_csv(path, index=False)
    return path


def test_norms_that_are_written_anew(made, run_stage, qwen2_folder, tmp_path):
    """The card tells doses by the norms that it writes, not by those that were there; whose they were is said."""
    told = About(trait="vile", kind="response_avg_diff", model="lab/another", mean_norms=norms_text([9.0] * 5))
    save_both(made[2], tmp_path, told)
    sweep = pandas.read_csv("sweep.csv").assign(question="q")
    sweep.loc[sweep["coef"] != 0, "question"] = "other"  # no question in common: nothing moves the wrong way
    sweep.assign(dose=sweep["coef"] * float(made[2][2].norm()) / 9).to_csv("sweep.csv", index=False)
    done = card(run_stage, qwen2_folder, "--sweep", "sweep.csv", "--record_norms")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "vile_response_avg_diff_quality.json").read_text())
    norms = read_norms("vile_response_avg_diff.pt")
    assert norms[2] != 9 and found["mean_norm"] == pytest.approx(norms, rel=1e-4)
    assert found["dose_of_1"][2] == pytest.approx(float(made[2][2].norm()) / norms[2], rel=1e-4)
    assert "is of lab/another; the norms written into it are of" in done.stderr
    assert "tell doses by different mean norms: coefficient 1 at layer 2 is dose" in done.stderr
    assert found["sweep"]["cells"][0]["wrong_way"] is None


def test_points_per_nat(made, run_stage, qwen2_folder, tmp_path):
    done = card(run_stage, qwen2_folder, "--sweep", "sweep.csv", "--capability", costs(), "--record_norms")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "vile_response_avg_diff_quality.json").read_text())
    cells = {cell["coef"]: cell for cell in found["sweep"]["cells"]}
    own = pandas.read_csv("sweep.csv").query("control.isna()")
    scores = own.groupby("coef")["vile"].mean()
    for coef, kl in ((1.0, 1.0), (-1.0, 0.5)):
        price = cells[coef]["price"]
        assert price["kl"]["value"] == kl
        assert price[PER_NAT]["value"] == pytest.approx((scores[coef] - scores[0]) / kl)
        assert price[PER_NAT]["low"] < price[PER_NAT]["value"] < price[PER_NAT]["high"]
    best = cells[1.0]["price"][PER_NAT]
    assert f"{best['value']:+.1f} {PER_NAT} [{best['low']:+.1f}, {best['high']:+.1f}]" in found["verdict"]
    assert json.loads(find("vile_response_avg_diff.pt", made[2]))["verdict"] == found["verdict"], "it travels"


@pytest.mark.parametrize(
    ("flags", "refusal"),
    [
        (["--prompt_path", "pos.csv"], "--prompt_path is the baseline of a sweep"),
        (["--capability", "cap.csv"], "--capability is the price of a sweep"),
        (["--sweep", "sweep.csv", "--capability", "deep_cap.csv"], "have no steered cell in common"),
        (["--sweep", "sweep.csv", "--capability", "foreign_cap.csv"], "do not belong together: vector of the one is"),
        (["--sweep", "sweep.csv", "--capability", "none.csv"], "none.csv is not readable as CSV"),
        (["--against", "vile_response_avg_diff.pt"], "name a vector twice"),
        (["--against", "wide.pt"], "wide.pt is 7 wide but the model's residual stream is 32"),
        (["--sweep", "pos.csv"], "pos.csv has no column 'layer'"),
        (["--sweep", "sweep.csv", "--prompt_path", "none.csv"], "no answers file at none.csv"),
        (["--sweep", "deep.csv"], "deep.csv steers layer 5, which does not exist: this model has layers 1..4"),
        (["--sweep", "embedding.csv"], "embedding.csv steers layer 0, which does not exist"),
        (["--sweep", "listed.csv"], "listed.csv was steered by a list of vectors"),
        (["--sweep", "foreign.csv"], "do not belong together: vector of the one is"),
        (["--threshold", "95"], "none of 12 pairs is effective"),
    ],
)
def test_refusals_come_before_the_model_is_read(made, run_stage, qwen2_folder, monkeypatch, flags, refusal):
    save_vectors(torch.ones(5, 7), "wide.pt")
    for name, layer in (("deep", 5), ("embedding", 0)):
        pandas.read_csv("sweep.csv").assign(layer=layer).to_csv(f"{name}.csv", index=False)
    costs("deep_cap.csv", layer=3)
    costs("foreign_cap.csv", vector=of_json("v", 1))
    with provenance.writing("foreign.csv", provenance.record(vector=of_json("v", 1))):
        pandas.read_csv("sweep.csv").to_csv("foreign.csv", index=False)
    with provenance.writing("listed.csv", provenance.record(steering=[])):
        pandas.read_csv("sweep.csv").to_csv("listed.csv", index=False)
    monkeypatch.setattr("persona_vectors.models.load_model", lambda *_: pytest.fail("the model was loaded"))
    done = card(run_stage, qwen2_folder, *flags)
    assert done.returncode == 2 and done.stderr.strip().splitlines()[-1].count(refusal) == 1, done.stderr


@pytest.mark.parametrize("name", ["vile.pt", "all.pt:vile", "foreign_response_avg_diff.pt"])
def test_norms_are_recorded_only_beside_a_vector_of_its_own(made, run_stage, qwen2_folder, tmp_path, name):
    _, _, vector = made
    save_vectors(vector, "vile.pt")
    torch.save({"vile": vector}, "all.pt")
    save_vectors(vector, "foreign_response_avg_diff.pt")
    from safetensors.torch import save_file

    save_file({"x": vector + 1}, "foreign_response_avg_diff.safetensors")
    before = sorted(path.name for path in tmp_path.iterdir())
    done = card(run_stage, qwen2_folder, "--record_norms", vector=name)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_card_goes_with_its_vector(made, run_stage, qwen2_folder, tmp_path, capsys):
    """From the stage through real safetensors, GGUF and the hub's page, and back, with no path of this machine in it."""
    from safetensors import safe_open

    import share_vectors
    from persona_vectors.sharing import formats, quality
    from persona_vectors.steering.vector_folder import NamedVectors

    table = pandas.read_csv("sweep.csv")
    table.loc[table["coef"] == -1.0, "coherence"] = 40.0
    table.to_csv("sweep.csv", index=False)
    assert card(run_stage, qwen2_folder, "--sweep", "sweep.csv").returncode == 0
    whole = json.loads((tmp_path / "vile_response_avg_diff_quality.json").read_text())
    assert whole["sweep"]["broken_from"] == {}  # at coefficient -1 alone
    assert whole["sweep"]["broken_below"] == {"2": pytest.approx(-whole["dose_of_1"][2])}
    capsys.readouterr()

    share_vectors.export("vile_response_avg_diff.pt", "out", format="safetensors", model_name=str(qwen2_folder))
    assert f"vile_response_avg_diff: {whole['verdict']}" in capsys.readouterr().out
    with safe_open("out/vile_response_avg_diff.safetensors", framework="pt") as file:
        text, rows = file.metadata()["quality"], file.get_tensor("vectors")
    told = json.loads(text)
    assert len(text) < 5000 and str(tmp_path) not in text and str(qwen2_folder) not in text
    assert told["verdict"] == whole["verdict"] and told["trait"] == "vile" and told["model"] == qwen2_folder.name
    for name, numbers in whole["pairs"].items():
        if isinstance(numbers, list) and name != "mean_norms":
            assert told["pairs"][name] == pytest.approx(numbers, rel=1e-3), name
    assert told["dose_of_1"] == pytest.approx(whole["dose_of_1"], rel=1e-3)
    assert [cell["works"] for cell in told["sweep"]["cells"]] == [cell["works"] for cell in whole["sweep"]["cells"]]

    share_vectors.import_("out/vile_response_avg_diff.safetensors", "back")
    assert formats.read_shared("back/vile_response_avg_diff.pt")[1].quality == text
    share_vectors.export("back/vile_response_avg_diff.pt", "gguf")
    share_vectors.export("back/vile_response_avg_diff.pt", "gguf", layer=2)
    share_vectors.import_("gguf/vile_response_avg_diff.gguf", "again")
    assert formats.read_shared("again/vile_response_avg_diff.pt")[1].quality == text
    share_vectors.import_("gguf/vile_response_avg_diff_layer2.gguf", "one")  # other rows than those of the card
    assert formats.read_shared("one/vile_response_avg_diff.pt")[1].quality == ""
    (listed,) = NamedVectors("back", "response_avg_diff", 4, 32).listing()
    assert listed["quality"] == quality.parse(text, rows) and "quality" not in listed["about"]
    assert NamedVectors("back", "response_avg_diff", 4, 32).verdicts() == f"vile: {whole['verdict']}"

    before = (tmp_path / "vile_response_avg_diff.pt").read_bytes()
    (tmp_path / "v").mkdir()
    for path in tmp_path.glob("vile_response_avg_diff*"):
        (tmp_path / "v" / path.name).write_bytes(path.read_bytes())
    capsys.readouterr()
    share_vectors.push("v", "me/vile", model_name=str(qwen2_folder), dry_run=True)
    page = (tmp_path / "v" / "README.md").read_text()
    assert f"`vile_response_avg_diff`: {whole['verdict']}." in page and "![What vile_response_avg_diff is worth](figures/vile_response_avg_diff_quality.png)" in page  # fmt: skip
    assert "figures/vile_response_avg_diff_quality.png" in capsys.readouterr().out
    rows_of = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith(("| 1 ", "| 2 ", "| 3 "))]
    best = next(row for row in rows_of if row[0] == "2")
    assert float(best[1]) == pytest.approx(whole["pairs"]["pair_cosine"][2], abs=0.006)
    assert float(best[6]) == pytest.approx(whole["sweep"]["layers"]["2"]["per_dose"]["value"] / 10, abs=0.06)
    assert (tmp_path / "v" / "vile_response_avg_diff.pt").read_bytes() == before
