"""Pushing: a model folder goes to the Hugging Face hub, with its card; private unless told otherwise."""

import logging
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HFValidationError

from quorem.errors import UserError
from quorem.finetuning.checkpoint import model_folder
from quorem.training.card import README, is_ours, made_by, write_cards

logger = logging.getLogger(__name__)

NEVER = (".*.lock", "*.partial")  # what commands leave while they write


def push(folder: str | Path, name: str, *, public: bool = False, license: str | None = None) -> str:
    """Upload a model folder or an export; of a run, the model that is used.

    Args:
        folder: a run, a model folder, or what `export` has written. A card is written into it if it has none.
        name: of the repository, USER/NAME or NAME.
        public: whether all may read a repository that is made now; an existing one stays as it is.
        license: of the weights, for the card of a run's model. An export has got its own.

    Returns:
        Where it is.

    Raises:
        UserError: if there is no model, no token, or the hub refuses.
    """
    place = Path(folder)
    if not (place / "model.onnx").exists():
        place = model_folder(place)
    token = huggingface_hub.get_token()
    if token is None:
        raise UserError("no token of the Hugging Face hub: run hf auth login, or set HF_TOKEN, with one that may write")
    _write_card(place, license)
    hub = huggingface_hub.HfApi(token=token)
    try:
        repository = hub.create_repo(name, private=not public, exist_ok=True)
        hub.upload_folder(
            repo_id=repository.repo_id, folder_path=place, ignore_patterns=list(NEVER),
            commit_message="quorem push",
        )  # fmt: skip
    except HFValidationError as error:
        raise UserError(f"{name}: is no name of a repository ({error}): USER/NAME is needed") from error
    except (TypeError, AttributeError, NameError):
        raise  # a fault of ours
    except Exception as error:  # a refusal, or of whichever library carries the requests
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(
            f"{name}: the hub has refused it, or was not reached ({reason}): check the name, what the token may do and "
            "the connection"
        ) from error
    return str(repository)


def _write_card(place: Path, license: str | None) -> None:
    """Write a card where there is none, or one with the licence where quorem has written it.

    Raises:
        UserError: for a licence that the card there does not name and that cannot be written into it.
    """
    card = place / README
    if not card.exists() or (license is not None and is_ours(card) and made_by(place).settings):
        write_cards(place, license=license)
    elif license is not None and f"license: {license}\n" not in card.read_text(encoding="utf-8", errors="replace"):
        raise UserError(
            f"{card}: is there already and does not say license: {license}: write it into its first lines, or give "
            "--license to quorem export"
        )
