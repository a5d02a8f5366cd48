"""Thin verbs of `ofasys-lite`; the only room that knows Hydra."""
