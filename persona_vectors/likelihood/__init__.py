"""Score answers without a judge, by their likelihood under the trait's instructions."""
