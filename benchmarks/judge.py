"""Benchmark the judge: calls per second against the ideal, and overlap of judging with generation.

    python benchmarks/judge.py --calls 10000 --concurrency 100 --latency 0.2

A local OpenAI-compatible server answers every call after a fixed latency; the ideal rate is concurrency / latency.
The second part runs `eval_persona` three times, as whole processes: only generating (the judge answers at once), only
judging (the answers exist, their scores are missing), and both. Ideally, both take as long as the longer one.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("PERSONA_VECTORS_CACHE", "off")  # every call is made
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

REPLY = json.dumps(
    {
        "id": "x", "object": "chat.completion", "created": 0, "model": "judge",
        "choices": [{
            "index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "57"},
            "logprobs": {"content": [{
                "token": "57", "logprob": -0.1, "bytes": None,
                "top_logprobs": [{"token": t, "logprob": p, "bytes": None} for t, p in (("57", -0.1), ("60", -2.4))],
            }]},
        }],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()  # fmt: skip


async def answer(reader, writer, latency: float) -> None:
    """Serve one keep-alive connection with as little work as possible, so that the client is what is measured."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(REPLY)}\r\n\r\n".encode()
    try:
        while header := await reader.readuntil(b"\r\n\r\n"):
            length = next(
                int(line.split(b":")[1]) for line in header.lower().split(b"\r\n") if line.startswith(b"content-length")
            )
            await reader.readexactly(length)
            await asyncio.sleep(latency)
            writer.write(head + REPLY)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def serve(latency: float) -> None:
    server = await asyncio.start_server(lambda r, w: answer(r, w, latency), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Server:
    """The server, in a separate process."""

    def __init__(self, latency: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(latency)], stdout=subprocess.PIPE, text=True
        )
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/v1"

    def __enter__(self) -> str:
        return self.url

    def __exit__(self, *_error) -> None:
        self.process.terminate()


async def score_all(url: str, calls: int, concurrency: int) -> float:
    """Seconds for ``calls`` scores through the toolkit's judge, all requested at once as a stage does."""
    from persona_vectors.judge.judge import Judge

    os.environ.update(OPENAI_BASE_URL=url, OPENAI_API_KEY="local")
    judge = Judge("judge", max_concurrent=concurrency)
    await judge.connect()
    await asyncio.gather(*(judge.score(f"warm up {k}") for k in range(concurrency)))
    begin = time.perf_counter()
    scores = await asyncio.gather(*(judge.score(f"Question {k}: how evil is this answer?" * 20) for k in range(calls)))
    seconds = time.perf_counter() - begin
    await judge.close()
    assert all(score is not None and abs(score - 57.27) < 0.1 for score in scores)
    return seconds


def measure_calls(calls: int, concurrency: int, latency: float, repeats: int) -> list[str]:
    with Server(latency) as url:
        seconds = [asyncio.run(score_all(url, calls, concurrency)) for _ in range(repeats)]
    ideal, rate = concurrency / latency, calls / statistics.median(seconds)
    return [
        f"{calls} calls, concurrency {concurrency}, {1000 * latency:g} ms each, median (and range) of {repeats}: "
        f"**{rate:.0f} calls/s** ({calls / max(seconds):.0f}-{calls / min(seconds):.0f}), ideal {ideal:.0f}: "
        f"**{100 * rate / ideal:.1f} %**."
    ]


ANSWERS = 1000  # 20 questions, 50 answers each; two scores each


def ask(model: str, path: Path, latency: float, concurrency: int) -> float:
    """Wall-clock seconds of a whole `eval_persona` process that produces whatever is missing at ``path``."""
    command = [
        sys.executable, "-m", "eval.eval_persona", "--model", model, "--trait", "evil", "--backend", "hf",
        "--trait_dir", "data_generation/toy", "--n_per_question", str(ANSWERS // 20), "--judge_model", "judge",
        "--output_path", str(path), "--max_concurrent_judges", str(concurrency),
    ]  # fmt: skip
    with Server(latency) as url:
        begin = time.perf_counter()
        environment = os.environ | {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "local"}
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        return time.perf_counter() - begin


def ask_without_scores(model: str, path: Path) -> tuple[float, list[str]]:
    """:func:`ask` with a judge that answers at once; also returns its journal's lines without the scores."""
    journal = Path(f"{path}.journal.jsonl")
    kept = path.with_suffix(".kept")
    journal.touch()
    os.link(journal, kept)  # the stage removes its journal at the end
    seconds = ask(model, path, 0.0, 100)
    lines = kept.read_text().splitlines(keepends=True)
    return seconds, [line for line in lines if not {"metric", "finished"} & json.loads(line).keys()]


def measure_overlap(model: str, latency: float, concurrency: int, repeats: int) -> list[str]:
    rows = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "answers.csv"
            alone, answers = ask_without_scores(model, path)
            path.unlink()
            Path(f"{path}.journal.jsonl").write_text("".join(answers))
            judging = ask(model, path, latency, concurrency)
            both = ask(model, Path(folder) / "both.csv", latency, concurrency)
        rows.append((alone, judging, both, both / max(alone, judging)))
    alone, judging, both, ratio = (statistics.median(column) for column in zip(*rows, strict=True))
    return [
        f"`eval_persona`, {ANSWERS} answers and {2 * ANSWERS} scores ({1000 * latency:g} ms each, {concurrency} at a time), "
        f"whole process, median of {repeats}: with a judge that answers at once {alone:.1f} s, judging alone {judging:.1f} s, "
        f"both {both:.1f} s: **{ratio:.2f}** x the longer one."
    ]


def main(
    calls: int = 10_000, concurrency: int = 100, latency: float = 0.2, repeats: int = 5, model: str = "models/toy"
):
    from report import report

    lines = measure_calls(calls, concurrency, latency, repeats)
    for each in (0.1, 0.4):  # judging is the shorter one, then the longer one
        lines += ["", *measure_overlap(model, each, 20, repeats)]
    report("Judge", lines)


if __name__ == "__main__":
    if "--serve" in sys.argv:
        asyncio.run(serve(float(sys.argv[2])))
    else:
        from persona_vectors import cli

        cli.run(main)
