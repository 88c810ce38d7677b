"""Runs `fcot …` in forks of one process, so that its imports are paid once; started by `test_stock_parts`.

Reads one line of JSON for each run from stdin: the words behind `python -m fcot`, the working folder, and the file for
what the run says. Writes a line with its exit code.
"""

import json
import os
import runpy
import sys
import traceback

import fcot.cli.train  # noqa: F401  # what the forks share


def run(words, folder, said):
    """Be a process of its own that runs the words; return its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(folder)
        sys.path.insert(0, folder)
        sys.argv = ["fcot", *words]
        runpy.run_module("fcot", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as stopped:
        code = stopped.code or 0
    except BaseException:  # a fork must not run on into its parent's code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), file=answers, flush=True)
