#!/bin/sh
# Remove what runs left behind: caches, the hosts' images, and the folders of scenarios in .work. Whatever is
# in use stays: an image that a container was made of, the folder of a demo or a kept host that runs.
set -eu

cd "$(dirname "$0")/.."

rm -rf .cache/images .cache/peers .cache/wheel .mypy_cache .ruff_cache .pytest_cache bot/dist

# Its venue, its time server or its machine still runs.
in_use() {
    for file in "$1"/*.pid "$1"/*/*.pid; do
        [ -e "$file" ] && [ -d "/proc/$(cat "$file")" ] && return 0
    done
    return 1
}

for left in .work/*; do
    [ -e "$left" ] || continue
    if in_use "$left"; then
        echo "$left stays, its host runs"
    else
        rm -rf "$left"
    fi
done

command -v podman >/dev/null || exit 0
podman=podman
[ "$(id -u)" = 0 ] || podman="sudo podman"
for image in $($podman images --quiet localhost/watchkeeper-host 2>/dev/null); do
    # podman refuses while a container was made of it.
    $podman rmi "$image" >/dev/null 2>&1 || echo "image $image stays, a host was made of it"
done
