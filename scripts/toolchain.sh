# shellcheck shell=bash
# Sourced by the other scripts.
#
# Parts of the image are kept in CORACLE_CACHE, by default the user's cache folder, so that neither a
# fresh clone nor another CORACLE_HOME makes them again.
CORACLE_CACHE=${CORACLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/coracle}
export CORACLE_CACHE

# rust-toolchain.toml pins a version; where rustup has that version
# under another name only, such as `stable`, and cannot download, that one is used.
pinned_rust=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
if [ -z "${RUSTUP_TOOLCHAIN-}" ] && command -v rustup >/dev/null; then
    installed=$(rustup toolchain list 2>/dev/null | cut -d ' ' -f 1)
    if ! grep -q "^$pinned_rust-" <<<"$installed"; then
        for name in $installed; do
            if [ "$(rustup run "$name" rustc --version 2>/dev/null | cut -d ' ' -f 2)" = "$pinned_rust" ]; then
                export RUSTUP_TOOLCHAIN=$name
                break
            fi
        done
    fi
    unset installed name
fi
