#!/bin/sh
# Run the command line with the settings of the service, as root. Install with:
#   install -m 755 deploy/harborguard.sh /usr/local/sbin/harborguard
set -a
# The EnvironmentFile= of the unit.
[ ! -r /etc/harborguard/environment ] || . /etc/harborguard/environment
DATABASE_URL_FILE=${DATABASE_URL_FILE:-/etc/harborguard/database-url}
exec /opt/harborguard/.venv/bin/harborguard "$@"
