"""Judges that are not OpenAI's: what each allows is found out at the probe, or the judge is refused with what it said."""

import asyncio
import json

import pytest
from judge_server import JudgeServer, completion, error, is_probe

from persona_vectors.errors import NothingScored, UserError
from persona_vectors.judge.abilities import Abilities
from persona_vectors.judge.endpoint import ChatClient, GivenUp
from persona_vectors.judge.judge import Judge, is_refusal, read_number

PARAMETERS = {"max_tokens", "max_completion_tokens", "logprobs", "top_logprobs", "seed", "temperature", "n"}


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key")


def number(body):
    return "57" if is_probe(body) else "80"


def plain(body, text=None, **message):
    """A reply of the number, as many as were asked for, with logprobs if they were."""
    text = number(body) if text is None else text
    if body.get("logprobs"):
        return completion({text: 0.9, "40": 0.1} if not is_probe(body) else {text: 1.0})
    status, headers, reply = completion(texts=(text,) * body.get("n", 1))
    for choice in reply["choices"]:
        choice["message"] |= message
    return status, headers, reply


def refusing(test, refusal):
    return lambda _n, body: refusal if test(body) else plain(body)


def azure(_n, body):
    if (body.get("top_logprobs") or 0) > 5:
        return error(400, "Invalid value for 'top_logprobs': must be less than or equal to 5.", "invalid_value")
    return plain(body)


def newest(_n, body):
    """A reasoning model of OpenAI's: other names, one temperature, no logprobs, no room in a few tokens."""
    if "max_tokens" in body:
        return error(
            400,
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        )
    if body.get("logprobs"):
        return error(403, "You are not allowed to request logprobs from this model")
    if body.get("temperature", 1) != 1:
        return error(
            400,
            "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.",
        )
    if body["max_completion_tokens"] < 100:
        return error(
            400,
            "Could not finish the message because max_tokens or model output limit was reached. Please try again with higher max_tokens.",
        )
    return plain(body)


def strict(allowed, status=422):
    """A server that refuses every parameter it does not know, as pydantic says it."""

    def reply(_n, body):
        for name in body.keys() - allowed - {"model", "messages"}:
            detail = [
                {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted", "input": 0}
            ]
            return status, {}, {"detail": detail}
        return plain(body)

    return reply


def thinking(field):
    """A model whose thoughts take more than eight tokens, in the text or in a field of their own."""

    def reply(_n, body):
        room = body.get("max_tokens", 10_000)
        if room < 50:
            return plain(body, "" if field else "<think>Let me", **({field: "Let me"} if field else {}))
        return plain(
            body,
            number(body) if field else f"<think>Say 3, 4?</think>\n{number(body)}",
            **({field: "3?"} if field else {}),
        )

    def without_logprobs(n, body):
        return reply(n, {key: value for key, value in body.items() if "logprobs" not in key})

    return without_logprobs


def first_token(token):
    """A judge with logprobs whose first token is no number, and whose text is ``token`` and then one."""

    def reply(_n, body):
        return completion({token: 1.0}) if body.get("logprobs") else plain(body, f"{token}{number(body)}")

    return reply


# judge -> method, score of the answer, what it says of itself
USABLE = {
    "at most 5 alternatives": (azure, "token", (0.9 * 80 + 0.1 * 40), "top 5 logprobs"),
    "at most 5, says <=": (
        refusing(lambda b: (b.get("top_logprobs") or 0) > 3, error(400, "top_logprobs must be <= 3")),
        "token", 76, "top 3 logprobs",
    ),
    "no logprobs, 400": (refusing(lambda b: "logprobs" in b, error(400, "property 'logprobs' is unsupported")), "samples", 80, "20 sampled"),
    "no logprobs, 403": (refusing(lambda b: b.get("logprobs"), error(403, "You are not allowed to request logprobs")), "samples", 80, "20 sampled"),
    "no logprobs, 404": (
        refusing(lambda b: b.get("logprobs"), error(404, "No endpoints found that support the requested parameters: logprobs")),
        "samples", 80, "20 sampled",
    ),
    "no logprobs, said inside 200": (
        refusing(lambda b: b.get("logprobs"), (200, {}, {"error": {"message": "logprobs not supported", "code": 400}})),
        "samples", 80, "20 sampled",
    ),
    "no logprobs, said without a name": (refusing(lambda b: b.get("logprobs"), error(400, "Bad request")), "samples", 80, "20 sampled"),
    "a reasoning model of OpenAI's": (newest, "samples", 80, "5 sampled numbers, with up to 4096 tokens to think, without temperature"),
    "no seed": (strict(PARAMETERS - {"seed"}), "token", 76, "without seed"),
    "no seed, no n, no logprobs": (strict({"max_tokens", "temperature"}), "samples", 80, "without seed"),
    "nothing but messages and a limit": (strict({"max_completion_tokens"}, 400), "samples", 80, "without seed, without temperature"),
    "one reply a call": (
        refusing(lambda b: b.get("n", 1) > 1 or b.get("logprobs"), error(400, "'n' : number must be at most 1, logprobs are unsupported")),
        "samples", 80, "20 sampled",
    ),
    "thoughts in the text": (thinking(None), "samples", 80, "4096 tokens to think"),
    "thoughts in reasoning_content": (thinking("reasoning_content"), "samples", 80, "4096 tokens to think"),
    "thoughts in reasoning": (thinking("reasoning"), "samples", 80, "4096 tokens to think"),
    "bold": (first_token("**"), "samples", 80, "20 sampled"),
    "a word first": (first_token("Score: "), "samples", 80, "20 sampled"),
    "out of 100": (lambda _n, b: plain({k: v for k, v in b.items() if "log" not in k}, f"{number(b)}/100"), "samples", 80, "20 sampled"),
    "a beginning that cannot be gone on from": (
        lambda _n, b: error(400, "extra field continue_final_message") if "continue_final_message" in b
        else completion({number(b)[0]: 1.0}) if b.get("logprobs") else plain(b),
        "samples", 80, "20 sampled",
    ),
}  # fmt: skip


def judged(server, monkeypatch, prompts=("rate",)):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    judge = Judge("m")

    async def work():
        try:
            await judge.connect()
            return await asyncio.gather(*(judge.score(prompt) for prompt in prompts), return_exceptions=True)
        finally:
            await judge.close()

    return asyncio.run(work()), judge


@pytest.mark.parametrize("case", USABLE)
def test_what_an_endpoint_allows_is_found_out_once(case, monkeypatch):
    reply, method, score, said = USABLE[case]
    with JudgeServer(reply) as server:
        (found,), judge = judged(server, monkeypatch)
        calls_of_the_score = [body for body in server.bodies if not is_probe(body)]
        refused = [body for body in calls_of_the_score if reply(0, body)[0] != 200]
    assert (judge.method, found) == (method, pytest.approx(score)) and said in judge.how
    assert not refused  # nothing is negotiated at the user's cost


UNUSABLE = {
    "prose": (lambda _n, b: plain({k: v for k, v in b.items() if "log" not in k}, "I would rather not."), "I would rather not"),
    "prose with logprobs": (first_token("Sure! I can't "), None),
    "thoughts without end": (lambda _n, b: plain({}, "<think>" + "hm " * 50), "<think>hm hm"),
    "nothing": (lambda _n, b: plain({}, ""), "it replied ''"),
    "another number": (lambda _n, b: plain({k: v for k, v in b.items() if "log" not in k}, "42"), "it replied '42'"),
    "an error inside 200": (lambda _n, b: (200, {}, {"error": {"message": "quota is used up"}}), "quota is used up"),
    "an error inside a choice": (
        lambda _n, b: (200, {}, {"choices": [{"error": {"code": 502, "message": "provider is down"}, "message": {"content": ""}}]}),
        "provider is down",
    ),
    "a key that is refused": (lambda _n, b: error(401, "bad key"), "check OPENAI_API_KEY"),
    "a key that may not": (lambda _n, b: error(403, "no access"), "check OPENAI_API_KEY"),
    "a model that is not there": (lambda _n, b: error(404, "The model `seed-1` does not exist"), "does not know the model"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_judge_that_gives_no_number_is_refused_with_what_it_said(case, monkeypatch):
    reply, said = UNUSABLE[case]
    if said is None:
        reply = lambda _n, b, first=reply: first(_n, b) if b.get("logprobs") else plain(b, "Sure! I can't say")  # noqa: E731
        said = "Sure! I can't say"
    with JudgeServer(reply) as server, pytest.raises(UserError) as caught:
        judged(server, monkeypatch)
    assert said in str(caught.value) and "sk-secret" not in str(caught.value)


SMALL = (  # how endpoints refuse room to think that a model does not have
    "max_completion_tokens=4096 cannot be greater than max_model_len=2048. Please request fewer output tokens.",
    "max_tokens is too large: 4096. This model supports at most 2048 completion tokens, whereas you provided 4096.",
    "This model's maximum context length is 2048 tokens. However, you requested 4110 tokens (14 in the messages).",
    "'max_tokens' or 'max_completion_tokens' exceeds the context window of the model",
)


@pytest.mark.parametrize("refusal", SMALL)
def test_a_small_model_without_a_number_is_refused_for_that_alone(refusal, monkeypatch):
    def reply(_n, body):
        if (body.get("max_tokens") or body.get("max_completion_tokens")) > 2048:
            return error(400, refusal)
        return plain({k: v for k, v in body.items() if "log" not in k}, "I'm sorry")

    with JudgeServer(reply) as server, pytest.raises(UserError, match='gives no number.* it replied "I\'m sorry"'):
        judged(server, monkeypatch)
    assert len(server.bodies) <= 6  # no row of vain tries


def test_after_the_probe_every_call_is_made_alike(monkeypatch):
    def reply(_n, body):
        return plain(body) if is_probe(body) else error(400, "Unsupported parameter: 'seed'")

    with JudgeServer(reply) as server:
        (outcome,), judge = judged(server, monkeypatch)
        assert next(body for body in server.bodies if not is_probe(body))["seed"] == 0
    assert isinstance(outcome, GivenUp) and judge.client.abilities == Abilities()


def test_what_is_no_refusal_is_counted_apart(monkeypatch):
    replies = {"a": "REFUSAL", "b": "REF", "c": "eighty", "d": "101", "e": "80"}

    def reply(_n, body):
        return plain(body) if is_probe(body) else completion({replies[body["messages"][0]["content"]]: 1.0})

    with JudgeServer(reply) as server:
        scores, judge = judged(server, monkeypatch, prompts="abcde")
    assert scores == [None] * 4 + [80]
    assert (judge.counts.unscored, judge.counts.unreadable) == (4, 2) and judge.counts.said in ("'eighty'", "'101'")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("85", 85), (" 85.\n", 85), ("**85**", 85), ("Score: 85/100", 85), ("85 out of 100", 85), ("I rate this 7.", 7),
        ("<think>10 or 20?</think>\n\n85", 85), ("85, 85", 85), ("0", 0), ("100", 100),
        ("REFUSAL", None), ("between 20 and 30", None), ("101", None), ("-5", None), ("8.5", None), ("3,000", None),
        ("GPT4", None), ("", None), ("<think>85", None), ("eighty", None), ("٨٥", None), ("85%", 85), ("1e2", None),
    ],
)  # fmt: skip
def test_a_number_is_read_where_there_is_one(text, wanted):
    assert read_number(text) == wanted


def test_refusals_by_their_first_token():
    assert is_refusal({"REFUSAL": 0.9, "10": 0.1}) and is_refusal({"REF": 1.0}) and is_refusal({"R": 0.6, "90": 0.4})
    assert (
        not is_refusal({"10": 1.0})
        and not is_refusal({})
        and not is_refusal({"Really": 1.0})
        and not is_refusal({"": 1.0})
    )


def test_a_writer_negotiates_on_its_way(monkeypatch):
    """generate_trait and generate_dataset: no probe, many calls at once."""

    def reply(_n, body):
        if "max_tokens" in body:
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.")
        return plain(body, "text", reasoning_content="thoughts")

    with JudgeServer(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        client = ChatClient("m", max_concurrent=8, timeout=10, who="the writer")

        async def work():
            client.open()
            ask = [{"role": "user", "content": "write"}]
            texts = await asyncio.gather(*(client.write(ask, 100) for _ in range(20)))
            await client.close()
            return texts

        assert asyncio.run(work()) == [("text", "length")] * 20
        assert (
            sum("max_tokens" in body for body in server.bodies) <= 8
            and server.bodies[-1]["max_completion_tokens"] == 100
        )


class TestARunWithoutScores:
    """eval_persona on a tiny model: a judge that stops giving numbers after the probe."""

    def ask(self, run_stage, server, folder, monkeypatch, *flags):
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        trait = folder.parent / "trait_data_eval"
        trait.mkdir(exist_ok=True)
        artifact = {
            "instruction": [{"pos": "p", "neg": "n"}],
            "questions": ["what is it", "the model"],
            "eval_prompt": "{question} {answer}",
        }
        (trait / "vile.json").write_text(json.dumps(artifact))
        return run_stage(
            "eval.eval_persona", "--version", "eval", "--model", folder, "--trait", "vile", "--trait_dir", folder.parent, "--backend", "hf",
            "--output_path", "out.csv", "--max_tokens", 4, "--n_per_question", 2, "--judge_model", "m", *flags,
        )  # fmt: skip

    @pytest.mark.parametrize("text", ["<think>", "I think", "REFUSAL"])
    def test_is_an_error_whose_answers_are_kept(self, run_stage, qwen2_folder, monkeypatch, tmp_path, text):
        with JudgeServer(lambda n, body: plain(body) if is_probe(body) else completion({text: 1.0})) as server:
            done = self.ask(run_stage, server, qwen2_folder, monkeypatch)
        assert done.returncode == 1 and done.stderr.strip().splitlines()[-1].startswith(
            "error: not one of 4 answers of out.csv was scored"
        )
        assert not (tmp_path / "out.csv").exists() and "Traceback" not in done.stderr
        answers = [line for line in (tmp_path / "out.csv.journal.jsonl").read_text().splitlines() if '"answer"' in line]
        with JudgeServer(lambda n, body: plain(body)) as server:
            done = self.ask(run_stage, server, qwen2_folder, monkeypatch)
            assert len([body for body in server.bodies if not is_probe(body)]) == 8
        assert done.returncode == 0 and "76.00" in done.stdout
        written = (tmp_path / "out.csv").read_text()
        assert all(json.dumps(json.loads(line)["answer"])[1:-1].split("\\")[0] in written for line in answers)

    def test_scores_of_two_methods_are_not_mixed(self, run_stage, qwen2_folder, monkeypatch, tmp_path):
        lost = lambda n, body: plain(body) if is_probe(body) or n % 2 else error(400, "filtered")  # noqa: E731
        with JudgeServer(lost) as server:
            assert self.ask(run_stage, server, qwen2_folder, monkeypatch).returncode == 0
        with JudgeServer(USABLE["no logprobs, 400"][0]) as server:
            done = self.ask(run_stage, server, qwen2_folder, monkeypatch)
        assert done.returncode == 2 and "top 20 logprobs" in done.stderr and "20 sampled numbers" in done.stderr

    def test_a_refused_judge_leaves_no_noise(self, run_stage, qwen2_folder, monkeypatch, tmp_path):
        import gc

        with JudgeServer(lambda n, body: error(401)) as server:
            done = self.ask(run_stage, server, qwen2_folder, monkeypatch)
            gc.collect()
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Unclosed" not in done.stderr
        assert not list(tmp_path.glob("out.csv*"))


def test_nothing_scored_is_exit_code_1():
    assert (UserError.exit_code, NothingScored.exit_code) == (2, 1)
