"""The server of the labelling page: what is to be labelled, and labels as they are given.

GET  /api/info        trait, what the judge is told, whether pairs, how many, how many are done, the next one
GET  /api/items/{k}   question, answers, and the label where one was given
POST /api/items/{k}   {"label": number or null} -> how many are done, the next one
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from persona_vectors.app.labelling import Labels
from persona_vectors.app.page import page_app, read_request
from persona_vectors.errors import UserError

if TYPE_CHECKING:
    from starlette.applications import Starlette


def make_app(labels: Labels, trait: str, told: str, complete: Callable[[], None], loopback: bool) -> "Starlette":
    """The ASGI app of the page.

    Args:
        trait: what is looked for.
        told: what the judge is told, for people to read.
        complete: called when the last label has been given.
        loopback: accept requests addressed to this machine only.
    """
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    def state(place: int) -> dict:
        return {"done": len(labels.given), "next": labels.next_after(place)}

    async def info(_request: Request) -> JSONResponse:
        about = {"trait": trait, "told": told, "pairs": labels.pairs, "of": len(labels.items)}
        return JSONResponse(about | state(0))

    async def item(request: Request) -> JSONResponse:
        place = request.path_params["place"]
        try:
            if request.method == "POST":
                asked = await read_request(request)
                if not isinstance(asked, dict) or "label" not in asked:
                    raise UserError('send {"label": a number, or null}')
                labels.give(place, asked["label"])
                if labels.is_complete:
                    complete()
                return JSONResponse(state(place))
            if place >= len(labels.items):
                raise UserError(f"there is no item {place}")
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        shown = labels.items[place]
        return JSONResponse(
            {
                "question": shown.question,
                "answers": shown.answers,
                "given": place in labels.given,
                "label": labels.given.get(place),
            }
        )

    return page_app(
        "label_page",
        [Route("/api/info", info), Route("/api/items/{place:int}", item, methods=["GET", "POST"])],
        loopback,
    )
