"""The model card of an exported student: its properties, its training and its scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fcot.export.origin import Origin, Run
from fcot.files import markdown

SHOWN_OPTIONS = ("optimizer", "warmup", "kl_weight", "ce_weight", "temperature", "max_length", "max_tiles", "drop_path")
SHOWN_TRAINER = ("max_steps", "accumulate_grad_batches", "gradient_clip_val", "precision")

USE = """\
```python
from transformers import AutoModelForImageTextToText, AutoProcessor

folder = "{name}"  # this folder
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
message = {{
    "role": "user",
    "content": [{{"type": "image", "path": "page.png"}}, {{"type": "text", "text": "What is the total?"}}],
}}
inputs = processor.apply_chat_template(
    [message], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
)
ids = model.generate(**inputs, max_new_tokens=100)
print(processor.decode(ids[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
```

`trust_remote_code=True` runs `{code}` of this folder, one file generated from fcot's sources. Where fcot is installed,
`import fcot.student` takes its place and no code of the folder is run. Batches of conversations are padded on the
left, and their pages may differ in number of tiles. torchvision is not needed."""


@dataclass(frozen=True)
class Facts:
    """Properties of the exported model.

    Attributes:
        name: Name of the folder.
        config: The student's configuration.
        tokens_before: Visual tokens of a tile before compression.
        max_tiles: Most tiles of a page, thumbnail not counted.
        parameters: Parameters by part.
        dtype: Type of the weights.
        code: Name of the file with the model's code.
        versions: Versions of the packages used for the export.
    """

    name: str
    config: Any
    tokens_before: int
    max_tiles: int
    parameters: Mapping[str, int]
    dtype: str
    code: str
    versions: Mapping[str, str]


def card(facts: Facts, origin: Origin) -> str:
    """Return the text of README.md.

    Args:
        facts: Properties of the model.
        origin: How it was made; unknown parts are marked so in the card.
    """
    sections = [
        _front_matter(origin),
        f"# {facts.name}\n\nA student that reads pages with 1/{facts.config.ratio} of its teacher's visual tokens.",
        _what(facts, origin),
        "## Use\n\n" + USE.format(name=facts.name, code=facts.code),
        "## Training\n\n" + _training(origin.files()),
        "## Merge\n\n" + _merge(origin.merge),
        "## Scores\n\n" + _scores(origin.scores),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(origin: Origin) -> str:
    lines = ["library_name: transformers", "pipeline_tag: image-text-to-text", "tags: [fcot]"]
    if origin.base and "/" in origin.base:  # only names on the hub can be linked
        lines.append(f"base_model: {origin.base}")
    return "\n".join(["---", *lines, "---"])


def _what(facts: Facts, origin: Origin) -> str:
    config = facts.config
    side = config.vision_config.image_size[0]
    of = "of " if config.placement == "instead" else ""
    parameters = ", ".join(f"{part} {count / 1e6:.2f} M" for part, count in facts.parameters.items())
    rows = [
        ("base", origin.base or "not recorded"),
        ("compressor", f"{config.compressor}, {config.placement} {of}the projector"),
        ("ratio", _ratios(config)),
        ("tokens per tile", f"{config.image_seq_length} (base: {facts.tokens_before})"),
        ("tiles", f"{side} x {side} pixels, at most {facts.max_tiles} and a thumbnail"),
        ("context", f"{config.text_config.max_position_embeddings} tokens"),
        ("parameters", f"{sum(facts.parameters.values()) / 1e6:.2f} M ({parameters}), {facts.dtype}"),
        ("written by", ", ".join(f"{package} {version}" for package, version in facts.versions.items())),
    ]
    return markdown.table(("", ""), rows)


def _ratios(config: Any) -> str:
    """Return how many visual tokens become one, and which other ratios can be asked for."""
    others = ", ".join(str(each) for each in (1, *(config.ratios or ())) if each != config.ratio)
    asked = f"; or {others}, if processor or generate is asked for other visual_tokens" if config.ratios else ""
    routed = ", or a ratio for each tile, if it is asked for 'auto' or a budget" if config.router else ""
    return f"{config.ratio} visual tokens become one{asked}{routed}"


def _training(runs: Mapping[str, Run]) -> str:
    if not runs:
        return "The training run is not known: there was no config.yaml above the checkpoint."
    rows = []
    for file, run in runs.items():
        trainer, data = run.settings.get("trainer") or {}, run.settings.get("data") or {}
        shown = {name: trainer.get(name) for name in SHOWN_TRAINER} | {"batch_size": data.get("batch_size")}
        shown |= {name: run.options.get(name) for name in SHOWN_OPTIONS}
        said = ", ".join(f"{name} {_short(value)}" for name, value in shown.items() if value is not None)
        rows.append((run.stage, said, f"`{file}`"))
    return markdown.table(("stage", "settings", "all of them"), rows)


def _short(value: Any) -> str:
    """Abbreviate a setting: a class becomes its short name with its numeric arguments."""
    if not isinstance(value, dict):
        return str(value)
    name = str(value.get("class_path", "")).rpartition(".")[2]
    arguments = {key: each for key, each in (value.get("init_args") or {}).items() if isinstance(each, int | float)}
    return f"{name}({', '.join(f'{key}={each}' for key, each in arguments.items() if not isinstance(each, bool))})"


def _merge(merge: Mapping[str, Any] | None) -> str:
    if merge is None:
        return "None: the weights are from the end or a snapshot of one run."
    shares = merge["shapley"]
    weights = merge["weights"] or dict.fromkeys(shares)  # None if a method merged tensor by tensor
    rows = [
        (name, "" if weight is None else f"{weight:.4f}", f"{shares[name]:+.4f}" if name in shares else "")
        for name, weight in weights.items()
    ]
    pages = f"{merge.get('n', 'an unknown number of')} {merge.get('split', 'held-out')} pages"
    utility = merge["controls"][merge["chosen"]]["utility"]
    why = (merge.get("choice") or {}).get("why")
    told = (
        f"Method {merge['chosen']}{f' ({why})' if why else ''}. By {merge.get('metric', 'their score')} it has "
        f"{utility:.4f} on the {pages} that also produced the candidates (seed {merge['seed']}), which favours them."
    )
    return f"{told}\n\n{markdown.table(('snapshot', 'weight', 'Shapley value'), rows)}"


def _scores(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "Not measured. `fcot test` writes scores, and `export --scores test.json` puts them here."
    return "\n\n".join(_score_table(row) for row in rows)


def _score_table(row: Mapping[str, Any]) -> str:
    lines = [
        (task, score["metric"], f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]", str(score["n"]))
        for task, score in row["scores"].items()
    ]
    head = f"Split {row['split']}, n = {row['n']}, seed {row['seed']}; 95 % bootstrap intervals."
    return f"{head}\n\n{markdown.table(('task', 'metric', 'score', 'n'), lines)}"
