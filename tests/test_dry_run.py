"""What a pipeline says beforehand is what it then does: the toy's pipelines with --dry_run and --max_cost, and without."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import copy_of_project
from judge_server import JudgeServer

from data_generation.toy.judge_server import completion
from persona_vectors import models
from persona_vectors.asking.foresee import Foreseen
from persona_vectors.asking.rehearsal import rehearse
from persona_vectors.errors import UserError
from persona_vectors.judge.prices import Amount
from persona_vectors.models import chat_template

ROOT = Path(__file__).resolve().parents[1]
TOY = "--trait_dir data_generation/toy --backend hf --n_per_question 1 --max_tokens 12 --judge_model models/toy"
REDUCED = {
    "SAMPLE": "3", "SHOTS": "0,1", "COEFS": "0,1", "LAYERS": "2,3", "PREVENT": "1", "K": "10", "JOBS": "2",
    "FAMILIES": "toy_evil,toy_mistake_craft", "FAMILY": "dataset/toy_{trait}", "SKIP": "toy_mistake_*/misaligned_1",
    "CONFIG": "configs/train_toy.json", "trait_dir": "data_generation/toy",
}  # fmt: skip


class Judge:
    """The toy judge, which also counts the tokens that it reads, by the toy model's tokenizer."""

    def __init__(self):
        self.tokenizer, self.used = models.load_tokenizer(models.resolve(str(ROOT / "models/toy"))), []

    def __call__(self, _n, body):
        text = chat_template.render(self.tokenizer, body["messages"])
        self.used.append(len(chat_template.token_ids(self.tokenizer, text)))
        usage = {"prompt_tokens": self.used[-1], "completion_tokens": 1}
        return 200, {}, completion(body) | {"usage": usage}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A clone with the toy model and the toy's training sets."""
    assert (ROOT / "models/toy/config.json").exists(), "bash scripts/test.sh makes the toy model"
    folder = tmp_path_factory.mktemp("clone")
    copy_of_project(folder)
    (folder / "models").mkdir()
    for name in ("toy", "twin"):  # one for each test: what is there is not counted
        os.symlink(ROOT / "models/toy", folder / "models" / name)
    for family in ("toy_evil", "toy_hallucinating", "toy_mistake_craft"):
        for version in ("normal", "misaligned_1", "misaligned_2"):
            (folder / "dataset" / family).mkdir(parents=True, exist_ok=True)
            (folder / "dataset" / family / f"{version}.jsonl").write_text('{"messages": []}\n' * 30)
    return folder


@pytest.fixture(scope="module")
def judge():
    return Judge()


@pytest.fixture(scope="module")
def server(judge):
    with JudgeServer(judge) as server:
        yield server


@pytest.fixture(scope="module")
def pipeline(project, server):
    """pipeline("generate_vec.sh cpu ...", NAME=value) -> what bash did."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    given = {**os.environ, "PATH": path, "VIRTUAL_ENV": sys.prefix, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    given |= {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "x", "PERSONA_VECTORS_CACHE": "off"}

    def run(command, **settings):
        line = ["bash", "-c", f"bash scripts/{command}"]
        return subprocess.run(line, cwd=project, env=given | settings, capture_output=True, text=True)

    return run


def listing(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "__pycache__" not in path.parts}


def said(text):
    """(answers, calls, tokens of judges) of a dry run's total."""
    found = re.search(r"total: ([\d,]+) answers, ([\d,]+) judge calls; .*\n.*?([\d,]+) read by judges", text)
    return tuple(int(number.replace(",", "")) for number in found.groups())


def test_a_pipeline_makes_the_calls_that_it_said(pipeline, project, server, judge):
    """The vectors are not there when the sweep is counted; what is done is not counted again."""
    before = listing(project)
    vectors = f"generate_vec.sh cpu models/toy evil -- {TOY} --n_questions 2"
    sweep = f"eval_steering.sh cpu models/toy evil 0,1 2,3 -- {TOY} --n_questions 2"
    foreseen = {}
    for command in (vectors, sweep):
        dry = pipeline(f"{command} --dry_run")
        assert dry.returncode == 0, dry.stderr
        foreseen[command] = said(dry.stdout)
    assert "not there yet: persona_vectors/toy/evil_response_avg_diff.pt" in dry.stdout
    assert not server.bodies and listing(project) == before
    for command, output in (
        (vectors, "eval_persona_extract/toy/evil_*.csv"),
        (sweep, "eval_persona_eval/toy/evil_*.csv"),
    ):
        answers, calls, tokens = foreseen[command]
        asked = len(judge.used)
        done = pipeline(command)
        assert done.returncode == 0, done.stderr
        assert len(judge.used) - asked == calls
        assert sum(judge.used[asked:]) == pytest.approx(tokens, rel=0.02)
        assert list(project.glob(output)) and answers == {vectors: 20, sweep: 6}[command]
    assert said(pipeline(f"{sweep} --dry_run").stdout) == (0, 0, 0)


def test_the_whole_reproduction_is_foreseen_and_a_limit_ends_it_before_it_begins(pipeline, project, server, tmp_path):
    prices, before, asked = tmp_path / "prices.json", listing(project), len(server.bodies)
    prices.write_text(json.dumps({"models": {"models/toy": {"input": 1.0, "output": 0.0}}}))
    dry = pipeline(f"reproduce.sh models/twin evil,hallucinating -- {TOY} --prices {prices} --max_cost 0.1", **REDUCED)
    assert dry.returncode == 3, dry.stderr
    assert re.search(
        r"error: this run costs at least \$\d.\d+, more than --max_cost 0.1: nothing was asked", dry.stderr
    )
    assert len(server.bodies) == asked and listing(project) == before
    steps = re.findall(r"^[a-z][a-z ]+? {2,}([\d,]+) ", dry.stdout.partition("=== all steps")[2], re.MULTILINE)
    # of two traits: 7 cells of 20 questions (with two random vectors), and 20 questions under 5 instructions; the other steps
    # were run once and asked as many questions as this, with a call to begin with and two a question
    assert steps == ["400", "280", "200", "400", "360", "200", "120", "1,960"]
    assert said(dry.stdout)[:2] == (1960, 2 * 1960 + 31) and "trainings: 20 to run (0 are there)" in dry.stdout
    assert "whether there will be 1 effective pairs of each trait is not known" in dry.stdout


def test_a_training_early_in_a_long_plan_is_found(tmp_path):
    """Where it is not, it is planned, and counted, a second time."""
    (tmp_path / "plan").write_text("output_dir=output/x\0" + "word\0" * 300_000)
    command = "source scripts/pipeline.sh; is_made output/x && ! is_made output/y && echo both"
    given = {**os.environ, "PLAN": str(tmp_path / "plan")}
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=given, capture_output=True, text=True)
    assert done.stdout == "both\n", done.stderr


CONFIG = "configs/train_toy.json"
ASKS = ["python", "-m", "eval.eval_persona", "--model", "output/x", "--trait", "evil", "--output_path", "x.csv"]


def one(answers=2):
    return Foreseen(answers, 0, 10, Amount(2, None, 20), None, [], None)


def test_a_model_to_come_is_stood_in_for_by_its_base(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    seen = []

    def call(module, flags):
        seen.append((module, flags))
        return one() if module == "eval.eval_persona" else NotImplemented

    plan = [
        ["step", "first"], ["python", "training.py", CONFIG, "model=models/toy", f"output_dir={tmp_path}/x"],
        ["ln", "-sfn", f"{tmp_path}/x", f"{tmp_path}/link"], ["python", "generate_vec.py", "--trait", "evil"],
        [*ASKS[:4], f"{tmp_path}/link", *ASKS[5:]],
        ["step", "second"], [*ASKS[:4], "models/toy", *ASKS[5:]], [*ASKS[:4], f"{tmp_path}/x", *ASKS[5:]],
    ]  # fmt: skip
    found = rehearse(plan, call)
    asked = [flags for module, flags in seen if module == "eval.eval_persona"]
    assert [flags[1] for flags in asked] == ["models/toy"] * 3
    assert [flags[-1] == "--overwrite" for flags in asked] == [True, False, True]
    assert [sum(run.answers for run in runs) for runs in found.steps.values()] == [2, 4]
    assert found.trainings == [f"{tmp_path}/x"] and found.uncounted == {"generate_vec": 1}
    assert found.whole.dollars == Amount(0, 0, 0) and found.whole.answer_tokens == Amount(6, None, 60)


def test_a_model_that_nothing_makes_is_refused_with_what_the_pipeline_begins_with(monkeypatch):
    monkeypatch.chdir(ROOT)
    builds = ["python", "-m", "data_generation.toy.build_model", "--output_dir", "models/none"]
    with pytest.raises(
        UserError, match="no model at models/none.*begins with: python -m data_generation.toy.build_model"
    ):
        rehearse([builds, [*ASKS[:4], "models/none", *ASKS[5:]]], lambda *_: NotImplemented)
    with pytest.raises(UserError, match="no model at output/x"):
        rehearse([ASKS], lambda *_: one())
