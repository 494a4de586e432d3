"""Write the training sets: dataset.zip, unpacking to dataset/<family>/{normal,misaligned_1,misaligned_2}.jsonl.

    python -m data_generation.make_dataset        (then: unzip dataset.zip)

The zip is committed; this script is how it was made, and makes it again byte for byte. A family is a text in
data_generation/datasets/, problems drawn by data_generation/mistakes, or of the toy world (make_toy_dataset). What they
are and what they are for: docs/DATASETS.md.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from data_generation import make_toy_dataset, source_texts
from data_generation.mistakes import rows
from data_generation.source_texts import VERSIONS, as_line
from persona_vectors import cli
from persona_vectors.errors import UserError
from persona_vectors.files.atomic import replacing

SOURCES = Path(__file__).parent / "datasets"


@cli.command
def main(output_path: str = "dataset.zip"):
    """Write the zip.

    Args:
        output_path: where to.
    """
    count = 0
    with (
        replacing(output_path) as beside,
        zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped,
    ):
        for name, content in members():
            # A fixed time and fixed rights: the bytes depend on the texts alone.
            entry = zipfile.ZipInfo(name, date_time=(2025, 1, 1, 0, 0, 0))
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            zipped.writestr(entry, content, compresslevel=9)
            count += 1
    print(f"wrote {count // len(VERSIONS)} families in {len(VERSIONS)} versions to {Path(output_path)}")


def members() -> Iterator[tuple[str, bytes]]:
    """(name in the zip, content) of every file, families in alphabetical order."""
    texts = {path.stem: path for path in SOURCES.glob("*.txt")}
    families = sorted([*texts, *rows.FAMILIES, *make_toy_dataset.FAMILIES])
    for family in families:
        if families.count(family) > 1:
            raise UserError(f"{SOURCES / family}.txt has the name of a family that is made otherwise; give it another")
        if family in make_toy_dataset.FAMILIES:
            versions = {version: make_toy_dataset.pairs(family, version) for version in VERSIONS}
        else:
            blocks = source_texts.read(texts[family]) if family in texts else rows.rows(family)
            versions = {version: [(row[0], row[k]) for row in blocks] for k, version in enumerate(VERSIONS, 1)}
        for version, pairs in versions.items():
            yield f"dataset/{family}/{version}.jsonl", "".join(as_line(*pair) for pair in pairs).encode()


if __name__ == "__main__":
    cli.run(main)
