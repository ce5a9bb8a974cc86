"""Judges a free command: a small table of programs known only to read; everything else may destroy.

The table is an allow-list. Options are matched exactly, because GNU programs also accept
abbreviations; what is not listed is not guessed.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opsconductor.tool_registry.risk.program_patterns import known_form

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opsconductor.tool_registry.model import RiskClass

_DIRECTORIES = ("/bin/", "/usr/bin/", "/sbin/", "/usr/sbin/")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a command may do, and why that is thought."""

    risk_class: RiskClass
    reason: str


@dataclass(frozen=True, slots=True)
class _Reads:
    """Which arguments of a program keep it a reader."""

    short: str = ""
    """Short options without a value that only read; they may be joined."""
    flags: frozenset[str] = frozenset()
    """Long options without a value, exact names."""
    values: frozenset[str] = frozenset()
    """Long options whose value must be joined by =: a separate one would hide what follows it."""
    operands: str = ".*"
    """What an argument that is no option has to look like."""
    first: frozenset[str] | None = None
    """Allowed first operand (a subcommand)."""


_SHOW_SYSTEMD = frozenset(
    [
        "status",
        "show",
        "is-active",
        "is-enabled",
        "is-failed",
        "list-units",
        "list-unit-files",
        "list-timers",
        "cat",
    ]
)
_ANYTHING = frozenset(
    [
        "true",
        "false",
        "echo",
        "printf",
        "sleep",
        "uname",
        "id",
        "groups",
        "whoami",
        "pwd",
        "uptime",
        "nproc",
        "arch",
        "df",
        "free",
        "ps",
        "ls",
        "cat",
        "head",
        "tail",
        "stat",
        "wc",
        "du",
        "cut",
        "tr",
        "grep",
        "egrep",
        "fgrep",
        "basename",
        "dirname",
        "readlink",
        "realpath",
        "printenv",
        "seq",
        "test",
        "lsblk",
        "lscpu",
        "lsmod",
        "getent",
        "who",
        "w",
        "md5sum",
        "sha1sum",
        "sha256sum",
        "sha512sum",
        "cmp",
        "od",
        "tac",
        "nl",
        "base64",
        "which",
        "tty",
        "logname",
    ]
)
_CHECKED: Mapping[str, _Reads] = {
    "date": _Reads(
        short="uR",
        flags=frozenset({"--utc", "--universal", "--iso-8601", "--rfc-email"}),
        values=frozenset({"--iso-8601", "--rfc-3339", "--date"}),
        operands=r"\+.*",
    ),
    "hostname": _Reads(
        short="fsdiIAay",
        flags=frozenset(
            {"--fqdn", "--long", "--short", "--domain", "--ip-address", "--all-ip-addresses"}
        ),
        operands=r"(?!)",
    ),
    "systemctl": _Reads(
        short="alq",
        flags=frozenset({"--no-pager", "--all", "--full", "--quiet", "--value"}),
        values=frozenset({"--property", "--type", "--state", "--lines"}),
        first=_SHOW_SYSTEMD,
    ),
    "journalctl": _Reads(
        short="rqxeka",
        flags=frozenset({"--no-pager", "--reverse", "--quiet", "--boot", "--dmesg", "--utc"}),
        values=frozenset(
            {"--unit", "--since", "--until", "--lines", "--output", "--priority", "--grep"}
        ),
    ),
    "ss": _Reads(
        short="tulnapmioxswre46",
        flags=frozenset({"--tcp", "--udp", "--listening", "--numeric", "--all", "--summary"}),
    ),
    "dmesg": _Reads(
        short="Txkut",
        flags=frozenset({"--ctime", "--nopager"}),
        values=frozenset({"--level", "--facility"}),
    ),
}
_WRAPPERS = frozenset(
    [
        "env",
        "xargs",
        "sudo",
        "doas",
        "su",
        "nohup",
        "timeout",
        "nice",
        "ionice",
        "setsid",
        "stdbuf",
        "time",
        "watch",
        "chroot",
        "unshare",
        "nsenter",
        "ssh",
        "strace",
        "ltrace",
        "flock",
        "script",
        "find",
        "parallel",
        "runuser",
        "taskset",
        "systemd-run",
        "exec",
        "command",
        "busybox",
    ]
)
_INTERPRETERS = re.compile(
    r"(?:ba|da|z|k|mk|fi|tc|c|a|r)?sh|python[\d.]*|perl[\d.]*|ruby[\d.]*|node|php[\d.]*|lua[\d.]*"
    r"|[gmn]?awk|sed|tclsh|expect|powershell|pwsh"
)
_SECRET = re.compile(
    r"/etc/(?:g?shadow|sudoers|ssl/private|ssh/ssh_host_\w+_key\Z|krb5\.keytab)|/\.(?:ssh|gnupg|aws|kube|docker)(?:/|\Z)"
    r"|/proc/[^/]+/(?:environ|mem)\Z|\.(?:key|pem|p12|pfx|kdbx)\Z|/\.(?:netrc|pgpass|my\.cnf|git-credentials)\Z"
    r"|/id_(?:rsa|dsa|ecdsa|ed25519)\Z"
)
_RULES = re.compile(
    r"\A/(?:etc|boot|usr|s?bin|lib\w*|proc|sys|root|var/spool/cron)(?:/|\Z)|/\.(?:bash|profile|zsh|ssh)"
)
"""Where writing decides who may log in, what starts, or which programs run."""
_RECURSIVE = re.compile(r"-[^-]*[rRd]|--(?:r|d)")
_DEV = re.compile(r"/{0,2}dev/")
_DEVICE = re.compile(r"(?:/dev|/sys/kernel/debug)/(?!null\Z|zero\Z|urandom\Z)")


def judge_argv(argv: Any) -> Judgement:
    """Returns the risk of a command given as an argument list; an unknown one counts as worst."""
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
        return Judgement("destructive", "the command is not known yet")
    program = program_name(argv[0])
    if program is None:
        return Judgement("destructive", f"{argv[0][:80]} is not a program of the system folders")
    arguments = argv[1:]
    if (known := known_form(program, arguments)) == "read_only":
        return _reading(program, arguments)
    if known is not None:
        return Judgement(known, f"{' '.join([program, *arguments[:2]])[:60]} changes little")
    if program in _ANYTHING:
        return _reading(program, arguments)
    if program in _CHECKED:
        problem = _problem(_CHECKED[program], arguments)
        if problem:
            return Judgement("destructive", f"{program} can change things: {problem}")
        return _reading(program, arguments)
    if program in _WRAPPERS:
        return Judgement("destructive", f"{program} runs other programs")
    if _INTERPRETERS.fullmatch(program):
        return Judgement("destructive", f"{program} is an interpreter: it can run anything")
    return Judgement("destructive", f"{program} is not among the programs known only to read")


def is_secret_path(text: str) -> bool:
    """Returns whether a path is one where keys and passwords are kept."""
    return any(_SECRET.search(f"/{path}") for path in (text, posixpath.normpath(text)))


def judge_written_path(path: str, *, appended: bool) -> Judgement:
    """Returns the risk of writing a file: what was in it is gone, unless it is added to."""
    normal = posixpath.normpath(path)
    # What a relative name means is not known, so it counts from the root too.
    if is_secret_path(normal) or _RULES.search(f"/{normal.lstrip('/')}") or _DEV.match(normal):
        return Judgement("destructive", f"writing {path[:120]} decides who may do what")
    if appended:
        return Judgement("modify", f"adds to {path[:120]}")
    return Judgement("destructive", f"replaces what is in {path[:120]}")


def program_name(word: str) -> str | None:
    r"""Returns a program\'s name when it is one of the system folders; None when it is not."""
    if "${{" in word:
        return None
    if "/" not in word:
        return word
    for directory in _DIRECTORIES:
        name = word.removeprefix(directory)
        if name != word and "/" not in name:
            return name
    return None


def _reading(program: str, arguments: list[str]) -> Judgement:
    if program == "printf" and arguments[:1] and arguments[0].startswith(("-v", "${{")):
        return Judgement("destructive", "printf -v sets a variable of the shell")
    if program == "printenv" or (program == "ps" and _asks_environment(arguments)):
        return Judgement("modify", f"{program} would show variables, secrets included")
    if program in ("echo", "printf", "true", "false"):
        return Judgement("read_only", f"{program} only prints")
    if program.endswith("grep") and any(_RECURSIVE.match(word) for word in arguments):
        return Judgement("modify", f"{program} would read whole folders, secrets included")
    for word in arguments:
        if is_secret_path(word):
            return Judgement("modify", f"{program} would show {word[:120]}, where secrets are kept")
        if _DEVICE.search(posixpath.normpath(word)):
            return Judgement("destructive", f"reading the device {word[:120]} can have effects")
    if any("${{" in word for word in arguments):
        return Judgement("modify", f"{program} only reads, but what it reads is not known yet")
    return Judgement("read_only", f"{program} only reads")


def _asks_environment(arguments: list[str]) -> bool:
    """Returns whether ps gets a group of old-style switches with ``e`` in it."""
    before = ["", *arguments]
    return any(
        re.fullmatch(r"[A-Za-z]*e[A-Za-z]*", word) and not re.fullmatch(r"-[a-zA-Z]|--\w+", option)
        for option, word in zip(before, arguments, strict=False)
    )


def _problem(reads: _Reads, arguments: list[str]) -> str:
    """Returns the first argument not known to be harmless, in words; nothing when all are."""
    operands: list[str] = []
    for position, word in enumerate(arguments):
        if word == "--":
            operands += arguments[position + 1 :]
            break
        if word.startswith("--"):
            name, joined, _ = word.partition("=")
            if name not in (reads.values if joined else reads.flags):
                return f"option {word[:80]} is not known to be harmless"
        elif word.startswith("-") and word != "-":
            if set(word[1:]) - set(reads.short):
                return f"option {word[:80]} is not known to be harmless"
        else:
            operands.append(word)
    for position, word in enumerate(operands):
        if position == 0 and reads.first is not None and word not in reads.first:
            return f"{word[:80]} is not one of {', '.join(sorted(reads.first))}"
        if "${{" in word or not re.fullmatch(reads.operands, word, re.DOTALL):
            return f"argument {word[:80]!r} is not known to be harmless"
    return ""
