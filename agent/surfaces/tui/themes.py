"""Three quiet themes with one accent colour: dark, light, high contrast."""

from typing import TYPE_CHECKING

from textual.theme import Theme

if TYPE_CHECKING:
    from textual.app import App

THEMES = {
    "dark": Theme("dark", primary="#7aa2c8", accent="#e0af68", foreground="#d5d8de", background="#15171b", surface="#1b1e23",
                  panel="#24282f", success="#8fbf7f", warning="#e0af68", error="#e07a7a", dark=True),
    "light": Theme("light", primary="#2f5f8f", accent="#9a4f00", foreground="#22252a", background="#fbfaf7", surface="#f2f0ea",
                   panel="#e6e3da", success="#2f6f2f", warning="#8a5a00", error="#a32020", dark=False),
    "contrast": Theme("contrast", primary="#ffffff", accent="#ffff00", foreground="#ffffff", background="#000000",
                      surface="#000000", panel="#1a1a1a", success="#00ff00", warning="#ffff00", error="#ff6060", dark=True),
}


def use(app: "App[object]", name: str) -> None:
    """Take a theme by its name."""
    for theme in THEMES.values():
        app.register_theme(theme)
    app.theme = name if name in THEMES else "dark"


def turn(app: "App[object]") -> None:
    """Take the next theme."""
    names = list(THEMES)
    app.theme = names[(names.index(app.theme) + 1) % len(names)] if app.theme in names else names[0]
