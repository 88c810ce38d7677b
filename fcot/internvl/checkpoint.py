"""A model folder on disk: the files it must have, and its settings of tiles, tokens and prompts."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fcot.errors import UserError, nearest
from fcot.files.json_files import read_optional
from fcot.internvl.chat_template import template_of
from fcot.internvl.control_tokens import TEXT
from fcot.internvl.encoder import ConversationEncoder
from fcot.internvl.prompts import TEMPLATES, Template, template
from fcot.internvl.shipped import shipped
from fcot.internvl.tokens import CONTEXT, raster_side
from fcot.internvl.video_token import mended_settings

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
WRITTEN_BY_RUNS = ("student", "merged")
PREPROCESSING_FILE, PROCESSOR_FILE, NESTED = "preprocessor_config.json", "processor_config.json", "image_processor"


def image_settings(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the name of the file with a model folder's image settings, and the settings; empty if there are none.

    transformers 5 saves them inside the processor's file, and looks there first (`get_image_processor_dict` in its
    `image_processing_base.py`); earlier versions write them to a separate file.
    """
    nested = read_optional(folder / PROCESSOR_FILE).get(NESTED)
    if isinstance(nested, dict):
        return PROCESSOR_FILE, nested
    return PREPROCESSING_FILE, read_optional(folder / PREPROCESSING_FILE)


@dataclass(frozen=True)
class ModelFolder:
    """A native InternVL model folder (`config.json`, tokenizer, image settings, safetensors).

    Args:
        path: The folder; `fcot/tiny/…` also finds the tiny models in the installed package.

    Raises:
        UserError: If the folder or its config.json is missing, or it holds a model of another type.
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", shipped(self.path))
        if not (self.path / "config.json").is_file():
            beside = (file.parent.name for file in self.path.parent.glob("*/config.json"))
            near = nearest(self.path.name, beside)
            get = near.strip() if "Did you mean" in near else "Train it or fetch it first,"
            if self.path.name.startswith("InternVL2"):
                get = f"Get one with: hf download OpenGVLab/{self.path.name} --local-dir {self.path}"
            elif self.path.name in WRITTEN_BY_RUNS:
                get = f"Train it first, with the configuration whose run folder is {self.path.parent},"
            raise UserError(
                f"There is no model folder at {str(self.path)!r} (no config.json in it).\n"
                f"{get}\n{'Or' if get.endswith('?') else 'or'} give the path of a model folder."
            )
        kind = self.read_json("config.json").get("model_type")
        if kind == "internvl_chat":
            raise UserError(
                f"{self.path / 'config.json'} describes an 'internvl_chat' model: InternVL2 in its authors' layout.\n"
                f"Convert it: fcot convert {self.path} {self.path}-native"
            )
        if kind not in ("internvl", "fcot_internvl"):
            raise UserError(
                f"{self.path / 'config.json'} describes a {kind!r} model, not a native InternVL.\n"
                "Give a folder whose model_type is 'internvl' (the authors' -hf layout) or one saved by fcot."
            )

    def read_json(self, name: str) -> dict[str, Any]:
        """Read one of the folder's JSON files.

        Raises:
            UserError: If it is missing or holds no JSON object.
        """
        file = self.path / name
        if not file.is_file():
            raise UserError(f"{file} is missing. Copy the whole model folder, not the weights alone.")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{file} is not valid JSON ({error}). Fetch the file again.") from error
        if not isinstance(content, dict):
            raise UserError(f"{file} holds no JSON object. Fetch the file again.")
        return content

    @cached_property
    def config(self) -> Any:
        """The transformers configuration."""
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self.path, local_files_only=True, trust_remote_code=False)

    @property
    def has_tokenizer(self) -> bool:
        """Whether the folder has tokenizer files."""
        return any((self.path / name).is_file() for name in TOKENIZER_FILES)

    @cached_property
    def tokenizer(self) -> Any:
        """The fast tokenizer.

        Raises:
            UserError: If there is none.
        """
        from transformers import AutoTokenizer

        if not self.has_tokenizer:
            raise UserError(
                f"{self.path} has no tokenizer ({' or '.join(TOKENIZER_FILES[:2])}).\n"
                "Copy the tokenizer's files of the same model into it, or convert again from a folder that has them."
            )
        try:
            mended = mended_settings(self.path)
            return AutoTokenizer.from_pretrained(self.path, local_files_only=True, trust_remote_code=False, **mended)
        except UserError:
            raise
        except (ValueError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"The tokenizer of {self.path} cannot be loaded ({reason}).\n"
                "Give a folder with a fast tokenizer (tokenizer.json); code in a model folder is never run."
            ) from error

    @cached_property
    def preprocessing(self) -> dict[str, Any]:
        """The image settings: `image_mean`, `image_std`, `max_patches`, `min_patches`.

        Raises:
            UserError: If there are none.
        """
        _, settings = image_settings(self.path)
        if not settings:
            raise UserError(
                f"{self.path} has no image settings, neither {PREPROCESSING_FILE} nor {NESTED!r} in {PROCESSOR_FILE}.\n"
                "Copy the whole model folder, not the weights alone."
            )
        return settings

    @property
    def tile_size(self) -> int:
        """Side of a tile in pixels."""
        return int(self.config.vision_config.image_size[0])

    @property
    def max_tiles(self) -> int:
        """Most tiles an image is cut into, thumbnail not counted."""
        return int(self.preprocessing.get("max_patches", 12))

    @property
    def template(self) -> Template:
        """The conversation template with this model's own system message.

        Folders written by fcot name it in their configuration. For the authors' `-hf` folders it is recognised from
        the chat template, and is InternVL2.5's if they have none.

        Raises:
            UserError: If the chat template is none of InternVL's.
        """
        name = getattr(self.config, "template", None)
        if name is None and self.tokenizer.chat_template is not None:
            found = template_of(self.tokenizer)
            if found is None:
                raise UserError(
                    f"The chat template of {self.path} fits none of {', '.join(TEMPLATES)}.\n"
                    'Name the nearest in its config.json: "template": "internvl2_5", with its "system_message".'
                )
            return found
        return template(name or "internvl2_5").with_system(getattr(self.config, "system_message", None))

    def encoder(self, max_length: int | None = None, control_tokens: str | None = None) -> ConversationEncoder:
        """Return an encoder of conversations.

        Args:
            max_length: Longest in tokens (default: the model's limit).
            control_tokens: What a control token in a question or an answer is, "text" or "as_written" (default: as
                the model's configuration says, or text).

        Raises:
            UserError: If the tokenizer has another placeholder of visual tokens than the configuration says.
        """
        found, said = self.tokenizer.convert_tokens_to_ids(CONTEXT), self.config.image_token_id
        if found != said:
            raise UserError(
                f"In {self.path}, {CONTEXT} is token {found} by the tokenizer and {said} by config.json "
                "(image_token_id), so no page would be seen.\nCopy both from the same model."
            )
        return ConversationEncoder(
            self.tokenizer,
            self.template,
            image_token_id=self.config.image_token_id,
            max_length=max_length or self.config.text_config.max_position_embeddings,
            teacher_tokens_per_tile=raster_side(self.config) ** 2,
            control_tokens=control_tokens or getattr(self.config, "control_tokens", None) or TEXT,
        )
