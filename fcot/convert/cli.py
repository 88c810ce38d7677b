"""The verb `convert`: a model folder from its authors' layout to transformers', and back."""

from pathlib import Path
from typing import Literal


def convert(
    source: Path,
    destination: Path,
    layout: Literal["native", "original"] = "native",
    image_token_id: int | None = None,
) -> None:
    """Convert an InternVL2 folder between its authors' layout and transformers' native one, bit for bit.

    Weights are streamed: memory stays near one shard's, and a killed conversion leaves no folder that looks whole.

    Args:
        source: The model folder to convert.
        destination: The new folder.
        layout: Layout of the new folder: native (what everyone's tools load) or original (the authors').
        image_token_id: Id of the image placeholder; only for a folder without tokenizer files.
    """
    from safetensors import SafetensorError

    from fcot.convert.native import convert_to_native
    from fcot.convert.original import convert_to_original
    from fcot.errors import UserError

    if layout == "original" and image_token_id is not None:
        raise UserError("--image-token-id is for --layout native.\nLeave it out.")
    try:
        if layout == "native":
            done = convert_to_native(source, destination, image_token_id)
        else:
            done = convert_to_original(source, destination)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{destination} cannot be written ({error}).\n"
            "Give a place that you may write to, with room for the whole model."
        ) from error
    size = f"{done.parameters / 1e9:.2f} B" if done.parameters >= 1e8 else f"{done.parameters / 1e6:.2f} M"
    print(f"Converted {source} ({done.language_model}, {size} parameters) to {done.folder} ({layout} layout).")
    for note in done.notes:
        print(f"Note: {note}")
