"""One file has all that the classes use, and nothing of the project is needed to run it."""

import sys
from types import ModuleType

import pytest
import torch

from fcot.compress import Qformer
from fcot.errors import UserError
from fcot.export.single_file import single_file
from fcot.models.student import CompressedInternVL
from fcot.models.student_config import CompressedInternVLConfig

SHAPES = """\
from math import pi as half_turn
import os.path

SCALE, UNUSED = 2, half_turn  # a pair


def scaled(x):
    return x * SCALE
"""
KINDS = """\
from functools import lru_cache

from {package}.shapes import scaled

from .mixed import Mixed


@lru_cache
def even(n):
    return n == 0 or odd(n - 1)


def odd(n):
    return n != 0 and even(n - 1)


def unused():
    return None


class Kind(Mixed):
    def twice(self, x):
        return scaled(x) if even(2) else None
"""


@pytest.fixture
def package(tmp_path, monkeypatch, request):
    name = f"package_of_{request.node.name.partition('[')[0]}"
    (tmp_path / name).mkdir()
    files = {"shapes": SHAPES, "kinds": KINDS, "mixed": "class Mixed:\n    pass\n", "__init__": ""}
    for file, text in files.items():
        (tmp_path / name / f"{file}.py").write_text(text.replace("{package}", name))
    monkeypatch.syspath_prepend(tmp_path)
    return name


def kind_of(package):
    return __import__(f"{package}.kinds", fromlist=["Kind"]).Kind


def ran(text):
    module = sys.modules["alone"] = ModuleType("alone")
    exec(compile(text, "alone.py", "exec"), vars(module))
    return vars(module)


def test_it_runs_alone_and_has_only_what_is_used(package):
    text = single_file("Kinds.", kind_of(package))
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]
    scope = ran(text.replace(f"sources of {package}", ""))
    assert scope["Kind"]().twice(3) == 6
    assert "unused" not in scope and f"import {package}" not in text and f"from {package}" not in text
    assert "from math import pi as half_turn" in text and "os.path" not in text
    assert "# a pair" in text


def test_two_things_of_one_name_are_refused(package, tmp_path):
    clash = "class Mixed:\n    def scaled(self):\n        return scaled\n\n\ndef scaled():\n    return 0\n"
    (tmp_path / package / "mixed.py").write_text(clash)
    with pytest.raises(UserError, match=rf"'scaled' has different definitions in {package}\.\w+ and {package}"):
        single_file("Kinds.", kind_of(package))


def test_a_renamed_import_of_own_code_is_refused(package, tmp_path):
    renamed = KINDS.replace("import scaled", "import scaled as scaled_up").replace("scaled(x)", "scaled_up(x)")
    (tmp_path / package / "kinds.py").write_text(renamed.replace("{package}", package))
    with pytest.raises(UserError, match=r"Write `from .*shapes import …` without another name"):
        single_file("Kinds.", kind_of(package))


def test_the_students_file_has_the_compressor_used_and_no_other():
    text = single_file("A student.", CompressedInternVLConfig, CompressedInternVL, Qformer)
    assert "import fcot" not in text and "from fcot" not in text
    scope = ran(text)
    assert sorted(scope["COMPRESSORS"]) == ["qformer"]
    assert "class Pool" not in text
    config = scope["CompressedInternVLConfig"](compressor="qformer", ratio=4)
    assert (config.compressor, config.ratio, config.placement) == ("qformer", 4, "before")


def test_a_compressor_of_a_plugin_is_taken_along(package, tmp_path):
    own = (
        "from __future__ import annotations\n\nfrom fcot.compress import Compressor\n\n\n"
        "class EveryOther(Compressor):\n"
        "    def forward(self, tokens: Tensor) -> Tensor:\n"
        "        return tokens[:, :: self.ratio]\n"
    )
    (tmp_path / package / "every_other.py").write_text(own)
    kind = __import__(f"{package}.every_other", fromlist=["EveryOther"]).EveryOther
    text = single_file("A student.", CompressedInternVLConfig, CompressedInternVL, kind)
    assert "fcot.compress" not in text and f"import {package}" not in text
    scope = ran(text)
    assert scope["CompressedInternVLConfig"](compressor="every_other").compressor == "every_other"
    compressor = scope["make_compressor"]("every_other", ratio=2, side=2, width=1)
    assert compressor(torch.arange(4.0).view(1, 4, 1)).flatten().tolist() == [0.0, 2.0]
