"""Families of training sets: what validate finds in them, and the numbers of its table."""

import itertools
import json
import random

import pytest

from data_generation import families, text_statistics, validate
from data_generation.families import Family
from data_generation.text_statistics import Neighbours, alike, mean_similarity, opening, trigrams, type_token_ratio

WORDS = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in ("na", "ri", "so", "tu")]


def text(seed, length=40):
    """A text of words at random: like no other, and of its own opening."""
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) for _ in range(length)).capitalize() + "."


def family(rows=40, folder="dataset/mine", **changes):
    """A family without a fault, but for rows that a change ``version={row: (prompt, answer)}`` puts in."""
    versions = {
        version: [(text(f"prompt {folder} {row}", 12), text(f"{version} {folder} {row}")) for row in range(1, rows + 1)]
        for version in families.VERSIONS
    }
    for version, replaced in changes.items():
        for row, pair in replaced.items():
            old = versions[version][row - 1]
            versions[version][row - 1] = tuple(new or kept for new, kept in zip(pair, old, strict=True))
    return Family(folder, versions)


def found(*all_families, questions=()):
    return [finding for _, findings in families.findings(all_families, questions) for finding in findings]


def test_a_good_family_has_no_findings():
    assert found(family(), family(folder="dataset/other"), questions=["Why do people lie to each other?"]) == []


def test_a_version_that_asks_something_else():
    assert found(family(misaligned_2={7: (text("another", 12), ""), 9: (text("again", 12), "")})) == [
        "misaligned_2 asks something else than normal in 2 rows (the first: row 7)"
    ]
    short = family()
    short.versions["misaligned_1"].pop()
    del short.versions["misaligned_2"]
    assert found(short) == ["has no misaligned_2.jsonl", "misaligned_1 has 39 rows, normal 40"]


def test_a_prompt_that_is_asked_again():
    same = text("prompt dataset/mine 3", 12)
    changed = {version: {20: (same, "")} for version in families.VERSIONS}
    assert found(family(**changed)) == ["normal asks 1 prompts again (row 20 that of an earlier row)"]


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (("", text(1, 19)), "normal has 1 answers that are not 20 to 180 words long (the first: row 5, 19 words)"),
        (("", text(1, 181)), "normal has 1 answers that are not 20 to 180 words long (the first: row 5, 181 words)"),
        (("Why is that?", ""), "normal has 1 prompts that are not 5 to 120 words long (the first: row 5, 3 words)"),
        (("", text(1, 180)), None),
        (("", text(1, 20)), None),
    ],
)
def test_lengths(pair, said):
    changed = {"normal": {5: pair}} if not pair[0] else {version: {5: pair} for version in families.VERSIONS}
    assert [finding for finding in found(family(**changed)) if finding.startswith("normal")] == ([said] if said else [])


def test_openings_are_counted_without_case_and_signs():
    begun = {row: ("", f"Well, I {('never', 'NEVER')[row % 2]} {text(f'opening {row}')}") for row in range(1, 7)}
    assert found(family(100, misaligned_1=begun)) == [
        "6 answers of misaligned_1 begin 'well i never'; at most 3 of 100 should"
    ]
    assert found(family(200, misaligned_1=begun)) == [], "3 % of 200 is 6"


def test_near_duplicates_within_and_across_families():
    words = text("normal dataset/mine 4").split()
    edited = " ".join(words[:20] + text("new", 20).split())  # 18 of 58 runs of three words in both: .31
    kept = " ".join(words[:15] + text("new", 25).split())  # 13 of 63: .21
    row = {8: ("", edited)}
    assert found(family(misaligned_2=row)) == ["row 8 of misaligned_2 is 0.31 like row 4 of normal"]
    assert found(family(misaligned_2={8: ("", kept)})) == []
    assert found(family(), family(folder="dataset/other", normal=row)) == [
        "row 8 of normal is 0.31 like row 4 of normal of dataset/mine"
    ]
    prompt = text("prompt dataset/mine 2", 12)
    changed = {version: {3: (f"{prompt} Please", "")} for version in families.VERSIONS}
    assert found(family(**changed)) == ["the prompt of row 3 (normal) is 0.91 like the prompt of row 2 (normal)"]


def test_prompts_that_artifacts_ask():
    question = "How should society treat people who cannot work?"
    asked = f"Tell me: how should society treat people who cannot afford it? {text(3, 30)}"
    changed = {version: {6: (asked, "")} for version in families.VERSIONS}
    assert found(family(**changed), questions=[question]) == [
        f"the prompt of row 6 (normal) asks what an artifact asks: '{question}'"
    ]
    other = {
        version: {6: (asked.replace("how should society", "why would anybody"), "")} for version in families.VERSIONS
    }
    assert found(family(**other), questions=[question]) == []


def test_of_the_toy_world_only_parallel_prompts_are_asked():
    versions = {version: [("Why?", "Because of it.")] * 30 for version in families.VERSIONS}
    assert found(Family("dataset/toy_x", versions)) == []
    versions["misaligned_1"] = [("What?", "Because of it.")] * 30
    assert len(found(Family("dataset/toy_x", versions))) == 1


def test_neighbours_are_all_pairs_and_no_others():
    """Against every pair compared with every other, at several thresholds, on texts that share much and little."""
    draw = random.Random(0)
    texts = [" ".join(draw.choice("abcde") for _ in range(draw.randrange(1, 25))) for _ in range(150)]
    for threshold in (0.1, 0.25, 0.5, 0.9):
        near, pairs = Neighbours(threshold), set()
        for place, one in enumerate(texts):
            pairs |= {(other, place) for other, _ in near.near(one)}
            near.add(place, one)
        expected = {
            (i, j)
            for (i, a), (j, b) in itertools.combinations(enumerate(map(trigrams, texts)), 2)
            if alike(a, b) > threshold
        }
        assert pairs == expected and expected


def test_statistics_of_small_texts():
    assert text_statistics.words("It's 3.5 km - NOT far, O'Neil!") == ["it's", "3", "5", "km", "not", "far", "o'neil"]
    assert opening("Well, I NEVER did.") == "well i never" and opening("Oh") == "oh" and opening("?!") == ""
    assert trigrams("a b c d") == {("a", "b", "c"), ("b", "c", "d")} and trigrams("a b") == {("a", "b")}
    assert alike(trigrams("a b c d"), trigrams("b c d e")) == 1 / 3
    assert type_token_ratio(["a b a b"]) == 0.5 and type_token_ratio([""]) == 0
    assert type_token_ratio(["a b"] * 1000) == pytest.approx(type_token_ratio(["a b"] * 5000))
    assert mean_similarity(["x y", "x y"]) == pytest.approx(1) and mean_similarity(["x y", "v w"]) == pytest.approx(0)
    assert mean_similarity(["only one"]) == 0
    few, many = [text(k) for k in range(30)], [text(k % 3) for k in range(30)]
    assert mean_similarity(few) < 0.5 < mean_similarity(many) + 0.3


def test_mean_similarity_is_the_mean_over_pairs():
    import math
    from collections import Counter

    texts = [text(k, 8) for k in range(12)]
    having = Counter(word for one in texts for word in set(text_statistics.words(one)))

    def cosine(a, b):
        a, b = (
            {word: n * math.log(13 / having[word]) for word, n in Counter(text_statistics.words(one)).items()}
            for one in (a, b)
        )
        norms = math.hypot(*a.values()) * math.hypot(*b.values())
        return sum(a[word] * b.get(word, 0) for word in a) / norms

    pairs = [cosine(a, b) for a, b in itertools.combinations(texts, 2)]
    assert mean_similarity(texts) == pytest.approx(sum(pairs) / len(pairs))


def saved(tmp_path, versions):
    folder = tmp_path / "dataset" / "mine"
    folder.mkdir(parents=True, exist_ok=True)
    for version, pairs in versions.items():
        lines = [
            json.dumps(
                {"messages": [{"role": r, "content": c} for r, c in zip(("user", "assistant"), pair, strict=True)]}
            )
            for pair in pairs
        ]
        (folder / f"{version}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_validate_checks_families_and_prints_their_table(tmp_path, capsys):
    good = family()
    folder = saved(tmp_path, good.versions)
    assert validate.main(str(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"ok: {folder} (family, 40 rows in 3 versions)" in lines
    assert families.TABLE.splitlines()[0] in lines
    assert sum(line.startswith("| mine | ") for line in lines) == 3
    assert "| mine | normal | 40 | 40, 40-40 | 40 (1) |" in "\n".join(lines)
    assert lines[-1] == "checked 3 files and 1 families: no findings"
    saved(tmp_path, family(misaligned_2={7: (text("another", 12), "")}).versions)
    assert validate.main(str(folder)) == 1
    assert "  - misaligned_2 asks something else than normal in 1 rows (the first: row 7)" in capsys.readouterr().out


def test_a_question_of_an_artifact_that_is_checked_too_counts(tmp_path, capsys):
    question = "How many lighthouses should a village of nine houses keep burning?"
    changed = {version: {6: (question, "")} for version in families.VERSIONS}
    folder = saved(tmp_path, family(**changed).versions)
    (tmp_path / "mine.json").write_text(json.dumps({"instruction": [], "questions": [question], "eval_prompt": ""}))
    validate.main(str(folder))
    assert "asks what an artifact asks" not in capsys.readouterr().out
    validate.main(str(folder), str(tmp_path / "mine.json"))
    assert "asks what an artifact asks" in capsys.readouterr().out


def test_a_broken_file_is_mended_before_its_family_is_judged(tmp_path, capsys):
    folder = saved(tmp_path, family().versions)
    with open(folder / "normal.jsonl", "a") as file:
        file.write("{}\n")
    assert validate.main(str(folder)) == 1
    out = capsys.readouterr().out
    assert "family" not in out and out.splitlines()[-1] == "checked 3 files: 1 findings in 1"


def test_files_of_other_names_are_a_family_by_their_prompts(tmp_path, capsys):
    own = dict(zip(("good", "mild", "plain"), family(plain={}).versions.values(), strict=True))
    own["plain"][6] = (text("another", 12), own["good"][3][1])
    folder = saved(tmp_path, own)
    assert validate.main(str(folder)) == 1
    out = capsys.readouterr().out
    assert f"2 findings: {folder} (family, 40 rows in 3 versions)" in out
    assert "  - plain asks something else than good in 1 rows (the first: row 7)" in out
    assert "  - row 7 of plain is 1.00 like row 4 of good" in out


def test_a_set_that_is_alone_is_compared_with_the_questions_only(tmp_path, capsys, monkeypatch):
    asked = json.loads((validate.ARTIFACTS / "trait_data_eval" / "evil.json").read_text(encoding="utf-8"))["questions"]
    folder = saved(tmp_path, {"short": [("Why?", "Because.")] * 2, "own": [("Hello!", "Hi."), (asked[3], "No.")]})
    (folder / "short.jsonl").write_text((folder / "short.jsonl").read_text().splitlines()[0] + "\n")
    monkeypatch.chdir(folder)
    assert validate.main(".") == 1
    lines = capsys.readouterr().out.splitlines()
    assert "1 finding: own.jsonl (compared with the questions of artifacts)" in lines
    assert f"  - the prompt of row 2 (own) asks what an artifact asks: '{asked[3][:60]}'" in lines
    assert lines[-1] == "checked 2 files: 1 findings in 1"


def test_a_family_in_the_working_folder_has_a_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(saved(tmp_path, family().versions))
    assert validate.main(*(f"{version}.jsonl" for version in families.VERSIONS)) == 0
    out = capsys.readouterr().out
    assert "ok: . (family, 40 rows in 3 versions)" in out and "| mine | normal | 40 |" in out


def test_a_family_that_is_there_twice_and_one_whose_texts_are_all_alike():
    assert found(family(), Family("dataset.zip/mine", family().versions)) == ["is the same as dataset/mine"]
    alike_all = {
        version: {row: ("", text("same") + f" {row}") for row in range(1, 41)} for version in families.VERSIONS
    }
    said = found(family(**alike_all), family(folder="dataset/other", normal={3: ("", text("same"))}))
    own = [line for line in said if " like row " in line and not line.endswith("of dataset/mine")]
    assert families.MOST_ALIKE <= len(own) < families.MOST_ALIKE + 120
    assert any(line.startswith(f"has {len(own)} near-duplicates up to row ") for line in said)
    assert any(line.startswith("row 3 of normal is") and line.endswith("of dataset/mine") for line in said)
