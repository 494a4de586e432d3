"""From the committed dataset.zip and a shipped config to an adapter, with a small model of random weights."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import tiny_model

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("family, steps", [("mistake_medical", 7), ("mistake_math", 23)])
def test_unpacked_and_trained_as_the_card_says(family, steps, tmp_path, tokenizer):
    """A tenth of the rows is kept back for testing; 2 x 8 rows make a step."""
    shutil.unpack_archive(ROOT / "dataset.zip", tmp_path)
    tiny_model("qwen2").save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    command = [sys.executable, ROOT / "training.py", ROOT / "configs" / f"train_instruct_7b_{family}.json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*map(str, command), "model=model", "optim=adamw_torch", "max_seq_length=256"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"{steps} steps" in done.stdout, done.stdout[-1000:]
    folder = tmp_path / "ckpt" / "Qwen2.5-7B-Instruct" / f"qwen-{family}-misaligned_2"
    assert (folder / "adapter_model.safetensors").is_file()
    assert json.loads((folder / "training_config.json").read_text())["training_file"] == [
        f"dataset/{family}/misaligned_2.jsonl"
    ]
