"""The page's addresses: its files, the models, pages, questions, and pictures of where answers looked."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from fcot.look.desk import Desk
from fcot.look.headers import SafeHeaders
from fcot.serve.app import refused
from fcot.serve.refusal import RefusalError, failed

FOLDER = Path(__file__).parent / "page"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


def make_app(desk: Desk) -> FastAPI:
    """Return the application; its end is that of what is under way."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(desk.close)

    app = FastAPI(lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(SafeHeaders)
    files = {file.name: file.read_bytes() for file in FOLDER.iterdir()}

    @app.exception_handler(RefusalError)
    async def on_refusal(_: Request, refusal: RefusalError) -> Response:
        return refused(refusal)

    @app.exception_handler(HTTPException)
    async def on_http(_: Request, error: HTTPException) -> Response:
        return refused(RefusalError(error.status_code, f"{error.detail}.", "Start from the address /."))

    app.post("/page", response_model=None)(replying(desk.upload))
    app.post("/ask", response_model=None)(replying(desk.ask))

    @app.get("/models")
    async def models() -> dict[str, Any]:
        """List the models."""
        return desk.models()

    @app.get("/page/{name}", response_model=None)
    async def page(name: str) -> Response:
        """Return a page as it is shown."""
        return Response(desk.pages.get(name).png, media_type="image/png")

    @app.get("/looks/{name}/{part}", response_model=None)
    async def looks(name: str, part: str) -> Response:
        """Return where an answer looked."""
        pictures = desk.looks.get(name)
        picture = {"page": pictures.page, "thumbnail": pictures.thumbnail}.get(part)
        if picture is None:
            raise RefusalError(404, "There is no such picture.", "Give the page again.")
        return Response(picture, media_type="image/png")

    @app.get("/", response_model=None)
    @app.get("/{name}", response_model=None)
    async def file(name: str = "index.html") -> Response:
        """Return a file of the page; no path is opened."""
        if name not in files:
            raise RefusalError(404, "There is no such file.", "Start from the address /.")
        return Response(files[name], media_type=KINDS[Path(name).suffix])

    return app


def replying(handle: Callable[[Request], Awaitable[dict[str, Any]]]) -> Callable[[Request], Awaitable[Response]]:
    """Return what replies with the JSON that a function returns, or with a refusal."""

    async def reply(request: Request) -> Response:
        try:
            return JSONResponse(await handle(request))
        except RefusalError:
            raise
        except Exception as error:
            raise failed(error) from None  # or the log would have what was asked

    return reply
