from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.tool_registry.registry import Registry
from opsconductor.tool_registry.risk.assess import assess
from opsconductor.tool_registry.risk.commands import judge_argv


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


@pytest.mark.parametrize(
    "line",
    [
        "true", "echo hello; rm -rf /", "printf %s x", "date", "date -u +%s", "date --utc",
        "uname -a",
        "hostname", "hostname -f", "hostname --fqdn", "/usr/bin/uptime", "ps aux", "ls -la /tmp",
        "cat /etc/hosts", "tail -n 5 --pid 1 /var/log/syslog", "systemctl status nginx",
        "systemctl show --property=MainPID nginx", "journalctl --no-pager --unit=nginx --lines=5",
        "sleep 60", "df -h", "grep error /var/log/app.log", "ss -tln", "cat /dev/null",
    ],
)  # fmt: skip
def test_programs_known_only_to_read_are_read_only(line: str) -> None:
    assert judge_argv(line.split()).risk_class == "read_only"


@pytest.mark.parametrize(
    "line",
    [
        "rm -rf /tmp/x", "sh -c ls",
        "bash -c true", "python3 -c 1", "env true", "sudo ls", "xargs ls",
        "nohup ls", "timeout 5 ls", "nice ls", "busybox ls", "date -s tomorrow", "date 01010000",
        "date --se=now", "date -us now", "hostname evil", "hostname -F /etc/x", "sort -o x y",
        "./ls", "/tmp/ls", "/home/a/bin/cat x", "find / -delete", "sed -i x y", "awk 1", "tee x",
        "dd if=/dev/zero of=/dev/sda", "systemctl stop nginx",
        "systemctl --property status restart x",
        "systemctl -H host status x", "journalctl --rotate", "journalctl --vacuum-size=1",
        "journalctl --unit -- --rotate",
        "ss -K", "ss -D out", "dmesg -c", "dmesg -C", "curl http://x",
        "cat /dev/watchdog", "${{ steps.a.output }} x", "unheard-of", "python3.11", "LS",
        "uniq a b",
    ],
)  # fmt: skip
def test_everything_else_counts_as_destructive(line: str) -> None:
    argv = ["${{ steps.a.output }}", "x"] if line.startswith("$") else line.split()
    judged = judge_argv(argv)
    assert judged.risk_class == "destructive"
    assert judged.reason


@pytest.mark.parametrize(
    "line",
    [
        "cat /etc/shadow", "cat /etc//shadow", "cat /etc/./shadow", "cat /etc/x/../shadow",
        "head /root/.ssh/id_ed25519", "ls /root/.aws/", "cat server.key", "cat /proc/1/environ",
        "grep -r password /etc", "grep --recursive x /", "cat --file=/etc/gshadow",
    ],
)  # fmt: skip
def test_showing_secrets_needs_approval(line: str) -> None:
    assert judge_argv(line.split()).risk_class == "modify"


def test_reading_something_not_known_yet_needs_approval() -> None:
    assert judge_argv(["cat", "${{ steps.a.output.path }}"]).risk_class == "modify"
    assert judge_argv("${{ steps.a.output.argv }}").risk_class == "destructive"
    assert judge_argv(None).risk_class == "destructive"


@given(st.lists(st.text(max_size=20), min_size=1, max_size=6))
def test_a_wrapper_is_destructive_whatever_follows(words: list[str]) -> None:
    assert judge_argv(["env", *words]).risk_class == "destructive"


def test_annotations_give_the_base_and_rules_raise_it(registry: Registry) -> None:
    assert assess(registry.get("check_disk_space"), {}).risk_class == "read_only"
    restart = registry.get("restart_service")
    assert assess(restart, {"service": "nginx"}).risk_class == "modify"
    raised = assess(restart, {"service": "sshd"})
    assert raised.risk_class == "destructive"
    assert "cut off" in raised.reasons[-1]
    assert assess(registry.get("write_file"), {"path": "/etc/sudoers"}).risk_class == "destructive"
    assert assess(registry.get("read_file"), {"path": "/etc/shadow"}).risk_class == "modify"


def test_an_input_not_known_yet_counts_as_the_worst(registry: Registry) -> None:
    late = {"path": "${{ steps.a.output.path }}"}
    assert assess(registry.get("read_file"), late).risk_class == "destructive"
    assert assess(registry.get("write_file"), late).risk_class == "destructive"


def test_scripts_are_always_destructive(registry: Registry) -> None:
    assert assess(registry.get("run_script"), {"script": "true"}).risk_class == "destructive"


def test_idempotence_comes_from_reading_or_the_annotation(registry: Registry) -> None:
    assert assess(registry.get("ping"), {}).idempotent
    assert assess(registry.get("write_file"), {"path": "/a"}).idempotent
    assert not assess(registry.get("restart_service"), {"service": "a"}).idempotent
    assert assess(registry.get("run_command"), {"argv": ["uptime"]}).idempotent
    assert not assess(registry.get("run_command"), {"argv": ["rm", "x"]}).idempotent
