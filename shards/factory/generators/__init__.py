"""Generators of texts: a model in this process, or OpenAI-compatible endpoints."""

from collections.abc import Sequence
from pathlib import Path

from fcot.errors import UserError
from shards.factory.requests import Generator

REMOTE = ("http://", "https://")  # what an address begins with


def generator_of(
    where: Sequence[str],
    model: str | None,
    *,
    concurrency: int,
    timeout: float,
    patience: float,
    device: str = "auto",
    dtype: str = "auto",
) -> Generator:
    """Return the generator at an address, several addresses, or in a folder.

    Args:
        where: Addresses that begin with http, or one model folder.
        model: Name of the model at the addresses.
        concurrency: Requests under way, or drawn together, at a time.
        timeout: Seconds of a request to an address.
        patience: Seconds without any answer before giving up.
        device: Where a folder's model runs.
        dtype: Type of its weights.

    Raises:
        UserError: If folders and addresses are mixed, a model is missing, or the client is not installed.
    """
    remote = [each for each in where if each.startswith(REMOTE)]
    if not where or (remote and len(remote) < len(where)) or (not remote and len(where) > 1):
        raise UserError(
            f"The generators are {', '.join(where) or 'none'}.\n"
            "Give one model folder, or one or more addresses such as http://localhost:8000/v1."
        )
    if not remote:
        from shards.factory.generators.in_process import InProcess

        return InProcess(Path(where[0]), batch_size=concurrency, device=device, dtype=dtype)
    try:
        from shards.factory.generators.endpoint import Endpoints
    except ImportError as error:
        raise UserError(
            f'Asking an address needs a package that is not here ({error}).\npip install "fcot[data]"'
        ) from error
    return Endpoints(where, model or "", concurrency=concurrency, timeout=timeout, patience=patience)
