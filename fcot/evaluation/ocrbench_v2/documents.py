"""STEDS: how alike the outlines of two documents are; their words do not count."""

import re

import numpy as np

from fcot.evaluation.ocrbench_v2.tree_distance import Node, Postorder, tree_distance

_CHANGES = (
    (re.compile(r"<bos>|<eos>|<pad>|<unk>"), ""),
    (re.compile(r"\s##(\S)"), r"\1"),
    (re.compile(r"\\\s"), r"\\"),
    (re.compile(r"\s\*\s\*\s"), "**"),
    (re.compile(r"{\s"), "{"),
    (re.compile(r"\s}"), "}"),
    (re.compile(r"\s}"), "}"),
    (re.compile(r"\\begin\s"), r"\\begin"),
    (re.compile(r"\\end\s"), r"\\end"),
    (re.compile(r"\\end{table}"), r"\\end{table} \n\n"),
)


def document(prediction: object, answer: str) -> float:
    """Return one minus the distance of two outlines over the number of nodes of the larger."""
    if not isinstance(prediction, str):
        return 0.0
    one, other = (Postorder.of(outline(text)) for text in (prediction, answer))
    blank = [np.asarray([not label.strip() for label in tree.labels]) for tree in (one, other)]
    # two labels that say something are the same, whatever they say; a blank one is like none
    costs = (blank[0][:, None] | blank[1][None]).astype(np.float64)
    return 1 - tree_distance(one, other, costs) / max(len(one.labels), len(other.labels))


def cleaned(text: str) -> str:
    """Return a line without control words and marks."""
    for pattern, instead in _CHANGES:
        text = pattern.sub(instead, text)
    return text.replace("\n", " ").replace("*", " ").replace("_", " ")


def outline(text: str) -> Node:
    """Return a tree of the headings of a text and the lines below each."""
    root, untitled = Node("ROOT"), Node("TITLE")
    root.children.append(untitled)
    title = ""
    for label in map(cleaned, text.split("\n")):
        if label.startswith("#"):
            title = label.replace("#", "")
            root.children.append(Node(title))
        else:
            place = _first(root, title) if title else untitled
            (place or untitled).children.append(Node(label))
    return root


def _first(root: Node, label: str) -> Node | None:
    """Return the first node of a label, parents before children."""
    pending = [root]
    while pending:
        node = pending.pop()
        if node.label == label:
            return node
        pending += reversed(node.children)
    return None
