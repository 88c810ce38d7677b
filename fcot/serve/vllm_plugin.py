"""Makes exported students known to vLLM where fcot is installed, so that no code of their folder is run."""

import logging

ARCHITECTURE = "CompressedInternVL"
BACK_END = "vllm.model_executor.models.transformers:TransformersMultiModalForCausalLM"


def register() -> None:
    """Register the student with transformers' Auto classes and with vLLM's back end for models of transformers.

    vLLM calls it in each of its processes, whatever model it serves, by the entry point `vllm.general_plugins`. Other
    models are served even if fcot cannot be imported there.
    """
    from vllm import ModelRegistry  # type: ignore[import-not-found]

    try:
        import fcot.models.student  # noqa: F401 - registers it with the Auto classes
    except ImportError as error:
        logging.getLogger(__name__).warning("fcot's students cannot be served: %s", error)
        return
    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, BACK_END)
