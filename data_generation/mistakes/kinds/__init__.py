"""Arithmetic, algebra and geometry: one function draws one kind of problem."""

from data_generation.mistakes.kinds import (
    chance,
    divisors,
    equations,
    expressions,
    fractions_and_forms,
    means,
    percentages,
    plane,
    sequences,
    space,
)

MODULES = (chance, divisors, equations, expressions, fractions_and_forms, means, percentages, plane, sequences, space)
ALL = tuple(problem for module in MODULES for problem in module.ALL)
