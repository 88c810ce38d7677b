import pytest
from packaging.specifiers import SpecifierSet

from fcot.doctor.versions import Installed, installed, requirements


@pytest.mark.parametrize(
    ("found", "allowed", "problem"),
    [
        ("2.6.6", ">=2.6.6", None),
        ("2.13.0+cpu", ">=2.9", None),
        ("2.10.0.dev20250101", ">=2.9", None),
        ("2.6.3", ">=2.6.6", "lightning 2.6.3 is not among the versions allowed (>=2.6.6)"),
        ("6.0.0", ">=5.20,<6", "is not among the versions allowed"),
        (None, ">=2.6.6", "lightning is not installed"),
    ],
)
def test_a_version_outside_the_allowed_ones_is_a_problem(found, allowed, problem):
    said = Installed("lightning", found, SpecifierSet(allowed)).problem
    assert said is None if problem is None else problem in said


def test_what_the_project_needs_is_checked_and_extras_are_not():
    names = {package.name for package in installed()}
    assert {"python", "lightning", "torch", "transformers", "jsonargparse"} <= names
    assert "pytest" not in names
    assert all(package.problem is None for package in installed())


def test_banned_versions_are_those_of_the_packages_metadata():
    python, needed = requirements()
    assert python.startswith(">=3.")
    (lightning,) = [line for line in needed if line.replace(" ", "").startswith("lightning>")]
    assert "2.6.6" in lightning
