"""Characters that a terminal could obey. Imports nothing, so that a screen may use it before anything else is loaded."""


def harmless(text: str) -> str:
    """Without control characters, which could speak to a terminal; joiners stay, emoji and scripts need them."""
    return "".join(sign for sign in text if sign in "\n\t\u200c\u200d" or sign.isprintable())
