"""Flags are checked before anything runs."""

import inspect
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import pytest

from persona_vectors import cli
from persona_vectors.cli.values import convert
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
        (["--model", "m", "--trait", "t", "0", "1"], ["unexpected argument '0'", "--trait takes one value"]),
        (["m", "t", "0"], ["unexpected argument '0'", "only --model, --trait may go without their names"]),
        (["--n=1", "2", "m", "t"], ["unexpected argument 't'", "only --model, --trait"]),  # 2 and m are model and trait
        (["--overwrite", "m", "t"], ["--trait is missing"]),
        (["--model", "--trait", "t"], ["--model needs a value"]),
        (["--model", "m", "--trait", "t", "--trait", "u"], ["--trait is given more than once"]),
        (["--model", "m", "--trait", "t", "-z", "1"], ["unknown flag -z"]),
    ],
)
def test_bad_command_lines_are_refused_by_name(argv, words):
    with pytest.raises(UserError) as caught:
        cli.check_flags(PARAMETERS, argv)
    assert all(word in str(caught.value) for word in words), caught.value


def several_names(
    path: str,
    vector_path: str = None,
    vector_path_list: str = None,
    note: str = "",
    notify: bool = False,
    host: str = "",
): ...


@pytest.mark.parametrize(
    ("argv", "full"),
    [
        (["--model", "m", "--tr", "t"], ["--model", "m", "--trait", "t"]),
        (["--mod=m", "-t=t", "--vec", "x"], ["--model=m", "--trait=t", "--vector_path", "x"]),
        (["--vector-p", "x", "--over", "--coe", "-0.5"], ["--vector_path", "x", "--overwrite", "--coef", "-0.5"]),
        (["--nooverwrite", "--noover", "-o"], ["--overwrite=False", "--overwrite=False", "--overwrite"]),
        (["--n", "3", "-n", "4"], ["--n", "3", "--n", "4"]),  # exact, though nooverwrite begins with it too
        (["--he"], ["--help"]),
        (["--m", "x", "--help", "--nonsense"], ["--help"]),
        (["--mo", "a", "--", "--tr"], ["--model", "a", "--", "--tr"]),
        (["--coef", "--", "x"], ["--coef", "--", "x"]),
    ],
)
def test_beginnings_of_flags_are_written_out(argv, full):
    assert cli.full_names(PARAMETERS, argv) == full == cli.full_names(PARAMETERS, full)


def test_flags_that_are_typed_in_full_leave_short_forms_to_others():
    def main(layer: int, last: Annotated[bool, cli.InFull] = False, load_all: Annotated[bool, cli.InFull] = False): ...

    parameters = inspect.signature(main).parameters
    for typed, full in (("-l", "--layer"), ("--la", "--layer"), ("--last", "--last"), ("--load-all=1", "--load_all=1")):
        assert cli.full_names(parameters, [typed]) == [full]
    assert cli.full_names(parameters, ["--nolast"]) == ["--last=False"]
    with pytest.raises(UserError, match=r"unknown flag --load_a \(did you mean --load_all"):
        cli.full_names(parameters, ["--load_a"])
    stage = import_module("eval.eval_persona").main.flags  # what was typed before there were such flags
    assert cli.full_names(stage, ["-l", "20", "-a", "evil"]) == ["--layer", "20", "--assistant_name", "evil"]


@pytest.mark.parametrize(
    ("flag", "outcome"),
    [
        ("--not", "--not is ambiguous: it is how --note, --notify begin"),
        ("--n", "--n is ambiguous: it is how --note, --notify begin"),
        ("--h", "--help"),
        ("--ho", "--host"),
        ("--note", "--note"),
        ("--vec", "--vector_path"),  # x_list is another name of x
        ("--vector_path_l", "--vector_path_list"),
        ("--nonotify", "--notify=False"),
        ("--nonot", "--notify=False"),
        ("--nohost", "unknown flag --nohost (did you mean --host?)"),
        ("--nonotify=true", "--nonotify takes no value: --notify does"),
        ("--x", "unknown flag --x;"),
        ("-paths", "unknown flag -paths (did you mean --path?)"),
    ],
)
def test_exact_names_win_and_ambiguous_ones_are_refused(flag, outcome):
    parameters = inspect.signature(several_names).parameters
    if outcome.startswith("--") and " " not in outcome:
        assert cli.full_names(parameters, [flag]) == [outcome]
        return
    with pytest.raises(UserError) as caught:
        cli.full_names(parameters, [flag])
    assert str(caught.value).startswith(outcome)


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (cli.Distinct[float], "0,-1.5, 2", (0.0, -1.5, 2.0)),
        (cli.Distinct[float], (0, 1), (0.0, 1.0)),
        (cli.Distinct[int], "20", (20,)),
        (cli.Distinct[int], 20, (20,)),
        (cli.Distinct[int | Literal["all"]], "16, all", (16, "all")),
        (cli.Several[str], "evil, sycophantic", ("evil", "sycophantic")),
        (cli.Several[str], ["evil"], ("evil",)),
        (cli.Several[Literal["pos", "neg"]] | None, "pos,neg", ("pos", "neg")),
        (cli.Count | None, " 3 ", 3),
        (int, "-99999999999999999999999", -99999999999999999999999),
        (int, "1_000", 1000),
        (cli.Score, 50, 50.0),
        (bool, "false", False),
        (bool, "True", True),
        (bool, "0", False),
        (bool, True, True),
        (str, "1_000,a", "1_000,a"),
        (str, 20, "20"),
        (str, Path("a/b"), "a/b"),
        (cli.Files, "a,b.csv\nc.csv", ("a,b.csv", "c.csv")),
        (str, "~/a.csv", f"{Path.home()}/a.csv"),  # as the shell leaves it in --flag=~/a.csv
        (str | None, "~a.csv", "~a.csv"),
        (cli.Several[str], "~/a.pt,b~/c.pt", (f"{Path.home()}/a.pt", "b~/c.pt")),
        (cli.Files, "~/a.csv\nb.csv", (f"{Path.home()}/a.csv", "b.csv")),
    ],
)
def test_values(annotation, value, expected):
    found = convert("x", annotation, value)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "value", "refusal"),
    [
        (cli.Distinct[float], "1,x", "takes numbers separated by commas, not '1,x'"),
        (cli.Distinct[int], "1.5", "takes whole numbers separated by commas, not '1.5'"),
        (cli.Distinct[int], "9" * 5000, f"takes whole numbers separated by commas, not '{'9' * 80}'"),
        (cli.Distinct[int | Literal["all"]], "1,x", "takes whole numbers separated by commas, not '1,x'"),
        (cli.Distinct[float], "nan", "takes numbers separated by commas, not 'nan'"),
        (cli.Distinct[float], "1,inf", "takes numbers separated by commas, not '1,inf'"),
        (cli.Distinct[float], "1,1.0", "names a value twice: '1,1.0'"),
        (cli.Distinct[float], ",", "takes numbers separated by commas, not ','"),
        (cli.Several[str], " , ", "needs a value; see --help"),
        (bool, "maybe", "takes true or false, not 'maybe'"),
        (cli.Count, "0", "must be at least 1, not 0"),
        (cli.Count, "1,2", "takes one whole number, not '1,2'"),
        (cli.Count | None, "two", "takes whole numbers separated by commas, not 'two'"),
        (cli.Score, "101", "lies between 0 and 100; 101 does not"),
        (Annotated[int, cli.Between(1, 65535)], "70000", "takes a whole number 1..65535, not 70000"),
        (cli.Distinct[Annotated[int, cli.Between(0)]], "3,-1", "must be at least 0, not -1"),
        (Literal["hf", "vllm"], "hff", "takes one of hf, vllm, not 'hff' (did you mean hf?)"),
        (cli.Several[Literal["pos", "neg"]], "pos,net", "takes one of pos, neg, not 'net' (did you mean neg?)"),
    ],
)
def test_values_that_do_not_fit_are_refused_in_one_line(annotation, value, refusal):
    with pytest.raises(UserError) as caught:
        convert("x", annotation, value)
    assert str(caught.value) == f"--x {refusal}"


@dataclass(frozen=True)
class Base:
    """Of both.

    Attributes:
        size: how large,
            in all.
        kind: which kind.
    """

    size: cli.Count = 2
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class More(Base):
    """Of one.

    Attributes:
        part: which part.
    """

    part: float | None = None

    def __post_init__(self):
        if self.part == 0:
            raise UserError("--part is more than 0")


@cli.command
def grouped(path: str, more: More, note: str = None, *words: str, last: cli.Several[int] = (1, 2)):
    """Do it.

    Args:
        path: where.
        last: numbers.
    """
    return path, more, note, words, last


def test_groups_are_flags_and_come_back_as_groups():
    assert list(grouped.flags) == ["path", "size", "kind", "part", "note", "words", "last"]
    assert grouped("p") == ("p", More(), None, (), (1, 2))
    assert grouped("p", "3", "b", "0.5", "n", "u", "v", last="4") == ("p", More(3, "b", 0.5), "n", ("u", "v"), (4,))
    assert grouped("p", kind="b", part=None, note="None") == ("p", More(2, "b"), None, (), (1, 2))
    for wrong, refusal in {"size": "--size must be at least 1, not 0", "part": "--part is more than 0"}.items():
        with pytest.raises(UserError) as caught:
            grouped("p", **{wrong: "0"})
        assert str(caught.value) == refusal
    with pytest.raises(TypeError):
        grouped("p", sise=3)


def test_help_says_what_a_flag_takes(monkeypatch, capsys):
    def main(path: str, more: More, layer: cli.Distinct[int | Literal["all"]] | None = None, on: bool = False):
        """Do it.

        Args:
            path: where, as in a:b (one) and
                b: (two).
            layer: which layers.
        """

    monkeypatch.setattr(sys, "argv", ["it", "--help"])
    monkeypatch.setattr(sys.stdout, "reconfigure", lambda **_: None, raising=False)
    with pytest.raises(SystemExit) as stopped:
        cli.run(main)
    shown = "".join(capsys.readouterr())
    assert stopped.value.code == 0
    for words in (
        "PATH\n        Type: text\n        where, as in a:b (one) and b: (two).",
        "--size=SIZE\n        Type: whole number, at least 1\n        Default: 2\n        how large, in all.",
        "Type: one of a, b\n        Default: a\n        which kind.",
        "--part=PART\n        Type: number\n        which part.",
        "LAYER\n        one or more whole numbers or all; which layers.",
        "--on=ON\n        Type: true or false\n        Default: false",
    ):
        assert words in shown, shown
    assert not any(
        word in shown for word in ("Optional", "Several", "Literal", "Annotated", "tuple", "None", "METADATA")
    )


def test_a_number_that_main_returns_is_the_exit_code():
    script = "from persona_vectors import cli\ndef main(*words: str): return len(words)\ncli.run(main)"
    for count in (0, 3):
        done = subprocess.run(
            [sys.executable, "-c", script, *"abc"[:count]], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout, done.stderr) == (count, "", "")


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
    assert command("--help").returncode == 0 == command("--he").returncode
    begun = command("--pa", "x", "--nofl")
    assert begun.stdout == "ran 'x' 1 False\n" and begun.returncode == 0
    assert command("p", "-n", "2", "--fl", "--", "--help").returncode == 0


@pytest.mark.parametrize("entry", [["generate_vec.py"], ["-m", "eval.eval_persona"], ["-m", "eval.select_layer"]])
def test_help_and_wrong_flags_import_nothing_heavy(entry):
    heavy = subprocess.run(
        [sys.executable, "-X", "importtime", *entry, "--help"], capture_output=True, text=True, timeout=60
    )
    assert heavy.returncode == 0
    imported = {line.split("|")[-1].strip() for line in heavy.stderr.splitlines() if "|" in line}
    assert not imported & {"torch", "transformers", "pandas", "openai", "vllm", "matplotlib", "pydantic"}
    wrong = subprocess.run([sys.executable, *entry, "--nonsense", "1"], capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: unknown flag --nonsense")


def test_values_of_a_list_flag_may_be_separated_by_spaces():
    def stage(
        path: str, layer: cli.Several[str] = None, vector_path_list: cli.Several[str] = None, overwrite: bool = False
    ): ...

    parameters = inspect.signature(stage).parameters
    argv = ["--vector-path-list", "a.pt", "b.pt", "--layer", "16", "20", "--overwrite", "--path", "x"]
    expected = ["--vector-path-list", "a.pt,b.pt", "--layer", "16,20", "--overwrite", "--path", "x"]
    assert cli.join_several(parameters, argv) == expected
    assert cli.check_flags(parameters, expected) is True
    assert cli.join_several(parameters, ["p", "--layer=16,20"]) == ["p", "--layer=16,20"]
    for argv, refusal in {
        ("--path", "x", "--layer=1", "2"): "unexpected argument '2'; without =, --layer takes several values",
        ("--layer", "1", "x.csv"): "--path is missing (--layer has taken every word that follows it); see --help",
        ("--layer", "1,2"): "--path is missing; see --help",
        ("--path", "x", "--layer"): "--layer needs a value; see --help",
        ("--path", "x", "--layer", "1", "--layer", "2"): "--layer is given more than once; several values go in one "
        "flag, separated by commas",
    }.items():
        with pytest.raises(UserError) as caught:
            cli.check_flags(parameters, argv)
        assert str(caught.value) == refusal
    assert cli.check_flags(parameters, ["x.csv", "--lay", "1", "2", "--vec", "a", "b"]) is True
    with pytest.raises(UserError, match="unexpected argument"):  # other flags still take one value
        cli.check_flags(parameters, cli.join_several(parameters, ["--path", "x", "1", "2", "true", "z"]))


def refusal_of(entry, *argv) -> str:
    done = subprocess.run([sys.executable, *entry, *argv], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("entry", "argv", "reached"),
    [
        (
            ["generate_vec.py"],
            "--model m --pos no.csv --neg n.csv --tra evil --save d --thr 200",
            "--threshold lies between",
        ),
        (["-m", "eval.cal_projection"], "--file f --vec v --model m --proj cosine", "--projection_type takes one of"),
        (["-m", "eval.eval_persona"], "--mod m --trait evil --out o.csv --vers final", "--version takes one of"),
        (["share_vectors.py", "export"], "--vec v --out o --form onnx", "--format takes one of"),
        (["-m", "eval.mitigation", "random"], "--vec v --out o --se x", "--seed takes whole numbers"),
        (["training.py"], "--con no.json --over", "no.json"),
    ],
)
def test_every_stage_takes_beginnings(entry, argv, reached):
    """The stage itself refuses the value, by the flag's full name: the beginning was understood."""
    assert reached in refusal_of(entry, *argv.split())


def test_an_ambiguous_beginning_of_a_stage_is_refused():
    refusal = refusal_of(["share_vectors.py", "pull"], "--re", "x")
    assert refusal == "error: --re is ambiguous: it is how --repo_id, --revision begin\n"


ANSWERS = ["--model", "models/none", "--output_path", "out/{trait}_{type}.csv"]


@pytest.mark.parametrize(
    ("argv", "refusal"),
    [
        ("--trait evil --coef 0 v.pt 2", "--coef takes numbers separated by commas, not '0,v.pt,2'"),
        ("--trait evil --coef 0 --layer 1 x", "--layer takes whole numbers separated by commas, not '1,x'"),
        ("--trait evil sycophantc", "unknown trait 'sycophantc'"),
        (
            "--trait evil --persona_instruction_type pos net",
            "--persona_instruction_type takes one of pos, neg, not 'net'",
        ),
        ("--trait evil --seed 1 2", "unexpected argument '2'; --seed takes one value"),
        ("--trait evil 0", "unknown trait '0'"),
        ("evil 0.5", "unexpected argument '0.5'; only --model, --trait, --output_path may go without their names"),
    ],
)
def test_eval_persona_blames_the_right_flag(argv, refusal):
    assert refusal in refusal_of(["-m", "eval.eval_persona"], *ANSWERS, *argv.split())


@pytest.mark.parametrize(
    "argv",
    [
        "--trait evil sycophantic --persona_instruction_type pos neg --coef 0 0.5 -1 --layer 16 all --vector_path none.pt",
        "--trait evil, sycophantic --persona pos,neg --coef 0,0.5 -1 --layer 16, all --vector none.pt",
    ],
)
def test_eval_persona_takes_several_values_by_spaces(argv):
    """All flags are understood: it is the vector file that is missed."""
    assert "no vector file at none.pt" in refusal_of(["-m", "eval.eval_persona"], *ANSWERS, *argv.split())


def test_several_values_by_spaces_in_other_stages():
    refusal = refusal_of(
        ["-m", "data_generation.generate_dataset"], *"--trait evil --mo m --lev normal misaligned_1 worst".split()
    )
    assert "--levels takes one of normal, misaligned_1, misaligned_2, not 'worst'" in refusal
    refusal = refusal_of(["-m", "eval.select_layer"], *"--file x_{trait}.csv --trait evil mean".split())
    assert "no answers file at x_evil.csv" in refusal
