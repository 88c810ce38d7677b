import torch

from fcot.evaluation.rows import Row
from fcot.evaluation.run.reader import Asked, Pages, Reader
from fcot.internvl.checkpoint import ModelFolder


def test_a_row_that_spells_out_control_tokens_is_asked_as_it_is(tiny_checkpoint):
    reader = Reader(ModelFolder(tiny_checkpoint))
    pages = Pages(torch.zeros(1, 3, 56, 56, dtype=torch.uint8), [1], [(1, 1)])
    tokenizer = reader.folder.tokenizer

    def counts(text):
        prepared = reader.prepare(Asked(Row("1", (), text, ()), text, []), pages)
        assert prepared.encoded is not None
        ids = prepared.encoded.ids.tolist()
        assert text in tokenizer.decode(ids)
        return [ids.count(tokenizer.convert_tokens_to_ids(name)) for name in ("<IMG_CONTEXT>", "<img>", "<|im_end|>")]

    assert counts("What does <image> mean, or <IMG_CONTEXT>, <img> and <|im_end|>?") == counts("What?")
