import numpy as np
import pytest

from fcot.errors import SampleError
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.encoder import IGNORED, ConversationEncoder, expand, pad, turns
from fcot.internvl.prompts import template
from fcot.internvl.tokens import tokens_per_tile

PER_TILE = 4  # visual tokens of a 56-pixel tile


@pytest.fixture(scope="module")
def folder(tiny_checkpoint):
    return ModelFolder(tiny_checkpoint)


@pytest.fixture(scope="module")
def encoder(folder):
    return folder.encoder()


def talk(*texts):
    """A conversation of texts in turn."""
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


def learned(encoder, encoded):
    return encoder.tokenizer.decode(encoded.ids[encoded.labels != IGNORED])


def whole(encoder, encoded):
    return encoder.tokenizer.decode(encoded.ids)


@pytest.mark.parametrize("answer", ["42", "two\nlines", "naïve 42 € 你好", " padded ", "a|b <b>&amp;</b>"])
def test_only_the_answer_and_its_end_token_are_learned(encoder, answer):
    encoded = encoder.encode(talk("<image>\nWhat is the total?", answer), [3])
    assert learned(encoder, encoded) == answer + "<|im_end|>"
    assert encoded.labels[encoded.labels != IGNORED].tolist() == encoded.ids[encoded.labels != IGNORED].tolist()
    assert encoded.ids[-1] == encoder.tokenizer.eos_token_id


def test_every_answer_of_several_turns_is_learned_and_no_question(encoder):
    encoded = encoder.encode(talk("<image>\nTotal?", "42", "Tax?", "7"), [1])
    assert learned(encoder, encoded) == "42<|im_end|>7<|im_end|>"
    assert whole(encoder, encoded) == (
        "<|im_start|>user\n<img><IMG_CONTEXT></img>\nTotal?<|im_end|><|im_start|>assistant\n42<|im_end|>"
        "<|im_start|>user\nTax?<|im_end|><|im_start|>assistant\n7<|im_end|>"
    )


def test_a_prompt_whose_image_has_no_placeholder_is_refused(encoder):
    with pytest.raises(SampleError, match="0 image placeholders in the text for 1 images"):
        encoder.prompt(["What?"], [], [3])


def test_a_separator_after_an_answer_is_not_learned(folder, encoder):
    newline = ConversationEncoder(
        folder.tokenizer,
        template("internvl2_5").with_system(""),
        image_token_id=encoder.image_token_id,
        max_length=500,
        teacher_tokens_per_tile=PER_TILE,
    )
    encoded = newline.encode(talk("A?", "b", "C?", "d"), [])
    assert learned(newline, encoded) == "b<|im_end|>d<|im_end|>"
    assert whole(newline, encoded).endswith("d<|im_end|>\n")


def test_a_prompt_leaves_the_last_answer_out_and_begins_the_trained_text(encoder):
    conversation = talk("<image>\nTotal?", "42", "Tax?", "7")
    prompt, trained = encoder.encode(conversation, [1], prompt_only=True), encoder.encode(conversation, [1])
    assert whole(encoder, prompt).endswith("42<|im_end|><|im_start|>user\nTax?<|im_end|><|im_start|>assistant\n")
    assert trained.ids[: len(prompt.ids)].tolist() == prompt.ids.tolist()


def test_a_tokenizers_first_token_is_kept_and_not_learned(folder, encoder):
    class WithStart:
        """The tokenizer of a model whose texts start with a token of their own."""

        def __call__(self, text, *, add_special_tokens=True, **options):
            encoding = folder.tokenizer(text, add_special_tokens=False, **options)
            if add_special_tokens:
                encoding["input_ids"] = [256, *encoding.input_ids]
            return encoding

    started = ConversationEncoder(
        WithStart(), encoder.template, image_token_id=encoder.image_token_id, max_length=500, teacher_tokens_per_tile=4
    )
    plain = encoder.encode(talk("A?", "b"), [])
    encoded = started.encode(talk("A?", "b"), [])
    assert encoded.ids.tolist() == [256, *plain.ids.tolist()]
    assert encoded.labels.tolist() == [IGNORED, *plain.labels.tolist()]


@pytest.mark.parametrize("ratio", [1, 2, 4])
def test_teacher_and_student_keep_the_same_answer_tokens(folder, encoder, ratio):
    encoded = encoder.encode(talk("<image>\n<image>\nWhat?", "A long answer."), [3, 2])
    per_tile = tokens_per_tile(folder.config, ratio)
    ids, labels = expand(encoded, per_tile, encoder.image_token_id)
    assert len(ids) == len(labels)
    assert (ids == encoder.image_token_id).sum() == 5 * PER_TILE // ratio
    assert (labels != IGNORED).sum() == len("A long answer.") + 1
    assert labels[labels != IGNORED].tolist() == encoded.labels[encoded.labels != IGNORED].tolist()
    assert (labels[labels != IGNORED] == ids[labels != IGNORED]).all()


def test_each_of_several_images_gets_its_own_number_of_placeholders(encoder):
    encoded = encoder.encode(talk("First <image> then <image>.", "ok", "And <image>?", "no"), [1, 3, 2])
    ids, _ = expand(encoded, 2, encoder.image_token_id)
    runs = np.flatnonzero(np.diff((ids == encoder.image_token_id).astype(int), prepend=0, append=0))
    assert (runs[1::2] - runs[0::2]).tolist() == [2, 6, 4]
    text = encoder.tokenizer.decode(ids)
    assert text.count("<img>") == text.count("</img>") == 3


def test_images_without_placeholders_come_before_the_question(encoder):
    given = encoder.encode(talk("<image>\n<image>\nWhat?", "ok"), [1, 2])
    assert encoder.encode(talk("What?", "ok"), [1, 2]).ids.tolist() == given.ids.tolist()


def test_a_text_only_conversation_has_no_placeholder(encoder):
    encoded = encoder.encode(talk("What is 2 + 2?", "4"), [])
    assert encoder.image_token_id not in encoded.ids
    assert learned(encoder, encoded) == "4<|im_end|>"


def lengths(folder, conversation, tiles):
    """Ids kept for each limit on the teacher's length, None where the sample is refused."""
    full = folder.encoder(10_000).encode(conversation, tiles)
    teacher_length = len(expand(full, PER_TILE, folder.config.image_token_id)[0])
    for limit in range(1, teacher_length + 3):
        try:
            yield limit, teacher_length, folder.encoder(limit).encode(conversation, tiles)
        except SampleError as error:
            assert error.reason == "too_long"
            yield limit, teacher_length, None


@pytest.mark.parametrize(
    "conversation", [("<image> and <image>", "answer"), ("<image>?", "answer", "<image>?", "more")]
)
def test_truncation_counts_the_teachers_tokens_and_never_cuts_an_image(folder, conversation):
    image_id = folder.config.image_token_id
    end = folder.tokenizer.convert_tokens_to_ids("</img>")
    refused, kept = [], []
    for limit, teacher_length, encoded in lengths(folder, talk(*conversation), [2, 1]):
        if encoded is None:
            refused.append(limit)
            continue
        kept.append(limit)
        ids, _ = expand(encoded, PER_TILE, image_id)
        assert len(ids) == min(limit, teacher_length)  # cut as late as possible
        assert (ids == image_id).sum() == 3 * PER_TILE
        assert (ids == end).sum() == 2
        assert (encoded.labels != IGNORED).any()
    assert max(refused) + 1 == min(kept)


def test_the_students_length_never_decides_what_is_cut(folder):
    conversation, limit = talk("<image>\nRead.", "x" * 50), 60
    encoded = folder.encoder(limit).encode(conversation, [3])
    teacher_ids, teacher_labels = expand(encoded, PER_TILE, folder.config.image_token_id)
    student_ids, student_labels = expand(encoded, PER_TILE // 4, folder.config.image_token_id)
    assert len(teacher_ids) == limit > len(student_ids)
    assert (teacher_labels != IGNORED).sum() == (student_labels != IGNORED).sum() < 51


def test_a_prompt_that_does_not_fit_is_refused_rather_than_cut(folder):
    conversation = talk("<image>\n" + "very " * 20 + "long?", "ok")
    with pytest.raises(SampleError, match="prompt alone is longer than 60 tokens") as caught:
        folder.encoder(60).encode(conversation, [1], prompt_only=True)
    assert caught.value.reason == "too_long"


def test_images_that_do_not_fit_say_how_long_they_are(folder):
    with pytest.raises(SampleError, match=r"\d+ tokens, and the images alone do not fit in 64") as caught:
        folder.encoder(64).encode(talk("<image>\nWhat?", "ok"), [40])
    assert caught.value.reason == "too_long"


@pytest.mark.parametrize(
    ("conversation", "images", "reason"),
    [
        ([], 0, "no_answer"),
        (talk("Question?"), 0, "no_answer"),
        (talk("Question?", "  \n"), 0, "no_answer"),
        (talk("Question?", "yes", "Again?"), 0, "no_answer"),
        ([{"from": "gpt", "value": "yes"}, {"from": "human", "value": "Why?"}], 0, "no_answer"),
        ([{"from": "system", "value": "Hi"}, *talk("A?", "b")], 0, "no_answer"),
        ([{"from": "human"}, {"from": "gpt", "value": "b"}], 0, "bad_json"),
        ([{"from": "human", "value": "A?"}, {"from": "gpt", "value": None}], 0, "bad_json"),
        ([{"from": "human", "value": "A?"}, {"from": "gpt", "value": 42}], 0, "bad_json"),
        (talk("<image>\nWhat?", "b"), 0, "placeholder_without_image"),
        (talk("<image><image>\nWhat?", "b"), 1, "placeholder_without_image"),
        (talk("<image>\nWhat?", "b"), 2, "image_without_placeholder"),
    ],
)
def test_unusable_conversations_say_why(conversation, images, reason):
    with pytest.raises(SampleError) as caught:
        turns(conversation, images)
    assert caught.value.reason == reason


def test_the_word_image_in_an_answer_is_text(encoder):
    encoded = encoder.encode(talk("<image>\nWhat tag?", "<image>"), [1])
    assert learned(encoder, encoded) == "<image><|im_end|>"
    assert (encoded.ids == encoder.image_token_id).sum() == 1


def test_padding_is_on_the_asked_side():
    rows = [np.array([1, 2, 3]), np.array([4])]
    assert pad(rows, 0).tolist() == [[1, 2, 3], [4, 0, 0]]
    assert pad(rows, -1, left=True).tolist() == [[1, 2, 3], [-1, -1, 4]]
