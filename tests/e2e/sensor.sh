#!/bin/sh
# Uploads a report as a sensor does, and prints the body and the status of the response.
#
#   HARBORGUARD_KEY=hg_ak_... sensor.sh http://localhost:8000 report.json [image reference]
set -eu

url="$1/api/scans/upload"
if [ $# -gt 2 ]; then
    url="$url?image=$3"
fi
# The key is passed by standard input, so that it does not appear in the process list.
printf 'header = "Authorization: Bearer %s"\n' "$HARBORGUARD_KEY" |
    curl --silent --show-error --config - \
        --header 'Content-Type: application/json' \
        --data-binary "@$2" \
        --write-out '\n%{http_code}\n' \
        "$url"
