"""The chat in a terminal: the same answers and settings as the page, in 256 colours.

A line is a message; a line that begins with / is a command. Conversations are saved in the same format as the page's.
"""

import json
from collections.abc import Callable

from persona_vectors.app.chat_server import SIDES, Chat
from persona_vectors.app.token_stream import Gauge, Retract, Token
from persona_vectors.errors import UserError
from persona_vectors.files.jsonfile import read_json, write_json

HELP = """  /TRAIT COEF        steer: /evil 1.5 (0 switches it off)
  /steering TIMES    how often the list of --steering acts (0 switches it off)
  /layer N|all       where;  /type response|prompt|all
  /watch TRAIT [N]   which projection colours the tokens, at which layer
  /system TEXT       /tokens N   /temperature T   /seed N
  /save FILE  /load FILE  /new  /settings  /help  /quit"""
FORMAT = "persona_vectors chat"
SHADES = (27, 33, 75, 117, 252, 217, 210, 203, 196)  # ANSI 256-colour codes, from blue through grey to red


class Terminal:
    """A conversation in a terminal; ``write`` prints a text without a line break.

    Example:
        terminal = Terminal(chat, lambda text: print(text, end="", flush=True))
        while terminal.line(input("> ")):
            pass
    """

    def __init__(self, talk: Chat, write: Callable[[str], None]) -> None:
        self.talk, self.write = talk, write
        self.settings, self.turns = talk.defaults() | {"coefs": {}}, []

    def line(self, text: str) -> bool:
        """Carry out one line of input; False ends the session.

        Raises:
            UserError: an unknown command, or a value that it cannot take.
        """
        if not text.startswith("/"):
            if text.strip():
                self.ask(text)
            return True
        word, _, rest = text[1:].strip().partition(" ")
        rest, named = rest.strip(), self.talk.named.vectors
        if word in ("quit", "exit"):
            return False
        if word == "help":
            self.write(HELP + "\n")
        elif word == "new":
            self.turns = []
        elif word == "save":
            self.save(rest)
        elif word == "load":
            self.load(rest)
        elif word in named:
            self.settings["coefs"] = self.settings["coefs"] | {word: number(rest)}
        elif word == "layer":
            self.settings["layer"] = rest if rest == "all" else number(rest, int)
        elif word == "type":
            self.settings["steering_type"] = rest
        elif word == "watch":
            trait, _, layer = rest.partition(" ")
            self.settings["watch"] = trait
            if layer:
                self.settings["watch_layer"] = number(layer, int)
        elif word == "system":
            self.settings["system"] = rest
        elif word in ("tokens", "seed"):
            self.settings[{"tokens": "max_tokens"}.get(word, word)] = number(rest, int)
        elif word in ("temperature", "steering"):
            self.settings[word] = number(rest)
        elif word != "settings":
            raise UserError(f"no command /{word} and no vector of that name; /help lists what there is")
        if word != "help":
            self.write(json.dumps(self.settings) + "\n" + self.doses())
        return True

    def doses(self) -> str:
        """A line that says how long the steering is relative to the activations, of those vectors whose files tell."""
        layer, found = self.settings["layer"], []
        for trait, coef in self.settings["coefs"].items():
            of_one = self.talk.named.doses_of_one(trait)
            if coef and of_one and isinstance(layer, int) and 0 < layer < len(of_one):
                found.append(f"{trait} {coef * of_one[layer]:.3g}")
        return f"dose: {', '.join(found)}\n" if found else ""

    def ask(self, message: str) -> None:
        """Stream the steered answer, then print the plain one below it. Reasoning is dimmed."""
        history = [{key: turn[key] for key in ("user", *SIDES)} for turn in self.turns]
        tokens, thoughts = ({side: [] for side in SIDES} for _ in range(2))
        gauge = dict.fromkeys(SIDES, 0.0)
        for event in self.talk.answer({"message": message, "turns": history} | self.settings):
            if isinstance(event, Gauge):
                gauge = dict(zip(SIDES, event.projections, strict=True))
                before = ", ".join(f"{side} {value:.2f}" for side, value in gauge.items())
                self.write(f"  [{self.settings['watch']} before the answer: {before}]\nsteered: ")
            elif isinstance(event, Retract):  # the text so far was reasoning
                side = SIDES[event.row]
                thoughts[side], tokens[side] = thoughts[side] + tokens[side], []
                self.write("\n" if event.row == 1 else "")
            elif isinstance(event, Token) and event.thought:
                thoughts[SIDES[event.row]].append([event.text, event.projection])
                self.write(dim(event.text) if event.row == 1 else "")
            elif isinstance(event, Token):
                tokens[SIDES[event.row]].append([event.text, event.projection])
                if event.row == 1:
                    self.write(self.coloured(event.text, event.projection, mean(tokens["plain"], gauge["plain"])))
        middle = mean(tokens["plain"], gauge["plain"])
        thought = "".join(dim(text) for text, _ in thoughts["plain"])
        self.write("\nplain:   " + thought + "".join(self.coloured(*token, middle) for token in tokens["plain"]) + "\n")
        texts = {side: "".join(text for text, _ in pairs) for side, pairs in tokens.items()}
        seen = {"gauge": gauge, "tokens": tokens, "thoughts": thoughts, "settings": dict(self.settings)}
        self.turns.append({"user": message} | texts | seen)

    def coloured(self, text: str, projection: float, centre: float) -> str:
        """A token coloured by its projection: grey at ``centre``, full colour one vector norm away from it."""
        settings = self.settings
        norm = float(self.talk.named.vectors[settings["watch"]][settings["watch_layer"]].norm())
        step = round((projection - centre) / norm * (len(SHADES) // 2)) + len(SHADES) // 2
        return f"\033[38;5;{SHADES[min(max(step, 0), len(SHADES) - 1)]}m{text}\033[0m"

    def save(self, path: str) -> None:
        """Save the conversation and its settings as JSON."""
        if not path:
            raise UserError("/save needs a file's name")
        saved = {"format": FORMAT, "model": self.talk.name, "settings": self.settings, "turns": self.turns}
        saved |= {"steering": self.talk.steering} if self.talk.steering else {}
        write_json(path, saved, indent=1)
        self.write(f"wrote {path}\n")

    def load(self, path: str) -> None:
        """Resume a saved conversation with its settings.

        Raises:
            UserError: not such a file, or one with vectors or settings that are unknown here.
        """
        try:
            saved = read_json(path)
            if saved["format"] != FORMAT:
                raise KeyError("format")
            turns, settings = list(saved["turns"]), dict(saved["settings"])
            texts = [turn[key] for turn in turns for key in ("user", *SIDES)]
        except (UserError, KeyError, TypeError) as error:
            raise UserError(f"{path} is no saved conversation: {error}") from error
        unknown = [key for key in settings if key not in self.settings]
        missing = [trait for trait in settings.get("coefs", {}) if trait not in self.talk.named.vectors]
        if unknown or missing or not all(isinstance(text, str) for text in texts):
            raise UserError(f"{path} cannot be taken up here: {', '.join(unknown + missing) or 'a turn without text'}")
        if settings.get("steering") and saved.get("steering") != self.talk.steering:
            raise UserError(f"{path} was steered with another list than this chat's (--steering)")
        self.turns, self.settings = turns, self.talk.defaults() | {"steering": 0.0} | settings
        for turn in turns:
            self.write(f"> {turn['user']}\nsteered: {turn['steered']}\nplain:   {turn['plain']}\n")


def dim(text: str) -> str:
    """Reasoning text, dimmed."""
    return f"\033[2m{text}\033[0m" if text else ""


def mean(tokens: list, otherwise: float) -> float:
    """Mean projection of (text, projection) pairs; ``otherwise`` if there are none."""
    return sum(projection for _, projection in tokens) / len(tokens) if tokens else otherwise


def number(text: str, kind: type = float):
    """Parse the number of a command; anything else is a :class:`UserError`."""
    try:
        return kind(text)
    except ValueError:
        raise UserError(f"'{text}' is not a number of the kind that is needed here") from None
