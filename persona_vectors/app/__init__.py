"""The chat, as a web page and in a terminal: plain and steered answers side by side."""
