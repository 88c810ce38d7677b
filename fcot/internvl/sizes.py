"""Shapes of InternVL2 models, for benchmarks and FLOP counts without their weights."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Vision:
    """Shape of a vision tower; the default is InternViT-300M-448px, which InternVL2 1B to 8B share.

    Attributes:
        hidden_size: Width of a patch.
        num_hidden_layers: Layers.
        num_attention_heads: Heads of a layer.
        intermediate_size: Width of a layer's MLP.
        image_size: Side of a tile in pixels.
    """

    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    image_size: int = 448


@dataclass(frozen=True)
class Language:
    """Shape of a language model.

    Attributes:
        model_type: Its type in transformers, where InternLM2 is a "llama".
        hidden_size: Width of a token.
        num_hidden_layers: Layers.
        num_attention_heads: Query heads of a layer.
        num_key_value_heads: Key and value heads of a layer.
        intermediate_size: Width of a layer's MLP.
        vocab_size: Tokens in the vocabulary.
        rope_parameters: How positions are encoded.
        max_position_embeddings: Longest sequence in tokens.
    """

    model_type: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    vocab_size: int = 92553
    rope_parameters: dict[str, Any] = field(default_factory=lambda: {"rope_type": "default", "rope_theta": 1e6})
    max_position_embeddings: int = 32768


@dataclass(frozen=True)
class Size:
    """Shape of a whole model.

    Attributes:
        language: The language model.
        vision: The vision tower.
        image_token_id: Id of the placeholder of a visual token.
    """

    language: Language
    vision: Vision = Vision()
    image_token_id: int = 92546


SIZES = {
    # for machines without an accelerator: 126 M parameters in the layers of its language model, InternVL2's vocabulary
    "100m": Size(Language("llama", 1024, 10, 16, 8, 3072), Vision(384, 8, 6, 1536, 224)),
    "1b": Size(Language("qwen2", 896, 24, 14, 2, 4864, vocab_size=151655), image_token_id=151648),
    "2b": Size(Language("llama", 2048, 24, 16, 8, 8192)),
    "8b": Size(
        Language(
            "llama", 4096, 32, 32, 8, 14336, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e6, "factor": 2.0}
        )
    ),
}


def write_size(name: str, folder: Path) -> Path:
    """Write the configuration and preprocessing files of a size, without weights or tokenizer.

    Args:
        name: One of `SIZES`.
        folder: Where to write; created if missing.

    Returns:
        The folder, from which `StudentTeacher(folder, from_scratch=True)` builds a model with random weights.
    """
    from transformers import AutoConfig, InternVLConfig, InternVLVisionConfig

    size = SIZES[name]
    side = size.vision.image_size
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(
            **{**asdict(size.vision), "image_size": (side, side)}, attention_bias=True, patch_size=(14, 14)
        ),
        text_config=AutoConfig.for_model(**asdict(size.language), tie_word_embeddings=False),
        image_token_id=size.image_token_id,
        image_seq_length=(side // 28) ** 2,  # patches of 14 pixels, four of which become a visual token
        tie_word_embeddings=False,
        architectures=["InternVLForConditionalGeneration"],
        template="internlm2-chat",
    )
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    preprocessing = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD, "min_patches": 1, "max_patches": 12}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2) + "\n", encoding="utf-8")
    return folder
