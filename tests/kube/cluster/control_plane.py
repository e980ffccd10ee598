"""The command lines of etcd, the API server, the controllers and the scheduler."""

from __future__ import annotations

from tests.kube.cluster.places import API_PORT, NODE_ADDRESS, POD_RANGE, SERVICE_RANGE, Places

ETCD = "http://127.0.0.1:2379"


def etcd(places: Places) -> list[str]:
    # A test cluster's data is thrown away: syncing every write to disk would only slow it down.
    return [
        "etcd",
        f"--data-dir={places.state / 'etcd'}",
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--quota-backend-bytes=2147483648",
        "--auto-compaction-retention=5m",
        "--log-level=warn",
    ]


def api_server(places: Places) -> list[str]:
    pki = places.pki
    return [
        str(places.program("kube-apiserver")),
        f"--etcd-servers={ETCD}",
        "--bind-address=0.0.0.0",
        f"--advertise-address={NODE_ADDRESS}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--anonymous-auth=false",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--requestheader-client-ca-file={pki / 'ca.crt'}",
        "--requestheader-allowed-names=nobody",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--kubelet-client-certificate={pki / 'apiserver-to-kubelet.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-to-kubelet.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki / 'service-accounts.pub'}",
        f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
        f"--cert-dir={pki}",
        # The storm tests create thousands of objects at once from one client.
        "--max-requests-inflight=800",
        "--max-mutating-requests-inflight=400",
        # Streamed lists need progress notifications, which Debian's etcd does not have. Clients that ask for one
        # and are told 'not supported' list and watch; told of an error, as without this, they wait up to 40 s.
        "--feature-gates=WatchList=false",
        "--profiling=false",
    ]


def controllers(places: Places) -> list[str]:
    config = places.kubeconfig.parent / "controllers"
    return [
        str(places.program("kube-controller-manager")),
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--use-service-account-credentials",
        f"--root-ca-file={places.pki / 'ca.crt'}",
        f"--service-account-private-key-file={places.pki / 'service-accounts.key'}",
        f"--flex-volume-plugin-dir={places.state / 'volume-plugins'}",
        f"--cluster-cidr={POD_RANGE}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        f"--cert-dir={places.pki}",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        # A busy machine renews the leases of simulated nodes late; they are not to be tainted for that.
        "--node-monitor-grace-period=300s",
        # Quotas are counted again at every change; this bounds how long a missed change may stand.
        "--resource-quota-sync-period=10s",
        "--profiling=false",
    ]


def scheduler(places: Places) -> list[str]:
    config = places.kubeconfig.parent / "scheduler"
    return [
        str(places.program("kube-scheduler")),
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        f"--cert-dir={places.pki}",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--profiling=false",
    ]


def kwok(places: Places) -> list[str]:
    """Simulates only the nodes that say so: the real kubelet keeps the real node."""
    return [
        str(places.program("kwok")),
        f"--kubeconfig={places.kubeconfig}",
        f"--config={places.program('kwok-stages.yaml')}",
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        "--node-ip=10.10.0.3",
        "--cidr=10.245.0.1/16",
        "--node-lease-duration-seconds=40",
    ]
