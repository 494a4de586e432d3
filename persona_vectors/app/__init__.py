"""The chat: a page and a terminal."""
