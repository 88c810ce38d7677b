"""What lies beside the weights: preprocessing, generation, chat template and tokenizer."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from fcot.convert.language import LanguageModel
from fcot.convert.tokenizer import FAST_FILE, SENTENCEPIECE_FILE, SETTINGS_FILE, original_settings
from fcot.files.json_files import read_optional, write_json
from fcot.internvl.chat_template import chat_template
from fcot.internvl.checkpoint import PREPROCESSING_FILE, PROCESSOR_FILE, image_settings
from fcot.internvl.prompts import Template

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
GENERATION_FILE = "generation_config.json"


def native_preprocessing(original: Mapping[str, Any], source: Path, side: int) -> dict[str, Any]:
    """Return the native `preprocessor_config.json`: how pages are cut, and the colours the model is used to.

    Args:
        original: The original `config.json`.
        source: The original folder; its own `preprocessor_config.json` has mean and deviation, ImageNet's otherwise.
        side: Side of a tile in pixels.
    """
    colours = read_optional(source / PREPROCESSING_FILE)
    return {
        "image_processor_type": "GotOcr2ImageProcessor",
        "processor_class": "InternVLProcessor",
        "crop_to_patches": bool(original.get("dynamic_image_size", False)),
        "min_patches": original.get("min_dynamic_patch", 1),
        "max_patches": original.get("max_dynamic_patch", 6),
        "size": {"height": side, "width": side},
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        **{name: colours.get(name, only) for name, only in IMAGENET.items()},
        "resample": 3,
    }


def native_generation(source: Path, config: Any, tokenizer: Any | None, template: Template) -> dict[str, Any]:
    """Return the native `generation_config.json`: what its authors published, and the template's own end token."""
    text = config.text_config
    given = read_optional(source / GENERATION_FILE)
    ends = given.get("eos_token_id", [] if tokenizer else text.eos_token_id)
    ends = [end for end in (ends if isinstance(ends, list) else [ends]) if end is not None]
    if tokenizer is not None:
        ends = list(dict.fromkeys([tokenizer.convert_tokens_to_ids(template.end), *ends]))
    padding = tokenizer.pad_token_id if tokenizer is not None else text.pad_token_id
    numbers = {"bos_token_id": text.bos_token_id, "pad_token_id": padding}
    return {
        **{name: value for name, value in numbers.items() if value is not None},
        **{name: value for name, value in given.items() if name not in ("_from_model_config", "transformers_version")},
        **({"eos_token_id": ends[0] if len(ends) == 1 else ends} if ends else {}),
    }


def write_native_companions(
    folder: Path,
    source: Path,
    tokenizer: PreTrainedTokenizerFast | None,
    template: Template,
    config: Any,
    preprocessing: Mapping[str, Any],
    generation: Mapping[str, Any],
) -> None:
    """Write the small files of the native layout; without a tokenizer, only those that need none.

    Args:
        folder: The native folder.
        source: The original one.
        tokenizer: Its fast tokenizer.
        template: Its conversation template, the system message set.
        config: The native configuration.
        preprocessing: The native `preprocessor_config.json`.
        generation: The native `generation_config.json`.
    """
    write_json(folder / PREPROCESSING_FILE, preprocessing)
    write_json(folder / GENERATION_FILE, generation)
    if tokenizer is None:
        return
    tokenizer.save_pretrained(folder)
    if (source / SENTENCEPIECE_FILE).is_file():
        shutil.copyfile(source / SENTENCEPIECE_FILE, folder / SENTENCEPIECE_FILE)  # for the way back
    (folder / "chat_template.jinja").write_text(chat_template(template), encoding="utf-8")
    processor = {"processor_class": "InternVLProcessor"}
    write_json(folder / PROCESSOR_FILE, {**processor, "image_seq_length": config.image_seq_length})
    frames = {name: preprocessing[name] for name in ("size", *IMAGENET, "resample", "do_resize", "do_normalize")}
    video = {"video_processor_type": "InternVLVideoProcessor", **processor, **frames}
    write_json(folder / "video_preprocessor_config.json", video)


def write_original_companions(folder: Path, source: Path, side: int, model: LanguageModel) -> None:
    """Write the small files of the original layout.

    Args:
        folder: The original folder.
        source: The native one.
        side: Side of a tile in pixels.
        model: Family of its language model.
    """
    _, native = image_settings(source)
    colours = {name: native.get(name, only) for name, only in IMAGENET.items()}
    flags = dict.fromkeys(("do_center_crop", "do_normalize", "do_resize"), True)
    sizes = {"crop_size": side, "size": side, "resample": 3, "feature_extractor_type": "CLIPFeatureExtractor"}
    write_json(folder / PREPROCESSING_FILE, {**sizes, **flags, **colours})
    names = [GENERATION_FILE, FAST_FILE]
    if (source / SENTENCEPIECE_FILE).is_file():
        names = [GENERATION_FILE, SENTENCEPIECE_FILE]
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    if (source / FAST_FILE).is_file():
        write_json(folder / SETTINGS_FILE, original_settings(source, model))
