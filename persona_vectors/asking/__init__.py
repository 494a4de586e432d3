"""One answers CSV in the making: asking a model and having the answers judged."""
