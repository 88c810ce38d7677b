"""Write the folder of a small InternVL: configuration, tokenizer and preprocessing, no weights."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    InternVLConfig,
    InternVLVisionConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from fcot.errors import UserError

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of one token a byte (no merges) plus InternVL's special tokens.

    Reading is then character by character, which a model of a few million parameters can learn, and no text
    is unknown to it.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<|endoftext|>",  # transformers' processor needs one, and vLLM one that is no image's
        },
    )


def write_architecture(
    folder: Path,
    *,
    tile_size: int = 112,
    width: int = 160,
    vision_layers: int = 4,
    text_layers: int = 4,
    heads: int = 5,
    max_tiles: int = 6,
    context: int = 1024,
) -> Path:
    """Write `config.json`, tokenizer and preprocessing files of a tiny InternVL to `folder`.

    Three choices make it learn to read at all: white pixels are normalised to 0 (mean 1.0, std 0.5), weights
    start wide (0.08), and layer scale starts at 1.

    Args:
        folder: Where to write; made if missing.
        tile_size: Side of a tile in pixels, a multiple of 28 (patch 14, pixel unshuffle by 2).
        width: Hidden width of the vision tower and of the language model.
        vision_layers: Layers of the vision tower.
        text_layers: Layers of the language model.
        heads: Attention heads of both. Serving engines have attention kernels for heads of width 32, 64, 80 and so on.
        max_tiles: Most tiles an image is cut into, thumbnail not counted.
        context: Longest sequence in tokens.

    Returns:
        The folder.

    Raises:
        UserError: If `tile_size` is not a multiple of 28.
    """
    if tile_size % 28:
        raise UserError(f"tile_size {tile_size} is not a multiple of 28. Use 28, 56, 112, 224 or 448.")
    tokenizer = byte_tokenizer()
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(
            hidden_size=width,
            num_hidden_layers=vision_layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            attention_bias=True,
            image_size=(tile_size, tile_size),
            patch_size=(14, 14),
            initializer_range=0.08,
            layer_scale_init_value=1.0,
        ),
        text_config=Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=width,
            num_hidden_layers=text_layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            intermediate_size=3 * width,
            max_position_embeddings=context,
            initializer_range=0.08,
            tie_word_embeddings=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=(tile_size // 28) ** 2,
        tie_word_embeddings=False,
        architectures=["InternVLForConditionalGeneration"],
        dtype="float32",
        template="internlm2-chat",
        system_message="",
    )
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    stops = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    stops.save_pretrained(folder)
    preprocessing = {
        "image_processor_type": "GotOcr2ImageProcessor",
        "processor_class": "InternVLProcessor",
        "crop_to_patches": True,
        "min_patches": 1,
        "max_patches": max_tiles,
        "size": {"height": tile_size, "width": tile_size},
        "do_normalize": True,
        "image_mean": [1.0, 1.0, 1.0],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2) + "\n", encoding="utf-8")
    return folder
