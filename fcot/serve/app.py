"""The server's addresses: OpenAI's chat completions, the model's name, health and numbers."""

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from fcot.serve.refusal import RefusalError
from fcot.serve.server import Server


def make_app(server: Server) -> FastAPI:
    """Return the application; its end waits for the engine's."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(server.engine.close)

    async def guard(request: Request) -> None:
        given = request.headers.get("authorization", "").encode("latin-1")  # the bytes that were sent
        expected = f"Bearer {server.door.key}".encode()
        if server.door.key and request.scope["path"] != "/health" and not hmac.compare_digest(given, expected):
            raise RefusalError(401, "The key is missing or wrong.", "Send Authorization: Bearer KEY.")

    # a middleware of FastAPI's would stand between a client that leaves and the request that watches for it
    app = FastAPI(lifespan=life, dependencies=[Depends(guard)], docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(RefusalError)
    async def on_refusal(_: Request, refusal: RefusalError) -> Response:
        return refused(refusal)

    @app.exception_handler(HTTPException)
    async def on_http(_: Request, error: HTTPException) -> Response:
        return refused(RefusalError(error.status_code, f"{error.detail}.", "See the list of addresses in the README."))

    app.post("/v1/chat/completions", response_model=None)(server.chat)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """List the model."""
        model = {"id": server.door.name, "object": "model", "created": server.created, "owned_by": "fcot"}
        return {"object": "list", "data": [model]}

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Say whether the engine lives."""
        if not server.engine.thread.is_alive():
            raise RefusalError(503, "The engine has ended.", "Start the server again.")
        return {"status": "ok"}

    @app.get("/metrics", response_model=None)
    async def metrics() -> PlainTextResponse:
        """Return all numbers."""
        engine, pages = server.engine, server.engine.rows.pages
        now = {
            "requests_under_way": server.under_way,
            "held_bytes": server.held.taken,
            "rows_running": len(engine.running),
            "rows_waiting": len(engine.waiting),
            "page_bytes": pages.num_bytes,
        }
        totals = {"pages_seen": pages.misses, "pages_remembered": pages.hits}
        return PlainTextResponse(server.tallies.page(totals, now), media_type="text/plain; version=0.0.4")

    return app


def refused(refusal: RefusalError) -> Response:
    """Return a refusal as a reply."""
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    return JSONResponse(refusal.body(), refusal.status, headers)
