"""Trait artifacts, the prompts and scripts that make new ones, training sets, and the toy model's small world."""
