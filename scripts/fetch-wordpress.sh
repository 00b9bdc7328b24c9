#!/bin/sh
# Fetches a real WordPress and wp-cli into target/wordpress: from the package `wp-studio` of the npm
# registry, of which no script is run. Does nothing when they are there.
set -eu
cd "$(dirname "$0")/.."

# Carries WordPress 7.1.1 and wp-cli 2.12. Moves on purpose and never by itself.
STUDIO_VERSION=1.22.0

to=target/wordpress
[ -f "$to/version" ] && [ "$(cat "$to/version")" = "$STUDIO_VERSION" ] && exit 0

printf 'fetch-wordpress: wp-studio %s (65 MB, once)\n' "$STUDIO_VERSION"
mkdir -p target
work=$(mktemp -d target/fetch-wordpress.XXXXXX)
trap 'rm -rf "$work"' EXIT INT TERM
(cd "$work" && npm pack --silent "wp-studio@$STUDIO_VERSION" >/dev/null)
files=package/dist/cli/wp-files
tar -xzf "$work/wp-studio-$STUDIO_VERSION.tgz" -C "$work" "$files/latest/wordpress" "$files/wp-cli/wp-cli.phar"
rm -rf "$to"
mkdir "$to"
mv "$work/$files/latest/wordpress" "$to/wordpress"
mv "$work/$files/wp-cli/wp-cli.phar" "$to/wp-cli.phar"
printf '%s\n' "$STUDIO_VERSION" >"$to/version"
