"""Searchers by name. A new one is one file here and one line in ``SEARCHERS``."""

from ofa_tvm.nas.searchers.base import Searcher, relative_excess
from ofa_tvm.nas.searchers.exhaustive import Exhaustive
from ofa_tvm.nas.searchers.nsga2 import Nsga2
from ofa_tvm.nas.searchers.random_search import RandomSearch

SEARCHERS: dict[str, type[Searcher]] = {"nsga2": Nsga2, "random": RandomSearch, "exhaustive": Exhaustive}

__all__ = ["SEARCHERS", "Exhaustive", "Nsga2", "RandomSearch", "Searcher", "relative_excess"]
