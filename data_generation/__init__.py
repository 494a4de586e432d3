"""Trait artifacts and training sets, the scripts and prompts that generate new ones, and the toy world."""
