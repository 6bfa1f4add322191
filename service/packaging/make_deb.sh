#!/bin/sh
# Builds mlops-workspace_VERSION_ARCHITECTURE.deb.
# Usage: make_deb.sh BINARY VERSION DIRECTORY
#   BINARY     workspaced; the package gets a stripped copy
#   DIRECTORY  where to put the package
# Equal inputs result in equal packages.
set -eu
binary=$(realpath "$1")
version=$2
out=$(realpath "$3")
cd "$(dirname "$0")"

architecture=$(dpkg --print-architecture)
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
doc=$root/usr/share/doc/mlops-workspace

install -D "$binary" "$root/usr/bin/workspaced"
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$root/usr/bin/workspaced"
install -D -m 644 workspaced.toml "$root/etc/mlops-workspace/workspaced.toml"
install -D -m 644 mlops-workspace.service "$root/lib/systemd/system/mlops-workspace.service"
install -D -m 644 mlops-workspace-user.service "$root/usr/lib/systemd/user/mlops-workspace.service"
install -D -m 644 mlops-workspace.lintian-overrides "$root/usr/share/lintian/overrides/mlops-workspace"
install -d "$doc" "$root/usr/share/man/man1"
gzip -9n <workspaced.1 >"$root/usr/share/man/man1/workspaced.1.gz"
{
  echo "mlops-workspace ($version) stable; urgency=medium"
  printf '\n  * See CHANGELOG.md.gz.\n\n'
  echo " -- The mlops-workspace authors <maintainers@users.noreply.r-seed-b6e5da5a.example>  $(date -Rud "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$doc/changelog.gz"
gzip -9n <../../CHANGELOG.md >"$doc/CHANGELOG.md.gz"
# The paragraphs of a licence are indented, with dots for empty lines.
license=$(sed -e 1,4d -e 's/^$/./' -e 's/^/ /' ../../LICENSE)
awk -v license="$license" '$0 == "@LICENSE@" {exit} {print}' debian/copyright |
  sed '$d' >"$doc/copyright"
echo "$license" >>"$doc/copyright"

install -d "$root/DEBIAN"
size=$(du -k -s --apparent-size "$root" | cut -f1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@SIZE@/$size/" \
  debian/control.in >"$root/DEBIAN/control"
install -m 644 debian/conffiles debian/templates "$root/DEBIAN"
install debian/postinst debian/prerm debian/postrm "$root/DEBIAN"
(cd "$root" && find etc lib usr -type f -exec md5sum {} + | sort -k2) >"$root/DEBIAN/md5sums"
chmod 644 "$root/DEBIAN/md5sums" "$doc"/*

find "$root" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group ${DEB_COMPRESSION:+"-Z$DEB_COMPRESSION"} --build "$root" \
  "$out/mlops-workspace_${version}_$architecture.deb"
