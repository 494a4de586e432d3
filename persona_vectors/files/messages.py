"""A chat message as files and templates write it."""

Message = dict[str, str]  # {"role": ..., "content": ...}
THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking")  # where files and templates keep a message's thoughts
