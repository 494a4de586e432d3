"""Vectors to and from others: files with metadata, control vectors, model cards, the hub."""
