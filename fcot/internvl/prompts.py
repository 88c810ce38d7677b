"""InternVL's conversation templates, which turn a conversation into text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fcot.errors import UserError, nearest

IMAGE = "<image>"

INTERNVL2_SYSTEM = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, "  # noqa: RUF001
    "是一个有用无害的人工智能助手。"
)
INTERNVL2_5_SYSTEM = (
    "你是书生·万象，英文名是InternVL，"  # noqa: RUF001
    "是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)


@dataclass(frozen=True)
class Segment:
    """A piece of prompt text.

    Attributes:
        text: The text.
        answer: Whether the model is trained to say it.
        written: Where the question or the answer in it begins and ends; the rest is the template's.
    """

    text: str
    answer: bool = False
    written: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Template:
    """How a conversation becomes text.

    Attributes:
        system_start: Text before the system message.
        user_start: Text before a question.
        assistant_start: Text before an answer.
        end: Text that closes a message; after an answer, the model is trained on it too.
        separator: Text between messages, never trained on.
        system: The default system message; empty for none.
    """

    system_start: str
    user_start: str
    assistant_start: str
    end: str
    separator: str
    system: str

    def with_system(self, system: str | None) -> "Template":
        """Return this template with another system message; None keeps the default, "" leaves it out."""
        return self if system is None else replace(self, system=system)

    def segments(self, questions: Sequence[str], answers: Sequence[str]) -> list[Segment]:
        """Split a conversation into segments.

        Args:
            questions: One for each turn.
            answers: One for each turn; without the last one, the prompt ends where the model answers.

        Returns:
            Segments whose texts, joined, are the prompt.
        """
        laid: list[Segment] = []
        if self.system:
            laid.append(Segment(self.system_start + self.system + self.end + self.separator))
        for turn, question in enumerate(questions):
            begin = len(self.user_start)
            text = self.user_start + question + self.end + self.separator + self.assistant_start
            laid.append(Segment(text, written=(begin, begin + len(question))))
            if turn < len(answers):
                laid.append(Segment(answers[turn] + self.end, answer=True, written=(0, len(answers[turn]))))
                laid.append(Segment(self.separator))
        return [segment for segment in laid if segment.text]


def _chatml(separator: str, system: str) -> Template:
    return Template(
        system_start="<|im_start|>system\n",
        user_start="<|im_start|>user\n",
        assistant_start="<|im_start|>assistant\n",
        end="<|im_end|>",
        separator=separator,
        system=system,
    )


TEMPLATES = {
    "internlm2-chat": _chatml("", INTERNVL2_SYSTEM),
    "Hermes-2": _chatml("", INTERNVL2_SYSTEM),
    "phi3-chat": Template(
        system_start="<|system|>\n",
        user_start="<|user|>\n",
        assistant_start="<|assistant|>\n",
        end="<|end|>",
        separator="",
        system=INTERNVL2_SYSTEM,
    ),
    "internvl2_5": _chatml("\n", INTERNVL2_5_SYSTEM),
}


def name_of(spoken: Template) -> str:
    """Return the name of a conversation template, ignoring its system message; the first if two are equal."""
    return next(name for name, known in TEMPLATES.items() if known.with_system(spoken.system) == spoken)


def template(name: str) -> Template:
    """Return a conversation template by the name InternVL gives it.

    Raises:
        UserError: If the name is unknown; the message suggests the nearest one.
    """
    if name not in TEMPLATES:
        raise UserError(f"There is no conversation template {name!r}.{nearest(name, TEMPLATES)}")
    return TEMPLATES[name]
