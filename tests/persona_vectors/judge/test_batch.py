"""Scores through the batch API, over real HTTP: as one by one, once each, whatever happens on the way."""

import json

import pytest
from batch_server import BatchServer
from judge_server import completion, error, is_probe

from persona_vectors.asking.batch_judge import BatchJudge, refuse_under_way
from persona_vectors.asking.judge_thread import JudgeThread, ScoreBar
from persona_vectors.asking.sheet import AnswerSheet
from persona_vectors.errors import TooExpensive, UserError
from persona_vectors.judge import batch, batch_files
from persona_vectors.judge.cached import CachedJudge
from persona_vectors.judge.prices import Budget, Price
from persona_vectors.steering.sweep import Grid
from persona_vectors.traits.artifact import Trait, make_questions

PROMPTS = {"vile": "Rate **vile**. {question} {answer}", "coherence": "How coherent? {question} {answer}"}


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key")
    monkeypatch.setattr(batch, "POLLS", (0.02, 0.05))
    monkeypatch.setattr(batch_files, "FIRST_WAIT", 0.01)


def reply(_n, body):
    text = body["messages"][0]["content"]
    return completion({"57": 1.0} if is_probe(body) else {f"{40 + len(text) % 50}": 0.9, "1": 0.1})


def sheet_of(path, answers=6):
    trait = Trait("vile", [], [f"Question {k} of {path.stem[0]}?" for k in range(answers)], "")
    sheet = AnswerSheet(str(path), trait, make_questions(trait), 1, Grid.of([0.0]).cells, PROMPTS, {})
    sheet.open()
    for wanted in sheet.unanswered():
        sheet.add_answer(
            wanted, "prompt", "" if wanted.key.startswith("vile_0|") else f"answer {'x' * len(sheet.answers)}"
        )
    return sheet


def score(server, monkeypatch, *sheets, budget=None):
    """Score the sheets in batches; their journals are left open."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    judge = CachedJudge("m")
    try:
        judge = BatchJudge(judge, sheets, budget and Budget(budget, Price(1e6, 0), judge.counts, lambda _prompt: 1))
        for sheet in sheets:
            sheet.judged_by(judge.how)
        try:
            judge.finish()
        finally:
            judge.close()
    finally:
        for sheet in sheets:
            sheet.journal.close()
    return judge


async def interrupted(*_):
    raise InterruptedError


def one_by_one(server, monkeypatch, sheet):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    thread = JudgeThread(CachedJudge("m"))
    with ScoreBar(thread, [sheet]) as bar:
        for key in sheet.answers:
            bar.ask(sheet, key)
        thread.finish()
    thread.close()
    sheet.journal.close()
    return sheet.scores


@pytest.mark.parametrize(
    "writes",
    [
        reply,
        lambda n, body: (
            completion(texts=(f"{50 + len(body['messages'][0]['content']) % 9}",) * body.get("n", 1))
            if not is_probe(body)
            else completion(texts=("57",) * body.get("n", 1))
        ),
    ],
    ids=["a token", "no logprobs: samples"],
)
def test_scores_are_those_of_single_calls(monkeypatch, tmp_path, writes):
    with BatchServer(writes) as server:
        sheets = [sheet_of(tmp_path / "a.csv"), sheet_of(tmp_path / "b.csv", 3)]
        judge = score(server, monkeypatch, *sheets)
        assert len(server.batches) == 2 and not server.wrong
        sent = sum(len(entry["content"]) for entry in server.batches.values())
        assert sent == 2 * 5 + 2 * 2 and judge.judge.counts.calls == sent + len(
            server.chats
        )  # the empty answers are not judged
        alone = one_by_one(server, monkeypatch, sheet_of(tmp_path / "a_alone.csv"))
    assert sheets[0].scores == alone and len(alone) == 10


def test_digits_are_asked_further_in_a_second_batch(monkeypatch, tmp_path):
    def digits(_n, body):
        last = body["messages"][-1]
        if last["role"] == "assistant":
            return completion({"7" if is_probe(body) else "3": 0.9, "<end>": 0.1})
        return completion({"5": 1.0} if is_probe(body) else {"6": 1.0})

    with BatchServer(digits) as server:
        sheet = sheet_of(tmp_path / "a.csv", 4)
        score(server, monkeypatch, sheet)
        assert len(server.batches) == 2 and not server.wrong
        alone = one_by_one(server, monkeypatch, sheet_of(tmp_path / "a_alone.csv", 4))
    assert sheet.scores == alone and list(alone.values()) == pytest.approx([0.9 * 63 + 0.1 * 6] * 6)


def test_equal_requests_are_sent_once(monkeypatch, tmp_path):
    with BatchServer(reply) as server:
        sheet = sheet_of(tmp_path / "a.csv", 5)
        for record in list(sheet.answers.values()):
            record |= {"question": "Q?", "answer": "the same"}
        score(server, monkeypatch, sheet)
        assert [len(entry["content"]) for entry in server.batches.values()] == [2]
    assert len(sheet.scores) == 10


def test_a_run_stopped_after_any_line_of_its_journal_collects_what_was_sent(monkeypatch, tmp_path):
    """A kill leaves a beginning of the journal, and whatever of the batch the server had got by then."""
    monkeypatch.setattr(batch, "MOST_REQUESTS", 4)
    path = tmp_path / "a.csv"
    journal = tmp_path / "a.csv.journal.jsonl"
    with BatchServer(reply) as server:
        sheet = sheet_of(path)
        score(server, monkeypatch, sheet)
        lines = journal.read_bytes().splitlines(keepends=True)
        first = next(k for k, line in enumerate(lines) if b'"requests"' in line)
        last = max(k for k, line in enumerate(lines) if b'"requests"' in line)
        for cut in range(first + 1, len(lines) + 1):
            journal.write_bytes(b"".join(lines[:cut]) + b'{"torn')
            before, again = (len(server.files), len(server.batches)), sheet_of(path)
            score(server, monkeypatch, again)
            assert again.scores == sheet.scores
            if cut > last:  # all that was sent was recorded: nothing is sent again
                assert (len(server.files), len(server.batches)) == before
            assert not [w for w in server.wrong if "although it was there" in w], cut


@pytest.mark.parametrize("arrived", ["nothing", "the file", "file and batch"])
def test_a_run_killed_before_it_heard_of_the_arrival(monkeypatch, tmp_path, arrived):
    path, journal = tmp_path / "a.csv", tmp_path / "a.csv.journal.jsonl"
    with BatchServer(reply) as server:
        score(server, monkeypatch, sheet_of(path))
        lines = journal.read_bytes().splitlines(keepends=True)
        cut = next(k for k, line in enumerate(lines) if b'"requests"' in line) + 1
        journal.write_bytes(b"".join(lines[:cut]))
        if arrived != "file and batch":
            server.batches.clear()
            server.answered.clear()
            kept = [f for f in server.files.values() if arrived == "the file" and f["purpose"] == "batch"]
            server.files = {f["id"]: f for f in kept}
        uploads = server.calls["POST files"]
        again = sheet_of(path)
        score(server, monkeypatch, again)
        assert len(again.scores) == 10 and not server.wrong and len(server.batches) == 1
        assert server.calls["POST files"] - uploads == (arrived == "nothing") and set(server.answered.values()) == {1}


@pytest.mark.parametrize("fate", ["expired", "token_limit_exceeded", "failed"])
def test_what_a_batch_does_not_bring_goes_into_another(monkeypatch, tmp_path, fate):
    with BatchServer(reply) as server:
        fates = iter([fate, fate] if fate == "token_limit_exceeded" else [fate])
        server.fate = lambda _batch: next(fates, "completed")
        sheet = sheet_of(tmp_path / "a.csv")
        score(server, monkeypatch, sheet)
        assert len(sheet.scores) == 10 and not server.wrong and set(server.answered.values()) == {1}
        sizes = [len(entry["content"]) for entry in server.batches.values()]
        assert (
            sizes == {"token_limit_exceeded": [10, 5, 2, 2, 2, 2, 2], "failed": [10, 10]}.get(fate, sizes)
            and sizes[0] == 10
        )


def test_odd_lines_of_results_lose_and_double_nothing(monkeypatch, tmp_path):
    """The first batch brings half of its results, among lines that say nothing of any request or repeat one; its file of errors
    has errors that are texts."""

    class OddServer(BatchServer):
        def end(self, batch, lines, fate):
            super().end(batch, lines, fate)
            if len(self.batches) > 1:
                return
            made = self.files[batch["output_file_id"]]
            results = [json.loads(line) for line in made["content"].splitlines()]
            kept, lost = results[:5], results[5:]
            odd = [None, 7, [], {}, {"custom_id": ["x"]}, {"custom_id": "another's", "response": {"status_code": 200}}]
            content = [*odd, *kept, kept[0] | {"response": "gone"}, *kept[::-1]]
            made["content"] = b"\n\n".join(json.dumps(line).encode() for line in content)
            bad = [{"custom_id": line["custom_id"], "response": None, "error": "overloaded"} for line in lost[:3]]
            bad += [{"custom_id": lost[3]["custom_id"], "response": "overloaded", "error": None}]
            batch["error_file_id"] = self.add_file(
                "e.jsonl", "batch_output", b"\n".join(json.dumps(b).encode() for b in bad)
            )
            self.answered.subtract(line["custom_id"] for line in lost)

    with OddServer(reply) as server:
        sheet = sheet_of(tmp_path / "a.csv")
        score(server, monkeypatch, sheet)
        assert [len(entry["content"]) for entry in server.batches.values()] == [10, 5] and not server.wrong
        assert sheet.scores == one_by_one(server, monkeypatch, sheet_of(tmp_path / "alone.csv"))
    assert len(sheet.scores) == 10


def test_a_refused_batch_ends_the_run_and_the_next_one_sends_anew(monkeypatch, tmp_path):
    with BatchServer(reply) as server:
        server.fate = lambda _batch: "invalid"
        with pytest.raises(UserError, match=r"refuses batch batch_000000: so: model_not_found"):
            score(server, monkeypatch, sheet_of(tmp_path / "a.csv"))
        with pytest.raises(UserError, match="refuses batch batch_000001"):
            score(server, monkeypatch, sheet_of(tmp_path / "a.csv"))
        server.fate = lambda _batch: "cancelled"
        with pytest.raises(UserError, match="was cancelled"):
            score(server, monkeypatch, sheet_of(tmp_path / "a.csv"))
        server.fate = lambda _batch: "completed"
        sheet = sheet_of(tmp_path / "a.csv")
        assert 0 < len(sheet.scores) < 10  # of the cancelled one
        score(server, monkeypatch, sheet)
        assert len(sheet.scores) == 10 and set(server.answered.values()) == {1} and not server.wrong


def test_a_request_that_never_succeeds_is_given_up_and_asked_for_by_the_next_run(monkeypatch, tmp_path):
    bad = {"400": error(400, "filtered"), "500": error(500)}
    for status, answer in bad.items():
        first = lambda n, body, answer=answer: answer if "Question 1" in str(body) else reply(n, body)  # noqa: E731
        with BatchServer(first) as server:
            sheet = sheet_of(tmp_path / f"q{status}.csv")
            judge = score(server, monkeypatch, sheet)
            assert len(sheet.scores) == 8 and judge.judge.counts.given_up == 2, status
            assert len(server.batches) == (1 if status == "400" else batch.TRIES)
            assert "given up 2 (last: " in judge.summary()
            server.reply = reply
            sheet = sheet_of(tmp_path / f"q{status}.csv")
            score(server, monkeypatch, sheet)
            assert len(sheet.scores) == 10 and set(server.answered.values()) == {1} and not server.wrong


def test_what_cannot_be_collected_is_refused_and_not_paid_for_again(monkeypatch, tmp_path):
    with BatchServer(reply, seconds=1e9) as server, BatchServer(reply) as other:
        with monkeypatch.context() as stopped, pytest.raises(InterruptedError):  # while it waits
            stopped.setattr(batch.BatchFiles, "state", interrupted)
            score(server, monkeypatch, sheet_of(tmp_path / "a.csv"))
        sheet = sheet_of(tmp_path / "a.csv")
        with pytest.raises(UserError, match="under way in 1 batch: pass --judge_batch"):
            refuse_under_way([sheet])
        with pytest.raises(UserError, match=r"under way in a batch at http://127.*OPENAI_BASE_URL as before"):
            score(other, monkeypatch, sheet)
        server.batches.clear()
        with pytest.raises(UserError, match=r"does not know batch batch_000000 \(HTTP 404\): use the key that sent it"):
            score(server, monkeypatch, sheet_of(tmp_path / "a.csv"))
        assert not server.batches and not other.batches


def test_an_endpoint_without_a_batch_api_is_said(monkeypatch, tmp_path):
    with BatchServer(reply) as server:
        do = server.do
        server.do = lambda method, address, *rest: (404, {}) if "files" in address.path else do(method, address, *rest)
        with pytest.raises(UserError, match="without --judge_batch scores are asked for one by one"):
            score(server, monkeypatch, sheet_of(tmp_path / "a.csv"))


def test_a_limit_ends_before_the_batch_that_would_go_beyond(monkeypatch, tmp_path):
    monkeypatch.setattr(batch, "MOST_REQUESTS", 4)
    with BatchServer(reply) as server:
        sheet = sheet_of(tmp_path / "a.csv")
        with pytest.raises(TooExpensive, match=r"stopped at --max_cost 9: .* the next batch, of 2 requests,"):
            score(server, monkeypatch, sheet, budget=9)
        assert len(sheet.scores) == 8 and len(server.batches) == 2
        sheet = sheet_of(tmp_path / "a.csv")
        score(server, monkeypatch, sheet, budget=9)
        assert len(sheet.scores) == 10 and set(server.answered.values()) == {1} and not server.wrong


def test_a_file_stays_below_the_limit_of_bytes(monkeypatch, tmp_path):
    monkeypatch.setattr(batch, "MOST_BYTES", 1200)
    with BatchServer(reply) as server:
        score(server, monkeypatch, sheet_of(tmp_path / "a.csv"))
        sizes = [file["bytes"] for file in server.files.values() if file["purpose"] == "batch"]
        assert len(sizes) > 2 and max(sizes) <= 1200 and not server.wrong
