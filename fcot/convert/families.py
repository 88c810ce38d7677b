"""The families of language models that the converter knows, and which one a folder has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fcot.convert.internlm2 import INTERNLM2
from fcot.convert.language import LanguageModel
from fcot.convert.llama import LLAMA
from fcot.convert.qwen2 import QWEN2
from fcot.errors import UserError

LANGUAGE_MODELS = {model.architecture: model for model in (INTERNLM2, QWEN2, LLAMA)}


def family_of_original(original: Mapping[str, Any], file: Path) -> LanguageModel:
    """Return the family of the language model that an original `config.json` describes.

    Raises:
        UserError: If the converter does not know it.
    """
    settings = original["llm_config"]
    named = (settings.get("architectures") or [""])[0]
    kind = settings.get("model_type")
    for model in LANGUAGE_MODELS.values():
        if named == model.architecture or (not named and kind == model.original_type):
            return model
    why = "the native InternVL classes have none for the 4B's Phi-3" if "phi3" in f"{named}{kind}".lower() else ""
    raise UserError(
        f"{file}: llm_config is a {named or kind!r} language model, which cannot be converted{why and f' ({why})'}.\n"
        f"Known: {', '.join(LANGUAGE_MODELS)}; take InternVL2-1B, -2B, -8B, -26B, -40B or -76B."
    )


def family_of_native(config: Any, file: Path) -> LanguageModel:
    """Return the family that a native model's language model belongs to in the original layout.

    Raises:
        UserError: If the original code has none for it.
    """
    kind = config.text_config.model_type
    named = getattr(config, "original_architecture", None)
    for model in LANGUAGE_MODELS.values():
        if model.native_type == kind and named in (None, model.architecture) and (named or model is not INTERNLM2):
            return model
    raise UserError(
        f"{file}: the original layout has no {kind!r} language model.\n"
        f"Known: {', '.join(sorted({model.native_type for model in LANGUAGE_MODELS.values()}))}."
    )
