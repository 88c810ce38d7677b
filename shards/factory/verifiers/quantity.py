"""Numbers as people write them: exact values with a unit, a currency, a percent sign."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

LONGEST = 400  # characters of a number; longer ones are no measurement
LARGEST_POWER = 400

_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
WORDS = {word: value for value, word in enumerate(_SMALL)} | {word: 10 * (n + 2) for n, word in enumerate(_TENS)}
SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
SUFFIXES = {"k": 10**3, "K": 10**3, "M": 10**6, "bn": 10**9, "B": 10**9, "mn": 10**6, **SCALES}
UNITS = {
    name: canonical
    for canonical, names in {
        "mm": "mm millimetre millimetres millimeter millimeters",
        "cm": "cm centimetre centimetres centimeter centimeters",
        "m": "m metre metres meter meters",
        "km": "km kilometre kilometres kilometer kilometers",
        "cm2": "cm² cm^2 cm2", "m2": "m² m^2 m2", "km2": "km² km^2 km2", "m3": "m³ m^3 m3", "cm3": "cm³ cm^3 cm3",
        "in": "inch inches", "ft": "ft foot feet", "mi": "mile miles",
        "mg": "mg milligram milligrams", "g": "g gram grams", "kg": "kg kilogram kilograms kilo kilos",
        "t": "tonne tonnes ton tons", "lb": "lb lbs pound pounds", "oz": "oz ounce ounces",
        "ml": "ml mL millilitre millilitres milliliter milliliters", "l": "l L litre litres liter liters",
        "B": "byte bytes", "KB": "KB kB", "MB": "MB", "GB": "GB", "TB": "TB",
        "ms": "ms millisecond milliseconds", "s": "s sec second seconds", "min": "min minute minutes",
        "h": "h hr hrs hour hours", "d": "day days", "week": "week weeks", "month": "month months",
        "year": "year years", "km/h": "km/h kph", "m/s": "m/s", "mph": "mph",
        "°": "° degree degrees deg", "°C": "°C celsius", "°F": "°F fahrenheit", "K": "kelvin",
        "W": "W watt watts", "kW": "kW kilowatt kilowatts", "MW": "MW", "kWh": "kWh", "V": "V volt volts",
        "Hz": "Hz hertz", "kHz": "kHz", "MHz": "MHz", "GHz": "GHz", "N": "N newton newtons", "J": "J joule joules",
        "Pa": "Pa", "kPa": "kPa", "mol": "mol", "rad": "rad radian radians",
    }.items()
    for name in names.split()
}  # fmt: skip
CURRENCIES = {
    name: canonical
    for canonical, names in {
        "USD": "$ USD US$ dollar dollars", "EUR": "€ EUR euro euros", "GBP": "£ GBP", "JPY": "¥ JPY yen",
        "INR": "₹ INR rupee rupees",
        "CHF": "CHF franc francs", "AUD": "AUD", "CAD": "CAD", "NZD": "NZD", "HKD": "HKD", "SGD": "SGD",
        "CNY": "CNY RMB yuan", "KRW": "₩ KRW won",
    }.items()
    for name in names.split()
}  # fmt: skip

_DIGITS = r"\d{1,3}(?:,\d{3})+(?![\d,])|\d{1,3}(?:[ \u00a0\u202f\u2009]\d{3})+(?!\d)|\d+"
_NUMBER = re.compile(
    rf"(?<![\w.])(?P<sign>[+-]\s?)?(?P<currency>[$€£¥₹₩])?\s?(?P<sign2>-)?"
    rf"(?:(?P<whole>\d+)[ ](?P<top>\d+)/(?P<bottom>\d+)|(?P<num>\d+)\s?/\s?(?P<den>\d+)(?![\d/])"
    rf"|(?P<digits>{_DIGITS})(?P<decimals>\.\d+)?|(?P<bare>\.\d+))"
    rf"(?:[eE](?P<exp>[+-]?\d+)|\s?(?:×|x|\*|·)\s?10\s?\^\s?\{{?(?P<power>[+-]?\d+)\}}?)?"
)
_SUFFIX = re.compile(r"\s?(?i:(hundred|thousand|million|billion|trillion|bn|mn)\b)|(?<=\d)\s?([kKMB])(?![A-Za-z])")
_PERCENT = re.compile(r"\s?(?:%|％|percent\b|per cent\b)")
_WORD = re.compile(r"\s*(°\s?[CF]\b|°|[A-Za-z]+(?:/[a-z]+)?[²³]?(?:\^\d)?|[$€£¥₹₩])")
_LATEX = (
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf|operatorname)\{([^{}]*)\}"), r" \1"),
    (re.compile(r"\\[dt]?frac\{([^{}]+)\}\{([^{}]+)\}"), r"\1/\2"),
    (re.compile(r"\\[dt]?frac(\d)(\d)"), r"\1/\2"),
    (re.compile(r"\\(?:times|cdot)"), "×"),
    (re.compile(r"\^\{?\\circ\}?"), "°"),
    (re.compile(r"\\[,;:! ]"), " "),
    (re.compile(r"\\([%$])"), r"\1"),
    (re.compile(r"\^\{([+-]?\d+)\}"), r"^\1"),
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_RAISED = re.compile(r"10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)")
_POWER_ALONE = re.compile(r"(?P<before>[×x*·]\s*|[\w.^])?\b10\s?\^\s?\{?(?P<power>[+-]?\d+)\}?")
_DOLLARS = {"US": "USD", "A": "AUD", "AU": "AUD", "C": "CAD", "CA": "CAD", "NZ": "NZD", "HK": "HKD", "S": "SGD"}
_PREFIXED = re.compile(rf"\b({'|'.join(_DOLLARS)})\$\s?")
_NOT_A_NUMBER = re.compile(
    r"(?:st|nd|rd|th)\b|\s?\+(?!\s?\d)|\s(?:half|halves|thirds?|quarters?|fourths?|fifths?|tenths?)\b"
)


@dataclass(frozen=True)
class Quantity:
    """A value with what stands beside it.

    Attributes:
        value: Exactly.
        unit: Its canonical name, or the word behind it in lower case; "" if there is none.
        currency: ISO code, "" if there is none.
        percent: Whether it is followed by a percent sign.
        known: Whether the unit is one of those that differ from each other.
        span: Where it stands in the plain text.
    """

    value: Fraction
    unit: str = ""
    currency: str = ""
    percent: bool = False
    known: bool = False
    span: tuple[int, int] = (0, 0)


def plain(text: str) -> str:
    """Return text with plain digits, signs and spaces; a half or a cube keep their meaning."""
    for pattern, instead in _LATEX:
        text = pattern.sub(instead, text)
    text = _PREFIXED.sub(lambda found: f"{_DOLLARS[found[1]]} ", text)
    text = _RAISED.sub(lambda found: f"10^{found[1].translate(_SUPERSCRIPTS)}", text)
    text = _POWER_ALONE.sub(lambda found: found[0] if found["before"] else f"1×10^{found['power']}", text)
    found = []
    for character in text.replace("−", "-").replace("–", "-").replace("—", "-"):
        if character.isascii() or character in "²³°":
            found.append(character)
        elif unicodedata.category(character) == "Nd":
            found.append(str(unicodedata.digit(character)))
        elif unicodedata.category(character) == "No" and "⁄" in (form := unicodedata.normalize("NFKC", character)):
            found.append(f" {form.replace('⁄', '/')}" if found and found[-1].isdigit() else form.replace("⁄", "/"))
        else:
            found.append(character)
    return re.sub(r"\bminus\s+(?=\d)", "-", "".join(found), flags=re.IGNORECASE).replace("**", "").replace("$ ", "$")


def quantities(text: str) -> Iterator[Quantity]:
    """Yield the quantities in plain text, in order; what is too long or too large is none."""
    place = 0
    while match := _NUMBER.search(text, place):
        place = max(match.end(), match.start() + 1)
        behind = text[match.end() : match.end() + 20]
        if len(match[0]) > LONGEST or re.match(r"\.\d|[A-Za-z]*\d", behind) or _NOT_A_NUMBER.match(behind):
            yield Quantity(Fraction(-1, 997), unit="unreadable", known=True, span=match.span())
            place = re.compile(r"[\w.]*").match(text, match.end()).end()  # type: ignore[union-attr]
            continue
        value = _value(match)
        if value is None:
            yield Quantity(Fraction(-1, 997), unit="unreadable", known=True, span=match.span())
            continue
        end = match.end()
        if suffix := _SUFFIX.match(text, end):
            name = (suffix[1] or suffix[2]).strip()
            value *= SUFFIXES.get(name, SUFFIXES.get(name.lower(), 1))
            end = suffix.end()
        percent = _PERCENT.match(text, end)
        currency = CURRENCIES.get(match["currency"] or "", "") or _before(text, match.start())
        unit, known = "", False
        if percent:
            end = percent.end()
        elif word := _WORD.match(text, end):
            name = word[1].replace("° ", "°")
            if name in CURRENCIES or name.lower() in CURRENCIES:
                currency = currency or CURRENCIES.get(name, "") or CURRENCIES[name.lower()]
                end = word.end()
            elif name in UNITS or name.lower() in UNITS:
                unit, known = UNITS.get(name) or UNITS[name.lower()], True
                end = word.end()
            else:
                unit = name.lower()
        negative = (match["sign"] or "").strip() == "-" or match["sign2"] == "-"
        yield Quantity(-value if negative else value, unit, currency, percent is not None, known, (match.start(), end))
        place = max(place, end if known or percent or suffix else match.end())


def _before(text: str, start: int) -> str:
    """Return the currency whose name stands before a number."""
    found = re.search(r"([A-Z]{3}|US\$)\s?$", text[:start])
    return CURRENCIES.get(found[1], "") if found else ""


def _value(match: re.Match[str]) -> Fraction | None:
    """Return the value of a number, None if it has none."""
    try:
        if match["whole"]:
            value = Fraction(int(match["whole"])) + Fraction(int(match["top"]), int(match["bottom"]))
        elif match["num"]:
            value = Fraction(int(match["num"]), int(match["den"]))
        else:
            digits = re.sub(r"[,\s]", "", match["digits"] or "0")
            value = Fraction(digits + (match["decimals"] or match["bare"] or ""))
        power = int(match["exp"] or match["power"] or 0)
    except (ValueError, ZeroDivisionError):
        return None
    return None if abs(power) > LARGEST_POWER else value * Fraction(10) ** power


def in_words(text: str) -> Fraction | None:
    """Return the value of a number written in words and nothing else, such as "twenty-one", None if it is none."""
    words = re.findall(r"[a-z]+", text.lower())
    if not words or re.search(r"[^a-zA-Z\s.,\-]", text):
        return None
    negative = words[0] in ("minus", "negative")
    words = [word for word in words[negative:] if word != "and"]
    total, part = 0, 0
    for word in words:
        if word in WORDS:
            part += WORDS[word]
        elif word == "hundred":
            part = max(part, 1) * 100
        elif word in SCALES:
            total, part = total + max(part, 1) * SCALES[word], 0
        else:
            return None
    return None if not words else Fraction(-(total + part) if negative else total + part)


def single(text: str) -> Quantity | None:
    """Return the only quantity of a text, None if there are none or several."""
    text = plain(text)
    found = list(quantities(text))
    if not found and (value := in_words(text)) is not None:
        return Quantity(value)
    return found[0] if len(found) == 1 and found[0].unit != "unreadable" else None
