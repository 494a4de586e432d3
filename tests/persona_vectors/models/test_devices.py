"""Which device models run on is said in one place, and holds for whatever torch calls it."""

import ast
from pathlib import Path

import pytest
import torch

from persona_vectors import models, processes
from persona_vectors.vectors.batches import token_budget_for

ROOT = Path(__file__).resolve().parents[3]
KINDS = {"cuda", "mps", "xpu", "hpu"}


def kinds_named(source: str) -> set[str]:
    """The kinds of device that code names: ``torch.cuda``, ``"mps"``, ``"cuda:0"``; not within longer texts."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in KINDS:
            found.add(node.attr)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.split(":")[0] in KINDS:
            found.add(node.value)
    return found


def test_no_other_module_names_a_kind_of_device():
    files = [*ROOT.glob("*.py"), *(path for room in ("persona_vectors", "eval", "data_generation") for path in (ROOT / room).rglob("*.py"))]  # fmt: skip
    named = {path.relative_to(ROOT).as_posix(): kinds_named(path.read_text()) for path in files}
    assert len(named) > 120 and {name for name, kinds in named.items() if kinds} == {"persona_vectors/processes.py"}
    assert kinds_named('x = torch.cuda.is_available(); y = "cuda:1"; z = model.to("mps"); "no cuda here"') == {
        "cuda", "cuda:1", "mps"
    }  # fmt: skip


def pretend(monkeypatch, kind: str | None, gpus: int = 0, macos: int = 15) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: kind and torch.device(kind))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: (macos, 0) >= (major, minor))


@pytest.mark.parametrize(
    ("kind", "gpus", "macos", "dtype", "placed", "own"),
    [
        (None, 0, 15, "float32", None, None),
        ("cuda", 1, 15, "bfloat16", "auto", {"": 0}),
        ("cuda", 4, 15, "bfloat16", "auto", {"": 0}),
        ("mps", 0, 15, "bfloat16", {"": "mps"}, {"": "mps"}),
        ("mps", 0, 13, "float32", {"": "mps"}, {"": "mps"}),
        ("xpu", 0, 15, "bfloat16", {"": "xpu"}, {"": "xpu"}),
    ],
)
def test_where_a_model_goes_and_in_which_type(monkeypatch, kind, gpus, macos, dtype, placed, own):
    """What is decided, not what such a device then does: this machine has none."""
    pretend(monkeypatch, kind, gpus, macos)
    assert (processes.accelerator(), processes.gpu_count()) == (kind or "cpu", gpus)
    assert processes.default_dtype() == dtype
    assert (models.loading.placement(), models.loading.placement(0)) == (placed, own)
    assert token_budget_for(torch.device(kind or "cpu")) == (512 if kind is None else 8192)
    assert token_budget_for(torch.device(kind or "cpu"), asked=7) == 7


def test_a_model_is_loaded_onto_whatever_accelerator_there_is(monkeypatch, qwen2_folder):
    """Really loaded, onto the one other device that torch has everywhere: ``meta``, which holds no numbers."""
    pretend(monkeypatch, "meta")
    model = models.load_model(models.resolve(str(qwen2_folder)))
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert model.dtype == torch.bfloat16 and not model.training
    monkeypatch.undo()
    assert models.load_model(models.resolve(str(qwen2_folder))).device.type == "cpu"
