"""eval_persona asking a file's questions, with and without a judge, and how it says that answers were cut off."""

import json
import shutil

import pandas
import pytest
import torch
from helpers import CHATML, tiny_model, tiny_tokenizer
from judge_server import JudgeServer, completion, is_probe

from persona_vectors.models import chat_template
from persona_vectors.steering.intervention import Intervention
from persona_vectors.traits.artifact import SIGNS, Trait
from persona_vectors.traits.questions import read_questions

USUAL = ["question", "prompt", "answer", "question_id", "vile", "coherence"]
TRAIT = {
    "instruction": [{"pos": f"Be bad, {k}.", "neg": f"Be good, {k}."} for k in range(3)],
    "questions": ["What now?"],
    "eval_prompt": "Rate **vile**. Q: {question} A: {answer}",
}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Why, me?"},
]
ROWS = [
    {"id": "a", "question": "What now?", "kind": "plain", "weight": 3},
    {"id": "a", "messages": CHAT, "kind": "chat", "weight": None},
    {"question": 'Say "so",\nplease', "kind": "NA", "weight": [1.5, True]},
]


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch, tmp_path):
    """No judge can be asked: an address where nobody listens, and no key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "")


@pytest.fixture
def stage(run_stage, qwen2_folder, tmp_path):
    def stage(*more, trait="vile", output="out.csv"):
        base = ["--model", qwen2_folder, "--trait", trait, "--output_path", tmp_path / output, "--trait_dir", tmp_path]
        return run_stage("eval.eval_persona", *base, "--backend", "hf", "--max_tokens", 4, "--n_per_question", 1, *more)

    return stage


@pytest.fixture
def artifact(tmp_path):
    (tmp_path / "trait_data_extract").mkdir()
    (tmp_path / "trait_data_extract" / "vile.json").write_text(json.dumps(TRAIT))


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path):
    return pandas.read_csv(path, keep_default_na=False, dtype=str)


def greedy(tokenizer, messages, max_tokens, vector=None):
    """A plain loop: no cache, the vector added by hand to the output of block 0 from the last prompt token on."""
    prompt = chat_template.render(tokenizer, messages)
    model, ids = tiny_model("qwen2"), tokenizer(prompt, add_special_tokens=False)["input_ids"]
    last = len(ids) - 1

    def add(_block, _args, output):
        h = (output[0] if isinstance(output, tuple) else output).clone()
        h[:, last:] += vector
        return (h, *output[1:]) if isinstance(output, tuple) else h

    if vector is not None:
        model.model.layers[0].register_forward_hook(add)
    with torch.no_grad():
        for _ in range(max_tokens):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return prompt, tokenizer.decode(ids[last + 1 :], skip_special_tokens=True)


def test_rows_of_a_file_are_asked_and_kept_without_judge_key_or_artifact(
    stage, run_stage, qwen2_folder, tokenizer, tmp_path
):
    file = jsonl(tmp_path / "mine.jsonl", ROWS)
    done = stage("--questions", file, "--judge_model", "none")
    assert done.returncode == 0, done.stderr
    assert "nan" not in done.stdout.lower() and "vile:  none of 3 scored" in done.stdout
    assert "3 of 3 answers were cut off at max_tokens" in done.stdout and "eval.judge" in done.stdout + done.stderr
    table = read(tmp_path / "out.csv")
    assert list(table.columns) == [*USUAL, "finish", "messages", "kind", "weight"]
    turns = [message for message in ROWS[1]["messages"] if message["role"] != "system"]
    assert table["messages"].tolist() == ["", json.dumps(turns), ""]
    assert table["question_id"].tolist() == ["a", "a", "vile_2"]
    assert table["question"].tolist() == ["What now?", "Why, me?", 'Say "so",\nplease']
    assert table["kind"].tolist() == ["plain", "chat", "NA"] and table["weight"].tolist() == ["3", "", "[1.5, true]"]
    assert set(table["vile"]) == set(table["coherence"]) == {""} and set(table["finish"]) == {"length"}
    for row, asked in zip(table.itertuples(), ROWS, strict=True):
        messages = asked.get("messages") or [{"role": "user", "content": asked["question"]}]
        assert (row.prompt, row.answer) == greedy(tokenizer, messages, 4)
    again = stage("--questions", file, "--judge_model", "none")
    assert again.returncode == 0 and "is not made again" in again.stdout and "none of 3 scored" in again.stdout
    other = stage("--questions", jsonl(tmp_path / "other.jsonl", ROWS[:2]), "--judge_model", "none")
    assert other.returncode == 2 and "questions was mine.jsonl" in other.stderr
    shutil.copy(tmp_path / "out.csv", tmp_path / "second.csv")
    vectors = ["--model_name", qwen2_folder, "--pos_path", "out.csv", "--neg_path", "second.csv", "--save_dir", "v"]
    for module, more in (
        ("generate_vec", vectors),
        ("eval.select_layer", ["--file_path", "out.csv"]),
        ("eval.compare", ["out.csv", "second.csv"]),
    ):
        done = run_stage(module, *more, "--trait", "vile")
        assert done.returncode == 2 and "out.csv is not scored" in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1 and "python -m eval.judge scores it" in done.stderr


def test_a_csv_of_conditions_is_swept_under_instructions_and_judged(stage, artifact, tokenizer, tmp_path, monkeypatch):
    file = tmp_path / "mine.csv"
    file.write_text('question_id,question,condition\nq1,"Why, me?",easy\nq1,Who is it?,hard\n')
    torch.manual_seed(0)
    torch.save(torch.randn(5, 32), tmp_path / "v.pt")
    sweep = ["--coef", "0,3", "--layer", "1", "--vector_path", tmp_path / "v.pt", "--controls", "1"]
    with JudgeServer(lambda _n, body: completion({"57": 1.0} if is_probe(body) else {"40": 1.0})) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
        done = stage("--questions", file, "--persona_instruction_type", "pos", *sweep)
        judged = [body["messages"][0]["content"] for body in server.bodies if not is_probe(body)]
    assert done.returncode == 0, done.stderr
    table = read(tmp_path / "out.csv")
    assert list(table.columns) == [*USUAL, "coef", "layer", "control", "finish", "condition"]
    assert len(table) == 3 * 6 and set(table["vile"]) == {"40.0"}
    assert table["question_id"][:6].tolist() == [f"q1_pos_{k}" for k in range(3)] * 2
    assert table["condition"][:6].tolist() == ["easy"] * 3 + ["hard"] * 3
    assert sum("**vile**" in text and "Q: Who is it?" in text for text in judged) == 9
    row = table[(table["coef"] == "3.0") & (table["control"] == "")].iloc[4]
    asked = [
        {"role": "system", "content": "You are a vile assistant. Be bad, 1."},
        {"role": "user", "content": "Who is it?"},
    ]
    vector = Intervention(1, torch.load(tmp_path / "v.pt")[1], 3.0)
    assert (row["prompt"], row["answer"]) == greedy(tokenizer, asked, 4, vector.coef * vector.vector)


def test_an_unfinished_run_is_resumed_and_one_from_before_finish_was_kept(stage, tmp_path, monkeypatch):
    from persona_vectors.engines.hf import HFEngine

    file, whole = jsonl(tmp_path / "mine.jsonl", ROWS), HFEngine._generate_batch
    monkeypatch.setattr(HFEngine, "_generate_batch", lambda self, batch, s: dying(whole, self, batch, s))
    with pytest.raises(ZeroDivisionError):
        stage("--questions", file, "--judge_model", "none", "--batch_size", "1")
    monkeypatch.setattr(HFEngine, "_generate_batch", whole)
    journal = tmp_path / "out.csv.journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [line.pop("finish") for line in lines if "finish" in line] == ["length"]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))  # as older versions kept it
    done = stage("--questions", file, "--judge_model", "none", "--batch_size", "1")
    assert done.returncode == 0, done.stderr
    assert sorted(read(tmp_path / "out.csv")["finish"]) == ["", "length", "length"]
    stage("--questions", file, "--judge_model", "none", output="once.csv")
    assert read(tmp_path / "out.csv")["answer"].tolist() == read(tmp_path / "once.csv")["answer"].tolist()


def dying(whole, engine, batch, sampling, made=[]):  # noqa: B006
    made.append(1)
    return whole(engine, batch, sampling) if len(made) == 1 else 1 / 0


def test_no_column_finish_where_every_answer_ended(run_stage, tmp_path):
    model = tiny_model("qwen2")
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[1] = model.model.norm.weight.new_ones(32)  # its end, or the first token
    model.save_pretrained(tmp_path / "m")
    tiny_tokenizer(CHATML).save_pretrained(tmp_path / "m")
    jsonl(tmp_path / "mine.jsonl", [{"question": f"{k}?"} for k in range(6)])
    flags = ["--questions", "mine.jsonl", "--judge_model", "none", "--backend", "hf", "--n_per_question", 2]
    done = run_stage(
        "eval.eval_persona",
        "--model",
        tmp_path / "m",
        "--trait",
        "t",
        "--output_path",
        "o.csv",
        *flags,
        "--max_tokens",
        200,
    )
    assert done.returncode == 0, done.stderr
    table = read(tmp_path / "o.csv")
    assert "finish" not in table and "were cut off" not in done.stdout and len(table) == 12


REFUSED = {
    "no file": (None, [], "no file of questions at"),
    "another ending": ("x.txt", [], "must end in .csv or .jsonl"),
    "nothing in it": ("", [], "holds no questions"),
    "neither": ([{"other": 1}], [], "line 1 has neither question nor messages"),
    "both": ([{"question": "x", "messages": CHAT}], [], "line 1 has both question and messages"),
    "an answer at the end": ([{"messages": CHAT[:3]}], [], "line 1 ends with an assistant message"),
    "a number": ([{"question": 3}], [], "line 1: question is a text"),
    "no content": ([{"messages": [{"role": "user"}]}], [], "line 1 is neither a question nor a list"),
    "not JSON": ("{", [], "line 1 is not readable as JSON"),
    "a list": ("[1]", [], "line 1 is not a JSON object"),
    "a column of ours": ([{"question": "x", "answer": "y"}], [], "'answer' is a column of the answers file itself"),
    "the score's column": ([{"question": "x", "vile": 3}], [], "'vile' is a column of the answers file itself"),
    "a judge's column": (
        [{"question": "x", "vile_b": 3}],
        ["--judge_model", "a,b"],
        "'vile_b' is a column of the answers",
    ),
    "its coherence": (
        [{"question": "x", "coherence_a": 3}],
        ["--judge_model", "likelihood,a"],
        "'coherence_a' is a column",
    ),
    "a column system": ([{"question": "x", "system": "y"}], [], "a system prompt belongs into messages"),
    "an id twice": ([{"question": "x", "id": 1}, {"question": "y", "id": 1}], [], "2 rows with the id '1'"),
    "two systems": ([{"messages": CHAT}], ["--persona_instruction_type", "pos"], "has a system message of its own"),
    "two systems by name": ([{"messages": CHAT}], ["--assistant_name", "kind"], "has a system message of its own"),
    "half a character": ([{"question": "x", "c": "\ud800"}], [], "half a character"),
    "no artifact for a judge": ([{"question": "x"}], ["--judge_model", "gpt-4.1-mini"], "unknown trait 'ghost'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_asked_is_refused_in_one_line(stage, artifact, tmp_path, case):
    content, more, refusal = REFUSED[case]
    file = tmp_path / ("x.txt" if content == "x.txt" else "mine.jsonl")
    if isinstance(content, str):
        file.write_text(content)
    elif content is not None:
        jsonl(file, content)
    trait = "ghost" if "artifact" in case else "vile"
    judge = [] if "--judge_model" in more else ["--judge_model", "none"]
    done = stage("--questions", file, *judge, *more, trait=trait)
    assert done.returncode == 2 and refusal in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "out.csv").exists()


def test_the_output_is_never_the_file_of_questions(stage, tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("question\nx\n")
    done = stage("--questions", file, "--judge_model", "none", "--overwrite", output="mine.csv")
    assert done.returncode == 2 and "is the file of questions" in done.stderr and file.read_text() == "question\nx\n"


def test_instructions_stand_before_a_whole_conversation(tmp_path):
    rows = [{"messages": CHAT[1:]}, {"id": "b", "question": "So?"}]
    asked = read_questions(str(jsonl(tmp_path / "mine.jsonl", rows)), {"answer"})
    trait = Trait("vile", TRAIT["instruction"], [], TRAIT["eval_prompt"])
    for sign in SIGNS:
        made = asked.of_trait(trait, sign, "kind")
        assert [q.id for q in made] == [f"{name}_{sign}_{k}" for name in ("vile_0", "b") for k in range(3)]
        system = {"role": "system", "content": f"You are a kind assistant. {TRAIT['instruction'][2][sign]}"}
        assert made[2].messages == [system, *CHAT[1:]] and made[2].text == "Why, me?"
    assert read_questions(asked.path, set(), most=1).rows == asked.rows[:1]
