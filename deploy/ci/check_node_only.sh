#!/usr/bin/env bash
# Proves that a node needs nothing of the other roles: builds the wheel, installs it with the extra [node] into a
# clean environment, looks for packages that must not be there, labels synthetic speech, and checks the
# signatures of a repository of releases made on the spot.
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
import sys

unwanted = [n for n in ("tensorflow", "keras", "librosa", "scipy", "influxdb_client") if importlib.util.find_spec(n)]
if unwanted:
    sys.exit(f"check_node_only: these came with [node]: {', '.join(unwanted)}")
EOP
log "absent, as they must be: tensorflow keras librosa scipy influxdb_client"

venv/bin/sottovoce-node classify --json "$root/deploy/demo/audio/kitchen/1-delight.flac" >heard.json
venv/bin/python - <<'EOP'
import json
from pathlib import Path

heard = json.loads(Path("heard.json").read_text())
labels = [window["label"] or "no speech" for window in heard["windows"]]
assert any(window["latency_us"] for window in heard["windows"]), f"nothing was classified: {labels}"
print(f"check_node_only: sottovoce-node classify, model {heard['model']}: {', '.join(labels)}")
EOP

venv/bin/python - <<'EOP'
import sys
from datetime import UTC, datetime
from pathlib import Path

from broker.contract.errors import Refusal, TrustError
from edge_node.ota.trust import ask
from training.release.opening import init  # what signs needs no package beyond those that check

metadata = Path("releases", "metadata")
init(metadata.parent, lambda _: "of this check alone", datetime.now(UTC))


def refusal() -> Refusal:
    try:
        ask(metadata, Path("trusted"), metadata / "1.root.json", "stable")
    except TrustError as error:
        return error.refusal
    sys.exit("check_node_only: a channel that nobody has published was offered")


found = [refusal()]  # that nothing is signed for the channel is said after every signature was found good
signed = (metadata / "timestamp.json").read_text()
where = signed.index('"sig":') + len('"sig": "')
other = "0" if signed[where] != "0" else "1"
(metadata / "timestamp.json").write_text(signed[:where] + other + signed[where + 1 :])
found.append(refusal())
if found != [Refusal.UNKNOWN_CHANNEL, Refusal.WRONG_KEY]:
    sys.exit(f"check_node_only: good signatures, then a changed one: {found}")
EOP
log "signatures of releases: good ones accepted, a changed one refused"
log "done in ${SECONDS}s"
