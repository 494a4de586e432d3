"""Tables round-trip any text, journals survive kills, outputs appear whole."""

import multiprocessing

import pandas
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eval.compare import common_scores
from persona_vectors.errors import UserError
from persona_vectors.files.atomic import replacing, replacing_folder
from persona_vectors.files.journal import Journal
from persona_vectors.files.tables import read_answers, write_table
from persona_vectors.vectors.pairs import effective_pairs, read_pairs

AWKWARD = [
    "NA",
    "null",
    "nan",
    "=1+1",
    'quote " and , comma',
    "line\nbreak",
    "emoji 🙂",
    "",
    " ",
    "{answer}",
    "\ufeffx",
]


def test_csv_round_trips_awkward_text(tmp_path):
    path = tmp_path / "a.csv"
    write_table(pandas.DataFrame({"answer": AWKWARD, "evil": [50.0] * len(AWKWARD)}), path)
    assert read_answers(path, ("evil",))["answer"].tolist() == AWKWARD


@settings(max_examples=200, deadline=None)
@example(["a\rb", "\r", "x\0y", "\r\n"])
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=30), min_size=1))
def test_csv_round_trips_any_text(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    write_table(pandas.DataFrame({"answer": texts, "evil": 1.0}), path)
    assert read_answers(path, ("evil",))["answer"].tolist() == texts


def test_bad_tables_are_refused_by_name(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("answer,evil\nx,12\ny,many\n")
    with pytest.raises(UserError, match="row 3: 'many' in column 'evil'"):
        read_answers(path, ("evil",))
    with pytest.raises(UserError, match="no column 'coherence'"):
        read_answers(path, ("coherence",))
    path.write_text("")
    with pytest.raises(UserError, match="not readable as CSV"):
        read_answers(path)
    path.write_bytes(b"answer\n\xff\xfe\xfa")
    with pytest.raises(UserError, match="not readable as CSV"):
        read_answers(path)
    with pytest.raises(UserError, match="no answers file"):
        read_answers(tmp_path / "none.csv")


@pytest.mark.parametrize("word", ["NA", "N/A", "null", "NULL", "<NA>", "#N/A", "None", "nan", " ", ""])
def test_what_pandas_reads_as_missing_is_no_score(tmp_path, word):
    """The published code read scores by pandas: a table of R, Excel or SQL went through there."""
    path = tmp_path / "a.csv"
    path.write_text(f'question,answer,evil,coherence\nx,NA,{word},90\ny,null,12,"{word}"\n')
    table = read_answers(path, ("evil", "coherence"))
    assert table["answer"].tolist() == ["NA", "null"]  # texts stay texts
    assert table["evil"].isna().tolist() == [True, False] and table["coherence"].isna().tolist() == [False, True]
    assert common_scores({"a": read_answers(path), "b": read_answers(path)}) == ["evil", "coherence"]


def test_scores_outside_by_rounding_are_forgiven_and_nothing_more(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("answer,evil\nx,100.00000000000001\ny,-1e-7\nz,100.000001\nw,\nv,99.9999999\n")
    assert read_answers(path, ("evil",))["evil"].tolist()[:3] == [100, 0, 100]
    assert read_answers(path, ("evil",))["evil"].iloc[4] == 99.9999999
    for score in ("100.01", "100.000002", "-0.000002", "101", "-1", "inf", "1e300"):
        path.write_text(f"answer,evil\nx,50\ny,{score}\n")
        with pytest.raises(UserError, match=f"row 3: '{score}' in column 'evil' is not a score 0-100"):
            read_answers(path, ("evil",))


def test_replacing_is_all_or_nothing(tmp_path):
    path = tmp_path / "deep" / "out.txt"
    with replacing(path) as beside:
        beside.write_text("first")
    with pytest.raises(RuntimeError), replacing(path) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert path.read_text() == "first" and list(path.parent.iterdir()) == [path]


def test_a_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path, monkeypatch):
    """Also one that is not there yet: models/x may lead to a larger disk. The working folder is not pulled away."""
    (tmp_path / "large").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "large" / "x")
    for text in ("first", "second"):
        with replacing_folder(link) as beside:
            (beside / "a.txt").write_text(text)
        assert link.is_symlink() and (tmp_path / "large" / "x" / "a.txt").read_text() == text
    assert {path.name for path in tmp_path.rglob("*")} == {"large", "link", "x", "a.txt"}
    monkeypatch.chdir(tmp_path / "large" / "x")
    for name in (".", "../x", tmp_path / "link"):
        with pytest.raises(UserError, match="is the working folder, which cannot be replaced"), replacing_folder(name):
            pass
    assert (tmp_path / "large" / "x" / "a.txt").read_text() == "second"


def test_journal_goes_on_and_drops_a_torn_line(tmp_path):
    output = tmp_path / "a.csv"
    journal = Journal(output, {"n": 1})
    for k in range(3):
        journal.append({"k": k, "text": "å\n\ud800"})
    journal.close()
    with open(journal.path, "ab") as file:
        file.write(b'{"k": 3, "te')
    again = Journal(output, {"n": 1})
    assert [record["k"] for record in again.records] == [0, 1, 2]
    again.append({"k": 3})
    again.close()
    last = Journal(output, {"n": 1})
    assert [record["k"] for record in last.records] == [0, 1, 2, 3]
    last.close(remove=True)
    assert not journal.path.exists()


def test_journal_of_other_settings_is_refused_or_overwritten(tmp_path):
    output = tmp_path / "a.csv"
    journal = Journal(output, {"n": 1})
    journal.append({"k": 0})
    journal.close()
    with pytest.raises(UserError, match="n was 1, now 2"):
        Journal(output, {"n": 2})
    same = Journal(output, {"n": 1}, overwrite=True)
    assert same.records == [{"k": 0}], "an interrupted --overwrite goes on too"
    same.close()
    other = Journal(output, {"n": 2}, overwrite=True)
    assert other.records == []
    other.close()
    Journal(output, {"n": 3}).close()  # nothing was done under n = 2, so nothing is lost


def _hold(output, ready, done):
    journal = Journal(output, {})
    ready.set()
    done.wait(30)
    journal.close()


def test_two_runs_on_one_output(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path / "a.csv"), ready, done))
    other.start()
    assert ready.wait(30)
    with pytest.raises(UserError, match="another run"):
        Journal(tmp_path / "a.csv", {})
    other.kill()
    other.join()
    Journal(tmp_path / "a.csv", {}).close()  # the lock died with its process


def frame(sign, scores, coherence=90, ids=True):
    table = pandas.DataFrame({"question": "q", "prompt": "p", "answer": [f"{sign}{s}" for s in scores]})
    if ids:
        table["question_id"] = [f"evil_{k // 2}_{sign}_{k % 2}" for k in range(len(scores))]
    return table.assign(evil=scores, coherence=coherence)


def test_effective_pairs_are_matched_by_question_not_by_row(tmp_path):
    frame("pos", [90, 80, 40, 95]).to_csv(tmp_path / "p.csv", index=False)
    frame("neg", [5, 60, 1, 2]).iloc[::-1].to_csv(tmp_path / "n.csv", index=False)
    pairs = read_pairs(tmp_path / "p.csv", tmp_path / "n.csv", "evil")
    kept = effective_pairs(pairs, "evil")
    assert list(zip(kept["answer_pos"], kept["answer_neg"], strict=True)) == [("pos90", "neg5"), ("pos95", "neg2")]


def test_thresholds_are_the_published_ones(tmp_path):
    frame("pos", [50, 50, 49.9]).to_csv(tmp_path / "p.csv", index=False)
    frame("neg", [49.9, 50, 0]).to_csv(tmp_path / "n.csv", index=False)
    assert len(effective_pairs(read_pairs(tmp_path / "p.csv", tmp_path / "n.csv", "evil"), "evil")) == 1


def test_no_effective_pair_and_missing_scores(tmp_path):
    frame("pos", [90, None]).to_csv(tmp_path / "p.csv", index=False)
    frame("neg", [90, 1]).to_csv(tmp_path / "n.csv", index=False)
    with pytest.raises(UserError, match="none of 2 pairs is effective"):
        effective_pairs(read_pairs(tmp_path / "p.csv", tmp_path / "n.csv", "evil"), "evil")


def test_files_without_ids_need_equal_lengths(tmp_path):
    frame("pos", [90, 90], ids=False).to_csv(tmp_path / "p.csv", index=False)
    frame("neg", [1, 1], ids=False).to_csv(tmp_path / "n.csv", index=False)
    assert len(read_pairs(tmp_path / "p.csv", tmp_path / "n.csv", "evil")) == 2
    frame("neg", [1], ids=False).to_csv(tmp_path / "n.csv", index=False)
    with pytest.raises(UserError, match="has 2 rows"):
        read_pairs(tmp_path / "p.csv", tmp_path / "n.csv", "evil")


def test_pairs_across_traits_go_by_row(tmp_path):
    """The published code pairs row by row whatever the ids; here that is asked for."""
    p, n = tmp_path / "p.csv", tmp_path / "n.csv"
    frame("pos", [90, 40, 95, 80]).to_csv(p, index=False)
    other = frame("neg", [5, 1, 2, 60])
    other["question_id"] = other["question_id"].str.replace("evil", "impolite")
    other.to_csv(n, index=False)
    with pytest.raises(UserError, match=r"by question_id\); --pair_by row .*\(these have 4 and 4\)"):
        read_pairs(p, n, "evil")
    pairs = read_pairs(p, n, "evil", "row")
    assert list(zip(pairs["answer_pos"], pairs["answer_neg"], strict=True)) == [
        ("pos90", "neg5"), ("pos40", "neg1"), ("pos95", "neg2"), ("pos80", "neg60")
    ]  # fmt: skip
    assert effective_pairs(pairs, "evil")["answer_neg"].tolist() == ["neg5", "neg2"]
    other.iloc[:3].to_csv(n, index=False)
    with pytest.raises(UserError, match="p.csv has 4 rows, .*n.csv has 3: --pair_by row needs as many in both"):
        read_pairs(p, n, "evil", "row")
    frame("neg", [5, 1, 2, 60]).iloc[::-1].to_csv(n, index=False)  # ids that agree, rows that do not: rows count
    assert read_pairs(p, n, "evil", "row")["answer_neg"].tolist() == ["neg60", "neg2", "neg1", "neg5"]
    assert read_pairs(p, n, "evil")["answer_neg"].tolist() == ["neg5", "neg1", "neg2", "neg60"]
