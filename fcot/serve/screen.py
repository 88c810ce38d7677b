"""Print an answer in the terminal as it is generated."""

from typing import Any

from transformers import TextStreamer


class Screen(TextStreamer):
    """Prints each word when it is complete.

    Control characters are replaced, because a model may repeat them from a malicious page to the terminal.

    Args:
        tokenizer: The model's tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Print a piece of the answer, and a line break after the last one."""
        shown = "".join(sign if sign in "\n\t" or sign.isprintable() else "�" for sign in text)
        print(shown, end="\n" if stream_end else "", flush=True)
