#!/bin/bash
# QEMU with a network that gives machines addresses of its own choice: 192.168.76.0/24, whose router leads
# to the host. Everything else is as Coracle asked for.
set -eu
args=()
for argument in "$@"; do
    case $argument in
        user,id=net) argument+=,net=192.168.76.0/24,host=192.168.76.2,dns=192.168.76.3,dhcpstart=192.168.76.15 ;;
    esac
    args+=("$argument")
done
exec "$REAL_QEMU" "${args[@]}"
