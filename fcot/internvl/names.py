"""The two names of a native InternVL's tensors: in files that transformers writes, and in the loaded model."""

# fcot's own folders have the names on the right; both load
IN_MEMORY = (
    ("language_model.lm_head.", "lm_head."),
    ("language_model.model.", "model.language_model."),
    ("vision_tower.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
)


def in_memory(name: str) -> str:
    """Return a tensor's name in the loaded model, given either of its names."""
    return _renamed(name, IN_MEMORY)


def as_written(name: str) -> str:
    """Return a tensor's name in files that transformers writes, given either of its names."""
    return _renamed(name, tuple((held, written) for written, held in IN_MEMORY))


def _renamed(name: str, starts: tuple[tuple[str, str], ...]) -> str:
    for old, new in starts:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
