"""Upload a converted preset with its model card, if the licence of its weights allows that."""

import json
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

from keras_dpt import presets
from keras_dpt.cards import model_card, why_not_redistributed
from keras_dpt.errors import WeightsError
from keras_dpt.files import temporary_folder
from keras_dpt.schema import Record, read_json

CARD, README = "keras_dpt.json", "README.md"
_HUB = re.compile(r"hf://[\w.-]+/[\w.-]+")
_KAGGLE = re.compile(r"kaggle://[\w-]+/[\w-]+/keras/[\w-]+")


def facts_of(preset):
    """What is known of a preset, for its model card.

    Args: preset: a preset's name, or the folder of a converted preset.
    Returns: a dict as `keras_dpt.cards.model_card` takes it.
    Raises: ValueError: there is no such preset. WeightsError: the folder does not say what it is.
    """
    preset = os.fspath(preset)
    if preset in presets.preset_names():
        return presets.read_preset(preset)
    folder = Path(preset).expanduser()
    if not folder.is_dir():
        presets.read_preset(preset)  # raises and lists the names
    file = folder / CARD
    if not file.is_file():
        raise WeightsError(
            f"{folder} has no {CARD}, which names source and licence of the weights. Publish a "
            "folder that `keras-dpt convert` made, or add the file."
        )
    card = read_json(file, Record(), WeightsError)
    named = card.get("preset") in presets.preset_names()
    known = presets.read_preset(card["preset"]) if named else {}
    return known | {key: value for key, value in card.items() if value is not None}


def check_target(address):
    """Raise a ValueError unless this is an address that a preset can be uploaded to."""
    if not (_HUB.fullmatch(address) or _KAGGLE.fullmatch(address)):
        raise ValueError(
            "The address must be hf://USER/REPOSITORY or kaggle://USER/MODEL/keras/VARIATION. "
            f"Received: {address!r}."
        )


@contextmanager
def staged(preset, address):
    """A context with a folder of what would be uploaded: the preset's files and its README.md.

    Args:
        preset: a preset's name, whose weights are fetched and converted if need be; or the folder
            of a converted preset.
        address: where to, `hf://USER/REPOSITORY` or `kaggle://USER/MODEL/keras/VARIATION`.

    Yields: `Path` of a temporary folder.
    Raises:
        ValueError: there is no such preset, or no such kind of address.
        WeightsError: the licence allows no copies, nothing is fetched then; or the weights cannot
            be had, or are incomplete.
    """
    from keras_dpt.loading.cache import preset_directory
    from keras_dpt.loading.preset_files import check_weights

    check_target(address)
    facts = facts_of(preset)
    if reason := why_not_redistributed(facts):
        raise WeightsError(f"{preset} is not published. {reason}")
    source = Path(preset_directory(preset))
    check_weights(source)
    made_of = source / CARD
    if made_of.is_file():  # the file that it was converted from
        facts = facts_of(source)
    with temporary_folder(source.parent if os.access(source.parent, os.W_OK) else Path.cwd()) as to:
        for file in sorted(source.iterdir()):
            if file.is_file() and file.name != README:
                _linked(file, to / file.name)
        (to / README).write_text(model_card(facts, address), encoding="utf-8")
        if not made_of.is_file():
            facts = {key: value for key, value in facts.items() if key not in ("sources", "image")}
            text = json.dumps({"preset": facts["name"]} | facts, indent=2, ensure_ascii=False)
            (to / CARD).write_text(text + "\n", encoding="utf-8")
        yield to


def upload(folder, address, private=None):
    """Upload a staged folder. keras-hub does it; the card goes first, or it would write its own.

    Args:
        folder: of `staged`.
        address: as for `staged`.
        private: whether a repository that is made on the Hugging Face hub is private.

    Raises: WeightsError: the service refuses, or does not answer.
    """
    from keras_dpt.hub import keras_hub

    try:
        if address.startswith("hf://"):
            import huggingface_hub

            repo = address.removeprefix("hf://")
            huggingface_hub.create_repo(repo, exist_ok=True, private=private)
            huggingface_hub.upload_file(
                path_or_fileobj=str(folder / README), path_in_repo=README, repo_id=repo
            )
        keras_hub.upload_preset(address, str(folder))
    except Exception as error:  # of whatever client: it has its own exceptions
        reason = "; ".join(map(_line, filter(None, (error, error.__cause__))))
        hint = "`hf auth login`" if address.startswith("hf://") else "Kaggle's API token"
        raise WeightsError(
            f"{address} does not take the preset: {reason}. Check the name, and that you are "
            f"signed in ({hint})."
        ) from error


def _line(error):
    return (str(error) or type(error).__name__).strip().splitlines()[0].rstrip(".")


def _linked(file, target):
    """A file under another name, without a second copy where the disk can do that."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)
