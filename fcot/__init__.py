"""Halve or quarter the visual tokens of a text-reading vision-language model, and keep it reading."""
