"""What scripts/reproduce.sh asks for between the sweep and the monitoring: the price of steering, and what vectors are worth.

The stages themselves are run in their own tests; here a clone's ``python`` writes down what it is asked.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SWEEP = "eval_persona_eval/m/{trait}_steering_layer2,3_coef{coefs}"


@pytest.fixture
def clone(tmp_path):
    """Scripts whose stages only say what they were asked."""
    shutil.copytree("scripts", tmp_path / "scripts")
    shutil.copytree("configs", tmp_path / "configs")
    note = f'echo "$(basename "$0") $*" >>{tmp_path}/asked'
    for script in ("generate_vec", "eval_steering", "mitigation", "finetune", "screening"):
        (tmp_path / "scripts" / f"{script}.sh").write_text(f"{note}\n")
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    real = f'if [ "$1" = -c ]; then exec {sys.executable} "$@"; fi'
    python.write_text(f'#!/bin/bash\n{real}\nshift\necho "$*" >>{tmp_path}/asked\n')
    python.chmod(0o755)
    return tmp_path


def asked(clone, *more, coefs="0,1", **settings) -> list[str]:
    command = ["bash", "scripts/reproduce.sh", "my/m", "evil,kind", *more]
    path = f"{clone / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "VIRTUAL_ENV": "x", "CUDA_VISIBLE_DEVICES": "", "COEFS": coefs}
    environment |= {"LAYERS": "2,3", "LAYER": "3", **settings}
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return [line.strip() for line in (clone / "asked").read_text().splitlines()]


def best(clone, layer, coefs="0,1"):
    for trait in ("evil", "kind"):
        path = Path(f"{clone}/{SWEEP.format(trait=trait, coefs=coefs)}_best.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"layer": layer}))


def of(lines, stage) -> list[str]:
    return [line for line in lines if line.startswith(stage)]


def test_the_price_and_the_worth_of_each_trait(clone):
    best(clone, 3)
    lines = asked(clone, "--", "--load_in_4bit", TASKS="kl,mmlu", CONTROLS="4")
    sweep, vectors = SWEEP.format(trait="{trait}", coefs="0,1"), "persona_vectors/m/{trait}_response_avg_diff.pt"
    assert of(lines, "eval_steering.sh") == [
        "eval_steering.sh cpu my/m evil,kind 0,1 2,3 -- --controls 4 --load_in_4bit"
    ]
    evil, kind = of(lines, "eval.capability")
    assert evil == (
        "eval.capability --model my/m --tasks kl,mmlu --output output/reproduce/m/capability/evil --coef 0,1 --layer 3 "
        f"--controls 4 --vector_path {vectors.format(trait='evil')} --load_in_4bit"
    )
    assert kind == evil.replace("evil", "kind")
    (selected,) = of(lines, "eval.select_layer")
    assert selected == (
        f"eval.select_layer --file_path {sweep}.csv --trait evil,kind --capability output/reproduce/m/capability/{{trait}}.csv"
    )
    (prompted,) = of(lines, "eval.eval_persona")
    assert (
        "--version eval --persona_instruction_type pos --output_path output/reproduce/m/prompted/{trait}.csv"
        in prompted
    )
    card, other = of(lines, "eval.vector_quality")
    assert f"--against {vectors.format(trait='kind')} --pos_path eval_persona_extract/m/evil_pos_instruct.csv" in card
    assert (
        f"--sweep {sweep.format(trait='evil')}.csv --prompt_path output/reproduce/m/prompted/evil.csv --capability output/reproduce/m/capability/evil.csv"
        in card
    )
    assert (
        card.endswith("--capability output/reproduce/m/capability/evil.csv --load_in_4bit")
        and f"--vector_path {vectors.format(trait='kind')}" in other
    )
    (report,) = of(lines, "eval.report")
    assert "--quality persona_vectors/m/{trait}_response_avg_diff_quality " in report  # where a card lies by itself
    order = [lines.index(one) for one in (evil, selected, prompted, card, of(lines, "eval.monitor")[0])]
    assert order == sorted(order)


@pytest.mark.parametrize(("layer", "used"), [("all", "all"), (None, "2"), (3, "3")])
def test_the_layer_is_the_sweeps_best_and_the_first_where_none_is(clone, layer, used):
    best(clone, layer)
    assert all(f"--layer {used} --controls 2 " in line for line in of(asked(clone), "eval.capability"))


def test_without_unsteered_answers_no_sweep_is_judged(clone):
    (clone / "eval_persona_eval").mkdir()
    lines = asked(clone, coefs="-1,1")
    assert not any(
        flag in line
        for flag in ("--sweep", "--prompt_path", "--capability")
        for line in of(lines, "eval.vector_quality")
    )
    assert "--sweep" in of(asked(clone, coefs="-1,0,1"), "eval.vector_quality")[-1]


@pytest.mark.parametrize("name", ["provenance.json", "journal.jsonl"])
@pytest.mark.parametrize(("cells", "controls"), [([[2, 1.0]], 0), ([[2, 1.0], [2, 1.0, "random1"]], 2)])
def test_a_sweep_of_an_earlier_version_is_taken_up_as_it_is(clone, name, cells, controls):
    """Finished or not, it was made without random vectors: asked for now, they would be another sweep, which is refused."""
    best(clone, 3)
    path = clone / f"{SWEEP.format(trait='kind', coefs='0,1')}.csv.{name}"
    path.write_text(json.dumps({"result": {"cells": cells}}, indent=2))
    lines = asked(clone)
    assert of(lines, "eval_steering.sh")[0].endswith(f"-- --controls {controls}")
    assert "--controls 2 " in of(lines, "eval.capability")[0], "what steering costs has its own"


def test_what_marks_such_a_sweep_is_what_a_sweep_records():
    """The record's word for a control, which the script looks for."""
    from persona_vectors.steering.sweep import Grid

    cells = Grid.of([0.0, 1.0], [2], "v.pt", controls=1).cells
    assert [cell.key for cell in cells] == [[2, 0.0], [2, 1.0], [2, 1.0, "random1"]]
    assert "'\"random1\"'" in Path("scripts/reproduce.sh").read_text()
