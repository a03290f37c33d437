"""An app's retriever in the place of the domain's articles: LangChain documents as passages. Knows no index."""

import hashlib
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from agent.errors import EngineError
from agent.sentences import split_sentences
from agent.signs import harmless
from agent.types import Passage

LONGEST = 1500
"""Characters of a document that are shown to the generator, up to the end of a sentence; split longer ones before."""


async def look_up(retriever: Any, question: str, count: int, redact: Callable[[str], str]) -> tuple[Passage, ...]:
    """The first `count` documents for a question without private values, and without any of their own.

    Raises EngineError with what the retriever raised. Source: langchain_core.retrievers.
    """
    try:
        found = await retriever.ainvoke(question)
    except Exception as error:  # it may be anybody's code
        said = f"The retriever failed ({type(error).__name__}: {error})"
        raise EngineError(f"{said}; mend it or load the agent without it.") from error
    passages = [_passage(document, number, redact) for number, document in enumerate(found[:count], start=1)]
    return tuple(passage for passage in passages if passage.text)


def _passage(document: Any, number: int, redact: Callable[[str], str]) -> Passage:
    about = {name: " ".join(harmless(str(value)).split()) for name, value in document.metadata.items() if value is not None}
    source = about.get("source") or about.get("url") or about.get("title") or "the app's retriever"
    id = document.id or f"{source}#{hashlib.sha256(document.page_content.encode('utf-8', 'replace')).hexdigest()[:8]}"
    return Passage(id, about.get("title") or PurePath(source).name or f"Document {number}", about.get("heading", ""),
                   redact(_shortened(harmless(document.page_content).strip())), source)


def _shortened(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return "".join(split_sentences(text[:LONGEST])[:-1]).strip() or text[:LONGEST]
