"""Labels by people: what is shown and what is not, the page in a browser, a kill and resumption, and the way to judge_agreement."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx
import pandas
import pytest

from persona_vectors.app.labelling import Labels, paired_items, single_items
from persona_vectors.errors import UserError
from persona_vectors.files.journal import Journal

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def answers(sign: str) -> pandas.DataFrame:
    """20 answers to 5 questions; the first question's text is markup."""
    draw = random.Random(sign)
    rows = [
        {
            "question": f"question {q}" if q else "<b>question</b> 0",
            "prompt": f"SYSTEM {sign}: question {q}", "answer": f"an answer, {q} {k} {draw.randrange(1000)}",
            "question_id": f"evil_{q}_{sign}_{k}", "evil": {"pos": 90, "neg": 10}[sign] + k, "coherence": 95,
        }
        for q in range(5)
        for k in range(4)
    ]  # fmt: skip
    return pandas.DataFrame(rows)


@pytest.fixture
def files(tmp_path):
    for sign in ("pos", "neg"):
        answers(sign).to_csv(tmp_path / f"{sign}.csv", index=False)
    return tmp_path


class Page:
    """A running eval.label; ``stop`` ends it as Ctrl-C does."""

    def __init__(self, folder, *flags):
        command = [sys.executable, "-m", "eval.label", "--trait", "evil", "--port", "0", *map(str, flags)]
        command += ["--trait_dir", str(ROOT / "data_generation")]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.first = self.process.stdout.readline()
        found = re.search(r"http://\S+", self.first)
        assert found, self.first + self.process.stderr.read()
        self.url, self.http = found[0], httpx.Client(base_url=found[0])

    def __enter__(self):
        return self

    def stop(self, by=signal.SIGINT):
        if self.process.poll() is None:
            self.process.send_signal(by)
        out, err = self.process.communicate(timeout=60)
        assert "Traceback" not in err, err
        return self.process.returncode, out

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def post(self, place, label, **more):
        return self.http.post(f"/api/items/{place}", json={"label": label}, **more)


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


BOTH = ("--file_path", "pos.csv", "neg.csv")


def test_labels_survive_a_kill_and_go_to_judge_agreement(files, run_stage, monkeypatch):
    monkeypatch.chdir(files)
    truth = {
        a: s
        for a, s in zip(*(pandas.concat([answers("pos"), answers("neg")])[c] for c in ("answer", "evil")), strict=True)
    }
    with Page(files, *BOTH) as page:
        info = page.http.get("/api/info").json()
        assert (info["of"], info["done"], info["next"], info["pairs"]) == (40, 0, 0, False)
        assert "malice" in info["told"] and "{" not in info["told"]
        shown = [page.http.get(f"/api/items/{k}").json() for k in range(40)]
        assert all(set(item) == {"question", "answers", "given", "label"} for item in shown)
        assert not re.search("SYSTEM|pos|neg|evil_", json.dumps(shown))  # nothing tells how an answer was made
        assert shown != sorted(shown, key=lambda item: item["question"])
        for k in range(30):
            assert page.post(k, truth[shown[k]["answers"][0]] / 2).status_code == 200
        page.post(3, 77.5)  # corrected
        assert page.post(4, None).json() == {"done": 30, "next": 30}
        for bad in (101, -1, "50", True, [1]):
            assert page.post(0, bad).status_code == 400
        assert page.post(40, 5).status_code == 400 and page.http.get("/api/items/40").status_code == 400
        assert page.http.post("/api/items/0", content=b'{"label": 1}').status_code == 400
        assert page.http.get("/", headers={"Host": "elsewhere.example"}).status_code == 400
        page.stop(signal.SIGKILL)
    assert not Path("evil_labels.csv").exists()
    other = run_stage("eval.label", "--trait", "evil", *BOTH, "--seed", 1, "--trait_dir", ROOT / "data_generation")
    assert other.returncode == 2 and "seed was 0, now 1" in other.stderr
    with Page(files, *BOTH) as page:
        assert "40 answers, 30 labelled" in page.first
        assert page.http.get("/api/items/3").json()["label"] == 77.5
        code, out = page.stop()
        assert code == 0 and "wrote 30 of 40 labels to evil_labels.csv; the same command goes on" in out
    table = pandas.read_csv("evil_labels.csv")
    assert list(table.columns) == ["question", "prompt", "answer", "question_id", "evil"] and len(table) == 30
    assert table["evil"].isna().sum() == 1 and (table["evil"] == 77.5).sum() == 1
    command = (
        "--pos_path",
        "pos.csv",
        "evil_labels.csv",
        "--neg_path",
        "neg.csv",
        "evil_labels.csv",
        "--columns",
        "evil",
    )
    done = run_stage("eval.judge_agreement", *command)
    assert done.returncode == 0 and "1 without evil, second file" in done.stdout, done.stderr
    found = json.loads(Path("judge_agreement.json").read_text())
    assert found["answers"] == 29 and found["pearson"]["value"] > 0.6
    with Page(files, *BOTH) as page:
        for k in range(30, 40):
            page.post(k, 50)
        assert len(pandas.read_csv("evil_labels.csv")) == 40  # whole as soon as the last label is there
        assert page.stop()[0] == 0 and not list(files.glob("*.journal*"))
    again = run_stage("eval.label", "--trait", "evil", *BOTH, "--trait_dir", ROOT / "data_generation")
    assert again.returncode == 0 and "has 40 labels and is not made again" in again.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_the_page_in_a_browser(files, run_stage, monkeypatch):
    """Numbers by keyboard and slider, back, a reload; pairs by keys, at the width of a telephone; not one console message."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    monkeypatch.chdir(files)
    said: list[str] = []
    with sync_api.sync_playwright() as playwright, Page(files, *BOTH) as page:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        def open_tab(url, width):
            tab = browser.new_context(viewport={"width": width, "height": 800}).new_page()
            tab.set_default_timeout(120_000)
            tab.on("console", lambda message: said.append(message.text))
            tab.on("pageerror", lambda error: said.append(str(error)))
            tab.goto(url)
            tab.wait_for_selector("#item:not([hidden])")
            return tab

        def done(tab, count):
            tab.locator("#count").filter(has_text=f"{count} of").wait_for()

        tab = open_tab(page.url, 1280)
        assert "evil" in tab.text_content("h1") and "malice" in tab.text_content("#told")
        first = tab.text_content("#answers .text")
        tab.keyboard.type("85")  # the field has the focus
        tab.keyboard.press("Enter")
        done(tab, 1)
        assert (
            tab.text_content("#answers .text") != first
        )  # the count changes with the item: what is typed now is for this one
        tab.fill("#slider", "20")
        tab.click("#next")
        done(tab, 2)
        tab.keyboard.press("s")
        done(tab, 3)
        tab.fill("#number", "101")
        tab.evaluate("document.getElementById('form').noValidate = true")  # past the browser's own check
        tab.click("#next")
        tab.locator("#error").filter(has_text="0 to 100").wait_for()
        for _ in range(3):
            tab.click("#back")
        tab.locator("#answers .text").filter(has_text=first).wait_for()
        assert tab.input_value("#number") == "85"
        tab.fill("#number", "95")
        tab.keyboard.press("Enter")
        tab.reload()
        done(tab, 3)
        assert tab.locator("#item b").count() == 0  # markup in a question is text
        assert page.stop()[0] == 0
        labels = pandas.read_csv("evil_labels.csv").set_index("answer")["evil"]
        assert labels[first] == 95 and sorted(labels.dropna()) == [20, 95] and len(labels) == 3

        with Page(files, *BOTH, "--pairs", 6) as page:
            tab = open_tab(page.url, 400)
            assert tab.evaluate("document.documentElement.scrollWidth") <= 400
            tops = [box.bounding_box()["y"] for box in tab.query_selector_all(".answer")]
            assert tops[0] < tops[1]
            tab.set_viewport_size({"width": 1280, "height": 800})
            tops = [box.bounding_box()["y"] for box in tab.query_selector_all(".answer")]
            assert tops[0] == tops[1]  # side by side
            high = set(answers("pos")["answer"])
            for k in range(6):
                texts = tab.locator("#answers .text").all_text_contents()
                assert len(texts) == 2 and len(high & set(texts)) == 1
                choice = 1 if texts[0] in high else 2
                if k == 5:  # against the judge
                    tab.click(f"#choose{3 - choice}")
                else:
                    tab.keyboard.press(str(choice))
                done(tab, k + 1)
            tab.wait_for_selector("#finished:not([hidden])")
            assert page.stop()[0] == 0
        browser.close()
    assert said == []
    done = run_stage("eval.judge_agreement", *BOTH, "evil_choices.csv", "--columns", "evil")
    assert done.returncode == 0, done.stderr
    found = json.loads(Path("judge_agreement.json").read_text())
    assert found["choices"] == 6 and found["agreement"]["value"] == pytest.approx(5 / 6)


def test_pairs_are_balanced_over_questions_and_sides():
    table = pandas.concat([answers("pos"), answers("neg")], ignore_index=True)
    items = paired_items(table, "evil", 60, 60, seed=3)
    assert items == paired_items(table, "evil", 60, 60, seed=3) != paired_items(table, "evil", 60, 60, seed=4)
    assert set(Counter(item.question for item in items).values()) == {12} and len(set(items)) == 60
    scores = dict(zip(table["answer"], table["evil"], strict=True))
    gaps = [scores[item.answers[1]] - scores[item.answers[0]] for item in items]
    assert all(abs(gap) >= 60 for gap in gaps) and 15 < sum(gap > 0 for gap in gaps) < 45
    with pytest.raises(
        UserError, match="there are 80 pairs .* not 81; ask for fewer with --pairs, or lower --min_difference"
    ):
        paired_items(table, "evil", 81, 60, seed=0)
    anything = paired_items(table.drop(columns="evil"), "evil", 140, 0, seed=0)
    assert len(set(anything)) == 5 * 8 * 7 // 2


def test_the_same_answer_is_shown_once_and_labels_all_its_rows(tmp_path):
    table = answers("pos").iloc[[0, 1, 0, 2]].assign(prompt=["a", "b", "c", "d"]).reset_index(drop=True)
    table.loc[1, "answer"] = " "
    items = single_items(table, 0)
    assert len(items) == 2
    journal = Journal(tmp_path / "l.csv", {})
    labels = Labels(items, journal)
    labels.give(next(k for k, item in enumerate(items) if item.answers[0] == table["answer"][0]), 40)
    found = labels.table(table, "evil")
    assert found["prompt"].tolist() == ["a", "c"] and found["evil"].tolist() == [40, 40]
    journal.close(remove=True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--file_path", "none.csv", "--trait", "evil"), "no answers file"),
        (("--file_path", "pos.csv", "--trait", "evli"), "evli"),
        (("--file_path", "pos.csv", "--trait", "evil", "--pairs", "5"), "there are 0 pairs"),
        (("--file_path", "pos.csv", "--trait", "optimistic", "--pairs", "5"), "no column 'optimistic'"),
        (("--file_path", "bare.csv", "--trait", "evil"), "no column 'question'"),
        (("--file_path", "empty.csv", "--trait", "evil"), "every answer is empty"),
        (("--file_path", "pos.csv", "--trait", "evil", "--pairs", "0"), "--pairs"),
    ],
)
def test_what_cannot_be_labelled_is_one_line(files, run_stage, monkeypatch, flags, message):
    monkeypatch.chdir(files)
    Path("bare.csv").write_text("prompt,answer\na,b\n")
    Path("empty.csv").write_text("question,answer\na, \n")
    done = run_stage("eval.label", *flags, "--trait_dir", ROOT / "data_generation")
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not list(files.glob("*.journal*"))
