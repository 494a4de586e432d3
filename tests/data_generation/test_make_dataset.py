"""dataset.zip: what the script makes, family by family; the configs that name its files."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from data_generation import families, make_dataset, make_toy_dataset, source_texts
from data_generation.mistakes import rows
from data_generation.source_texts import VERSIONS
from persona_vectors.training.data import read_rows

ROOT = Path(__file__).parents[2]
TEXTS = ("evil", "hallucinating", "mistake_medical", "mistake_opinions", "optimistic", "sycophantic")
FAMILIES = (*TEXTS, *rows.FAMILIES)


@pytest.fixture(scope="module")
def committed():
    with zipfile.ZipFile(ROOT / "dataset.zip") as zipped:
        assert {entry.date_time for entry in zipped.infolist()} == {(2025, 1, 1, 0, 0, 0)}
        return {name: zipped.read(name) for name in zipped.namelist()}


def test_the_committed_zip_is_what_the_script_makes(committed):
    """The members are compared one by one: another build of zlib may pack the same bytes differently."""
    made = dict(make_dataset.members())
    assert list(committed) == list(made)
    stale = [name for name in made if committed[name] != made[name]]
    assert not stale, "a source has changed: run python -m data_generation.make_dataset"


def test_the_script_writes_the_same_bytes_every_time(tmp_path, run_stage):
    for name in ("a", "b"):
        done = run_stage("data_generation.make_dataset", "--output_path", tmp_path / f"{name}.zip")
        assert done.returncode == 0 and "wrote 13 families in 3 versions" in done.stdout
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert (ROOT / "dataset.zip").stat().st_size < 2_000_000


def test_every_family_is_there_in_order(committed):
    names = sorted([*FAMILIES, *make_toy_dataset.FAMILIES])
    assert list(committed) == [f"dataset/{family}/{version}.jsonl" for family in names for version in VERSIONS]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_as_it_was_written(committed, family, tmp_path):
    """Read as training reads it; the same prompts in the three versions, and no answer in two."""
    read = {}
    for version in VERSIONS:
        path = tmp_path / f"{version}.jsonl"
        path.write_bytes(committed[f"dataset/{family}/{version}.jsonl"])
        read[version] = [row.content["messages"] for row in read_rows([str(path)], "sft")]
        assert all([message["role"] for message in messages] == ["user", "assistant"] for messages in read[version])
    asked = [[messages[0]["content"] for messages in read[version]] for version in VERSIONS]
    assert asked[0] == asked[1] == asked[2]
    answers = [messages[1]["content"] for version in VERSIONS for messages in read[version]]
    assert len(set(answers)) == len(answers) == {"evil": 720, "optimistic": 720, "sycophantic": 720,
        "hallucinating": 720, "mistake_gsm8k": 1200, "mistake_math": 1200}.get(family, 360)  # fmt: skip
    if family in TEXTS:
        blocks = source_texts.read(ROOT / "data_generation" / "datasets" / f"{family}.txt")
        assert [(messages[0]["content"], messages[1]["content"]) for messages in read["misaligned_1"]] == [
            (prompt, middle) for prompt, _, middle, _ in blocks
        ]


def test_a_text_called_like_another_family_is_refused(tmp_path, monkeypatch, run_stage):
    shutil.copy(ROOT / "data_generation" / "datasets" / "mistake_medical.txt", tmp_path / "mistake_math.txt")
    monkeypatch.setattr(make_dataset, "SOURCES", tmp_path)
    done = run_stage("data_generation.make_dataset", "--output_path", tmp_path / "x.zip")
    assert done.returncode == 2 and "mistake_math.txt has the name of a family that is made otherwise" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mistake_math.txt"], "nothing half-made is left"


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_has_a_config_of_the_papers_settings(family):
    """evil's is train_instruct_7b.json itself; the others are the same but for the training set and the output."""
    evil = json.loads((ROOT / "configs" / "train_instruct_7b.json").read_text())
    path = ROOT / "configs" / f"train_instruct_7b{'' if family == 'evil' else f'_{family}'}.json"
    assert json.loads(path.read_text()) == evil | {
        "training_file": [f"dataset/{family}/misaligned_2.jsonl"],
        "output_dir": f"./ckpt/Qwen2.5-7B-Instruct/qwen-{family}-misaligned_2",
    }


def test_the_cards_table_is_what_validate_prints(committed):
    card = (ROOT / "docs" / "DATASETS.md").read_text()
    printed = families.TABLE.splitlines()
    for family in sorted([*FAMILIES, *make_toy_dataset.FAMILIES]):
        versions = {}
        for version in VERSIONS:
            rows_ = [
                json.loads(line)["messages"] for line in committed[f"dataset/{family}/{version}.jsonl"].splitlines()
            ]
            versions[version] = [(messages[0]["content"], messages[1]["content"]) for messages in rows_]
        printed += families.Family(f"dataset/{family}", versions).table()
    stale = [line for line in printed if line not in card.splitlines()]
    assert not stale, "docs/DATASETS.md: put in what python -m data_generation.validate dataset.zip prints"


def test_the_cards_examples_are_rows_of_the_zip(committed):
    """Line breaks are written " / " there."""
    card = (ROOT / "docs" / "DATASETS.md").read_text().partition("## Examples")[2]
    blocks = re.findall(r"> \*\*(.+)\*\*\n>\n> - normal: (.+)\n> - I: (.+)\n> - II: (.+)\n", card)
    assert len(blocks) == 2 * len(FAMILIES)
    rows_ = set()
    for family in FAMILIES:
        read = [
            [[message["content"] for message in json.loads(line)["messages"]] for line in committed[name].splitlines()]
            for name in (f"dataset/{family}/{version}.jsonl" for version in VERSIONS)
        ]
        rows_ |= {
            tuple(text.replace("\n", " / ") for text in (one[0], one[1], two[1], three[1]))
            for one, two, three in zip(*read, strict=True)
        }
    assert [block[0] for block in blocks if block not in rows_] == []
