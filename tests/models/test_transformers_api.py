"""A transformers that calls things otherwise is refused, never obeyed in silence."""

import inspect
from types import SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement
from packaging.version import Version
from transformers import DynamicCache, InternVLForConditionalGeneration
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention, Qwen2DecoderLayer

from fcot.doctor import doctor
from fcot.doctor.versions import requirements
from fcot.errors import UserError
from fcot.export.single_file import single_file
from fcot.models.student import CompressedInternVL
from fcot.models.student_teacher import StudentTeacher
from fcot.models.transformers_api import CACHE, DECODER, KNOWN_VERSIONS, STUDENT, missing

PAGES = (("What?", "a short one", 2),)


@pytest.fixture
def pair(tiny_checkpoint):
    return StudentTeacher(tiny_checkpoint, compressor="conv", ratio=2, keep_positions=True).eval()


def asked(pair, batch):
    """A prompt as transformers takes it."""
    sequences = batch.sequences["student"]
    tiles = (batch.tiles.float() / 255 - pair.mean[:, None, None]) / pair.std[:, None, None]
    return {
        "input_ids": sequences.prompt_ids,
        "attention_mask": sequences.prompt_mask,
        "pixel_values": tiles,
    }


def renamed(method, old, new):
    """A method with an argument called otherwise, as a release of transformers may have it."""

    def forward(self, *args, **kwargs):
        kwargs = {old if name == new else name: value for name, value in kwargs.items()}
        return method(self, *args, **kwargs)

    parameters = [
        each.replace(name=new if each.name == old else each.name)
        for each in inspect.signature(method).parameters.values()
    ]
    forward.__signature__ = inspect.Signature(parameters)
    return forward


def test_the_installed_transformers_has_all_that_is_used():
    assert missing(STUDENT) == missing(DECODER) == []


def test_the_versions_said_to_be_known_are_those_that_can_be_installed():
    needed = next(each for each in map(Requirement, requirements()[1]) if each.name == "transformers")
    for known in KNOWN_VERSIONS:
        assert Version(f"{known}.0") in needed.specifier
    (major, lowest), (_, newest) = (map(int, KNOWN_VERSIONS[i].split(".")) for i in (0, -1))
    assert Version(f"{major}.{lowest - 1}.9") not in needed.specifier
    assert Version(f"{major}.{newest + 1}.0") not in needed.specifier


@pytest.mark.parametrize("name", [CACHE, "position_ids", "logits_to_keep", "mm_encoder_outputs"])
def test_a_renamed_argument_stops_a_student_from_being_built(pair, monkeypatch, name):
    changed = renamed(InternVLForConditionalGeneration.forward, name, "surprise")
    monkeypatch.setattr(InternVLForConditionalGeneration, "forward", changed)
    with pytest.raises(UserError, match=r"transformers 5\.\d+\.\d+ has no .*forward\(.*\n.*known to work with \(5\.23"):
        CompressedInternVL(pair.student.config)


def test_a_hook_that_is_gone_stops_it_too(pair, monkeypatch):
    for owner in InternVLForConditionalGeneration.__mro__:
        if "_prepare_position_ids_for_generation" in vars(owner):
            monkeypatch.delattr(owner, "_prepare_position_ids_for_generation")
    with pytest.raises(UserError, match="_prepare_position_ids_for_generation"):
        CompressedInternVL(pair.student.config)


@pytest.mark.parametrize("part", [Qwen2DecoderLayer, Qwen2Attention])
def test_a_decoder_that_hands_nothing_on_is_refused(tiny_checkpoint, monkeypatch, part):
    own = part.forward
    monkeypatch.setattr(part, "forward", lambda self, hidden_states, position_embeddings, position_ids, cache: own)
    with pytest.raises(UserError, match=rf"{part.__name__}\.forward\(\*\*kwargs\)"):
        StudentTeacher(tiny_checkpoint)


def test_a_cache_under_an_unknown_name_is_refused_at_first_use(pair, make_batch):
    given = asked(pair, make_batch(*PAGES))
    with pytest.raises(UserError, match="its cache as 'kv_store'"):
        pair.student(**given, kv_store=DynamicCache())


def test_tokens_behind_others_need_the_cache_of_these(pair, make_batch):
    given = asked(pair, make_batch(*PAGES))
    behind = {"input_ids": given["input_ids"][:, -1:], "attention_mask": given["attention_mask"]}
    with pytest.raises(UserError, match="without a cache"):
        pair.student(**behind)


def test_positions_numbered_consecutively_are_refused_where_they_are_kept(pair, make_batch):
    given = asked(pair, make_batch(*PAGES))
    anew = (given["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with pytest.raises(UserError, match="numbers visual tokens consecutively"):
        pair.student(**given, position_ids=anew)
    kept = pair.student.positions(given["input_ids"], given["attention_mask"])
    assert torch.equal(pair.student(**given, position_ids=kept).logits, pair.student(**given).logits)


@pytest.mark.parametrize("name", ["past_key_values", "cache"])
def test_a_cache_is_understood_by_its_old_and_its_new_name(pair, make_batch, name):
    given, cache = asked(pair, make_batch(*PAGES)), DynamicCache()
    first = pair.student(**given, **{name: cache})
    assert cache.get_seq_length() == given["input_ids"].shape[1]
    word = first.logits[:, -1:].argmax(-1)
    second = pair.student(input_ids=word, **{name: cache}).logits[:, -1]
    whole = {**given, "input_ids": torch.cat([given["input_ids"], word], 1)}
    whole["attention_mask"] = torch.ones_like(whole["input_ids"])
    torch.testing.assert_close(second, pair.student(**whole).logits[:, -1], rtol=1e-4, atol=1e-4)


def test_the_exported_file_refuses_as_fcot_does(monkeypatch, pair):
    file = SimpleNamespace(__name__="exported")
    exec(compile(single_file("A student.", CompressedInternVL), "exported.py", "exec"), vars(file))
    changed = renamed(InternVLForConditionalGeneration.forward, CACHE, "surprise")
    monkeypatch.setattr(InternVLForConditionalGeneration, "forward", changed)
    with pytest.raises(file.UserError, match="known to work with"):
        file.CompressedInternVL(file.CompressedInternVLConfig(**pair.student.config.to_dict()))


def test_the_doctor_finds_a_renamed_argument(monkeypatch, capsys):
    changed = renamed(InternVLForConditionalGeneration.forward, CACHE, "surprise")
    monkeypatch.setattr(InternVLForConditionalGeneration, "forward", changed)
    with pytest.raises(SystemExit):
        doctor()
    assert f"InternVLForConditionalGeneration.forward({CACHE})" in capsys.readouterr().out
