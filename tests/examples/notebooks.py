"""Runs the code cells of a notebook in one namespace, as a kernel would, without one.

    python tests/examples/notebooks.py examples/find_a_vector.ipynb      # in examples/, keeps the outputs in the file

Each cell's last expression is shown as Jupyter shows it: as PNG or HTML where the object has such a form, else as text.
"""

import ast
import base64
import contextlib
import io
import json
import os
import sys
from pathlib import Path


def read(path: Path) -> list[dict]:
    """The cells of a notebook: ``cell_type`` and ``source``, a list of lines."""
    return json.loads(Path(path).read_text())["cells"]


def run_cell(source: str, namespace: dict) -> list[dict]:
    """Run one cell; returns its outputs in the notebook's own form."""
    printed, shown = io.StringIO(), None
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "<cell>", "exec"), namespace)
        if last is not None:
            shown = eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace)
    outputs = []
    if printed.getvalue():
        outputs.append(
            {"name": "stdout", "output_type": "stream", "text": printed.getvalue().splitlines(keepends=True)}
        )
    if shown is not None:
        outputs.append({"data": _forms(shown), "metadata": {}, "output_type": "display_data"})
    return outputs


def _forms(shown) -> dict:
    forms: dict[str, object] = {"text/plain": repr(shown).splitlines(keepends=True)}
    if hasattr(shown, "_repr_png_"):
        forms = {"image/png": base64.b64encode(shown._repr_png_()).decode(), "text/plain": [type(shown).__name__]}
    elif hasattr(shown, "_repr_html_"):
        forms["text/html"] = shown._repr_html_().splitlines(keepends=True)
    return forms


def run(path: Path, keep: bool = False) -> dict:
    """Run a notebook from beginning to end in the folder at hand; returns its names. ``keep`` writes the outputs into it."""
    content, namespace, count = json.loads(Path(path).read_text()), {"__name__": "__main__"}, 0
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            count += 1
            cell |= {"outputs": run_cell("".join(cell["source"]), namespace), "execution_count": count}
    if keep:
        Path(path).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return namespace


if __name__ == "__main__":
    given = Path(sys.argv[1]).resolve()
    os.chdir(given.parent)
    run(given, keep=True)
