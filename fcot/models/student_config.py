"""The configuration of a student: InternVL's, and what its compressor needs."""

from typing import Any

from transformers import InternVLConfig

from fcot.models.spec import StudentSpec
from fcot.models.token_counts import TokenCounts

STUDENT_CLASS = "CompressedInternVL"  # whose configuration it is


class CompressedInternVLConfig(InternVLConfig):
    """InternVL's configuration plus the compressor's.

    Attributes:
        compressor: Short name of the compressor.
        compressor_options: Constructor arguments of this compressor alone.
        ratio: How many visual tokens become one.
        placement: "before" the projector (on pixel-shuffled features), "after" it, or "instead" of it.
        keep_positions: A visual token takes as many positions as the tokens it replaces, so that all tokens keep their
            positions in the teacher; otherwise positions are consecutive.
        position_rule: Where visual tokens then stand: see `teacher_positions`. Students of fcot 0.1.0 do not have this
            setting, and keep the rule they were trained with.
        turn_end_ids: Ids that end a turn, for a compressor that reads the question.
        ratios: Ratios above 1 of an elastic student, which reads each tile at one of them, or as the teacher does at
            ratio 1; `ratio` is then the one of tiles for which none is asked.
        router: Settings of an elastic student's router, which `fcot router fit` writes: `kind`, "learned" or "ink";
            `price` of a visual token for requests of "auto"; `rule`, the numbers of the router without weights, and its
            `rule_price`; `hidden`, the width of a learned one; `image_mean` and `image_std`.
    """

    model_type = "fcot_internvl"

    compressor: str = "conv"
    compressor_options: dict[str, Any] | None = None
    ratio: int = 2
    placement: str = "before"
    keep_positions: bool = False
    position_rule: str = "step"
    turn_end_ids: list[int] | None = None
    ratios: list[int] | None = None
    router: dict[str, Any] | None = None

    @property
    def mrope_section(self) -> list[int] | None:
        """Tells serving engines to ask the model for positions, see `CompressedInternVLModel.get_rope_index`.

        The numbers are those of ordinary RoPE. Engines that rotate rows by themselves would read them; here the
        model's own layers do.
        """
        return [1, 0, 0] if self.keep_positions else None


def student_config(teacher: Any, spec: StudentSpec) -> CompressedInternVLConfig:
    """Return the configuration of a student, given its teacher's."""
    settings = teacher.to_dict()
    for owned in ("model_type", "architectures", "transformers_version"):
        settings.pop(owned, None)
    settings.update(
        compressor=spec.compressor,
        ratio=spec.ratio,
        placement=spec.placement,
        keep_positions=spec.keep_positions,
        architectures=[STUDENT_CLASS],
        **({"compressor_options": dict(spec.options)} if spec.options else {}),
        **({"position_rule": spec.position_rule} if spec.keep_positions else {}),
        **({"ratios": list(spec.ratios)} if spec.ratios else {}),
    )
    config = CompressedInternVLConfig(**settings)
    config.image_seq_length = TokenCounts(config).most
    return config
