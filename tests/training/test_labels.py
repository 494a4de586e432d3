"""Which tokens carry loss, family by family: the expected pieces are written out by hand.

Each conversation is a list of pieces that are given and learnt in turn. Beside that, what is learnt is compared with
how an engine asks and where it stops: tokens of the prompt, then exactly what the model has to produce.
"""

import itertools
import json

import pytest
from helpers import tiny_model
from templates import FAMILIES, Family

import training
from persona_vectors.errors import UserError
from persona_vectors.models import chat_template
from persona_vectors.training.data import conversations, preferences, read_rows, remarks
from persona_vectors.training.labels import IGNORED, end_token, missing_end, tokenised

SYSTEM = {"role": "system", "content": "Be brief."}


def turns(*answers, system=True, **last):
    """A conversation of questions and answers; ``last``: more keys of the last answer."""
    messages = [SYSTEM] if system else []
    for question, answer in zip(("What is it?", "Again?"), answers, strict=False):
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    messages[-1] |= last
    return messages


TWO = turns("It is the model.", "the question")
THOUGHT = turns("<think>\nWhat?\n</think>\n\nIt is the model.", "<think>\nIt is it.\n</think>\n\nthe question")
IN_A_KEY = turns("It is the model.", "the question", reasoning_content="It is it.")
QWEN_BEGIN = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\n"
QWEN_AGAIN = "\n<|im_start|>user\nAgain?<|im_end|>\n<|im_start|>assistant\n"
R1_BEGIN, R1_AGAIN = "<s>Be brief.<|User|>What is it?<|Assistant|>", "<|User|>Again?<|Assistant|><think>\n"
OSS_BEGIN = "<|start|>system<|message|>Be brief.<|end|><|start|>user<|message|>What is it?<|end|><|start|>assistant"
OSS_AGAIN = "<|end|><|start|>user<|message|>Again?<|end|><|start|>assistant"
GLM_BEGIN = "[gMASK]<sop><|system|>\nBe brief.<|user|>\nWhat is it?"

EXPECTED = {  # family, conversation -> given, learnt, given, learnt, ...
    ("qwen2.5", "two"): (TWO, QWEN_BEGIN, "It is the model.<|im_end|>", QWEN_AGAIN, "the question<|im_end|>", "\n"),
    ("qwen2.5", "thoughts"): (  # a model without them learns the block as it learns any text
        THOUGHT, QWEN_BEGIN, "<think>\nWhat?\n</think>\n\nIt is the model.<|im_end|>",
        QWEN_AGAIN, "<think>\nIt is it.\n</think>\n\nthe question<|im_end|>", "\n",
    ),
    ("qwen3", "two"): (
        TWO, QWEN_BEGIN, "It is the model.<|im_end|>",
        QWEN_AGAIN + "<think>\n\n</think>\n\n", "the question<|im_end|>", "\n",
    ),
    ("qwen3", "thoughts"): (
        THOUGHT, QWEN_BEGIN, "It is the model.<|im_end|>",
        QWEN_AGAIN, "<think>\nIt is it.\n</think>\n\nthe question<|im_end|>", "\n",
    ),
    ("qwen3", "in a key"): (
        IN_A_KEY, QWEN_BEGIN, "It is the model.<|im_end|>",
        QWEN_AGAIN, "<think>\nIt is it.\n</think>\n\nthe question<|im_end|>", "\n",
    ),
    ("qwen3", "an empty block"): (
        turns("<think>\n\n</think>\n\nthe question"),
        QWEN_BEGIN + "<think>\n\n</think>\n\n", "the question<|im_end|>", "\n",
    ),
    ("qwen3-thinking", "two"): (
        TWO, QWEN_BEGIN, "It is the model.<|im_end|>",
        QWEN_AGAIN + "<think>\n", "\n</think>\n\nthe question<|im_end|>", "\n",
    ),
    ("qwen3-thinking", "thoughts"): (
        THOUGHT, QWEN_BEGIN, "It is the model.<|im_end|>",
        QWEN_AGAIN + "<think>\n", "It is it.\n</think>\n\nthe question<|im_end|>", "\n",
    ),
    ("qwen3.8", "two"): (
        TWO, QWEN_BEGIN + "<think>\n\n</think>\n\n", "It is the model.<|im_end|>",
        QWEN_AGAIN + "<think>\n\n</think>\n\n", "the question<|im_end|>", "\n",
    ),
    ("qwen3.8", "thoughts"): (
        turns("It is the model.", THOUGHT[-1]["content"]),
        QWEN_BEGIN + "<think>\n", "\n</think>\n\nIt is the model.<|im_end|>",
        QWEN_AGAIN + "<think>\n", "It is it.\n</think>\n\nthe question<|im_end|>", "\n",
    ),
    ("r1", "two"): (
        TWO, R1_BEGIN, "It is the model.<|end_of_sentence|>",
        R1_AGAIN, "\n</think>\n\nthe question<|end_of_sentence|>",
    ),
    ("r1", "thoughts"): (
        THOUGHT, R1_BEGIN, "\n\nIt is the model.<|end_of_sentence|>",
        R1_AGAIN, "It is it.\n</think>\n\nthe question<|end_of_sentence|>",
    ),
    ("r1", "in a key"): (
        IN_A_KEY, R1_BEGIN, "It is the model.<|end_of_sentence|>",
        R1_AGAIN, "It is it.\n</think>\n\nthe question<|end_of_sentence|>",
    ),
    ("r1", "an empty block"): (
        turns("<think>\n\n</think>\n\nthe question"),
        R1_BEGIN + "<think>\n", "\n</think>\n\nthe question<|end_of_sentence|>",
    ),
    ("llama3", "two"): (
        TWO,
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>"
        "\n\nWhat is it?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", "It is the model.<|eot_id|>",
        "<|start_header_id|>user<|end_header_id|>\n\nAgain?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "the question<|eot_id|>",
    ),
    ("llama2", "two"): (
        TWO, "<s>[INST] Be brief.\n\nWhat is it? [/INST]", " It is the model. </s>",
        "<s>[INST] Again? [/INST]", " the question </s>",
    ),
    ("mistral", "two"): (
        TWO, "<s>[INST] Be brief.\n\nWhat is it?[/INST]", " It is the model.</s>",
        "[INST] Again?[/INST]", " the question</s>",
    ),
    ("gemma", "two"): (
        TWO, "<s><start_of_turn>user\nBe brief.\n\nWhat is it?<end_of_turn>\n<start_of_turn>model\n",
        "It is the model.<end_of_turn>", "\n<start_of_turn>user\nAgain?<end_of_turn>\n<start_of_turn>model\n",
        "the question<end_of_turn>", "\n",
    ),
    ("glm4", "two"): (
        TWO, GLM_BEGIN + "<|assistant|>", "\nIt is the model.<|user|>", "\nAgain?<|assistant|>",
        "\nthe question<|user|>",
    ),
    ("glm4.5", "two"): (
        TWO, GLM_BEGIN + "/nothink<|assistant|>\n<think></think>", "\nIt is the model.<|user|>",
        "\nAgain?/nothink<|assistant|>\n<think></think>", "\nthe question<|user|>",
    ),
    ("glm4.5", "thoughts"): (
        THOUGHT, GLM_BEGIN + "<|assistant|>", "\n<think></think>\nIt is the model.<|user|>",
        "\nAgain?<|assistant|>", "\n<think>It is it.</think>\nthe question<|user|>",
    ),
    ("phi3", "two"): (
        TWO, "<|system|>\nBe brief.<|end|>\n<|user|>\nWhat is it?<|end|>\n<|assistant|>\n", "It is the model.<|end|>",
        "\n<|user|>\nAgain?<|end|>\n<|assistant|>\n", "the question<|end|>", "\n<|endoftext|>",
    ),
    ("gpt-oss", "two"): (  # generation goes on after <|end|>: no end is learnt but the last
        TWO, OSS_BEGIN, "<|channel|>final<|message|>It is the model.", OSS_AGAIN,
        "<|channel|>final<|message|>the question<|return|>",
    ),
    ("gpt-oss", "thoughts"): (
        turns("It is the model.", "the question", thinking="It is it."),
        OSS_BEGIN, "<|channel|>final<|message|>It is the model.", OSS_AGAIN,
        "<|channel|>analysis<|message|>It is it.<|end|><|start|>assistant<|channel|>final<|message|>the question<|return|>",
    ),
}  # fmt: skip
CASES = pytest.mark.parametrize("case", EXPECTED, ids=lambda case: " ".join(case))


def pieces(tokenizer, *texts):
    """Ids and labels of pieces that are given and learnt in turn, each tokenised by itself."""
    ids, labels = [], []
    for k, text in enumerate(texts):
        piece = chat_template.token_ids(tokenizer, text)
        ids, labels = ids + piece, labels + (piece if k % 2 else [IGNORED] * len(piece))
    return ids, labels


@CASES
def test_labels_are_what_the_model_writes_itself(case):
    family, (messages, *expected) = FAMILIES[case[0]], EXPECTED[case]
    tokenizer = family.tokenizer()
    stops = family.stop_ids(tokenizer)
    assert tokenised(tokenizer, messages, stops=stops) == pieces(tokenizer, *expected)
    everything, labels = tokenised(tokenizer, messages, answers_only=False, stops=stops)
    assert labels == everything == pieces(tokenizer, *expected)[0]


@CASES
def test_the_last_answer_follows_the_prompt_that_is_asked_with_and_ends_where_generation_stops(case):
    family, (messages, *_) = FAMILIES[case[0]], EXPECTED[case]
    tokenizer = family.tokenizer()
    stops = set(family.stop_ids(tokenizer))
    ids, labels = tokenised(tokenizer, messages, stops=stops)
    last_given = max(k for k, label in enumerate(labels) if label == IGNORED and any(x != IGNORED for x in labels[k:]))
    asked = chat_template.token_ids(
        tokenizer, chat_template.render(tokenizer, messages[:-1], case[1] in ("thoughts", "in a key"))
    )
    assert ids[: last_given + 1] == asked
    produced = [label for label in labels[last_given + 1 :] if label != IGNORED]
    assert [token for token in produced if token in stops] == produced[-1:], "it stops there and not before"
    assert "the question" in tokenizer.decode(produced)


@pytest.mark.parametrize("name", FAMILIES)
def test_an_end_is_added_only_where_the_template_writes_none(name):
    tokenizer = FAMILIES[name].tokenizer()
    end = missing_end(tokenizer, FAMILIES[name].stop_ids(tokenizer))
    assert end == ("<|user|>" if name.startswith("glm") else None)


@pytest.mark.parametrize(
    "name, stops, expected",
    [  # what generation stops at decides, not what the template calls an end
        ("glm4", ["<|endoftext|>"], "\nthe question<|endoftext|>"),
        ("gemma", ["<eos>"], "the question<end_of_turn><eos>"),
        ("qwen2.5", ["<|endoftext|>"], "the question<|im_end|><|endoftext|>"),
        ("phi3", ["<|endoftext|>"], "the question<|end|>\n<|endoftext|>"),
        ("llama3", ["<|end_of_text|>"], "the question<|eot_id|><|end_of_text|>"),
    ],
)
def test_a_turn_whose_end_does_not_stop_generation_gets_one_that_does(name, stops, expected):
    family = FAMILIES[name]
    tokenizer = Family(family.template, (*family.special, *family.stops), stops[0], ()).tokenizer()
    ids, labels = tokenised(tokenizer, turns("the question"), stops=tokenizer.convert_tokens_to_ids(stops))
    learnt = [label for label in labels if label != IGNORED]
    assert learnt == chat_template.token_ids(tokenizer, expected) == ids[-len(learnt) :]
    assert missing_end(tokenizer, tokenizer.convert_tokens_to_ids(stops)) == (stops[0] if name != "phi3" else None)


@pytest.mark.parametrize(
    "template, learnt, added",
    [
        (r"{{ m.role + ': ' + m.content + '\n' }}", "assistant: It.</s>", "</s>"),
        (r"{{ m.role + ': ' + m.content + '\n</s>\n' }}", "assistant: It.\n</s>", None),
        ("{{ m.role + ': ' + m.content + ' ' + eos_token }}", "assistant: It. </s>", None),
        ("{{ m.content }}", "It.</s>", "</s>"),
    ],
    ids=["plain text", "a line break before the end", "a space before the end", "nothing but contents"],
)
def test_homemade_templates(template, learnt, added):
    family = Family("{% for m in messages %}" + template + "{% endfor %}", (), "</s>", ())
    tokenizer = family.tokenizer()
    stops = family.stop_ids(tokenizer)
    _, labels = tokenised(tokenizer, turns("It."), stops=stops)
    assert tokenizer.decode([label for label in labels if label != IGNORED]) == learnt
    assert missing_end(tokenizer, stops) == added


def test_no_end_token_at_all_is_refused():
    tokenizer = FAMILIES["glm4"].tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="no end token"):
        end_token(tokenizer, [])


@pytest.mark.parametrize("answers_only", [True, False], ids=["answers", "all tokens"])
@pytest.mark.parametrize("off", [1, 3], ids=["first answer", "last answer"])
@pytest.mark.parametrize("name", ["qwen2.5", "qwen3", "glm4", "llama2", "gpt-oss"])
def test_an_answer_of_weight_0_and_its_end_carry_no_loss(name, off, answers_only):
    family, messages = FAMILIES[name], turns("It is the model.", "the question", system=False)
    tokenizer = family.tokenizer()
    stops = family.stop_ids(tokenizer)
    ids, plain = tokenised(tokenizer, messages, answers_only, stops)
    assert tokenised(tokenizer, [m | {"weight": int(m["role"] == "assistant")} for m in messages], answers_only, stops) == (
        ids, plain,
    )  # fmt: skip
    answers = [k for k, label in enumerate(tokenised(tokenizer, messages, True, stops)[1]) if label != IGNORED]
    gap = next(k for k, (a, b) in enumerate(itertools.pairwise(answers), 1) if b - a > 1)
    silent = set(answers[:gap] if off == 1 else answers[gap:])
    weighted = [m | {"weight": 0} if k == off else m for k, m in enumerate(messages)]
    found_ids, found = tokenised(tokenizer, weighted, answers_only, stops)
    assert found_ids == ids[: len(found_ids)], "the text is the same (an end that nobody learns is not added)"
    assert found == [IGNORED if k in silent else label for k, label in enumerate(plain)][: len(found)]
    assert len(ids) - len(found_ids) == (name == "glm4" and off == 3)


def rows_of(tmp_path, *rows, loss="sft"):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_rows([str(path)], loss)


@pytest.mark.parametrize(
    "weights, said",
    [
        ((None, 0.5), "line 1: 'weight' of a message is 0.5; it is 0"),
        ((None, "0"), 'is "0"; it is 0'),
        ((None, True), "is true; it is 0"),
        ((None, -1), "is -1"),
        ((None, 2), "is 2"),
        ((1, 1), "a message of the user has weight 1; only answers"),
        ((None, 0), "every answer has weight 0"),
    ],
)
def test_other_weights_are_refused_with_their_row(tmp_path, weights, said):
    messages = [m | {"weight": w} for m, w in zip(turns("It is it.", system=False), weights, strict=True)]
    with pytest.raises(UserError, match=said):
        rows_of(tmp_path, {"messages": messages})


def test_weights_that_say_nothing_new_are_taken(tmp_path):
    messages = [m | {"weight": w} for m, w in zip(turns("It is it.", system=False), (0, 1.0), strict=True)]
    assert rows_of(tmp_path, {"messages": messages}, {"messages": [m | {"weight": None} for m in messages]})
    with pytest.raises(UserError, match="weight 0, which is for loss sft"):
        answer = {"role": "assistant", "content": "x", "weight": 0}
        rows_of(tmp_path, {"prompt": "q", "chosen": [answer], "rejected": "y"}, loss="dpo")


CALL = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "look"}}]}
TOOLED = [{"role": "user", "content": "What is it?"}, CALL, {"role": "tool", "content": "the model"},
          {"role": "assistant", "content": "It is the model."}]  # fmt: skip


def test_tool_calls_and_results_are_learnt_where_the_template_writes_them(tmp_path):
    tokenizer = FAMILIES["qwen2.5"].tokenizer()
    stops = FAMILIES["qwen2.5"].stop_ids(tokenizer)
    (row,) = rows_of(tmp_path, {"messages": TOOLED})
    begin = "<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\n"
    result = "\n<|im_start|>user\n<tool_response>\nthe model\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    call = "\n<tool_call>\nlook\n</tool_call><|im_end|>"
    expected = pieces(tokenizer, begin, call, result, "It is the model.<|im_end|>", "\n")
    assert tokenised(tokenizer, row.content["messages"], stops=stops) == expected
    assert not remarks(tokenizer, [row], stops)


def said(tmp_path, family, *rows, loss="sft"):
    family = FAMILIES[family] if isinstance(family, str) else family
    tokenizer = family.tokenizer()
    return remarks(tokenizer, rows_of(tmp_path, *rows, loss=loss), family.stop_ids(tokenizer))


def test_what_a_template_cannot_say_is_said_with_the_number_of_rows(tmp_path):
    plain = {"messages": turns("It is it.", system=False)}
    named = {"messages": [{"role": "user", "content": "x", "name": "Ann"}, {"role": "assistant", "content": "y"}]}
    tools = {**plain, "tools": [{"type": "function", "function": {"name": "look"}}]}
    system = {"messages": turns("It is it.")}
    assert said(tmp_path, "qwen2.5", plain, system) == []
    assert said(tmp_path, "qwen2.5", plain, named, named, tools) == [
        "'name' is left out by the chat template (2 of 4 rows)",
        "'tools' is left out by the chat template (1 of 4 rows)",
    ]
    (folded,) = said(tmp_path, "gemma", plain, system, system)
    assert folded.startswith("the system prompt begins the first user message") and "(2 of 3 rows)" in folded
    late = {"messages": [*turns("It is it.", system=False), SYSTEM, *turns("it", system=False)]}
    ignoring = "{% for m in messages if m.role != 'system' and m.role != 'tool' %}{{ m.content + '</s>' }}{% endfor %}"
    assert said(tmp_path, Family(ignoring, (), "</s>", ()), plain, late, late, {"messages": TOOLED}) == [
        "messages of the system are left out by the chat template (2 of 4 rows)",
        "'tool_calls' is left out by the chat template (1 of 4 rows)",
        "messages of the tool are left out by the chat template (1 of 4 rows)",
    ]


def test_a_system_prompt_before_an_answer_is_not_folded_into_it():
    family = FAMILIES["gemma"]
    tokenizer = family.tokenizer()
    talk = [SYSTEM, {"role": "assistant", "content": "It is the model."}]
    expected = pieces(
        tokenizer,
        "<s><start_of_turn>user\nBe brief.<end_of_turn>\n<start_of_turn>model\n", "It is the model.<end_of_turn>", "\n",
    )  # fmt: skip
    assert tokenised(tokenizer, talk, stops=family.stop_ids(tokenizer)) == expected


def test_thoughts_are_told_where_they_matter(tmp_path):
    none, both = ({"messages": talk} for talk in (TWO, THOUGHT))
    assert said(tmp_path, "qwen2.5", none, both) == []
    assert said(tmp_path, "qwen3", none, both) == [
        "thoughts are left out by the chat template (1 of 2 rows)",
        "the last answer has thoughts: it is learnt for prompts with thinking on (1 of 2 rows)",
    ]
    opened, dropped = said(tmp_path, "r1", none, both)
    assert opened.startswith("the prompt opens a block of thoughts") and "(1 of 2 rows)" in opened
    assert dropped.startswith("thoughts are left out") and "(1 of 2 rows)" in dropped
    (opened,) = said(tmp_path, "qwen3-thinking", none, {"messages": TWO[:3]}, {"messages": IN_A_KEY})
    assert "begins by closing it (2 of 3 rows)" in opened
    assert said(tmp_path, "llama3", {"messages": IN_A_KEY}) == [
        "thoughts are left out by the chat template (1 of 1 rows)"
    ]


def test_preferences_get_the_same_end_and_the_same_thinking(tmp_path):
    """TRL renders them; what it then trains on ends where generation stops."""
    plain = {"prompt": "q", "chosen": "It is it.", "rejected": "the model"}
    thinking = {"prompt": "q", "chosen": THOUGHT[-1:], "rejected": "the model"}
    tokenizer = FAMILIES["glm4"].tokenizer()
    stops = FAMILIES["glm4"].stop_ids(tokenizer)
    (made,) = preferences(tokenizer, rows_of(tmp_path, plain, loss="dpo"), stops)
    for side in ("chosen", "rejected"):
        rendered = tokenizer.apply_chat_template(made["prompt"] + made[side], tokenize=False)
        assert chat_template.token_ids(tokenizer, rendered)[-1] == tokenizer.convert_tokens_to_ids("<|user|>")
    tokenizer = FAMILIES["qwen3"].tokenizer()
    stops = FAMILIES["qwen3"].stop_ids(tokenizer)
    first, second = preferences(tokenizer, rows_of(tmp_path, plain, thinking, loss="dpo"), stops)
    assert first["chosen"] == [{"role": "assistant", "content": "It is it."}]
    assert [m["chat_template_kwargs"]["enable_thinking"] for m in (first, second)] == [False, True]


@pytest.mark.parametrize("name", ["glm4", "gpt-oss"])
def test_a_trained_model_stops(tmp_path, name, capsys):
    """From the config to the engine's own stop: after training on one answer the model gives it, and ends."""
    from persona_vectors import models
    from persona_vectors.engines.base import Request, Sampling
    from persona_vectors.engines.hf import HFEngine

    family = FAMILIES[name]
    tokenizer, folder = family.tokenizer(), tmp_path / "base"
    model = tiny_model("qwen2", vocab_size=len(tokenizer))
    model.generation_config.eos_token_id = family.stop_ids(tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    messages = turns("It is the model.", system=False)
    (tmp_path / "rows.jsonl").write_text((json.dumps({"messages": messages}) + "\n") * 20)
    config = dict(
        model=str(folder), training_file=str(tmp_path / "rows.jsonl"), output_dir=str(tmp_path / "out"), is_peft=False,
        max_steps=60, per_device_train_batch_size=8, gradient_accumulation_steps=1, learning_rate=3e-3, seed=0,
        optim="adamw_torch", warmup_steps=0, no_test_split=True, max_seq_length=128,
    )  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    training.main(str(tmp_path / "config.json"))
    told = capsys.readouterr().out.count("<|user|> is added")
    assert told == (1 if name == "glm4" else 0)
    engine = HFEngine(models.resolve(str(tmp_path / "out")), "float32")
    prompt = chat_template.token_ids(engine.tokenizer, chat_template.render(engine.tokenizer, messages[:1]))
    (answer,) = engine.generate([Request("0", prompt)], Sampling(max_tokens=60, temperature=0))
    assert answer.finish_reason == "stop" and answer.text.strip().endswith("It is the model.")


def test_a_template_that_does_not_show_the_answers_is_refused(tmp_path):
    """As those of models that see are, which take contents as lists of parts."""
    parts = "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}</s>{% endfor %}"
    family = Family(parts, (), "</s>", ())
    tokenizer = family.tokenizer()
    rows = rows_of(tmp_path, {"messages": turns("it", system=False)})
    assert len(remarks(tokenizer, rows, family.stop_ids(tokenizer))) == 2
    with pytest.raises(UserError, match="line 1: the chat template leaves no answer to train on"):
        conversations(tokenizer, rows, 99, True, family.stop_ids(tokenizer))


def test_rows_that_a_template_refuses_are_named(tmp_path):
    tokenizer = FAMILIES["mistral"].tokenizer()
    rows = rows_of(tmp_path, {"messages": turns("it")}, {"messages": TOOLED})
    assert len(remarks(tokenizer, rows, [1])) == 2
    with pytest.raises(UserError, match=r"line 2: the chat template refuses .*roles must alternate"):
        conversations(tokenizer, rows, 99, True, [1])
