"""Qwen2, the language model of InternVL2-1B: a Llama with biases on queries, keys and values."""

from collections.abc import Iterator
from typing import Any

from fcot.convert.language import DEFAULTS, LanguageModel
from fcot.convert.llama import decoder_tensors
from fcot.convert.mapping import Mapped


def qwen2_tensors(config: Any) -> Iterator[Mapped]:
    """Yield the tensors of a Qwen2."""
    return decoder_tensors(config, qkv_bias=True, output_bias=False, mlp_bias=False)


QWEN2 = LanguageModel(
    architecture="Qwen2ForCausalLM",
    original_type="qwen2",
    native_type="qwen2",
    tensors=qwen2_tensors,
    tokenizer="Qwen2Tokenizer",
    defaults={
        **DEFAULTS,
        "vocab_size": 151936,
        "intermediate_size": 22016,
        "max_position_embeddings": 32768,
        "num_key_value_heads": 32,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "sliding_window": 4096,
        "max_window_layers": 28,
    },
)
