"""Say how many samples could not be used, and why: part of reading shards, and named like any callback."""

from shards.feed.skipped_samples import SkippedSamples

__all__ = ["SkippedSamples"]
