"""A judge that misbehaves over real HTTP, and what the toolkit makes of it: answers in, scores in a CSV.

Which prompt meets which fault is drawn from the prompt itself, so that the outcome of every single call is known.
"""

import json
import random
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pandas
from judge_server import JudgeServer, completion, error, is_probe

ENTRY = {"token": "80", "logprob": -0.1, "bytes": None}


def with_content(**choice) -> tuple:
    """A reply whose only choice is changed."""
    status, headers, body = completion({"80": 0.9})
    return status, headers, {**body, "choices": [{**body["choices"][0], **choice}]}


def logprobs(*top: dict) -> dict:
    return {"content": [{**ENTRY, "top_logprobs": list(top)}], "refusal": None}


# A faulty call is answered so. Passing: only the first time, so that a retry mends it. Lost: always; given up, asked
# for again by a rerun. Silent: no number, which is an answer. The rest are numbers, oddly written.
PASSING = {
    "429 with Retry-After": error(429, **{"Retry-After": "0.2"}),
    "429 without": error(429),
    "500": error(500),
    "503": error(503),
    "hanging": "hang",
    "closing without a word": (None, {}, {}),
    "closing mid-reply": (200, {}, b'{"id": "x", "object": "chat.completion", "choices": [{"ind'),
}
LOST = {
    "429 with Retry-After: 3600": error(429, **{"Retry-After": "3600"}),
    "400": error(400, "filtered"),
    "no choices": (200, {}, {**completion({"80": 1.0})[2], "choices": []}),
    "choices null": (200, {}, {**completion({"80": 1.0})[2], "choices": None}),
    "no logprobs": with_content(logprobs=None),
    "logprobs of another form": with_content(logprobs={"content": [{"odd": 1}]}),
    "a list instead of an object": (200, {}, [1, 2]),
    "a token that is null": with_content(logprobs=logprobs({**ENTRY, "token": None})),
}
SILENT = {text: completion({text: 1.0}) for text in ("85.", "eighty", "NaN", "REFUSAL", "101", "-5", "\u0668\u0665")}
NUMBERS = {
    "' 85'": (completion({" 85": 1.0}), 85.0),
    "content null": (with_content(message={"role": "assistant", "content": None}, logprobs=logprobs(ENTRY)), 80.0),
    "slow": ("slow", 80.0),
}
DEAD = {"500 every time": error(500), "hanging every time": "hang"}  # 7 tries and half a minute each: the long part
FORMS = [*PASSING, *LOST, *SILENT, *NUMBERS, *DEAD]


@dataclass
class Outcome:
    """What came of one run and its rerun; ``wrong`` says what should not have been."""

    rate: float
    calls: int
    seconds: float = 0.0
    requests: int = 0
    retried: int = 0
    given_up: int = 0
    unscored: int = 0
    asked_again: int = 0
    wrong: list[str] = field(default_factory=list)


class BadJudge:
    """Answers ``rate`` of all prompts badly; well where ``healed``."""

    def __init__(self, rate: float, seed: int, dead: bool) -> None:
        self.rate, self.seed, self.healed = rate, seed, False
        self.forms = [*PASSING, *LOST, *SILENT, *NUMBERS, *(DEAD if dead else [])]
        self.tries: Counter = Counter()
        self.times: dict[str, list[float]] = defaultdict(list)

    def form(self, prompt: str) -> str | None:
        draw = random.Random(f"{self.seed} {prompt}")
        return draw.choice(self.forms) if draw.random() < self.rate else None

    def expected(self, prompt: str) -> float | str | None:
        """The score, None for no number, "lost" for a call that has to be given up."""
        form = self.form(prompt)
        if form in LOST or form in DEAD:
            return "lost"
        return None if form in SILENT else NUMBERS[form][1] if form in NUMBERS else 80.0

    def __call__(self, _number: int, body: dict):
        prompt = body["messages"][0]["content"]
        if is_probe(body):
            return completion({"57": 1.0})
        self.tries[prompt] += 1
        self.times[prompt].append(time.monotonic())
        form = None if self.healed else self.form(prompt)
        if form in PASSING and self.tries[prompt] > 1:
            form = None
        reply = (PASSING | LOST | SILENT | DEAD).get(form) or (NUMBERS[form][0] if form in NUMBERS else None)
        if reply == "hang":
            time.sleep(4)
            return None, {}, {}
        if reply == "slow":
            time.sleep(0.5)
        return completion({"80": 1.0}) if reply in (None, "slow") else reply


def measure(rate: float, calls: int, seed: int = 0, dead: bool = True) -> Outcome:
    """Score ``calls`` / 2 answers twice over with a bad judge, then run the same again with one that has recovered."""
    bad, outcome = BadJudge(rate, seed, dead), Outcome(rate, calls)
    with tempfile.TemporaryDirectory() as folder, JudgeServer(bad) as server:
        began = time.monotonic()
        counts, prompts = score_all(Path(folder) / "out.csv", calls // 2, server.url)
        outcome.seconds = time.monotonic() - began
        outcome.requests, outcome.retried = sum(bad.tries.values()), counts.retried
        outcome.given_up, outcome.unscored = counts.given_up, counts.unscored
        table = pandas.read_csv(Path(folder) / "out.csv", dtype=str, keep_default_na=False)
        expected = {key: bad.expected(prompt) for key, prompt in prompts.items()}
        outcome.wrong += compare(table, expected, healed=False)
        lost = {prompts[key] for key, value in expected.items() if value == "lost"}
        if counts.given_up != len(lost):
            outcome.wrong.append(f"{counts.given_up} given up, not {len(lost)}")
        if max(bad.tries.values()) > 7:
            outcome.wrong.append(f"a call was tried {max(bad.tries.values())} times")
        if server.most_in_flight > 100:
            outcome.wrong.append(f"{server.most_in_flight} calls at once")
        waits = [t[1] - t[0] for p, t in bad.times.items() if bad.form(p) == "429 with Retry-After"]
        if any(wait < 0.2 for wait in waits):
            outcome.wrong.append(f"Retry-After was not kept: {min(waits)} s")
        bad.healed, bad.tries = True, Counter()
        score_all(Path(folder) / "out.csv", calls // 2, server.url)
        outcome.asked_again = sum(bad.tries.values())
        if set(bad.tries) != lost or set(bad.tries.values()) - {1}:
            outcome.wrong.append(f"the rerun asked for {len(bad.tries)} prompts {set(bad.tries.values())} times each")
        table = pandas.read_csv(Path(folder) / "out.csv", dtype=str, keep_default_na=False)
        outcome.wrong += compare(table, expected, healed=True)
    return outcome


def score_all(path: Path, answers: int, url: str):
    """(counts, {(row, metric): prompt}): the toolkit's own sheet, journal and judge thread, over given answers."""
    import os

    from persona_vectors.asking.judge_thread import JudgeThread, ScoreBar
    from persona_vectors.asking.sheet import AnswerSheet
    from persona_vectors.judge.judge import Judge
    from persona_vectors.steering.sweep import Grid
    from persona_vectors.traits.artifact import Trait, make_questions

    trait = Trait("vile", [], [f"Question {k}?" for k in range(answers)], "")
    prompts = {"vile": "Rate **vile**. {question} {answer}", "coherence": "How coherent? {question} {answer}"}
    cells = Grid.of([0.0]).cells
    sheet = AnswerSheet(str(path), trait, make_questions(trait), 1, cells, prompts, {})
    sheet.open()
    os.environ.update(OPENAI_BASE_URL=url, OPENAI_API_KEY="none")
    judge = Judge("m")
    judge.client.timeout = 1.5
    thread = JudgeThread(judge)
    try:
        with ScoreBar(thread, [sheet]) as bar:
            for key in list(sheet.answers):
                bar.ask(sheet, key)
            for number, wanted in enumerate(sheet.unanswered()):
                sheet.add_answer(wanted, "prompt", f"answer {number}")
                bar.ask(sheet, wanted.key)
            thread.finish()
    finally:
        thread.close()
    print(thread.summary())
    sheet.write()
    filled = {
        (row, metric): prompt.format(question=record["question"], answer=record["answer"])
        for row, record in enumerate(sheet.answers.values())
        for metric, prompt in prompts.items()
    }
    return judge.counts, filled


def compare(table, expected: dict, healed: bool) -> list[str]:
    """What is not as it should be in the CSV."""
    wrong = []
    for (row, metric), value in expected.items():
        value = 80.0 if healed and value == "lost" else value
        cell = table[metric][row]
        if (cell != "") if value in (None, "lost") else (cell == "" or abs(float(cell) - value) > 1e-6):
            wrong.append(f"row {row}, {metric}: {json.dumps(cell)} instead of {value}")
    return wrong[:5]


def table(outcomes: list[Outcome]) -> str:
    head = [
        "faulty",
        "calls",
        "HTTP requests",
        "retried",
        "no score",
        "given up",
        "asked for by the rerun",
        "wrong cells",
        "s",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for o in outcomes:
        cells = [f"{o.rate:.0%}", o.calls, o.requests, o.retried, o.unscored, o.given_up, o.asked_again, len(o.wrong)]
        lines.append("| " + " | ".join(map(str, cells)) + f" | {o.seconds:.0f} |")
        lines += [f"\nwrong: {what}" for what in o.wrong]
    return "\n".join(lines)
