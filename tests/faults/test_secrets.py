"""Servers of ours bind to loopback; nothing runs code that came with a file unless told to."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = [path for path in ROOT.rglob("*.py") if not {".venv", "tests"} & set(path.relative_to(ROOT).parts)]


def test_servers_of_ours_bind_to_loopback():
    hosts = [
        re.findall(r"""(?:host|HOST)\s*[=:]\s*(?:str\s*=\s*)?["']([^"']+)["']""", path.read_text()) for path in CODE
    ]
    found = {host for hosts_of_file in hosts for host in hosts_of_file}
    assert found <= {"127.0.0.1", "localhost"} and found, found
    assert not [path for path in CODE if re.search(r"""["']0\.0\.0\.0["']|["']::["']""", path.read_text())]


def test_no_file_brings_code_unless_a_flag_says_so():
    for path in CODE:
        text = path.read_text()
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call, (path, call)
        plain = text.replace("model.eval(", "")
        assert not re.search(r"^\s*(import|from) (pickle|dill|joblib|cloudpickle)\b", plain, re.MULTILINE), path
        assert not re.search(r"allow_pickle=True|(?<![.\w])(eval|exec)\(|yaml\.load\(", plain), path
        for value in re.findall(r"trust_remote_code\s*(?::\s*bool)?\s*=\s*([\w.]+)", text):
            assert value in (
                "False",
                "trust_remote_code",
                "asked.trust_remote_code",
                "cli.as_bool",
                "self.trust_remote_code",
            ), (path, value)
