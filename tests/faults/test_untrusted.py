"""Files from others: whatever is in them, the readers take it or refuse it in one line, and run nothing of it."""

import csv
import json
import os
import pickle
import struct
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persona_vectors.errors import UserError
from persona_vectors.files import rows as row_files
from persona_vectors.files.journal import Journal
from persona_vectors.files.tables import read_answers
from persona_vectors.sharing.formats import read_shared
from persona_vectors.training.config import read_config
from persona_vectors.training.data import read_rows
from persona_vectors.traits.artifact import load_trait, make_questions
from persona_vectors.vectors.pairs import read_pairs
from persona_vectors.vectors.storage import chosen_layer, load_vectors

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))  # of each fuzz test; FUZZ_EXAMPLES=5000 for a long one
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    [
        "",
        " ",
        "NA",
        "nan",
        "1e999",
        "{answer}",
        "=cmd|' /C calc'!A0",
        "../../x",
        "\ufeff",
        "\0",
        "50",
        "\r",
        '"',
        "\u2028",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252", "utf-7"])


def reads(reader, *arguments):
    """The reader's answer, or the one line in which it refuses."""
    try:
        return reader(*arguments)
    except UserError as error:
        assert str(error).isprintable() and len(str(error)) < 2000, error
        return error


def damaged(draw, data: bytes) -> bytes:
    """``data`` as it is, cut off, with bytes overwritten, or something else."""
    kind = draw(st.sampled_from(["as it is", "cut", "overwritten", "else"]))
    if kind == "cut":
        return data[: draw(st.integers(0, len(data)))]
    if kind == "overwritten" and data:
        place = draw(st.integers(0, len(data) - 1))
        return data[:place] + draw(st.binary(max_size=8)) + data[place + draw(st.integers(0, 8)) :]
    return draw(st.binary(max_size=200)) if kind == "else" else data


@st.composite
def tables(draw):
    """Bytes of a CSV that is more or less an answers file."""
    names = draw(
        st.lists(st.sampled_from(["question", "prompt", "answer", "question_id", "evil", "coherence"]) | texts)
    )
    lines = [
        names,
        *draw(st.lists(st.lists(texts | st.sampled_from(["12", "90.5", "101", "-1"]), max_size=8), max_size=5)),
    ]
    separator = draw(st.sampled_from([",", ",", ";", "\t"]))
    doubled = draw(st.booleans())
    quoted = [['"' + field.replace('"', '""') + '"' if doubled else field for field in line] for line in lines]
    text = draw(st.sampled_from(["\n", "\r\n"])).join(separator.join(line) for line in quoted)
    return damaged(draw, text.encode(draw(encodings), "replace"))


@st.composite
def documents(draw, base: dict, lines: bool = False):
    """Bytes of JSON (or JSONL) that is more or less ``base``."""
    made = []
    for _ in range(draw(st.integers(1, 3)) if lines else 1):
        content = dict(base)
        for key in draw(st.lists(st.sampled_from(sorted(base)), max_size=2)):
            content[key] = draw(values)
        if draw(st.booleans()):
            content[draw(texts)] = draw(values)
        if draw(st.integers(0, 9)) == 0:
            content = draw(values)
        made.append(json.dumps(content))
    return damaged(draw, "\n".join(made).encode(draw(encodings)))


@fuzz
@given(tables(), tables())
def test_fuzz_answers_and_pairs(tmp_path, one, other):
    paths = [tmp_path / "p.csv", tmp_path / "n.csv"]
    for path, data in zip(paths, (one, other), strict=True):
        path.write_bytes(data)
        reads(read_answers, path)
        reads(read_answers, path, ("evil", "coherence"))
    reads(read_pairs, *paths, "evil")


@fuzz
@given(st.data())
def test_fuzz_rows_of_cal_projection(tmp_path, data):
    message = {"role": "user", "content": "x"}
    jsonl = documents({"messages": [message, {"role": "assistant", "content": "y"}]}, lines=True)
    for ending, content in (("csv", data.draw(tables())), ("jsonl", data.draw(jsonl))):
        path = tmp_path / f"rows.{ending}"
        path.write_bytes(content)
        found = reads(row_files.open_rows, path)
        if isinstance(found, UserError):
            continue

        def walk(found=found):
            kept = [
                (record, found.exchange(record)) for window in row_files.windows(found, 2) for record in window.records
            ]
            found.write_extended(["new"], [[1.5]] * len(kept))
            return kept

        reads(walk)


@fuzz
@given(documents({"instruction": [{"pos": "a", "neg": "b"}], "questions": ["q"], "eval_prompt": "{question} {answer}"}))
def test_fuzz_traits(tmp_path, content):
    folder = tmp_path / "trait_data_extract"
    folder.mkdir(exist_ok=True)
    (folder / "evil.json").write_bytes(content)
    trait = reads(load_trait, "evil", "extract", str(tmp_path))
    if not isinstance(trait, UserError):
        trait.eval_prompt.format(question="{answer}", answer="{question} {0} {")
        assert all(q.messages for sign in (None, "pos", "neg") for q in make_questions(trait, sign, "x/{y}/../%s"))


CONFIG = {"model": "m", "training_file": "x.jsonl", "steering_config": {"steering_vector_path": "v", "layers": [1]},
          "seed": 1, "learning_rate": 0.1, "target_modules": ["a"], "output_dir": "x"}  # fmt: skip


@fuzz
@given(documents(CONFIG), st.lists(texts.map(lambda t: f"{t}={t}") | texts, max_size=2))
def test_fuzz_training_configs(tmp_path, content, changes):
    (tmp_path / "c.json").write_bytes(content)
    reads(read_config, tmp_path / "c.json", changes)


TURN = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


@fuzz
@given(documents({"messages": TURN, "prompt": "q", "chosen": TURN[1:], "rejected": TURN[1:]}, lines=True))
def test_fuzz_training_rows(tmp_path, content):
    (tmp_path / "t.jsonl").write_bytes(content)
    for loss in ("sft", "dpo"):
        reads(read_rows, [str(tmp_path / "t.jsonl")], loss)


@fuzz
@given(st.data())
def test_fuzz_vectors(tmp_path, data):
    from safetensors.torch import save

    torch.save(torch.ones(3, 4), tmp_path / "v.pt")
    whole = {"pt": (tmp_path / "v.pt").read_bytes(), "safetensors": save({"vectors": torch.ones(3, 4)}, {"trait": "x"})}
    for ending, content in whole.items():
        path = tmp_path / f"x.{ending}"
        path.write_bytes(damaged(data.draw, content))
        vectors = reads(load_vectors, path)
        assert isinstance(vectors, UserError) or vectors.isfinite().all()
        reads(read_shared, path)
    path = tmp_path / "best.json"
    path.write_bytes(data.draw(documents({"layer": 3})))
    reads(chosen_layer, str(path), "evil")


@fuzz
@given(documents({"settings": {"n": 1}, "key": "k", "answer": "a"}, lines=True))
def test_fuzz_journals(tmp_path, content):
    Journal.path_of(tmp_path / "a.csv").write_bytes(content)
    journal = reads(Journal, tmp_path / "a.csv", {"n": 1})
    if not isinstance(journal, UserError):
        assert all(isinstance(record, dict) for record in journal.records)
        journal.close(remove=True)


class Payload:
    def __reduce__(self):
        return os.mkdir, (str(Path(os.environ["PYTEST_PAYLOAD"]) / "code_was_run"),)


def test_pickles_are_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_PAYLOAD", str(tmp_path))
    torch.save({"v": Payload()}, tmp_path / "zip.pt")
    torch.save(Payload(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Payload()))
    for name in ("zip.pt", "old.pt", "bare.pt"):
        assert isinstance(reads(load_vectors, tmp_path / name), UserError)
    assert not (tmp_path / "code_was_run").exists()


@pytest.mark.parametrize(
    "header",
    [
        b"",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 62) + b'{"v":{"dtype":"F32","shape":[99,99],"data_offsets":[0,39204]}}',
        struct.pack("<Q", 4000) + b"[" * 4000,
    ],
)
def test_safetensors_with_a_bad_header(tmp_path, header):
    (tmp_path / "x.safetensors").write_bytes(header)
    assert isinstance(reads(load_vectors, tmp_path / "x.safetensors"), UserError)
    assert isinstance(reads(read_shared, tmp_path / "x.safetensors"), UserError)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 1e39])
def test_vectors_with_a_number_that_is_none(tmp_path, number):
    rows = torch.ones(5, 8, dtype=torch.float64)
    rows[2, 3] = number
    torch.save(rows, tmp_path / "v.pt")
    assert "NaN or infinity" in str(reads(load_vectors, tmp_path / "v.pt"))


DEEP = ['{"a":' * 200_000, "[" * 5_000_000, '{"messages": ' + "[" * 100_000 + "]" * 100_000 + "}", "1" * 100_000]


@pytest.mark.parametrize("content", DEEP, ids=["objects", "lists", "closed", "long number"])
def test_json_of_any_depth_and_size(tmp_path, content):
    for name in ("evil.json", "c.json", "t.jsonl", "rows.jsonl"):
        (tmp_path / name).write_text(content)
    folder = tmp_path / "trait_data_extract"
    folder.mkdir()
    (folder / "evil.json").write_text(content)
    Journal.path_of(tmp_path / "a.csv").write_text(content + "\n")
    for reader, *arguments in (
        (load_trait, "evil", "extract", str(tmp_path)),
        (read_config, tmp_path / "c.json"),
        (read_rows, [str(tmp_path / "t.jsonl")], "sft"),
        (row_files.open_rows, tmp_path / "rows.jsonl"),
        (chosen_layer, str(tmp_path / "c.json"), "evil"),
    ):
        assert isinstance(reads(reader, *arguments), UserError), reader
    assert isinstance(reads(read_config, tmp_path / "none.json", [f"seed={content}"]), UserError)
    Journal(tmp_path / "a.csv", {}).close()


def test_csv_cells_of_10_mb_and_formulas(tmp_path):
    path = tmp_path / "a.csv"
    cells = ["x" * 10_000_000, '=HYPERLINK("http://x")', "+1", "@SUM(A1)", "{answer}", "\t=1"]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "answer", "evil"])
        writer.writerows(["p", cell, 1] for cell in cells)
    assert read_answers(path, ("evil",))["answer"].tolist() == cells
    found = row_files.open_rows(path)
    assert [found.exchange(record).answer for record in found.records()] == cells
    found.write_extended(["new"], [[0.5]] * len(cells))
    assert read_answers(path)["answer"].tolist() == cells, (
        "texts stay as they are: it is for the reader to quote formulas"
    )


@pytest.mark.parametrize(("mark", "named"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_other_separators_are_refused(tmp_path, mark, named):
    (tmp_path / "a.csv").write_text(f"prompt{mark}answer{mark}evil\np{mark}x{mark}1\n")
    assert f"separated by {named}" in str(reads(read_answers, tmp_path / "a.csv", ("evil",)))
    assert f"separated by {named}" in str(reads(row_files.open_rows, tmp_path / "a.csv"))


def test_encodings_and_bom(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("\ufeffanswer,evil\nä,1\n".encode())
    assert read_answers(path, ("evil",))["answer"].tolist() == ["ä"]
    for encoding in ("utf-16", "latin-1", "utf-32"):
        path.write_bytes("answer,evil\nä,1\n".encode(encoding))
        assert isinstance(reads(read_answers, path, ("evil",)), UserError), encoding


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("prompt,answer,answer,evil,evil,coherence\np,a,b,1,2,3\n")
    for scores in ((), ("evil",)):
        assert "twice" in str(reads(read_answers, path, scores))
    assert "one column 'answer'" in str(reads(row_files.open_rows, path))


@pytest.mark.skipif(sys.platform == "win32", reason="no links")
def test_folders_and_pipes_are_no_files(tmp_path):
    (tmp_path / "dir.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("dir.csv", "pipe.csv"):
        for reader in (read_answers, row_files.open_rows, load_vectors):
            assert isinstance(reads(reader, tmp_path / name), UserError), (name, reader)
    assert isinstance(reads(read_config, tmp_path / "dir.csv"), UserError)
    assert isinstance(reads(read_rows, [str(tmp_path / "dir.csv")], "sft"), UserError)
