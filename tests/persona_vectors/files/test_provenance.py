"""Fingerprints tell content and nothing else, at no cost the second time; records are true after any kill."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
import torch
from helpers import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from persona_vectors import models
from persona_vectors.errors import UserError
from persona_vectors.files import fingerprints, provenance, rows
from persona_vectors.files.fingerprints import Fingerprint, differences, of_file, of_folder, of_json, plain
from persona_vectors.files.journal import Journal
from persona_vectors.vectors.storage import fingerprint, load_vectors


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, and files that count as settled at once and as large."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fingerprints, "LARGE", 1)
    monkeypatch.setattr(fingerprints, "SETTLED", 0.0)
    return tmp_path / "cache" / "persona_vectors" / "fingerprints.json"


@pytest.fixture
def reads(monkeypatch):
    """The files whose bytes were read, in order."""
    seen, digest = [], fingerprints._digest
    monkeypatch.setattr(fingerprints, "_digest", lambda states: seen.extend(states) or digest(states))
    return seen


@pytest.fixture
def model(tmp_path, qwen2_folder):
    return shutil.copytree(qwen2_folder, tmp_path / "tiny")


def swap(path, old_and_new=None):
    """Change one byte of a file in place, and put its time of modification back."""
    before = os.stat(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    with open(path, "r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (os.stat(path).st_size, os.stat(path).st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_a_model_is_its_files_wherever_they_lie_and_whenever_they_were_touched(model, tmp_path):
    first = of_folder(model)
    assert of_folder(shutil.copytree(model, tmp_path / "elsewhere" / "other_name")).id == first.id
    for path in model.iterdir():
        os.utime(path, (1, 1))
    assert of_folder(model).id == first.id
    (tmp_path / "link").symlink_to(model)
    assert of_folder(tmp_path / "link").id == first.id
    assert of_folder(model.rename(tmp_path / "moved")).id == first.id


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "generation_config.json"])
def test_one_byte_of_a_model_counts_although_size_and_time_stay(model, name):
    first = of_folder(model)
    swap(model / name)
    assert of_folder(model).id != first.id


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "modeling_own.py", "model-00002.safetensors", "additional_chat_templates/rag.jinja"]
)
def test_a_file_more_from_which_a_model_is_loaded_counts(model, name):
    (model / "chat_template.jinja").unlink(missing_ok=True)
    first = of_folder(model)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("x")
    assert of_folder(model).id != first.id


def test_what_trainings_people_and_git_leave_beside_a_model_does_not_count(model):
    first = of_folder(model)
    names = ["README.md", ".gitattributes", ".lock", "training_log.jsonl", "training_loss.png", "training_config.json"]
    names += [
        "provenance.json",
        "evil.csv",
        "evil.csv.provenance.json",
        "optimizer.pt",
        "trainer_state.json",
        "LICENSE",
    ]
    for name in names:
        (model / name).write_text("x")
    (model / "checkpoint-3").mkdir()
    (model / "checkpoint-3" / "model.safetensors").write_text("x")
    assert of_folder(model).id == first.id


def test_an_adapter_is_the_same_where_its_base_has_moved(tmp_path):
    content = {"base_model_name_or_path": "models/a", "r": 4, "target_modules": ["q_proj"]}
    for name, changes in (("one", {}), ("moved", {"base_model_name_or_path": "/mnt/a"}), ("other", {"r": 8})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({**content, **changes}))
        (tmp_path / name / "adapter_model.safetensors").write_bytes(b"weights")
    one, moved, other = (of_folder(tmp_path / name) for name in ("one", "moved", "other"))
    assert one.id == moved.id != other.id
    swap(tmp_path / "one" / "adapter_model.safetensors")
    assert of_folder(tmp_path / "one").id != moved.id


def test_a_second_run_reads_no_weights(model, reads, tmp_path):
    first = of_folder(model)
    count = len(reads)
    assert count == sum(path.is_file() for path in model.iterdir())
    assert of_folder(model) == first and len(reads) == count
    code = f"from persona_vectors.files.fingerprints import of_folder; print(of_folder({str(model)!r}).id)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == first.id, done.stderr


def test_the_cache_gives_no_stale_answer(model, reads, tmp_path):
    weights = model / "model.safetensors"
    before = of_file(weights)
    swap(weights)  # same size, inode and modification time
    after = of_file(weights)
    assert after.id != before.id and len(reads) == 2
    content = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(content[::-1])  # another file of the same name and size
    assert of_file(weights).id not in (before.id, after.id)
    other = tmp_path / "other"
    other.write_bytes(content)
    os.utime(other, ns=(os.stat(weights).st_atime_ns, os.stat(weights).st_mtime_ns))
    os.replace(other, weights)  # another inode
    assert of_file(weights).id == after.id


def test_what_has_just_been_written_is_not_entered(tmp_path, reads, monkeypatch, cache):
    """Within a clock's tick a second write would leave the same times."""
    monkeypatch.setattr(fingerprints, "SETTLED", 5.0)
    path = tmp_path / "weights"
    path.write_bytes(b"a" * 100)
    of_file(path), of_file(path)
    assert len(reads) == 2 and not cache.exists()
    monkeypatch.setattr(time, "time_ns", lambda: os.stat(path).st_ctime_ns + 6 * 10**9)
    of_file(path), of_file(path)
    assert len(reads) == 3 and str(path) in json.loads(cache.read_text())


def test_a_cache_that_is_broken_or_cannot_be_written_is_done_without(model, cache, monkeypatch, reads):
    right = of_folder(model)
    entries = json.loads(cache.read_text())
    broken = [b"", b"{", b"[1]", b'{"a": 1}', json.dumps({p: [*e[:-1], "0"] for p, e in entries.items()}).encode()]
    for content in broken:
        cache.write_bytes(content)
        assert of_folder(model) == right
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert of_folder(model) == right
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pathlib.Path.expanduser", lambda self: (_ for _ in ()).throw(RuntimeError("no home")))
    assert of_folder(model) == right


def test_entries_of_files_that_are_gone_are_dropped(tmp_path, cache):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        of_file(tmp_path / name)
    (tmp_path / "a").unlink()
    (tmp_path / "b").write_text("bb")
    of_file(tmp_path / "b")
    assert list(json.loads(cache.read_text())) == [str(tmp_path / "b")]


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path, digest = tmp_path / "weights", fingerprints._digest
    path.write_text("half")
    monkeypatch.setattr(fingerprints, "_digest", lambda states: [path.write_text("whole"), list(digest(states))][1])
    with pytest.raises(UserError, match="was changed while it was read"):
        of_file(path)
    with pytest.raises(UserError, match="cannot read"):
        fingerprints.file_digests([tmp_path / "none"])


def test_a_vector_is_its_numbers_in_any_format(tmp_path):
    torch.manual_seed(0)
    vectors = torch.randn(5, 32).bfloat16().float()
    torch.save(vectors, tmp_path / "a.pt")
    torch.save(vectors.bfloat16(), tmp_path / "half.pt")
    save_file({"vectors": vectors}, tmp_path / "b.safetensors", metadata={"trait": "evil"})
    torch.save(vectors.double(), tmp_path / "c.pt")
    of = lambda name: fingerprint(tmp_path / name, load_vectors(tmp_path / name))  # noqa: E731
    assert len({of(name).id for name in ("a.pt", "b.safetensors", "c.pt", "half.pt")}) == 1
    assert fingerprint("x", vectors.reshape(10, 16)).id != of("a.pt").id
    vectors[3, 7] += 1e-6
    assert fingerprint("x", vectors).id != of("a.pt").id


def test_a_model_of_the_hub_is_the_commit_of_its_snapshot_offline_too(tmp_path, qwen2_folder):
    commits = ["a" * 40, "b" * 40]
    repository = tmp_path / "hub" / "models--lab--tiny"
    for commit in commits:
        shutil.copytree(qwen2_folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    code = "from persona_vectors import models; path = models.resolve('lab/tiny'); models.describe(path); "
    code += "print(models.made_of(path)['model'])"
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    found = []
    for commit in commits:
        (repository / "refs" / "main").write_text(commit)
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        found.append(done.stdout)
    assert "lab/tiny" in found[0] and f"commit:{commits[0]}" in found[0] and f"commit:{commits[1]}" in found[1]
    shutil.rmtree(repository)
    done = subprocess.run([sys.executable, "-c", code.replace("models.describe(path); ", "")], env=environment,
                          capture_output=True, text=True, timeout=120)  # fmt: skip
    assert "UserError: cannot load lab/tiny" in done.stderr


def test_rows_are_what_is_asked_and_answered_in_their_order(tmp_path):
    talk = [[{"role": "user", "content": f"q{k}"}, {"role": "assistant", "content": "a"}] for k in range(3)]

    def of(lines, name="a.jsonl", also=""):
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
        return rows.fingerprint(rows.open_rows(tmp_path / name), also).id

    plain_rows = [{"messages": messages} for messages in talk]
    first = of(plain_rows)
    assert of([{"id": k, **row} for k, row in enumerate(plain_rows)], "b.jsonl") == first, "other fields do not count"
    assert of([*plain_rows[1:], plain_rows[0]]) != first and of(plain_rows[:2]) != first
    changed = json.loads(json.dumps(plain_rows))
    changed[1]["messages"][1]["content"] = "b"
    assert of(changed) != first
    with_base = [{**row, "base_answer": "x"} for row in plain_rows]
    assert of(with_base) == first and of(with_base, also="base_answer") != of(plain_rows, also="base_answer")
    (tmp_path / "a.csv").write_text("prompt,answer,n\np,a,1\n")
    (tmp_path / "b.csv").write_text('n,"answer","prompt"\n2,a,p\n')
    (tmp_path / "c.csv").write_text("prompt,answer\np,A\n")
    one, two, three = (rows.fingerprint(rows.open_rows(tmp_path / f"{name}.csv")).id for name in "abc")
    assert one == two != three


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["n", "model", "layers", "é"]), VALUES), st.text(max_size=3))
def test_a_record_that_was_written_and_read_differs_in_nothing(values, name):
    now = provenance.record(**values, vector=of_json(name, values))
    stored = json.loads(json.dumps(plain(now)))
    assert differences(stored, now) == []
    assert differences(stored, {**now, "vector": of_json("renamed", values)}) == [], "a name is never proof"
    other = {**now, "vector": of_json(name, [values])}
    (told,) = differences(stored, other)
    assert told.startswith(f"vector was {name} (") and f"now {name} (" in told


def test_differences_say_what_was_and_what_is():
    one, other = Fingerprint("a.pt", "sha256:" + "1" * 64), Fingerprint("a.pt", "sha256:" + "2" * 64)
    earlier = plain(provenance.record(seed=0, vector=one, vectors=[one, other], adapter=None, layers=[1, 2], extra="x"))
    now = provenance.record(seed=1, vector=other, vectors=[other, one], adapter=one, layers=(1, 2))
    assert differences(earlier, now) == [
        "seed was 0, now 1",
        "vector was a.pt (111111111111), now a.pt (222222222222)",
        "vectors was [a.pt (111111111111), a.pt (222222222222)], now [a.pt (222222222222), a.pt (111111111111)]",
        "adapter was none, now a.pt (111111111111)",
        "extra was 'x', now none",
    ]
    assert differences({**earlier, "toolkit": "persona_vectors 0.0.1"}, earlier) == []
    assert differences({**earlier, "method": 0}, earlier) == ["method was 0, now 1"]


def test_differences_within_descriptions():
    """What is told only is not compared there either; but a column may be called judge."""
    one, other = Fingerprint("a", "sha256:" + "1" * 64), Fingerprint("b", "sha256:" + "2" * 64)
    now = {"judged": {name: provenance.record(scorer=one, pairs=2) for name in ("evil", "judge")}, "n": {"name": 1}}
    earlier = plain(now)
    assert differences(earlier, now) == []
    earlier["judged"]["evil"] |= {"toolkit": "persona_vectors 0.0.1", "judge": "x"}
    assert differences(earlier, now) == []
    for column in ("evil", "judge"):
        earlier["judged"][column] |= {"scorer": plain(other), "pairs": 1}
    words = "scorer was b (222222222222), now a (111111111111)"
    assert differences(earlier, now) == [
        f"judged.evil.{words}",
        "judged.evil.pairs was 1, now 2",
        f"judged.judge.{words}",
        "judged.judge.pairs was 1, now 2",
    ]
    del earlier["judged"]["judge"]
    (line,) = differences(earlier, now)
    assert line.startswith("judged was {'evil': {'method'")
    earlier = plain(provenance.record(tasks=plain(now)["judged"]["evil"]))
    assert differences(earlier, provenance.record(tasks=now["judged"]["evil"] | {"dtype": "auto"})) == [
        "tasks.dtype was none, now 'auto'"
    ]


def test_journals_that_are_older_than_fingerprints_are_compared_in_what_they_say():
    """What earlier versions wrote: the model as it was typed, the first half of a digest's half."""
    prompt = fingerprints.of_bytes("prompt", "text")
    now = provenance.record(
        model=Fingerprint("tiny", "sha256:" + "1" * 64, older=("models/tiny",)), adapter=None, seed=0, prompt=prompt
    )
    older = {"model": "models/tiny", "seed": 0, "prompt": fingerprints.sha256("text")[:16]}
    assert differences(older, now) == []
    assert differences({**older, "model": "models/other"}, now)[0].startswith("model was 'models/other', now tiny (1")
    assert differences({**older, "prompt": fingerprints.sha256("other")[:16]}, now)
    assert differences({**older, "gone": 1}, now) == ["gone was 1, now none"]


def test_a_journal_refuses_other_weights_and_goes_on_from_older_ones(tmp_path):
    settings = lambda digit: provenance.record(  # noqa: E731
        n=1, model=Fingerprint("tiny", "sha256:" + digit * 64, older=("m",))
    )
    journal = Journal(tmp_path / "a.csv", settings("1"))
    journal.append({"k": 0})
    journal.close()
    with pytest.raises(
        UserError, match=r"other settings \(model was tiny \(111111111111\), now tiny \(222222222222\)\)"
    ):
        Journal(tmp_path / "a.csv", settings("2"))
    again = Journal(tmp_path / "a.csv", settings("1"))
    assert again.records == [{"k": 0}] and not again.is_older
    again.close()
    again.path.write_text('{"settings": {"n": 1, "model": "m"}}\n{"k": 5}\n')
    older = Journal(tmp_path / "a.csv", settings("1"))
    assert older.records == [{"k": 5}] and older.is_older
    older.close()
    older.path.write_text('{"k": 4}\n{"k": 5}\n')
    with pytest.raises(UserError, match="nothing is known of them"):
        Journal(tmp_path / "a.csv", settings("1"))
    assert older.path.read_text() == '{"k": 4}\n{"k": 5}\n'


def made(path, text="content", **values):
    with provenance.writing(path, provenance.record(**values)):
        path.write_text(text)
    return path


def test_an_output_is_taken_up_only_if_it_matches(tmp_path):
    path, said = made(tmp_path / "a.csv", seed=0), []
    assert provenance.take_up(path, provenance.record(seed=0), say=said.append) and not said
    with pytest.raises(
        UserError, match=r"a.csv does not match this command \(seed was 0, now 1\); pass --overwrite to .*"
    ):
        provenance.take_up(path, provenance.record(seed=1))
    os.utime(path, (1, 1))
    moved = shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}_moved"))
    assert provenance.compare(moved / "a.csv", provenance.record(seed=0)).matches
    (tmp_path / "a.csv").rename(tmp_path / "b.csv")
    (tmp_path / "a.csv.provenance.json").rename(tmp_path / "b.csv.provenance.json")
    assert provenance.compare(tmp_path / "b.csv", provenance.record(seed=0)).matches, "renamed with its record"


def test_a_file_without_a_record_or_changed_since_is_taken_with_a_remark(tmp_path):
    said = []
    (tmp_path / "a.csv").write_text("anybody's")
    assert provenance.take_up(tmp_path / "a.csv", provenance.record(seed=0), say=said.append)
    path = made(tmp_path / "b.csv", seed=0)
    path.write_text("another tool's")
    assert provenance.take_up(path, provenance.record(seed=0), say=said.append)
    assert "a.csv has no record of what it was made from" in said[0] and "was changed after its record" in said[1]
    with pytest.raises(UserError, match="seed was 0, now 1"):
        provenance.take_up(path, provenance.record(seed=1))


@pytest.mark.parametrize("moment", ["before the file", "after the file"])
def test_a_kill_while_a_file_is_replaced_leaves_no_false_record(tmp_path, moment):
    """The old file must not pass for the new one, nor the new one for the old."""
    path = made(tmp_path / "a.csv", "old", seed=0)
    killed = provenance.writing(path, provenance.record(seed=1))
    killed.__enter__()
    if moment == "after the file":
        path.write_text("new")
    for seed in (0, 1):
        assert provenance.take_up(path, provenance.record(seed=seed), say=pytest.fail) is False
    made(path, "new", seed=1)
    assert provenance.compare(path, provenance.record(seed=1)).matches


def test_columns_have_records_of_their_own(tmp_path):
    path, of = made(tmp_path / "a.csv", seed=0), lambda k: provenance.record(vector=of_json("v", k))
    with provenance.writing(path, parts={"x": of(1), "y": of(1)}):
        path.write_text("content,x,y")
    assert provenance.compare(path, provenance.record(seed=0)).matches, "a column of ours is no change of the file"
    killed = provenance.writing(path, parts={"y": of(2), "z": None})
    killed.__enter__()
    assert provenance.take_up(path, of(1), "x") and not provenance.take_up(path, of(2), "y")
    with provenance.writing(path, parts={"y": of(2)}):
        path.write_text("content,x,y2")
    assert provenance.take_up(path, of(2), "y")
    with pytest.raises(UserError, match=r"y in .*a.csv does not match this command \(vector was v \("):
        provenance.take_up(path, of(1), "y")
    path.write_text("edited")
    with provenance.writing(path, parts={"w": of(1)}):
        path.write_text("edited,w")
    assert not provenance.compare(path, provenance.record(seed=0)).unchanged, "an edit stays one when a column is added"
    made(path, "anew", seed=0)
    assert not provenance.read(path).get("parts"), "a file that is made anew has no columns"


def test_a_folder_takes_its_record_along(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"x")
    provenance.write(folder, provenance.record(seed=0))
    provenance.seal(folder)
    assert [path.name for path in tmp_path.glob("run*")] == ["run"]
    moved = folder.rename(tmp_path / "elsewhere")
    assert provenance.compare(moved, provenance.record(seed=0)).matches
    swap(moved / "adapter_model.safetensors")
    assert not provenance.compare(moved, provenance.record(seed=0)).unchanged


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b'{"parts": []}', b'{"content": 3}', b"\xff"])
def test_a_broken_record_is_one_line_and_can_be_overwritten(tmp_path, content):
    path = made(tmp_path / "a.csv", seed=0)
    provenance.path_of(path).write_bytes(content)
    with pytest.raises(UserError, match=r"a.csv.provenance.json .*; pass --overwrite"):
        provenance.take_up(path, provenance.record(seed=0))
    with provenance.writing(path, parts={"x": provenance.record(seed=0)}):
        path.write_text("x")
    assert provenance.take_up(path, provenance.record(seed=0), "x")
    assert provenance.compare(made(path, seed=0), provenance.record(seed=0)).matches


def test_an_entry_that_is_none_is_not_taken_for_a_match(tmp_path):
    path = made(tmp_path / "a.csv", seed=0)
    for entry in ("unfinished", 3, [1]):
        provenance.path_of(path).write_text(json.dumps({"result": entry}))
        assert not provenance.take_up(path, provenance.record(seed=0), say=pytest.fail)


def test_results_of_different_things_are_not_put_together():
    one, other = of_json("tiny", 1), of_json("tiny", 2)
    records = {"a.csv": {"model": plain(one), "seed": 0}, "b.csv": None, "c.csv": {"seed": 1}, "d.csv": {"model": one}}
    provenance.refuse_mixture(records, ("model",))
    with pytest.raises(
        UserError, match=r"a.csv and e.csv do not belong together: model of the one is tiny \(.*\), of the"
    ):
        provenance.refuse_mixture({**records, "e.csv": {"model": other}}, ("model",))
    with pytest.raises(UserError, match="adapter of the one is none, of the other tiny"):
        provenance.refuse_mixture({"a": {"adapter": None}, "b": {"adapter": one}}, ("adapter",))


def test_records_are_told_from_results():
    names = ["a.csv.provenance.json", "provenance.json", "out/x.jsonl.provenance.json"]
    assert all(map(provenance.is_record, names))
    assert not any(map(provenance.is_record, ["a.json", "my_provenance.json", "provenance.csv"]))


def test_a_model_and_its_adapter_are_two_fingerprints(tmp_path, model):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    adapter = get_peft_model(tiny_model("qwen2"), LoraConfig(target_modules=["v_proj"], init_lora_weights=False))
    adapter.peft_config["default"].base_model_name_or_path = str(model)
    adapter.save_pretrained(tmp_path / "lora")
    alone, over = (models.made_of(models.resolve(str(path))) for path in (model, tmp_path / "lora"))
    assert alone["model"].id == over["model"].id and alone["adapter"] is None
    assert over["adapter"].name == "lora" and over["adapter"].id != over["model"].id
    swap(model / "model.safetensors")
    again = models.made_of(models.resolve(str(tmp_path / "lora")))
    assert again["model"].id != over["model"].id and again["adapter"].id == over["adapter"].id
