#!/usr/bin/env bash
# Grafana's provisioning takes a secret from the environment, and its image fills only GF_* variables from files.
set -euo pipefail
SOTTOVOCE_INFLUXDB_READER_PASSWORD=$(</run/identity/reader-password)
export SOTTOVOCE_INFLUXDB_READER_PASSWORD
exec /run.sh "$@"
