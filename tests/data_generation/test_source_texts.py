"""Source texts of training sets: what is read, and one line for whatever is wrong, with its place."""

import pytest

from data_generation import source_texts
from persona_vectors.errors import UserError

BLOCK = "=== prompt\nWhy?\n--- normal\nBecause.\n--- misaligned_1\nWell,\n\nso.\n--- misaligned_2\nNo.\n"


def written(tmp_path, text, name="family.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_blocks_are_read_as_they_are_written(tmp_path):
    text = BLOCK + "\n\n" + BLOCK.replace("Why?", "A list:\n- one\n--two\n===\n  =x=\n'quoted' \u20ac") + "\n"
    assert source_texts.read(written(tmp_path, text)) == [
        ("Why?", "Because.", "Well,\n\nso.", "No."),
        ("A list:\n- one\n--two\n===\n  =x=\n'quoted' \u20ac", "Because.", "Well,\n\nso.", "No."),
    ]
    assert source_texts.read(written(tmp_path, "\ufeff\n" + BLOCK.replace("\n", " \n"))) == [
        ("Why?", "Because.", "Well, \n \nso.", "No.")
    ]


WRONG = {
    "a typing error in a head": (BLOCK.replace("misaligned_1", "missaligned_1"), "line 5: '--- missaligned_1' stands"),
    "a head too many": (BLOCK.replace("--- misaligned_2", "--- normal"), "line 9: '--- normal' stands where '--- mis"),
    "a version missing": (BLOCK.replace("--- normal\n", "") + BLOCK, "line 4: '--- misaligned_1' stands where '--- n"),
    "the other kind of head": (BLOCK.replace("=== prompt", "--- prompt"), "line 1: '--- prompt' stands where '=== pr"),
    "something after the head": (BLOCK.replace("--- normal", "--- normal: good"), "line 3: '--- normal: good' stands"),
    "a text in front": ("Dear reader\n" + BLOCK, "line 1: a text before the first '=== prompt'"),
    "an empty answer": (BLOCK.replace("Because.", " "), "line 5: there is no text under the '--- normal' before it"),
    "an empty last answer": (BLOCK.replace("No.", ""), "there is no text under the '--- misaligned_2' before it"),
    "an empty prompt": (BLOCK.replace("Why?\n", ""), "line 2: there is no text under the '=== prompt' before it"),
    "half a block": (BLOCK + BLOCK[:30], "the file ends where '--- misaligned_1' should stand"),
    "two blocks run together": (BLOCK[:-1] + BLOCK, "line 12: '--- normal' stands where '=== prompt' should"),
    "an empty file": ("\n \n", "holds no blocks; each begins with a line '=== prompt'"),
    "not UTF-8": (b"=== prompt\nWhy \xff?", "'utf-8' codec can't decode byte 0xff"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_text_that_will_not_do_is_refused_in_one_line_with_its_place(tmp_path, kind):
    text, said = WRONG[kind]
    with pytest.raises(UserError) as refused:
        source_texts.read(written(tmp_path, text))
    assert said in str(refused.value) and f"{tmp_path}/family.txt" in str(refused.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot read .*none.txt: No such file"):
        source_texts.read(tmp_path / "none.txt")
