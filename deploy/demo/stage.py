"""What the visitor sees: headings, commands, claims and whether they held."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from world import World

_TITLE = 64
_COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _paint(code: str, text: str) -> str:
    return f"\033[{code}m{text}\033[0m" if _COLOUR else text


class Declined(Exception):
    """The visitor was asked and said no."""


@dataclass
class Claim:
    """Something the demo says, and whether it was so."""

    scene: str
    text: str
    held: bool


@dataclass
class Stage:
    """Prints the play and keeps score."""

    interactive: bool
    claims: list[Claim] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    _scene: str = ""

    @property
    def all_true(self) -> bool:
        """Whether there were claims and every one held."""
        return bool(self.claims) and all(claim.held for claim in self.claims)

    def play(self, scene: Callable[[Stage, World], None], world: World) -> None:
        """Plays one scene; a crash in it counts as a claim that did not hold."""
        title = (scene.__doc__ or scene.__name__).splitlines()[0].rstrip(".")
        self._scene = title
        print(f"\n{_paint('1;36', f'{len(self.seconds) + 1}. {title}')}", flush=True)
        started = time.monotonic()
        try:
            scene(self, world)
        except Declined:
            self.say("  You said no, so nothing ran; the scene ends here.")
        except Exception as exc:  # noqa: BLE001 - the demo goes on and says what broke
            self.claim(f"the scene plays to its end ({type(exc).__name__}: {exc})", held=False)
        self.seconds[title] = time.monotonic() - started

    def say(self, text: str) -> None:
        """Prints a line of explanation."""
        print(text, flush=True)

    def command(self, words: str) -> None:
        """Prints a command as the visitor would type it."""
        print(_paint("1", f"$ {words}"), flush=True)

    def show(self, text: str, *, most: int = 40) -> None:
        """Prints a program's output, indented and not too long."""
        lines = text.rstrip().splitlines()
        for line in lines[:most]:
            print(f"  {line}")
        if len(lines) > most:
            print(f"  … {len(lines) - most} more lines")
        sys.stdout.flush()

    def claim(self, text: str, *, held: bool) -> None:
        """Says something and keeps whether it is so."""
        self.claims.append(Claim(self._scene, text, held))
        mark = _paint("32", "true ") if held else _paint("31", "FALSE")
        print(f"  {mark} {text}", flush=True)

    def ask(self, question: str) -> bool:
        """Asks the visitor; no without a terminal."""
        if not self.interactive:
            return False
        return input(f"\n{question} [y/N] ").strip().lower() in ("y", "yes")

    def summary(self) -> None:
        """Prints the table of scenes."""
        print("\n" + _paint("1", f"{'scene':<64} {'true':>6} {'time':>7}"))
        for title, seconds in self.seconds.items():
            mine = [claim for claim in self.claims if claim.scene == title]
            held = sum(claim.held for claim in mine)
            score = _paint("32" if held == len(mine) else "31", f"{held}/{len(mine)}".rjust(6))
            name = title if len(title) <= _TITLE else f"{title[: _TITLE - 1]}…"
            print(f"{name:<{_TITLE}} {score} {seconds:6.1f}s")
        total = sum(self.seconds.values())
        verdict = "everything shown is true" if self.all_true else "NOT everything shown is true"
        print(f"{verdict}; the scenes took {total:.1f} s", flush=True)
