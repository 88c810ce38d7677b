"""`config.json` from the original layout to the native one and back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError  # transformers' own check of its configurations
from transformers import AutoConfig, InternVLConfig, InternVLVisionConfig

from fcot.convert.families import family_of_original
from fcot.convert.language import LanguageModel, settings_of
from fcot.errors import UserError
from fcot.internvl.prompts import template

CONFIG_FILE = "config.json"
ORIGINAL_TYPE, NATIVE_TYPE = "internvl_chat", "internvl"

# Settings of the vision tower with the original code's defaults, and the native names of those renamed.
VISION_DEFAULTS = {
    "hidden_size": 3200,
    "intermediate_size": 12800,
    "num_hidden_layers": 48,
    "num_attention_heads": 25,
    "num_channels": 3,
    "patch_size": 14,
    "image_size": 224,
    "hidden_act": "gelu",
    "norm_type": "rms_norm",
    "layer_norm_eps": 1e-6,
    "qkv_bias": False,
    "qk_normalization": True,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "drop_path_rate": 0.0,  # the native tower has none; kept for the way back
    "initializer_range": 0.02,
    "initializer_factor": 0.1,
}
VISION_RENAMED = {
    "qkv_bias": "attention_bias",
    "qk_normalization": "use_qk_norm",
    "dropout": "projection_dropout",
    "initializer_factor": "layer_scale_init_value",
}
# What the native layout cannot say otherwise: another value here is another model.
FIXED = {"ps_version": "v2", "pad2square": False, "use_thumbnail": True}


def native_config(original: Mapping[str, Any], file: Path) -> InternVLConfig:
    """Return the native configuration that an original `config.json` asks for.

    Args:
        original: Content of the file.
        file: The file, for messages.

    Raises:
        UserError: If it is of another family, or asks for what the native classes lack.
    """
    if original.get("model_type") != ORIGINAL_TYPE:
        raise UserError(
            f"{file} describes a {original.get('model_type')!r} model, not an InternVL2 in the original layout "
            f"({ORIGINAL_TYPE!r}).\nGive the folder that its authors published; code (*.py) in a folder is never run."
        )
    for part in ("vision_config", "llm_config"):
        if not isinstance(original.get(part), dict):
            raise UserError(f"{file} has no {part} with settings.\nFetch the file again.")
    for name, only in FIXED.items():
        if original.get(name, only) != only:
            raise UserError(
                f"{file}: {name} is {original[name]!r}, which the native InternVL cannot do.\n"
                f"Only models with {name} {only!r} can be converted."
            )
    model = family_of_original(original, file)
    try:
        template(original.get("template") or "")
        return _build(original, model)
    except (TypeError, ValueError, KeyError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file} is not a usable configuration: {reason}\nFetch the file again.") from error


def _build(original: Mapping[str, Any], model: LanguageModel) -> InternVLConfig:
    vision = settings_of(original["vision_config"], VISION_DEFAULTS)
    side = vision["image_size"]
    if (original.get("force_image_size") or side) != side:
        raise UserError(f"force_image_size {original['force_image_size']} is not vision_config.image_size {side}")
    tied = bool(original["llm_config"].get("tie_word_embeddings", False))
    text = model.to_native(original["llm_config"])
    ratio = original.get("downsample_ratio", 0.5)
    return InternVLConfig(
        architectures=["InternVLForConditionalGeneration"],
        vision_config=InternVLVisionConfig(**{VISION_RENAMED.get(k, k): v for k, v in vision.items()}),
        text_config=AutoConfig.for_model(model.native_type, **text, tie_word_embeddings=tied),
        downsample_ratio=ratio,
        image_seq_length=int(side // vision["patch_size"] * ratio) ** 2,
        vision_feature_layer=original.get("select_layer", -1),
        tie_word_embeddings=tied,
        template=original["template"],
        system_message=original.get("system_message"),
        original_architecture=model.architecture,
    )


def original_config(config: Any, model: LanguageModel, preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """Return the original `config.json` of a native model.

    Args:
        config: The native configuration.
        model: Family of its language model.
        preprocessing: Content of its `preprocessor_config.json`.
    """
    vision = config.vision_config.to_dict()
    settings = {name: vision.get(VISION_RENAMED.get(name, name), only) for name, only in VISION_DEFAULTS.items()}
    settings.update(image_size=vision["image_size"][0], patch_size=vision["patch_size"][0])
    dtype = str(config.dtype).removeprefix("torch.")
    tied = bool(config.tie_word_embeddings)
    llm = {**model.to_original(config.text_config.to_dict()), "tie_word_embeddings": tied, "torch_dtype": dtype}
    system = getattr(config, "system_message", None)
    return {
        "architectures": ["InternVLChatModel"],
        # where the authors' own code looks for its classes once it lies beside this file
        "auto_map": {
            "AutoConfig": "configuration_internvl_chat.InternVLChatConfig",
            "AutoModel": "modeling_internvl_chat.InternVLChatModel",
        },
        "model_type": ORIGINAL_TYPE,
        "downsample_ratio": config.downsample_ratio,
        "dynamic_image_size": bool(preprocessing.get("crop_to_patches", True)),
        "force_image_size": settings["image_size"],
        "llm_config": llm,
        "max_dynamic_patch": preprocessing.get("max_patches", 12),
        "min_dynamic_patch": preprocessing.get("min_patches", 1),
        **FIXED,
        "select_layer": config.vision_feature_layer,
        "template": getattr(config, "template", "internvl2_5"),
        **({} if system is None else {"system_message": system}),
        "tie_word_embeddings": tied,
        "torch_dtype": dtype,
        "use_backbone_lora": 0,
        "use_llm_lora": 0,
        "vision_config": {
            **settings,
            "architectures": ["InternVisionModel"],
            "model_type": "intern_vit_6b",
            "use_flash_attn": True,
        },
    }
