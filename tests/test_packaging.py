"""``pip install .`` gives the library, whole and by itself; what it needs is what the requirements files pin."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import persona_vectors

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def files_of_the_library() -> set[str]:
    """Those of the repository, new ones included: not the users' vectors, which lie beside them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "persona_vectors"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return {name for name in listed if (ROOT / name).exists()}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that the wheel is installed into, built from a copy: a build leaves folders behind."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in (*files_of_the_library(), "pyproject.toml", "README.md", "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    for folder in ("tiny", "tiny/deep"):  # vectors of a user
        (source / "persona_vectors" / folder).mkdir()
        (source / "persona_vectors" / folder / "evil_response_avg_diff.pt").write_bytes(b"")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]
    build = [*pip, "wheel", source, "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", source / "wheels"]
    done = subprocess.run(build, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    wheels = list((source / "wheels").iterdir())
    assert [wheel.name for wheel in wheels] == [f"persona_vectors-{persona_vectors.__version__}-py3-none-any.whl"]
    subprocess.run([*pip, "install", *wheels, "--no-deps", "--no-index", "--quiet", "--target", site], check=True)
    return site


def outside(installed, tmp_path, *command):
    """Run Python in an empty folder, with the installed library and without the checkout."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )


def test_data_of_the_library_is_not_taken_for_vectors_of_a_user():
    """.gitignore hides JSON in the folders of persona_vectors/, where users keep vectors."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["persona_vectors"]
    here = {path for pattern in told for path in (ROOT / "persona_vectors").glob(pattern)}
    assert {str(path.relative_to(ROOT)) for path in here} <= files_of_the_library()
    for pattern in told:
        assert list((ROOT / "persona_vectors").glob(pattern)), pattern


def test_every_file_of_the_library_is_in_the_wheel_and_nothing_else(installed):
    there = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    there = {name for name in there if "__pycache__" not in name and ".dist-info/" not in name}
    assert there == files_of_the_library()
    assert {"persona_vectors/py.typed", "persona_vectors/app/chat_page.html"} <= there


EVERY_MODULE = """
import json, sys
import persona_vectors
early = sorted(sys.modules)
from importlib import import_module
from pathlib import Path
folder = Path(persona_vectors.__file__).parent
lacking = {}
for path in sorted(folder.rglob("*.py")):
    name = ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__")
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        lacking[name] = error.name
print(json.dumps([str(folder), persona_vectors.__version__, early, lacking]))
"""


def test_every_module_is_imported_from_there(installed, tmp_path):
    done = outside(installed, tmp_path, "-c", EVERY_MODULE)
    assert done.returncode == 0, done.stderr
    folder, version, early, lacking = json.loads(done.stdout.splitlines()[-1])
    assert folder == str(installed / "persona_vectors") and version == persona_vectors.__version__
    assert not {"torch", "transformers", "numpy", "pandas"} & set(early), "import persona_vectors alone is light"
    assert set(lacking.values()) <= {"vllm"}, lacking
    assert all(name.startswith("persona_vectors.engines.vllm.") for name in lacking)


def test_a_command_of_the_library_runs_from_there(installed, tmp_path):
    done = outside(installed, tmp_path, "-m", "persona_vectors.bake", "--help")
    assert done.returncode == 0 and "--vector_path" in done.stdout + done.stderr


OF_STAGES = {"vaderSentiment"}  # imported by eval.sentiment alone


def names_and_versions(lines, sign):
    version = rf"([\w-]+(?:\[\w+\])?)(?:{sign})([\d.]+\d)(?:\.\*|,<[\d.]+)?"
    return dict(re.fullmatch(version, line).groups() for line in lines)


@pytest.mark.parametrize(
    ("wanted", "file"),
    [
        (PROJECT["dependencies"], "requirements-cpu.txt"),
        (PROJECT["dependencies"] + PROJECT["optional-dependencies"]["vllm"], "requirements.txt"),
        (
            [need for extra in ("test", "capability", "search") for need in PROJECT["optional-dependencies"][extra]],
            "requirements-test.txt",
        ),
    ],
    ids=["cpu", "gpu", "test"],
)
def test_the_library_needs_what_the_requirements_pin_from_that_version_on(wanted, file):
    lines = [line for line in (ROOT / file).read_text().splitlines() if line and not line.startswith("#")]
    pinned, lowest = names_and_versions(lines, "=="), names_and_versions(wanted, ">=|==")
    pinned = {name: version for name, version in pinned.items() if name not in OF_STAGES}
    parts = {name: len(lowest.get(name, "0.0").split(".")) for name in pinned}
    assert {name: ".".join(version.split(".")[: parts[name]]) for name, version in pinned.items()} == lowest


def test_the_newest_release_of_the_changelog_is_this_version():
    releases = re.findall(
        r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert releases[0] == persona_vectors.__version__
    assert releases == sorted(set(releases), key=lambda release: tuple(map(int, release.split("."))), reverse=True)
