"""A score without a judge: how likely a language model finds an answer under the trait's instructions."""
