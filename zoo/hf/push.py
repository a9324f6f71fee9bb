"""Uploading an exported folder to the hub."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import CheckpointError


def check_repo_id(repo: str) -> None:
    """Raise CheckpointError when the hub has no repos of such a name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise CheckpointError(f"push = {repo!r}: {error}; use 'owner/name'") from error


def push(folder: Path, repo: str) -> str:
    """Make the repo when it is missing, and upload the folder as one commit.

    Args:
        repo: `owner/name`; the token is the one of `hf auth login` or HF_TOKEN.

    Returns:
        Its URL.

    Raises:
        CheckpointError: when the hub cannot be reached or does not let one in.
    """
    import huggingface_hub
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    hub = huggingface_hub.HfApi()
    try:
        made = hub.create_repo(repo, exist_ok=True)
        hub.upload_folder(repo_id=made.repo_id, folder_path=folder, commit_message="Upload a model")
    except (HTTPError, OSError) as error:  # its own errors are kinds of these
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"push = {repo!r}: nothing was uploaded ({first}); {folder} is whole: log in with "
            f"`hf auth login` and give the command again, or `hf upload {repo} {folder}`"
        ) from error
    return str(made)
