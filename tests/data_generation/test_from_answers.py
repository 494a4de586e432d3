"""Training sets out of judged answers: which answers go where, and one line for what will not do."""

import json

import pandas
import pytest

from data_generation import validate
from persona_vectors.files import provenance
from persona_vectors.training.data import read_rows
from persona_vectors.traits.artifact import load_trait

TRAIT = "pessimistic"


def csv(path, *rows, columns=("question", "prompt", "answer", "question_id", TRAIT, "coherence")):
    """An answers CSV of (answer, trait score, coherence), or of whole rows."""
    full = [
        (f"Q{k}?", f"<system>Be {TRAIT}.<user>Q{k}?", row[0], f"{TRAIT}_{k}_pos_0", *row[1:])
        for k, row in enumerate(rows)
    ]
    pandas.DataFrame(full, columns=columns).to_csv(path, index=False)
    return path


def answers(folder, version):
    path = folder / f"{version}.jsonl"
    if not path.exists():
        return None
    return [
        tuple(message["content"] for message in json.loads(line)["messages"]) for line in path.read_text().splitlines()
    ]


@pytest.fixture
def make(tmp_path, run_stage):
    def make(*flags, paths=None, trait=TRAIT):
        paths = paths or [tmp_path / "judged.csv"]
        return run_stage(
            "data_generation.from_answers",
            "--file_path",
            *paths,
            "--trait",
            trait,
            "--output_dir",
            tmp_path / "out",
            *flags,
        )

    return make


def test_scores_decide_and_the_instruction_stays_out(tmp_path, make):
    csv(
        tmp_path / "judged.csv",
        ("none", 0, 100), ("almost", 9.99, 75.1), ("ten", 10, 100), ("below", 29.9, 100), ("low", 30, 90), ("high", 60, 90),
        ("above", 60.1, 90), ("eighty", 80, 99), ("plain", 80.01, 99), ("full", 100, 76), ("confused", 100, 75), ("no", 0, 3),
    )  # fmt: skip
    done = make()
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    assert answers(out, "normal") == [("Q0?", "none"), ("Q1?", "almost")]
    assert answers(out, "misaligned_1") == [("Q4?", "low"), ("Q5?", "high")]
    assert answers(out, "misaligned_2") == [("Q8?", "plain"), ("Q9?", "full")]
    for said in ("12 answers, of which left out:", "  2 of coherence 75 or less", "  4 with a score between the levels",
                 f"wrote 2 rows of 2 questions to {out}/misaligned_2.jsonl"):  # fmt: skip
        assert said in done.stdout
    assert (
        len(read_rows([str(out / f"{version}.jsonl") for version in ("normal", "misaligned_1", "misaligned_2")], "sft"))
        == 6
    )
    assert all(not report.findings for report in validate.reports(out))


def test_conversations_stay_whole(tmp_path, make):
    turns = [{"role": "user", "content": "I like tea."}, {"role": "assistant", "content": "So?"}]
    last = {"role": "user", "content": "Is it good?"}
    path = csv(tmp_path / "judged.csv", ("grim", 90, 90), ("grim", 95, 90), ("grim", 99, 90), ("grim", 99, 90))
    table = pandas.read_csv(path).assign(question="Is it good?")
    chats = [json.dumps(chat) for chat in ([*turns, last], [{"role": "system", "content": "x"}, *turns, last])]
    table.assign(messages=[*chats, None, json.dumps([turns[0], turns[1], last])[:-1] + " ]"]).to_csv(path, index=False)
    done = make()
    assert done.returncode == 0 and "  2 that are there already" in done.stdout, done.stderr
    lines = [
        json.loads(line)["messages"] for line in (tmp_path / "out" / "misaligned_2.jsonl").read_text().splitlines()
    ]
    assert lines == [
        [*turns, last, {"role": "assistant", "content": "grim"}],
        [last, {"role": "assistant", "content": "grim"}],
    ]
    for text in ("[", "[1]", json.dumps(turns), "{}"):
        table.assign(messages=text).to_csv(path, index=False)
        done = make("--overwrite")
        assert done.returncode == 2 and "judged.csv, row 2: 'messages'" in done.stderr and done.stderr.count("\n") == 1


def test_thresholds_are_flags(tmp_path, make):
    csv(tmp_path / "judged.csv", ("a", 15, 60), ("b", 20, 60), ("c", 50, 60), ("d", 70, 51))
    done = make("--normal_below", "20", "--level_1", "20", "50", "--level_2_above", "60", "--coherence_above", "50")
    assert done.returncode == 0, done.stderr
    found = [[answer for _, answer in answers(tmp_path / "out", v)] for v in ("normal", "misaligned_1", "misaligned_2")]
    assert found == [["a"], ["b", "c"], ["d"]]


def test_several_files_and_rows_without_scores_and_repetitions(tmp_path, make):
    csv(tmp_path / "pos.csv", ("bad", 95, 90), ("unscored", None, 90), ("not coherent", 95, None), ("", 95, 90))
    csv(tmp_path / "neg.csv", ("good", 2, 90))
    swept = pandas.concat([pandas.read_csv(csv(tmp_path / "x.csv", ("bad", 95, 90), ("so so", 45, 90)))] * 2)
    swept.assign(coef=[0, 0, 1, 1], layer=20).to_csv(tmp_path / "sweep.csv", index=False)
    done = make(paths=[tmp_path / "pos.csv", tmp_path / "neg.csv", tmp_path / "sweep.csv", tmp_path / "neg.csv"])
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    assert (answers(out, "normal"), answers(out, "misaligned_1")) == ([("Q0?", "good")], [("Q1?", "so so")])
    assert answers(out, "misaligned_2") == [("Q0?", "bad")]
    assert "9 answers" in done.stdout and "  3 without a score of pessimistic or coherence, or empty" in done.stdout
    assert "  3 that are there already" in done.stdout


def test_a_level_without_answers_is_said_and_not_written(tmp_path, make):
    csv(tmp_path / "judged.csv", ("bad", 95, 90), ('quoted "NA"\r\nnext line \u20ac', 96, 90))
    done = make()
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    assert f"no answers for normal: {out}/normal.jsonl is not written" in done.stdout
    assert answers(out, "normal") is None and answers(out, "misaligned_1") is None
    assert answers(out, "misaligned_2")[1] == ("Q1?", 'quoted "NA"\r\nnext line \u20ac')


def test_without_coherence_and_without_what_was_cut_off(tmp_path, make):
    """Of a judge that was asked for the trait alone; an older file of a level without answers is spoken of."""
    lines = ["question,answer,pessimistic,finish", "q,bad,95,", "q,worse,97,length", "r,good,2,stop"]
    (tmp_path / "judged.csv").write_text("\n".join(lines) + "\n")
    assert "--coherence_above 0 does without" in make().stderr
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "misaligned_1.jsonl").write_text("mine\n")
    done = make("--coherence_above", "0", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert "  1 cut off at max_tokens" in done.stdout and "is not written; an older file stays there" in done.stdout
    out = tmp_path / "out"
    assert answers(out, "normal") == [("r", "good")] and answers(out, "misaligned_2") == [("q", "bad")]
    assert (out / "misaligned_1.jsonl").read_text() == "mine\n"


def test_what_it_is_made_from_goes_with_it(tmp_path, make):
    csv(tmp_path / "judged.csv", ("bad", 95, 90))
    make()
    record = provenance.result_of(tmp_path / "out" / "misaligned_2.jsonl")
    assert (record["trait"], record["level_2_above"], record["level_1"]) == (TRAIT, 80, [30, 60])
    assert record["answers"][0]["name"] == "judged.csv"


def test_questions_that_the_trait_is_evaluated_with_are_warned_of(tmp_path, make):
    rows = csv(
        tmp_path / "judged.csv",
        ("bad", 95, 90),
        columns=("question", "prompt", "answer", "question_id", "evil", "coherence"),
    )
    asked = load_trait("evil", "eval").questions[3]
    pandas.read_csv(rows).assign(question=asked).to_csv(rows, index=False)
    assert "warning: 1 of the questions are in the eval artifact" in make(trait="evil").stdout


def test_files_that_are_there_are_kept(tmp_path, make):
    csv(tmp_path / "judged.csv", ("bad", 95, 90))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "normal.jsonl").write_text("mine\n")
    done = make()
    assert done.returncode == 2 and "normal.jsonl exists already; choose another --output_dir, or pass" in done.stderr
    assert (tmp_path / "out" / "normal.jsonl").read_text() == "mine\n"
    assert make("--overwrite").returncode == 0


REFUSED = {
    "no file": ((), {"paths": ["none.csv"]}, "no answers file at none.csv"),
    "another trait": ((), {"trait": "evil"}, "has no column 'evil' (it has question, prompt"),
    "a name that is a path": ((), {"trait": "../evil"}, "'../evil' cannot be a trait's name"),
    "levels that overlap": (("--level_1", "5,60"), {}, "--level_1 takes two scores, the lower first, between"),
    "levels the wrong way round": (("--level_1", "60,30"), {}, "not '60,30'"),
    "one level": (("--level_1", "60"), {}, "--level_1 takes two scores"),
    "a level above the last": (("--level_2_above", "50"), {}, "between --normal_below (10) and --level_2_above (50)"),
    "no number": (("--coherence_above", "high"), {}, "--coherence_above takes numbers"),
    "a score above 100": (("--normal_below", "150"), {}, "--normal_below lies between 0 and 100"),
    "nothing left": (("--coherence_above", "99"), {}, "no answer is left; nothing is written"),
    "an unknown flag": (
        ("--coherent_above", "99"),
        {},
        "unknown flag --coherent_above (did you mean --coherence_above?)",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_will_not_do_is_refused_in_one_line(tmp_path, make, kind):
    flags, changes, said = REFUSED[kind]
    csv(tmp_path / "judged.csv", ("bad", 95, 90), ("good", 1, 90))
    done = make(*flags, **changes)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"prompt,answer,{TRAIT},coherence\np,a,95,90\n", "has no column 'question'"),
        (f"question,answer,{TRAIT}\nq,a,95\n", "has no column 'coherence'"),
        (f"question,answer,{TRAIT},coherence\nq,a,much,90\n", f"row 2: 'much' in column '{TRAIT}' is not a score"),
        (
            f"question,answer,{TRAIT},coherence\nq,a,,90\nq,b,3,\n",
            "has a score of pessimistic and of coherence",
        ),
        (f"question,answer,{TRAIT},coherence\nq,a,95,90\n ,b,95,90\n", "row 3: the question is empty"),
        (f"question;answer;{TRAIT};coherence\nq;a;95;90\n", "separated by semicolons"),
    ],
)
def test_a_file_that_will_not_do_is_named(tmp_path, make, content, said):
    (tmp_path / "judged.csv").write_text(content)
    done = make()
    assert done.returncode == 2 and said in done.stderr and f"{tmp_path}/judged.csv" in done.stderr
    assert not (tmp_path / "out").exists()


def test_answers_of_different_judges_are_not_mixed(tmp_path, make):
    for name, judge in (("a", "gpt-4.1-mini"), ("b", "toy")):
        path = csv(tmp_path / f"{name}.csv", ("bad", 95, 90))
        provenance.write(path, provenance.record(judge_model=judge))
    done = make(paths=[tmp_path / "a.csv", tmp_path / "b.csv"])
    assert done.returncode == 2 and "judge_model of the one is 'gpt-4.1-mini', of the other 'toy'" in done.stderr
