#!/usr/bin/env bash
# Proves that a node needs nothing of the other roles: builds the wheel, installs it with the extra [node] into a
# clean environment, looks for packages that must not be there, and labels a recording made on the spot.
#
# Needs: Python >= 3.11 with venv (PYTHON names another than python3), and a package index or a filled pip cache.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

log() { printf 'check_node_only: %s\n' "$*"; }

log "building the wheel with $("$python" --version)"
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$scratch" "$root"
wheel=$(echo "$scratch"/sottovoce-*.whl)

log "installing ${wheel##*/}[node] into a clean environment"
"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet "${wheel}[node]"

cd "$scratch" # not the checkout, whose packages Python would find first
venv/bin/python -m pip list --format=freeze | sed 's/^/check_node_only:   /'

venv/bin/python - <<'EOP'
import importlib.util
import math
import struct
import sys
import wave

unwanted = [n for n in ("tensorflow", "keras", "librosa", "scipy", "influxdb_client") if importlib.util.find_spec(n)]
if unwanted:
    sys.exit(f"check_node_only: these came with [node]: {', '.join(unwanted)}")

RATE_HZ, SECONDS = 16_000, 4
with wave.open("made.wav", "wb") as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(RATE_HZ)
    for n in range(RATE_HZ * SECONDS):
        t = n / RATE_HZ
        phase = 2 * math.pi * (160 * t - 8 * math.cos(2 * math.pi * 0.7 * t))
        level = max(0.0, math.sin(2 * math.pi * 3 * t)) * 0.3
        sample = level * sum(math.sin(k * phase) / k for k in range(1, 9))
        file.writeframesraw(struct.pack("<h", int(20_000 * max(-1.0, min(1.0, sample)))))
EOP
log "absent, as they must be: tensorflow keras librosa scipy influxdb_client"

venv/bin/sottovoce-node classify --json made.wav >heard.json
venv/bin/python - <<'EOP'
import json
from pathlib import Path

heard = json.loads(Path("heard.json").read_text())
labels = [window["label"] or "silence" for window in heard["windows"]]
assert any(window["latency_us"] for window in heard["windows"]), f"nothing was classified: {labels}"
print(f"check_node_only: sottovoce-node classify, model {heard['model']}: {', '.join(labels)}")
EOP
log "done in ${SECONDS}s"
