"""TEDS (Zhong et al., arXiv 1911.10683): how alike two HTML tables are, as trees of cells."""

from functools import lru_cache
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from fcot.errors import UserError
from fcot.evaluation.ocrbench_v2.tree_distance import Costs, Node, Postorder, TooLarge, tree_distance

PRIVATE = 0xF0000  # characters that stand for tags within a cell


def teds(prediction: str, answer: str) -> float:
    """Return one minus the tree edit distance of two HTML documents' first tables over the larger number of elements.

    A prediction that has no table where it must be, or is no HTML at all, has 0.

    Raises:
        TooLarge: If the tables have too many cells to be compared.
        UserError: If lxml is missing.
    """
    html = _lxml()
    try:
        tables = [_table(html, text) for text in (prediction, answer)]
        if any(table is None for table in tables):
            return 0.0
        one, other = (Postorder.of(_tree(table)) for table in tables)
        size = max(sum(1 for _ in table.iter("*")) - 1 for table in tables)
        return 1.0 - tree_distance(one, other, rename_costs(one, other)) / size
    except (UserError, TooLarge):
        raise
    except Exception:  # lxml and odd attributes raise many types; the official script gives 0 for each
        return 0.0


@lru_cache(maxsize=1)
def _lxml() -> Any:
    try:
        from lxml import html
    except ImportError:
        raise UserError('OCRBench v2 needs lxml for its tables.\nInstall it: pip install "fcot[evaluate]"') from None
    return html


def _table(html: Any, text: str) -> Any:
    """Return the first table directly in the body, None if there is none."""
    parser = html.HTMLParser(remove_comments=True, encoding="utf-8")
    found = html.fromstring(text, parser=parser).xpath("body/table")
    return found[0] if found else None


def _tree(element: Any) -> Node:
    """Return an element and those below it; a cell is a leaf, labelled with its spans and content."""
    if element.tag == "td":
        spans = (int(element.attrib.get("colspan", "1")), int(element.attrib.get("rowspan", "1")))
        return Node(("td", *spans, tuple(_content(element))))
    return Node((element.tag, None, None, None), [_tree(child) for child in element])


def _content(element: Any) -> list[str]:
    """Return the tokens in a cell: characters, and tags of elements in it."""
    tokens = list(element.text or "")
    for child in element:
        tokens.append(f"<{child.tag}>")
        tokens += _content(child)
        if child.tag != "unk":
            tokens.append(f"</{child.tag}>")
        if child.tag != "td":
            tokens += list(child.tail or "")
    return tokens


def rename_costs(one: Postorder, other: Postorder) -> Costs:
    """Return the cost of renaming each node: 1 if tag or span differ, for two cells how unlike their contents are."""
    kinds: dict[Any, int] = {}
    labels = [[kinds.setdefault(label[:3], len(kinds)) for label in tree.labels] for tree in (one, other)]
    costs: Costs = (np.asarray(labels[0])[:, None] != np.asarray(labels[1])[None]).astype(np.float64)
    cells = [[i for i, label in enumerate(tree.labels) if label[0] == "td"] for tree in (one, other)]
    if cells[0] and cells[1]:
        tags: dict[str, str] = {}
        texts = [
            ["".join(_character(token, tags) for token in tree.labels[i][3]) for i in its]
            for tree, its in zip((one, other), cells, strict=True)
        ]
        unique = [list(dict.fromkeys(each)) for each in texts]
        apart = cdist(unique[0], unique[1], scorer=Levenshtein.distance, dtype=np.int32).astype(np.float64)
        longest = np.maximum(
            np.asarray([len(text) for text in unique[0]])[:, None], np.asarray([len(text) for text in unique[1]])[None]
        )
        apart = np.divide(apart, longest, out=np.zeros_like(apart), where=longest > 0)
        places = [
            np.asarray([{text: n for n, text in enumerate(its)}[text] for text in each])
            for its, each in zip(unique, texts, strict=True)
        ]
        of_cells = np.ix_(cells[0], cells[1])
        costs[of_cells] = np.where(costs[of_cells] == 0, apart[np.ix_(places[0], places[1])], 1.0)
    return costs


def _character(token: str, tags: dict[str, str]) -> str:
    """Return one character for a token: itself, or one that stands for its tag."""
    return token if len(token) == 1 else tags.setdefault(token, chr(PRIVATE + len(tags)))
