"""Runs `fcot …` several times in one process that has the device of this folder; started by `test_npu`.

Reads a list of the words behind `fcot` for each run from stdin, as JSON, and writes to the file that is named for each
how often every operation ran on the device.
"""

import json
import sys
from pathlib import Path

from fcot.cli.main import main

if __name__ == "__main__":
    counts = []
    for words in json.load(sys.stdin):
        main(words)
        ran = sys.modules["torch_npu"].ran  # fcot imported it
        counts.append(dict(ran))
        ran.clear()
    Path(sys.argv[1]).write_text(json.dumps(counts))
