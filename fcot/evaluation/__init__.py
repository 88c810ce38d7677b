"""Scored answers and tables of them."""
