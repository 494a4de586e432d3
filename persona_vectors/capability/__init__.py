"""What steering costs: tasks of lm-evaluation-harness, and measures of our own, on a model that is steered or not."""
