"""Named formats that belong to one platform: clouds, containers, Windows, networks, databases.

None of them holds what the platform's own programs read as more than a name: no leading dash, no
``file://`` (AWS CLI), no ``@file`` (az), no connection string (PostgreSQL).
"""

from __future__ import annotations

from opsconductor.tool_registry.format import Format, pattern

_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_DNS_NAME = (
    r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?"
)
_PORT = r"(?:6553[0-5]|655[0-2]\d|65[0-4]\d{2}|6[0-4]\d{3}|[1-5]\d{4}|[1-9]\d{0,3})"
# One spelling per file: no part is . or .., or ends as Windows would cut it.
_WINDOWS_PART = r"[^\x00-\x1f\"*:<>?|/\\]{0,254}[^\x00-\x1f\"*:<>?|/\\. ]"
_PORTS = rf"{_PORT}(?:-{_PORT})?"

_CLOUD = (
    Format("aws-region", "an AWS region", pattern(r"[a-z]{2}(?:-[a-z]+){1,3}-\d")),
    Format("aws-instance", "an EC2 instance id", pattern(r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})")),
    Format("aws-name", "an AWS name", pattern(r"[A-Za-z0-9_](?:[A-Za-z0-9_.+=-]|/(?!/)){0,254}")),
    Format("s3-bucket", "a bucket name", pattern(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")),
    Format(
        "s3-key",
        "an object key",
        pattern(r"(?!(?:fileb?|https?):)[^\x00-\x1f\x7f]{1,1024}"),
        identifier=False,
    ),
    Format("log-group", "a log group", pattern(r"[A-Za-z0-9_/.#][A-Za-z0-9_/.#-]{0,511}")),
    Format("az-name", "an Azure name", pattern(r"[A-Za-z0-9_][A-Za-z0-9_.()-]{0,89}")),
    Format("gcp-name", "a Google Cloud name", pattern(r"[a-z][a-z0-9-]{0,62}")),
)
_CONTAINERS = (
    Format("container", "a container name or id", pattern(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")),
    Format(
        "image",
        "an image such as nginx:1.25",
        pattern(
            r"[a-z0-9][a-z0-9._:/-]{0,200}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
        ),
    ),
    Format("k8s-name", "a Kubernetes name", pattern(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")),
    Format(
        "k8s-selector",
        "a label selector such as app=web",
        pattern(
            r"[A-Za-z0-9][A-Za-z0-9_./-]*!?=[A-Za-z0-9_.-]*(?:,[A-Za-z0-9][A-Za-z0-9_./-]*!?=[A-Za-z0-9_.-]*){0,9}"
        ),
    ),
    Format("helm-release", "a release name", pattern(r"[a-z0-9](?:[a-z0-9-]{0,51}[a-z0-9])?")),
    Format(
        "helm-chart",
        "a chart such as bitnami/nginx or oci://registry/chart",
        pattern(r"(?:oci://)?[A-Za-z0-9][A-Za-z0-9._:/-]{0,250}"),
    ),
)
_WINDOWS = (
    Format(
        "ad-name",
        "a Windows account, group or object name",
        pattern(r"[^\x00-\x1f\"/\\\[\]:;|=,+*?<>@\-][^\x00-\x1f\"/\\\[\]:;|=,+*?<>]{0,255}"),
        identifier=False,
    ),
    Format(
        "ad-path",
        "a path without drive letter such as Software\\Vendor",
        pattern(r"(?:[A-Za-z0-9 _.()-]{1,100}\\)*[A-Za-z0-9 _.()-]{1,100}"),
    ),
    Format(
        "win-service", "a Windows service name", pattern(r"[A-Za-z0-9_.$][A-Za-z0-9_.$ -]{0,255}")
    ),
    Format(
        "winpath",
        "an absolute Windows path such as C:\\Temp",
        pattern(rf"[A-Za-z]:\\(?:{_WINDOWS_PART}(?:\\{_WINDOWS_PART}){{0,63}}\\?)?"),
        identifier=False,
    ),
)
_NETWORK = (
    Format("hostname", "a DNS name", pattern(rf"{_DNS_NAME}|{_IPV4}")),
    Format(
        "host-or-cidr",
        "a host, an address or a network such as 10.0.0.0/24",
        pattern(rf"{_DNS_NAME}|{_IPV4}(?:/(?:3[0-2]|[12]?\d))?"),
    ),
    Format("mac", "a MAC address", pattern(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")),
    Format(
        "oid",
        "an object identifier such as 1.3.6.1.2.1.1",
        pattern(r"\.?[0-2](?:\.\d{1,10}){1,127}"),
    ),
    Format(
        "port-spec", "ports such as 22,80 or 1-1024", pattern(rf"{_PORTS}(?:,{_PORTS}){{0,63}}")
    ),
    Format(
        "bpf",
        "a capture filter such as tcp port 80",
        pattern(r"(?:[A-Za-z0-9(!][A-Za-z0-9 .:/()\[\]&|!=<>+*-]{0,255})"),
        constrained=False,
    ),
    Format(
        "display-filter",
        "a display filter such as http.response.code >= 500",
        pattern(r"[A-Za-z0-9(!][A-Za-z0-9 ._:/()\[\]{}&|!=<>+*~\"'-]{0,255}"),
        constrained=False,
    ),
    Format("vapix-id", "a name of the camera", pattern(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")),
    Format(
        "vapix-group",
        "parameter groups such as Brand,Properties.Firmware",
        pattern(r"[A-Za-z0-9_][A-Za-z0-9_.]{0,100}(?:,[A-Za-z0-9_][A-Za-z0-9_.]{0,100}){0,19}"),
    ),
)
_DATABASES = (
    Format("ident", "a plain name such as orders", pattern(r"[A-Za-z_][A-Za-z0-9_]{0,62}")),
    Format(
        "qualified-ident",
        "a name such as public.orders",
        pattern(r"[A-Za-z_][A-Za-z0-9_]{0,62}(?:\.[A-Za-z_][A-Za-z0-9_]{0,62})?"),
    ),
    Format("redis-key", "a key", pattern(r"[^\x00-\x1f\x7f]{1,512}"), identifier=False),
    Format(
        "sql",
        "one SQL statement with ? for values",
        pattern(r"[^\x00-\x08\x0b\x0c\x0e-\x1f]+"),
        identifier=False,
        multiline=True,
        safe_start=False,
        constrained=False,
    ),
    Format(
        "json",
        "a JSON text",
        pattern(r"\s*[\[{\"0-9tfn-][^\x00]*"),
        identifier=False,
        multiline=True,
        safe_start=False,
        constrained=False,
    ),
)
_HOSTS = (
    Format(
        "sysctl",
        "a kernel setting such as vm.swappiness",
        pattern(r"[a-z0-9_]+(?:[./][A-Za-z0-9_:-]+){1,10}"),
    ),
    Format(
        "glob",
        "a name pattern such as *.log",
        pattern(r"[A-Za-z0-9_.*?\[+][A-Za-z0-9_.*?\[\]+:~ -]{0,127}"),
    ),
    Format(
        "since",
        "a time such as 2026-01-31, 1 hour ago, -1h or today",
        pattern(
            r"today|yesterday|now|\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?)?|"
            r"-?\d{1,6} ?(?:s|m|min|h|d|w|seconds?|minutes?|hours?|days?|weeks?)(?: ago)?"
        ),
        safe_start=False,
    ),
    Format(
        "duration", "a time span such as 30s, 10m or 14d", pattern(r"[1-9]\d{0,5}(?:ms|s|m|h|d|w)")
    ),
    Format(
        "regex-safe",
        "a regular expression of one line",
        pattern(r"[^\x00-\x1f\x7f]{1,256}"),
        identifier=False,
        safe_start=False,
        constrained=False,
    ),
    Format(
        "email",
        "a mail address",
        pattern(
            r"[A-Za-z0-9_.+-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}\.){1,8}[A-Za-z0-9-]{2,63}"
        ),
    ),
    Format(
        "promql",
        "a query",
        pattern(r"[^\x00-\x1f\x7f]{1,1024}"),
        identifier=False,
        safe_start=False,
        constrained=False,
    ),
    Format(
        "timezone",
        "a time zone such as Europe/Berlin",
        pattern(r"[A-Za-z][A-Za-z0-9_+]{1,30}(?:/[A-Za-z0-9_+-]{1,30}){0,2}"),
    ),
)
PLATFORM_FORMATS = (*_CLOUD, *_CONTAINERS, *_WINDOWS, *_NETWORK, *_DATABASES, *_HOSTS)
"""All of them."""
