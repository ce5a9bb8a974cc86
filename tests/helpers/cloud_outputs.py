"""What kubectl, helm, az, gcloud and crictl write for the shipped tools, shortened."""

from __future__ import annotations

_META = (
    '"metadata": {"name": "web", "namespace": "shop", "generation": 4, '
    '"annotations": {"deployment.kubernetes.io/revision": "4"}}'
)
_DEPLOYMENT = f"""{{
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    {_META},
    "spec": {{"replicas": 3, "selector": {{"matchLabels": {{"app": "web"}}}}}},
    "status": {{"availableReplicas": 3, "readyReplicas": 3}}
}}
"""
_RELEASE = """{"name":"shop","info":{"first_deployed":"2026-01-20T10:00:00.123456789Z",\
"last_deployed":"2026-02-03T10:00:00.123456789Z","deleted":"","description":"Upgrade complete",\
"status":"deployed","notes":"Visit https://shop.example.net\\n"},"config":{"replicas":2},\
"version":4,"namespace":"default"}
"""
_VM = """[
  {
    "hardwareProfile": {"vmSize": "Standard_B2s"},
    "location": "northeurope",
    "name": "web1",
    "powerState": "VM running",
    "privateIps": "10.0.0.4",
    "publicIps": "",
    "resourceGroup": "PROD",
    "tags": null,
    "zones": null
  }
]
"""
_EVENTS = """{
    "kind": "EventList",
    "apiVersion": "v1",
    "metadata": {},
    "items": [
        {"metadata": {"name": "web-0.17b"}, "reason": "BackOff", "type": "Warning", "count": 12,
         "message": "Back-off restarting failed container", "lastTimestamp": null,
         "involvedObject": {"kind": "Pod", "name": "web-0"}}
    ]
}
"""
_METRICS = """{"kind":"NodeMetricsList","apiVersion":"metrics.k8s.io/v1beta1","metadata":{},\
"items":[{"metadata":{"name":"node-1"},"timestamp":"2026-02-03T10:00:10Z","window":"20.043s",\
"usage":{"cpu":"183741628n","memory":"1827564Ki"}}]}
"""

OUTPUTS = {
    "az_account_show": '{\n  "environmentName": "AzureCloud",\n  "id": '
    '"00000000-0000-0000-0000-000000000001",\n  "isDefault": true,\n  "name": "Prod",\n'
    '  "state": "Enabled",\n  "user": {"name": "ops@example.net", "type": "user"}\n}\n',
    "az_storage_account_list": "[]\n",
    # These print nothing when they end well.
    "az_vm_deallocate": "",
    "az_vm_restart": "",
    "az_vm_start": "",
    "az_vm_list": _VM,
    "crictl_ps": '{\n  "containers": [\n    {"id": "5a0f", "podSandboxId": "9c1", "metadata": '
    '{"name": "web", "attempt": 0}, "state": "CONTAINER_RUNNING", "createdAt": '
    '"1706953200123456789", "labels": {}}\n  ]\n}\n',
    "gcloud_compute_instances_list": '[\n  {\n    "id": "4611686018427387904",\n    "name": "web1",'
    '\n    "status": "RUNNING",\n    "zone": "https://www.googleapis.com/compute/v1/projects/'
    'shop-prod/zones/europe-north1-a"\n  }\n]\n',
    "gcloud_compute_instances_start": "",
    "gcloud_compute_instances_stop": "",
    "gcloud_storage_ls": '[\n  {\n    "url": "gs://backups/a.sql.gz",\n'
    '    "type": "cloud_object",\n'
    '    "metadata": {"size": "1024"}\n  }\n]\n',
    "helm_history": '[{"revision":3,"updated":"2026-01-20T10:00:00.1Z","status":"superseded",'
    '"chart":"shop-1.4.1","app_version":"1.4.1","description":"Upgrade complete"},{"revision":4,'
    '"updated":"2026-02-03T10:00:00.1Z","status":"deployed","chart":"shop-1.4.2",'
    '"app_version":"1.4.2","description":"Upgrade complete"}]\n',
    "helm_list": '[{"name":"shop","namespace":"default","revision":"4","updated":"2026-02-03 '
    '10:00:00.1 +0000 UTC","status":"deployed","chart":"shop-1.4.2","app_version":"1.4.2"}]\n',
    "helm_rollback": "Rollback was a success! Happy Helming!\n",
    "helm_status": _RELEASE,
    "helm_uninstall": 'release "shop" uninstalled\n',
    "helm_upgrade": _RELEASE,
    "kubectl_api_resources": "bindings          v1       true    Binding\n"
    "configmaps   cm   v1       true    ConfigMap\n",
    "kubectl_apply": _DEPLOYMENT,
    "kubectl_cordon": "node/node-1 cordoned\n",
    "kubectl_delete": "configmap/old-config\n",
    "kubectl_describe": "Name:         web-0\nNamespace:    shop\nStatus:       Running\n"
    "Events:       <none>\n",
    "kubectl_drain": "node/node-1 cordoned\nWarning: ignoring DaemonSet-managed Pods: "
    "kube-system/kube-proxy-7x2\nevicting pod shop/web-0\npod/web-0 evicted\nnode/node-1 drained\n",
    "kubectl_events": _EVENTS,
    "kubectl_get": '{\n    "apiVersion": "v1",\n    "items": [],\n    "kind": "List",\n'
    '    "metadata": {"resourceVersion": ""}\n}\n',
    "kubectl_logs": "2026-02-03T10:00:00.123456789Z started\n2026-02-03T10:00:01.000000001Z \n",
    "kubectl_rollout_history": "deployment.apps/web \nREVISION  CHANGE-CAUSE\n3         <none>\n"
    "4         <none>\n\n",
    "kubectl_rollout_restart": _DEPLOYMENT,
    "kubectl_rollout_status": 'deployment "web" successfully rolled out\n',
    "kubectl_rollout_undo": _DEPLOYMENT,
    "kubectl_scale": _DEPLOYMENT,
    "kubectl_set_image": _DEPLOYMENT,
    "kubectl_top_nodes": _METRICS,
    "kubectl_top_pods": _METRICS.replace("NodeMetrics", "PodMetrics"),
    "kubectl_uncordon": "node/node-1 uncordoned\n",
    "kubectl_version": '{\n  "clientVersion": {"major": "1", "minor": "29", "gitVersion": "v1.29.1"'
    '},\n  "kustomizeVersion": "v5.0.4",\n  "serverVersion": {"major": "1", "minor": "28+", '
    '"gitVersion": "v1.28.5-eks-5e0fdde"}\n}\n',
}
"""By name of the tool."""

CAPTURED = {
    "revision": ("4", {"revision": 4}),
    "replicas": ("3", {"replicas": 3}),
    "cordoned": ("", {"cordoned": False}),
}
"""By name of the captured value: what kubectl prints, and what is read."""

HELM_NONE = "Error: release: not found\n"
HELM_DOWN = "Error: Kubernetes cluster unreachable: dial tcp 10.0.0.9:6443: i/o timeout\n"
