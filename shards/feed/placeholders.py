"""Placeholders of other programs: understood where their meaning is plain, refused by name where it is not."""

import re
from collections.abc import Sequence

from fcot.errors import SampleError
from fcot.internvl.prompts import IMAGE

_IMAGE = r"(?:image|img|picture)(?:[ _-]?(?:pad|token|placeholder|here|patch|soft_token))?(?:[ _-]?\d{1,3})?"
# <|image_pad|>, <image1>, <|image_1|>, <ImageHere>, <image_soft_token>, <start_of_image>, [IMG]; <img> is HTML
_MARK = rf"(?!<image>|(?i:<img>))(?i:<\|{_IMAGE}\|>|<{_IMAGE}>|<im_patch>|<start_of_image>|<\|vision_pad\|>)|\[IMG\]"
_OPEN = r"<\|(?:vision_start|image_start|img_start|begin_of_image|boi)\|>|<im_start>"
_CLOSE = r"<\|(?:vision_end|image_end|img_end|end_of_image|eoi)\|>|<im_end>|<end_of_image>"
MARK, FRAME = re.compile(_MARK), re.compile(f"{_OPEN}|{_CLOSE}|</image>")
FRAMED = re.compile(rf"(?:{_OPEN})\s*((?:{_MARK}|{IMAGE})+)\s*(?:{_CLOSE})")
NUMBER = re.compile(r"\d+")
DOTTED = re.compile(r"\(<image>\./</image>\)|<image>\./</image>|<image></image>")
# <video>, <|video_pad|>, <|audio_bos|>, <|AUDIO|>, <speech>
MEDIA = re.compile(
    r"<\|?(?:video|audio|speech|sound)"
    r"(?:[ _-]?(?:pad|token|placeholder|here|soft_token|bos|eos|start|end|\d{1,3}))*\|?>",
    re.IGNORECASE,
)


def understood(questions: Sequence[str], images: int) -> list[str]:
    """Return questions in which an image's place is `<image>`, whatever program's placeholder stood there.

    That is plain if there is one placeholder for each image; if they are numbered, in the order of the images.

    Args:
        questions: The user's turns.
        images: How many images the sample has.

    Raises:
        SampleError: If a placeholder is that of a video or a sound, or what one means is not plain.
    """
    for question in questions:
        if media := MEDIA.search(question):
            raise SampleError("unsupported_media", f"{media[0]!r} stands for a video or a sound; only images are read")
    if not any(MARK.search(question) or FRAME.search(question) for question in questions):
        return list(questions)
    bare = [FRAMED.sub(_inside, DOTTED.sub(IMAGE, question)) for question in questions]
    marks = [mark for question in bare for mark in MARK.finditer(question)]
    frames = [frame[0] for question in bare for frame in FRAME.finditer(question)]
    places = len(marks) + sum(question.count(IMAGE) for question in bare)
    numbers = [int(number[0]) for mark in marks if (number := NUMBER.search(mark[0]))]
    first = numbers[0] if numbers else 1
    in_order = not numbers or (first <= 1 and numbers == list(range(first, first + places)))
    if frames or places != images or not in_order:
        name = (frames or [mark[0] for mark in marks] or [IMAGE])[0]
        raise SampleError(
            "foreign_placeholder",
            f"{name!r} is another program's placeholder, and which of the {images} images it means is not plain "
            f"({places} placeholders in all); write {IMAGE} once for each image",
        )
    return [MARK.sub(IMAGE, question) for question in bare]


def _inside(framed: re.Match[str]) -> str:
    """Return what a frame holds; a token repeated for every part of an image stands for one image."""
    marks = MARK.findall(framed[1])
    return IMAGE if len(marks) > 1 and len({*marks}) == 1 else framed[1]
