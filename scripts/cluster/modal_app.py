"""A Modal function: each trait in a container with a GPU of its own (scripts/cluster/job.sh). From the project's folder:

    pip install modal && modal setup
    modal run --detach scripts/cluster/modal_app.py --traits evil,sycophantic
    modal volume get persona-vectors persona_vectors/Qwen2.5-7B-Instruct .

Keys are read from .env. The project runs on the volume ``persona-vectors``, where results stay: the same command goes on
where a stopped one was.
"""

import shlex
import subprocess
import sys
from pathlib import Path

try:
    import modal
except ImportError:
    print("error: this needs Modal's client: pip install modal && modal setup", file=sys.stderr)
    sys.exit(2)

CODE, WORK = "/code", "/work"
NOT_CODE = [".git", ".venv", "models", "output", "eval_persona_*", "persona_vectors/*/*.pt", "**/__pycache__", ".env"]

app = modal.App("persona-vectors")
image = (
    modal.Image.debian_slim(python_version="3.11")
    .pip_install_from_requirements("requirements.txt")
    .env({"HF_HOME": f"{WORK}/.cache/huggingface"})
    .add_local_dir(".", CODE, ignore=NOT_CODE)
)
keys = modal.Secret.from_dotenv()
volume = modal.Volume.from_name("persona-vectors", create_if_missing=True)


@app.function(image=image, gpu="H100", cpu=8, memory=65536, timeout=24 * 3600, volumes={WORK: volume}, secrets=[keys])
def job(model: str, trait: str, config: str, flags: str) -> str:
    """Run one trait's job on the volume; returns the trait."""
    subprocess.run(["cp", "-r", "--update", f"{CODE}/.", WORK], check=True)
    command = ["bash", "scripts/cluster/job.sh", "all", model, trait, config, "--", *shlex.split(flags)]
    try:
        subprocess.run(command, cwd=WORK, check=True)
    finally:
        volume.commit()
    return trait


@app.local_entrypoint()
def main(
    traits: str = "evil",
    model: str = "Qwen/Qwen2.5-7B-Instruct",
    config: str = "configs/train_instruct_7b.json",
    flags: str = "",
) -> None:
    """Run every trait's job at once; ``flags`` are for eval_persona."""
    for trait in job.starmap((model, trait, config, flags) for trait in traits.split(",")):
        print(f"{trait} is done: modal volume get persona-vectors persona_vectors/{Path(model).name} .")
