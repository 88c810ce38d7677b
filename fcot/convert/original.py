"""From the native layout back to the original one."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig

from fcot.convert.config import CONFIG_FILE, NATIVE_TYPE, original_config
from fcot.convert.families import family_of_native
from fcot.convert.result import Converted, count_parameters, write_folder
from fcot.convert.side_files import write_original_companions
from fcot.convert.source import open_checkpoint
from fcot.convert.streams import mapped_tensors, to_original
from fcot.errors import UserError
from fcot.files.json_files import read_json, write_json
from fcot.files.weights import write_weights
from fcot.internvl.checkpoint import ModelFolder, image_settings
from fcot.internvl.prompts import name_of


def convert_to_original(source: Path, destination: Path) -> Converted:
    """Convert a native folder to the layout of InternVL2's authors; the inverse of `convert_to_native`.

    Args:
        source: A native InternVL, also one that was trained since.
        destination: A new folder.

    Raises:
        UserError: If the original code has no such model, or the folder is broken; there is no new folder then.
    """
    file = source / CONFIG_FILE
    kind = read_json(file).get("model_type")
    if kind == "fcot_internvl":
        raise UserError(f"{source} is a compressed student.\nThe original code has no compressor: use it as it is.")
    if kind != NATIVE_TYPE:
        raise UserError(
            f"{file} describes a {kind!r} model, not a native InternVL.\nGive a folder with {NATIVE_TYPE!r}."
        )
    config = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    model = family_of_native(config, file)
    entries = mapped_tensors(config, model)
    weights = open_checkpoint(source, (name for entry in entries for name in entry.native))
    stream = to_original(weights, entries, file, tied=config.tie_word_embeddings)
    _, preprocessing = image_settings(source)
    _complete(config, preprocessing, ModelFolder(source))

    def fill(folder: Path) -> None:
        write_weights(folder, stream)
        write_original_companions(folder, source, config.vision_config.image_size[0], model)
        write_json(folder / CONFIG_FILE, original_config(config, model, preprocessing))

    write_folder(destination, fill)
    parameters = count_parameters(entries, tied=config.tie_word_embeddings)
    note = "To load it, put the *.py files of the model's authors into the folder: they are not part of it."
    return Converted(destination, model.architecture, parameters, (note,))


def _complete(config: Any, preprocessing: dict[str, Any], folder: ModelFolder) -> None:
    """Add what only the original layout's `config.json` says, where the authors' own `-hf` folders say it elsewhere."""
    if getattr(config, "template", None) is not None:
        return  # this project's, which says it too
    preprocessing["crop_to_patches"] = True  # transformers' processor cuts pages whatever the image settings say
    if folder.has_tokenizer:
        spoken = folder.template
        config.template, config.system_message = name_of(spoken), spoken.system
