"""DBOS with SQLite: one workflow with one step; runs in the peers' environment.

``peer_dbos.py FOLDER KEY COMMAND…`` starts the workflow KEY, or takes it up again, and ends with
it. The step runs COMMAND.
"""

from __future__ import annotations

import subprocess
import sys

from dbos import DBOS, SetWorkflowID

FOLDER, KEY, *COMMAND = sys.argv[1:]


@DBOS.step()  # type: ignore[untyped-decorator]
def act() -> int:
    """Runs the command, which must not run twice."""
    return subprocess.run(COMMAND, check=True).returncode


@DBOS.workflow()  # type: ignore[untyped-decorator]
def workflow() -> int:
    """Has one step."""
    code: int = act()
    return code


def main() -> None:
    """Runs the workflow to its end, over crashes."""
    url = f"sqlite:///{FOLDER}/dbos.sqlite"
    DBOS(
        config={
            "name": "chaos",
            "system_database_url": url,
            "run_admin_server": False,
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    try:
        with SetWorkflowID(KEY):
            handle = DBOS.start_workflow(workflow)
        handle.get_result()
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    main()
