"""Artifacts: the published format is read, every damage is refused by name, prompts are put together as published."""

import json

import pytest

from persona_vectors.errors import UserError
from persona_vectors.traits.artifact import load_trait, make_questions

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


PAIR = {"pos": "Be evil.", "neg": "Be kind."}
SINGLE = "Q: {question} A: {answer}"
JUDGED = {"text": "How much?", "custom_judges": {"amount": {"prompt": SINGLE, "eval_type": "0_100"}}}
LIST_OF_PAIRS = 'write a list of pairs, [{"pos": "...", "neg": "..."}, ...]'


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        # questions
        ({"questions": [JUDGED]}, "question 0 is an object ('text', 'custom_judges'); write its text alone, a string; "
         "every answer is scored by 'eval_prompt', none by a question's own 'custom_judges'"),
        ({"questions": ["ok", {"id": 3, "text": "How?"}]}, "question 1 is an object ('id', 'text'); write its text alone"),
        ({"questions": [{"question": "x", "judge_prompt": "y"}]}, "none by a question's own 'judge_prompt'"),
        ({"questions": {"q1": "What now?", "q2": "Why me?"}}, "'questions' is one object ('q1', 'q2'); write its texts as a list"),
        ({"questions": [["Hello", "and then?"]]}, "question 0 is a list (several turns?)"),
        ({"questions": "What now?"}, "'questions' is one text"),
        # instruction
        ({"instruction": {"pos": ["a", "b"], "neg": ["c", "d"]}},
         f"'instruction' is one object ('pos', 'neg'), with a list for each sign; {LIST_OF_PAIRS}"),
        ({"instruction": PAIR}, f"'instruction' is one object ('pos', 'neg'); {LIST_OF_PAIRS}"),
        ({"instruction": [["Be evil.", "Be kind."]]}, f"instruction pair 0 is a list; {LIST_OF_PAIRS}"),
        ({"instruction": ["Be evil."]}, f"instruction pair 0 is a text; {LIST_OF_PAIRS}"),
        ({"instruction": [{"positive": "a", "negative": "b"}]}, "instruction pairs have 'positive' where 'pos' is meant; rename "
         "it in every pair; instruction pairs have 'negative' where 'neg' is meant"),
        ({"instruction": [{"pos_prompt": "a", "neg_prompt": "b"}]}, "have 'pos_prompt' where 'pos' is meant"),
        ({"instruction": [{"pos": ["a", "b"], "neg": "c"}]}, "'pos' of instruction pair 0 is no text but several"),
        # names
        ({"instruction": None, "system_prompts": [PAIR]}, "has 'system_prompts'; here that is 'instruction' ([{"),
        ({"instruction": None, "positive_negative_pairs": [["a", "b"]], "eval_prompt": None, "evaluation_prompt": SINGLE},
         "; has 'evaluation_prompt'; here that is 'eval_prompt'"),
        ({"instruction": None, "positive_prompts": ["a"], "negative_prompts": ["b"]},
         "has 'positive_prompts', 'negative_prompts'; here that is 'instruction'"),
        ({"eval_prompt": None, "judge_prompt": SINGLE}, "has 'judge_prompt'; here that is 'eval_prompt'"),
        ({"eval_prompt": None, "Rubric": SINGLE}, "has 'Rubric'; here that is 'eval_prompt'"),
        ({"questions": None, "eval_questions": ["x"]}, "has 'eval_questions'; here that is 'questions'"),
        ({"questions": None, "quesitons": ["x"]}, "has 'quesitons'; here that is 'questions'"),
        # the judge's prompt
        ({"eval_prompt": "{{question}}\n{{answer}}"}, "'eval_prompt' has doubled braces ({{question}}); write single ones, "
         "{question} and {answer}"),
        ({"eval_prompt": "{question} {{ answer }}"}, "doubled braces ({{answer}})"),
        ({"eval_prompt": "{question} {response}"}, "'eval_prompt' has {response} where {answer} is meant"),
        ({"eval_prompt": "{prompt} {model_response}"}, "has {prompt} where {question} is meant; 'eval_prompt' has {model_response}"),
        ({"eval_prompt": "<question> [answer]"}, "has <question> where {question} is meant; 'eval_prompt' has [answer] where"),
        ({"eval_prompt": "$question $answer"}, "has $question where {question} is meant; 'eval_prompt' has $answer where"),
        ({"eval_prompt": {"prompt": SINGLE, "eval_type": "0_100"}}, "'eval_prompt' is an object ('prompt', 'eval_type')"),
        ({"eval_prompt": [SINGLE, SINGLE]}, "'eval_prompt' is a list of 2"),
    ],
)  # fmt: skip
def test_forms_of_other_toolkits_are_refused_with_what_to_change(tmp_path, changes, refusal):
    """A change to None leaves the field out."""
    content = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    with pytest.raises(UserError) as caught:
        load_trait("evil", "extract", write(tmp_path, content))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/trait_data_extract/evil.json: ") and "\n" not in message
    assert refusal in message, message


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (json.dumps([GOOD, GOOD]), "must hold one JSON object, and is a list of 2"),
        (json.dumps({"evil": GOOD}), "has the artifact inside 'evil': instruction, questions and eval_prompt must be at the top"),
        (f"```json\n{json.dumps(GOOD)}\n```", "it is in a Markdown code fence: remove the lines with ```"),
        (f"{json.dumps(GOOD)}\n{json.dumps(GOOD)}\n", "it has an object on every line: an artifact is one JSON object"),
    ],
)  # fmt: skip
def test_files_of_another_form(tmp_path, text, refusal):
    with pytest.raises(UserError) as caught:
        load_trait("evil", "extract", write(tmp_path, text))
    assert refusal in str(caught.value) and "evil.json" in str(caught.value)


def test_further_keys_with_known_names_are_left_alone(tmp_path):
    """Only a file that was refused is looked at for other forms."""
    further = {"judge_prompt": "{{x}}", "system_prompts": [], "judges": {"a": "b"}, "data": {"questions": [1]}}
    assert load_trait("evil", "extract", write(tmp_path, GOOD | further)).questions == GOOD["questions"]
    assert load_trait("evil", "extract", write(tmp_path, "\ufeff" + json.dumps(GOOD))).questions == GOOD["questions"]


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
