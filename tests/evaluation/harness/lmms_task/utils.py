"""Functions of the task: lmms-eval's DocVQA prompt, its own ANLS."""

import io

from lmms_eval.api.metrics import anls
from PIL import Image


def pictures(doc):
    return [Image.open(io.BytesIO(doc["image"]["bytes"])).convert("RGB")]


def question(doc, lmms_eval_specific_kwargs=None):
    return f"{doc['question']}\nAnswer the question using a single word or phrase."


def results(doc, results):
    return {"anls": anls(references=doc["answers"], predictions=[results[0]])["anls"]}
