"""The page's addresses: its files, the models, pages, questions, and pictures of where answers looked."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fcot.look.desk import Desk
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
# Nothing is fetched from elsewhere, no other page shows or reads this one, and what an answer says is never code.
POLICY = "; ".join(
    [
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect")),
        *(f"{kind} 'none'" for kind in ("base-uri", "form-action", "frame-ancestors")),
    ]
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class SafeHeaders:
    """Adds `HEADERS` to every reply.

    Args:
        app: What replies.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request be replied to."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            await send(message)

        await self.app(scope, receive, with_headers)


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

    def add(address: str, handle: Callable[[Request], Awaitable[dict[str, Any]]]) -> None:
        async def reply(request: Request) -> Response:
            try:
                return JSONResponse(await handle(request))
            except RefusalError:
                raise
            except Exception as error:
                raise failed(error) from None  # or the log would have what was asked

        app.post(address, response_model=None)(reply)

    add("/page", desk.upload)
    add("/ask", desk.ask)

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
