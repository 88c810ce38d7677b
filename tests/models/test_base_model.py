"""By what serving engines call, an engine of a few lines answers as generate does; `.ci/vllm` runs a real one."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel

from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.models.base_model import CompressedInternVLModel
from fcot.models.image_processor import CompressedInternVLImageProcessor
from fcot.models.processor import CompressedInternVLProcessor
from fcot.models.spec import StudentSpec
from fcot.models.student_folder import said_of_tokens
from fcot.models.student_teacher import StudentTeacher

CONTEXT, NEW_TOKENS = "<IMG_CONTEXT>", 6
SPECS = {
    "halves of positions": StudentSpec("conv", 2, keep_positions=True),
    "thirds of positions": StudentSpec("pool", 8, keep_positions=True),
    "whole positions": StudentSpec("conv", 4, keep_positions=True),
    "counted up": StudentSpec("conv", 2),
    "levels": StudentSpec("token_packer", 4, keep_positions=True, options={"levels": [1]}),
    "elastic": StudentSpec("conv", 2, ratios=(2, 4), keep_positions=True),
}


def page(width, height):
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


def processor_of(checkpoint, config):
    folder = ModelFolder(checkpoint)
    names = ("size", "max_patches", "image_mean", "image_std")
    cutter = CompressedInternVLImageProcessor(**{name: folder.preprocessing[name] for name in names})
    return CompressedInternVLProcessor(cutter, folder.tokenizer, **said_of_tokens(config))


@pytest.fixture(params=SPECS.values(), ids=SPECS.keys())
def student(request, checkpoint):
    torch.manual_seed(3)
    return StudentTeacher(checkpoint, request.param).eval().student


class Engine:
    """Serves a student as an engine does that knows its model by the hooks alone."""

    def __init__(self, student):
        self.model = AutoModel.from_config(student.config).eval()
        self.model.load_state_dict(student.model.state_dict())
        self.head = student.lm_head
        self.own_positions = student.config.mrope_section is not None

    @torch.no_grad()
    def answer(self, ids, pixel_values, **more):
        rows = self.model.get_image_features(pixel_values, return_dict=True, **more).pooler_output
        assert rows.ndim == 3 and len(rows) == len(pixel_values)
        embeds = self.model.get_input_embeddings()(ids)
        embeds[ids == self.model.config.image_token_id] = rows.flatten(0, 1)
        places = torch.arange(ids.shape[1]).expand(3, 1, -1)
        ahead = 0
        if self.own_positions:
            places, delta = self.model.get_rope_index(input_ids=ids)
            assert places.dtype == torch.int64 and places.shape == (3, *ids.shape)
            ahead = delta.item()
        found = []
        for _ in range(NEW_TOKENS):
            given = places if self.own_positions else places[0]
            mask = torch.ones(
                embeds.shape[:2]
            )  # transformers would take gaps for borders; engines attend by themselves
            hidden = self.model(inputs_embeds=embeds, attention_mask=mask, position_ids=given, use_cache=False)[0]
            found.append(self.head(hidden[:, -1]).argmax(-1))
            embeds = torch.cat([embeds, self.model.get_input_embeddings()(found[-1])[:, None]], 1)
            places = torch.cat([places, torch.full((3, 1, 1), places.shape[2] + ahead)], 2)
        return torch.stack(found, 1)


def test_an_engine_answers_as_generate_does(student, checkpoint):
    processor, engine = processor_of(checkpoint, student.config), Engine(student)
    for pages in ([page(112, 112)], [page(224, 112), page(300, 300)]):
        given = processor(images=pages, text=f"What is {CONTEXT * len(pages)}?", return_tensors="pt")
        expected = student.generate(**given, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False)
        ids, pixels = given.pop("input_ids"), given.pop("pixel_values")
        given.pop("attention_mask")
        assert engine.answer(ids, pixels, **given).tolist() == expected[:, ids.shape[1] :].tolist()


def test_positions_are_asked_for_where_they_are_kept_and_nothing_of_it_is_saved(student):
    assert (student.config.mrope_section is not None) == student.config.keep_positions
    assert "mrope_section" not in student.config.to_dict()


def test_an_engine_can_lay_out_a_prompt_by_what_replaces_each_page(student, checkpoint):
    processor = processor_of(checkpoint, student.config)
    pages = [page(112, 112), page(224, 112), page(300, 300)]
    texts = [f"{CONTEXT} and {CONTEXT}", "no page", f"{CONTEXT}?"]
    given = processor(
        images=pages,
        text=texts,
        padding=False,
        return_text_replacement_offsets=True,
        return_mm_token_type_ids=True,
    )
    planned = processor._get_num_multimodal_tokens(image_sizes=[(each.height, each.width) for each in pages])
    assert sum(planned.num_image_patches) == len(given["pixel_values"])
    tokenizer, counts = processor.tokenizer, iter(planned.num_image_tokens)
    for text, ids, replaced in zip(texts, given["input_ids"], given["text_replacement_offsets"], strict=True):
        laid_out, spans = [], iter(replaced)
        for token in tokenizer(text).input_ids:
            if token == processor.image_token_id:
                span = tokenizer(next(spans)["replacement"], add_special_tokens=False).input_ids
                assert len(span) == next(counts)
                laid_out += span
            else:
                laid_out.append(token)
        assert laid_out == ids and next(spans, None) is None


def test_a_student_that_reads_the_question_is_refused(checkpoint):
    config = StudentTeacher(checkpoint, StudentSpec("llama_vid", 4)).student.config
    with pytest.raises(
        UserError, match=r"llama_vid reads the question, which this engine cannot serve\.\n.*`fcot serve`"
    ):
        CompressedInternVLModel(config)
