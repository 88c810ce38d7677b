"""The fast tokenizer against sentencepiece itself, wrapped the way InternLM2's own tokenizer wraps it."""

import json
import random
import re
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from transformers import AutoTokenizer

from fcot.convert.internlm2 import INTERNLM2
from fcot.convert.tokenizer import load_tokenizer

SPECIALS = ("<|im_end|>", "<|im_start|>", "<img>", "</img>", "<IMG_CONTEXT>")

SENTENCES = [
    "the total of the invoice is due on the first of the month",
    "answer the question using a single word or phrase, please!",
    "a  table   of    numbers: 12.5 and 1,234 (12.5%) isn't here",
    "naïve café — “quotes” … it's they've we're I'm",
    "发票号码 总计金额 大模型 人工智能实验室",
    "def f(x):    return x == 1    # comment",
]
ALPHABET = [
    *"abtheno  \n\t.,!?'-—éß1 2",
    "▁",
    "🙂",
    "👩‍👩‍👧",
    "你",
    "好",
    "ﬁ",
    "①",
    "\u00a0",
    "\u3000",
    "\0",
    " n't",
    "  ",
    "  '  ",
]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Many short texts of everything that trips a tokenizer up: spaces, line breaks, scripts, special tokens."""
    rng = random.Random(0)
    words = [word for sentence in SENTENCES for word in sentence.split(" ")]
    parts = [*ALPHABET, *words, *SPECIALS, "<s>", "</s>", "<unk>", "<0x0A>", "<|im_", "[UNUSED_0]", "<sym>", "sym>>"]
    drawn = ["".join(rng.choices(parts, k=rng.randint(1, 14))) for _ in range(120)]
    spaced = [" ".join(rng.choices(words, k=rng.randint(1, 12))) for _ in range(30)]
    return ["", " ", "   ", "\n", "x", *SENTENCES, *drawn, *spaced]


class OriginalTokenizer:
    """What InternLM2's own tokenizer does: sentencepiece between the special tokens, spaces around them in decoding.

    Args:
        folder: With `tokenizer.model` and `tokenizer_config.json`.
    """

    def __init__(self, folder: Path) -> None:
        self.model = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        self.added = {token["content"]: int(number) for number, token in settings["added_tokens_decoder"].items()}
        self.contents = {number: content for content, number in self.added.items()}
        named = {settings[name] for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
        flagged = {t["content"] for t in settings["added_tokens_decoder"].values() if t["special"]}
        self.specials = named | flagged
        size = self.model.get_piece_size()
        self.apart = {
            t for t, number in self.added.items() if t not in self.specials or (number >= size and t not in named)
        }

    def encode(self, text: str) -> list[int]:
        ids = [self.model.bos_id()]
        longest_first = sorted(map(re.escape, self.added), key=len, reverse=True)
        for stretch in re.split(f"({'|'.join(longest_first)})", text):
            ids += [self.added[stretch]] if stretch in self.added else self.plain(stretch)
        return ids

    def plain(self, text: str) -> list[int]:
        return [self.model.piece_to_id(piece) for piece in self.model.encode(text, out_type=str)] if text else []

    def decode(self, ids: list[int], *, skip: bool) -> str:
        tokens = [self.contents.get(number) or self.model.id_to_piece(number) for number in ids]
        stretches, current = [], []
        for token in tokens:
            if skip and token in self.specials:
                continue
            if token in self.apart:
                stretches += [text for text in [self.joined(current)] if text] + [token]
                current = []
            else:
                current.append(token)
        return " ".join([*stretches, *([self.joined(current)] if current else [])])

    def joined(self, tokens: list[str]) -> str:
        text, current, after_special = "", [], False
        for token in tokens:
            if token in self.specials:
                text += ("" if after_special else " ") + self.model.decode(current) + token
                current = []
            else:
                current.append(token)
            after_special = token in self.specials
        text += self.model.decode(current)
        cleaned = [(" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't")]
        for spaced, plain in [*cleaned, *((f" '{ending}", f"'{ending}") for ending in ("m", "s", "ve", "re"))]:
            text = text.replace(spaced, plain)
        return text


@pytest.fixture(scope="session")
def make_tokenizer(tmp_path_factory):
    """Return a function that trains a small sentencepiece model and writes a folder as InternLM2's authors have it."""

    def make(*, overlay: dict[str, str] | None = None, specials=SPECIALS, **options) -> Path:
        folder = tmp_path_factory.mktemp("tokenizer")
        settings = {
            "model_type": "bpe",
            "vocab_size": 420,
            "byte_fallback": True,
            "add_dummy_prefix": False,
            "remove_extra_whitespaces": False,
            "normalization_rule_name": "identity",
            "allow_whitespace_only_pieces": True,
            "minloglevel": 2,
        }
        SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES * 3), model_prefix=str(folder / "tokenizer"), **{**settings, **options}
        )
        (folder / "tokenizer.vocab").unlink()
        write_tokenizer_settings(folder, overlay or {}, specials)
        return folder

    return make


def write_tokenizer_settings(folder: Path, overlay: dict[str, str], specials) -> None:
    """Write `tokenizer_config.json`: added tokens after the pieces, or over a piece that `overlay` names."""
    model = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    added = {model.piece_to_id(piece): piece for piece in ("<unk>", "<s>", "</s>")}
    added |= {model.piece_to_id(piece): token for piece, token in overlay.items()}
    added |= dict(enumerate((t for t in specials if t not in overlay.values()), start=model.get_piece_size()))
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    settings = {
        "added_tokens_decoder": {str(number): {"content": token, **flags} for number, token in sorted(added.items())},
        "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "</s>",
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
        "tokenizer_class": "InternLM2Tokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


FIXTURE = Path(__file__).parent / "internlm2_tokenizer"
EXPECTED = json.loads((FIXTURE / "expected.json").read_text(encoding="utf-8"))

KINDS = {
    "as InternLM2's": {},
    "dummy prefix": {"add_dummy_prefix": True},
    "extra spaces removed": {"add_dummy_prefix": True, "remove_extra_whitespaces": True},
    "characters normalised": {"normalization_rule_name": "nmt_nfkc", "add_dummy_prefix": True},
    "no byte fallback": {"byte_fallback": False, "vocab_size": 180},
    "symbols": {"user_defined_symbols": ["<sym>", "[UNUSED_0]", "[UNUSED_1]", "    "]},
    "symbols and dummy prefix": {"user_defined_symbols": ["<sym>", "sym"], "add_dummy_prefix": True},
    "special tokens over pieces": {
        "user_defined_symbols": ["[UNUSED_0]", "[UNUSED_1]"],
        "overlay": {"[UNUSED_0]": "<|im_end|>", "[UNUSED_1]": "<|im_start|>"},
    },
}


@pytest.fixture(scope="module", params=KINDS, ids=lambda name: name.replace(" ", "_"))
def pair(request, make_tokenizer, tmp_path_factory):
    """The original tokenizer and the fast one, as it loads from a native folder."""
    folder, native = make_tokenizer(**KINDS[request.param]), tmp_path_factory.mktemp("native")
    load_tokenizer(folder, INTERNLM2).save_pretrained(native)
    return OriginalTokenizer(folder), AutoTokenizer.from_pretrained(native)


@pytest.mark.parametrize("case", EXPECTED, ids=lambda case: case["text"][:12])
def test_ids_and_texts_are_those_of_internlm2s_own_code(case):
    fast = load_tokenizer(FIXTURE, INTERNLM2)
    assert fast(case["text"]).input_ids == case["ids"]
    assert fast(case["text"], add_special_tokens=False).input_ids == case["ids_without_special"]
    assert fast.decode(case["ids_without_special"], skip_special_tokens=True) == case["decoded"]
    assert fast.decode(case["ids_without_special"], skip_special_tokens=False) == case["decoded_with_special"]


def test_ids_of_any_text_are_the_originals(pair, texts):
    original, fast = pair
    for text, ids in zip(texts, fast(texts).input_ids, strict=True):
        assert ids == original.encode(text), repr(text)


@pytest.mark.parametrize("skip", [True, False])
def test_decoded_texts_are_the_originals(pair, texts, skip):
    original, fast = pair
    rows = [original.encode(text)[number % 2 :] for number, text in enumerate(texts)]  # with and without the first
    for ids, text in zip(rows, fast.batch_decode(rows, skip_special_tokens=skip), strict=True):
        assert text == original.decode(ids, skip=skip), ids
