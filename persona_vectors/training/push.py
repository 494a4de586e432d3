"""Putting a trained model on the Hugging Face hub: asked for by a config, refused early where it cannot work.

Knows repositories and folders; knows nothing of training.
"""

from pathlib import Path

from persona_vectors.errors import UserError
from persona_vectors.models.hub import check_repo, load_hub_settings, sorting_errors


def check_push(repo: str) -> None:
    """Refuse, before any work, a push that is switched off, has no token, or a token that the hub does not take."""
    check_repo(repo)
    load_hub_settings()
    from huggingface_hub import HfApi, constants, get_token

    instead = "or set push_to_hub to false to keep the model here"
    if constants.HF_HUB_OFFLINE:
        raise UserError(f"push_to_hub asks for a push to {repo}, but HF_HUB_OFFLINE is set: unset it, {instead}")
    if not get_token():
        raise UserError(f"push_to_hub asks for a push to {repo}: put HF_TOKEN into .env (see .env.example), {instead}")
    with sorting_errors(repo, "main"):
        HfApi().whoami()


def push(repo: str, folder: str | Path, private: bool) -> str:
    """Upload a model folder, but for checkpoints, in one commit to ``repo`` (made if missing); returns its address."""
    from huggingface_hub import HfApi

    with sorting_errors(repo, "main"):
        address = HfApi().create_repo(repo, private=private, exist_ok=True)
        HfApi().upload_folder(
            repo_id=repo, folder_path=folder, ignore_patterns=["checkpoint-*", "merged/*", ".*"],
            commit_message=f"Finetuned model {Path(folder).name}",
        )  # fmt: skip
    return str(address)
