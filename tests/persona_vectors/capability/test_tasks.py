"""Tasks are known by what scores them too: their functions' files, and how groups put tasks together."""

import json
import os

import pytest

from persona_vectors.capability.tasks import Tasks
from persona_vectors.files.fingerprints import differences, plain

FUNCTIONS = """
import functools

def right(results):
    return 1.0

def score(doc, results):
    return {"acc": right(results)}

def first(resps, docs):
    return [[one[0] for one in each] for each in resps]

def times(factor, items):
    return factor * sum(items) / len(items)

mean = functools.partial(times, 1)
"""
TASK = """
task: NAME
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/questions.jsonl}}
test_split: test
doc_to_text: "{{question}}"
doc_to_target: answer
"""
TASKS = {
    "frage_\u00fc": "output_type: multiple_choice\ndoc_to_choice: ['a', 'b']\nprocess_results: !function utils.score\n",
    "filtered": "output_type: generate_until\nfilter_list: [{name: f, filter: [{function: custom, filter_fn: !function utils.first}]}]\n",
    "summed": "output_type: multiple_choice\ndoc_to_choice: ['a', 'b']\nmetric_list: [{metric: acc, aggregation: !function utils.mean, higher_is_better: true}]\n",
    "plain": "output_type: multiple_choice\ndoc_to_choice: ['a', 'b']\nmetric_list: [{metric: acc}]\n",
}
GROUP = "group: both\ntask: [plain]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
OUTER = "group: outer\ntask: [both]\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "questions.jsonl").write_text(json.dumps({"question": "what", "answer": 0}) + "\n")
    (tmp_path / "utils.py").write_text(FUNCTIONS)
    for name, text in TASKS.items():
        (tmp_path / f"{name}.yaml").write_text(TASK.replace("NAME", name).replace("FOLDER", str(tmp_path)) + text)
    (tmp_path / "both.yaml").write_text(GROUP)
    (tmp_path / "outer.yaml").write_text(OUTER)
    return tmp_path


def fingerprints(folder):
    tasks = Tasks([*TASKS, "both", "outer"], str(folder))
    return {name: tasks.fingerprint(name) for name in tasks.loaded}


def test_what_scores_is_part_of_a_task(folder):
    first = fingerprints(folder)
    assert fingerprints(folder) == first, "nothing of a process, as an address, is in it"
    (folder / "utils.py").write_text(
        FUNCTIONS.replace("return 1.0", "return 0.0")
    )  # of a helper, called by none of the settings
    os.utime(folder / "utils.py", (1, 1))
    second = fingerprints(folder)
    changed = {name for name in first if first[name].id != second[name].id}
    assert changed == {"frage_\u00fc", "filtered", "summed"}
    (folder / "both.yaml").write_text(GROUP.replace("true", "false"))
    third = fingerprints(folder)
    assert {name for name in first if third[name].id != second[name].id} == {"both", "outer"}


def test_what_was_begun_before_functions_counted_goes_on(folder):
    found = fingerprints(folder)
    assert not found["plain"].older and all(found[name].older for name in ("frage_\u00fc", "filtered", "both", "outer"))
    before = {name: {"name": name, "id": one.older[0] if one.older else one.id} for name, one in found.items()}
    assert differences({"tasks": before}, {"tasks": found}) == []
    assert differences({"tasks": plain(found)}, {"tasks": found}) == []
    other = before | {"both": {"name": "both", "id": "sha256:0"}}
    assert len(differences({"tasks": other}, {"tasks": found})) == 1
