"""Word problems, from shopping to sharing: one function draws one kind of problem."""

from data_generation.mistakes.stories import buying, counting, home, journeys, people, quantities, saving, work

MODULES = (buying, counting, home, journeys, people, quantities, saving, work)
ALL = tuple(problem for module in MODULES for problem in module.ALL)
