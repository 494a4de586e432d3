"""Finetuning by a config, steered or not."""
