"""One merge of folders into a folder, in a process of its own for `bench merge`.

Its words are METHOD DENSITY OUTPUT BASE CHECKPOINT …
"""

import sys
from pathlib import Path

from fcot.files.stream_weights import stream_weights
from fcot.files.weights import open_weights
from fcot.merge.combine import Combination
from fcot.merge.methods.ties import Ties


def main(words: list[str]) -> None:
    """Merge by the method: linear weighs all alike, the base included; ties merges the others into the base."""
    method, density, output, *folders = words
    base, *others = (open_weights(folder) for folder in folders)
    if method == "linear":
        stream_weights(Path(output), Combination(base, others, [1 / len(folders)] * len(others)), base.layout)
    else:
        stream_weights(Path(output), Ties(base, others, float(density)), base.layout)


if __name__ == "__main__":
    main(sys.argv[1:])
