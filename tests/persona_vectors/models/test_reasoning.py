"""Thoughts and answers of many families: token ids in, texts out, and back into the context that they came from."""

import pytest
import torch
from helpers import CHATML, tiny_model, tiny_tokenizer
from thinking import ASK, STRUCTURES, ids_of, scripted_model

from persona_vectors.app.token_stream import Retract, Token, side_by_side
from persona_vectors.engines.base import Request, Sampling, stop_ids
from persona_vectors.engines.hf import HFEngine
from persona_vectors.files.rows import Exchange
from persona_vectors.models import chat_template
from persona_vectors.models.reasoning import declared_by
from persona_vectors.vectors.samples import make_samples

REASONING, ANSWER = "First: is it 1 < 2?\nYes.", "Because 1 < 2, I <think> so."
EACH = pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)


@pytest.fixture(params=STRUCTURES.values(), ids=STRUCTURES)
def family(request):
    """(structure, its tokenizer, ids of the prompt with thinking on)."""
    tokenizer = request.param.tokenizer()
    return request.param, tokenizer, ids_of(tokenizer, chat_template.render(tokenizer, ASK, True))


def spelled(tokenizer, text: str) -> list[int]:
    """Ids of a text in which no mark is a token: every character by itself."""
    return [token for character in text for token in ids_of(tokenizer, character)]


def generated(structure, tokenizer, reasoning: str, answer: str) -> list[int]:
    """What the model writes, its answer spelled out."""
    before, after = structure.raw(reasoning, "\0").split("\0")
    return [*ids_of(tokenizer, before), *spelled(tokenizer, answer), *ids_of(tokenizer, after), 1]


def test_thoughts_and_answer_are_told_apart(family):
    structure, tokenizer, prompt = family
    thoughts = declared_by(tokenizer)
    ids = generated(structure, tokenizer, REASONING, ANSWER)
    assert thoughts.split(prompt, ids) == (REASONING, ANSWER)
    assert thoughts.split(prompt, generated(structure, tokenizer, "", "Yes.")) == ("", "Yes.")
    two_lines = generated(structure, tokenizer, REASONING, "One.\n\nTwo.\n")
    assert thoughts.split(prompt, two_lines) == (REASONING, "One.\n\nTwo.\n")


def test_thoughts_that_are_cut_off_leave_an_empty_answer(family):
    structure, tokenizer, prompt = family
    before = ids_of(tokenizer, structure.context("\0").split("\0")[0])
    within = ids_of(tokenizer, REASONING)
    for length in range(1, len(before) + len(within) + 1):  # also within the opening mark
        reasoning, answer = declared_by(tokenizer).split(prompt, [*before, *within][:length])
        of_words = "<thinking>" in structure.writes and length < len("<thinking>")
        assert answer.strip() == "" or of_words, length
    assert (reasoning, answer) == (REASONING, "")


def test_an_answer_without_thoughts_is_what_it_was(family):
    """Where the prompt leaves it open; a mention of marks that are no tokens is text, and so is an end token."""
    structure, tokenizer, prompt = family
    text = " \nI <think> so, or I do not </think> so. "
    if not structure.opened:
        ids = [*spelled(tokenizer, text), 1]
        assert declared_by(tokenizer).split(prompt, ids) == ("", tokenizer.decode(ids, skip_special_tokens=True))
        assert declared_by(tokenizer).split(prompt, ids)[1] == text
    off = ids_of(tokenizer, chat_template.render(tokenizer, ASK, False))
    if structure.without[1] == "":
        assert declared_by(tokenizer).split(off, spelled(tokenizer, text)) == ("", text)


def test_a_tokenizer_that_declares_no_marks_has_no_thoughts(tokenizer):
    for plain in (tokenizer, tiny_tokenizer(None)):
        ids = ids_of(plain, "<think>hm</think>Because.")
        assert not declared_by(plain)
        assert declared_by(plain).split(ids_of(plain, "x<think>"), ids) == ("", "<think>hm</think>Because.")
        assert declared_by(plain).split_text("<think>hm</think>Because.") == ("", "<think>hm</think>Because.")


def test_marks_in_the_middle_of_an_answer_are_mentions():
    tokenizer = STRUCTURES["qwen3"].tokenizer()
    thoughts, on = declared_by(tokenizer), ids_of(tokenizer, chat_template.render(tokenizer, ASK, True))
    for text, expected in {
        "The <think> tag opens thoughts.": ("", "The <think> tag opens thoughts."),
        "<think>a</think>Write <think> and </think>.": ("a", "Write <think> and </think>."),
        "Write <think> and </think>.": ("", "Write <think> and </think>."),
        "<think>a</think> <think>b</think> c": ("a\n\nb", "c"),
        "a nothing opened this</think>\nb": ("a nothing opened this", "b"),
        "</think>b": ("", "b"),
        "<think>a</think>b</think>c": ("a", "b</think>c"),
    }.items():
        assert thoughts.split(on, ids_of(tokenizer, text)) == expected, text
        assert thoughts.split_text(text) == expected, text


def test_texts_of_endpoints_are_split_by_their_usual_marks():
    for text, prompt, expected in [
        ("Because.", "x<think>\n\n</think>\n\n", ("", "Because.")),
        ("<think>hm\nhm</think>\n\nBecause.", "", ("hm\nhm", "Because.")),
        ("hm</think>Because.", "x<think>\n", ("hm", "Because.")),
        ("[THINK]hm[/THINK]Because.", "", ("hm", "Because.")),
        (" <seed:think>hm</seed:think>\nBecause.", "", ("hm", "Because.")),
        ("◁think▷hm◁/think▷Because.", "", ("hm", "Because.")),
        ("<thinking>for ever", "", ("for ever", "")),
        ("I <think> so.", "", ("", "I <think> so.")),
    ]:
        assert chat_template.split_reasoning(text, prompt) == expected


def test_all_channels_but_the_last_are_thoughts():
    tokenizer = STRUCTURES["gpt-oss"].tokenizer()
    prompt, split = ids_of(tokenizer, chat_template.render(tokenizer, ASK)), declared_by(tokenizer).split
    begin = "<|start|>assistant<|channel|>"
    for text, expected in {
        f"<|channel|>analysis<|message|>a<|end|>{begin}commentary<|message|>b<|end|>{begin}final<|message|>c": (
            "a\n\nb",
            "c",
        ),
        "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>": ("{}", ""),
        f"<|channel|>analysis<|message|>a<|end|>{begin}fin": ("a", ""),
        "<|channel|>final <|constrain|>json<|message|>{}<|return|>": ("", "{}"),
        "No channel at all.<|return|>": ("", "No channel at all."),
        f"Said before.<|end|>{begin}final<|message|>c": ("Said before.", "c"),
        "<|channel|>final Its mark is missing. " + "It goes on. " * 20: (
            "",
            "final Its mark is missing. " + "It goes on. " * 20,
        ),
    }.items():
        assert split(prompt, ids_of(tokenizer, text)) == expected, text
    final = ids_of(tokenizer, chat_template.render(tokenizer, ASK) + "<|channel|>final<|message|>")
    assert split(final, ids_of(tokenizer, "c<|return|>")) == ("", "c")


def test_an_answer_goes_back_into_the_context_that_it_came_from(family):
    structure, tokenizer, _ = family
    for thinking in (True, False):
        prompt = chat_template.render(tokenizer, ASK, thinking)
        rows = [Exchange(prompt, ANSWER, f" {REASONING}\n"), Exchange(prompt, ANSWER, ""), Exchange(prompt, ANSWER)]
        rows += [Exchange(ASK, ANSWER, REASONING), Exchange(ASK, ANSWER)]
        (told, empty, unknown, message, plain), problems = make_samples(tokenizer, rows, None, True, thinking)
        assert problems == [""] * 5
        context = structure.context(REASONING)
        if not thinking and structure.without[1] != structure.without[0]:  # the prompt is not one that thoughts follow
            context = structure.writes.partition("{a}")[0].format(r=REASONING)
        assert tokenizer.decode(told.between_ids) == context
        for sample in (empty, unknown, plain):
            assert tokenizer.decode(sample.between_ids) == structure.without[not thinking]
        for sample in (told, empty, unknown, plain):
            assert sample.prompt_ids == ids_of(tokenizer, prompt) and sample.answer_ids == ids_of(tokenizer, ANSWER)
        # thoughts in a message are written where the template has thinking on
        assert message.prompt_ids == ids_of(tokenizer, chat_template.render(tokenizer, ASK, True))
        assert tokenizer.decode(message.between_ids) == structure.context(REASONING)


def test_thoughts_in_a_files_answer_are_taken_out_of_it(family):
    structure, tokenizer, _ = family
    prompt, whole = (
        chat_template.render(tokenizer, ASK, True),
        structure.writes.partition("{a}")[0].format(r=REASONING) + "Because.",
    )
    (sample,), problems = make_samples(tokenizer, [Exchange(prompt, whole)], None)
    assert problems == [""] and tokenizer.decode(sample.between_ids) == structure.context(REASONING)
    assert tokenizer.decode(sample.answer_ids) == "Because."
    # what the published code wrote after a prompt that opens them
    (opened,), _ = make_samples(tokenizer, [Exchange(prompt, structure.context(REASONING) + "Because.")], None)
    assert opened.between_ids == sample.between_ids and opened.answer_ids == sample.answer_ids
    cut_off = structure.writes.partition("{r}")[0] + REASONING
    (sample,), problems = make_samples(tokenizer, [Exchange(prompt, cut_off)], None)
    assert problems == ["empty answer"] and sample.answer_ids == sample.between_ids == []


def test_templates_without_thoughts_are_left_alone(tokenizer):
    """Bit for bit as published, whatever else such a template does between prompt and answer."""
    spaced = CHATML.replace("{{ m.content }}", "{{ ' ' + m.content if m.role == 'assistant' else m.content }}")
    unprompted = CHATML.partition("{% if add")[0]
    for template in (CHATML, spaced, unprompted, None):
        plain = tiny_tokenizer(template)
        plain.add_tokens(["<think>", "</think>"])  # in the vocabulary alone, as Qwen3's instruct models have them
        (sample,), _ = make_samples(plain, [Exchange("What is it", "it is")], None)
        assert (sample.prompt_ids, sample.between_ids) == (ids_of(plain, "What is it"), [])
        if template:
            (sample,), _ = make_samples(plain, [Exchange(ASK, "it is")], None)
            assert sample.prompt_ids == ids_of(plain, chat_template.render(plain, ASK)) and sample.between_ids == []
    # reasoning of another model's conversation is not shown to one that has none; a CSV's is, which came from a model
    message, row = make_samples(tokenizer, [Exchange(ASK, "it", "hm"), Exchange("What", "it", "hm")], None)[0]
    assert message.between_ids == [] and tokenizer.decode(row.between_ids) == "<think>\nhm\n</think>\n\n"


def test_too_long_counts_thoughts(tokenizer):
    structure = STRUCTURES["qwen3"]
    tokenizer = structure.tokenizer()
    row = Exchange("What", "it", "hm " * 20)
    (sample,), problems = make_samples(tokenizer, [row], 30)
    assert "longer than the 30 tokens" in problems[0] and sample.between_ids == sample.answer_ids == []


@EACH
def test_the_stream_of_the_chat_splits_alike(structure, tmp_path):
    """A model that writes the script, token by token: side by side as the engine's, with the marks' text in neither."""
    tokenizer = structure.tokenizer()
    prompt = ids_of(tokenizer, chat_template.render(tokenizer, ASK, True))
    script = generated(structure, tokenizer, REASONING, "Because 1 < 2.")[:-1]
    folder = scripted_model(tmp_path / "scripted", tokenizer, {len(prompt): script})
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    engine = HFEngine.of(model, tokenizer)
    ended = next(
        k for k, token in enumerate([*script, 1]) if token in stop_ids(1, tokenizer)
    )  # Gemma 4: by its turn's end
    assert ended >= len(script) - 1
    for max_tokens in (len(script) + 5, len(script) - 20):
        sampling = Sampling(max_tokens, 0.0)
        (answer,) = engine.generate([Request("x", prompt)], sampling)
        whole = max_tokens > len(script)
        assert answer.token_ids == ([*script, 1][: ended + 1] if whole else script[:max_tokens])
        if whole:
            assert (answer.reasoning, answer.text) == (REASONING, "Because 1 < 2.")
        events = list(side_by_side(model, tokenizer, [prompt] * 2, [(), ()], 1, torch.ones(128), sampling))
        tokens = [event for event in events if isinstance(event, Token) and event.row == 0]
        assert not any(isinstance(event, Retract) for event in events)
        assert "".join(t.text for t in tokens if t.thought).strip() == answer.reasoning
        assert "".join(t.text for t in tokens if not t.thought) == answer.text
        assert list(dict.fromkeys(t.token_id for t in tokens)) == list(dict.fromkeys(answer.token_ids[:ended]))


def test_the_stream_takes_back_what_turns_out_to_be_thoughts(tmp_path):
    tokenizer = STRUCTURES["qwen3"].tokenizer()
    prompt = ids_of(tokenizer, chat_template.render(tokenizer, ASK, True))
    script = ids_of(tokenizer, "hm</think>\n\nBecause.")
    folder = scripted_model(tmp_path / "scripted", tokenizer, {len(prompt): script})
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    texts = [""] * 2
    for event in side_by_side(model, tokenizer, [prompt] * 2, [(), ()], 1, torch.ones(128), Sampling(40, 0.0)):
        if isinstance(event, Retract):
            assert texts[event.row] == "hm"
            texts[event.row] = ""
        elif isinstance(event, Token) and not event.thought:
            texts[event.row] += event.text
    assert texts == ["Because."] * 2


def test_mean_activations_are_of_the_answer_alone(family):
    """Against one forward pass a row with all hidden states, of ids that are put together here by hand."""
    from persona_vectors.vectors.activations import pooled_activations

    structure, tokenizer, _ = family
    model = tiny_model("qwen2", vocab_size=len(tokenizer), max_position_embeddings=512)
    prompt = chat_template.render(tokenizer, ASK, True)
    cases = [(f"{REASONING} {k}", f"Because {k} it is") for k in range(3)] + [("", "Just so.")]
    samples, _ = make_samples(tokenizer, [Exchange(prompt, a, r) for r, a in cases], None)
    p = ids_of(tokenizer, prompt)
    for one_by_one in (True, False):  # alone, and several answers to the same prompt
        batches = [[sample] for sample in samples] if one_by_one else [samples]
        got = {}
        for number, batch in enumerate(batches):
            for indices, pooled in pooled_activations(model, batch, token_budget=4000):
                got |= {
                    number if one_by_one else index: {k: v[row] for k, v in pooled.items()}
                    for row, index in enumerate(indices)
                }
        for number, (reasoning, answer) in enumerate(cases):
            context = ids_of(tokenizer, structure.context(reasoning) if reasoning else structure.without[0])
            ids = [*p, *context, *ids_of(tokenizer, answer)]
            with torch.no_grad():
                states = torch.stack(model(torch.tensor([ids]), output_hidden_states=True).hidden_states)[:, 0]
            expected = {
                "prompt_avg": states[:, : len(p)].mean(1),
                "prompt_last": states[:, len(p) - 1],
                "response_avg": states[:, len(p) + len(context) :].mean(1),
            }
            for pool, rows in expected.items():
                assert torch.allclose(got[number][pool], rows, atol=1e-4, rtol=1e-3), (number, pool)
