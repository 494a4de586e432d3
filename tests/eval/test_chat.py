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

from eval import chat, serve
from persona_vectors.app.chat_server import SIDES, Chat
from persona_vectors.app.chat_terminal import Terminal
from persona_vectors.app.token_stream import Token, side_by_side
from persona_vectors.engines.base import Sampling
from persona_vectors.errors import UserError
from persona_vectors.models.loading import Shape
from persona_vectors.sharing import formats
from persona_vectors.steering.vector_folder import NamedVectors

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

NORMS = [3.0, 5.0, 7.0, 11.0, 13.0]


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("vectors"), torch.Generator().manual_seed(0)
    for trait, norms in (("evil", NORMS), ("kind", [])):  # of one the doses are known
        about = formats.About(trait=trait, kind="response_avg_diff", mean_norms=formats.norms_text(norms))
        formats.save_both(torch.randn(5, 32, generator=draw), folder, about)
    return folder


def dose(vectors, coef: float, layer: int) -> str:
    rows = formats.read_shared(vectors / "evil_response_avg_diff.pt")[0]
    return f"{coef * float(rows[layer].norm()) / NORMS[layer]:.3g}"


@pytest.fixture(scope="module")
def page(qwen2_folder, vectors):
    """The address of a running page."""
    yield from served(qwen2_folder, vectors)


@pytest.fixture(scope="module")
def steering_list(vectors):
    """A list of two vectors, at layers and positions of their own."""
    file = vectors / "lists" / "both.json"
    file.parent.mkdir()
    parts = [{"vector": f"{vectors}/evil_response_avg_diff.pt", "layer": 2, "coef": 3}]
    parts += [{"vector": f"{vectors}/kind_response_avg_diff.pt", "layer": 3, "coef": -2, "positions": "all"}]
    file.write_text(json.dumps(parts))
    return file


@pytest.fixture(scope="module")
def listed_page(qwen2_folder, vectors, steering_list):
    """The address of a page that steers by a list."""
    yield from served(qwen2_folder, vectors, "--steering", str(steering_list))


def served(model, vectors, *more):
    command = [sys.executable, "-m", "eval.chat", "--model", str(model), "--vectors", str(vectors), *more]
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


def test_the_terminal_answers_saves_and_takes_up(talk, vectors, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out: list[str] = []
    terminal = Terminal(talk, out.append)
    for line in ("/evil 3", "/layer 2", "/tokens 8", "what is it", "the question", "/save talk.json"):
        assert terminal.line(line)
    assert f"dose: evil {dose(vectors, 3, 2)}\n" in "".join(out)
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
    for line in ("/kind 1", "/layer all"):  # of neither a dose is known
        assert terminal.line(line) and "kind" not in out[-1].partition("dose:")[2]
    assert "dose:" not in out[-1] and not terminal.line("/quit")


def test_commands_that_cannot_work_end_at_once(vectors, tmp_path):
    tiny_model("qwen2", num_hidden_layers=3).save_pretrained(tmp_path / "m")
    command = [sys.executable, "-m", "eval.chat", "--model", str(tmp_path / "m"), "--vectors", str(vectors)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "wrong model" in done.stderr and "Traceback" not in done.stderr
    for command in (chat.main, serve.main):  # before a model is looked for, which may be fetched or converted for it
        with pytest.raises(UserError, match="no folder"):
            command(str(tmp_path / "no model"), str(tmp_path / "none"))
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="--port"):
        chat.listen("127.0.0.1", taken.getsockname()[1])


def test_a_steering_list_acts_from_the_start_as_often_as_is_asked(page, listed_page, talk):
    info = httpx.get(f"{listed_page}/api/info").json()
    assert info["defaults"]["steering"] == 1 and [part["layer"] for part in info["steering"]] == [2, 3]
    begun, off = ask(listed_page), ask(listed_page, steering=0)
    assert begun["steered"] != begun["plain"] == off["plain"] == off["steered"]
    evil, kind = {"coefs": {"evil": 3}, "layer": 2}, {"coefs": {"kind": -2}, "layer": 3, "steering_type": "all"}
    part_by_part = talk.named.from_request(
        {
            "steering": [
                {"vector": "evil", "layer": 2, "coef": 3},
                {"vector": "kind", "layer": 3, "coef": -2, "positions": "all"},
            ]
        }
    )
    assert (
        begun["steered"]
        == plain_answer(talk, part_by_part)
        not in (ask(page, **evil)["steered"], ask(page, **kind)["steered"])
    )
    assert ask(listed_page, steering=0, **evil) == ask(page, **evil)  # a slider beside the list
    twice = talk.named.from_request(
        {
            "steering": [
                {"vector": "evil", "layer": 2, "coef": 6},
                {"vector": "kind", "layer": 3, "coef": -4, "positions": "all"},
            ]
        }
    )
    assert ask(listed_page, steering=2)["steered"] == plain_answer(talk, twice)
    for address, asked, reason in (
        (page, 1, "no steering list"), (listed_page, "1", "steering cannot be"), (listed_page, 1e38, "more than float32"),
    ):  # fmt: skip
        refused = httpx.post(f"{address}/api/chat", json={"message": "what", "steering": asked})
        assert refused.status_code == 400 and reason in refused.json()["error"], refused.text


def plain_answer(talk, interventions) -> str:
    """What the model says under interventions, by the engine's own stream."""
    prompt = talk._prompt({"message": "what is it"}, "plain", "")
    vector = talk.named.vectors["evil"][2]
    events = side_by_side(
        talk.model, talk.tokenizer, [prompt, prompt], [(), interventions], 2, vector, Sampling(8, 0.0), 0
    )
    return "".join(event.text for event in events if isinstance(event, Token) and event.row == 1)


def test_a_list_that_cannot_steer_ends_the_command_at_once(qwen2_folder, vectors, steering_list, tmp_path):
    for entry, reason in (
        ({"layer": 9}, "layer 9 does not exist"), ({"vector": "{trait}.pt"}, "a chat has no trait"),
        ({"vector": "none.pt"}, "no vector file at none.pt"), ({"coef": "much"}, "finite number"),
    ):  # fmt: skip
        file = tmp_path / "list.json"
        file.write_text(json.dumps([json.loads(steering_list.read_text())[0] | entry]))
        with pytest.raises(UserError, match=reason):
            chat.main(str(qwen2_folder), str(vectors), steering=str(file), port=0)
    with pytest.raises(UserError, match="no steering list at"):
        chat.main(str(qwen2_folder), str(vectors), steering=str(tmp_path / "none.json"))


def test_the_terminal_steers_by_a_list_and_knows_one_that_it_saved(
    qwen2, tokenizer, vectors, steering_list, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    named = NamedVectors(vectors, "response_avg_diff", 4, 32)
    listed = chat.read_list(str(steering_list), Shape(4, 32, None))
    terminal = Terminal(Chat("tiny", qwen2, tokenizer, named, listed), lambda _: None)
    for line in ("/tokens 8", "what is it", "/steering 0", "what is it", "/steering 1", "/save talk.json"):
        terminal.line(line)
    first, second = terminal.turns
    assert first["plain"] != first["steered"] and second["settings"]["steering"] == 0
    later = Terminal(Chat("tiny", qwen2, tokenizer, named, listed), lambda _: None)
    later.line("/load talk.json")
    assert later.settings == terminal.settings
    without = Terminal(Chat("tiny", qwen2, tokenizer, named), lambda _: None)
    with pytest.raises(UserError, match="another list"):
        without.line("/load talk.json")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_the_list_has_a_slider_in_a_browser(listed_page):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    said: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.set_default_timeout(120_000)
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.goto(listed_page)
        tab.fill("#max_tokens", "8")
        assert tab.input_value('[id="coef-/list"]') == "1"
        assert "kind_response_avg_diff.pt at layer 3 (all)" in tab.get_attribute(".slider", "title")
        for turn, times in enumerate(("2", "0")):
            tab.fill('[id="slide-/list"]', times)
            tab.fill("#message", "what is it")
            tab.press("#message", "Enter")
            tab.wait_for_selector(f".turn:nth-child({turn + 1})")
            tab.wait_for_selector("#send:not([disabled])")
        notes = tab.locator(".answer.steered small").all_text_contents()
        texts = [
            "".join(row.query_selector(".answer.steered").text_content()) for row in tab.query_selector_all(".turn")
        ]
        browser.close()
    assert notes == ["steered: the list times 2", "steered: nothing"] and said == []
    assert texts[0].removeprefix(notes[0]) == ask(listed_page, steering=2)["steered"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_the_page_in_a_browser(page, vectors, tmp_path):
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
        assert (
            one.text_content("#told-evil") == f"evil (dose {dose(vectors, 3, 2)})"
            and two.text_content("#told-kind") == "kind"
        )
        assert f"steered: evil 3 (dose {dose(vectors, 3, 2)}) at layer 2" in one.text_content(".turn")
        for layer, told in (
            ("4", f"evil (dose {dose(vectors, 3, 4)})"),
            ("all", "evil"),
            ("2", f"evil (dose {dose(vectors, 3, 2)})"),
        ):
            one.select_option("#layer", layer)
            assert one.text_content("#told-evil") == told
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
