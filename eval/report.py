"""Stage: what scripts/reproduce.sh made -> one self-contained HTML page: figures, numbers beside the paper's, links.

    python -m eval.report --model toy --trait evil,sycophantic --folder output/reproduce/toy \\
        --steering 'eval_persona_eval/toy/{trait}_steering_layer1,2,3_coef0,1' --output output/reproduce/toy/report.html

An experiment whose files are not there has a line that says so. Figures are inside the page; tables link to their CSVs.
"""

import base64
import os
import time
from collections.abc import Callable
from pathlib import Path

from persona_vectors import cli
from persona_vectors.analysis.finetuning_sections import (
    finetuning_section,
    mitigation_section,
    screening_section,
    selection_section,
)
from persona_vectors.analysis.layout import refuse_mixed_results
from persona_vectors.analysis.sections import (
    Section,
    costs_section,
    digits,
    monitoring_section,
    similarity_section,
    steering_section,
    worth_section,
)
from persona_vectors.errors import UserError
from persona_vectors.files.atomic import replacing
from persona_vectors.plots import DPI


@cli.command
def main(
    model: str,
    trait: cli.Several[str],
    folder: str,
    steering: str | None = None,
    mitigation: str | None = None,
    output: str | None = None,
    quality: str | None = None,
):
    """Write the report of a reproduction.

    Args:
        model: the model's name, for the title.
        trait: trait(s), in the order to show.
        folder: what scripts/reproduce.sh filled: monitoring/, shift.*, screening/, selected/, similarity*.
        steering: beginning of eval.select_layer's files, those on what steering costs among them; {trait} is filled in.
        mitigation: beginning of eval.mitigation's files.
        output: HTML to write; by default report.html in the folder.
        quality: beginning of eval.vector_quality's files, <vector>_quality beside the vector; {trait} is filled in. By default
            quality/{trait} in the folder.
    """
    traits, root = list(trait), Path(folder)
    if not root.is_dir():
        raise UserError(f"no folder {folder}; scripts/reproduce.sh makes it")
    output = Path(output or root / "report.html")
    quality = quality or str(root / "quality" / "{trait}")
    unknown = refuse_mixed_results(traits, root, steering, mitigation, quality)
    if unknown:
        print(f"{len(unknown)} of these results have no record of what they were made from: {', '.join(unknown)[:400]}")

    import jinja2

    sections = [
        made(steering_section, traits, steering),
        made(costs_section, traits, steering),
        made(worth_section, traits, quality),
        made(monitoring_section, traits, root / "monitoring"),
        made(similarity_section, root),
        made(finetuning_section, traits, root),
        made(mitigation_section, mitigation),
        made(screening_section, root),
        made(selection_section, traits, root / "selected"),
    ]
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"embedded": embedded, "drawn_width": drawn_width, "cell": cell}
    template = environment.from_string((Path(__file__).parent / "report.html.jinja").read_text())
    page = template.render(
        model=model, traits=traits, sections=sections, made=time.strftime("%Y-%m-%d %H:%M"),
        link=lambda path: os.path.relpath(path, output.parent), number_of=len,
    )  # fmt: skip
    with replacing(output) as beside:
        beside.write_text(page, encoding="utf-8")
    found = sum(bool(section.tables or section.figures) for section in sections)
    print(f"wrote {output}: {found} of {len(sections)} sections, {len(page) / 1e6:.1f} MB, everything inside")


def embedded(path: Path) -> str:
    """A PNG as a data URL."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def drawn_width(path: Path) -> int:
    """The width of a PNG on the page, in CSS pixels: every figure at the size it was drawn at, so that all have one type size."""
    return round(int.from_bytes(path.read_bytes()[16:20]) * 96 / DPI)


def cell(value: object) -> str:
    """A number with three digits, everything else as it is, nothing for nothing."""
    if value is None or value != value:
        return ""
    return digits(value) if isinstance(value, float) else str(value)


def made(section: Callable[..., Section], *where) -> Section:
    """``section(*where)``; a file in it that is not as its stage writes it is one line."""
    try:
        return section(*where)
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise UserError(
            f"a result at {where[-1]} is not as its stage writes it ({type(error).__name__}: {error}); make it anew, or move it away"
        ) from error


if __name__ == "__main__":
    cli.run(main)
