"""InternLM2, the language model of InternVL2-2B, -8B and -26B: a Llama whose attention inputs are fused."""

from collections.abc import Iterator
from typing import Any

from fcot.convert.language import DEFAULTS, LanguageModel
from fcot.convert.llama import EMBEDDING, HEAD, ROOT
from fcot.convert.mapping import Mapped, fused_linear, linear, norm, renamed


def internlm2_tensors(config: Any) -> Iterator[Mapped]:
    """Yield the tensors of an InternLM2, which is a Llama in the native layout.

    `wqkv` has a group of rows for each key-value head: its queries, then its key, then its value.
    """
    width, hidden, vocabulary = config.hidden_size, config.intermediate_size, config.vocab_size
    groups, bias = config.num_key_value_heads, config.attention_bias
    head = width // config.num_attention_heads
    rows = (config.num_attention_heads // groups * head, head, head)
    yield renamed(f"{ROOT}tok_embeddings.weight", EMBEDDING, vocabulary, width)
    for layer in range(config.num_hidden_layers):
        here = f"{ROOT}layers.{layer}."
        parts = [f"{here}self_attn.{part}_proj" for part in "qkv"]
        yield from fused_linear(f"{here}attention.wqkv", parts, rows, width, groups=groups, bias=bias)
        yield from linear(f"{here}attention.wo", f"{here}self_attn.o_proj", width, width, bias=bias)
        yield from linear(f"{here}feed_forward.w1", f"{here}mlp.gate_proj", hidden, width, bias=False)
        yield from linear(f"{here}feed_forward.w3", f"{here}mlp.up_proj", hidden, width, bias=False)
        yield from linear(f"{here}feed_forward.w2", f"{here}mlp.down_proj", width, hidden, bias=False)
        yield from norm(f"{here}attention_norm", f"{here}input_layernorm", width, bias=False)
        yield from norm(f"{here}ffn_norm", f"{here}post_attention_layernorm", width, bias=False)
    yield from norm(f"{ROOT}norm", f"{ROOT}norm", width, bias=False)
    yield renamed("language_model.output.weight", HEAD, vocabulary, width)


INTERNLM2 = LanguageModel(
    architecture="InternLM2ForCausalLM",
    original_type="internlm2",
    native_type="llama",
    tensors=internlm2_tensors,
    tokenizer="InternLM2Tokenizer",
    defaults={
        **DEFAULTS,
        "vocab_size": 103168,
        "intermediate_size": 11008,
        "max_position_embeddings": 2048,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "bias": True,
    },
    renamed={"bias": "attention_bias"},
)
