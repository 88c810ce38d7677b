"""Load an exported folder in a process of its own and compare with what the trained student said.

    python fresh_process.py FOLDER EXPECTED.safetensors with|without

"without" makes fcot impossible to import and runs the folder's own code.
"""

import sys

if sys.argv[3] == "without":
    sys.modules["fcot"] = None  # an import of it now fails as if it were not installed
else:
    import fcot.student  # noqa: F401

import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor

folder, expected = sys.argv[1], load_file(sys.argv[2])
options = {"trust_remote_code": True} if sys.argv[3] == "without" else {}
model = AutoModelForImageTextToText.from_pretrained(folder, **options).eval()
processor = AutoProcessor.from_pretrained(folder, **options)
assert type(model).__module__.startswith("transformers_modules" if options else "fcot."), type(model)
idiom = AutoModel.from_pretrained(folder, **options)  # how InternVL2 itself is loaded
assert type(idiom).__name__ == type(model).__name__ and idiom.can_generate(), type(idiom)
assert all(torch.equal(each, model.state_dict()[name]) for name, each in idiom.state_dict().items())
config = AutoConfig.from_pretrained(folder, **options)
assert config.image_seq_length == processor.image_seq_length
assert not AutoModel.from_config(config, **options).can_generate()  # serving engines build it so, without its head


def conversation(name: str) -> list[dict[str, object]]:
    pixels = expected[f"{name}.page"].numpy()
    image = {"type": "image", "image": Image.fromarray(pixels)}
    return [{"role": "user", "content": [image, {"type": "text", "text": f"What is {name}?"}]}]


def prepared(conversations):
    layout = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    return processor.apply_chat_template(conversations, **layout)


def generated(inputs):
    new = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    return new[:, inputs["input_ids"].shape[1] :]


names = sorted({name.partition(".")[0] for name in expected})
alone = []
for name in names:
    inputs = prepared(conversation(name))
    with torch.no_grad():
        logits = model(**inputs).logits
    for key, found in (("ids", inputs["input_ids"]), ("tiles", inputs["pixel_values"]), ("logits", logits)):
        assert torch.equal(found, expected[f"{name}.{key}"]), f"{name}: {key} differ"
    alone.append(generated(inputs))
batch = prepared([conversation(name) for name in names])
assert batch["attention_mask"][:, -1].all() and not batch["attention_mask"][:, 0].all()  # padded on the left
together = generated(batch)
for name, one, row in zip(names, alone, together, strict=True):
    assert torch.equal(one[0], row[: one.shape[1]]), f"{name}: {one.tolist()} alone, {row.tolist()} in the batch"
print("equal")
