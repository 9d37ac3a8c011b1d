"""The workbench panel: the whole job with the mouse, over the same calls that code makes; a file for each view."""

from __future__ import annotations

from loadbench.panel.frame import Panel

__all__ = ["Panel"]
