"""cal_projection as users run it, against a plain loop: one row at a time, all hidden states kept."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time

import pandas
import pytest
import torch
from helpers import tiny_model, tiny_tokenizer

from persona_vectors.vectors.storage import save_vectors

AWKWARD = [
    'He said "no, thanks"',
    "line\nbreak\r\nand\rmore",
    "emoji 🙂 ünï",
    "NA",
    "null",
    "nan",
    " x ",
    "a,b;c",
    "0012",
]
TYPES = ["proj", "prompt_last_proj", "prompt_avg_proj", "cos_sim"]


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """Two vector files of the tiny model, [5, 32]: {path: tensor}."""
    folder = tmp_path_factory.mktemp("vectors")
    torch.manual_seed(7)
    made = {str(folder / f"{name}_response_avg_diff.pt"): torch.randn(5, 32) for name in ("evil", "kind")}
    for path, tensor in made.items():
        save_vectors(tensor, path)
    return made


def plain_values(model, tokenizer, prompt, answer, vector, layer, base=None):
    """{type: value} of one row, the published way; with ``base`` of the difference of activations."""
    p = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([p + tokenizer(answer, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        h = model(ids, output_hidden_states=True).hidden_states[layer][0]
        if base is not None:
            h = h - base(ids, output_hidden_states=True).hidden_states[layer][0]
    response, last, average = h[len(p) :].mean(0), h[len(p) - 1], h[: len(p)].mean(0)
    v = vector[layer]
    return {
        "proj": (response @ v / v.norm()).item(),
        "prompt_last_proj": (last @ v / v.norm()).item(),
        "prompt_avg_proj": (average @ v / v.norm()).item(),
        "cos_sim": (response @ v / v.norm() / response.norm()).item(),
    }


def command(model, path, vectors, *more):
    return [
        "-m", "eval.cal_projection", "--model_name", str(model), "--file_path", str(path), "--vector_path_list", *vectors,
        "--layer_list", *more,
    ]  # fmt: skip


@pytest.fixture
def run(run_stage):
    """The command line in this process."""
    return lambda arguments: run_stage(*arguments[1:])


def run_process(arguments, launcher=(sys.executable,)):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [*launcher, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=600
    )


def make_rows(n, seed=0):
    draw = random.Random(seed)
    words = "the model answers the question what is it because of".split()
    text = lambda: " ".join(draw.choice(words) for _ in range(draw.randint(1, 12)))  # noqa: E731
    return [(text(), text()) for _ in range(n)]


def write_csv(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["question", "prompt", "answer", "score"])
        writer.writerows(
            [f"q{k}", f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n", a, "1.50"]
            for k, (q, a) in enumerate(rows)
        )


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    return [dict(zip(header, row, strict=True)) for row in rows]


def close(value, expected):
    return float(value) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_csv_equals_the_plain_loop_and_is_otherwise_untouched(run, tmp_path, qwen2_folder, tokenizer, vectors):
    path = tmp_path / "answers.csv"
    rows = [(f"question {text}", text) for text in AWKWARD] + make_rows(10) + [("no answer", ""), ("long", "x " * 300)]
    write_csv(path, rows)
    before = read_csv(path)
    done = run(command(qwen2_folder, path, vectors, 2, 4, "--projection_type", *TYPES, "--token_budget", 300))
    assert done.returncode == 0, done.stderr
    after = read_csv(path)
    names = [
        f"tiny-qwen2_{v}_response_avg_diff_{kind}_layer{layer}"
        for v in ("evil", "kind")
        for layer in (2, 4)
        for kind in TYPES
    ]
    assert list(after[0]) == ["question", "prompt", "answer", "score", *names]
    assert [{k: row[k] for k in before[0]} for row in after] == before
    model = tiny_model("qwen2")
    for k, row in enumerate(after):
        for (path_, vector), layer in [(item, layer) for item in vectors.items() for layer in (2, 4)]:
            short = k >= len(rows) - 2  # these two have a prompt and no answer that can be used
            expected = plain_values(model, tokenizer, row["prompt"], "" if short else row["answer"], vector, layer)
            for kind in TYPES:
                value = row[f"tiny-qwen2_{os.path.basename(path_)[:-3]}_{kind}_layer{layer}"]
                if short and kind in ("proj", "cos_sim"):
                    assert value == ""
                else:
                    assert close(value, expected[kind]), (k, kind, layer)
    assert (
        "1 of 21 rows" in done.stdout and "empty answer" in done.stdout and "longer than the 256 tokens" in done.stdout
    )
    assert {p.name for p in tmp_path.iterdir()} == {"answers.csv", "answers.csv.provenance.json"}


def test_csv_as_pandas_writes_it(run, tmp_path, qwen2_folder, tokenizer, vectors):
    path, rows = tmp_path / "published.csv", make_rows(4)
    table = pandas.DataFrame(
        {"prompt": [q for q, _ in rows], "answer": [a for _, a in rows], "evil": [1.5, None, 3, 4]}
    )
    table.loc[1, "answer"] = None
    table.to_csv(path, index=False)
    (vector_path, vector), *_ = vectors.items()
    done = run(["-m", "eval.cal_projection", "--file_path", path, "--vector_path", vector_path, "--layer", 3,
                "--model_name", qwen2_folder, "--projection_type", "cos_sim"])  # fmt: skip
    assert done.returncode == 0, done.stderr
    after = pandas.read_csv(path)
    column = after["tiny-qwen2_evil_response_avg_diff_cos_sim_layer3"]
    assert (
        column.isna().tolist() == [False, True, False, False]
        and after["evil"].isna().tolist() == column.isna().tolist()
    )
    expected = plain_values(tiny_model("qwen2"), tokenizer, *rows[2], vector, 3)["cos_sim"]
    assert column[2] == pytest.approx(expected, rel=1e-4)


def test_jsonl_equals_the_plain_loop_and_bad_rows_stay(run, tmp_path, qwen2_folder, tokenizer, vectors):
    path = tmp_path / "chats.jsonl"
    user = lambda text: {"role": "user", "content": text}  # noqa: E731
    reply = lambda text: {"role": "assistant", "content": text}  # noqa: E731
    chats = [[{"role": "system", "content": "Be it."}, user(text), reply(text)] for text in AWKWARD]
    chats += [[user("a"), reply("b"), user("what"), reply("is it"), user("left over")]]
    good = len(chats)
    bad = [
        [user("q")],
        [user("q"), reply("")],
        [reply("a")],
        [{"role": "user"}, reply("x")],
        "text",
        [user("\ud83d"), reply("x")],
    ]
    lines = [json.dumps({"messages": chat, "id": k, "float": 1e5}) for k, chat in enumerate(chats + bad)]
    lines[3:3] = ["not json", ""]
    path.write_text("\n".join(lines))
    names = list(vectors)
    done = run(command(qwen2_folder, path, names, "1,3", "--projection_type", "proj,prompt_last_proj"))
    assert done.returncode == 0, done.stderr
    written = path.read_text().split("\n")
    assert written[3] == "not json" and written[-1] == ""
    after = [json.loads(line) for line in written if line and line != "not json"]
    assert [row["messages"] for row in after] == chats + bad and [row["id"] for row in after] == list(range(len(after)))
    model = tiny_model("qwen2")
    for row in after[:good]:
        turns = row["messages"][:3] if row["id"] == good - 1 else row["messages"][:-1]
        answer = row["messages"][len(turns)]["content"]
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        for layer in (1, 3):
            expected = plain_values(model, tokenizer, prompt, answer, vectors[names[1]], layer)
            for kind in ("proj", "prompt_last_proj"):
                assert close(row[f"tiny-qwen2_kind_response_avg_diff_{kind}_layer{layer}"], expected[kind])
    column = "tiny-qwen2_evil_response_avg_diff_proj_layer3"
    assert [row[column] for row in after[good:]] == [None] * len(bad)
    assert after[good + 1][column.replace("proj", "prompt_last_proj")] is not None  # an empty answer has a prompt
    for reason in (
        "no assistant message",
        "empty answer",
        "no prompt",
        "a message without text",
        "no messages",
        "half a char",
        "not a JSON",
    ):
        assert f"1 of {good + len(bad) + 1} rows have no value (or not all): {reason}" in done.stdout, done.stdout


def test_existing_columns_are_skipped_or_computed_anew(run, tmp_path, qwen2_folder, vectors):
    path = tmp_path / "a.csv"
    write_csv(path, make_rows(3))
    first = run(command(qwen2_folder, path, vectors, 2))
    content = path.read_text()
    again = run(command(qwen2_folder, path, vectors, 2))
    assert first.returncode == again.returncode == 0
    assert "exists already: skipped" in again.stdout and path.read_text() == content
    path.write_text(content.replace(content.split("\n")[-2].split(",")[-1], "7"))
    third = run(command(qwen2_folder, path, vectors, 2, "--overwrite"))
    assert third.returncode == 0 and "computed anew" in third.stdout and path.read_text() == content


def test_shift_against_a_base_model_with_and_without_an_adapter(run, tmp_path, qwen2_folder, tokenizer, vectors):
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(3)
    wrapped = get_peft_model(
        tiny_model("qwen2"), LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    wrapped.peft_config["default"].base_model_name_or_path = str(qwen2_folder)
    wrapped.save_pretrained(tmp_path / "adapter")
    merged = PeftModel.from_pretrained(tiny_model("qwen2"), tmp_path / "adapter").merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    tokenizer.save_pretrained(tmp_path / "merged")
    path, rows = tmp_path / "a.csv", make_rows(5)
    write_csv(path, rows)
    for name in ("adapter", "merged"):
        done = run(
            command(tmp_path / name, path, vectors, 3, "--base_model", qwen2_folder, "--projection_type", *TYPES)
        )
        assert done.returncode == 0, done.stderr
    base = tiny_model("qwen2")
    for row in read_csv(path):
        for vector_path, vector in vectors.items():
            expected = plain_values(merged, tokenizer, row["prompt"], row["answer"], vector, 3, base)
            for kind in TYPES:
                for name in ("adapter", "merged"):
                    column = f"{name}_minus_tiny-qwen2_{os.path.basename(vector_path)[:-3]}_{kind}_layer3"
                    assert close(row[column], expected[kind]), column


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """12,000 rows in one JSONL, and what one undisturbed process writes for the tiny model."""
    path = tmp_path_factory.mktemp("many") / "many.jsonl"
    lines = [
        json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]})
        for q, a in make_rows(12_000)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def column_of(path, name="tiny-qwen2_evil_response_avg_diff_proj_layer2"):
    return torch.tensor([json.loads(line)[name] for line in open(path)])


@pytest.fixture(scope="module")
def undisturbed(many, qwen2_folder, vectors):
    path = many.with_name("one.jsonl")
    path.write_text(many.read_text())
    done = run_process(command(qwen2_folder, path, list(vectors)[:1], 2))
    assert done.returncode == 0, done.stderr
    return column_of(path)


def test_a_kill_loses_one_window_at_most_and_the_same_command_goes_on(run, many, undisturbed, qwen2_folder, vectors):
    path = many.with_name("killed.jsonl")
    path.write_text(many.read_text())
    arguments = command(qwen2_folder, path, list(vectors)[:1], 2)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, *map(str, arguments)], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    parts = path.with_name("killed.jsonl.parts")
    while not list(parts.glob("0*.npz")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert path.read_text() == many.read_text()  # nothing half-written
    kept = {part.name: part.stat().st_mtime_ns for part in parts.glob("0*.npz")}
    assert 1 <= len(kept) < 3
    refused = run([*arguments, "--dtype", "bfloat16"])
    assert refused.returncode == 2 and "dtype was 'auto', now 'bfloat16'" in refused.stderr
    assert {part.name: part.stat().st_mtime_ns for part in parts.glob("0*.npz")} == kept
    done = run(arguments)
    assert done.returncode == 0 and not parts.exists(), done.stderr
    assert torch.equal(column_of(path), undisturbed)
    assert {p.name for p in path.parent.glob("killed*")} == {"killed.jsonl", "killed.jsonl.provenance.json"}


def test_two_processes_give_what_one_gives(many, undisturbed, qwen2_folder, vectors):
    path = many.with_name("two.jsonl")
    path.write_text(many.read_text())
    flags = "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no".split()
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *flags]
    done = run_process(command(qwen2_folder, path, list(vectors)[:1], 2), launcher)
    assert done.returncode == 0, done.stderr
    assert torch.equal(column_of(path), undisturbed)
    assert done.stdout.count("wrote tiny-qwen2_evil") == 1 and "process 1 of 2" in done.stderr
    assert not path.with_name("two.jsonl.parts").exists()


def test_bad_input_is_one_line_before_the_model_is_loaded(run, tmp_path, qwen2_folder, vectors):
    path, first = tmp_path / "a.csv", next(iter(vectors))
    write_csv(path, make_rows(2))
    other = tmp_path / "other_response_avg_diff.pt"
    save_vectors(torch.ones(5, 16), other)
    zero = tmp_path / "zero.pt"
    save_vectors(torch.zeros(5, 32), zero)
    (tmp_path / "no_answer.csv").write_text("prompt,text\na,b\n")
    (tmp_path / "no_messages.jsonl").write_text('{"text": 1}\n')
    (tmp_path / "list.jsonl").write_text('[\n{"messages": []}\n]\n')
    (tmp_path / "wide.csv").write_text("prompt,answer\na,b,c\n")
    model = ["--model_name", qwen2_folder]
    base = ["--file_path", path, "--vector_path", first, "--layer", 2, *model]
    cases = [
        ([*base, "--projection_type", "projj"], "did you mean proj"),
        ([*base[:4], "--layer", 5, *model], "layers 0..4"),
        ([*base[:2], "--layer", 2, *model], "give one of --vector_path and --vector_path_list"),
        ([*base, "--layer_list", 3], "give one of --layer and --layer_list"),
        (["--file_path", tmp_path / "none.csv", *base[2:]], "no file at"),
        (["--file_path", tmp_path / "no_answer.csv", *base[2:]], "needs one column 'answer' (it has prompt, text)"),
        (
            ["--file_path", tmp_path / "no_messages.jsonl", *base[2:]],
            '"messages" (it has text); write each row on a line',
        ),
        (["--file_path", tmp_path / "list.jsonl", *base[2:]], '"messages" (it has a list); write each row on a line'),
        (["--file_path", tmp_path / "wide.csv", *base[2:]], "3 fields under 2 columns"),
        ([*base[:2], "--vector_path", other, *base[4:]], "16 wide"),
        ([*base[:2], "--vector_path", zero, *base[4:]], "row 2 of"),
        ([*base, "--layr", 3], "unknown flag --layr"),
    ]
    for arguments, words in cases:
        done = run(["-m", "eval.cal_projection", *arguments])
        assert done.returncode == 2, (words, done.stderr)
        assert words in done.stderr and "Traceback" not in done.stderr, done.stderr
        assert done.stderr.strip().count("\n") == 0, done.stderr
    assert len(read_csv(path)) == 2 and not list(tmp_path.glob("*.parts"))


def test_tokenizer_is_cached_by_its_template_not_by_its_identity_alone():
    from persona_vectors.models.chat_template import folds_system_prompt

    tokenizer = tiny_tokenizer()
    assert not folds_system_prompt(tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
    assert folds_system_prompt(tokenizer)
