"""The chat as a user meets it: a server process over HTTP, a page in a browser where there is one, and the terminal."""

import json
import re
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import torch
from helpers import tiny_model

from eval import chat
from persona_vectors.app.chat_server import SIDES, Chat
from persona_vectors.app.chat_terminal import Terminal
from persona_vectors.errors import UserError
from persona_vectors.sharing import formats
from persona_vectors.steering.vector_folder import NamedVectors

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("vectors"), torch.Generator().manual_seed(0)
    for trait in ("evil", "kind"):
        about = formats.About(trait=trait, kind="response_avg_diff")
        formats.save_both(torch.randn(5, 32, generator=draw), folder, about)
    return folder


@pytest.fixture(scope="module")
def page(qwen2_folder, vectors):
    """The address of a running page."""
    command = [sys.executable, "-m", "eval.chat", "--model", str(qwen2_folder), "--vectors", str(vectors)]
    command += ["--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield re.search(r"http://\S+", process.stdout.readline())[0]
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def talk(qwen2, tokenizer, vectors):
    return Chat("tiny", qwen2, tokenizer, NamedVectors(vectors, "response_avg_diff", 4, 32))


def ask(page: str, **asked) -> dict:
    """Both answers' texts, and both gauges."""
    response = httpx.post(f"{page}/api/chat", json={"message": "what is it", "max_tokens": 8} | asked, timeout=120)
    assert response.status_code == 200, response.text
    texts = dict.fromkeys(SIDES, "")
    for line in map(json.loads, response.text.splitlines()):
        assert line["type"] != "error", line
        if line["type"] == "token":
            texts[line["side"]] += line["text"]
        elif line["type"] == "gauge":
            texts["gauge"] = [line[side] for side in SIDES]
    return texts


def test_users_at_once_each_get_their_own_settings(page):
    users = [{"coefs": {"evil": 3.0}, "layer": 2}, {"coefs": {"kind": -3.0}, "layer": 3}, {"coefs": {"evil": -3.0}}, {}]
    alone = [ask(page, **settings) for settings in users]
    assert len({answer["plain"] for answer in alone}) == 1 and alone[3]["plain"] == alone[3]["steered"]
    assert len({answer["steered"] for answer in alone}) == 4
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda settings: ask(page, **settings), users * 2))
    assert together == alone * 2


def test_each_side_goes_on_from_its_own_answers(page):
    turn = {"user": "what is it", "plain": "the model", "steered": "the question answers"}
    swapped = {"user": "what is it", "plain": turn["steered"], "steered": turn["plain"]}
    one, other = ask(page, turns=[turn]), ask(page, turns=[swapped])
    assert one["gauge"] == pytest.approx(other["gauge"][::-1], abs=1e-4)
    assert abs(one["gauge"][0] - one["gauge"][1]) > 0.01


BAD = {
    "unknown vector": ({"coefs": {"evli": 1}}, "did you mean evil"),
    "unknown setting": ({"coef": 1}, "did you mean coefs"),
    "no number": ({"coefs": {"evil": "1"}}, "finite number"),
    "layer": ({"coefs": {"evil": 1}, "layer": 5}, "1..4"),
    "watched layer": ({"watch_layer": 4}, "1..3"),
    "watched trait": ({"watch": "rude"}, "rude"),
    "positions": ({"coefs": {"evil": 1}, "steering_type": "none"}, "response"),
    "tokens": ({"max_tokens": 0}, "max_tokens"),
    "turns": ({"turns": [{"user": "x"}]}, "plain"),
    "nothing said": ({"message": " "}, "no message"),
    "too long": ({"message": "what " * 300}, "begin a new one"),
}


def test_bad_requests_are_refused_with_the_reason(page):
    for case, (asked, message) in BAD.items():
        response = httpx.post(f"{page}/api/chat", json={"message": "what is it"} | asked, timeout=60)
        assert response.status_code == 400 and message in response.json()["error"], (case, response.text)
    assert httpx.post(f"{page}/api/chat", content=b'{"message": "x"}').status_code == 415
    assert httpx.get(page, headers={"Host": "elsewhere.example"}).status_code == 400


def test_the_terminal_answers_saves_and_takes_up(talk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out: list[str] = []
    terminal = Terminal(talk, out.append)
    for line in ("/evil 3", "/layer 2", "/tokens 8", "what is it", "the question", "/save talk.json"):
        assert terminal.line(line)
    first, second = terminal.turns
    assert first["plain"] != first["steered"] and "".join(t for t, _ in first["tokens"]["plain"]) == first["plain"]
    later = Terminal(talk, out.append)
    later.line("/load talk.json")
    assert later.turns == terminal.turns and later.settings == terminal.settings
    later.turns.pop()
    later.line("the question")
    assert later.turns[1] == second
    for line, message in (("/evli 2", "no command"), ("/layer x", "not a number"), ("/load none.json", "no saved")):
        with pytest.raises(UserError, match=message):
            terminal.line(line)
    assert not terminal.line("/quit")


def test_commands_that_cannot_work_end_at_once(vectors, tmp_path):
    tiny_model("qwen2", num_hidden_layers=3).save_pretrained(tmp_path / "m")
    command = [sys.executable, "-m", "eval.chat", "--model", str(tmp_path / "m"), "--vectors", str(vectors)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "wrong model" in done.stderr and "Traceback" not in done.stderr
    with pytest.raises(UserError, match="no folder"):
        chat.main(str(tmp_path / "m"), str(tmp_path / "none"))
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="--port"):
        chat.listen("127.0.0.1", taken.getsockname()[1])


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_the_page_in_a_browser(page, tmp_path):
    """Two users in one browser: sliders, coloured tokens, gauge, saving and loading, and not one console message."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    said: list[str] = []

    def user(browser):
        tab = browser.new_context(accept_downloads=True).new_page()
        tab.set_default_timeout(120_000)  # a busy machine is not an error
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.goto(page)
        tab.fill("#coef-evil", "0")  # waits until the page is built
        tab.fill("#max_tokens", "8")
        return tab

    def send(tab, text):
        tab.fill("#message", text)
        tab.press("#message", "Enter")

    def answers(tab, turn=0) -> list[str]:
        tab.wait_for_selector("#send:not([disabled])")
        row = tab.query_selector_all(".turn")[turn]
        sides = [answer.query_selector_all("span") for answer in row.query_selector_all(".answer")]
        return ["".join(span.text_content() for span in spans) for spans in sides]

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        one, two = user(browser), user(browser)
        one.fill("#slide-evil", "3")
        two.fill("#slide-kind", "-3")
        send(one, "what is it")
        send(two, "what is it")
        first, second = answers(one), answers(two)
        assert one.input_value("#coef-evil") == "3" and two.input_value("#coef-evil") == "0"
        alone = [ask(page, coefs={"evil": 3}), ask(page, coefs={"kind": -3})]
        assert [first, second] == [[a["plain"], a["steered"]] for a in alone] and first[1] != second[1] != first[0]
        colours = {span.get_attribute("style") for span in one.query_selector_all(".answer span")}
        assert len(colours) > 4 and all("rgba" in colour for colour in colours)
        send(one, "the question")
        answers(one, 1)
        assert "turn 2" in one.text_content("#chart") and "steered" in one.text_content("#readout")
        with one.expect_download() as download:
            one.click("#save")
        saved = tmp_path / "talk.json"
        download.value.save_as(saved)
        two.set_input_files("#file", saved)
        two.wait_for_selector(".turn:nth-child(2)")
        assert answers(two, 1) == answers(one, 1) and two.input_value("#slide-evil") == "3"
        assert two.input_value("#coef-kind") == "0"
        send(two, " ".join(["what"] * 300))  # too long: refused in words, and what was typed is not lost
        two.locator("#error").filter(has_text="begin a new one").wait_for()  # no script of ours: the page allows none
        assert two.input_value("#message").startswith("what what")
        browser.close()
    assert [text for text in said if "400" not in text] == []  # the browser itself notes the refused request
    assert json.loads(saved.read_text())["turns"][0]["steered"] == first[1]
