#!/bin/sh
# Installs packages while an image is built: apt-install.sh [--upgrade] [PACKAGE[=VERSION] ...]
#
#   --upgrade          first bring what the base image holds to the archive state that is asked for
#   $SNAPSHOT          archive state by Debian's snapshot service (apt asks it by itself); empty: the mirror's own state
#   secret ca          certificates to trust besides none at all (a slim base has no bundle, a company proxy its own)
#   secret apt-source  one line for sources.list, instead of what the base image says
#
# Neither secret, list nor log stays in the layer.
set -eu
export DEBIAN_FRONTEND=noninteractive

upgrade=no
if [ "${1:-}" = --upgrade ]; then
    upgrade=yes
    shift
fi

APT_CONFIG=$(mktemp)
export APT_CONFIG
trap 'rm -f "$APT_CONFIG"' EXIT
{
    echo 'APT::Install-Recommends "false";'
    echo 'Acquire::Check-Valid-Until "false";' # a snapshot is older than its Release file promises to be valid
    echo 'Acquire::Retries "3";'
    echo 'APT::Update::Error-Mode "any";' # else a snapshot out of reach would be a warning, and nothing upgraded
    if [ -n "${SNAPSHOT:-}" ]; then echo "APT::Snapshot \"$SNAPSHOT\";"; fi
    if [ -s /run/secrets/ca ]; then
        echo 'Acquire::https::CAInfo "/run/secrets/ca";'
    elif [ ! -e /etc/ssl/certs/ca-certificates.crt ]; then
        # No certificate to check with: the archive's own signature, which apt always checks, then stands alone.
        echo 'Acquire::https::Verify-Peer "false";'
    fi
    if [ -s /run/secrets/apt-source ]; then
        echo 'Dir::Etc::SourceList "/run/secrets/apt-source";'
        echo 'Dir::Etc::SourceParts "/dev/null";'
    fi
} >"$APT_CONFIG"

apt-get -q update
if [ "$upgrade" = yes ]; then apt-get -q -y dist-upgrade; fi
if [ "$#" -gt 0 ]; then apt-get -q -y install "$@"; fi

rm -rf /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old \
    /var/lib/dpkg/*-old /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow-
find / -xdev -perm /6000 \( -type f -o -type d \) -exec chmod a-s {} +
