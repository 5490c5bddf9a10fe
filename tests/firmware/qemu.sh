#!/bin/bash
# QEMU with the hardware that another hypervisor shows: the machine starts by its firmware, from the ISO,
# with disks and a network card that are not virtio's. Everything else is as Coracle asked for.
#   ISO       the ISO
#   FIRMWARE  a UEFI for the processor; empty for the BIOS that QEMU has
#   DISKS     sata (a CD drive and disks on one controller) or scsi (all are disks)
#   CARD      the network card's model
set -eu
case " $* " in
    *" -netdev "*) ;;
    *) exec "$REAL_QEMU" "$@" ;;
esac
args=()
card=""
while [ $# -gt 0 ]; do
    option=$1 value=${2-}
    case "$option $value" in
        -kernel* | -initrd* | -append*) shift 2; continue ;;
        *node-name=root* | *node-name=layer* | *drive=root,* | *drive=layer,*) shift 2; continue ;;
        "-device virtio-net-pci,"*) value="$CARD,${value#virtio-net-pci,}"; card=yes ;;
        "-device virtio-blk-pci,"*)
            drive=${value#*drive=} drive=${drive%%,*}
            case $DISKS-$drive in
                sata-data) value="ide-hd,bus=ide.1,id=disk-data,drive=data,werror=enospc,rerror=report" ;;
                sata-*) value="ide-cd,bus=ide.2,drive=$drive" ;;
                scsi-data) value="scsi-hd,id=disk-data,drive=data,werror=enospc,rerror=report" ;;
                scsi-*) value="scsi-hd,drive=$drive" ;;
            esac
            ;;
    esac
    case $option in
        -no-* | -nodefaults) args+=("$option"); shift ;;
        *) args+=("$option" "$value"); shift 2 ;;
    esac
    if [ "$option" = -msg ]; then
        # Before any disk: what the machine starts from, and what the others are attached to.
        args+=(-blockdev "driver=file,node-name=iso-file,read-only=on,filename=$ISO")
        args+=(-blockdev driver=raw,node-name=iso,file=iso-file,read-only=on)
        case $DISKS in
            sata) args+=(-device ide-cd,bus=ide.0,drive=iso,bootindex=0) ;;
            scsi) args+=(-device virtio-scsi-pci,id=scsi,bus=pcie.0,addr=0x8 -device scsi-hd,drive=iso,bootindex=0) ;;
        esac
        if [ -n "$FIRMWARE" ]; then
            args+=(-drive "if=pflash,format=raw,readonly=on,file=$FIRMWARE")
        fi
    fi
done
[ -n "$card" ] || { echo "no network card was asked for" >&2; exit 1; }
exec "$REAL_QEMU" "${args[@]}"
