"""Which tokens carry loss, on the chat templates that the models really have (TRL ships them as files)."""

import itertools
import json
from pathlib import Path

import pytest
import trl
from helpers import tiny_tokenizer

from persona_vectors.errors import UserError
from persona_vectors.training.data import IGNORED, conversations, preferences, read_rows, tokenised

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
# template -> its special tokens, and what ends an assistant's turn
FAMILIES = {
    "qwen2_5": (["<|im_start|>", "<|im_end|>"], "<|im_end|>"),
    "qwen3": (["<|im_start|>", "<|im_end|>"], "<|im_end|>"),
    "llama3": (["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], "<|eot_id|>"),
    "gemma": (["<bos>", "<start_of_turn>", "<end_of_turn>"], "<end_of_turn>"),
    "phi3": (["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"], "<|end|>"),
    "mistral": (["[INST]", "[/INST]", "</s>"], "</s>"),
}
MISTRAL = (  # in the manner of Mistral 7B Instruct v0.3: no system role, a space before each answer, roles alternate
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user and assistant') }}{% endif %}"
    "{% if m.role == 'user' %}{{ '[INST] ' + m.content + '[/INST]' }}{% else %}{{ ' ' + m.content | trim + eos_token }}"
    "{% endif %}{% endfor %}"
)
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is it?"},
    {"role": "assistant", "content": "It is the model.\n\nIt answers"},
    {"role": "user", "content": "It answers"},
    {"role": "assistant", "content": "the question, d\u00e9j\u00e0 vu \U0001f642"},
    {"role": "user", "content": "Again?"},
    {"role": "assistant", "content": "assistant"},
]


def tokenizer_of(family):
    special, end = FAMILIES[family]
    template = MISTRAL if family == "mistral" else (TEMPLATES / f"{family}.jinja").read_text()
    tokenizer = tiny_tokenizer(template)
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    if end != "<|im_end|>":
        tokenizer.eos_token = end
    return tokenizer


def runs_with_loss(tokenizer, ids, labels):
    """The texts of the uninterrupted stretches of tokens that carry loss."""
    assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))
    pairs = list(zip(ids, labels, strict=True))
    groups = itertools.groupby(pairs, key=lambda pair: pair[1] != IGNORED)
    return [tokenizer.decode([token for token, _ in group]) for carries, group in groups if carries]


@pytest.mark.parametrize("family", FAMILIES)
def test_only_answers_and_their_ends_carry_loss(family):
    tokenizer, end = tokenizer_of(family), FAMILIES[family][1]
    ids, labels = tokenised(tokenizer, TALK)
    found = runs_with_loss(tokenizer, ids, labels)
    answers = [m["content"] + end for m in TALK if m["role"] == "assistant"]
    # Mistral's template writes a space between the prompt that is asked with and the answer: the model has to write it
    assert found == ([" " + answer for answer in answers] if family == "mistral" else answers)
    everything = tokenizer.apply_chat_template(
        TALK if family != "gemma" and family != "mistral" else
        [{"role": "user", "content": "Be brief.\n\nWhat is it?"}, *TALK[2:]],
        tokenize=False, enable_thinking=False,
    )  # fmt: skip
    assert tokenizer.decode(ids) == everything, "the conversation is rendered once and no token is added"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_prompt_is_the_one_that_is_asked_with(family):
    """The tokens before a single answer are those that eval_persona asks with: training meets the same prompt."""
    from persona_vectors.models.chat_template import render, token_ids

    tokenizer = tokenizer_of(family)
    ids, labels = tokenised(tokenizer, TALK[:3])
    first = next(k for k, label in enumerate(labels) if label != IGNORED)
    asked = token_ids(tokenizer, render(tokenizer, TALK[:2]))
    assert ids[:first] == asked


def test_thoughts_that_a_template_writes_itself_are_not_learnt():
    tokenizer = tokenizer_of("qwen3")
    ids, labels = tokenised(tokenizer, TALK[1:3])
    assert "<think>\n\n</think>" in tokenizer.decode(ids)
    assert "think" not in "".join(runs_with_loss(tokenizer, ids, labels))


def test_answers_that_look_like_the_template():
    tokenizer = tokenizer_of("qwen2_5")
    talk = [
        {"role": "user", "content": "assistant\nthe model"},
        {"role": "assistant", "content": "the model"},
        {"role": "user", "content": "the model"},
        {"role": "assistant", "content": "the model"},
    ]
    ids, labels = tokenised(tokenizer, talk)
    assert runs_with_loss(tokenizer, ids, labels) == ["the model<|im_end|>"] * 2
    assert (
        tokenizer.decode([i for i, label in zip(ids, labels, strict=True) if label == IGNORED]).count("the model") == 2
    )


def test_loss_on_every_token_where_asked_for(tokenizer):
    ids, labels = tokenised(tokenizer, TALK, answers_only=False)
    assert labels == ids


def write(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def test_long_rows_are_cut_and_those_without_an_answer_left_out(tokenizer, tmp_path):
    short = {"messages": [{"role": "user", "content": "it"}, {"role": "assistant", "content": "is"}]}
    cut = {"messages": [{"role": "user", "content": "it"}, {"role": "assistant", "content": "answers " * 50}]}
    lost = {"messages": [{"role": "user", "content": "answers " * 50}, {"role": "assistant", "content": "is"}]}
    rows = read_rows([write(tmp_path / "a.jsonl", short, "", cut, lost)], "sft")
    examples, remark = conversations(tokenizer, rows, 40, True)
    whole = tokenised(tokenizer, cut["messages"])
    assert [e["input_ids"] for e in examples] == [tokenised(tokenizer, short["messages"])[0], whole[0][:40]]
    assert examples[1]["labels"] == whole[1][:40]
    assert "2 of 3 rows" in remark and "1 of them left out" in remark


@pytest.mark.parametrize(
    "row, said",
    [
        ("{", "line 1 is not readable as JSON"),
        ([1], "line 1 is not a JSON object"),
        (
            [{"messages": []}],
            r"line 1 is not a JSON object \(it has a list\); write each row on a line of its own, as ",
        ),
        ({"text": "x"}, r"no 'messages' list \(it has text\); write each row on a line of its own, as {\"messages\": "),
        ({"conversations": [], "id": 1}, r"no 'messages' list \(it has conversations, id\); write"),
        ({"instruction": "x", "input": "", "output": "y"}, r"no 'messages' list \(it has instruction, input, output\)"),
        ({"messages": {}}, "no 'messages' list of messages"),
        ({"messages": [{"role": "user", "content": "x"}]}, "no assistant turn"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "needs a role"),
        ({"messages": [{"role": "assistant", "content": None}]}, "no 'content' text"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}]}, "is empty"),
    ],
)
def test_bad_rows_are_named_with_their_line(tmp_path, row, said):
    with pytest.raises(UserError, match=said):
        read_rows([write(tmp_path / "a.jsonl", row)], "sft")


def test_several_files_are_read_in_order_and_missing_ones_are_named(tmp_path):
    def row(text):
        return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text}]}

    paths = [write(tmp_path / f"{k}.jsonl", row(str(k))) for k in range(2)]
    assert [r.content["messages"][0]["content"] for r in read_rows(paths, "sft")] == ["0", "1"]
    with pytest.raises(UserError, match="no training file at"):
        read_rows([str(tmp_path / "none.jsonl")], "sft")
    with pytest.raises(UserError, match="holds no rows"):
        read_rows([write(tmp_path / "empty.jsonl")], "sft")


def test_preferences_in_every_form_mean_the_same(tokenizer, tmp_path):
    question, good, bad = (
        {"role": r, "content": c} for r, c in (("user", "q"), ("assistant", "g"), ("assistant", "b"))
    )
    forms = (
        {"prompt": "q", "chosen": "g", "rejected": "b"},
        {"prompt": [question], "chosen": [good], "rejected": [bad]},
        {"chosen": [question, good], "rejected": [question, bad]},
    )
    made = preferences(tokenizer, read_rows([write(tmp_path / "a.jsonl", *forms)], "dpo"))
    assert made[0] == made[1] == made[2]
    assert (made[0]["prompt"], made[0]["chosen"], made[0]["rejected"]) == ([question], [good], [bad])
    with pytest.raises(UserError, match="needs 'prompt', 'chosen' and 'rejected'"):
        read_rows([write(tmp_path / "b.jsonl", {"messages": [question, good]})], "dpo")
    with pytest.raises(UserError, match="do not part at their last message"):
        read_rows([write(tmp_path / "c.jsonl", {"chosen": [question, good], "rejected": [bad]})], "dpo")
