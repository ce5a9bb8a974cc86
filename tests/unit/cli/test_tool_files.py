"""``opsctl tools check``, ``new`` and ``import`` work on files, without an orchestrator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.testing import CliRunner, Result

from opsconductor.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path


def opsctl(*words: str) -> Result:
    return CliRunner().invoke(app, ["tools", *words])


def test_a_new_tool_passes_the_check_and_is_never_written_over(tmp_path: Path) -> None:
    made = opsctl("new", "count_lines", "-c", "wc -l {file}", "-d", str(tmp_path))
    assert made.exit_code == 0, made.output
    assert opsctl("check", str(tmp_path)).exit_code == 0
    before = (tmp_path / "count_lines.yaml").read_text()
    again = opsctl("new", "count_lines", "-d", str(tmp_path))
    assert again.exit_code == 2
    assert "exists already" in again.output
    assert (tmp_path / "count_lines.yaml").read_text() == before


def test_every_mistake_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        opsctl("new", f"tool_{name}", "-d", str(tmp_path))
        file = tmp_path / f"tool_{name}.yaml"
        file.write_text(file.read_text().replace("read_only: true", "read_only: maybe"))
    checked = opsctl("check", str(tmp_path))
    assert checked.exit_code == 2
    assert "2 mistake(s) in 2 tool file(s)" in checked.output
    assert "tool_one.yaml: annotations.read_only" in checked.output
    assert "tool_two.yaml: annotations.read_only" in checked.output


def test_a_folder_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    checked = opsctl("check", str(tmp_path / "nowhere"))
    assert checked.exit_code == 2
    assert "NO_SUCH_FOLDER" in checked.output


def test_annotations_that_contradict_the_command_are_refused(tmp_path: Path) -> None:
    opsctl("new", "drop_all", "-d", str(tmp_path))
    file = tmp_path / "drop_all.yaml"
    text = file.read_text().replace("method: command", "method: database")
    text = text.replace(
        'argv: ["uname", "-a"]',
        "sql: {dialect: postgresql, statement: drop table orders, read_only: true}",
    )
    file.write_text(text)
    checked = opsctl("check", str(file))
    assert checked.exit_code == 2
    assert "destructive by its command" in checked.output


def test_older_files_are_converted_and_the_rest_told_why_not(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "good.yml").write_text('tool_name: Up-Time\ncommand_template: "uptime -p"\n')
    (old / "pipe.yml").write_text('tool_name: count\ncommand_template: "ls | wc"\n')
    (old / "new.yaml").write_text("schema: opsconductor.tool/1\n")
    done = opsctl("import", str(old), "-d", str(tmp_path / "new"))
    assert done.exit_code == 2
    assert "converted 1 file(s)" in done.output
    assert "NEEDS_A_SHELL at pipe.yml" in done.output
    assert "NOT_AN_OLDER_SHAPE at new.yaml" in done.output
    assert opsctl("check", str(tmp_path / "new/up_time.yaml")).exit_code == 0
