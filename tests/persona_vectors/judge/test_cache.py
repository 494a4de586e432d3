"""The cache of scores over real HTTP and real SQLite files: what is kept, what is not, and what goes wrong with files."""

import asyncio
import contextlib
import math
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from judge_server import JudgeServer, completion, error, is_probe

from persona_vectors.asking.choose_judge import JudgeSettings
from persona_vectors.errors import UserError
from persona_vectors.judge import cache as module
from persona_vectors.judge.cache import MISSING, ScoreCache, key_of
from persona_vectors.judge.cached import CachedJudge
from persona_vectors.judge.endpoint import GivenUp, Refused
from persona_vectors.traits.artifact import Trait


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key")
    return tmp_path / "scores.sqlite"


def thirds(_number, body):
    """A judge whose scores are no round numbers, and depend on the prompt."""
    text = body["messages"][0]["content"]
    return completion({"57": 1.0}) if is_probe(body) else completion({str(len(text)): 1 / 3, "90": 2 / 3})


def ask(server, monkeypatch, path, prompts, known=False, **options):
    """Connect, score every prompt at once; (scores or errors, judge)."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    judge = CachedJudge(**{"model": "m", **options}, cache=ScoreCache(path) if path else None, known=known)

    async def work():
        await judge.connect()
        try:
            return await asyncio.gather(*map(judge.score, prompts), return_exceptions=True)
        finally:
            await judge.close()

    return asyncio.run(work()), judge


def test_a_score_is_paid_for_once_and_comes_back_as_it_was(path, monkeypatch):
    prompts = ["a", "bb", "a", "a"]  # the same one several times at once
    with JudgeServer(thirds) as server:
        first, judge = ask(server, monkeypatch, path, prompts)
        assert len(server.bodies) == 1 + 2 and judge.counts.cached == 2
        again, judge = ask(server, monkeypatch, path, prompts, known=True)
        assert len(server.bodies) == 3 and judge.counts.cached == 4 and judge.counts.calls == 0
        without, _ = ask(server, monkeypatch, None, prompts)
        assert len(server.bodies) == 3 + 1 + 4
    assert first == again == without and first[0] == first[2] == pytest.approx((1 + 180) / 3)
    assert b"sk-secret-key" not in path.read_bytes()


@pytest.mark.parametrize("changed", ["prompt", "model", "kind", "address", "method"])
def test_another_prompt_model_kind_endpoint_or_method_is_asked_for(path, monkeypatch, changed):
    def fewer(number, body):  # an endpoint that allows 5 alternatives
        return error(400, "top_logprobs must be at most 5") if body["top_logprobs"] > 5 else thirds(number, body)

    with JudgeServer(thirds) as server, JudgeServer(thirds) as other:
        ask(server, monkeypatch, path, ["a"])
        if changed == "method":
            other = server.__class__(fewer)
            other.__enter__()
            monkeypatch.setattr(CachedJudge, "key", lambda self, *parts: key_of(*parts))  # at one address for both
            ask(server, monkeypatch, path, ["a"])
        asked = server if changed not in ("address", "method") else other
        before = len(asked.bodies)
        options = {"model": {"model": "m2"}, "kind": {"kind": "0_10"}}.get(changed, {})
        ask(asked, monkeypatch, path, ["b" if changed == "prompt" else "a"], **options)
        assert any(not is_probe(body) for body in asked.bodies[before:]), "it was taken from the cache"
        if changed == "method":
            other.__exit__(None, None, None)


def test_failures_are_not_kept(path, monkeypatch):
    """A refused call, a reply without logprobs, words instead of a number, an expected number of nothing."""
    healed = False

    def reply(number, body):
        text = body["messages"][0]["content"]
        bad = {"refused": error(400, "filtered"), "none": completion(), "words": completion({"eighty": 1.0})}
        return thirds(number, body) if healed or text not in bad else bad[text]

    with JudgeServer(reply) as server:
        found, judge = ask(server, monkeypatch, path, ["refused", "none", "words", "good"])
        assert [type(score) for score in found[:2]] == [Refused, GivenUp] and found[2] is None
        healed, before = True, len(server.bodies)
        found, judge = ask(server, monkeypatch, path, ["refused", "none", "words", "good"])
        assert len(server.bodies) == before + 1 + 3 and judge.counts.cached == 1
        assert all(isinstance(score, float) for score in found)


def test_a_refusal_is_kept_of_a_judge_that_gives_numbers(path, monkeypatch):
    def reply(number, body):
        no = "no" in body["messages"][0]["content"]
        return completion({"REFUSAL": 1.0}) if no and not is_probe(body) else thirds(number, body)

    with JudgeServer(reply) as server:
        for prompts, calls in ((["no"], 2), (["no"], 2), (["no", "yes"], 3), (["no", "yes"], 1)):
            before = len(server.bodies)
            found, _ = ask(server, monkeypatch, path, prompts)
            assert found[0] is None and len(server.bodies) == before + calls, prompts


def test_a_mean_of_samples_and_an_answer_in_text_are_kept(path, monkeypatch):
    def sampled(_number, body):
        return completion(texts=("57",) if is_probe(body) else tuple("10 20 33".split()))

    with JudgeServer(sampled) as server:
        (first,), judge = ask(server, monkeypatch, path, ["rate"])
        assert judge.method == "samples" and first == pytest.approx(20.5, abs=2)
        before = len(server.bodies)
        (again,), judge = ask(server, monkeypatch, path, ["rate"], known=True)
        assert again == first and len(server.bodies) == before and "mean of 20 sampled numbers" in judge.how
    with JudgeServer(lambda n, body: completion(texts=("<answer>YES</answer>",))) as server:
        for _ in range(2):
            assert ask(server, monkeypatch, path, ["rate"], kind="binary_text")[0] == [1.0]
        assert len(server.bodies) == 1


def test_a_known_judge_is_probed_before_its_first_call(path, monkeypatch):
    """Where that tells that it scores otherwise by now, nothing is mixed, and the next run begins with the new way."""
    fewer = False

    def reply(number, body):
        refused = fewer and body["top_logprobs"] > 5
        return error(400, "top_logprobs must be at most 5") if refused else thirds(number, body)

    with JudgeServer(reply) as server:
        ask(server, monkeypatch, path, ["a"])
        found, _ = ask(server, monkeypatch, path, ["a", "b"], known=True)
        assert found[1] == pytest.approx((1 + 180) / 3) and sum(map(is_probe, server.bodies)) == 2
        fewer = True
        found, _ = ask(server, monkeypatch, path, ["a", "c", "d"], known=True)
        assert isinstance(found[0], float) and all("scores otherwise than before" in str(score) for score in found[1:])
        found, judge = ask(server, monkeypatch, path, ["a", "c"], known=True)
        assert all(isinstance(score, float) for score in found) and judge.counts.cached == 0


def test_the_same_work_is_known_and_a_new_one_is_probed_first(score_cache, monkeypatch, path):
    trait = Trait("vile", [], ["q"], "Rate. {question} {answer}")
    settings = JudgeSettings("m")
    assert settings.prompts(trait).keys() == {"vile", "coherence"}
    with JudgeServer(thirds) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        for work, probes in (("one", 1), ("one", 0), ("two", 1)):
            before = len(server.bodies)
            settings.connect("0_100", work).close()
            assert len(server.bodies) == before + probes, work
    with pytest.raises(UserError, match="cannot be used"):
        settings.connect("0_100", "three")
    settings.connect("0_100", "one").close()  # a server that is gone is not missed where nothing is to be asked
    assert score_cache.exists()


@contextlib.contextmanager
def nobody():
    """Not the superuser, for whom nothing is read-only."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def broken(kind, path):
    """A file that cannot be used, in one of several ways."""
    if kind == "noise":
        path.write_bytes(b"no database, but long enough to be read as one" * 100)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "under a file":
        path.parent.rmdir()
        path.parent.write_text("")
    elif kind == "cut off":
        cache = ScoreCache(path)
        for k in range(5000):
            cache.put(key_of(k), k)
        cache.close()
        path.write_bytes(path.read_bytes()[:8192] + b"\xff" * 200_000)
    elif kind == "another table":
        with contextlib.closing(sqlite3.connect(path)) as base:
            base.execute("CREATE TABLE kept (something TEXT)")


@pytest.mark.parametrize("kind", ["noise", "a folder", "under a file", "cut off", "another table"])
def test_a_broken_cache_is_one_warning_and_no_end(tmp_path, path, monkeypatch, caplog, kind):
    place = tmp_path / "cache" / "scores.sqlite"
    place.parent.mkdir()
    broken(kind, place)
    with JudgeServer(thirds) as server:
        for _ in range(2):
            caplog.clear()
            found, _ = ask(server, monkeypatch, place, [f"p{k}" for k in range(8)] * 2, known=True)
            assert all(isinstance(score, float) for score in found)
            (said,) = [record.message for record in caplog.records if "cache" in record.message]
            assert str(place) in said and "--no_cache" in said
        assert len(server.bodies) == 2 * 9, "within a run the same prompt is paid for once all the same"


def test_a_read_only_cache_is_read(monkeypatch, path, caplog):
    with tempfile.TemporaryDirectory() as folder, JudgeServer(thirds) as server:
        place = Path(folder) / "scores.sqlite"
        first, _ = ask(server, monkeypatch, place, ["a"])
        os.chmod(place, 0o444)
        os.chmod(folder, 0o555)
        with nobody():
            found, judge = ask(server, monkeypatch, place, ["a", "b"])
        os.chmod(folder, 0o755)
        assert found[0] == first[0] and isinstance(found[1], float) and judge.counts.cached == 1
    assert len([record for record in caplog.records if "readonly" in record.message]) == 1


def test_damaged_values_are_asked_for_again(path):
    cache = ScoreCache(path)
    for k, value in enumerate([57.25, None, 0, "a text", [1], True, math.nan]):
        cache.put(key_of(k), value)
    cache.write()
    with contextlib.closing(sqlite3.connect(path)) as base, base:
        base.execute("INSERT INTO kept VALUES (?, ?)", (key_of("torn"), '{"sco'))
        base.execute("INSERT INTO kept VALUES (?, ?)", (key_of("null"), None))
    found = [cache.score(key_of(what)) for what in (*range(7), "torn", "null", "never")]
    assert found == [57.25, None, 0] + [MISSING] * 7
    cache.close()


def test_two_processes_at_once(path):
    code = (
        "import sys; from pathlib import Path; from persona_vectors.judge.cache import ScoreCache, key_of\n"
        "cache = ScoreCache(Path(sys.argv[1]))\n"
        "for k in range(400):\n"
        "    cache.put(key_of(sys.argv[2], k), k)\n"
        "    if k % 4 == 0: cache.write()\n"
        "cache.close()"
    )
    command = [sys.executable, "-c", code, str(path)]
    root = Path(__file__).resolve().parents[3]
    both = [subprocess.Popen([*command, name], cwd=root, stderr=subprocess.PIPE, text=True) for name in "ab"]
    assert [process.communicate()[1] for process in both] == ["", ""] and not any(p.returncode for p in both)
    cache = ScoreCache(path)
    assert all(cache.get(key_of(name, k)) == k for name in "ab" for k in range(400))
    cache.close()


def test_a_writer_that_holds_the_file_is_waited_for_without_a_word(path, monkeypatch, caplog):
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    cache = ScoreCache(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        cache.put(key_of("new"), 1.0)
        cache.write()
        assert cache.get(key_of("other")) is MISSING and cache.get(key_of("new")) == 1.0
        other.execute("COMMIT")
    cache.close()
    assert not caplog.records
    again = ScoreCache(path)
    assert again.get(key_of("new")) == 1.0
    again.close()
