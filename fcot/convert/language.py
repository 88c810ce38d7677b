"""What the converter knows of a language model; one is described in each of internlm2.py, qwen2.py and llama.py."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from fcot.convert.mapping import Mapped

# Defaults that the families' original code shares: config.json may leave settings out.
DEFAULTS: dict[str, Any] = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,  # as many as attention heads
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "rope_scaling": None,
}


def settings_of(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings that count; JSON's 1 for 1.0 becomes a float, which transformers insists on."""
    known = {name: given.get(name, default) for name, default in defaults.items()}
    return {
        name: float(value) if isinstance(defaults[name], float) and type(value) is int else value
        for name, value in known.items()
    }


@dataclass(frozen=True)
class LanguageModel:
    """A family of language models.

    Attributes:
        architecture: Class of the original code, as config.json names it.
        original_type: `model_type` in the original layout.
        native_type: `model_type` in the native layout.
        defaults: Every setting that counts, and the original code's default for it.
        tensors: Yields the tensors, given the native configuration.
        renamed: Native names of the settings that have another there.
        tokenizer: Class of the original tokenizer, where tokenizer_config.json names none.
    """

    architecture: str
    original_type: str
    native_type: str
    defaults: Mapping[str, Any]
    tensors: Callable[[Any], Iterator[Mapped]]
    renamed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    tokenizer: str = ""

    def to_native(self, original: Mapping[str, Any]) -> dict[str, Any]:
        """Return the native settings of an `llm_config`."""
        known = settings_of(original, self.defaults)
        theta, scaling = known.pop("rope_theta"), dict(known.pop("rope_scaling") or {})
        rope_type = scaling.pop("type", None) or scaling.get("rope_type") or "default"
        native = {self.renamed.get(name, name): value for name, value in known.items()}
        return {**native, "rope_parameters": {**scaling, "rope_type": rope_type, "rope_theta": theta}}

    def to_original(self, native: Mapping[str, Any]) -> dict[str, Any]:
        """Return the `llm_config` of native settings."""
        rope = dict(native["rope_parameters"])
        theta, kind = rope.pop("rope_theta"), rope.pop("rope_type")
        known = {name: native.get(self.renamed.get(name, name), default) for name, default in self.defaults.items()}
        scaling = None if kind == "default" else {"type": kind, **rope}
        return {
            **known,
            "rope_theta": theta,
            "rope_scaling": scaling,
            "architectures": [self.architecture],
            "model_type": self.original_type,
        }
