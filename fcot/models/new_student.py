"""A new student of a teacher."""

import torch
from transformers import InternVLForConditionalGeneration

from fcot.compress import COMPRESSORS
from fcot.models.projector import ElasticProjector, projector_of
from fcot.models.spec import StudentSpec
from fcot.models.student import CompressedInternVL
from fcot.models.student_config import student_config


def student_of(teacher: InternVLForConditionalGeneration, spec: StudentSpec) -> CompressedInternVL:
    """Make a student that shares the teacher's vision tower, language model and head.

    Only the projector is new: it starts from the teacher's weights, its compressor from its own initial weights, or
    from the projector's where it takes its place. An elastic student also shares the teacher's projector.
    """
    config = student_config(teacher.config, spec)
    if COMPRESSORS[spec.compressor].reads_text:
        ends = teacher.generation_config.eos_token_id or teacher.config.text_config.eos_token_id
        config.turn_end_ids = ends if isinstance(ends, list) else [] if ends is None else [ends]
    with torch.device("meta"):
        student = CompressedInternVL(config)
    projector = projector_of(config)
    projector.load_state_dict(teacher.model.multi_modal_projector.state_dict(), strict=False)
    if isinstance(projector, ElasticProjector):
        projector.whole = teacher.model.multi_modal_projector
    projector.compressor.start_from(projector)
    student.model.multi_modal_projector = projector
    student.model.vision_tower = teacher.model.vision_tower
    student.model.language_model = teacher.model.language_model
    student.lm_head = teacher.lm_head
    student.generation_config = teacher.generation_config
    return student
