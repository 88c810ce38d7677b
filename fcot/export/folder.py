"""Write the folder of an exported student: weights, consistent configurations, code, model card."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open

from fcot.compress import COMPRESSORS
from fcot.environment import installed
from fcot.export.card import Facts, card
from fcot.export.origin import MERGE_FILE, Origin
from fcot.export.single_file import single_file
from fcot.files.atomic_folder import Kind
from fcot.files.json_files import read_json, write_json
from fcot.internvl.chat_template import chat_template
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.tokens import tokens_per_tile
from fcot.internvl.video_token import mend_video_token
from fcot.models.base_model import CompressedInternVLModel
from fcot.models.image_processor import CompressedInternVLImageProcessor
from fcot.models.processor import CompressedInternVLProcessor
from fcot.models.student import CompressedInternVL
from fcot.models.student_config import CompressedInternVLConfig
from fcot.models.student_folder import said_of_tokens
from fcot.models.student_teacher import PARTS, part_of

CODE = "modeling_fcot_internvl"
EXPORTED = Kind("an exported model", f"{CODE}.py")
COPIED = (".json", ".model", ".txt")  # tokenizer and generation settings
WRITTEN_HERE = ("config.json", "preprocessor_config.json", "processor_config.json", MERGE_FILE)


def write_export(source: ModelFolder, folder: Path, origin: Origin, name: str) -> None:
    """Write a student into a folder that transformers loads with or without fcot.

    Args:
        source: Folder of the student.
        folder: Where to write; must exist and be empty.
        origin: How the student was made.
        name: Name of the exported model.
    """
    for file in sorted(source.path.iterdir()):
        is_weights = file.suffix == ".safetensors" or file.name.endswith(".safetensors.index.json")
        if is_weights or (file.suffix in COPIED and file.name not in WRITTEN_HERE):
            shutil.copyfile(file, folder / file.name)
    kinds: list[type] = [
        CompressedInternVLConfig,
        CompressedInternVLModel,
        CompressedInternVL,
        COMPRESSORS[source.config.compressor],
    ]
    kinds += [CompressedInternVLImageProcessor, CompressedInternVLProcessor]
    title = f"InternVL with 1/{source.config.ratio} of its visual tokens: model and processor, for transformers."
    (folder / f"{CODE}.py").write_text(single_file(title, *kinds), encoding="utf-8")
    write_settings(source, folder)
    for name_there, run in origin.files().items():
        (folder / name_there).parent.mkdir(exist_ok=True)
        shutil.copyfile(run.file, folder / name_there)
    if origin.merge is not None:
        write_json(folder / MERGE_FILE, origin.merge)
    (folder / "README.md").write_text(card(facts_of(source, name), origin), encoding="utf-8")


def write_settings(source: ModelFolder, folder: Path) -> None:
    """Write consistent files of configuration, preprocessing, processor and chat template.

    The number of visual tokens of a tile is computed here and written to both files from which transformers reads it.
    """
    told = said_of_tokens(source.config)
    written = read_json(source.path / "config.json")
    auto = {
        "AutoConfig": CompressedInternVLConfig,
        "AutoModel": CompressedInternVLModel,  # vLLM takes the first model that it finds
        "AutoModelForImageTextToText": CompressedInternVL,
    }
    settings = {"architectures": [CompressedInternVL.__name__], "image_seq_length": told["image_seq_length"]}
    write_json(folder / "config.json", {**written, **settings, "auto_map": auto_map(auto)})
    tiling = {
        "image_processor_type": CompressedInternVLImageProcessor.__name__,
        "processor_class": CompressedInternVLProcessor.__name__,
        "auto_map": auto_map({"AutoImageProcessor": CompressedInternVLImageProcessor}),
        "crop_to_patches": True,
        "min_patches": 1,  # as in training
        "size": {"height": source.tile_size, "width": source.tile_size},
    }
    write_json(folder / "preprocessor_config.json", {**source.preprocessing, **tiling})
    processor = {
        "processor_class": CompressedInternVLProcessor.__name__,
        **told,
        "auto_map": auto_map({"AutoProcessor": CompressedInternVLProcessor}),
    }
    write_json(folder / "processor_config.json", processor)
    (folder / "chat_template.jinja").write_text(chat_template(source.template), encoding="utf-8")
    tokenizer = read_json(folder / "tokenizer_config.json")
    for other in ("chat_template", "processor_class", "auto_map"):  # one template, and no code but this folder's
        tokenizer.pop(other, None)
    write_json(folder / "tokenizer_config.json", tokenizer)
    mend_video_token(folder)


def auto_map(kinds: Mapping[str, type]) -> dict[str, str]:
    """Return the `auto_map` by which transformers finds the classes in this folder's code."""
    return {auto: f"{CODE}.{kind.__name__}" for auto, kind in kinds.items()}


def facts_of(source: ModelFolder, name: str) -> Facts:
    """Read the properties of a student from its folder; of the weights only the headers are read."""
    parameters = dict.fromkeys(PARTS, 0)
    types: set[str] = set()
    for file in sorted(source.path.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for key in weights.keys():  # noqa: SIM118 - a safetensors file is not a mapping
                tensor = weights.get_slice(key)
                size = 1
                for side in tensor.get_shape():
                    size *= side
                tied = key.endswith("lm_head.weight") and source.config.tie_word_embeddings
                parameters[part_of(f".{key}")] += 0 if tied else size
                types.add(tensor.get_dtype())
    return Facts(
        name=name,
        config=source.config,
        tokens_before=tokens_per_tile(source.config),
        max_tiles=source.max_tiles,
        parameters=parameters,
        dtype="/".join(sorted(types)),
        code=f"{CODE}.py",
        versions={package: installed(package) for package in ("fcot", "torch", "transformers")},
    )
