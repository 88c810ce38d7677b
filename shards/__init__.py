"""Webdataset shards of image-text conversations: drawn, written, read and batched."""
