"""The router: what each tile of a page costs at each ratio, and which ratios a budget allows."""

from fcot.route.choice import choose, price_of, within
from fcot.route.ink_rule import InkRule, ink
from fcot.route.router import Router, describe
from fcot.route.seen import SeenTiles

__all__ = ["InkRule", "Router", "SeenTiles", "choose", "describe", "ink", "price_of", "within"]
