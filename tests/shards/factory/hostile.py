"""A verifier as a plugin may be: what it does depends on the conclusion."""

import os
import signal
import sys
import time

from shards.factory.verifiers import Verifier


class Hostile(Verifier):
    """Compares texts, and does what they say."""

    def agrees(self, said, truth, task):
        if said == "hang":
            while True:
                pass
        if said == "hog":
            held = []
            while True:
                held.append(bytes(2**27))
        if said == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if said == "exit":
            sys.exit(0)
        if said == "raise":
            raise KeyError(said)
        if said.startswith("slow"):
            time.sleep(0.2)
        return said == truth
