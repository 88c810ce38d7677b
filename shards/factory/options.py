"""How a run is carried out; nothing here changes what a response says."""

from dataclasses import dataclass

from fcot.errors import UserError


@dataclass(frozen=True)
class Options:
    """How a run is carried out.

    Args:
        model: Name of the model at the addresses.
        limit: Only so many first samples of the source.
        concurrency: Requests under way, or drawn together, at a time.
        budget: No request is sent once this set has cost so many tokens; what is under way then is kept.
        prompt_price: Price of a million prompt tokens, for the cost that is shown.
        answer_price: Price of a million answer tokens.
        timeout: Seconds of a request to an address.
        patience: Seconds without any answer before giving up with code 75.
        part: Ask for the i-th of n parts of the shards, "i/n", where the file system has no locks.
        workers: Processes that judge and write (default: one a core).
        shard_size: Samples in a shard of the new set.
        device: Where a model folder runs; "auto" is an accelerator if there is one.
        dtype: Type of its weights; "auto" keeps the stored type.
        overwrite: Replace a set at the output that was made in another way.

    Raises:
        UserError: If a number is too small.
    """

    model: str | None = None
    limit: int | None = None
    concurrency: int = 64
    budget: int | None = None
    prompt_price: float = 0.0
    answer_price: float = 0.0
    timeout: float = 600.0
    patience: float = 1800.0
    part: str = "1/1"
    workers: int | None = None
    shard_size: int = 1000
    device: str = "auto"
    dtype: str = "auto"
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name in ("concurrency", "shard_size", "workers", "limit", "budget"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name} is {value}.\nGive at least 1.")
        if self.timeout <= 0:
            raise UserError(f"--timeout is {self.timeout}.\nGive a number of seconds above 0.")
