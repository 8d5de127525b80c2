"""Theorems as tests: exact constants from the papers, each of which a wrong equation misses."""
