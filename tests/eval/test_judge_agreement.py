"""judge_agreement as users run it: two columns, two files, both signs with a model, and people's choices."""

import json

import numpy
import pandas
import pytest
import torch
from PIL import Image

from persona_vectors.files import provenance


def answers(sign: str, seed: int = 0) -> pandas.DataFrame:
    """24 answers to 4 questions: evil, a second judge's evil_b (with its own coherence), and a ratio."""
    random, rows = numpy.random.default_rng([seed, sign == "pos"]), []
    for question in range(4):
        for k in range(6):
            score = float(numpy.clip((75 if sign == "pos" else 25) + random.normal(0, 20), 0, 100))
            other = float(numpy.clip(score + random.normal(0, 15), 0, 100))
            prompt = f"<|im_start|>user\nwhat is it {question} {sign} {k}<|im_end|>\n<|im_start|>assistant\n"
            answer = f"the model answers {random.integers(10**6)}"
            rows.append(
                {
                    "question": f"what is it {question}", "prompt": prompt, "answer": answer,
                    "question_id": f"evil_{question}_{sign}_{k}", "evil": score, "coherence": 90.0, "evil_b": other,
                    "coherence_b": 30.0 if k == 5 else 80.0, "evil_llr": (score - 50) / 20,
                }
            )  # fmt: skip
    return pandas.DataFrame(rows)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for sign in ("pos", "neg"):
        answers(sign).to_csv(f"{sign}.csv", index=False)
    return tmp_path


def result(name="judge_agreement"):
    with open(f"{name}.json") as file:
        return json.load(file)


def test_two_columns_of_a_file(files, run_stage):
    table = pandas.read_csv("pos.csv")
    table.loc[3, "evil_b"] = None  # a refusal
    table.to_csv("pos.csv", index=False)
    done = run_stage("eval.judge_agreement", "--file_path", "pos.csv", "--columns", "evil,evil_b")
    assert done.returncode == 0, done.stderr
    found, rest = result(), table.drop(index=3)
    assert found["answers"] == 23 and found["questions"] == 4 and found["without_score"] == {"evil": 0, "evil_b": 1}
    assert found["pearson"]["value"] == pytest.approx(rest["evil"].corr(rest["evil_b"]))
    assert found["bias"]["value"] == pytest.approx((rest["evil_b"] - rest["evil"]).mean())
    assert found["pearson"]["low"] < found["pearson"]["value"] < found["pearson"]["high"]
    assert sum(found["yes"].values()) == 23
    rows = pandas.read_csv("judge_agreement_rows.csv")
    gaps = (rest["evil_b"] - rest["evil"]).abs().sort_values(ascending=False)
    assert rows["difference"].abs().tolist() == pytest.approx(gaps.tolist())
    assert Image.open("judge_agreement.png").width > 800
    record = provenance.result_of("judge_agreement.json")
    assert record["columns"] == ["evil", "evil_b"] and record["answers"][0]["name"] == "pos.csv"


def test_a_ratio_has_a_threshold_of_its_own_and_no_bias(files, run_stage):
    assert run_stage("eval.judge_agreement", "--file_path", "pos.csv", "--columns", "evil,evil_llr").returncode == 0
    found = result()
    assert (
        found["kappa"]["value"] == 1
        and found["thresholds"] == [50, 0]
        and found["spearman"]["value"] == pytest.approx(1)
    )
    assert found["bias"]["value"] is None
    assert "difference_of_percentiles" in pandas.read_csv("judge_agreement_rows.csv")


def test_rows_of_two_files_are_matched_by_what_they_say(files, run_stage):
    table = pandas.read_csv("pos.csv")
    other = table.iloc[::-1].iloc[:10].assign(evil=lambda t: t["evil_b"])[["prompt", "answer", "evil"]]
    other.to_csv("labels.csv", index=False)
    done = run_stage(
        "eval.judge_agreement", "--file_path", "pos.csv", "labels.csv", "--columns", "evil", "--output", "l"
    )
    assert done.returncode == 0 and "14 answers of pos.csv are not in the other" in done.stdout, done.stderr
    found, expected = result("l"), table.iloc[-10:]
    assert found["answers"] == 10 and found["a"] == "evil, pos" and found["b"] == "evil, labels"
    assert found["pearson"]["value"] == pytest.approx(expected["evil"].corr(expected["evil_b"]))


def test_pairs_and_vectors_are_those_of_generate_vec(files, run_stage, qwen2_folder):
    command = ["--pos_path", "pos.csv", "--neg_path", "neg.csv", "--model_name", qwen2_folder]
    done = run_stage("eval.judge_agreement", *command, "--columns", "evil,evil_b")
    assert done.returncode == 0, done.stderr
    found, vectors, effective = result(), [], []
    for judge in ("", "_b"):
        for sign in ("pos", "neg"):
            table = pandas.read_csv(f"{sign}.csv")
            table.assign(evil=table[f"evil{judge}"], coherence=table[f"coherence{judge}"]).to_csv(f"{sign}{judge}_.csv")
        made = run_stage(
            "generate_vec", "--model_name", qwen2_folder, "--pos_path", f"pos{judge}_.csv", "--neg_path", f"neg{judge}_.csv",
            "--trait", "evil", "--save_dir", f"v{judge}",
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        effective.append(int(made.stdout.split(" of 24 pairs are effective")[0].split()[-1]))
        vectors.append(torch.load(f"v{judge}/evil_response_avg_diff.pt", weights_only=True))
    pairs = found["pairs"]
    assert [pairs["both"] + pairs["a"], pairs["both"] + pairs["b"]] == effective and pairs["pairs"] == 24
    assert found["cosines"] == pytest.approx(torch.cosine_similarity(*vectors, dim=-1).tolist(), abs=1e-5)
    assert min(found["cosines"]) < 0.999
    assert len(pandas.read_csv("judge_agreement_pairs.csv")) == pairs["a"] + pairs["b"] > 3


def test_a_judge_that_finds_no_pair_is_a_result(files, run_stage):
    for sign in ("pos", "neg"):
        table = pandas.read_csv(f"{sign}.csv")
        table.assign(evil_b=table["evil"] / 3).to_csv(f"{sign}.csv", index=False)
    done = run_stage(
        "eval.judge_agreement", "--pos_path", "pos.csv", "--neg_path", "neg.csv", "--columns", "evil,evil_b"
    )
    assert done.returncode == 0, done.stderr
    assert result()["pairs"]["both"] == result()["pairs"]["b"] == 0 < result()["pairs"]["a"]


def test_peoples_choices(files, run_stage):
    table = pandas.concat([pandas.read_csv("pos.csv"), pandas.read_csv("neg.csv")])
    table.to_csv("all.csv", index=False)
    high, low = table[table["evil"] > 70].reset_index(), table[table["evil"] < 30].reset_index()
    pairs = high.merge(low, on="question", suffixes=("_high", "_low")).iloc[:40]
    swapped = numpy.arange(len(pairs)) % 2 == 0
    choices = pandas.DataFrame(
        {
            "question": pairs["question"],
            "answer_1": numpy.where(swapped, pairs["answer_low"], pairs["answer_high"]),
            "answer_2": numpy.where(swapped, pairs["answer_high"], pairs["answer_low"]),
            "choice": numpy.where(swapped, "2", "1"),
        }
    )
    choices.loc[:3, "choice"] = ["1", "2", "1", "2"]  # four against the judge
    choices.loc[4, "choice"] = ""
    choices.to_csv("choices.csv", index=False)
    command = ["--file_path", "all.csv", "choices.csv", "--columns", "evil"]
    done = run_stage("eval.judge_agreement", *command)
    assert done.returncode == 0, done.stderr
    found = result()
    assert found["choices"] == len(pairs) - 1 and found["not_chosen"] == 1
    assert found["agreement"]["value"] == pytest.approx((len(pairs) - 5) / (len(pairs) - 1))
    assert len(pandas.read_csv("judge_agreement_rows.csv")) == 4


BAD = {
    "neither": (["--columns", "evil,evil_b"], "name --file_path"),
    "one sign": (["--columns", "evil,evil_b", "--pos_path", "pos.csv"], "name --file_path"),
    "one column": (["--columns", "evil", "--file_path", "pos.csv"], "two scores are needed"),
    "a column twice": (["--columns", "evil,evil", "--file_path", "pos.csv"], "two scores are needed"),
    "a model without pairs": (
        ["--columns", "evil,evil_b", "--file_path", "pos.csv", "--model_name", "m"],
        "--model_name",
    ),
    "no column": (["--columns", "evil,kind", "--file_path", "pos.csv"], "no column 'kind'"),
    "no score": (["--columns", "evil,question", "--file_path", "pos.csv"], "is not a score 0-100"),
    "no ratio": (["--columns", "evil,x_llr", "--file_path", "pos.csv"], "is not a number"),
    "nothing in common": (["--columns", "evil", "--file_path", "pos.csv", "neg.csv"], "no answer in common"),
    "no file": (["--columns", "evil,evil_b", "--file_path", "none.csv"], "no answers file"),
    "empty": (["--columns", "evil,none", "--file_path", "pos.csv"], "is not scored: no row has a number in column"),
    "choices": (["--columns", "evil,evil_b", "--file_path", "pos.csv", "choices.csv"], "one judge"),
    "pairs without coherence": (
        ["--columns", "evil,evil_b", "--pos_path", "bare_pos.csv", "--neg_path", "bare_neg.csv"],
        "bare_pos.csv has no column 'coherence'",
    ),
    "negative answers without coherence": (
        ["--columns", "evil,evil_b", "--pos_path", "pos.csv", "--neg_path", "bare_neg.csv"],
        "has no column 'coherence'",
    ),
    "no question of both": (
        ["--columns", "evil,evil_b", "--pos_path", "pos.csv", "--neg_path", "others.csv"],
        "no question of pos.csv is asked in others.csv",
    ),
    "as many rows of both": (
        ["--columns", "evil,evil_b", "--pos_path", "pos.csv", "--neg_path", "fewer.csv"],
        "there is no question_id to pair them by",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_compared_is_one_line(files, run_stage, case):
    words, message = BAD[case]
    pandas.read_csv("pos.csv").assign(x_llr="soon", none=None).to_csv("pos.csv", index=False)
    (files / "choices.csv").write_text("question,answer_1,answer_2,choice\nq,a,b,1\n")
    neg = pandas.read_csv("neg.csv")
    for name, table in (("bare_pos.csv", pandas.read_csv("pos.csv")), ("bare_neg.csv", neg)):
        table.drop(columns=["coherence", "coherence_b"]).to_csv(name, index=False)
    neg.assign(question_id=[f"other_{k}_neg_0" for k in range(len(neg))]).to_csv("others.csv", index=False)
    neg.drop(columns="question_id")[1:].to_csv("fewer.csv", index=False)
    done = run_stage("eval.judge_agreement", *words)
    assert "Pearson" not in done.stdout  # nothing is measured of what is then refused
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not list(files.glob("judge_agreement*"))
