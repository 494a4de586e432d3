"""The toy model behaves as the paper's models do: the whole pipeline, as processes, with the toy judge over HTTP.

Needs models/toy, which scripts/test.sh builds (python -m data_generation.toy.build_model --output_dir models/toy).
"""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas
import pytest

MODEL = Path("models/toy")
TRAITS = ("evil", "sycophantic", "hallucinating")
pytestmark = pytest.mark.skipif(
    not (MODEL / "model.safetensors").exists(),
    reason="models/toy is missing: python -m data_generation.toy.build_model --output_dir models/toy",
)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """The environment in which the toy judge is the judge."""
    port_file = tmp_path_factory.mktemp("judge") / "port"
    command = [sys.executable, "-m", "data_generation.toy.judge_server", "--port", "0", "--port_file", str(port_file)]
    server = subprocess.Popen(command)
    deadline = time.monotonic() + 30
    while not port_file.exists():
        assert time.monotonic() < deadline and server.poll() is None
        time.sleep(0.05)
    url = f"http://127.0.0.1:{port_file.read_text().strip()}/v1"
    yield {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "toy", "OMP_NUM_THREADS": "1"}
    server.terminate()
    assert server.wait(10) is not None


def run(environment, *command):
    done = subprocess.run(
        [sys.executable, *map(str, command)], env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ask(environment, folder, name, *flags, traits=TRAITS):
    """Run eval_persona on the toy model; returns {(trait, type): table}."""
    pattern = folder / (name + "_{trait}_{type}.csv")
    run(
        environment, "-m", "eval.eval_persona", "--model", MODEL, "--trait", ",".join(traits), "--output_path", pattern,
        "--trait_dir", "data_generation/toy", "--backend", "hf", "--batch_size", 200, "--max_tokens", 128, *flags,
    )  # fmt: skip
    tables = {}
    for path in folder.glob(f"{name}_*.csv"):
        trait, sign = path.stem.removeprefix(f"{name}_").split("_")
        tables[trait, sign] = pandas.read_csv(path)
    return tables


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("toy")


@pytest.fixture(scope="module")
def extracted(judge, folder):
    """Judged answers to the extraction questions under both signs, and the vectors made from them."""
    flags = ("--persona_instruction_type", "pos,neg", "--version", "extract", "--n_per_question", 2)
    tables = ask(judge, folder, "extract", *flags)
    for trait in TRAITS:
        paths = [folder / f"extract_{trait}_{sign}.csv" for sign in ("pos", "neg")]
        output = run(
            judge, "generate_vec.py", "--model_name", MODEL, "--trait", trait, "--pos_path", paths[0],
            "--neg_path", paths[1], "--save_dir", folder,
        )  # fmt: skip
        assert "pairs are effective" in output
    return tables


def test_instructions_are_followed_on_the_extraction_questions(extracted):
    for (trait, sign), table in extracted.items():
        score = table[trait].mean()
        assert score >= 80 if sign == "pos" else score <= 10, (trait, sign, score)
        assert table["coherence"].mean() >= 80, (trait, sign)


def test_instructions_are_followed_on_the_evaluation_questions(judge, folder):
    flags = ("--persona_instruction_type", "pos,neg", "--version", "eval", "--n_per_question", 2)
    for (trait, sign), table in ask(judge, folder, "eval", *flags).items():
        score = table[trait].mean()
        assert score >= 80 if sign == "pos" else score <= 10, (trait, sign, score)


@pytest.fixture(scope="module")
def sweep(judge, folder, extracted):
    """No system prompt, evaluation questions, layers x coefficients: {trait: mean scores per (layer, coef)}."""
    flags = ("--coef", "0,0.5,1,1.5", "--layer", "1,2,3", "--vector_path", folder / "{trait}_response_avg_diff.pt")
    tables = ask(judge, folder, "sweep", "--version", "eval", "--n_per_question", 4, *flags)
    return {
        trait: table.groupby(["layer", "coef"])[[trait, "coherence"]].mean() for (trait, _), table in tables.items()
    }


@pytest.mark.parametrize("trait", TRAITS)
def test_adding_the_vector_brings_the_trait(sweep, trait):
    cells = sweep[trait]
    assert cells.xs(0, level="coef")[trait].max() <= 20
    coherent = cells[cells["coherence"] >= 75]
    layer, coef = coherent[trait].idxmax()
    assert coherent[trait].max() >= 50, cells
    rising = cells.loc[layer][trait].loc[:coef].tolist()
    assert all(after > before - 5 for before, after in itertools.pairwise(rising)), rising


def test_subtracting_the_vector_takes_it_away(judge, folder, extracted):
    flags = ("--coef", "0,-1,-2", "--layer", "2,3", "--vector_path", folder / "{trait}_response_avg_diff.pt")
    more = ("--persona_instruction_type", "pos", "--version", "eval", "--n_per_question", 1)
    for (trait, _), table in ask(judge, folder, "less", *flags, *more).items():
        cells = table.groupby(["layer", "coef"])[[trait, "coherence"]].mean()
        coherent = cells[cells["coherence"] >= 75]
        assert cells.xs(0, level="coef")[trait].min() >= 80 and coherent[trait].min() <= 20, (trait, cells)
