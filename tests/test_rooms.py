"""The plan of the house: imports run down the floors of docs/ARCHITECTURE.md, and never in a circle.

``python tests/test_rooms.py`` prints the rooms, their modules and the arrows between them.
"""

import ast
import re
import sys
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "persona_vectors"
FLOORS = (  # lowest first; a module that lies directly in persona_vectors/ is a room of its own
    "errors interrupts processes",
    "files cli settings",
    "models plots",
    "traits judge vectors",
    "sharing likelihood",
    "steering",
    "engines",
    "asking training app bake capability",
    "analysis options published front_door",
)
ROOMS = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}


def modules() -> dict[str, Path]:
    """Every module of the library but the front door, by its name below ``persona_vectors.``."""
    names = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in names.items() if name != "__init__"}


def arrows() -> set[tuple[str, str]]:
    """(importing module, imported module), imports within functions included."""
    known, found = modules(), set()
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "persona_vectors":
                full = [f"{node.module}.{alias.name}".removeprefix("persona_vectors.") for alias in node.names]
                found |= {(name, target if target in known else target.rpartition(".")[0]) for target in full}
            elif isinstance(node, ast.Import):
                full = [alias.name.removeprefix("persona_vectors.") for alias in node.names]
                found |= {(name, target) for target in full if target in known}
    return {(one, other) for one, other in found if other and one != other}


def between_rooms() -> set[tuple[str, str]]:
    rooms = {(one.split(".")[0], other.split(".")[0]) for one, other in arrows()}
    return {(one, other) for one, other in rooms if one != other}


def circles(pairs: set[tuple[str, str]]) -> list[str]:
    """The modules of one circle, or nothing."""
    graph = defaultdict(set)
    for one, other in pairs:
        graph[one].add(other)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_every_room_has_a_floor():
    assert {name.split(".")[0] for name in modules()} == set(ROOMS)


def test_the_page_on_architecture_has_these_rooms():
    page = (PACKAGE.parent / "docs/ARCHITECTURE.md").read_text()
    listed = {
        int(floor): set(re.findall(r"(?:^|; )`(\w+)`", rooms))
        for floor, rooms in re.findall(r"^\| (\d) \| (.*) \|$", page, re.M)
    }
    assert listed == {floor: set(rooms.split()) for floor, rooms in enumerate(FLOORS)}


def test_imports_run_down():
    upward = [f"{one} -> {other}" for one, other in between_rooms() if ROOMS[one] <= ROOMS[other]]
    assert not upward, sorted(upward)


def test_no_module_imports_itself_by_way_of_others():
    within = {(one, other) for one, other in arrows() if "." in other}  # a room's public face imports its modules
    assert not circles(within) and not circles(between_rooms())


def test_a_circle_is_found():
    assert circles({("a", "b"), ("b", "c"), ("c", "a")}) and not circles({("a", "b"), ("b", "c"), ("a", "c")})


def main() -> None:
    inside = defaultdict(list)
    for name in sorted(modules()):
        room, _, module = name.partition(".")
        inside[room] += [module] if module else []
    for floor, rooms in reversed(list(enumerate(FLOORS))):
        print(f"{floor}  " + "; ".join(f"{room}: {', '.join(inside[room]) or 'one module'}" for room in rooms.split()))
    found = between_rooms()
    upward = [f"{one} -> {other}" for one, other in sorted(found) if ROOMS[one] <= ROOMS[other]]
    print(f"{len(modules())} modules in {len(ROOMS)} rooms on {len(FLOORS)} floors")
    print(f"{len(found)} arrows between rooms, {len(upward)} upward {upward}; circle: {circles(arrows()) or 'none'}")


if __name__ == "__main__":
    sys.exit(main())
