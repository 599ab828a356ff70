#!/bin/sh
# Put the host driver into an OpenNebula front-end, from where "onehost sync" takes it to the hosts.
set -eu

usage() {
    cat <<'EOT'
usage: install.sh [--dir DIR] [--uninstall] [--help]

Copies the KVM driver "kvm_py" into OpenNebula's remotes directory:
  $ONE_LOCATION/var/remotes if ONE_LOCATION is set, else /var/lib/one/remotes.
  --dir DIR     use DIR as the remotes directory (made if missing)
  --uninstall   remove what a former run put there; a changed okm.conf stays
Run it as root (files then get the owner of the remotes directory) or as oneadmin.
Running it again updates the driver and keeps the site's okm.conf.
EOT
}

fail() {
    printf 'install.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

source_dir=$(cd "$(dirname "$0")" && pwd)
remotes=${ONE_LOCATION:+$ONE_LOCATION/var/remotes}
remotes=${remotes:-/var/lib/one/remotes}
chosen=no
uninstall=no

while [ $# -gt 0 ]; do
    case $1 in
        --dir)
            [ $# -ge 2 ] && [ -n "$2" ] || fail "--dir needs a directory" 2
            remotes=$2 chosen=yes
            shift
            ;;
        --uninstall) uninstall=yes ;;
        --help | -h)
            usage
            exit 0
            ;;
        *) fail "unknown argument $1; try --help" 2 ;;
    esac
    shift
done

driver=$remotes/vmm/kvm_py
conf=$remotes/etc/vmm/kvm/okm.conf
if [ "$driver" -ef "$source_dir/remotes/vmm/kvm_py" ]; then
    fail "$remotes is where the driver is installed from; name another directory" 2
fi

if [ "$uninstall" = yes ]; then
    if [ ! -e "$driver" ] && [ ! -e "$conf" ]; then
        printf 'nothing to remove: the driver is not installed in %s\n' "$remotes"
        exit 0
    fi
    rm -rf "$driver"
    if cmp -s "$conf" "$source_dir/remotes/etc/vmm/kvm/okm.conf"; then
        rm -f "$conf"
    elif [ -e "$conf" ]; then
        printf 'kept %s, which was changed\n' "$conf"
    fi
    # In OpenNebula's own tree these are never empty; in a directory of its own nothing stays.
    for dir in "$(dirname "$conf")" "$remotes/etc/vmm" "$remotes/etc" "$remotes/vmm"; do
        rmdir "$dir" 2>/dev/null || true
    done
    if [ "$chosen" = yes ]; then rmdir "$remotes" 2>/dev/null || true; fi
    printf 'removed the driver from %s\n' "$remotes"
    printf 'Next: ARGUMENTS of VM_MAD must say kvm again; then run "onehost sync --force" as oneadmin\n'
    exit 0
fi

[ "$chosen" = yes ] || [ -d "$remotes" ] ||
    fail "no OpenNebula front-end here: $remotes does not exist; name it with --dir" 4
mkdir -p "$remotes/vmm" "$(dirname "$conf")" || fail "cannot write to $remotes"

# Built aside and swapped in, so that a host that syncs meanwhile never gets half a driver.
new=$remotes/vmm/.kvm_py.new.$$
old=$remotes/vmm/.kvm_py.old.$$
trap 'rm -rf "$new" "$old"' EXIT
trap 'exit 1' HUP INT TERM
package=$new/lib/one_kvm_migrate
mkdir -p "$package/vmm/actions"
for file in "$source_dir"/remotes/vmm/kvm_py/*; do
    [ -f "$file" ] && install -m 755 "$file" "$new/"
done
for module in __init__ errors units deadline; do
    install -m 644 "$source_dir/one_kvm_migrate/$module.py" "$package/"
done
install -m 644 "$source_dir"/one_kvm_migrate/vmm/*.py "$package/vmm/"
install -m 644 "$source_dir"/one_kvm_migrate/vmm/actions/*.py "$package/vmm/actions/"
# onehost sync deletes what it does not know on the hosts, so the compiled form has to be part of it.
if [ -x /usr/bin/python3 ]; then
    (cd "$new/lib" && /usr/bin/python3 -IS -m compileall -q one_kvm_migrate)
fi
if [ -d "$driver" ]; then mv "$driver" "$old"; fi
mv "$new" "$driver"
[ -e "$conf" ] || install -m 644 "$source_dir/remotes/etc/vmm/kvm/okm.conf" "$conf"
# The front-end's processes run as the owner of the remotes directory.
owner=$(stat -c %u:%g "$remotes")
if [ "$(id -u)" = 0 ]; then chown -R "$owner" "$driver" "$conf"; fi
printf 'installed the driver kvm_py in %s\n' "$remotes"
printf 'Next: run "onehost sync --force" as oneadmin, then switch it on in oned.conf: see %s\n' \
    "$source_dir/templates/README.md"
