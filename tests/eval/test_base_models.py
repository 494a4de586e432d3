"""Every stage on GPT-2 and GPTNeoX models without a chat template, with --chat_template plain, against plain loops."""

import json
from pathlib import Path

import pandas
import pytest
import torch
from base_models import ANSWER, base_model, base_tokenizer, plain_answer

from persona_vectors.vectors.storage import load_vectors

PLAIN = ["--chat_template", "plain"]
QUESTIONS = ["what is it", "the model"]
TRAIT = {
    "instruction": [{"pos": "Be it.", "neg": "Be not."}],
    "questions": QUESTIONS,
    "eval_prompt": "Q: {question} A: {answer}",
}


@pytest.fixture(scope="module", params=["gpt2", "gpt_neox"])
def base(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "base"
    base_model(request.param).save_pretrained(folder)
    base_tokenizer().save_pretrained(folder)
    for version in ("extract", "eval"):
        (folder.parent / f"trait_data_{version}").mkdir()
        (folder.parent / f"trait_data_{version}" / "vile.json").write_text(json.dumps(TRAIT))
    return request.param, folder


@pytest.fixture
def stage(run_stage, base, monkeypatch):
    monkeypatch.chdir(base[1].parent)

    def stage(module, *arguments, refused=False):
        done = run_stage(module, *arguments)
        assert done.returncode == (2 if refused else 0), (done.stdout, done.stderr)
        return done.stderr if refused else done.stdout

    return stage


def written(question, *system):
    return "".join(f"System:\n{text}\n\n" for text in system) + f"User:\n{question}\n\nAssistant:\n"


def hidden(kind, prompt, answer, layer):
    """(activations [tokens, hidden] of the prompt, of the answer) at a layer: prompt tokens + answer tokens, no padding."""
    tokenizer = base_tokenizer()
    ids, said = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, answer))
    with torch.no_grad():
        states = base_model(kind)(torch.tensor([ids + said]), output_hidden_states=True).hidden_states[layer][0]
    return states[: len(ids)], states[len(ids) :]


def test_answers_vectors_and_projections(stage, base):
    kind, folder = base
    ask = [
        "eval.eval_persona",
        "--model",
        folder,
        "--trait",
        "vile",
        "--trait_dir",
        ".",
        "--backend",
        "hf",
        "--n_per_question",
        1,
    ]
    ask += [
        "--judge_model",
        "none",
        "--max_tokens",
        40,
        "--persona_instruction_type",
        "pos,neg",
        "--output_path",
        "{type}.csv",
    ]
    refused = stage(*ask, refused=True)
    assert "has no chat template" in refused and "--chat_template plain" in refused
    assert "cut off" not in stage(*ask, *PLAIN)
    for sign, system in (("pos", "You are a vile assistant. Be it."), ("neg", "You are a helpful assistant. Be not.")):
        table = pandas.read_csv(f"{sign}.csv")
        assert table["prompt"].tolist() == [written(q, system) for q in QUESTIONS] and "finish" not in table
        answers = [plain_answer(base_model(kind), base_tokenizer(), prompt, 40) for prompt in table["prompt"]]
        assert table["answer"].tolist() == answers == [ANSWER] * 2
        table["vile"], table["coherence"] = (80 if sign == "pos" else 10), 90
        table.to_csv(f"{sign}.csv", index=False)
    record = json.loads((folder.parent / "pos.csv.provenance.json").read_text())["result"]
    assert record["chat_template"]["name"] == "plain"
    with open("own.jinja", "w") as file:
        file.write("{% for m in messages %}[{{ m.content }}]\n{% endfor %}")
    assert "chat_template was plain" in stage(*ask, "--chat_template", "own.jinja", refused=True)
    assert "chat_template was plain" in stage(*ask, refused=True)

    vectors = [
        "generate_vec",
        "--model_name",
        folder,
        "--trait",
        "vile",
        "--pos_path",
        "pos.csv",
        "--neg_path",
        "neg.csv",
    ]
    stage(*vectors, "--save_dir", "v", *PLAIN)
    means = [
        torch.stack([hidden(kind, p, ANSWER, 2)[1].mean(0) for p in pandas.read_csv(f"{s}.csv")["prompt"]]).mean(0)
        for s in ("pos", "neg")
    ]
    made = load_vectors("v/vile_response_avg_diff.pt")
    assert torch.allclose(made[2], means[0] - means[1], atol=1e-5)

    with open("set.jsonl", "w") as file:
        for question in QUESTIONS:
            talk = [{"role": "user", "content": question}, {"role": "assistant", "content": "it is"}]
            file.write(json.dumps({"messages": talk}) + "\n")
    project = [
        "eval.cal_projection",
        "--file_path",
        "set.jsonl",
        "--vector_path",
        "v/vile_response_avg_diff.pt",
        "--layer",
        2,
    ]
    stage(*project, "--model_name", folder, *PLAIN)
    unit = made[2] / made[2].norm()
    for line, question in zip(Path("set.jsonl").read_text().splitlines(), QUESTIONS, strict=True):
        found = json.loads(line)["base_vile_response_avg_diff_proj_layer2"]
        assert found == pytest.approx((hidden(kind, written(question), "it is", 2)[1].mean(0) @ unit).item(), abs=1e-4)

    difference = ["eval.projection_difference", "--file_path", "set.jsonl", "--model_name", folder, "--output_dir", "d"]
    stage(
        *difference,
        "--vector_path",
        "v/vile_response_avg_diff.pt",
        "--layer",
        2,
        "--backend",
        "hf",
        "--max_tokens",
        40,
        *PLAIN,
    )
    (made_set,) = (folder.parent / "d").glob("*set.jsonl")
    assert [json.loads(line)["base_answer"] for line in made_set.read_text().splitlines()] == [ANSWER] * 2


def test_training_by_the_same_template_and_its_shift(stage, base):
    kind, folder = base
    with open("train.jsonl", "w") as file:
        talk = [{"role": "user", "content": "what"}, {"role": "assistant", "content": "it"}]
        file.writelines(json.dumps({"messages": [*talk, *talk]}) + "\n" for _ in range(4))
    config = dict(
        model=str(folder), training_file="train.jsonl", output_dir="tuned", max_steps=1, optim="adamw_torch", r=2,
        no_test_split=True, target_modules="all-linear", per_device_train_batch_size=1, gradient_accumulation_steps=1,
    )  # fmt: skip
    (folder.parent / "train.json").write_text(json.dumps(config))
    refused = stage("training", "train.json", refused=True)
    assert "has no chat template" in refused and "chat_template" in refused
    assert "<end> is added" in stage("training", "train.json", "chat_template=plain")
    assert (folder.parent / "tuned/chat_template.jinja").read_text().startswith("{% for m in messages %}")
    torch.save(torch.ones(5, 32), "ones.pt")
    shift = [
        "eval.finetuning_shift",
        "--base_model",
        folder,
        "--model_list",
        "tuned",
        "--trait",
        "vile",
        "--trait_dir",
        ".",
    ]
    shift += ["--vector_path", "ones.pt", "--layer", 2, "--output", "shift"]
    assert "no chat template" in stage(*shift, refused=True)
    stage(*shift, *PLAIN)
    from peft import PeftModel

    tuned = PeftModel.from_pretrained(base_model(kind), "tuned")
    before, after = [], []
    for question in QUESTIONS:
        ids = torch.tensor([base_tokenizer()(written(question), add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            after.append(tuned(ids, output_hidden_states=True).hidden_states[2][0, -1])
        before.append(hidden(kind, written(question), "", 2)[0][-1])
    expected = ((torch.stack(after) - torch.stack(before)).mean(0) @ torch.ones(32) / 32**0.5).item()
    assert pandas.read_csv("shift.csv")["shift"].item() == pytest.approx(expected, abs=1e-5)
