#!/bin/sh
# Run by udhcpc for what it hears: prints a lease in one line, which iso/agent/src/uplink.rs reads.
case $1 in
    bound | renew) echo "lease $ip/$mask router=${router%% *} dns=${dns%% *}" ;;
esac
