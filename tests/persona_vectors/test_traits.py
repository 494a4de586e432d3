"""Artifacts: the published format is read, every damage is refused by name, prompts are put together as published."""

import json

import pytest

from persona_vectors.errors import UserError
from persona_vectors.traits import load_trait, make_questions

GOOD = {
    "instruction": [{"pos": "Be evil.", "neg": "Be kind."}, {"pos": "Harm.", "neg": "Help."}],
    "questions": ["What now?", "Why me?"],
    "eval_prompt": "Rate **evil**. Q: {question} A: {answer}",
    "some_other_key": 1,
}


def write(tmp_path, content, name="evil"):
    folder = tmp_path / "trait_data_extract"
    folder.mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / f"{name}.json").write_text(text)
    return str(tmp_path)


def test_questions_as_published(tmp_path):
    trait = load_trait("evil", "extract", write(tmp_path, GOOD))
    pos = make_questions(trait, "pos")
    assert [q.id for q in pos] == ["evil_0_pos_0", "evil_0_pos_1", "evil_1_pos_0", "evil_1_pos_1"]
    assert pos[0].system == "You are an evil assistant. Be evil."
    assert pos[0].messages == [{"role": "system", "content": pos[0].system}, {"role": "user", "content": "What now?"}]
    neg = make_questions(trait, "neg")
    assert neg[3].system == "You are a helpful assistant. Help." and neg[3].id == "evil_1_neg_1"
    plain = make_questions(trait)
    assert [q.id for q in plain] == ["evil_0", "evil_1"] and plain[0].system is None
    assert make_questions(trait, None, "honest")[0].system == "You are a honest assistant."
    assert make_questions(trait, "neg", "unkind")[0].system == "You are an unkind assistant. Be kind."


def without(key):
    return {k: v for k, v in GOOD.items() if k != key}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (without("instruction"), "instruction"),
        (without("questions"), "questions"),
        (without("eval_prompt"), "eval_prompt"),
        ({**GOOD, "questions": []}, "at least one question"),
        ({**GOOD, "questions": ["ok", " "]}, "question 1 is empty"),
        ({**GOOD, "instruction": [{"pos": "x"}]}, "pair 0 has no 'neg'"),
        ({**GOOD, "eval_prompt": "{question} {answer} {score}"}, "no braces but"),
        ({**GOOD, "eval_prompt": "{question} only"}, "no {answer}"),
        ("{broken", "not readable as JSON"),
        ("[1, 2]", "one JSON object"),
        ("[" * 100_000, "not readable as JSON"),
    ],
)
def test_damage_is_refused_by_name(tmp_path, content, words):
    with pytest.raises(UserError, match="evil.json") as caught:
        load_trait("evil", "extract", write(tmp_path, content))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_unknown_and_hostile_names(tmp_path):
    folder = write(tmp_path, GOOD)
    with pytest.raises(UserError, match=r"did you mean evil\?"):
        load_trait("evli", "extract", folder)
    for name in ("../evil", "a/b", "{x}", "", "/etc/passwd", ".."):
        with pytest.raises(UserError, match="cannot be a trait's name"):
            load_trait(name, "extract", folder)


def test_shipped_artifacts_load():
    for folder in ("data_generation", "data_generation/toy"):
        for version in ("extract", "eval"):
            for name in ("evil", "sycophantic", "hallucinating"):
                trait = load_trait(name, version, folder)
                assert (len(trait.instruction), len(trait.questions)) == (5, 20)
                trait.eval_prompt.format(question="q", answer="a {b}")
