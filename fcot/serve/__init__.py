"""Answers for people: a terminal conversation."""
