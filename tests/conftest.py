"""Fixtures: tiny random-weight models of many architectures, and a tokenizer, all made on the spot."""

import os
import signal

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["PERSONA_VECTORS_CACHE"] = "off"  # calls are counted: no test is to find another's scores, or the user's
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import sys
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # the models here are tiny: a second thread only costs

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background job; commands would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests"))

from command import run_stage  # noqa: E402, F401
from helpers import ARCHITECTURES, tiny_model, tiny_tokenizer  # noqa: E402

from persona_vectors import cli  # noqa: E402

cli.show_log()  # tests read what the library says where a command's user does


@pytest.fixture(scope="session")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="session", params=ARCHITECTURES)
def model(request):
    """A tiny float32 model of each architecture, in evaluation mode."""
    return tiny_model(request.param)


@pytest.fixture(scope="session")
def qwen2():
    return tiny_model("qwen2")


@pytest.fixture(scope="session")
def qwen2_folder(tmp_path_factory, tokenizer):
    """A model folder as a user has it: config, weights, tokenizer with chat template."""
    folder = tmp_path_factory.mktemp("models") / "tiny-qwen2"
    tiny_model("qwen2").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def score_cache(tmp_path, monkeypatch):
    """A cache of scores of the test's own; without it there is none."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PERSONA_VECTORS_CACHE", str(folder))
    return folder / "scores.sqlite"


def pytest_collection_modifyitems(items):
    """Engines last: running vLLM patches some of transformers' model classes for the rest of the process.

    pytest-xdist hands files out in this order (--dist loadfile --no-loadscope-reorder), so it holds in each process.
    """
    items.sort(key=lambda item: "engines" in item.path.parts or "vllm" in item.path.stem)
