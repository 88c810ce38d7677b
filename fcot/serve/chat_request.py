"""The body of a chat completion as OpenAI's clients write it, with bounds on every value."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from fcot.internvl.prompts import IMAGE
from fcot.serve.refusal import RefusalError

MAX_TURNS, MAX_PARTS = 256, 256
MAX_SEED = 2**63 - 1
SHOWN = 200  # characters of a value or message that a reply repeats


class Strict(BaseModel):
    """An object without fields that would be ignored: what is not known might change the answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Asked = TypeVar("Asked", bound=Strict)


class TextPart(Strict):
    """Text of a message."""

    type: Literal["text"]
    text: str


class ImageUrl(Strict):
    """Where a picture is: in the address itself."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(Strict):
    """A picture of a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(Strict):
    """What one side says."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[Part], Field(max_length=MAX_PARTS)]
    name: str | None = None


class StreamOptions(Strict):
    """Whether the last piece of a stream has the usage."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ChatRequest(Strict):
    """A chat completion's body. Fields without effect here are taken only at their neutral values."""

    messages: list[Message] = Field(min_length=1, max_length=MAX_TURNS)
    model: str = ""
    max_tokens: int | None = Field(None, ge=1, le=2**31)
    max_completion_tokens: int | None = Field(None, ge=1, le=2**31)
    temperature: float | None = Field(None, ge=0, le=100, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(None, ge=-MAX_SEED, le=MAX_SEED)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = 1
    stop: Annotated[list[str], Field(max_length=0)] | None = None
    frequency_penalty: Literal[0] | None = 0
    presence_penalty: Literal[0] | None = 0
    logprobs: Literal[False] | None = False
    user: Annotated[str, StringConstraints(max_length=1000)] | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None


@dataclass(frozen=True)
class Talk:
    """A conversation that ends with a question.

    Attributes:
        questions: Texts of the user, a placeholder for each picture before the text.
        answers: What was answered before, one fewer.
        pictures: Encoded pictures, in order.
        last_shown: Number of the last turn with pictures, 0 without any.
        system: The system message, None for the model's own.
    """

    questions: list[str]
    answers: list[str]
    pictures: list[bytes]
    last_shown: int
    system: str | None


def parse(body: bytes | bytearray, kind: type[Asked]) -> Asked:
    """Parse a body of some kind, such as `ChatRequest`.

    Raises:
        RefusalError: If it is no JSON, or a field is unknown or out of range.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:SHOWN]
        raise RefusalError(400, f"{where or 'The body'}: {first['msg'][:SHOWN]}.", "Correct the request.") from None


def talk_of(asked: ChatRequest, max_pictures: int) -> Talk:
    """Return the conversation of a request; no address is fetched and no file is opened.

    Raises:
        RefusalError: If turns do not alternate, or a picture is none or not in the request itself.
    """
    messages = list(asked.messages)
    system = None
    if messages[0].role in ("system", "developer"):
        system = text_of(messages.pop(0))
    roles = [message.role for message in messages]
    if roles != [("user", "assistant")[i % 2] for i in range(len(roles))] or len(roles) % 2 == 0:
        raise RefusalError(
            400,
            "The messages are not one of a user, then one of the assistant and one of a user in turn.",
            "End with a question, and begin with a system message at most.",
        )
    pictures: list[bytes] = []
    questions, last_shown = [], 0
    for turn, message in enumerate(messages[::2]):
        urls = pictures_of(message)
        if len(pictures) + len(urls) > max_pictures:
            raise RefusalError(400, f"There are more than {max_pictures} pictures.", "Ask about fewer at a time.")
        if urls and any(IMAGE in text_of(earlier) for earlier in messages[: 2 * turn : 2]):
            raise RefusalError(
                400, f"A question before a picture has {IMAGE} in its text.", "Give pictures with the first question."
            )
        pictures += [decoded(url) for url in urls]
        last_shown = turn if urls else last_shown
        questions.append(f"{IMAGE}\n" * len(urls) + text_of(message))
    return Talk(questions, [text_of(message) for message in messages[1::2]], pictures, last_shown, system)


def text_of(message: Message) -> str:
    """Return the text of a message, its parts one after another.

    Raises:
        RefusalError: If someone but the user shows a picture.
    """
    if isinstance(message.content, str):
        return message.content
    if message.role != "user" and any(part.type == "image_url" for part in message.content):
        raise RefusalError(400, f"A message of the {message.role} has a picture.", "Give pictures as the user.")
    return "".join(part.text for part in message.content if isinstance(part, TextPart))


def pictures_of(message: Message) -> Sequence[str]:
    """Return the addresses of a message's pictures."""
    parts = [] if isinstance(message.content, str) else message.content
    return [part.image_url.url for part in parts if isinstance(part, ImagePart)]


def decoded(url: str) -> bytes:
    """Return the bytes in a data URL.

    Raises:
        RefusalError: If it is another address, or not in base64.
    """
    kind, comma, data = url.partition(",")
    if not kind.lower().startswith("data:") or not comma or not kind.lower().endswith(";base64"):
        raise RefusalError(
            400,
            "A picture is given by an address, and no address is fetched and no file opened here.",
            "Give it in the request: data:image/png;base64,…",
        )
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise RefusalError(400, "The data of a picture are not base64.", "Encode the file as a whole.") from None
