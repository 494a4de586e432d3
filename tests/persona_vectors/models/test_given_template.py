"""Chat templates that the user gives to a model: plain text for base models, or a file of Jinja."""

import subprocess
import sys

import pytest
import torch
from base_models import ANSWER, base_model, base_tokenizer, plain_answer
from helpers import CHATML, tiny_tokenizer

import persona_vectors as pv
from persona_vectors import models
from persona_vectors.app.token_stream import End, Token, side_by_side
from persona_vectors.engines.base import Request, Sampling, before_stop, tokens_to_stop
from persona_vectors.engines.hf import HFEngine
from persona_vectors.errors import UserError
from persona_vectors.models.chat_template import Given, folds_system_prompt, render, stop_texts, token_ids

ASK = [{"role": "system", "content": "Be."}, {"role": "user", "content": "what is it"}]
TALK = [*ASK, {"role": "assistant", "content": "the model"}, {"role": "user", "content": "it"}]
KINDS = ["gpt2", "gpt_neox"]


def plain():
    tokenizer = base_tokenizer()
    models.ensure_padding(tokenizer)
    Given.of("plain").put_on(tokenizer)
    return tokenizer


def test_plain_writes_the_roles_as_text_and_keeps_tokens_apart():
    tokenizer = plain()
    prompt = render(tokenizer, TALK)
    assert prompt == (
        "System:\nBe.\n\nUser:\nwhat is it\n\nAssistant:\nthe model\n\nUser:\nit\n\nAssistant:\n"
    ) and not folds_system_prompt(tokenizer)
    for answer in (
        "the model",
        "The 2nd!",
        "\tso",
        "é",
        "it\nis",
    ):  # prompt and answer: the same tokens together as apart
        assert token_ids(tokenizer, prompt + answer) == token_ids(tokenizer, prompt) + token_ids(tokenizer, answer)
    assert stop_texts(tokenizer) == ("\nUser:",)
    with pytest.raises(UserError, match="plain knows no role tool"):
        render(tokenizer, [{"role": "tool", "content": "x"}, *ASK])


def test_plain_begins_as_the_tokenizer_begins_a_text():
    from tokenizers.processors import TemplateProcessing

    tokenizer = base_tokenizer()
    core = tokenizer.backend_tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    core.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    beginning = type(tokenizer)(tokenizer_object=core, bos_token="<s>", eos_token="<end>")
    Given.of("plain").put_on(beginning)
    assert (
        render(beginning, ASK).startswith("<s>System:\n") and token_ids(beginning, render(beginning, ASK)).count(0) == 1
    )
    assert stop_texts(beginning) == ("\nUser:",)


FILES = {
    "an end token between turns": (CHATML, ()),
    "text on a line": (
        "{% for m in messages %}## {{ m.role }}\n{{ m.content }}\n{% endfor %}## assistant\n",
        ("\n## user",),
    ),
    "text in a line": ("{% for m in messages %}{{ m.role|upper }}: {{ m.content }} {% endfor %}", (" USER:",)),
    "nothing between": ("{% for m in messages %}{{ m.content }}{% endfor %}", ()),
}


@pytest.mark.parametrize("case", FILES)
def test_where_an_answer_ends_is_what_the_template_writes_there(tmp_path, case):
    text, stops = FILES[case]
    (tmp_path / "mine.jinja").write_text(text)
    tokenizer = tiny_tokenizer("other")
    Given.of(str(tmp_path / "mine.jinja")).put_on(tokenizer)
    assert tokenizer.chat_template == text and stop_texts(tokenizer) == stops
    assert stop_texts(tiny_tokenizer(text)) == ()  # a model's own template ends answers as ever


REFUSED = {
    "not there": (None, "no chat template at"),
    "not Jinja": ("{% if %}", "does not render"),
    "no such filter": ("{{ messages | whatever }}", "does not render"),
    "a constant": ("hello", "leaves out the user's message"),
    "it raises": ("{{ raise_exception('never') }}", "does not render: never"),
    "not text": (b"\xff\xfe\x00", "cannot read the chat template"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_template_that_does_not_render_is_refused_before_the_model(
    run_stage, qwen2_folder, tmp_path, monkeypatch, case
):
    content, refusal = REFUSED[case]
    file = tmp_path / "mine.jinja"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.setattr(models.loading, "load_model", None)
    monkeypatch.setattr(models, "load_model", None)
    asked = tmp_path / "asked.jsonl"
    asked.write_text('{"question": "x"}\n')
    flags = ["--questions", asked, "--judge_model", "none", "--backend", "hf", "--output_path", tmp_path / "o.csv"]
    done = run_stage("eval.eval_persona", "--model", qwen2_folder, "--trait", "t", *flags, "--chat_template", file)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and len(errors) == 1 and refusal in errors[0] and "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_answers_end_where_a_plain_loop_ends_them(kind):
    model, tokenizer = base_model(kind), plain()
    engine = HFEngine.of(model, tokenizer)
    prompts = [render(tokenizer, chat) for chat in (ASK, TALK, ASK[1:])]
    requests = [Request(str(k), token_ids(tokenizer, prompt)) for k, prompt in enumerate(prompts)]
    for max_tokens, reason in ((60, "stop"), (3, "length")):
        answers = {a.key: a for a in engine.generate(requests, Sampling(max_tokens, 0.0))}
        assert {a.finish_reason for a in answers.values()} == {reason}
        for key, prompt in enumerate(prompts):
            assert answers[str(key)].text == plain_answer(model, tokenizer, prompt, max_tokens)
    assert answers["0"].text == "the model answers"[: len(answers["0"].text)]
    (text,) = pv.answer(model, tokenizer, ["what is it"], max_tokens=60)
    assert text == ANSWER


def test_generation_stops_there_and_the_ids_end_with_the_stop_text():
    model, tokenizer = base_model("gpt_neox"), plain()
    made, forward = [], model.forward
    model.forward = lambda *args, **more: made.append(1) or forward(*args, **more)
    (answer,) = HFEngine.of(model, tokenizer).generate(
        [Request("0", token_ids(tokenizer, render(tokenizer, ASK)))], Sampling(200, 0.0)
    )
    assert len(made) == len(answer.token_ids) < 12
    assert tokenizer.decode(answer.token_ids) == f"{ANSWER}\n\nUser:"


def test_an_answer_that_begins_with_the_next_question_is_empty():
    tokenizer = plain()
    prompt = token_ids(tokenizer, render(tokenizer, ASK))
    ids = token_ids(tokenizer, "User:\nwhat")
    assert tokens_to_stop(tokenizer, prompt, ids) == len(token_ids(tokenizer, "User:"))
    assert before_stop(tokenizer, prompt, "User:\nwhat") == "" == before_stop(tokenizer, prompt, " \n\nUser: x")
    assert before_stop(tokenizer, prompt, "a User: b") is None and tokens_to_stop(tokenizer, prompt, ids[:2]) is None


def test_the_chat_shows_nothing_of_the_next_question():
    model, tokenizer = base_model("gpt_neox"), plain()
    prompt = token_ids(tokenizer, render(tokenizer, ASK))
    events = list(side_by_side(model, tokenizer, [prompt] * 2, [(), ()], 1, torch.ones(32), Sampling(60, 0.0)))
    for row in (0, 1):
        assert "".join(e.text for e in events if isinstance(e, Token) and e.row == row) == ANSWER
        assert [e.reason for e in events if isinstance(e, End) and e.row == row] == ["stop"]
    short = list(side_by_side(model, tokenizer, [prompt], [()], 1, torch.ones(32), Sampling(5, 0.0)))
    assert "".join(e.text for e in short if isinstance(e, Token)) == f"{ANSWER}\n\nU"[: len(f"{ANSWER}\n\nU")]
    assert short[-1].reason == "length"


def test_help_needs_no_template_code():
    code = "import persona_vectors.options, sys; assert not {'torch', 'transformers', 'jinja2'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
