"""How ids become text in InternLM2's original tokenizer, as steps of a fast tokenizer's decoder.

The original decodes the stretches between special tokens on their own and puts spaces between the results. Marks
around the special tokens, noncharacters of Unicode that no text has, carry that through the steps.
"""

import re
from collections.abc import Iterable, Mapping

from tokenizers import Regex, decoders

APART, APART_END = "\ufdd0", "\ufdd1"  # around an added token, which spaces set apart from its neighbours
INSIDE, INSIDE_END = "\ufdd2", "\ufdd3"  # around a special token of the vocabulary, which is part of the text

# transformers' clean_up_tokenization, which the original always applies
CLEAN_UP = (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m")
CLEAN_UP_REST = (" 's", "'s"), (" 've", "'ve"), (" 're", "'re")


def sentencepiece_decoder(
    apart: Iterable[str], inside: Iterable[str], symbols: Mapping[str, str], *, strip: str, clean_up: bool
) -> decoders.Decoder:
    """Return a decoder with the original's text for any ids.

    Args:
        apart: Added tokens that do not belong to the sentencepiece model, or are not special.
        inside: Special tokens that do.
        symbols: Characters that stand for user-defined symbols, and those symbols.
        strip: Pattern of the spaces that sentencepiece takes off the start of a stretch; empty for none.
        clean_up: Take out spaces before punctuation.
    """
    steps = [
        *(decoders.Replace(character, symbol) for character, symbol in symbols.items()),
        *_mark(apart, APART, APART_END),
        *_mark(inside, INSIDE, INSIDE_END),
        decoders.Replace("▁", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
    ]
    if strip:
        steps.append(_sub(f"(?<![^{APART_END}{INSIDE_END}]){strip}", ""))
    steps += [
        # the original adds a space before a stretch that a special token ends
        _sub(f"(?<![^{APART_END}])(?=[^{APART}-{INSIDE_END}]*{INSIDE})", " "),
        _sub(f"(?<={INSIDE_END})(?=[^{APART}-{INSIDE_END}]+{INSIDE})", " "),
        _sub(f"[{INSIDE}{INSIDE_END}]", ""),
    ]
    if clean_up:
        steps += [decoders.Replace(spaced, plain) for spaced, plain in (*CLEAN_UP, *CLEAN_UP_REST)]
    steps += [
        _sub(f"{APART_END}{APART}", " "),
        _sub(f"\\A{APART}|{APART_END}\\z", ""),
        _sub(f"[{APART}{APART_END}]", " "),
    ]
    return decoders.Sequence(steps)


def _mark(tokens: Iterable[str], start: str, end: str) -> list[decoders.Decoder]:
    """Return the steps that put marks around tokens that are one of `tokens`, before they are joined."""
    escaped = [re.escape(token) for token in tokens]
    if not escaped:
        return []
    began = "\\A" + start
    return [
        _sub(f"\\A(?=(?:{'|'.join(escaped)})\\z)", start),
        _sub(f"(?<={'|'.join(began + token for token in escaped)})\\z", end),
    ]


def _sub(pattern: str, text: str) -> decoders.Decoder:
    return decoders.Replace(Regex(pattern), text)
