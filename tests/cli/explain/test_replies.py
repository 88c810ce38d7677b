"""A wrong configuration or command line is answered with its place and a remedy, in a few lines."""

import pytest

WRONG_FILES = {
    "key": (
        "max_steps:",
        "max_stepz:",
        ["'trainer.max_stepz' (run.yaml, line 2)", "Did you mean 'trainer.max_steps'?"],
    ),
    "section": ("data:", "dota:", ["no option 'dota.root' (run.yaml, line 18)", "Did you mean 'data.root'?"]),
    "type": ("max_steps: 6", "max_steps: abc", ["trainer.max_steps is 'abc' (run.yaml, line 2)", "must be int"]),
    "class": ("SFT", "SFTT", ["no class 'SFTT' for model (run.yaml, line 10)", "Did you mean 'SFT'?"]),
    "argument": ("max_new_tokens:", "max_tokens:", ["SFT has no argument 'max_tokens' (run.yaml, line 13)", "Did you"]),
    "nested class": (
        "AdamW",
        "AdamX",
        ["no class 'AdamX' for model.optimizer (run.yaml, line 15)", "Did you mean 'Adam"],
    ),
    "nested argument": ("lr:", "lrr:", ["AdamW has no argument 'lrr' (run.yaml, line 16)", "Did you mean 'lr'?"]),
    "nested type": ("max_new_tokens: 2", "max_new_tokens: two", ["model.max_new_tokens is 'two'", "line 13", "int"]),
    "missing module": ("class_path: SFT", "class_path: nowhere.X", ["no module 'nowhere'", "run.yaml, line 10"]),
    "missing class": (
        "class_path: SFT",
        "class_path: fcot.training.sft.SFTT",
        ["fcot.training.sft has no class 'SFTT'", "mean 'SFT'?"],
    ),
    "yaml": ("data:", "data: [", ["run.yaml is not valid YAML near line"]),
    "bad value": ("checkpoint_every_n_steps: 2", "devices: 0", ["devices=0"]),
    "no checkpoint": ("checkpoint: /", "checkpoint: /none/", ["There is no model folder at '/none/", "fetch it first"]),
    "part": ("max_new_tokens: 2", "freeze: [eye]", ["There is no part ['eye']"]),
    "npu": ("accelerator: cpu", "accelerator: npu", ["accelerator is 'npu'", "torch_npu"]),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_a_wrong_configuration_is_refused_with_place_and_remedy(case, run, refusal):
    old, new, expected = WRONG_FILES[case]
    run(old, new)
    error = refusal(["fit", "--config", "run.yaml"])
    for part in expected:
        assert part in error


WRONG_WORDS = {
    "verb": (["fitt"], ["no verb 'fitt'", "Did you mean 'fit'?"]),
    "tool verb": (["shards", "biuld"], ["no verb 'shards biuld'", "Did you mean 'shards build'?"]),
    "option": (
        ["--trainer.max_stepz", "3"],
        ["'trainer.max_stepz' (command line)", "Did you mean 'trainer.max_steps'?"],
    ),
    "model option": (
        ["--model.optimzer", "SGD"],
        ["no argument 'optimzer' (command line)", "Did you mean 'optimizer'?"],
    ),
    "value": (["--trainer.limit_val_batches", "x"], ["is 'x' (command line)", "It must be", "float", "null"]),
    "callback": (["--trainer.callbacks+=Snapshotz"], ["no class 'Snapshotz'", "Did you mean 'Snapshots'?"]),
    "no value": (["--model.max_tiles"], ["--model.max_tiles has no value"]),
    "stray word": (["again"], ["'again' is neither an option nor the value of one"]),
    "no file": (["--config", "rum.yaml"], ["There is no file 'rum.yaml'", "Did you mean 'run.yaml'?"]),
    "no resume file": (["--ckpt_path", "gone.ckpt"], ["There is no checkpoint at 'gone.ckpt'"]),
    "best": (["--ckpt_path", "best"], ["trained nothing yet", "Give the path"]),
    "no rows": (["--model.chunk_rows", "-1"], ["chunk_rows is -1"]),
    "precision": (["--trainer.precision", "bf16-true"], ["trainer.precision is 'bf16-true'", "Use bf16-mixed"]),
    "compressor": (
        ["--model", "Realign", "--model.compressor", "konv"],
        ["no compressor 'konv'", "Did you mean 'conv'?"],
    ),
    "ratio": (["--model", "Realign", "--model.ratio", "3"], ["3"]),
    "plugin name": (["--plugins", "my-package"], ["'my-package' is no name of a package"]),
    "plugin": (["--plugins", "no_such_package"], ["There is no plugin 'no_such_package'"]),
}


@pytest.mark.parametrize("case", WRONG_WORDS)
def test_a_wrong_word_is_refused_with_the_nearest_right_one(case, run, refusal):
    words, expected = WRONG_WORDS[case]
    error = refusal(words if "verb" in case else ["fit", "--config", "run.yaml", *words])
    for part in expected:
        assert part in error


def test_missing_options_are_named(refusal):
    assert "data.root and model must be given" in refusal(["fit"])


def test_missing_arguments_of_a_tool_are_named_with_the_command(refusal):
    assert refusal(["chat", "--image", "form.png"]) == ("error: MODEL is missing.\nWrite fcot chat MODEL …")
    assert "RUN is missing" in refusal(["merge"])


def test_a_switch_without_a_value_is_answered_with_true(refusal):
    assert "Write --again true." in refusal(["shards", "verify", "set", "--again"])
