"""Native folders as the authors of InternVL2.5 and later publish them (`-hf`): teachers as they are."""

import json

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

from callbacks import SaveStudent
from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.encoder import IGNORED
from fcot.internvl.pixels import normalize
from fcot.internvl.prompts import TEMPLATES
from fcot.models.student_teacher import StudentTeacher
from fcot.tiny import write_architecture
from fcot.training.realign import Realign

TURNS = (
    "{% for message in messages %}<|im_start|>{{ message['role'] + '\\n' }}{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<IMG_CONTEXT>\\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{{ '\\n' }}{% endif %}"
)
LANGUAGE = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}
TOWER = {"use_qk_norm": True, "norm_type": "rms_norm", "attention_bias": False}  # as the 6B tower has it


@pytest.fixture(scope="module", params=[("llama", {}), ("qwen2", TOWER), ("qwen3", {})], ids=["llama", "6b", "qwen3"])
def hf_folder(request, tmp_path_factory):
    """A published folder's files: no template in the configuration, cutting left off in the preprocessing."""
    name, tower = request.param
    folder = write_architecture(
        tmp_path_factory.mktemp("hf") / name, tile_size=56, width=32, vision_layers=1, text_layers=1, heads=2
    )
    tiny = AutoConfig.from_pretrained(folder)
    text = {key: getattr(tiny.text_config, key) for key in ("vocab_size", "hidden_size", "intermediate_size")}
    language = LANGUAGE[name](
        **text, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8, tie_word_embeddings=False
    )
    vision = InternVLVisionConfig.from_dict({**tiny.vision_config.to_dict(), **tower})
    config = InternVLConfig(
        vision_config=vision,
        text_config=language,
        image_token_id=tiny.image_token_id,
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        InternVLForConditionalGeneration(config).save_pretrained(folder)
    preprocessing = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**preprocessing, "crop_to_patches": False}))
    (folder / "chat_template.jinja").write_text(TURNS)
    return folder


def test_prompts_are_those_of_the_folders_own_chat_template(hf_folder):
    said = [{"role": "user", "content": "What is it?"}]
    own = AutoTokenizer.from_pretrained(hf_folder).apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    ours = "".join(segment.text for segment in ModelFolder(hf_folder).template.segments(["What is it?"], []))
    assert ours == own


def test_teacher_rows_are_those_of_the_plain_model(hf_folder, make_batch):
    pair, plain = (
        StudentTeacher(hf_folder, compressor="conv", ratio=2),
        InternVLForConditionalGeneration.from_pretrained(hf_folder).eval(),
    )
    batch = make_batch(("What?", "short", 2), ("And more?", "a longer answer", 3))
    sequences = batch.sequences["teacher"]
    with torch.no_grad():
        logits = plain(
            input_ids=sequences.input_ids,
            pixel_values=normalize(batch.tiles, pair.mean, pair.std),
            attention_mask=(sequences.input_ids != 256).long(),
        ).logits
        rows = pair.eval().teacher_rows(batch) @ pair.head_weight.T
    torch.testing.assert_close(rows, logits[:, :-1][sequences.labels[:, 1:] != IGNORED], rtol=1e-5, atol=1e-5)


def test_it_is_compressed_and_its_student_keeps_its_prompts(hf_folder, pages, trainer, tmp_path):
    trainer(tmp_path, SaveStudent(), max_steps=1).fit(Realign(hf_folder, ratio=2), pages)
    student = ModelFolder(tmp_path / "student")
    assert student.template == ModelFolder(hf_folder).template
    assert student.max_tiles == 6


SYSTEM = "{{ '<|im_start|>system\\nYou read pages.<|im_end|>\\n' }}"


@pytest.mark.parametrize(("head", "system"), [("", ""), (SYSTEM, "You read pages.")])
def test_the_system_message_is_that_of_the_chat_template(tmp_path, head, system):
    folder = published(tmp_path, head + TURNS)
    assert ModelFolder(folder).template == TEMPLATES["internvl2_5"].with_system(system)


def test_a_conversation_laid_out_in_another_way_is_refused_with_what_to_write(tmp_path):
    folder = published(tmp_path, "{% for message in messages %}[INST] {{ message['content'] }} [/INST]{% endfor %}")
    with pytest.raises(UserError, match=r"chat template of .* fits none of") as caught:
        _ = ModelFolder(folder).template
    assert '"template": "internvl2_5"' in str(caught.value)


def published(folder, chat_template):
    write_architecture(folder, tile_size=56, width=32, vision_layers=1, text_layers=1, heads=2)
    config = json.loads((folder / "config.json").read_text())
    del config["template"], config["system_message"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text(chat_template)
    return folder
