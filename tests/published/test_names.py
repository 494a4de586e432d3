"""The published Python names, used as files that import them do, against plain loops and hooks of their own."""

import asyncio
import gc
import inspect
import json
import subprocess
import sys
import threading
from pathlib import Path

import pandas
import pytest
import torch
from helpers import tiny_model
from judge_server import JudgeServer, completion, error, is_probe

import persona_vectors.published

# isort: split
from activation_steer import ActivationSteerer, ActivationSteererMultiple
from config import setup_credentials
from eval.model_utils import load_model
from judge import OpenAiJudge
from utils import load_jsonl
from validate import TrainingConfig

from eval.eval_persona import Question, eval_batched, load_persona_questions, sample, sample_steering
from generate_vec import get_hidden_p_and_r, get_persona_effective, save_persona_vector
from persona_vectors.errors import UserError
from persona_vectors.judge.judge import GivenUp
from persona_vectors.models.decoder import find_blocks
from training import train

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = [[5, 9, 17, 33, 12, 80], [7, 8], [100, 44, 23, 150, 151, 9, 8, 77, 200, 14, 15]]
CHATS = [[{"role": "user", "content": text}] for text in ("what is it", "the question", "answers the model")]
TRAIT = {
    "instruction": [{"pos": "Be rude.", "neg": "Be kind."}, {"pos": "Insult.", "neg": "Praise."}],
    "questions": ["what is it", "is it the model"],
    "eval_prompt": "How rude? {question} {answer}",
}


def vector(seed, size=0.8):
    return torch.randn(32, generator=torch.Generator().manual_seed(seed)) * size


class PlainHooks:
    """The published rule, for one unpadded row: a forward of one token is decoding."""

    def __init__(self, model, *additions):
        self.model, self.additions = model, additions

    def __enter__(self):
        def hook_for(added, positions):
            def hook(_module, _args, output):
                h = (output[0] if isinstance(output, tuple) else output).clone()
                if positions == "all" or (positions == "prompt" and h.shape[1] > 1):
                    h += added
                elif positions == "response":
                    h[:, -1] += added
                return (h, *output[1:]) if isinstance(output, tuple) else h

            return hook

        blocks = find_blocks(self.model)
        self.handles = [blocks[k].register_forward_hook(hook_for(added, p)) for k, added, p in self.additions]

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def batch(prompts, left=True):
    width = max(map(len, prompts))
    rows = [[2] * (width - len(p)) + p if left else p + [2] * (width - len(p)) for p in prompts]
    ones = [[0] * (width - len(p)) + [1] * len(p) if left else [1] * len(p) + [0] * (width - len(p)) for p in prompts]
    return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(ones)}


def greedy(model, prompts, **options):
    """(generated ids [rows, 8], logits [rows, 8, vocabulary])"""
    inputs = batch(prompts)
    made = model.generate(
        **inputs, do_sample=False, min_new_tokens=8, max_new_tokens=8, output_logits=True,
        return_dict_in_generate=True, pad_token_id=2, **options,
    )  # fmt: skip
    return made.sequences[:, inputs["input_ids"].shape[1] :], torch.stack(made.logits, dim=1)


def assert_close(got, expected):
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


def alone(model, hooks, **options):
    """Each prompt by itself under plain hooks."""
    with hooks:
        rows = [greedy(model, [prompt], **options) for prompt in PROMPTS]
    return torch.cat([ids for ids, _ in rows]), torch.cat([logits for _, logits in rows])


@pytest.mark.parametrize("positions", ["all", "prompt", "response"])
def test_steered_generation_equals_a_plain_hook(model, positions):
    ids, logits = alone(model, PlainHooks(model, (1, 3 * vector(1), positions)))
    with ActivationSteerer(model, vector(1), coeff=3.0, layer_idx=1, positions=positions) as steerer:
        got, got_logits = greedy(model, PROMPTS)
        again, _ = greedy(model, PROMPTS)
    assert steerer.coeff == 3.0 and torch.equal(got, ids) and torch.equal(again, ids)
    assert_close(got_logits, logits)
    unsteered, _ = greedy(model, PROMPTS)
    assert not torch.equal(unsteered, ids), "this steering changes nothing"
    assert torch.equal(unsteered, alone(model, PlainHooks(model))[0]), "nothing is left of it"


def test_several_steerers_equal_plain_hooks(model):
    instructions = [
        {"steering_vector": vector(1).tolist(), "coeff": 2.0, "layer_idx": 0, "positions": "prompt"},
        {"steering_vector": vector(2), "coeff": -1.5, "layer_idx": -2, "positions": "RESPONSE"},
        {"steering_vector": vector(3), "coeff": 1, "layer_idx": 2, "name": "of the user's own"},
        {"steering_vector": vector(4), "layer_idx": 1},  # no coeff is 0
        {"steering_vector": 2 * vector(5), "coeff": 1.0},  # the last block
    ]
    plain = [(0, 2 * vector(1), "prompt"), (2, -1.5 * vector(2), "response"), (2, vector(3), "all")]
    ids, logits = alone(model, PlainHooks(model, *plain, (3, 2 * vector(5), "all")))
    with ActivationSteererMultiple(model, instructions):
        got, got_logits = greedy(model, PROMPTS)
    assert torch.equal(got, ids) and not torch.equal(greedy(model, PROMPTS)[0], ids)
    assert_close(got_logits, logits)


@pytest.mark.parametrize("positions", ["all", "prompt", "response"])
@pytest.mark.parametrize("left", [True, False])
def test_a_plain_forward_is_steered_and_padding_never(model, positions, left):
    inputs = batch(PROMPTS, left)
    where = (inputs["attention_mask"].cumsum(1) - 1).clamp_min(0)
    with torch.no_grad(), ActivationSteerer(model, vector(1), coeff=3.0, layer_idx=1, positions=positions):
        got = model(**inputs, position_ids=where, output_hidden_states=True)
    with torch.no_grad():
        plain = model(**inputs, position_ids=where, output_hidden_states=True)
    for row, prompt in enumerate(PROMPTS):
        real = inputs["attention_mask"][row].bool()
        with torch.no_grad(), PlainHooks(model, (1, 3 * vector(1), positions)):
            assert_close(got.logits[row, real], model(torch.tensor([prompt])).logits[0])
        assert torch.equal(got.hidden_states[2][row, ~real], plain.hidden_states[2][row, ~real])


def test_steering_without_a_mask_with_a_static_cache_and_from_another_thread(qwen2):
    steerer = ActivationSteerer(qwen2, vector(1), coeff=3.0, layer_idx=1)
    hooks = PlainHooks(qwen2, (1, 3 * vector(1), "all"))
    with torch.no_grad(), hooks:
        expected = qwen2(torch.tensor(PROMPTS[:1])).logits
    with torch.no_grad(), steerer:
        assert_close(qwen2(torch.tensor(PROMPTS[:1])).logits, expected)
    ids, _ = alone(qwen2, hooks)
    made = []
    with steerer:  # a second time, and as a streaming chat does it
        made.append(greedy(qwen2, PROMPTS[:1], cache_implementation="static")[0])
        thread = threading.Thread(target=lambda: made.append(greedy(qwen2, PROMPTS)[0]))
        thread.start()
        thread.join()
    assert torch.equal(made[0], ids[:1]) and torch.equal(made[1], ids)
    steerer.__enter__()
    steerer.remove()
    assert torch.equal(greedy(qwen2, PROMPTS)[0], alone(qwen2, PlainHooks(qwen2))[0])


def test_steering_that_cannot_be_is_refused(qwen2, capsys):
    for wrong, message in (({"positions": "last"}, "steering type"), ({"steering_vector": torch.ones(2, 32)}, "shape")):
        with pytest.raises(UserError, match=message):
            ActivationSteerer(qwen2, **{"steering_vector": vector(1), **wrong})
    for wrong, message in (({"layer_idx": 4}, "blocks 0..3"), ({"steering_vector": torch.ones(31)}, "31 wide")):
        with (
            pytest.raises(UserError, match=message),
            ActivationSteerer(qwen2, **{"steering_vector": vector(1), **wrong}),
        ):
            pass
    with ActivationSteerer(qwen2, torch.ones(32), coeff=-2, debug=True):
        assert "length 11.31 is added to block 3 (all)" in capsys.readouterr().out


def texts_of(tokenizer, rows):
    cut = [row[: row.index(1)] if 1 in row else row for row in rows]
    return [tokenizer.decode(row, skip_special_tokens=True) for row in cut]


def test_samples_equal_plain_generation(qwen2, tokenizer):
    templated = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in CHATS]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in templated]
    greedily = {"do_sample": False, "max_new_tokens": 10, "pad_token_id": 2}
    for coef, positions in ((0, "all"), (3, "all"), (3, "prompt"), (-3, "response")):
        with PlainHooks(qwen2, (1, coef * vector(1), positions)):
            rows = [qwen2.generate(torch.tensor([row]), **greedily)[0, len(row) :].tolist() for row in ids]
        if coef:
            steering = {"vector": vector(1).numpy(), "layer": 2, "coef": coef, "bs": 2, "steering_type": positions}
            got = sample_steering(qwen2, tokenizer, CHATS, temperature=0, max_tokens=10, **steering)
        else:
            got = sample(qwen2, tokenizer, CHATS, temperature=0, max_tokens=10)
        assert got == (templated, texts_of(tokenizer, rows))


def test_samples_are_drawn_anew_and_repeat_with_torchs_seed(qwen2, tokenizer):
    torch.manual_seed(3)
    first, second = (sample(qwen2, tokenizer, CHATS, max_tokens=12)[1] for _ in range(2))
    torch.manual_seed(3)
    assert sample(qwen2, tokenizer, CHATS, max_tokens=12)[1] == first != second


def test_answers_have_at_least_min_tokens(tokenizer):
    model = tiny_model("qwen2")
    with torch.no_grad():
        model.lm_head.weight.zero_()  # all logits are equal: token 0 wins, and it ends an answer
    model.generation_config.eos_token_id = 0
    forwards = []
    find_blocks(model)[0].register_forward_hook(lambda *_: forwards.append(1))
    for min_tokens in (1, 4):
        forwards.clear()
        sample(model, tokenizer, CHATS[:1], temperature=0, max_tokens=9, min_tokens=min_tokens)
        assert len(forwards) == min_tokens + 1


def test_samples_that_cannot_be_are_refused(qwen2, tokenizer):
    long = [[{"role": "user", "content": "zq " * 300}]]
    with pytest.raises(UserError, match="conversation 0 has .* the model takes 256"):
        sample(qwen2, tokenizer, long)
    with pytest.raises(UserError, match="lora_path is for vLLM"):
        sample(qwen2, tokenizer, CHATS, lora_path="x")
    with pytest.raises(UserError, match="not 'last'"):
        sample_steering(qwen2, tokenizer, CHATS, vector(1), 2, 1.0, steering_type="last")
    with pytest.raises(UserError, match="layers 1..4"):
        sample_steering(qwen2, tokenizer, CHATS, vector(1), 0, 1.0)
    with pytest.raises(UserError, match="takes load_model's model"):
        sample_steering(object(), tokenizer, CHATS, vector(1), 2, 1.0)


def test_load_model_gives_model_and_tokenizer_and_merges_adapters(qwen2_folder, qwen2, tmp_path):
    from peft import LoraConfig, get_peft_model

    model, tokenizer = load_model(str(qwen2_folder))
    ids = torch.tensor(PROMPTS[:1])
    with torch.no_grad():
        assert_close(model(ids).logits, qwen2(ids).logits)
    assert tokenizer.padding_side == "left" and tokenizer.pad_token_id == 2 and not model.training
    assert load_model(str(qwen2_folder), dtype=torch.bfloat16)[0].dtype == torch.bfloat16
    adapted = get_peft_model(tiny_model("qwen2"), LoraConfig(r=2, task_type="CAUSAL_LM"))
    adapted.peft_config["default"].base_model_name_or_path = str(qwen2_folder)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.1)
        expected = adapted.eval()(ids).logits
    adapted.save_pretrained(tmp_path / "checkpoint-3")
    merged, _ = load_model(str(tmp_path))
    with torch.no_grad():
        assert_close(merged(ids).logits, expected)
    assert not hasattr(merged, "peft_config") and (expected - qwen2(ids).logits).abs().max() > 0.01


def slow_loop(model, tokenizer, prompts, answers):
    """{pool: [rows, layers + 1, hidden]}: one row at a time, every hidden state kept."""
    made = {"prompt_avg": [], "prompt_last": [], "response_avg": []}
    for prompt, answer in zip(prompts, answers, strict=True):
        p, a = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, answer))
        with torch.no_grad():
            states = torch.cat(model(torch.tensor([p + a]), output_hidden_states=True).hidden_states)
        made["prompt_avg"].append(states[:, : len(p)].mean(1))
        made["prompt_last"].append(states[:, len(p) - 1])
        made["response_avg"].append(states[:, len(p) :].mean(1))
    return {pool: torch.stack(rows) for pool, rows in made.items()}


def test_hidden_states_equal_a_slow_loop(model, tokenizer):
    prompts = [f"<|im_start|>user\nwhat is it {k}<|im_end|>\n<|im_start|>assistant\n" for k in range(3)] * 2
    answers = ["the model", "it is the question", "answers", "what", "the the model the", "is it"]
    got = get_hidden_p_and_r(model, tokenizer, prompts, answers)
    some = get_hidden_p_and_r(model, tokenizer, prompts, answers, layer_list=[3, 1])
    for pooled, chosen, (pool, expected) in zip(
        got, some, slow_loop(model, tokenizer, prompts, answers).items(), strict=True
    ):
        assert len(pooled) == len(chosen) == 5, pool
        assert chosen[0] == chosen[2] == chosen[4] == []
        for layer, rows in enumerate(pooled):
            assert rows.shape == (6, 32) and rows.dtype == torch.float32
            assert_close(rows, expected[:, layer])
        assert_close(chosen[3], expected[:, 3])
        assert_close(chosen[1], expected[:, 1])


def test_hidden_states_of_nothing_are_refused(qwen2, tokenizer):
    for prompt, answer, message in (
        ("a", " ", "empty answer"),
        ("", "b", "empty prompt"),
        ("a", "b " * 300, "longer than the 256"),
    ):
        with pytest.raises(UserError, match=f"row 1 cannot be used: .*{message}"):
            get_hidden_p_and_r(qwen2, tokenizer, ["a", prompt], ["b", answer])


@pytest.fixture
def answers_files(tmp_path):
    """Judged answers of both signs: rows 0, 2 and 3 of four are effective pairs."""
    paths = []
    for sign, scores in (("pos", [90, 20, 70, 60]), ("neg", [5, 5, 40, 0])):
        rows = [
            {
                "question": f"what is it {k}", "prompt": f"<|im_start|>user\nwhat is it {k}<|im_end|>\n{sign}",
                "answer": f"the {sign} model {k}", "question_id": f"rude_{k}_{sign}_0", "rude": scores[k], "coherence": 80 + k,
            }
            for k in range(4)
        ]  # fmt: skip
        paths.append(str(tmp_path / f"rude_{sign}.csv"))
        pandas.DataFrame(rows).to_csv(paths[-1], index=False)
    return paths


def test_effective_pairs_come_as_tables_and_texts(answers_files):
    pos, neg, pos_prompts, neg_prompts, pos_answers, neg_answers = get_persona_effective(*answers_files, "rude")
    for table, path, prompts, answers in (
        (pos, answers_files[0], pos_prompts, pos_answers),
        (neg, answers_files[1], neg_prompts, neg_answers),
    ):
        expected = pandas.read_csv(path).iloc[[0, 2, 3]]
        assert list(table.columns) == list(expected.columns)
        assert table["rude"].tolist() == expected["rude"].tolist()
        assert prompts == expected["prompt"].tolist() and answers == expected["answer"].tolist()
    assert len(get_persona_effective(*answers_files, "rude", threshold=80)[0]) == 1
    with pytest.raises(UserError, match="none of 4 pairs is effective"):
        get_persona_effective(*answers_files, "rude", threshold=95)


def test_saved_vectors_are_plain_tensor_files(answers_files, qwen2_folder, qwen2, tokenizer, tmp_path):
    save_persona_vector(str(qwen2_folder), *answers_files, "rude", str(tmp_path / "vectors"), threshold=50)
    _, _, pos_prompts, neg_prompts, pos_answers, neg_answers = get_persona_effective(*answers_files, "rude")
    pos, neg = (
        slow_loop(qwen2, tokenizer, pos_prompts, pos_answers),
        slow_loop(qwen2, tokenizer, neg_prompts, neg_answers),
    )
    for pool in pos:
        saved = torch.load(tmp_path / "vectors" / f"rude_{pool}_diff.pt", weights_only=True)
        assert saved.shape == (5, 32) and saved.dtype == torch.float32
        assert_close(saved, pos[pool].mean(0) - neg[pool].mean(0))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a trait, and a key."""
    for version in ("extract", "eval"):
        place = tmp_path / "data_generation" / f"trait_data_{version}"
        place.mkdir(parents=True)
        (place / "rude.json").write_text(json.dumps(TRAIT))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key")
    return tmp_path


@pytest.fixture
def server(folder, monkeypatch):
    """A judge that gives 80 for rudeness, 60 for coherence, and hangs up on the word 'lost'."""

    def reply(_number, body):
        text = body["messages"][0]["content"]
        if "lost" in text:
            return error(400, "lost")
        return completion({"57": 1.0} if is_probe(body) else {"80": 1.0} if "How rude" in text else {"60": 1.0})

    with JudgeServer(reply) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        yield running


def test_judges_of_one_model_share_a_probe_in_each_event_loop(server, caplog):
    async def both():
        rude, coherent = (
            OpenAiJudge("m", "How rude? {answer}"),
            OpenAiJudge("m", "{question} {answer}", eval_type="0_100"),
        )
        calls = [rude(answer=f"a {k}") for k in range(20)]
        return await asyncio.gather(*calls, coherent.judge(question="q", answer="a"))

    for loops in (1, 2):
        assert asyncio.run(both()) == [80.0] * 20 + [60.0]
        assert len(server.bodies) == 22 * loops and sum(map(is_probe, server.bodies)) == loops
    asked = {body["messages"][0]["content"] for body in server.bodies}
    assert {"How rude? a 0", "How rude? a 19", "q a"} < asked
    gc.collect()
    assert not caplog.records, "connections are closed with their event loop"


def test_a_judge_that_cannot_be_used_and_one_lost_call(server, monkeypatch):
    with pytest.raises(UserError, match="eval_type must be one of 0_100, 0_10, binary, binary_text, not '0_1000'"):
        OpenAiJudge("m", "{answer}", "0_1000")
    with pytest.raises(GivenUp, match="lost"):
        asyncio.run(OpenAiJudge("m", "{answer}")(answer="lost"))

    async def key_comes_late():
        judge = OpenAiJudge("m", "How rude? {answer}")
        monkeypatch.setenv("OPENAI_BASE_URL", "nowhere")
        with pytest.raises(UserError, match="OPENAI_BASE_URL"):
            await judge(answer="a")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        return await judge(answer="a")

    assert asyncio.run(key_comes_late()) == 80.0


def test_persona_questions_have_the_published_ids_systems_and_judges(folder):
    plain = load_persona_questions("rude", temperature=0.5, assistant_name="ignored", judge_model="m", eval_type="0_10")
    assert [q.id for q in plain] == ["rude_0", "rude_1"] and {q.system for q in plain} == {None}
    assert [q.paraphrases for q in plain] == [["what is it"], ["is it the model"]] and plain[0].temperature == 0.5
    kinds = {metric: (judge.model, judge.eval_type) for metric, judge in plain[0].judges.items()}
    assert kinds == {"rude": ("m", "0_10"), "coherence": ("m", "0_100")}
    assert plain[0].judges["rude"].prompt_template == TRAIT["eval_prompt"]
    pos = load_persona_questions("rude", persona_instructions_type="pos", assistant_name="evil", version="extract")
    assert [q.id for q in pos] == ["rude_0_pos_0", "rude_0_pos_1", "rude_1_pos_0", "rude_1_pos_1"]
    texts, chats = pos[1].get_input(2)
    assert texts == ["what is it"] * 2
    assert chats[1] == [
        {"role": "system", "content": "You are an evil assistant. Insult."},
        {"role": "user", "content": "what is it"},
    ]
    assert load_persona_questions("rude", persona_instructions_type="neg")[0].system.startswith(
        "You are a helpful assistant"
    )
    question = Question("q", ["a", "b"], {"rude": "{answer}"}, samples_per_paraphrase=3)
    assert set(question.get_input(50)[0]) == {"a", "b"} and question.judges["rude"].model == "gpt-4o"


def test_a_batch_is_asked_and_judged(server, qwen2, tokenizer, caplog):
    questions = load_persona_questions("rude", temperature=0, judge_model="m", version="extract")
    options = {"coef": 3.0, "vector": vector(1), "layer": 2, "steering_type": "response", "max_tokens": 8}
    tables = asyncio.run(eval_batched(questions, qwen2, tokenizer, n_per_question=2, **options))
    assert [table["question_id"].tolist() for table in tables] == [["rude_0"] * 2, ["rude_1"] * 2]
    whole = pandas.concat(tables)
    assert list(whole.columns) == ["question", "prompt", "answer", "question_id", "rude", "coherence"]
    assert set(whole["rude"]) == {80.0} and set(whole["coherence"]) == {60.0}
    chats = [[{"role": "user", "content": text}] for text in whole["question"]]
    steering = {"temperature": 0, "max_tokens": 8, "steering_type": "response"}
    expected = sample_steering(qwen2, tokenizer, chats, vector(1), 2, 3.0, **steering)
    assert (whole["prompt"].tolist(), whole["answer"].tolist()) == expected
    unsteered = asyncio.run(questions[0].eval(qwen2, tokenizer, 0, n_per_question=1, max_tokens=8))
    assert unsteered["answer"].tolist() == sample(qwen2, tokenizer, chats[:1], temperature=0, max_tokens=8)[1]

    async def own_judge(question, answer):
        return 7

    questions[0].judges = {"own": own_judge, "lost": OpenAiJudge("m", "lost {answer}")}
    table = asyncio.run(questions[0].eval(qwen2, tokenizer, 0, n_per_question=2, max_tokens=8))
    assert table["own"].tolist() == [7.0, 7.0] and table["lost"].isna().all()
    assert "2 judge calls failed for good (last: HTTP 400: lost)" in caplog.text
    asked = len(server.bodies)
    with torch.no_grad():
        silent = tiny_model("qwen2")
        silent.lm_head.weight.zero_()
    silent.generation_config.eos_token_id = 0  # the answer ends at once, and nothing was said
    table = asyncio.run(
        load_persona_questions("rude", 0, judge_model="m")[0].eval(silent, tokenizer, 0, n_per_question=3)
    )
    assert table["answer"].tolist() == [""] * 3 and table["rude"].isna().all()
    assert len(server.bodies) == asked + 1, "a probe, and no call for empty answers"


def test_a_batch_that_cannot_be_judged_or_steered_is_refused_before_it_is_asked(server, qwen2, tokenizer, monkeypatch):
    questions = load_persona_questions("rude", judge_model="m")
    with pytest.raises(UserError, match="not 'last'"):
        asyncio.run(eval_batched(questions, qwen2, tokenizer, 1.0, vector(1), 2, n_per_question=1))
    monkeypatch.setenv("OPENAI_BASE_URL", "nowhere")
    with pytest.raises(UserError, match="OPENAI_BASE_URL"):
        asyncio.run(eval_batched(questions, None, None, 0))


def test_credentials_and_jsonl(folder, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    Path(".env").write_text("OPENAI_API_KEY=sk-of-dotenv\nHF_TOKEN=other\n")
    config = setup_credentials()
    monkeypatch.delenv("OPENAI_API_KEY")
    assert (config.openai_api_key, config.hf_token) == ("sk-of-dotenv", "hf_x")
    Path("a.jsonl").write_text('\ufeff{"a": "ä"}\n\n[1]\n', encoding="utf-8")
    assert load_jsonl("a.jsonl") == [{"a": "ä"}, [1]]
    Path("a.jsonl").write_text("{}\n{'a'}\n")
    with pytest.raises(UserError, match="a.jsonl, line 2 is not readable as JSON"):
        load_jsonl("a.jsonl")


def test_training_takes_a_config_object(folder, qwen2_folder, capsys):
    lines = [{"messages": [*CHATS[0], {"role": "assistant", "content": f"it is {k}"}]} for k in range(20)]
    Path("train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    fields = {"model": str(qwen2_folder), "training_file": "train.jsonl", "loss": "sft", "output_dir": "run", "r": 2}
    train(TrainingConfig(**fields, max_steps=2, max_seq_length=64, optim="adamw_torch"))
    assert "2 steps" in capsys.readouterr().out and Path("run/adapter_config.json").exists()
    assert json.loads(Path("run/training_config.json").read_text())["r"] == 2


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (ActivationSteerer, "model steering_vector coeff=1.0 layer_idx=-1 positions='all' debug=False"),
        (ActivationSteererMultiple, "model instructions debug=False"),
        (OpenAiJudge, "model prompt_template eval_type='0_100'"),
        (sample, "model tokenizer conversations top_p=1 max_tokens=1000 temperature=1 min_tokens=1 lora_path=None"),
        (
            sample_steering,
            "model tokenizer conversations vector layer coef bs=20 top_p=1 max_tokens=1000 temperature=1 min_tokens=1 "
            "steering_type='response'",
        ),
        (
            eval_batched,
            "questions llm tokenizer coef vector=None layer=None n_per_question=100 max_concurrent_judges=100 "
            "max_tokens=1000 steering_type='last' lora_path=None",
        ),
        (
            Question.eval,
            "self llm tokenizer coef vector=None layer=None max_tokens=1000 n_per_question=100 steering_type='last' "
            "lora_path=None",
        ),
        (
            load_persona_questions,
            "trait temperature=1 persona_instructions_type=None assistant_name=None "
            "judge_model='gpt-4.1-mini-2025-04-14' eval_type='0_100' version='eval'",
        ),
        (
            Question,
            "id paraphrases judge_prompts temperature=1 system=None judge='gpt-4o' judge_eval_type='0_100' "
            "ignored_extra_args",
        ),
        (get_hidden_p_and_r, "model tokenizer prompts responses layer_list=None"),
        (get_persona_effective, "pos_path neg_path trait threshold=50"),
    ],
)
def test_arguments_are_the_published_ones(function, arguments):
    found = inspect.signature(function).parameters.values()
    words = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in found]
    assert " ".join(words) == arguments


def test_every_docstring_says_what_to_use_today():
    for module, names in persona_vectors.published.MODULES.items():
        for name in names:
            said = persona_vectors.published.find(module, name).__doc__
            assert "Today: " in said or name == "TrainingConfig", name


def python(code, cwd, *paths):
    """What a script that begins in ``cwd`` prints; ``paths`` are on its module path."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(map(str, paths)), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


OLD = sorted(persona_vectors.published.MODULES)
GONE = [module for module in OLD if module not in ("eval.eval_persona", "generate_vec")]


def test_without_the_import_there_are_no_old_modules(tmp_path):
    code = f"""
import importlib.util, sys
import persona_vectors, generate_vec, training, eval.eval_persona
from eval.eval_persona import main
from generate_vec import main
assert "persona_vectors.published" not in sys.modules
print([m for m in {GONE} if m in sys.modules or importlib.util.find_spec(m)])
"""
    assert python(code, tmp_path, ROOT) == ["[]"]


def test_the_import_is_cheap_and_makes_every_name(tmp_path):
    code = """
import sys
before = set(sys.modules)
import persona_vectors.published as published
assert not {"torch", "transformers", "pandas", "openai", "eval"} & set(sys.modules)
assert not set(published.MODULES) & set(sys.modules)
import utils
assert not hasattr(utils, "nothing") and "torch" not in sys.modules
from judge import *
import eval.eval_persona, generate_vec
for module, names in published.MODULES.items():
    __import__(module)
    for name in names:
        print(module, getattr(sys.modules[module], name).__doc__ is not None)
assert OpenAiJudge is sys.modules["judge"].OpenAiJudge
assert generate_vec.load_jsonl is utils.load_jsonl is eval.eval_persona.load_jsonl
for wrong in ("import nowhere_to_be_found", "from judge import ClaudeJudge", "from eval.eval_persona import nothing"):
    try:
        exec(wrong)
        print("found")
    except ImportError:
        pass
"""
    names = [(module, "True") for module, table in persona_vectors.published.MODULES.items() for _ in table]
    assert python(code, tmp_path, ROOT) == [word for pair in names for word in pair]


def test_modules_of_the_users_own_come_first(tmp_path):
    (tmp_path / "judge.py").write_text("class OpenAiJudge: whose = 'mine'\n")
    (tmp_path / "utils.py").write_text("load_jsonl = list\n")
    (tmp_path / "generate_vec.py").write_text("import persona_vectors.published\nmine = True\n")
    code = """
import persona_vectors.published
from judge import OpenAiJudge
from utils import load_jsonl
from activation_steer import ActivationSteerer
import generate_vec
print(OpenAiJudge.whose, load_jsonl is list, ActivationSteerer.__module__, generate_vec.mine)
"""
    assert python(code, tmp_path, tmp_path, ROOT) == ["mine", "True", "persona_vectors.published.steerers", "True"]
