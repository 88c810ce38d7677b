"""Shows an answer in the terminal while it is made."""

from typing import Any

from transformers import TextStreamer


class Screen(TextStreamer):
    """Prints words as they are complete.

    A model repeats what a page says, and a page can hold anything: signs that would steer the terminal are replaced.

    Args:
        tokenizer: Of the model.
    """

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Print a piece of the answer, and a line break after the last one."""
        shown = "".join(sign if sign in "\n\t" or sign.isprintable() else "�" for sign in text)
        print(shown, end="\n" if stream_end else "", flush=True)
