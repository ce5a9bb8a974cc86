"""``make demo``: the main job, done for real on this machine, scene by scene.

Everything lives in one folder that is removed at the end (unless you keep it running). The exit
code is 0 only if everything that was shown is true.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import scenes
from stage import Stage
from world import World

if TYPE_CHECKING:
    from types import FrameType


def main() -> int:
    """Plays all scenes; returns the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    interactive = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("YES") != "1"
    stage = Stage(interactive=interactive)
    keep = False
    with World(stage) as world:
        try:
            world.build()
            for scene in scenes.ALL:
                stage.play(scene, world)
            stage.summary()
            keep = interactive and stage.all_true and stage.ask("keep everything running?")
            if keep:
                world.keep()
        except KeyboardInterrupt:
            stage.say("\ninterrupted: cleaning up")
            return 130
        except (OSError, RuntimeError) as error:
            stage.say(f"the demo could not be set up: {error}")
            return 1
    return 0 if stage.all_true else 1


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
