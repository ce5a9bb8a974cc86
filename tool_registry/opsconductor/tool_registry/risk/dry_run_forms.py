"""Forms of programs that only tell what they would do, or only check what they would be given.

As with every known form the whole argument list has to match, so nothing behind the switch can take
it back. Left out on purpose: terraform plan and ansible-playbook --check run what others wrote,
make -n runs what stands in $(shell), helm shows secrets unless told not to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_WORD = r"(?!-)[\w.,/@=+%~^-]+"
_PACKAGE = r"(?!-)[\w.:+~=-]+"
_APT = (
    r"(?:-s|--simulate|--dry-run)(?: (?:-[yqV]+|--no-install-recommends|--only-upgrade))*"
    r" (?:install|remove|purge|upgrade|dist-upgrade|full-upgrade|autoremove)(?: --)?"
    rf"(?: {_PACKAGE})*"
)
_RSYNC = r"(?:-[avrtpiuhzcxnHAX]+|--(?:dry-run|delete|itemize-changes|stats|archive|verbose))"

_KUBE_NAME = r"(?!-)[\w./:=@-]+"
_KUBE_FLAG = (
    r"(?:--(?:namespace|context|request-timeout|replicas|to-revision|timeout|grace-period)"
    r"=[\w.:@/-]+|--filename=/[\w./-]+|--(?:ignore-daemonsets|delete-emptydir-data|server-side)"
    r"|--wait=(?:true|false)|--output=name|-n [\w.-]+)"
)


def _kubectl(verbs: str, flag: str) -> str:
    """Returns the form of verbs with the switch before any ``--``, behind which it is a name."""
    more = rf"(?: (?:{flag}|{_KUBE_NAME}))*"
    return (
        rf"(?:{flag} )*(?:{verbs}){more} --dry-run=(?:server|client){more}"
        rf"(?: --(?: {_KUBE_NAME})*)?"
    )


DRY_RUN_FORMS: Mapping[str, tuple[str, ...]] = {
    "apt": (_APT,),
    "apt-get": (_APT,),
    "dpkg": (
        r"(?:--dry-run|--simulate|--no-act) (?:-i|-r|-P|--install|--remove|--purge)"
        rf"(?: {_WORD})+",
    ),
    "rpm": (rf"(?:-[iUFe]v?h? --test|--test -[iUFe]v?h?)(?: {_WORD})+",),
    "rsync": (
        rf"(?=(?:{_RSYNC} )*(?:-[a-zA-Z]*n[a-zA-Z]*|--dry-run) )(?:{_RSYNC} )+"
        rf"(?:-- )?{_WORD}(?: {_WORD})+",
    ),
    "kubectl": (
        _kubectl("delete|apply|cordon|uncordon|drain", _KUBE_FLAG),
        # What these print is a workload; the others could print a secret.
        _kubectl("scale|rollout undo|set image", rf"(?:{_KUBE_FLAG}|--output=json)"),
    ),
    "helm": (
        r"(?:--kube-context=[\w.:@/-]+ )?(?:rollback|uninstall)(?: --namespace=[\w.-]+)?"
        r" --dry-run(?: --)?(?: [\w.-]+){1,2}",
        r"(?:--kube-context=[\w.:@/-]+ )?upgrade --install --dry-run=server --hide-secret"
        r"(?: --(?:namespace|version)=[\w.+-]+| --values=/[\w./-]+)*(?: --)? [\w.-]+ [\w./:-]+",
    ),
    "docker": (r"compose(?: --project-name=[\w-]+)? --dry-run (?:down|restart|stop)",),
    "logrotate": (r"(?:-d|--debug)(?: --)? /etc/logrotate\.(?:conf|d/\w[\w.-]*)",),
    "sysctl": (r"--dry-run -w(?: --)? [\w./-]+=[\w.,:/+-]+",),
    "ufw": (r"--dry-run (?:allow|deny|reject|limit)(?: [\w./:]+)+",),
    "iptables-restore": (rf"--test(?: --)? {_WORD}",),
    "ip6tables-restore": (rf"--test(?: --)? {_WORD}",),
    "nft": (rf"(?:-c|--check) (?:-f|--file) {_WORD}",),
    "nginx": (r"-t(?: -q)?",),
    "apachectl": (r"configtest|-t",),
    "apache2ctl": (r"configtest|-t",),
    "haproxy": (r"-c -f /etc/haproxy/\w[\w.-]*",),
    "sshd": (r"-t",),
    "visudo": (r"-c(?:f /etc/sudoers(?:\.d/\w[\w.-]*)?)?",),
    "named-checkconf": (r"",),
}
"""By program: forms of its arguments, joined by spaces."""
