#!/usr/bin/env bash
# Builds a real InfluxDB server for the tests and prints the path of its binary
# as the only line on stdout (progress and errors go to stderr).
#
# Why: the tests write to and read from a real server, and not every machine can
# run the container image. This builds InfluxDB 1.8.10 from its published Go
# module: it serves the v2 write API (/api/v2/write, token "user:password",
# bucket "database/retention_policy") and InfluxQL (/query).
#
# Needs: bash, Go >= 1.21 and a reachable Go module proxy. No C compiler and no
# Rust: flux, which 1.8 contains, falls back to its pure Go parser, and CGO is off.
# A first build takes one to two minutes on 2 cores; after that the cached binary is
# printed at once. To build again, delete the printed file.
#
# Cache (outside the checkout):
#   ${SOTTOVOCE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sottovoce}/influxd-<version>/influxd
set -euo pipefail

version=1.8.10
# 1.8.10 asks for a golang.org/x/sys of 2020, which current Go refuses to build on
# macOS. Any newer release works.
x_sys_version=v0.28.0

log() { printf 'build_influxd: %s\n' "$*" >&2; }

cache=${SOTTOVOCE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sottovoce}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd) # the printed path is absolute
target=$cache/influxd-$version/influxd

if [[ -x $target ]]; then
  printf '%s\n' "$target"
  exit 0
fi

command -v go >/dev/null || { log "Go is not installed"; exit 1; }

scratch=$(mktemp -d "$cache/build-influxd.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A scratch module, so that the dependency above can be newer than the one
# InfluxDB's own go.mod names. `go build -mod=mod` then fetches only what is
# compiled, verified against Go's checksum database.
cat >"$scratch/go.mod" <<EOF
module influxd-build

go 1.21

require (
	github.com/influxdata/influxdb v$version
	golang.org/x/sys $x_sys_version
)
EOF

(
  cd "$scratch"
  # The caller's Go settings for other work must not leak into this build; the
  # module proxy and checksum settings are left as they are.
  export CGO_ENABLED=0 GOFLAGS='' GOWORK=off GOTOOLCHAIN=local GOOS='' GOARCH=''
  log "building InfluxDB $version with $(go env GOVERSION)"
  go build -mod=mod -trimpath \
    -ldflags "-s -w -X main.version=$version" \
    -o influxd github.com/influxdata/influxdb/cmd/influxd
) >&2

reported=$("$scratch/influxd" version)
[[ $reported == "InfluxDB v$version "* ]] || { log "unexpected version: $reported"; exit 1; }

# A rename within the cache is atomic: a concurrent run sees no half-written file.
mkdir -p "${target%/*}"
mv -f "$scratch/influxd" "$target"
log "done in ${SECONDS}s"
printf '%s\n' "$target"
