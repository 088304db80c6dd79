"""What fine-tuning starts from and prediction uses: the models in folders."""

import logging
from pathlib import Path
from typing import Any, NoReturn

from quorem.config.loading import load
from quorem.config.settings import PretrainConfig
from quorem.errors import UserError, shown
from quorem.folders import check_there
from quorem.models.checkpoint_files import check_finite, read_weights
from quorem.models.configuration import QuoremConfig
from quorem.models.modeling import QuoremPreTrainedModel
from quorem.plan.presets import size_like
from quorem.silence import silence_transformers
from quorem.training.run_folder import COMPRESSED, read_settings, run_of

logger = logging.getLogger(__name__)

SEED = "seed-"  # how folders of runs that differ in their seeds begin


def model_folder(pretrained: str | Path) -> Path:
    """The folder with the encoder to start from: a run's discriminator/ or model/, or a model folder itself.

    Raises:
        UserError: if there is none, or one of each of several seeds.
    """
    folder = Path(pretrained)
    check_there(folder)
    for candidate in (folder / "discriminator", folder / "model", folder):
        if (candidate / "config.json").exists():
            return candidate
    refuse_seeds(folder)
    if (folder / "config.yaml").exists():
        _refuse_unfinished(folder)
    wanted = folder.parent if (folder.parent / "discriminator").is_dir() else "a run of quorem pretrain"
    raise UserError(f"{folder}: no pre-trained model there (no discriminator/config.json): give {wanted}")


def model_folders(folder: Path) -> list[Path]:
    """The models of a fine-tuning run: its model/, those of its runs with other seeds, or the folder itself."""
    if (folder / "model").exists():
        return [folder / "model"]
    return _of_seeds(folder) or [folder]


def models_to_use(folder: Path) -> list[Path]:
    """The same, of a run that is finished; of one with several seeds those that are, and a warning.

    Raises:
        UserError: if the run is not finished and has no model yet.
    """
    check_there(folder)
    found = model_folders(folder)
    if (folder / "config.yaml").exists() and not (folder / "result.json").exists():
        if found == [folder] and not (folder / "config.json").exists() and not (folder / "discriminator").exists():
            _refuse_unfinished(folder)
        if found == [folder / "model"] and not (folder / COMPRESSED).exists():
            logger.warning("%s: this run is not finished: this is by the epoch it has kept so far", folder)
        if found[0].parent.name.startswith(SEED):
            logger.warning(
                "%s: not all of its seeds are finished: this is by the %d that are; the same command resumes the run",
                folder, len(found),
            )  # fmt: skip
    return found


def _refuse_unfinished(folder: Path) -> NoReturn:
    raise UserError(f"{folder}: this run is not finished, so it has no model yet: run the same command again to resume")


def refuse_seeds(folder: Path) -> None:
    """Accept any folder but that of `--seeds`, where one model is needed.

    Raises:
        UserError: naming a run in it.
    """
    if len(found := _of_seeds(folder)) > 1:
        raise UserError(
            f"{folder}: holds {len(found)} runs of different seeds: give one of them, such as {found[0].parent}"
        )


def _of_seeds(folder: Path) -> list[Path]:
    found = [(int(path.parent.name[len(SEED) :]), path) for path in folder.glob(f"{SEED}*/model") if _has_seed(path)]
    return [path for _, path in sorted(found)]


def _has_seed(path: Path) -> bool:
    return path.parent.name[len(SEED) :].isdecimal() and (path.parent / "result.json").exists()


def load_model(
    kind: type[QuoremPreTrainedModel], network: str, source: Path, *, may_lack: tuple[str, ...] = (), **changes: Any
) -> Any:
    """The model of a folder.

    Args:
        kind: its class.
        network: of `read_weights`.
        source: with config.json and weights (quorem.models.checkpoint_files).
        may_lack: prefixes of weights that are new if they are not there or have another shape; none may lack if empty.
        changes: to its config.

    Raises:
        UserError: if a file is damaged or does not fit, a weight is missing, or one is not finite.
    """
    try:
        architecture = QuoremConfig.from_pretrained(source, **changes)
        weights = read_weights(source, network)
        with silence_transformers():
            model, found = kind.from_pretrained(
                None, config=architecture, state_dict=weights, output_loading_info=True,
                ignore_mismatched_sizes=bool(may_lack),
            )  # fmt: skip
        if wrong := sorted(name for name, *_ in found["mismatched_keys"] if not name.startswith(may_lack)):
            raise ValueError(f"{wrong[0]} has another shape")
    except UserError as error:
        raise error if str(source) in str(error) else UserError(f"{source}: {error}") from error
    except Exception as error:  # a damaged file can fail in any way
        raise UserError(
            f"{source}: config.json or model.safetensors is damaged, or they do not fit each other: train again or "
            f"copy them anew ({error})"
        ) from error
    missing = sorted(name for name in found["missing_keys"] if not name.startswith(may_lack))
    if missing:
        raise UserError(
            f"{source}: no {network}, for model.safetensors lacks {missing[0]}: give a run of quorem finetune"
            if not may_lack
            else f"{source}: no encoder to start from, for model.safetensors lacks {missing[0]}"
        )
    labels = [architecture.id2label.get(number) for number in range(architecture.num_labels)]
    if len(set(map(str, labels))) < len(labels) or not all(isinstance(label, str) for label in labels):
        raise UserError(
            f"{source}: config.json: id2label={shown(architecture.id2label)}: a name of its own for each of "
            f"{len(labels)} classes needed: copy it anew"
        )
    check_finite(model, source)
    return model


def size_of(pretrained: str) -> str:
    """The preset of a pre-training run, or of the one around a network; else the preset with the network's sizes."""
    run, folder = run_of(pretrained), Path(pretrained)
    if run is not None and "model" in read_settings(run / "config.yaml"):
        return load(PretrainConfig, run / "config.yaml").model.size
    files = (place / "config.json" for place in (folder / "discriminator", folder / "model", folder))
    file = next((each for each in files if each.is_file()), None)
    return "small" if file is None else size_like(read_settings(file))
