"""The notebooks of examples/ run from beginning to end on the toy model, and what their texts say of it is so.

Needs models/toy, which scripts/test.sh builds (python -m data_generation.toy.build_model --output_dir models/toy).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from notebooks import read, run_cell

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
pytestmark = pytest.mark.skipif(
    not (ROOT / "models/toy/model.safetensors").exists(),
    reason="models/toy is missing: python -m data_generation.toy.build_model --output_dir models/toy",
)

CLAIMS = {  # what a notebook's text says, and what its names then have to be
    "find_a_vector": {
        "More than nine in ten are.": "len(effective) > 0.9 * len(positive) == 90",
        "cosine above 0.95 at every layer": "len(cosines) == 4 and min(cosines) > 0.95",
        "AUC above 0.99 at every layer": "len(separated) == 4 and min(separated) > 0.99",
        "float32 `[layers + 1, hidden]`": "again.dtype == torch.float32 and tuple(again.shape) == (5, 128)",
    },
    "steer_and_project": {
        "from under 25 at -1 to over 70 at 1.5": "means['trait', 'evil'][-1] < 25 and means['trait', 'evil'][1.5] > 70",
        "The trait rises with the coefficient": "means['trait', 'evil'].is_monotonic_increasing",
        "the random vector moves it by less than 10": "means['trait', 'random'].max() - means['trait', 'random'].min() < 10",
        "Coherence falls": "means['coherence', 'evil'][1.5] < means['coherence', 'evil'][0] - 5",
        "r is above 0.8": "found.r > 0.8 and found.n == 5 * 20",
    },
    "judge_and_sweep": {
        "Unsteered answers score below 20": "unsteered < 20",
        "the chosen cell above 70": "best.trait > 70 and best.coherence >= 75 and best.coef > 0",
        "random vectors stay below 25": "control < 25",
        "the effective pairs": "60 <= len(kept) <= 100",
    },
}
RUN = """
import sys
from pathlib import Path
from notebooks import run
names = run(Path(sys.argv[1]))
for claim in sys.argv[2:]:
    print("holds" if eval(claim, names) else "DOES NOT HOLD", claim, sep=": ")
"""


@pytest.fixture
def clone(tmp_path):
    """A folder like the clone's, so that what the notebooks write does not lie in it."""
    (tmp_path / "examples").mkdir()
    for name in ("models", "data_generation", "persona_vectors"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path / "examples"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_its_claims_hold(notebook, clone):
    claims, text = CLAIMS[notebook.stem], " ".join(_text(notebook).split())
    assert not [said for said in claims if said not in text], "the text says something else by now"
    paths = os.pathsep.join(map(str, (ROOT, Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, "-c", RUN, notebook, *claims.values()],
        cwd=clone, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"holds: {claim}" for claim in claims.values()]
    assert list((clone / "output").glob("*.png"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_kept_and_name_no_machine(notebook):
    cells = [cell for cell in read(notebook) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kept = [output for cell in cells for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in kept)
    assert not any(word in str(kept) for word in ("Traceback", "/home/", "/tmp/", "/root/"))


def test_every_notebook_has_claims():
    assert {path.stem for path in NOTEBOOKS} == set(CLAIMS)


def test_a_cell_shows_what_jupyter_shows():
    names: dict = {}
    assert run_cell("a = 1\nprint(a)\na + 1", names) == [
        {"name": "stdout", "output_type": "stream", "text": ["1\n"]},
        {"data": {"text/plain": ["2"]}, "metadata": {}, "output_type": "display_data"},
    ]
    assert run_cell("b = a", names) == [] and names["b"] == 1
    with pytest.raises(ZeroDivisionError):
        run_cell("1 / 0", names)


def _text(notebook: Path) -> str:
    return "\n".join("".join(cell["source"]) for cell in read(notebook) if cell["cell_type"] == "markdown")
