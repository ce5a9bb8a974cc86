"""The ready plans of deploy/examples: what approval each needs, and that each does what it says."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from helpers.embedded_context import SCRIPTS
from helpers.example_site import CONTROL, EXAMPLES, Site, asset, assets, bring, health_page
from helpers.postgres import Cluster, private_cluster
from helpers.sshd import openssh_server
from helpers.stack import Answer, Stack, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


POLICY = "stricter_policy"
PROMISED = {
    "count_assets": ("immediate", 0),
    "server_details": ("immediate", 0),
    "check_disk_space": ("immediate", 0),
    "analyze_logs": ("immediate", 0),
    "restart_service": ("immediate", 1),
    "update_config": ("immediate", 1),
    "change": ("background", 1),
    "backup_database": ("background", 1),
    "deploy_application": ("background", 2),
    "health_check": ("background", 0),
    "disaster_recovery": ("background", 3),
}
ORDERS = (
    "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 40)"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with private_cluster() as made:
        made.run("createdb", "-h", "127.0.0.1", "-p", str(made.port), "-U", "opsc", "shop")
        made.execute("postgresql:///shop", ORDERS)
        yield made


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    control = folder / "control"
    control.write_text(CONTROL.format(folder=folder))
    control.chmod(0o755)
    with (
        running(tmp_path_factory.mktemp("stack")) as stack,
        openssh_server(tmp_path_factory.mktemp("sshd")) as server,
        health_page(folder) as health,
    ):
        logins = {
            "web": {
                "kind": "ssh",
                "username": server.username,
                "private_key_file": str(server.client_key),
            },
            "shop": {"kind": "database", "hosts": ["127.0.0.1"], "username": "opsc"},
        }
        file = stack.embedded.agent_directory / "credentials.yaml"
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(logins))
        bring(stack, assets(folder, server, cluster))
        yield Site(stack, folder, cluster, health)


@pytest.fixture
def shop(site: Site) -> Site:
    """The site with release 1.0 of the shop running."""
    releases = site.folder / "releases"
    shutil.rmtree(releases, ignore_errors=True)
    (releases / "1.0").mkdir(parents=True)
    (releases / "1.0/version").write_text("1.0\n")
    current = site.folder / "current"
    current.unlink(missing_ok=True)
    current.symlink_to(releases / "1.0")
    (site.folder / "shop.conf").write_text("port = 1\n")
    (site.folder / "running").write_text("1.0\n")
    (site.folder / "restarts").unlink(missing_ok=True)
    return site


def test_every_example_is_promised_something() -> None:
    assert {file.stem for file in EXAMPLES.glob("*.yaml")} == {*PROMISED, POLICY}


@pytest.mark.parametrize("name", PROMISED)
def test_an_example_runs_as_promised_and_needs_the_promised_approval(name: str, site: Site) -> None:
    mode, level = PROMISED[name]
    file = str(EXAMPLES / f"{name}.yaml")
    answer = site.stack.opsctl("plan", "-f", file, "-o", "json")
    assert answer.code == (8 if level else 0), answer.err
    preview = answer.json
    assert (preview["run"], preview["approval_level"]) == (mode, level)
    assert (preview["warnings"], preview["unroutable_steps"]) == ([], [])
    read = site.stack.opsctl("plan", "-f", file)
    for words in (preview["name"], preview["approval_reasons"][0], f"{level} ("):
        assert words in " ".join(read.out.split())


def test_assets_are_counted_with_a_breakdown(site: Site) -> None:
    found = site.outputs("count_assets")["count"]
    assert found["total_count"] == 4
    assert found["breakdown"]["linux_server"] == 3


def test_a_server_is_described(site: Site) -> None:
    found = site.outputs("server_details")
    assert found["inventory"]["asset"]["name"] == "web-01"
    assert found["system"]["ID"]
    assert found["memory"]["items"][0]["total"] > 0
    assert found["disks"]["filesystems"]


def test_disk_space_is_checked(site: Site) -> None:
    assert site.outputs("check_disk_space")["space"]["filesystems"][0]["mounted_on"] == "/"


def test_disk_space_of_one_server_is_read_as_a_table(site: Site) -> None:
    answer = site.stack.opsctl("run", "check_disk_space", "--target", "web-01", "path=/")
    assert answer.code == 0, answer.err
    title = next(line for line in answer.out.splitlines() if "MOUNTED ON" in line)
    assert title.split()[:2] == ["FILESYSTEM", "SIZE"]
    assert "{" not in answer.out


def test_what_several_steps_found_out_is_read_as_tables(site: Site) -> None:
    answer = site.stack.opsctl("run", "-f", str(EXAMPLES / "server_details.yaml"))
    assert answer.code == 0, answer.err
    assert "MOUNTED ON" in answer.out
    assert "PRETTY NAME" in " ".join(answer.out.split()).upper()
    assert "{" not in answer.out


def test_logs_are_analysed(site: Site) -> None:
    log = site.folder / "shop.log"
    log.write_text("all fine\nERROR: no stock\nfine again\nTraceback (most recent call last)\n")
    found = site.outputs("analyze_logs", log=str(log))
    assert len(found["errors"]["matches"]) == 2
    assert found["latest"]["text"].startswith("all fine")


def test_a_service_is_restarted_and_looked_at(shop: Site) -> None:
    shop.outputs("restart_service")
    assert shop.restarts() == 1


def test_a_configuration_is_updated(shop: Site) -> None:
    file = shop.folder / "shop.conf"
    shop.outputs("update_config", file=str(file), content="port = 2\n")
    assert file.read_text() == "port = 2\n"
    assert shop.restarts() == 1


def test_a_configuration_the_service_does_not_take_is_put_back(shop: Site) -> None:
    file = shop.folder / "shop.conf"
    answer, result = shop.run("update_config", file=str(file), content="broken\n")
    assert (answer.code, result["status"]) == (5, "rolled_back"), json.dumps(result, indent=1)
    assert file.read_text() == "port = 1\n"
    assert shop.restarts() >= 2
    assert (shop.folder / "running").read_text() == "1.0\n"


def deploy(shop: Site, name: str, version: str) -> tuple[Answer, dict[str, Any]]:
    archive = shop.release(name, version)
    releases = shop.folder / "releases"
    return shop.run(
        "deploy_application",
        archive=str(archive),
        releases=str(releases),
        current=str(shop.folder / "current"),
        new=str(releases / name),
        old=str(releases / "1.0"),
        health=shop.health,
    )


def test_an_application_is_deployed(shop: Site) -> None:
    answer, result = deploy(shop, "2.0", "2.0")
    assert (answer.code, result["status"]) == (0, "completed"), json.dumps(result, indent=1)
    assert (shop.folder / "current").resolve().name == "2.0"
    assert (shop.folder / "running").read_text() == "2.0\n"


def test_a_release_that_does_not_answer_is_taken_back(shop: Site) -> None:
    answer, result = deploy(shop, "2.1", "broken")
    assert (answer.code, result["status"]) == (5, "rolled_back"), json.dumps(result, indent=1)
    assert (shop.folder / "current").resolve().name == "1.0"
    assert (shop.folder / "running").read_text() == "1.0\n"


def test_a_database_is_backed_up_and_the_backup_can_be_restored(site: Site) -> None:
    file = site.folder / "shop.dump"
    found = site.outputs("backup_database", file=str(file))
    assert (found["verify"]["tables"], found["verify"]["rows"]) == (1, 40)
    where = ["-h", "127.0.0.1", "-p", str(site.cluster.port), "-U", "opsc"]
    site.cluster.run("createdb", *where, "copy")
    subprocess.run(["pg_restore", *where, "-d", "copy", str(file)], check=True)
    assert site.count("copy") == 40
    listed = subprocess.run(["psql", *where, "-lqAt", "postgres"], check=True, capture_output=True)
    assert b"opsconductor_verify" not in listed.stdout


def test_a_backup_that_cannot_be_restored_is_no_backup(site: Site) -> None:
    file = site.folder / "kept.dump"
    site.outputs("backup_database", file=str(file))
    file.write_bytes(file.read_bytes()[:-200])
    verify = ("run", "pg_verify_dump", "--target", "db-01", f"file={file}", "--yes", "-o", "json")
    answer = site.stack.opsctl(*verify)
    assert (answer.code, answer.json["status"]) == (1, "failed")


def test_all_servers_are_looked_at_together(shop: Site) -> None:
    found = shop.outputs("health_check")
    assert len(found) == 14
    assert found["app-01-service"]["active"]


def test_one_sick_server_does_not_hide_the_others(shop: Site) -> None:
    (shop.folder / "running").unlink()
    answer, result = shop.run("health_check")
    states = {step["step_id"]: step["status"] for step in result["step_results"]}
    assert (answer.code, len(states)) == (1, 14)
    sick = {step for step, state in states.items() if state != "completed"}
    assert sick == {"web-01-service", "web-02-service", "app-01-service"}


def test_a_lost_database_comes_back(shop: Site) -> None:
    backup, rest = shop.folder / "good.dump", shop.folder / "rest.dump"
    shop.outputs("backup_database", file=str(backup))
    shop.cluster.execute("postgresql:///shop", "DELETE FROM orders WHERE id > 3")
    answer, result = shop.run("disaster_recovery", backup=str(backup), rest=str(rest))
    assert (answer.code, result["status"]) == (0, "completed"), json.dumps(result, indent=1)
    assert shop.count("shop") == 40
    assert rest.exists()
    assert shop.restarts() == 1


def test_disaster_recovery_is_approved_step_by_step(site: Site) -> None:
    plan = str(EXAMPLES / "disaster_recovery.yaml")
    sent = site.stack.opsctl("run", "-f", plan, "--detach")
    assert sent.code == 0, sent.err
    execution = sent.out.split()[0]
    site.stack.wait_for(execution, "approval_required")
    listed = site.stack.json("approvals", "list")
    waiting = [item for item in listed if item["execution_id"] == execution]
    assert [item["level"] for item in waiting] == [3]
    assert len(waiting[0]["step_ids"]) == 1
    assert site.stack.opsctl("runs", "cancel", execution).code in (0, 9)


def test_a_stricter_policy_asks_before_disks_are_looked_at(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    ready = tmp_path / "ready"
    words = ["serve", "--data-dir", str(stack.data), "--port", "0", "--ready-file", str(ready)]
    program = str(SCRIPTS / "opsconductor-orchestrator")
    policy = str(EXAMPLES / f"{POLICY}.yaml")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([program, *words, "--policy", policy], stdout=log, stderr=log)
    try:
        wait_until(lambda: ready.exists() or process.poll() is not None, "the orchestrator is up")
        bring(stack, [asset("web-01", connection="local", service_manager="systemd")])
        levels = {}
        for name in ("check_disk_space", "analyze_logs", "restart_service"):
            plan = ("plan", "-f", str(EXAMPLES / f"{name}.yaml"), "-o", "json")
            preview = stack.opsctl(*plan).json
            levels[name] = preview["approval_level"]
            assert preview["policy"].startswith("stricter"), preview
        assert levels == {"check_disk_space": 1, "analyze_logs": 0, "restart_service": 2}
    finally:
        process.terminate()
        process.wait()


def test_a_policy_that_names_an_unknown_tool_is_refused(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        (EXAMPLES / f"{POLICY}.yaml").read_text().replace("[check_disk_", "[chek_disk_")
    )
    words = ["serve", "--data-dir", str(tmp_path / "data"), "--port", "0", "--policy", str(policy)]
    program = str(SCRIPTS / "opsconductor-orchestrator")
    done = subprocess.run([program, *words], check=False, capture_output=True, timeout=60)
    assert done.returncode != 0
    assert b"chek_disk_space" in done.stderr
    assert b"check_disk_space" in done.stderr
