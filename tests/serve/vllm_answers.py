"""Answer questions with vLLM, in an environment of its own; nothing of the project is imported unless vLLM does it.

    python answers.py FOLDER CASES.json ANSWERS.json with|without

CASES.json has rounds, lists of `{"prompt": …, "pages": [files]}`; a round is asked when the last is answered. "without"
runs the folder's own code.
"""

import json
import os
import sys
from pathlib import Path

os.environ |= {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process starts faster and leaves nothing behind
}

from PIL import Image
from vllm import LLM, SamplingParams

if __name__ == "__main__":
    folder, cases, output, way = sys.argv[1:]
    rounds = json.loads(Path(cases).read_text())
    engine = LLM(
        folder,
        trust_remote_code=way == "without",
        dtype="float32",
        max_model_len=512,
        max_num_seqs=16,
        block_size=32,
        enforce_eager=True,
        enable_prefix_caching=True,
        limit_mm_per_prompt={"image": 2},
        seed=0,
    )
    assert ("fcot" in sys.modules) == (way == "with")
    found = []
    for asked in rounds:
        prompts = [
            {"prompt": each["prompt"]}
            | ({"multi_modal_data": {"image": [Image.open(page) for page in each["pages"]]}} if each["pages"] else {})
            for each in asked
        ]
        for answer in engine.generate(prompts, SamplingParams(temperature=0, max_tokens=24)):
            found.append(
                {
                    "prompt": list(answer.prompt_token_ids),
                    "answer": list(answer.outputs[0].token_ids),
                    "cached": answer.num_cached_tokens,
                }
            )
    Path(output).write_text(json.dumps(found))
