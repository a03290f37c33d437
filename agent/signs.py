"""Characters that a terminal could obey, and messages that cannot be read. Imports nothing, so that a screen may use it first."""


def harmless(text: str) -> str:
    """Without control characters, which could speak to a terminal; joiners stay, emoji and scripts need them."""
    if text.isprintable():  # as most are
        return text
    return "".join(sign for sign in text if sign in "\n\t\u200c\u200d" or sign.isprintable())


def unreadable(text: str, longest: int) -> str:
    """Why a message cannot be read, as a sentence, or an empty string."""
    if not tidy(text):
        return "That message was empty. What would you like to know?"
    if len(text) > longest:
        return (f"That message has {len(text):,} characters and I read at most {longest:,}. "
                "Please send me the part that matters.")
    return ""


def tidy(text: str) -> str:
    """Without control characters and outer white space."""
    return harmless(text).strip()
