"""The whole chain, from recordings to a label, on audio that nobody spoke: `make train-smoke`.

Every step is the command that a person types, in a process of its own, so this holds together what the tests look at
one by one: the programs' entry points, the files that one leaves and the next takes, and the model on the node's side.
It says nothing about how well a model recognises anything. It lies here, beside what else CI runs, and not in a
package: it starts programs that never import each other.
"""

import argparse
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from training.data.synthetic import write_corpora

__all__ = ["main"]

_EXPERIMENT: Final = """\
name = "smoke"

[features]
coefficients = 12
fft_samples = 1024
mel_bands = 32
floor_db = -60.0
pitch = true

[window]
length_samples = 16000
hop_samples = 8000

[views]
kind = "product"
copies = [{ speeds = [0.9, 1.1], noise = ["pink", "babble"] }]

[network]
kind = "conv-lstm"
convolutions = [{ filters = 16 }, { filters = 16 }]
units = 16
pooling = "mean-std"

[recipe]
seeds = [1, 2]
outputs = "emotions"
epochs = 3
draws = 512
patience = 3
learning_rate = 1e-2
refit = true
"""

_SPACE: Final = '"network.dropout" = { choices = [0.1, 0.3] }\n'

_COMMANDS: Final = (
    "sottovoce-train prepare --data corpora --out prepared",
    "sottovoce-train train --config smoke.toml --data prepared --out run --fold 0",
    "sottovoce-train bundle --run run --fold 0 --name smoke --version 1 --data prepared --out smoke.bundle",
    "sottovoce-train evaluate --bundle smoke.bundle --data prepared --noise",
    "sottovoce-node classify --bundle smoke.bundle corpora/Actor_01/03-01-05-01-01-01-01.wav",
    "sottovoce-train export --run run --data prepared --rounds 20 --out exported",
    "sottovoce-train tune --config smoke.toml --data prepared --space space.toml --trials 1 --out search",
)


def main(arguments: Sequence[str] | None = None, commands: Sequence[str] = _COMMANDS) -> int:
    """Return 0 if every command succeeds, else 1 after naming the first that did not."""
    parser = argparse.ArgumentParser(description="Run the training chain on made audio, by its own commands.")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="work there and leave everything (default: a temporary)"
    )
    args = parser.parse_args(arguments)
    began = time.monotonic()
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
        failed = _run_all(commands, args.keep)
    else:
        with tempfile.TemporaryDirectory(prefix="sottovoce-smoke-") as folder:
            failed = _run_all(commands, Path(folder))
    took = f"{time.monotonic() - began:.0f} s"
    if failed:
        print(f"smoke run failed after {took}: {failed}", file=sys.stderr)  # noqa: T201 -- the command's answer
        return 1
    print(f"smoke run: {len(commands)} commands succeeded in {took}")  # noqa: T201 -- the command's answer
    return 0


def _run_all(commands: Sequence[str], folder: Path) -> str | None:
    """Return the command that failed, and how; None: none did."""
    scripts = Path(sysconfig.get_path("scripts"))
    for command in commands:
        if not (scripts / command.split()[0]).is_file():
            return f"{command}: not in {scripts}; install this checkout, or run it by `make train-smoke`"
    write_corpora(folder / "corpora")
    (folder / "smoke.toml").write_text(_EXPERIMENT)
    (folder / "space.toml").write_text(_SPACE)
    for command in commands:
        print(f"\n$ {command}", flush=True)  # noqa: T201 -- the command's answer
        program, *arguments = shlex.split(command)
        done = subprocess.run([scripts / program, *arguments], cwd=folder, check=False)  # noqa: S603 -- our own commands
        if done.returncode:
            return f"{command}: exit code {done.returncode}"
    return None


if __name__ == "__main__":
    sys.exit(main())
