#!/bin/sh
# The command line with the service's own settings, for root:
#   install -m 755 deploy/harborguard.sh /usr/local/sbin/harborguard
set -a
# What the unit's EnvironmentFile= reads.
[ ! -r /etc/harborguard/environment ] || . /etc/harborguard/environment
DATABASE_URL_FILE=${DATABASE_URL_FILE:-/etc/harborguard/database-url}
exec /opt/harborguard/.venv/bin/harborguard "$@"
