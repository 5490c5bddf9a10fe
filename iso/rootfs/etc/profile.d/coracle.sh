# kubectl and crictl find this machine's own cluster and containers.
export KUBECONFIG="${KUBECONFIG:-/etc/kubernetes/admin.conf}"
export CONTAINERD_ADDRESS=/run/containerd/containerd.sock CONTAINERD_NAMESPACE=k8s.io
