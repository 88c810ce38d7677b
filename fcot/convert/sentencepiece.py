"""A sentencepiece model (`tokenizer.model`) as a fast tokenizer that gives the same ids for any text."""

from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, processors
from tokenizers.models import BPE

from fcot.convert.decoding import sentencepiece_decoder
from fcot.errors import UserError

NORMAL, USER_DEFINED, UNUSED = 1, 4, 5  # types of pieces in sentencepiece_model.proto
BPE_MODEL = 2
SPACE = "▁"
SYMBOLS = 0x100000  # private characters from here on stand for user-defined symbols


def read_model(file: Path) -> Any:
    """Return the content of a `tokenizer.model`, a protobuf message of sentencepiece's `ModelProto`.

    Raises:
        UserError: If the file is broken, or holds a model that a fast tokenizer cannot follow exactly.
    """
    from google.protobuf.message import DecodeError
    from transformers.convert_slow_tokenizer import import_protobuf

    model = import_protobuf().ModelProto()
    try:
        model.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise UserError(f"{file} is not a sentencepiece model ({error}).\nFetch the file again.") from error
    unsupported = {
        "holds no pieces": not model.pieces,
        "is not a BPE model": model.trainer_spec.model_type != BPE_MODEL,
        "has unused pieces": any(piece.type == UNUSED for piece in model.pieces),
        "puts spaces at the end of words": model.trainer_spec.treat_whitespace_as_suffix,
        "keeps spaces as they are": not model.normalizer_spec.escape_whitespaces,
    }
    for why, true in unsupported.items():
        if true:
            raise UserError(f"{file} {why}, unlike InternLM2's.\nGive the tokenizer that belongs to the model.")
    return model


def fast_tokenizer(
    model: Any,
    added: Mapping[int, AddedToken],
    *,
    named: Container[str],
    add_bos: bool,
    add_eos: bool,
    clean_up: bool,
) -> Tokenizer:
    """Return the fast tokenizer of a sentencepiece model.

    Args:
        model: From `read_model`.
        added: All added tokens by id, those that replace a piece of the model included.
        named: Tokens with a special role: start, end, padding and unknown.
        add_bos: Texts start with the model's token for that.
        add_eos: Texts end with the model's token for that.
        clean_up: Decoding takes out spaces before punctuation, as InternLM2's does.
    """
    known = {token.content for token in added.values()}
    symbols = {
        chr(SYMBOLS + number): piece.piece
        for number, piece in enumerate(model.pieces)
        if piece.type == USER_DEFINED and piece.piece not in known and number not in added
    }
    characters = {symbol: character for character, symbol in symbols.items()}
    vocabulary = {characters.get(piece.piece, piece.piece): number for number, piece in enumerate(model.pieces)}
    for number, token in added.items():
        if number < len(model.pieces):
            del vocabulary[model.pieces[number].piece]
        vocabulary[token.content] = number
    tokenizer = Tokenizer(
        BPE(
            vocab=vocabulary,
            merges=merges((piece.piece, piece.score) for piece in model.pieces if piece.type == NORMAL),
            unk_token=next(name for name, number in vocabulary.items() if number == model.trainer_spec.unk_id),
            fuse_unk=True,
            byte_fallback=model.trainer_spec.byte_fallback,
        )
    )
    overlaid = _overlaid(model, added)
    tokenizer.normalizer = _normalizer(model.normalizer_spec, {**characters, **overlaid})
    in_normalised = set(overlaid.values())
    tokenizer.add_tokens([_found_in(added[number], in_normalised) for number in sorted(added)])
    tokenizer.post_processor = _post_processor(model.trainer_spec, tokenizer, add_bos=add_bos, add_eos=add_eos)
    inside = [
        token.content
        for number, token in added.items()
        if token.special and (number < len(model.pieces) or token.content in named)
    ]
    tokenizer.decoder = sentencepiece_decoder(
        apart=[token.content for token in added.values() if token.content not in inside],
        inside=inside,
        symbols=symbols,
        strip=_stripped(model.normalizer_spec),
        clean_up=clean_up,
    )
    return tokenizer


def _overlaid(model: Any, added: Mapping[int, AddedToken]) -> dict[str, str]:
    """Return the user-defined symbols whose ids were given to added tokens, and those tokens.

    Such a symbol still has its id where a text spells it out: it becomes the token before tokens are looked for in
    the normalised text. A prefix would be put before the token too, so with one, the symbol is read as plain text.
    """
    if model.normalizer_spec.add_dummy_prefix:
        return {}
    return {
        piece.piece: added[number].content
        for number, piece in enumerate(model.pieces)
        if piece.type == USER_DEFINED and number in added and added[number].content != piece.piece
    }


def _found_in(token: AddedToken, normalised: Container[str]) -> AddedToken:
    """Return the token, to be looked for in the normalised text if it is one of `normalised`, else in the raw one."""
    return AddedToken(
        token.content,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        single_word=token.single_word,
        special=token.special,
        normalized=token.content in normalised,
    )


def merges(pieces: Iterable[tuple[str, float]]) -> list[tuple[str, str]]:
    """Return the merges of a BPE model, most urgent first.

    Sentencepiece joins any two neighbours that make a piece, the piece of the highest score first.

    Args:
        pieces: Texts and scores of its normal pieces.
    """
    scores = dict(pieces)
    found = [
        (-score, len(piece[:cut]), piece[:cut], piece[cut:])
        for piece, score in scores.items()
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    return [(left, right) for _, _, left, right in sorted(found)]


def _normalizer(spec: Any, replaced: Mapping[str, str]) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:  # InternLM2 has none
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps.append(normalizers.Replace(Regex(f"\\A +|[ {SPACE}]+\\z|(?<= ) +"), ""))
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    steps.append(normalizers.Replace(" ", SPACE))
    longest_first = sorted(replaced, key=len, reverse=True)
    steps += [normalizers.Replace(symbol, replaced[symbol]) for symbol in longest_first]
    return normalizers.Sequence(steps)


def _post_processor(spec: Any, tokenizer: Tokenizer, *, add_bos: bool, add_eos: bool) -> processors.PostProcessor:
    first = [(str(tokenizer.id_to_token(spec.bos_id)), spec.bos_id)] if add_bos else []
    last = [(str(tokenizer.id_to_token(spec.eos_id)), spec.eos_id)] if add_eos else []

    def around(*texts: str) -> list[str]:
        return [*(name for name, _ in first), *texts, *(name for name, _ in last)]

    return processors.TemplateProcessing(
        single=around("$A"), pair=around("$A", "$B:0"), special_tokens=list(dict.fromkeys(first + last))
    )


def _stripped(spec: Any) -> str:
    if spec.remove_extra_whitespaces:
        return " +"
    return " " if spec.add_dummy_prefix else ""
