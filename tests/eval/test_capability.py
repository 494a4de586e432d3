"""eval.capability from end to end: what steering costs, on a tiny model and with lm-evaluation-harness itself."""

import json
import sys

import lm_eval
import pandas
import pytest
import torch
from helpers import tiny_model, tiny_tokenizer
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from persona_vectors.capability.harness import SteeredLM
from persona_vectors.capability.sheet import COLUMNS
from persona_vectors.capability.subject import Subject, first
from persona_vectors.engines.hf import HFEngine
from persona_vectors.files import provenance
from persona_vectors.files.journal import Journal
from persona_vectors.files.jsonfile import write_json
from persona_vectors.sharing.formats import About, norms_text, save_both
from persona_vectors.vectors.shuffled import save_shuffled
from persona_vectors.vectors.storage import fingerprint, random_like

CHOICE = """
task: tiny_choice
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
ANSWER = """
task: tiny_answer
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["</never>"], max_gen_toks: 4, do_sample: false}
metric_list: [{metric: exact_match}]
"""
WHOLE = """
task: tiny_whole
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: bits_per_byte}]
"""
GROUP = """
group: tiny_group
task: [tiny_choice, tiny_answer]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
"""
WORDS = ["what", " is", " it", " the", " model", " answers", " question"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a model, a vector, and a folder of tasks."""
    root = tmp_path_factory.mktemp("world")
    tiny_model("qwen2").save_pretrained(root / "tiny")
    tiny_tokenizer().save_pretrained(root / "tiny")
    torch.manual_seed(0)
    torch.save(torch.randn(5, 32) * 2, root / "v.pt")
    (root / "tasks").mkdir()
    data = root / "tasks" / "questions.jsonl"
    rows = [
        {"question": "".join(WORDS[: 2 + k % 5]), "choices": [WORDS[k % 7] + WORDS[k % 3], WORDS[-1 - k % 4], " it is"], "answer": k % 3}
        for k in range(12)
    ]  # fmt: skip
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for name, text in {"choice": CHOICE, "answer": ANSWER, "whole": WHOLE, "group": GROUP}.items():
        (root / "tasks" / f"{name}.yaml").write_text(text.replace("DATA", str(data)))
    return root


@pytest.fixture(autouse=True)
def at_home(world, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(world)


BASE = ["eval.capability", "--model", "tiny", "--vector_path", "v.pt", "--layer", 2]
TASKS = ["--task_dir", "tasks", "--batch_size", 4]


def by_lm_eval(world, task, steering=(), **options):
    """lm-eval's results for a model of its own class, or one that is steered by hand."""
    engine = HFEngine.of(tiny_model("qwen2"), tiny_tokenizer())
    scorer = (SteeredLM if steering else HFLM)(engine.model, tokenizer=engine.tokenizer, batch_size=4)
    if steering:
        scorer.interventions = steering
    manager = TaskManager(include_path=str(world / "tasks"), include_defaults=False)
    return lm_eval.simple_evaluate(model=scorer, tasks=[task], task_manager=manager, **options)["results"][task]


def test_from_end_to_end(run_stage, world, tmp_path):
    names = ["tiny_choice", "tiny_answer", "kl", "perplexity", "refusals"]
    command = [
        *BASE,
        "--coef",
        "0,3",
        "--controls",
        1,
        "--tasks",
        ",".join(names),
        *TASKS,
        "--output",
        tmp_path / "out" / "o",
    ]
    done = run_stage(*command, "--limit", 6, "--max_tokens", 4)
    assert done.returncode == 0, done.stderr
    table = pandas.read_csv(tmp_path / "out" / "o.csv", keep_default_na=False)
    assert tuple(table.columns) == COLUMNS
    assert table.groupby(["coef", "control"]).ngroups == 3 and set(table["control"]) == {"", "random 1"}
    assert len(table) == 3 * 7 and set(table["task"]) == set(names) and set(table["n"].astype(int)) <= set(range(1, 7))
    cells = table.set_index(["task", "measure", "coef", "control"])["value"].astype(float)

    own = torch.load("v.pt")
    for control, vectors in {"": own, "random 1": random_like(own, 1)}.items():
        from persona_vectors.steering.intervention import Intervention

        acts = [Intervention(2, vectors[2], 3.0)]
        for task in names[:2]:
            found = by_lm_eval(world, task, acts, limit=6)
            for measure in ("acc", "acc_norm", "exact_match"):
                if f"{measure},none" in found:
                    assert cells[task, measure, 3.0, control] == found[f"{measure},none"], (task, measure, control)
    for task in names[:2]:
        found = by_lm_eval(world, task, limit=6)
        measures = [name for t, name, coef, _ in cells.index if t == task and not coef]
        assert [cells[task, name, 0.0, ""] for name in measures] == [found[f"{name},none"] for name in measures]
    assert cells["kl", "kl", 0.0, ""] == 0 < cells["kl", "kl", 3.0, ""]

    record = json.loads((tmp_path / "out" / "o.json").read_text())
    assert len(record["cells"]) == 15 and record["positions"] == "response" and len(record["requests"]["harmful"]) == 6
    refused = next(cell for cell in record["cells"] if cell["task"] == "refusals")
    assert len(refused["details"]["answers"]["harmless"]) == 6
    assert (tmp_path / "out" / "o.png").stat().st_size > 10_000
    assert "wrote" in done.stdout.splitlines()[-1] and "3 at 2 random 1" in done.stdout
    assert not list((tmp_path / "out").glob("*journal*"))

    again = run_stage(*command, "--limit", 6, "--max_tokens", 4)
    assert again.returncode == 0 and "is not made again" in again.stdout and "tiny_choice acc" in again.stdout
    other = run_stage(*command, "--limit", 5, "--max_tokens", 4)
    assert other.returncode == 2 and "limit was 6.0, now 5.0" in other.stderr


def test_doses_and_shuffled_controls(run_stage, world, tmp_path):
    rows = torch.load("v.pt")
    about = About(trait="t", kind="response_avg_diff", mean_norms=norms_text([2.0, 3.0, 4.0, 5.0, 6.0]))
    vector, _ = save_both(rows, tmp_path, about)
    save_shuffled(-rows[None], vector, rows)
    done = run_stage(
        "eval.capability", "--model", "tiny", "--vector_path", vector, "--layer", "2,3", "--dose", "0,0.5", "--controls", 1,
        "--control", "shuffled", "--tasks", "perplexity", "--limit", 1, "--output", tmp_path / "o",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pandas.read_csv(tmp_path / "o.csv", keep_default_na=False)
    assert tuple(table.columns) == (*COLUMNS, "dose") and set(table["control"]) == {"", "shuffled 1"}
    for row in table[table["dose"] != 0].itertuples():
        assert row.dose == 0.5 == pytest.approx(row.coef * float(rows[row.layer].norm()) / (row.layer + 2), rel=1e-4)
    assert len(table) == 6
    assert "(dose 0.5) shuffled 1" in done.stdout and f"{table['coef'].max():g} at " in done.stdout
    best = {"broken_from": {"2": 0.4}, "min_coherence": 75}
    with provenance.writing(tmp_path / "t_best.json", provenance.record(vector=fingerprint(vector, rows))):
        write_json(tmp_path / "t_best.json", best)
    command = ["eval.capability", "--model", "tiny", "--vector_path", vector, "--layer", 2, "--tasks", "perplexity"]
    warned = run_stage(*command, "--limit", 1, "--dose", 0.5, "--output", tmp_path / "p")
    assert "coherence fell below 75 at such doses: 0.5 at layer 2 (from 0.4 on)" in warned.stdout.splitlines()[0]


def test_a_group_is_told_by_its_aggregate_and_its_parts_are_in_the_record(run_stage, world, tmp_path):
    done = run_stage("eval.capability", "--model", "tiny", "--tasks", "tiny_group", *TASKS, "--output", tmp_path / "g")
    assert done.returncode == 0, done.stderr
    (row,) = pandas.read_csv(tmp_path / "g.csv").to_dict("records")
    assert (row["task"], row["measure"], row["coef"]) == ("tiny_group", "acc", 0)
    assert row["value"] == by_lm_eval(world, "tiny_choice")["acc,none"]
    (cell,) = json.loads((tmp_path / "g.json").read_text())["cells"]
    assert {"tiny_choice", "tiny_answer"} <= set(cell["details"]["results"])


def test_texts_that_are_scored_whole_and_options_of_tasks(run_stage, world, tmp_path):
    command = [*BASE, "--coef", 3, "--tasks", "tiny_whole,tiny_choice", *TASKS, "--output", tmp_path / "w"]
    done = run_stage(*command, "--apply_chat_template", "--steering_type", "all")
    assert done.returncode == 0, done.stderr
    found = pandas.read_csv(tmp_path / "w.csv").set_index("measure")["value"]
    from persona_vectors.steering.intervention import Intervention

    acts = [Intervention(2, torch.load("v.pt")[2], 3.0, "all")]
    assert found["acc"] == by_lm_eval(world, "tiny_choice", acts, apply_chat_template=True)["acc,none"]
    refused = run_stage(*command, "--steering_type", "prompt")
    assert refused.returncode == 2 and "tiny_whole scores whole texts, which have no prompt" in refused.stderr


def test_questions_that_are_cut_are_told(run_stage, world, tmp_path):
    tiny_model("qwen2", max_position_embeddings=6).save_pretrained(tmp_path / "short")
    tiny_tokenizer().save_pretrained(tmp_path / "short")
    command = [*BASE[:1], "--model", tmp_path / "short", *BASE[3:], "--coef", "0,3", "--tasks", "tiny_choice", *TASKS]
    done = run_stage(*command, "--output", tmp_path / "c")
    assert done.returncode == 0, done.stderr
    cells = json.loads((tmp_path / "c.json").read_text())["cells"]
    counts = [cell["details"]["cut_on_the_left"] for cell in cells]
    assert counts[0] == counts[1] > 0
    assert done.stderr.count(f"tiny_choice: {counts[0]} times a text was longer than the model takes") == 2


def test_what_is_measured_is_kept(run_stage, world, tmp_path, monkeypatch):
    """A run that is stopped goes on: nothing is measured twice, the unsteered cell once for all layers."""
    command = ["eval.capability", "--model", "tiny", "--vector_path", "v.pt", "--layer", "1,2", "--coef", "0,2"]
    command += ["--tasks", "perplexity,kl", "--limit", 2, "--output", tmp_path / "r", "--max_tokens", 4]
    measure, made = Subject.measure, []

    def stopped(self, task, interventions, sheet):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(task)
        return measure(self, task, interventions, sheet)

    monkeypatch.setattr(Subject, "measure", stopped)
    assert run_stage(*command).returncode == 130
    assert (
        len(Journal(tmp_path / "r.csv", Journal.settings_of(tmp_path / "r.csv")).records) == 4
    )  # the answers of kl too
    made.clear()
    monkeypatch.setattr(Subject, "measure", lambda *args: made.append(args[1]) or measure(*args))
    other = run_stage(*command[:-1], 5)
    assert other.returncode == 2 and "max_tokens was 4, now 5" in other.stderr and not made
    assert run_stage(*command).returncode == 0
    assert len(made) == 3 and len(pandas.read_csv(tmp_path / "r.csv")) == 8
    whole = run_stage(*command[:-3], tmp_path / "s", *command[-2:])
    assert whole.returncode == 0 and (tmp_path / "r.csv").read_text() == (tmp_path / "s.csv").read_text()


REFUSED = {
    "an unknown task": (["--tasks", "arc_eazy"], "lm-eval has no task 'arc_eazy' (did you mean arc_easy?)"),
    "data out of reach": (["--tasks", "arc_easy"], "task arc_easy cannot be loaded: Couldn't reach 'allenai/ai2_arc'"),
    "code that is run": (["--tasks", "unsafe", "--task_dir", "odd"], "task unsafe runs code that the model writes"),
    "a broken task": (["--tasks", "broken", "--task_dir", "odd"], "task broken cannot be loaded: "),
    "no task file": (["--tasks", "x", "--task_dir", "tiny"], "--task_dir tiny holds no task file (.yaml)"),
    "a folder and no task": (["--task_dir", "tasks"], "--tasks names none of its tasks"),
    "a layer out of range": (["--coef", "1", "--layer", "9"], "layer 9 does not exist"),
    "half a steering": (["--coef", "1", "--vector_path=v.pt"], "--coef 1 needs --layer"),
    "several vectors": (["--coef", "1", "--layer", "1", "--vector_path", "{trait}.pt"], "one vector at a time"),
    "vllm": (["--backend", "vllm", "--tasks", "drawn", "--task_dir", "odd"], "--backend vllm cannot run here: "),
    "half a question": (["--limit", "1.5"], "--limit takes a whole number, or a share"),
    "no request": (["--harmful_path", "none.txt"], "the harmful requests in none.txt cannot be read"),
    "no model": (["--model", "models/none"], "no model at models/none"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_before_a_model_is_loaded(run_stage, world, tmp_path, monkeypatch, name):
    (world / "odd").mkdir(exist_ok=True)
    data = f"{world}/tasks/questions.jsonl"
    broken = CHOICE.replace("tiny_choice", "broken").replace("DATA", "nowhere.jsonl")
    (world / "odd" / "broken.yaml").write_text(broken)
    unsafe = ANSWER.replace("tiny_answer", "unsafe").replace("DATA", data)
    (world / "odd" / "unsafe.yaml").write_text(f"{unsafe}unsafe_code: true\n")
    drawn = ANSWER.replace("tiny_answer", "drawn").replace("DATA", data)
    (world / "odd" / "drawn.yaml").write_text(drawn.replace("do_sample: false", "do_sample: true, temperature: 1.0"))
    monkeypatch.setattr(HFEngine, "__init__", lambda *_: pytest.fail("a model was loaded"))
    flags, words = REFUSED[name]
    model = [] if "--model" in flags else ["--model", "tiny"]
    vector = ["--vector_path", "v.pt"] if "--coef" in flags and not any("vector" in str(f) for f in flags) else []
    done = run_stage("eval.capability", *model, *vector, *flags, "--output", tmp_path / "x")
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.glob("x*"))


ENDS_IN_ONE_LINE = {
    "longer than the model": (ANSWER.replace("max_gen_toks: 4", "max_gen_toks: 5000"), "AssertionError: Invalid conf"),
    "examples that are not there": (CHOICE + "num_fewshot: 50\n", "Sample larger than population"),
    "no metric": (CHOICE.partition("metric_list")[0] + "metric_list: []\n", "gives no number"),
}


@pytest.mark.parametrize("case", ENDS_IN_ONE_LINE)
def test_a_task_that_fails_is_one_line_and_what_was_measured_is_kept(run_stage, world, tmp_path, case):
    text, words = ENDS_IN_ONE_LINE[case]
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "t.yaml").write_text(text.replace("DATA", f"{world}/tasks/questions.jsonl"))
    name = text.split()[1]
    command = [*BASE, "--coef", 1, "--task_dir", tmp_path / "tasks", "--limit", 1, "--output", tmp_path / "o"]
    done = run_stage(*command, "--tasks", f"perplexity,{name}")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    (said,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert f"task {name}" in said and words in said
    kept = Journal(tmp_path / "o.csv", Journal.settings_of(tmp_path / "o.csv")).records
    assert [record["key"] for record in kept] == ["2|1.0|perplexity"]


def test_a_model_without_a_chat_template_is_refused_before_it_is_loaded(run_stage, world, tmp_path, monkeypatch):
    tiny_model("qwen2").save_pretrained(tmp_path / "base")
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "base")
    command = ["eval.capability", "--model", tmp_path / "base", *TASKS, "--limit", 1, "--output", tmp_path / "o"]
    with monkeypatch.context() as unloaded:
        unloaded.setattr(HFEngine, "__init__", lambda *_: pytest.fail("a model was loaded"))
        for more in (["--tasks", "kl,tiny_choice"], ["--tasks", "tiny_choice", "--apply_chat_template"]):
            done = run_stage(*command, *more)
            assert (
                done.returncode == 2 and done.stderr.count("has no chat template") == done.stderr.count("error: ") == 1
            )
    assert run_stage(*command, "--tasks", "tiny_choice").returncode == 0


def test_without_lm_eval(run_stage, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "lm_eval"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    done = run_stage("eval.capability", "--model", "tiny", "--tasks", "mmlu", "--output", tmp_path / "x")
    assert done.returncode == 2 and 'pip install "lm_eval==0.4.13"' in done.stderr and done.stderr.count("\n") == 1
    done = run_stage(
        "eval.capability", "--model", "tiny", "--tasks", "perplexity", "--limit", 1, "--output", tmp_path / "y"
    )
    assert done.returncode == 0 and (tmp_path / "y.csv").exists()


def test_limits_are_lm_evals():
    from lm_eval.evaluator_utils import get_sample_size

    for limit in (None, 1, 3, 0.01, 0.5, 0.99, 100):
        items = list(range(7))
        task = type("Task", (), {"eval_docs": items})
        size = get_sample_size(task, limit)
        assert first(items, limit) == items[:size]
