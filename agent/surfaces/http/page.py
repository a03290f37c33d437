"""The web chat at / and the docs at /docs: files of ours alone, with a policy under which nothing else can run."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from agent.surfaces.http.errors import Refused

FOLDER = Path(__file__).parent / "static"
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
          "form-action 'none'; frame-ancestors 'none'")
HEADERS = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
router = APIRouter(include_in_schema=False)


@router.get("/")
async def chat_page() -> Response:
    """The chat."""
    return FileResponse(FOLDER / "chat.html", headers=HEADERS)


@router.get("/docs")
async def docs_page() -> Response:
    """What /openapi.json says, to be read."""
    return FileResponse(FOLDER / "docs.html", headers=HEADERS)


@router.get("/static/{name}")
async def static_file(name: str) -> Response:
    """A script, a style sheet or a picture of these pages."""
    if name not in {file.name for file in FOLDER.iterdir() if file.suffix in (".js", ".css", ".svg")}:
        raise Refused(404, "There is no such file.")
    return FileResponse(FOLDER / name, headers=HEADERS)
