"""What in a model folder would fail later, found before anything is loaded."""

from collections.abc import Iterator
from typing import Any

from fcot.convert.source import open_checkpoint
from fcot.doctor.page import PageCost
from fcot.errors import UserError
from fcot.internvl.checkpoint import PROCESSOR_FILE, ModelFolder, image_settings
from fcot.internvl.names import in_memory
from fcot.internvl.tokens import CONTEXT, END, START
from fcot.models.token_counts import TokenCounts
from fcot.models.weight_checks import missing_parts


def problems(folder: ModelFolder, *, with_weights: bool = True) -> Iterator[str]:
    """Yield a sentence for everything that is missing or inconsistent in a model folder.

    Args:
        folder: The model's.
        with_weights: Whether its weights are to be there, too.
    """
    yield from _tokenizer(folder)
    yield from _preprocessing(folder)
    yield from _counts(folder)
    if not with_weights:
        return
    weights = missing_parts(folder)
    yield from weights
    if not weights:
        yield from _head(folder)


def _tokenizer(folder: ModelFolder) -> Iterator[str]:
    """Image tokens, the end of an answer, and ids within the vocabulary."""
    config = folder.config
    try:
        tokenizer = folder.tokenizer
        end = folder.template.end
    except UserError as error:
        yield str(error).replace("\n", " ")
        return
    except (ValueError, OSError) as error:
        yield f"The tokenizer or template of {folder.path} cannot be used: {str(error).splitlines()[0]}"
        return
    for token in (START, CONTEXT, END):
        if len(tokenizer(token, add_special_tokens=False).input_ids) != 1:
            yield f"{token} is not one token in the tokenizer of {folder.path}. It is not InternVL's tokenizer."
    found = tokenizer.convert_tokens_to_ids(CONTEXT)
    if found != config.image_token_id:
        said = f"config.json says image_token_id {config.image_token_id}"
        yield f"{said}, and the tokenizer gives {CONTEXT} the id {found}."
    vocabulary = config.text_config.vocab_size
    if len(tokenizer) > vocabulary:
        yield f"The tokenizer has {len(tokenizer)} tokens, and the model has embeddings for {vocabulary}."
    stops = _stops(folder)
    if stops and tokenizer.convert_tokens_to_ids(end) not in stops:
        yield f"generation_config.json stops at {sorted(stops)}, not at {end}: answers would not end."


def _stops(folder: ModelFolder) -> set[int]:
    """Return the ids at which generation ends; empty if no file says."""
    if not (folder.path / "generation_config.json").is_file():
        return set()
    said: Any = folder.read_json("generation_config.json").get("eos_token_id")
    return set(said) if isinstance(said, list) else {said} - {None}


def _preprocessing(folder: ModelFolder) -> Iterator[str]:
    """Normalisation and tile size."""
    try:
        settings = folder.preprocessing
    except UserError as error:
        yield str(error).replace("\n", " ")
        return
    file, _ = image_settings(folder.path)
    for key in ("image_mean", "image_std"):
        if len(settings.get(key) or []) != 3:
            yield f"{file} has no {key} of three colours."
    size = settings.get("size") or {}
    if size and set(size.values()) != {folder.tile_size}:
        yield f"{file} has tiles of {size}, and the vision tower takes {folder.tile_size} pixels."


def _counts(folder: ModelFolder) -> Iterator[str]:
    """The number of visual tokens of a tile, wherever it is written."""
    right = TokenCounts(folder.config).most
    written = {"config.json": folder.config.image_seq_length}
    if (folder.path / PROCESSOR_FILE).is_file():
        # transformers' processor takes 256 where nothing is said
        written[PROCESSOR_FILE] = folder.read_json(PROCESSOR_FILE).get("image_seq_length", 256)
    for file, count in written.items():
        if count != right:
            yield f"{file} says image_seq_length {count}, and a tile has {right} visual tokens."


def _head(folder: ModelFolder) -> Iterator[str]:
    """An untied lm_head that loading would overwrite with the embeddings."""
    names = {in_memory(name) for name in open_checkpoint(folder.path)}
    config = folder.config
    if config.tie_word_embeddings and not config.text_config.tie_word_embeddings and "lm_head.weight" in names:
        yield (
            "config.json says tie_word_embeddings true (transformers' default), its text_config false: the head in the "
            "weights would be replaced by the embeddings. Write false at the top level."
        )


def too_long(folder: ModelFolder, cost: PageCost) -> str | None:
    """Return what is wrong if a page alone fills the model's context; None if it does not."""
    context = int(folder.config.text_config.max_position_embeddings)
    if cost.before < context:
        return None
    return (
        f"A page of {cost.width}x{cost.height} has {cost.before} tokens before compression, and the model reads "
        f"{context}. Lower max_tiles: re-alignment shows it to the teacher too."
    )
