"""Shards on disk: tar files, their index and manifest, written whole and read checked."""
