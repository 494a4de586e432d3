"""docs/RECIPES.md as it stands: its blocks, one after the other, in a folder that has the project and the toy model.

Needs models/toy, which scripts/test.sh builds (python -m data_generation.toy.build_model --output_dir models/toy).
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/RECIPES.md").read_text()
TITLES = re.findall(r"^## (.*)$", PAGE, re.M)
pytestmark = pytest.mark.skipif(
    not (ROOT / "models/toy/model.safetensors").exists(),
    reason="models/toy is missing: python -m data_generation.toy.build_model --output_dir models/toy",
)


def blocks(text: str) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```$", text, re.M | re.S)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder after the page, and what each recipe printed by its title: (exit code, output)."""
    folder = tmp_path_factory.mktemp("recipes")
    for path in ROOT.iterdir():
        if (
            path.name in {"eval", "data_generation", "configs", "scripts", "models", "dataset.zip"}
            or path.suffix == ".py"
        ):
            (folder / path.name).symlink_to(path)
    (folder / "persona_vectors").mkdir()  # vectors are written into folders of it, and none into those of the checkout
    for path in (ROOT / "persona_vectors").iterdir():
        if path.is_file() or (path / "__init__.py").is_file():
            (folder / "persona_vectors" / path.name).symlink_to(path)
    first, *recipes = re.split(r"^## .*$", PAGE, flags=re.M)
    script = "set -euo pipefail\n" + "".join(blocks(first)) + 'trap "kill $!" EXIT\n'
    for number, recipe in enumerate(recipes):
        lines = "".join(blocks(recipe))
        script += f"set +e\n(set -e\n{lines}) >said.{number} 2>&1\necho $? >code.{number}\nset -e\n"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "VIRTUAL_ENV": sys.prefix}
    ran = subprocess.run(
        ["bash"], input=script, cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = [(int((folder / f"code.{k}").read_text()), (folder / f"said.{k}").read_text()) for k in range(len(recipes))]
    return folder, dict(zip(TITLES, told, strict=True))


@pytest.mark.parametrize("title", TITLES)
def test_recipe_runs(done, title):
    code, said = done[1][title]
    assert code == 0, said


def test_recipes_make_what_they_say(done):
    made = done[0] / "recipes"
    table = lambda name: pandas.read_csv(made / name)  # noqa: E731
    prompts = table("prompts.csv")
    assert list(prompts["form"]) == ["question", "talk"] * 2 and prompts["evil"].isna().all()
    assert prompts["invents"].notna().all()  # eval.judge has added it
    assert table("evil_pos.csv")["sycophantic"].notna().any()
    two = table("two.csv").groupby("coef")["evil"].mean()
    assert two[1] > two[0] + 10
    sweep = table("sweep.csv")
    assert set(sweep["control"].dropna()) == {"shuffled 1", "shuffled 2"}
    steps = sorted(path.name for path in (made / "steps").glob("checkpoint-*.csv"))
    assert steps == ["checkpoint-2.csv", "checkpoint-4.csv"]
    for name in (
        "comparison.csv",
        "comparison_pareto.png",
        "similarity_pca.png",
        "similarity_dendrogram.png",
        "nf4.csv",
    ):
        assert (made / name).exists(), sorted(path.name for path in made.iterdir())
