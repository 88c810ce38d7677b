"""From the original layout to the native one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fcot.convert.config import CONFIG_FILE, native_config
from fcot.convert.families import family_of_original
from fcot.convert.llama import EMBEDDING
from fcot.convert.result import Converted, count_parameters, write_folder
from fcot.convert.side_files import native_generation, native_preprocessing, write_native_companions
from fcot.convert.source import open_checkpoint
from fcot.convert.streams import mapped_tensors, original_name, to_native
from fcot.convert.tokenizer import load_tokenizer
from fcot.errors import UserError
from fcot.files.json_files import read_json
from fcot.files.weights import write_weights
from fcot.internvl.prompts import template
from fcot.internvl.tokens import CONTEXT

NO_PLACEHOLDER = -1  # no token has this id: a model without a placeholder refuses images by itself


def convert_to_native(
    source: Path, destination: Path, image_token_id: int | None = None, *, with_weights: bool = True
) -> Converted:
    """Convert a folder of the original layout to one that `InternVLForConditionalGeneration` loads.

    Args:
        source: A folder as its authors published it; code in it is neither run nor copied.
        destination: A new folder.
        image_token_id: Id of the image placeholder, where the folder has no tokenizer.
        with_weights: False writes all other files, and of the weights reads the headers only.

    Raises:
        UserError: If something in the folder is missing, broken or of another family; there is no new folder then.
    """
    file = source / CONFIG_FILE
    original = read_json(file)
    config = native_config(original, file)
    model = family_of_original(original, file)
    tokenizer = load_tokenizer(source, model)
    config.image_token_id = _placeholder(source, tokenizer, image_token_id)
    entries = mapped_tensors(config, model)
    weights = open_checkpoint(source, (entry.original for entry in entries))
    stream = to_native(weights, entries, file, tied=config.tie_word_embeddings)
    dtype = weights.layout[original_name(entries, EMBEDDING)][0]
    config.dtype = config.vision_config.dtype = config.text_config.dtype = dtype
    spoken = template(config.template).with_system(config.system_message)
    preprocessing = native_preprocessing(original, source, config.vision_config.image_size[0])
    generation = native_generation(source, config, tokenizer, spoken)

    def fill(folder: Path) -> None:
        if with_weights:
            write_weights(folder, stream)
        write_native_companions(folder, source, tokenizer, spoken, config, preprocessing, generation)
        config.save_pretrained(folder)  # last: without it, no folder is a model's

    write_folder(destination, fill)
    parameters = count_parameters(entries, tied=config.tie_word_embeddings)
    return Converted(destination, model.architecture, parameters, tuple(_notes(source, config, tokenizer)))


def _placeholder(source: Path, tokenizer: Any | None, given: int | None) -> int:
    if tokenizer is None:
        return NO_PLACEHOLDER if given is None else given
    found: int = tokenizer.convert_tokens_to_ids(CONTEXT)
    if given not in (None, found):
        raise UserError(
            f"{CONTEXT} has id {found} in the tokenizer of {source}, and --image-token-id is {given}.\n"
            "Leave the option out: it is for folders without a tokenizer."
        )
    return found


def _notes(source: Path, config: Any, tokenizer: Any | None) -> Iterator[str]:
    number, vocabulary = config.image_token_id, config.text_config.vocab_size
    if tokenizer is None:
        yield f"{source} has no tokenizer files: the model was converted alone, without tokenizer and chat template."
    if number == NO_PLACEHOLDER:
        yield "No token stands for images in it. Convert again with --image-token-id, or with the tokenizer files."
    elif number >= vocabulary:
        yield f"The image placeholder has id {number} and the model {vocabulary} embeddings: these are of two models."
