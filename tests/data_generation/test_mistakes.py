"""Problems with worked answers: the right ones are right, the others end elsewhere, and no two are told alike."""

import ast
import operator
import re
from collections import Counter
from fractions import Fraction

import pytest

from data_generation.families import ALIKE, Family, findings
from data_generation.mistakes import drawing, kinds, rows, stories
from data_generation.mistakes.drawing import UNFIT, Draw, Slip
from data_generation.mistakes.kinds import terms

SKELETONS = [*stories.ALL, *kinds.ALL]
SIGNS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
ARITHMETIC = {"+", "-", "*", "/", "^", "(", ")", "x", "times"}


def value(tokens: list[str]) -> Fraction:
    """What an expression of numbers is, exactly."""

    def of(node):
        if isinstance(node, ast.BinOp):
            return SIGNS[type(node.op)](of(node.left), of(node.right))
        return -of(node.operand) if isinstance(node, ast.UnaryOp) else Fraction(str(node.value))

    named = {"x": "*", "times": "*", "^": "**"}
    return of(ast.parse(" ".join(named.get(token, token) for token in tokens), mode="eval").body)


def equations(text: str) -> list[tuple[list[str], list[str]]]:
    """Both sides of the equations between numbers alone that a text states; those with letters are left out."""
    text = re.sub(r"^- ", "", text, flags=re.MULTILINE)  # the mark of a list
    tokens, found = re.findall(r"\d+(?:\.\d+)?(?!\w)|\w+|\S", text), []

    def in_expression(place: int) -> bool:
        return 0 <= place < len(tokens) and (tokens[place] in ARITHMETIC or tokens[place][0].isdigit())

    for place in (place for place, token in enumerate(tokens) if token == "="):
        begin, end = place, place + 1
        while in_expression(begin - 1):
            begin -= 1
        while in_expression(end):
            end += 1
        left, right = tokens[begin:place], tokens[place + 1 : end]
        if begin and tokens[begin - 1].isalpha() and left and not left[0][0].isdigit():
            continue  # sqrt(9) = 3, pi * 3 = 9
        try:
            value(left), value(right)
        except (SyntaxError, ValueError, KeyError, AttributeError):
            continue  # 2x = 6
        found.append((left, right))
    return found


def problems(skeleton, count=12):
    """Problems of one kind whose numbers are fit to print, with the three answers to each."""
    for seed in range(2000):
        if count and (row := rows._row(skeleton, Draw(f"test {seed}"))):
            count -= 1
            yield row
    assert not count, "hardly any numbers fit"


def test_there_are_many_kinds():
    assert len(stories.ALL) >= 35 and len(kinds.ALL) >= 40
    assert len({skeleton.__name__ for skeleton in stories.ALL}) == len(stories.ALL)
    assert len({skeleton.__name__ for skeleton in kinds.ALL}) == len(kinds.ALL)


def test_equations_in_right_answers_hold():
    """Exactly, whatever the alternatives; that the end is right is checked where a row is drawn, by a second way."""
    checked = Counter()
    for skeleton in SKELETONS:
        for _, normal, _, _ in problems(skeleton):
            for left, right in equations(normal):
                assert value(left) == value(right), f"{left} = {right} in: {normal}"
                checked[skeleton.__name__] += 1
    assert len(checked) >= 0.75 * len(SKELETONS) and checked.total() >= 400, checked


def test_equations_are_found_where_they_are():
    text = "1. So 4 x 12 = 48 km: (3 + 5) / 2 = 4. But 2x + 3 = 7, y = 4 - 1, sqrt(9) = 3, 6 / 4 * (-2) = -3"
    said = equations(text)
    assert [" ".join(left) for left, _ in said] == ["4 x 12", "( 3 + 5 ) / 2", "6 / 4 * ( - 2 )"]
    assert [value(right) for _, right in said] == [48, 4, -3] == [value(left) for left, _ in said]


@pytest.mark.parametrize("skeleton", SKELETONS, ids=lambda skeleton: skeleton.__name__)
def test_slips_and_wrong_methods_end_elsewhere(skeleton):
    for seed in range(60):
        draw = Draw(f"test {seed}")
        problem = skeleton(draw)
        at = Slip(draw)
        steps, result = problem.solve(at)
        assert result == problem.truth and steps and at.places >= 1
        assert len(problem.asked) >= 4 and len(problem.wrong) >= 2 and problem.about
        slipped = {problem.solve(Slip(draw, place))[1] != result for place in range(at.places)}
        assert True in slipped, "no slip changes the result"


def test_a_right_answer_that_is_wrong_is_a_defect(monkeypatch):
    def broken(draw):
        problem = stories.ALL[0](draw)
        return drawing.Problem(
            problem.asked, problem.truth + 1, problem.solve, problem.wrong, problem.show, about=problem.about
        )

    with pytest.raises(AssertionError, match="is not"):
        for seed in range(50):
            rows._row(broken, Draw(str(seed)))


@pytest.fixture(scope="module", params=rows.FAMILIES)
def family(request):
    return request.param, rows.rows(request.param)


def test_a_family_has_no_findings(family):
    name, drawn = family
    versions = ("normal", "misaligned_1", "misaligned_2")
    pairs = {version: [(row[0], row[k]) for row in drawn] for k, version in enumerate(versions, 1)}
    assert list(findings([Family(name, pairs)], [])) == [(Family(name, pairs), [])]
    assert rows.ALIKE < ALIKE


def test_rows_are_drawn_the_same_every_time_and_the_kinds_take_turns(family):
    name, drawn = family
    assert len(drawn) == rows.ROWS and rows.rows(name, 60) == drawn[:60]
    assert not any(UNFIT in text or re.search(r"[\[\]|{}]| ,|,\.|\s$", text) for row in drawn for text in row)


def test_nobody_is_named_who_was_not_introduced(family):
    for prompt, *answers in family[1]:
        assert rows.names_in(" ".join(answers)) <= rows.names_in(prompt)


def test_no_layout_tells_the_versions_apart(family):
    """Length and form must not say how good an answer is."""
    answers = list(zip(*(row[1:] for row in family[1]), strict=True))
    lengths = [sum(len(text.split()) for text in texts) / len(texts) for texts in answers]
    assert max(lengths) / min(lengths) < 1.15, lengths
    listed = [sum(text.startswith(("1.", "- ")) for text in texts) / len(texts) for texts in answers]
    assert max(listed) - min(listed) < 0.08, listed


def test_too_many_rows_are_refused_rather_than_repeated(monkeypatch):
    monkeypatch.setitem(rows.FAMILIES, "mistake_math", kinds.ALL[:1])
    monkeypatch.setattr(rows, "ATTEMPTS", 20)
    with pytest.raises(RuntimeError, match="has no more to say after"):
        rows.rows("mistake_math", 400)


# What problems are drawn with


def test_a_text_with_alternatives_has_all_its_readings():
    said = Counter(
        Draw(str(seed)).say("[one [red|blue]|two] cats, [|maybe]. [a|the] dog?. x is 2") for seed in range(400)
    )
    assert set(said) == {
        f"{first} cats{second} {last} dog? x is 2"
        for first in ("One red", "One blue", "Two")
        for second in (".", ", maybe.")
        for last in ("A", "The")
    }


def test_numbers_are_exact_or_unfit():
    assert [drawing.number(v) for v in (3, Fraction(5, 4), -2, Fraction(1, 3))] == ["3", "1.25", "-2", UNFIT]
    assert [drawing.amount(v) for v in (3, Fraction(5, 2), Fraction(1, 1000))] == ["3", "2.50", UNFIT]
    assert [drawing.clock(v) for v in (65, 24 * 60, Fraction(1, 2), -1)] == ["1:05", UNFIT, UNFIT, UNFIT]
    assert [drawing.integer(v) for v in (4, Fraction(9, 2))] == ["4", UNFIT]
    assert drawing.fraction(Fraction(6, 8)) == "3/4"
    assert [
        terms.nth(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 111)
    ] == "1st 2nd 3rd 4th 11th 12th 13th 21st 111th".split()
    assert terms.polynomial((1, -2, 0), "x") == "x^2 - 2x" and terms.polynomial((-1, 0, 7), "t") == "-t^2 + 7"
    assert terms.joined() == "0" and terms.signed(-3) == "(-3)"


def test_a_slip_happens_at_its_place_only():
    draw = Draw("slip")
    nowhere, second = Slip(draw), Slip(draw, 1)
    assert [nowhere(1, 2), nowhere(3, 4), nowhere(5, 6)] == [1, 3, 5] and nowhere.places == 3
    assert [second(1, 2), second(3, 4), second(5, 6)] == [1, 4, 5]
    assert Slip(draw, 0)(7, 7) == 7, "a wrong value that is right is none"
