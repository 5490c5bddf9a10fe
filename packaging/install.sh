#!/bin/sh
# Installs Coracle @VERSION@ for this user, without root:
#
#   curl -fsSL @URL@/install.sh | sh
#   sh install.sh --to FOLDER      the folder of the program, instead of ~/.local/bin
#   sh install.sh --remove         removes what it installed
#
# The archive is fetched from CORACLE_INSTALL_URL, or else from where this release is, and used only if it
# is, to the byte, the one that this script was made for. An older Coracle is replaced; clusters and
# settings are not touched.
set -eu

url=${CORACLE_INSTALL_URL:-@URL@}

# What `uname -s` and `uname -m` say, the archive, its SHA-256.
programs='
%if x86_64-unknown-linux-gnu
Linux x86_64 @ARCHIVE:x86_64-unknown-linux-gnu@ @SHA256:x86_64-unknown-linux-gnu@
%end
%if aarch64-unknown-linux-gnu
Linux aarch64 @ARCHIVE:aarch64-unknown-linux-gnu@ @SHA256:aarch64-unknown-linux-gnu@
%end
%if x86_64-apple-darwin
Darwin x86_64 @ARCHIVE:x86_64-apple-darwin@ @SHA256:x86_64-apple-darwin@
%end
%if aarch64-apple-darwin
Darwin arm64 @ARCHIVE:aarch64-apple-darwin@ @SHA256:aarch64-apple-darwin@
%end
'

say() { printf 'coracle: %s\n' "$*" >&2; }

fail() {
    say "$*"
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

sha256() {
    if has sha256sum; then
        sha256sum "$1" | cut -d ' ' -f 1
    elif has shasum; then
        shasum -a 256 "$1" | cut -d ' ' -f 1
    elif has openssl; then
        openssl dgst -r -sha256 "$1" | cut -d ' ' -f 1
    else
        fail "nothing here can verify the download: install sha256sum, shasum or openssl"
    fi
}

fetch() {
    if has curl; then
        curl --fail --silent --show-error --location --retry 3 --output "$2" "$1"
    elif has wget; then
        wget --quiet --tries=3 --output-document="$2" "$1"
    else
        fail "nothing here can download: install curl or wget"
    fi || fail "cannot download $1; CORACLE_INSTALL_URL may name another place that has the release"
}

# Puts a file in place at once: whoever runs or reads the old one meanwhile is not disturbed.
put() {
    mkdir -p "$(dirname "$3")"
    cp "$2" "$3.new.$$"
    chmod "$1" "$3.new.$$"
    mv -f "$3.new.$$" "$3"
}

remove() {
    rm -f "$bin/coracle" \
        "$share/bash-completion/completions/coracle" \
        "$share/zsh/site-functions/_coracle" \
        "$share/fish/vendor_completions.d/coracle.fish" \
        "$share/man/man1/coracle.1" "$share"/man/man1/coracle-*.1
    say "removed $bin/coracle; clusters and settings are still there: before you remove the program, \`coracle delete --all --purge\` removes them"
}

main() {
    bin=$HOME/.local/bin
    share=${XDG_DATA_HOME:-$HOME/.local/share}
    removing=no
    while [ "$#" -gt 0 ]; do
        case "$1" in
            --to)
                [ "$#" -ge 2 ] || fail "--to takes a folder"
                bin=$2
                shift
                ;;
            --remove) removing=yes ;;
            *) fail "unknown argument $1; there are --to FOLDER and --remove" ;;
        esac
        shift
    done
    case "$bin" in
        /*) ;;
        *) bin=$PWD/$bin ;;
    esac
    if [ "$removing" = yes ]; then
        remove
        return
    fi

    system=$(uname -s) machine=$(uname -m)
    # shellcheck disable=SC2086 # words are wanted
    set -- $programs
    archive=
    while [ "$#" -ge 4 ]; do
        if [ "$1 $2" = "$system $machine" ]; then
            archive=$3 wanted=$4
        fi
        shift 4
    done
    [ -n "$archive" ] || fail "this release has no program for $system on $machine; build it from its sources"

    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    say "downloading $url/$archive"
    fetch "$url/$archive" "$work/$archive"
    got=$(sha256 "$work/$archive")
    [ "$got" = "$wanted" ] || fail "$url/$archive is not what this release has: its SHA-256 is $got and should be $wanted; nothing was installed"
    tar -xzf "$work/$archive" -C "$work"
    from=$work/${archive%.tar.gz}

    for page in "$from"/man/*.1; do
        put 644 "$page" "$share/man/man1/${page##*/}"
    done
    put 644 "$from/completions/coracle.bash" "$share/bash-completion/completions/coracle"
    put 644 "$from/completions/_coracle" "$share/zsh/site-functions/_coracle"
    put 644 "$from/completions/coracle.fish" "$share/fish/vendor_completions.d/coracle.fish"
    put 755 "$from/coracle" "$bin/coracle"
    "$bin/coracle" version --client >/dev/null || fail "$bin/coracle is installed and does not run here"

    say "installed $bin/coracle, its man pages and completions"
    case ":$PATH:" in
        *":$bin:"*) say "\`coracle start\` makes a cluster" ;;
        *)
            say "$bin is not on your PATH. This adds it for new shells:"
            case "${SHELL:-}" in
                */fish) say "  fish_add_path '$bin'" ;;
                */zsh) say "  echo 'export PATH=\"$bin:\$PATH\"' >>~/.zshrc" ;;
                */bash) say "  echo 'export PATH=\"$bin:\$PATH\"' >>~/.bashrc" ;;
                *) say "  echo 'export PATH=\"$bin:\$PATH\"' >>~/.profile" ;;
            esac
            ;;
    esac
}

# A download of this script that breaks off runs nothing.
main "$@"
