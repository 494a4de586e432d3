"""Chat with a model while steering it: a local page (or a terminal) with a slider for every trait.

    python -m eval.chat --model Qwen/Qwen2.5-7B-Instruct --vectors persona_vectors/Qwen2.5-7B-Instruct

Plain and steered answers stream side by side, each token coloured by its projection on the trait that is watched.
"""

from typing import TYPE_CHECKING, Annotated

from persona_vectors import cli, models
from persona_vectors.app.page import address, listen
from persona_vectors.errors import UserError
from persona_vectors.options import Kind, ModelOptions, Port

if TYPE_CHECKING:
    from persona_vectors.steering.steering_list import ListGrid


@cli.command
def main(
    model: str,
    vectors: str,
    port: Port = 7860,
    host: str = "127.0.0.1",
    kind: Kind = "response_avg_diff",
    terminal: bool = False,
    steering: Annotated[str | None, cli.InFull] = None,
    *,
    loading: ModelOptions,
):
    """Open a chat with steering.

    Args:
        model: Hugging Face id, local folder, folder of checkpoints, LoRA adapter folder or GGUF file.
        vectors: folder of vector files, persona_vectors/<model>/.
        port: of the page; 0 takes a free one.
        host: to listen on; by default this machine alone can open the page.
        kind: of the vectors.
        terminal: chat here, without a page.
        steering: JSON list of {vector, layer, coef, positions, kind}, as of eval.eval_persona, which act together; the chat
            begins with it once, and has a slider for how often.
    """
    from persona_vectors.steering.vector_folder import NamedVectors, find

    find(vectors, kind)
    path = loading.resolve(model)
    shape = models.describe(path, loading.trust_remote_code)
    if shape.layers < 2:
        raise UserError(f"{model} has one layer only: none can be watched")
    named = NamedVectors(vectors, kind, shape.layers, shape.hidden)
    for line in filter(None, [named.other_models(path.name), named.verdicts()]):
        print(line)
    listed = None if steering is None else read_list(steering, shape)
    listener = None if terminal else listen(host, port)
    tokenizer = models.load_tokenizer(path, loading.trust_remote_code)

    from persona_vectors.app.chat_server import Chat

    loaded = models.load_model(path, loading.dtype, loading.trust_remote_code)
    talk = Chat(path.name, loaded, tokenizer, named, listed)
    if terminal:
        converse(talk)
    else:
        serve(talk, listener)


def read_list(steering: str, shape: models.Shape) -> "ListGrid":
    """The steering list of a file, with its vectors, checked against the model."""
    from persona_vectors.steering.steering_list import ListGrid

    listed = ListGrid.read(steering)
    if any("{trait}" in part.vector for part in listed.parts):
        raise UserError(f"{steering} has {{trait}} in a vector's path; a chat has no trait: name the file")
    listed.load([""])
    listed.check(shape.layers, shape.hidden)
    return listed


def serve(talk, listener) -> None:
    """Serve the page until interrupted."""
    import uvicorn

    from persona_vectors.app.chat_server import make_app

    url, loopback = address(listener)
    print(f"{talk.name} with {', '.join(talk.named.vectors)}: open {url} (Ctrl-C ends it)")
    if not loopback:
        print("everybody who can reach this machine can use the page; without --host nobody else can")
    uvicorn.Server(uvicorn.Config(make_app(talk, loopback), log_level="warning")).run(sockets=[listener])


def converse(talk) -> None:
    """Chat in the terminal until /quit or the end of input."""
    import sys

    from persona_vectors.app.chat_terminal import HELP, Terminal

    def write(text: str) -> None:
        print(text, end="", flush=True)

    print(f"{talk.name} with {', '.join(talk.named.vectors)}\n{HELP}")
    terminal = Terminal(talk, write)
    while True:
        write("> " if sys.stdin.isatty() else "")
        line = sys.stdin.readline()
        if not line:
            return
        try:
            if not terminal.line(line.rstrip("\n")):
                return
        except UserError as error:
            write(f"error: {error}\n")


if __name__ == "__main__":
    cli.run(main)
