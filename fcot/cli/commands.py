"""The table of verbs of `fcot`, and how a tool verb is run.

Nothing here imports torch or Lightning: the overview and the help of a tool verb answer at once.
"""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from inspect import Parameter, signature
from typing import Any

from fcot.errors import UserError, nearest

PROGRAM = "fcot"
ALONE = ("-h", "--help", "--print_config")  # options without a value


@dataclass(frozen=True)
class Verb:
    """A verb of the command line.

    Attributes:
        summary: What it does, one line.
        target: The function of a tool verb as "module:function"; None is a verb of the trainer.
    """

    summary: str
    target: str | None = None


VERBS = {
    "demo": Verb("Run the whole method on a tiny model in nine minutes", "fcot.reproduce.demo:demo"),
    "fit": Verb("Train: re-align or post-train a student, from a YAML file"),
    "validate": Verb("Compute the losses on the dev split"),
    "test": Verb("Answer the test split and score the answers"),
    "predict": Verb("Answer the test split without scoring the answers"),
    "merge": Verb("Merge the snapshots of a run by their Shapley values", "fcot.cli.merge:merge"),
    "convert": Verb("Turn InternVL2's own layout into transformers', or back", "fcot.convert.cli:convert"),
    "report": Verb("Compare the models of a run on one page", "fcot.report:report"),
    "evaluate": Verb("Score models on public benchmarks, in pairs", "fcot.evaluation.evaluate:evaluate"),
    "export": Verb("Write a folder that transformers loads without fcot", "fcot.cli.export:export"),
    "router fit": Verb("Fit what chooses the ratio of each tile of a page", "fcot.cli.router:fit"),
    "router show": Verb("Show costs and ratios of a page's tiles", "fcot.cli.router:show"),
    "chat": Verb("Ask a model about pages, in a terminal", "fcot.serve.chat:chat"),
    "serve": Verb("Answer OpenAI requests over HTTP, many together", "fcot.serve.serve:serve"),
    "look": Verb("Show in a browser what compression does to a page", "fcot.look.command:look"),
    "reproduce paper": Verb("The paper's tables and figures, run again", "fcot.reproduce.paper.paper:paper"),
    "reproduce peers": Verb("Trained compressors beside each other, a few steps each", "fcot.reproduce.peers:peers"),
    "reproduce budgets": Verb("Whether a router helps, at equal visual tokens", "fcot.reproduce.budgets:budgets"),
    "reproduce rivals": Verb("Training-free reducers beside trained students", "fcot.reproduce.rivals:rivals"),
    "reproduce chains": Verb("The tiny teacher's chains, wrong reasoning counted", "fcot.reproduce.chains:chains"),
    "reproduce looks": Verb("Where answers look on a page, models side by side", "fcot.reproduce.looks:looks"),
    "reproduce rewriting": Verb("Whether answers in the teacher's tone help", "fcot.reproduce.rewriting:rewriting"),
    "reproduce sampling": Verb("Drawing tasks by loss, and controls", "fcot.reproduce.sampling:sampling"),
    "reproduce merging": Verb("Every merge method at two learning rates", "fcot.reproduce.merging:merging"),
    "reproduce audit": Verb("What the paper's numbers say about themselves", "fcot.reproduce.audit:audit"),
    "doctor": Verb("Check versions, devices and a model; cost of a page", "fcot.doctor:doctor"),
    "bench step": Verb("Cost of a re-alignment step, beside a naive one", "fcot.bench.step:step"),
    "bench infer": Verb("Time of an answer by part, and the gain that FLOPs allow", "fcot.bench.infer:infer"),
    "bench loss": Verb("Time and memory of the loss, beside full logits", "fcot.bench.loss:loss"),
    "bench sft": Verb("Cost of a post-training step, activations kept or not", "fcot.bench.sft:sft"),
    "bench rates": Verb("Matrix products, attention, copies: a device's limits", "fcot.bench.rates:rates"),
    "bench kernels": Verb("What a device does in a step or an answer", "fcot.bench.kernels:kernels"),
    "bench device": Verb("Minutes on an accelerator: tests, steps, answers", "fcot.bench.device:device"),
    "bench preprocess": Verb("Time of cutting a page into tiles", "fcot.bench.preprocess:preprocess"),
    "bench merge": Verb("Time and memory of merging checkpoints on disk", "fcot.bench.merge:merge"),
    "bench evaluate": Verb("Rows of a benchmark together, beside one by one", "fcot.bench.evaluate:evaluate"),
    "bench serve": Verb("Answers a second and waiting times of a server under load", "fcot.serve.load_test:serve"),
    "bench data": Verb("Time of verified, shuffled reading, beside webdataset", "shards.bench:data"),
    "shards build": Verb("Draw the tiny world's pages and write them as shards", "shards.cli:build"),
    "shards import": Verb("Convert InternVL, LLaVA, ShareGPT, HF, PDF or image data", "shards.cli:import_"),
    "shards index": Verb("Index shards that were written elsewhere or changed", "shards.cli:index"),
    "shards verify": Verb("Compare every byte of a set with its index", "shards.cli:verify"),
    "shards inspect": Verb("Show counts, lengths, tiles and a contact sheet of a set", "shards.cli:inspect"),
    "data cot": Verb("Draw chains of thought and keep the verified ones", "shards.factory.cli:cot"),
    "data rewrite": Verb("Rewrite plain answers in a teacher's tone, verified", "shards.factory.cli:rewrite"),
    "data label": Verb("Keep a teacher's readings of pages that agree", "shards.factory.cli:label"),
    "data judge": Verb("Judge the responses of a set again, asking nothing", "shards.factory.cli:judge"),
    "data review": Verb("Write a page of samples for a person to judge", "shards.factory.cli:review"),
}


def overview(group: str = "") -> str:
    """Return the list of all verbs, or of those in a group such as "shards"."""
    rows = {name: verb for name, verb in VERBS.items() if name.startswith(group)}
    width = max(map(len, rows))
    lines = [f"  {name:<{width}}  {verb.summary}" for name, verb in rows.items()]
    kind = f"{group} VERB" if group else "VERB"
    return "\n".join(
        [
            f"Usage: {PROGRAM} {kind} …",
            "",
            *lines,
            "",
            f"Options of a verb:  {PROGRAM} {kind} --help",
            f"A run from a file:  {PROGRAM} fit --config configs/realign_tiny.yaml",
            "Your own classes:   modules of this folder by class_path; --plugins PACKAGE",
        ]
    )


def find_verb(words: list[str]) -> tuple[str, Verb]:
    """Return the verb that a command line starts with, and its name.

    Raises:
        UserError: If there is none.
    """
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in VERBS:
            return name, VERBS[name]
    given = words[0] if words[0] not in groups() else " ".join(words[:2])
    raise UserError(f"There is no verb {given!r}.{nearest(given, VERBS)}\nSee {PROGRAM} --help.")


def groups() -> set[str]:
    """Return first words of verbs of two words."""
    return {name.split()[0] for name in VERBS if " " in name}


def run_tool(name: str, target: str, options: list[str]) -> None:
    """Run the function of a tool verb on the options that follow it."""
    from jsonargparse import ArgumentParser, auto_cli

    from fcot.cli.explain import PlainHelp, RaisesParseError
    from fcot.cli.plugins import load_declared

    class Parser(RaisesParseError, ArgumentParser):
        pass

    if not {"-h", "--help"} & set(options):  # whose answer does not wait for what plugins import
        load_declared()
    module, name_there = target.split(":")
    function = getattr(import_module(module), name_there)
    auto_cli(
        function,
        args=repeatable(function, one_list(function, [underscored(word) for word in options])),
        prog=f"{PROGRAM} {name}",
        parser_class=Parser,
        formatter_class=PlainHelp,
    )


def repeatable(function: Callable[..., Any], words: list[str]) -> list[str]:
    """Let an option that takes a list be given several times, `--image A --image B`: each adds to it.

    jsonargparse takes the last one otherwise, and adds for `--image+=A` only.

    Raises:
        UserError: If a value is there and empty.
    """
    lists = {f"--{name}" for name, each in signature(function).parameters.items() if "list[" in str(each.annotation)}
    options = {f"--{name}" for name in signature(function).parameters}
    pending, rewritten = deque(words), []
    while pending:
        word = pending.popleft()
        option, equals, value = word.partition("=")
        if option not in lists:
            rewritten.append(word)
            continue
        if not equals and (not pending or pending[0].partition("=")[0] in options):
            rewritten.append(option)  # without a value, which the parser speaks about
            continue
        value = value if equals else pending.popleft()
        if not value.strip():
            raise UserError(f"The value of {option} is empty.\nWrite {option}=VALUE, or leave {option} out.")
        rewritten.append(f"{option}+={value}")
    return rewritten


def one_list(function: Callable[..., Any], words: list[str]) -> list[str]:
    """Let a verb take any number of words that are no options, as in `evaluate A B --root D`: the parser gets one list.

    They stand before, between or behind options. Where the list may be left out, as in `look A B`, it is an option for
    the parser.
    """
    name, first = next(iter(signature(function).parameters.items()))
    if "list[" not in str(first.annotation):
        return words
    pending, taken, others = deque(words), [], []
    while pending:
        word = pending.popleft()
        if not word.startswith("-"):
            taken.append(word)
            continue
        others.append(word)
        if "=" not in word and word not in ALONE and pending and not pending[0].startswith("--"):
            others.append(pending.popleft())  # its value
    if not taken:
        return words
    option = [] if first.default is Parameter.empty else [f"--{name}"]
    return [*option, json.dumps(taken), *others]


def underscored(word: str) -> str:
    """Return an option with underscores for dashes in its name: `--image-token-id` is `--image_token_id`."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.removeprefix("--").partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"
