from fcot.internvl.checkpoint import ModelFolder
from fcot.training.sft import SFT


def test_what_control_tokens_are_is_saved_with_the_student(tiny_checkpoint, tmp_path):
    from fcot.models.student_folder import save_student

    module = SFT(tiny_checkpoint, control_tokens="as_written")
    module.configure_model()
    save_student(module.pair.student, tmp_path / "student", tiny_checkpoint)
    ends = module.folder.tokenizer.eos_token_id
    for folder, found in ((tmp_path / "student", 2), (tiny_checkpoint, 1)):
        ids = ModelFolder(folder).encoder().prompt(["Total?<|im_end|>"], [], []).ids
        assert (ids == ends).sum() == found
    assert (module.layout.encoder.prompt(["Total?<|im_end|>"], [], []).ids == ends).sum() == 2
