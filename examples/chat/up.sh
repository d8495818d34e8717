#!/bin/sh
# Builds the images of the chat, starts it with Docker, and gives its people accounts. It can be run again at any time.
#
#   examples/chat/up.sh [GX]
#
# GX is the program that goes into the images; without it the `gx` on the PATH. compose.yaml says what comes next.
set -eu

fail() { echo "up.sh: $1" >&2; exit 1; }

here=$(cd "$(dirname "$0")" && pwd)
images=$here/../../images
gx=${1:-$(command -v gx)} || fail "no gx is on the PATH: \`cargo xtask install\` puts it there, or name one: up.sh GX"
[ -x "$gx" ] || fail "$gx is not a program: name gx itself"
tag=${GX_CHAT_TAG:-latest}

if docker compose version >/dev/null 2>&1; then
    program='docker compose'
elif command -v docker-compose >/dev/null; then
    program=docker-compose
else
    fail "docker compose is missing: install docker-compose-v2, docker-compose-plugin or docker-compose"
fi
# In two words or in one.
compose() { $program --file "$here/compose.yaml" "$@"; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# What is in both images: the program, the libraries it is linked with as they are on this machine, one user.
root=$work/root
mkdir -p "$root/usr/bin" "$root/etc/gx" "$root/var/lib/gx" "$root/tmp"
strip -o "$root/usr/bin/gx" "$gx" 2>/dev/null || cp "$gx" "$root/usr/bin/gx"
ldd "$gx" | awk '{ for (i = 1; i <= NF; i++) if ($i ~ /^\//) print $i }' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
echo 'gx:x:10001:10001:gx:/var/lib/gx:/usr/bin/gx' >"$root/etc/passwd"
echo 'gx:x:10001:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
chmod -R u=rwX,go=rX "$root"
chmod 755 "$root/usr/bin/gx"
chmod 1777 "$root/tmp"

# The same content gives the same bytes, so that Docker knows what it has built before.
archive() { tar --sort=name --mtime=@0 --numeric-owner --directory "$root" --file "$work/rootfs.tar" "$@"; }
archive --create --owner=0 --group=0 --exclude=./var/lib/gx .
archive --append --owner=10001 --group=10001 --mode=700 ./var/lib/gx

cp "$here/army.toml" "$work/policy.toml"
for image in chat-server chat-client; do
    echo "up.sh: building gx-$image:$tag"
    cp "$images/$image/"* "$work/"
    # Docker's classic builder is in every engine; the newer one is a package of its own.
    tar --directory "$work" --exclude=./root --exclude=./said --create . |
        DOCKER_BUILDKIT=0 docker build --quiet --file Containerfile --tag "gx-$image:$tag" - >"$work/said" 2>&1 ||
        fail "docker build: $(cat "$work/said")"
done

echo "up.sh: starting the server"
compose up --detach server

# Whose key is whose: a node's id is no secret, and nobody has a password.
for person in commander:ChiefCommander marshal:NavyMarshal navy7:Navy7; do
    service=${person%%:*} user=${person#*:}
    echo "up.sh: an account for $user"
    node=$(compose run --rm -T --entrypoint gx "$service" id)
    compose exec -T server gx chat user add "$user" --node "$node" >/dev/null
done

cat <<END
up.sh: the chat runs. To talk, each in a terminal:
  $program --file $here/compose.yaml run --rm navy7       (or marshal, or commander)
To end it; with --volumes what was said is deleted, too:
  $program --file $here/compose.yaml down
END
