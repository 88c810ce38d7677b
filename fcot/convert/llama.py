"""Llama and Yi, the language models of InternVL2-40B and -76B: the native names, one level deeper."""

from collections.abc import Iterator
from typing import Any

from fcot.convert.language import DEFAULTS, LanguageModel
from fcot.convert.mapping import Mapped, linear, norm, renamed

ROOT = "language_model.model."
HEAD = "language_model.lm_head.weight"
EMBEDDING = f"{ROOT}embed_tokens.weight"


def decoder_tensors(config: Any, *, qkv_bias: bool, output_bias: bool, mlp_bias: bool) -> Iterator[Mapped]:
    """Yield the tensors of a language model that has the same names in both layouts.

    Args:
        config: The native configuration of the language model.
        qkv_bias: Queries, keys and values have biases.
        output_bias: The attention's output has one.
        mlp_bias: The layers of the feed-forward part have.
    """
    width, hidden, vocabulary = config.hidden_size, config.intermediate_size, config.vocab_size
    head = getattr(config, "head_dim", None) or width // config.num_attention_heads
    queries, keys = head * config.num_attention_heads, head * config.num_key_value_heads
    shapes = {
        "self_attn.q_proj": (queries, width, qkv_bias),
        "self_attn.k_proj": (keys, width, qkv_bias),
        "self_attn.v_proj": (keys, width, qkv_bias),
        "self_attn.o_proj": (width, queries, output_bias),
        "mlp.gate_proj": (hidden, width, mlp_bias),
        "mlp.up_proj": (hidden, width, mlp_bias),
        "mlp.down_proj": (width, hidden, mlp_bias),
    }
    yield renamed(EMBEDDING, EMBEDDING, vocabulary, width)
    for layer in range(config.num_hidden_layers):
        here = f"{ROOT}layers.{layer}."
        for name, (rows, columns, bias) in shapes.items():
            yield from linear(here + name, here + name, rows, columns, bias=bias)
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield from norm(here + name, here + name, width, bias=False)
    yield from norm(f"{ROOT}norm", f"{ROOT}norm", width, bias=False)
    yield renamed(HEAD, HEAD, vocabulary, width)


def llama_tensors(config: Any) -> Iterator[Mapped]:
    """Yield the tensors of a Llama."""
    attention = config.attention_bias
    return decoder_tensors(config, qkv_bias=attention, output_bias=attention, mlp_bias=config.mlp_bias)


LLAMA = LanguageModel(
    architecture="LlamaForCausalLM",
    original_type="llama",
    native_type="llama",
    tensors=llama_tensors,
    tokenizer="LlamaTokenizer",
    defaults={
        **DEFAULTS,
        "vocab_size": 32000,
        "intermediate_size": 11008,
        "max_position_embeddings": 2048,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": None,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "head_dim": None,
    },
)
