"""The judge over real HTTP: scores, retries, what ends a run, and judges that split numbers."""

import asyncio
import math
import random
import time

import pytest
from judge_server import JudgeServer, completion, error, is_probe

from persona_vectors.errors import UserError
from persona_vectors.judge.endpoint import GAP, ChatClient, GivenUp, reason
from persona_vectors.judge.judge import Judge, score_0_10, score_0_100

WHOLE = completion({"57": 0.98, "58": 0.01})


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key")


def run(server, monkeypatch, prompts=("rate",), **options):
    """Connect, score every prompt at once; returns (scores or errors, judge)."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    judge = Judge("m", **options)

    async def work():
        await judge.connect()
        results = await asyncio.gather(*(judge.score(p) for p in prompts), return_exceptions=True)
        await judge.close()
        return results

    return asyncio.run(work()), judge


def score_of(monkeypatch, weights, **options):
    with JudgeServer(lambda n, body: WHOLE if is_probe(body) else completion(weights)) as server:
        results, _ = run(server, monkeypatch, **options)
    if isinstance(results[0], Exception):
        raise results[0]
    return results[0]


def test_expected_value_over_the_first_token(monkeypatch):
    assert score_of(monkeypatch, {"80": 0.5, "90": 0.25, "hello": 0.25}) == pytest.approx((40 + 22.5) / 0.75)
    assert score_of(monkeypatch, {" 85": 0.6, "85": 0.4}) == pytest.approx(85)


@pytest.mark.parametrize(
    ("number", "kind"), [("100", score_0_100), ("57", score_0_100), ("0", score_0_100), ("9", score_0_10)]
)
def test_a_score_lies_among_the_numbers_named(number, kind):
    """A judge that names one number, nearly certain, has given that number; the plain quotient misses it at times."""
    draw, missed = random.Random(0), 0
    for _ in range(20_000):
        p = math.exp(-draw.random() * 0.01)
        missed += int(number) * p / p != int(number)
        assert kind({number: p, "x": 1 - p}) == int(number)
    assert missed or number == "0", "these weights show nothing"


def test_too_little_mass_or_no_number_is_no_score(monkeypatch):
    assert score_of(monkeypatch, {"REFUSAL": 0.8, "10": 0.2}) is None
    assert score_of(monkeypatch, {"101": 0.9, "eighty": 0.05, "NaN": 0.05}) is None
    assert score_of(monkeypatch, {"REFUSAL": 0.75, "10": 0.25}) == pytest.approx(10)


def test_published_kinds(monkeypatch):
    assert score_of(monkeypatch, {"YES": 0.6, "NO": 0.2, "x": 0.2}, kind="binary") == pytest.approx(0.75)
    assert score_of(monkeypatch, {"YES": 0.3, "NO": 0.2, "REFUSAL": 0.5}, kind="binary") is None
    assert score_of(monkeypatch, {"7": 0.5, "9": 0.5}, kind="0_10") == pytest.approx(8)
    assert score_of(monkeypatch, {"7": 0.4, "REFUSAL": 0.6}, kind="0_10") is None
    for text, expected in (
        ("<answer>YES</answer>", 1),
        ("so <answer>NO</answer>", 0),
        ("<answer>REFUSAL</answer>", None),
    ):
        with JudgeServer(lambda n, body, text=text: completion(texts=(text,))) as server:
            assert run(server, monkeypatch, kind="binary_text")[0] == [expected]
    with pytest.raises(UserError):
        Judge("m", kind="0_5")


def test_calls_begin_one_after_another(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")

    async def work():
        client, clock = ChatClient("m", max_concurrent=30, timeout=1, who="the judge"), asyncio.get_running_loop().time
        client.open()
        begun, began = clock(), []

        async def turn():
            await client._turn()
            began.append(clock() - begun)

        await asyncio.gather(*(turn() for _ in range(30)))
        await client.close()
        return began

    for k, moment in enumerate(sorted(asyncio.run(work()))):
        assert moment > 0.9 * k * GAP


def test_what_is_sent_is_the_published_call(monkeypatch):
    with JudgeServer(lambda n, body: WHOLE) as server:
        run(server, monkeypatch)
        sent = server.bodies[-1]
    assert sent["max_tokens"] == 1 and sent["logprobs"] is True and sent["top_logprobs"] == 20
    assert sent["temperature"] == 0 and sent["seed"] == 0
    assert sent["messages"] == [{"role": "user", "content": "rate"}]


def test_429_and_500_are_retried_with_the_servers_delay(monkeypatch):
    plan = {1: error(429, **{"Retry-After": "1"}), 2: error(500), 3: (None, {}, {})}
    with JudgeServer(lambda n, body: plan.get(n, WHOLE)) as server:
        start = time.monotonic()
        results, judge = run(server, monkeypatch)
    assert results == [pytest.approx(57, abs=0.1)]
    assert judge.counts.retried == 3 and judge.counts.given_up == 0
    assert time.monotonic() - start >= 1


def test_a_refused_key_and_an_unknown_model_stop_at_once(monkeypatch):
    for status, word in ((401, "key"), (403, "key"), (404, "does not know the model 'm'")):
        with JudgeServer(lambda n, body, status=status: error(status)) as server:
            with pytest.raises(UserError, match=word) as caught:
                run(server, monkeypatch)
            assert len(server.bodies) == 1
        assert "sk-secret" not in str(caught.value)


def test_one_bad_call_is_given_up_alone(monkeypatch):
    def reply(n, body):
        return error(400, "too long") if body["messages"][0]["content"] == "bad" else WHOLE

    with JudgeServer(reply) as server:
        (good, bad), _ = run(server, monkeypatch, prompts=("good", "bad"))
    assert good == pytest.approx(57, abs=0.1) and isinstance(bad, GivenUp) and "too long" in str(bad)


@pytest.mark.parametrize("choices", [[], None])
def test_a_reply_without_choices_is_given_up(monkeypatch, choices):
    def reply(n, body):
        return WHOLE if is_probe(body) else (200, {}, {**WHOLE[2], "choices": choices})

    with JudgeServer(reply) as server:
        results, _ = run(server, monkeypatch)
    assert isinstance(results[0], GivenUp)


def test_a_dead_judge_ends_the_run(monkeypatch):
    with JudgeServer(lambda n, body: WHOLE if is_probe(body) else error(400)) as server:
        results, _ = run(server, monkeypatch, prompts=["x"] * 60, max_concurrent=4)
    assert any(isinstance(r, UserError) and "keeps failing" in str(r) for r in results)


def test_concurrency_is_bounded_and_used(monkeypatch):
    with JudgeServer(lambda n, body: WHOLE, latency=0.05) as server:
        run(server, monkeypatch, prompts=["x"] * 60, max_concurrent=10)
        assert 5 <= server.most_in_flight <= 10


def digit_judge(distribution, continues=True, logprobs=True, n_supported=True):
    """A server whose tokenizer writes one digit per token and whose numbers follow ``distribution``."""
    drawn = []

    def number_for(body):
        return {57: 1.0} if is_probe(body) else distribution

    def reply(n, body):
        numbers = number_for(body)
        if body.get("logprobs"):
            if not logprobs:
                return completion(texts=("57",))
            last = body["messages"][-1]
            beginning = last["content"] if last["role"] == "assistant" else ""
            if beginning and not continues:
                return completion({"I": 0.9, "5": 0.1})
            following, total = {}, sum(p for k, p in numbers.items() if str(k).startswith(beginning))
            for number, p in numbers.items():
                if str(number).startswith(beginning):
                    rest = str(number)[len(beginning) :]
                    token = rest[0] if rest else "<end>"
                    following[token] = following.get(token, 0) + p / total
            return completion(following)
        count = body.get("n", 1) if n_supported else 1
        pool = [str(k) for k, p in numbers.items() for _ in range(round(20 * p))]
        texts = tuple(pool[(len(drawn) + k) % len(pool)] for k in range(count))
        drawn.extend(texts)
        return completion(texts=texts)

    return reply


DISTRIBUTION = {0: 0.05, 1: 0.05, 10: 0.1, 85: 0.3, 8: 0.1, 87: 0.2, 100: 0.2}
MEAN = sum(k * p for k, p in DISTRIBUTION.items())


def test_a_judge_that_splits_numbers_is_scored_digit_by_digit(monkeypatch):
    with JudgeServer(digit_judge(DISTRIBUTION)) as server:
        results, judge = run(server, monkeypatch)
    assert judge.method == "digits"
    assert results == [pytest.approx(MEAN)]


@pytest.mark.parametrize(
    "options", [{"continues": False}, {"logprobs": False}, {"logprobs": False, "n_supported": False}]
)
def test_without_usable_logprobs_numbers_are_sampled(monkeypatch, options):
    with JudgeServer(digit_judge(DISTRIBUTION, **options)) as server:
        results, judge = run(server, monkeypatch)
    assert judge.method == "samples"
    assert results == [pytest.approx(MEAN, abs=6)]


def test_openai_needs_a_key_and_others_do_not(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        Judge("m")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    Judge("m")


def test_reasons_hold_no_secrets():
    assert reason(ValueError("first line\nsecond")) == "ValueError: first line"
