"""C sources of a model: its bytes, everything needed to use it, and a check of the device.

They compile as C11 and as C++11 and need nothing but `alignas`.
"""

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from broker.contract.bundle import GOLDEN_TOLERANCE, Manifest
from broker.contract.decision import Label
from training.data.clips import digest

__all__ = ["Firmware", "c_sources"]

Numbers = npt.NDArray[np.float32]


class Firmware(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What C sources are made of."""

    manifest: Manifest
    model: bytes
    kind: str
    """How the model stores its numbers, such as `int8`."""
    arena_bytes: int | None
    """Working memory that is enough; None: never tried."""
    licence: str
    """SPDX expression of the weights' licence."""
    features: Numbers
    """A window to check the device by, shape (frames, columns)."""
    probabilities: Numbers
    """What the model says of it on LiteRT, shape (3,)."""


def c_sources(firmware: Firmware) -> dict[str, str]:
    """Return the C sources by file name."""
    return {
        "sottovoce_model.h": _header(
            firmware,
            "MODEL",
            "The model, for a LiteRT Micro interpreter.",
            [
                "#ifdef __cplusplus",
                'extern "C" {',
                "#endif",
                "",
                f"#define SOTTOVOCE_MODEL_BYTES {len(firmware.model)}",
                *_arena(firmware.arena_bytes),
                f"/* Operations that the interpreter needs: {', '.join(_operations(firmware.model))}. */",
                "",
                "extern const unsigned char sottovoce_model[SOTTOVOCE_MODEL_BYTES]; /* aligned to 16 bytes */",
                "",
                "#ifdef __cplusplus",
                "}",
                "#endif",
            ],
        ),
        "sottovoce_model.c": "\n".join(
            [
                *_top(firmware, "The model. Compile this file as C or as C++."),
                '#include "sottovoce_model.h"',
                "",
                "#include <stdalign.h>",
                "",
                "alignas(16) const unsigned char sottovoce_model[SOTTOVOCE_MODEL_BYTES] = {",
                *_rows([f"0x{byte:02x}" for byte in firmware.model], 16),
                "};",
                "",
            ]
        ),
        "sottovoce_settings.h": _header(firmware, "SETTINGS", "From samples to a label.", _settings(firmware.manifest)),
        "sottovoce_check.h": _header(
            firmware,
            "CHECK",
            "A window that nobody spoke, and the answer to it: if the device says otherwise, something is wrong.",
            [
                f"#define SOTTOVOCE_CHECK_TOLERANCE {_float(GOLDEN_TOLERANCE)}",
                "",
                "/* Normalised features, frame by frame. */",
                *_array("check_features", firmware.features.ravel()),
                *_array("check_probabilities", firmware.probabilities),
            ],
        ),
    }


def _arena(arena_bytes: int | None) -> list[str]:
    return [] if arena_bytes is None else [_define("ARENA_BYTES", arena_bytes, "enough where pointers have 8 bytes")]


def _operations(model: bytes) -> list[str]:
    codes = schema.ModelT.InitFromPackedBuf(model, 0).operatorCodes
    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    return sorted(names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in codes)


def _settings(manifest: Manifest) -> list[str]:
    frames, columns = manifest.input_shape
    mean = manifest.normalisation.mean if manifest.normalisation else (0.0,) * columns
    deviation = manifest.normalisation.deviation if manifest.normalisation else (1.0,) * columns
    return [
        "/* Features: from mono samples, full scale at 1, as FeatureSpec in broker/contract/features.py tells. */",
        *_defines("FEATURES", manifest.features),
        "",
        "/* Model input: float32, frame by frame; each column is normalised, (value - mean) / deviation. */",
        _define("FRAMES", frames),
        _define("COLUMNS", columns),
        *_array("mean", mean),
        *_array("deviation", deviation),
        "/* One window, and the distance to the next. */",
        *_defines("WINDOW", manifest.window),
        "",
        "/* Model output: a float32 per label, their sum 1. */",
        _define("LABELS", len(manifest.labels)),
        f"static const char *const sottovoce_labels[SOTTOVOCE_LABELS] = {{{_texts(manifest.labels)}}};",
        f'#define SOTTOVOCE_UNCERTAIN "{Label.UNCERTAIN}"',
        "",
        "/* Decision: as DecisionSpec in broker/contract/decision.py tells. */",
        *_defines("DECISION", manifest.decision),
    ]


def _defines(prefix: str, settings: msgspec.Struct) -> list[str]:
    """Return every setting under its own name."""
    return [_define(f"{prefix}_{name.upper()}", value) for name, value in msgspec.structs.asdict(settings).items()]


def _top(firmware: Firmware, about: str) -> list[str]:
    return [
        f"/* SPDX-License-Identifier: {firmware.licence}",
        " *",
        f" * {about}",
        " *",
        f" * {firmware.manifest.identity}, {firmware.kind}, trained {firmware.manifest.created}.",
        f" * SHA-256 of the model: {digest(firmware.model)}",
        " * Written by `sottovoce-train export`; do not edit.",
        " */",
    ]


def _header(firmware: Firmware, name: str, about: str, body: Iterable[str]) -> str:
    guard = f"SOTTOVOCE_{name}_H"
    return "\n".join([*_top(firmware, about), f"#ifndef {guard}", f"#define {guard}", "", *body, "", "#endif", ""])


def _define(name: str, value: object, about: str = "") -> str:
    """Return a macro; of a setting that is off, a comment that says so."""
    match value:
        case None:
            return f"/* SOTTOVOCE_{name}: none */"
        case bool():
            text = str(int(value))
        case int():
            text = str(value)
        case float():
            text = _float(value) if value >= 0 else f"({_float(value)})"
        case _:
            text = f'"{value}"'
    return f"#define SOTTOVOCE_{name} {text}" + (f" /* {about} */" if about else "")


def _array(name: str, values: Sequence[float] | Numbers) -> list[str]:
    written = [_float(value) for value in values]
    return [f"static const float sottovoce_{name}[{len(written)}] = {{", *_rows(written, 8), "};", ""]


def _rows(items: Sequence[str], width: int) -> list[str]:
    return [f"  {', '.join(items[first : first + width])}," for first in range(0, len(items), width)]


def _float(value: float) -> str:
    """Return a C literal that is the float32 nearest to the value."""
    text = f"{np.float32(value)!s}"
    return f"{text}f" if any(mark in text for mark in ".e") else f"{text}.0f"


def _texts(labels: Iterable[str]) -> str:
    return ", ".join(f'"{label}"' for label in labels)
