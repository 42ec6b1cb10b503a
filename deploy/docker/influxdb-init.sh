#!/usr/bin/env bash
# InfluxDB 2's image runs this once, after it has made the organisation and the bucket and before it serves anybody.
# It lets the bucket be asked by InfluxQL, and makes one right for each of those who come later:
#   collector   a token that writes           /handover/collector/token
#   console     a token that reads            /handover/console/token
#   Grafana     user `reader`, which reads    its password is already in /run/identity
# Should it fail, the image wipes what was made, and the next start tries again.
set -euo pipefail

bucket=$DOCKER_INFLUXDB_INIT_BUCKET_ID
org=$DOCKER_INFLUXDB_INIT_ORG
database=$DOCKER_INFLUXDB_INIT_BUCKET

# The name of the right's holder, the right, the file.
hand_over() {
  local answer token
  answer=$(influx auth create --org "$org" --description "$1" "$2" "$bucket" --json)
  token=$(sed -n 's/.*"token": *"\([^"]*\)".*/\1/p' <<<"$answer")
  [[ -n $token ]] || { echo "influxdb-init: no token for $1" >&2; exit 1; }
  # Whoever mounts this folder is the one reader; users differ between images, so the mode cannot say it.
  printf '%s' "$token" >"$3.new"
  chmod 0444 "$3.new"
  mv -f "$3.new" "$3"
}

influx v1 dbrp create --org "$org" --bucket-id "$bucket" --db "$database" --rp autogen --default
influx v1 auth create --org "$org" --username reader --read-bucket "$bucket" \
  --password "$(</run/identity/reader-password)"
hand_over collector --write-bucket /handover/collector/token
hand_over console --read-bucket /handover/console/token
