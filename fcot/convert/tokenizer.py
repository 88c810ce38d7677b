"""A folder's tokenizer as a fast one, from data files alone: no class of the folder's own code is imported."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

from fcot.convert.language import LanguageModel
from fcot.convert.sentencepiece import fast_tokenizer, read_model
from fcot.errors import UserError
from fcot.files.json_files import read_json, read_optional
from fcot.internvl.tokens import CONTEXT, END, START
from fcot.internvl.video_token import VIDEO_TOKEN, video_token

SENTENCEPIECE_FILE, FAST_FILE, SETTINGS_FILE = "tokenizer.model", "tokenizer.json", "tokenizer_config.json"
# what transformers' InternVLProcessor asks a tokenizer for, besides a video token
IMAGE_TOKENS = {
    "start_image_token": START,
    "end_image_token": END,
    "context_image_token": CONTEXT,
}
NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")
SENTENCEPIECE_NAMED = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def load_tokenizer(folder: Path, model: LanguageModel) -> PreTrainedTokenizerFast | None:
    """Return the fast tokenizer of a folder in the original layout; None if it has no tokenizer files.

    Args:
        folder: The folder.
        model: Family of its language model.

    Raises:
        UserError: If there is a tokenizer that only its own code can load, or one without InternVL's image tokens.
    """
    settings = read_optional(folder / SETTINGS_FILE)
    settings = {**read_optional(folder / "special_tokens_map.json"), **settings}
    kind = str(settings.get("tokenizer_class") or model.tokenizer).removesuffix("Fast")
    named = {name: _content(settings[name]) for name in NAMED if settings.get(name) is not None}
    has_fast = (folder / FAST_FILE).is_file()
    if (folder / SENTENCEPIECE_FILE).is_file() and (kind == "InternLM2Tokenizer" or not has_fast):
        named = {**SENTENCEPIECE_NAMED, **({"pad_token": "</s>"} if kind == "InternLM2Tokenizer" else {}), **named}
        backend = _from_sentencepiece(folder, settings, named, kind)
    elif has_fast:
        backend = _with_added(_opened(folder / FAST_FILE), folder, settings)
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        bytes_bpe = Qwen2Tokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
        named = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", **named}
        backend = _with_added(bytes_bpe.backend_tokenizer, folder, settings)
    elif "auto_map" in settings:
        raise UserError(
            f"{folder} has a tokenizer as code only, which is never run: no {SENTENCEPIECE_FILE}, {FAST_FILE} or "
            "vocab.json.\nFetch the tokenizer's data files too, or remove its other files to convert the model alone."
        )
    else:
        return None
    for token in (START, CONTEXT, END):
        if backend.token_to_id(token) is None:
            raise UserError(f"The tokenizer in {folder} has no token {token!r}.\nGive the tokenizer of an InternVL.")
    specials = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **named,
        padding_side="left",
        clean_up_tokenization_spaces=bool(settings.get("clean_up_tokenization_spaces", False)),
        model_max_length=settings.get("model_max_length"),
        extra_special_tokens={**IMAGE_TOKENS, VIDEO_TOKEN: video_token(specials | set(named.values()), named)},
    )


def original_settings(folder: Path, model: LanguageModel) -> dict[str, Any]:
    """Return the `tokenizer_config.json` of the original layout for a native folder's tokenizer.

    Args:
        folder: The native folder.
        model: Family of its language model.
    """
    fast, settings = read_json(folder / FAST_FILE), read_optional(folder / SETTINGS_FILE)
    named = {name: _content(settings[name]) for name in NAMED if settings.get(name) is not None}
    added = {str(token["id"]): {k: v for k, v in token.items() if k != "id"} for token in fast["added_tokens"]}
    specials = [token["content"] for token in added.values() if token["special"]]
    common = {
        **named,
        "added_tokens_decoder": added,
        "additional_special_tokens": [content for content in specials if content not in named.values()],
        "clean_up_tokenization_spaces": settings.get("clean_up_tokenization_spaces", False),
        "model_max_length": settings.get("model_max_length"),
    }
    if not (folder / SENTENCEPIECE_FILE).is_file():
        return {**common, "tokenizer_class": "PreTrainedTokenizerFast"}
    around = ["A" if "Sequence" in part else "token" for part in fast["post_processor"]["single"]]
    code = {"auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]}}
    return {
        **common,
        **(code if model.tokenizer == "InternLM2Tokenizer" else {}),
        "add_bos_token": around[0] == "token",
        "add_eos_token": around[-1] == "token",
        "tokenizer_class": model.tokenizer,
    }


def _from_sentencepiece(folder: Path, settings: Mapping[str, Any], named: Mapping[str, str], kind: str) -> Tokenizer:
    if settings.get("legacy") is False:
        raise UserError(
            f"{folder / SETTINGS_FILE} sets legacy false, which is only followed by a {FAST_FILE}.\n"
            "Save the tokenizer as a fast one into the folder."
        )
    model = read_model(folder / SENTENCEPIECE_FILE)
    added = _added_tokens(folder, settings)
    numbers = {piece.piece: number for number, piece in enumerate(model.pieces)}
    known = {token.content for token in added.values()}
    listed = settings.get("additional_special_tokens") or []
    for content in dict.fromkeys([*named.values(), *map(_content, listed)]):
        if content not in known:
            number = numbers.get(content, max(len(model.pieces) - 1, *added, -1) + 1)
            added[number] = AddedToken(content, special=True, normalized=False)
    specials = {*named.values(), *map(_content, listed)}
    for token in added.values():
        token.special = token.special or token.content in specials
    return fast_tokenizer(
        model,
        added,
        named=set(named.values()),
        add_bos=bool(settings.get("add_bos_token", True)),
        add_eos=bool(settings.get("add_eos_token", False)),
        clean_up=kind == "InternLM2Tokenizer",
    )


def _added_tokens(folder: Path, settings: Mapping[str, Any]) -> dict[int, AddedToken]:
    """Return the added tokens of a folder by id; older folders have them in a separate file."""
    listed = settings.get("added_tokens_decoder")
    if listed is None:
        contents = read_optional(folder / "added_tokens.json")
        listed = {number: {"content": content} for content, number in contents.items()}
    return {
        int(number): AddedToken(
            token["content"],
            lstrip=token.get("lstrip", False),
            rstrip=token.get("rstrip", False),
            single_word=token.get("single_word", False),
            normalized=False,  # the original looks for them in the raw text
            special=token.get("special", False),
        )
        for number, token in listed.items()
    }


def _opened(file: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing narrower
        raise UserError(f"{file} is not a fast tokenizer ({error}).\nFetch the file again.") from error


def _with_added(backend: Tokenizer, folder: Path, settings: Mapping[str, Any]) -> Tokenizer:
    """Add the tokens that a folder lists beside its vocabulary, and check their ids."""
    added = _added_tokens(folder, settings)
    backend.add_tokens([added[number] for number in sorted(added)])
    for number, token in added.items():
        if (found := backend.token_to_id(token.content)) != number:
            raise UserError(
                f"{folder}: token {token.content!r} has id {found} by the vocabulary and {number} by the list of added "
                "tokens.\nFetch all tokenizer files from one and the same model."
            )
    return backend


def _content(token: str | Mapping[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])
