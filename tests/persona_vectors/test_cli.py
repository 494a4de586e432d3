"""Flags are checked before anything runs."""

import inspect
import subprocess
import sys

import pytest

from persona_vectors import cli
from persona_vectors.errors import UserError


def stage(model: str, trait: str, coef: str = "0", n: int = 1, overwrite: bool = False, vector_path: str = None): ...


PARAMETERS = inspect.signature(stage).parameters


@pytest.mark.parametrize(
    "argv",
    [
        ["--model", "m", "--trait", "evil"],
        ["m", "evil"],
        ["--model=m", "--trait=evil", "--coef", "-0.5", "--overwrite"],
        ["--model", "m", "--trait", "t", "--vector-path", "x", "--nooverwrite"],
        ["--model", "m", "--trait", "t", "--coef", "-1,0,1", "--overwrite", "true"],
        ["-m", "m", "-t", "t"],
    ],
)
def test_good_command_lines_pass(argv):
    assert cli.check_flags(PARAMETERS, argv) is True


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--model", "m", "--trait", "t", "--vector_paht", "x"], ["--vector_paht", "did you mean --vector_path"]),
        (["--model", "m"], ["--trait is missing"]),
        (["--model", "m", "--trait", "t", "0", "1", "2", "3", "4"], ["unexpected argument '4'"]),
        (["--model", "--trait", "t"], ["--model needs a value"]),
        (["--model", "m", "--trait", "t", "--trait", "u"], ["--trait is given more than once"]),
        (["--model", "m", "--trait", "t", "-z", "1"], ["unknown flag -z"]),
    ],
)
def test_bad_command_lines_are_refused_by_name(argv, words):
    with pytest.raises(UserError) as caught:
        cli.check_flags(PARAMETERS, argv)
    assert all(word in str(caught.value) for word in words), caught.value


def test_values():
    assert cli.as_numbers("coef", "0,-1.5, 2") == [0, -1.5, 2]
    assert cli.as_numbers("coef", (0, 1)) == [0, 1]
    assert cli.as_numbers("layer", "20", int) == [20]
    assert cli.as_words("evil, sycophantic") == ["evil", "sycophantic"]
    assert cli.as_bool("x", "false") is False and cli.as_bool("x", True) is True
    for bad in (lambda: cli.as_numbers("coef", "1,x"), lambda: cli.as_numbers("layer", "1.5", int),
                lambda: cli.as_numbers("coef", "nan"), lambda: cli.as_numbers("coef", "1,1"),
                lambda: cli.as_numbers("coef", ""), lambda: cli.as_bool("x", "maybe"),
                lambda: cli.as_int("n", "0", 1), lambda: cli.as_choice("b", "hff", ("hf", "vllm"))):  # fmt: skip
        with pytest.raises(UserError):
            bad()


SCRIPT = """
from persona_vectors import cli
from persona_vectors.errors import UserError
def main(path: str, n: int = 1, flag: bool = False):
    '''Do it.'''
    if path == "bad":
        raise UserError("bad path; choose another")
    print("ran", repr(path), repr(n), repr(flag))
cli.run(main)
"""


def command(*argv):
    return subprocess.run([sys.executable, "-c", SCRIPT, *argv], capture_output=True, text=True, timeout=60)


def test_as_a_process():
    done = command("--path", "1_000,a", "--n", "3", "--flag")
    assert done.stdout == "ran '1_000,a' 3 True\n" and done.returncode == 0
    refused = command("--path", "x", "--flg")
    assert (refused.returncode, refused.stdout) == (2, "") and "did you mean --flag" in refused.stderr
    mistake = command("--path", "bad")
    assert mistake.returncode == 2 and mistake.stderr == "error: bad path; choose another\n"
    assert command("--help").returncode == 0


@pytest.mark.parametrize("entry", [["generate_vec.py"], ["-m", "eval.eval_persona"], ["-m", "eval.select_layer"]])
def test_help_and_wrong_flags_import_nothing_heavy(entry):
    heavy = subprocess.run(
        [sys.executable, "-X", "importtime", *entry, "--help"], capture_output=True, text=True, timeout=60
    )
    assert heavy.returncode == 0
    imported = {line.split("|")[-1].strip() for line in heavy.stderr.splitlines() if "|" in line}
    assert not imported & {"torch", "transformers", "pandas", "openai", "vllm", "matplotlib"}
    wrong = subprocess.run([sys.executable, *entry, "--nonsense", "1"], capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: unknown flag --nonsense")


def test_values_of_a_list_flag_may_be_separated_by_spaces():
    def stage(path: str, layer: cli.Several = None, vector_path_list: cli.Several = None, overwrite: bool = False): ...

    parameters = inspect.signature(stage).parameters
    argv = ["--vector-path-list", "a.pt", "b.pt", "--layer", "16", "20", "--overwrite", "--path", "x"]
    expected = ["--vector-path-list", "a.pt,b.pt", "--layer", "16,20", "--overwrite", "--path", "x"]
    assert cli.join_several(parameters, argv) == expected
    assert cli.check_flags(parameters, expected) is True
    assert cli.join_several(parameters, ["p", "--layer=16,20"]) == ["p", "--layer=16,20"]
    with pytest.raises(UserError, match="unexpected argument"):  # other flags still take one value
        cli.check_flags(parameters, cli.join_several(parameters, ["--path", "x", "1", "2", "true", "z"]))
