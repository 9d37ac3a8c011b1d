"""Hands on the keyboard alone: `Keyboard(page).to("Create test")` presses Tab until that has the focus."""

from __future__ import annotations

import re
from dataclasses import dataclass

from playwright.sync_api import Page

ANY = re.compile("")
MOST = 60
_RING = """element => {
    const ringed = each => {
        const style = getComputedStyle(each);
        return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
    };
    return ringed(element) || [...document.querySelectorAll(':focus-within')].some(each => each !== element
        && each.closest('.loadbench-panel') && each.contains(element) && ringed(each));
}"""


@dataclass(frozen=True)
class Stop:
    """Where the focus is: what a screen reader calls it, and whether one sees that it is there."""

    role: str
    name: str
    is_seen: bool
    is_in_panel: bool

    def __str__(self) -> str:
        return f"{self.role} {self.name!r}{'' if self.is_seen else ' (not seen)'}"


class Keyboard:
    """Moves the focus of a page and says where it is; every stop is kept in `stops`.

    The names are those of the browser's own accessibility tree, not of the elements' attributes.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.stops: list[Stop] = []
        self._devtools = page.context.new_cdp_session(page)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        """Type in place of what is in the field."""
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)

    def here(self) -> Stop:
        """Say where the focus is."""
        active = self._devtools.send("Runtime.evaluate", {"expression": "document.activeElement"})["result"]
        tree = self._devtools.send(
            "Accessibility.getPartialAXTree", {"objectId": active["objectId"], "fetchRelatives": False}
        )
        node = tree["nodes"][0]
        element = self.page.evaluate_handle("() => document.activeElement")
        stop = Stop(
            role=node.get("role", {}).get("value", ""),
            name=str(node.get("name", {}).get("value", "")).strip(),
            is_seen=self.page.evaluate(_RING, element),
            is_in_panel=self.page.evaluate("e => e.closest('.loadbench-panel') !== null", element),
        )
        self.stops.append(stop)
        return stop

    def tab(self, *, back: bool = False) -> Stop:
        """Press Tab, or Shift+Tab; out of an editor with Escape before it."""
        if self.is_in_editor():
            self.press("Escape")
        self.press("Shift+Tab" if back else "Tab")
        return self.here()

    def to(self, name: str, *, role: str = "", back: bool = False) -> Stop:
        """Press Tab, or Shift+Tab, until what is called so has the focus."""
        return self.to_role(role, name=re.compile(re.escape(name) + "$"), back=back)

    def to_role(self, role: str, *, name: re.Pattern[str] = ANY, back: bool = False) -> Stop:
        """Press Tab, or Shift+Tab, until a tab, a button, a textbox has the focus whose name matches."""
        passed: list[str] = []
        while len(passed) < MOST:
            stop = self.tab(back=back)
            if role in ("", stop.role) and name.match(stop.name):
                return stop
            passed.append(str(stop))
        raise AssertionError(f"Tab does not lead to {role} {name.pattern!r}, but past {', '.join(passed)}")

    def is_in_editor(self) -> bool:
        return self.page.evaluate("() => document.activeElement.matches('.lb-editor textarea')")
