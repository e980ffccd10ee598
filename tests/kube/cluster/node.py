"""The node: configuration and command lines of containerd, kubelet and kube-proxy.

Control groups are version 1 or 2, whatever the machine has; the cgroupfs driver works on both. Nothing
here needs CAP_SYS_RESOURCE, which build machines often withhold: no score below the current one is asked
for, which is what `restrict_oom_score_adj` and `oomScoreAdj: 0` are for (runc dies otherwise with
'can't get final child's PID from pipe').
"""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.kube.cluster.places import (
    CGROUP,
    DNS_SERVICE_ADDRESS,
    NODE_ADDRESS,
    NODE_NAME,
    POD_RANGE,
    Places,
)

PAUSE_IMAGE = "localhost/labwright/pause:test"
CNI_PLUGINS = "/usr/lib/cni"


def containerd_config(root: Path, state: Path, socket: Path, cni: Path) -> str:
    return f"""\
version = 2
root = "{root}"
state = "{state}"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def pod_network() -> dict[str, object]:
    """Point-to-point links, not a bridge: every packet between pods is routed, where policies see it."""
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/labwright/addresses",
                    "ranges": [[{"subnet": POD_RANGE}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def kubelet_config(places: Places) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{places.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "maxOpenFiles": 20000,
        "address": NODE_ADDRESS,
        "tlsCertFile": str(places.pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(places.pki / "kubelet.key"),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(places.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDomain": "cluster.local",
        "clusterDNS": [DNS_SERVICE_ADDRESS],
        "resolvConf": str(places.state / "resolv.conf"),
        "enforceNodeAllocatable": ["pods"],
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        # No registry can give an image back.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "maxPods": 200,
        "serializeImagePulls": False,
        "volumePluginDir": str(places.state / "volume-plugins"),
        "podLogsDir": str(places.logs / "pods"),
        "syncFrequency": "10s",
        "nodeStatusUpdateFrequency": "5s",
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
    }


def proxy_config(places: Places) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": POD_RANGE,
        "clientConnection": {"kubeconfig": str(places.kubeconfig.parent / "proxy")},
        "hostnameOverride": NODE_NAME,
        "bindAddress": NODE_ADDRESS,
        "oomScoreAdj": 0,
        "iptables": {"minSyncPeriod": "0s"},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def write(places: Places) -> None:
    cni = places.state / "cni"
    cni.mkdir()
    (cni / "10-pods.conflist").write_text(json.dumps(pod_network(), indent=1))
    run = places.containerd_socket.parent
    (places.state / "containerd.toml").write_text(
        containerd_config(places.store, run / "containerd", places.containerd_socket, cni)
    )
    (places.state / "kubelet.yaml").write_text(yaml.safe_dump(kubelet_config(places)))
    (places.state / "proxy.yaml").write_text(yaml.safe_dump(proxy_config(places)))
    # Only cluster names: there is no outside to ask about others.
    (places.state / "resolv.conf").write_text("options timeout:2\n")


def containerd(places: Places) -> list[str]:
    return ["containerd", "--config", str(places.state / "containerd.toml"), "--log-level", "warn"]


def kubelet(places: Places) -> list[str]:
    return [
        str(places.program("kubelet")),
        f"--config={places.state / 'kubelet.yaml'}",
        f"--kubeconfig={places.kubeconfig.parent / 'kubelet'}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={NODE_ADDRESS}",
        f"--root-dir={places.state / 'kubelet'}",
        f"--cert-dir={places.pki}",
    ]


def proxy(places: Places) -> list[str]:
    return [str(places.program("kube-proxy")), f"--config={places.state / 'proxy.yaml'}"]
