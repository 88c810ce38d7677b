"""Parse page sizes from the command line."""

from fcot.errors import UserError


def page_size(text: str) -> tuple[int, int]:
    """Parse a size such as "1700x2200" or "1700,2200" into width and height in pixels.

    Raises:
        UserError: If it is not such a size.
    """
    width, _, height = text.lower().replace(",", "x").partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UserError(f"The page is {text!r}, not WIDTHxHEIGHT in pixels.\nWrite, for example, --page 1700x2200.")
    return int(width), int(height)
