"""The Triton kernels, compiled for GPUs without one: prints their wide loads and spills as JSON."""

import json
import re
from types import ModuleType
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from trainer.models import bias_kernels, norm_silu_kernels

NORM = {"C": 64, "BLOCK_R": 64, "BLOCK_C": 64}
GROUPED = NORM | {"PER_GROUP": 8, "SILU": True}
COMBINED = {"C": 64, "PER_GROUP": 8, "BLOCK_S": 32, "BLOCK_G": 8, "FILM": True}
KERNELS: list[tuple[ModuleType, str, dict[str, Any], bool]] = [
    # module, kernel, its constants, whether it goes through a map
    (norm_silu_kernels, "_moments", NORM, True),
    (norm_silu_kernels, "_combine", COMBINED | {"CONV_BIAS": True}, False),
    (norm_silu_kernels, "_apply", NORM | {"SILU": True}, True),
    (norm_silu_kernels, "_reduce", GROUPED, True),
    (norm_silu_kernels, "_combine_backward", COMBINED, False),
    (norm_silu_kernels, "_apply_backward", GROUPED, True),
    (
        norm_silu_kernels,
        "_parameters",
        {"C": 64, "PER_GROUP": 8, "BLOCK_N": 32, "BLOCK_C": 64, "FILM": True, "CONV_BIAS": True},
        False,
    ),
    (bias_kernels, "_add", NORM | {"RESIDUAL": True}, True),
    (bias_kernels, "_sum", NORM, True),
    (bias_kernels, "_total", {"C": 64, "BLOCK_P": 256, "BLOCK_C": 16}, False),
]
MAPS = {"x", "y", "dx", "dy", "residual"}
NUMBERS = {"rows", "stretch", "stretches", "images", "parts"}


def kind(name: str, constants: dict[str, Any]) -> str:
    if name in constants:
        return "constexpr"
    if name in NUMBERS:
        return "i32"
    return "fp32" if name == "eps" else "*bf16" if name in MAPS else "*fp32"


def compiled(module: ModuleType, name: str, constants: dict[str, Any], arch: int) -> dict[str, int]:
    kernel = getattr(module, name)
    signature = {p.name: kind(p.name, constants) for p in kernel.params}
    # Tensors begin at multiples of 16 bytes, as torch allocates them.
    places = enumerate(signature.values())
    aligned = {(i,): [["tt.divisibility", 16]] for i, each in places if each.startswith("*")}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    built = triton.compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": 4})
    ptx = built.asm["ptx"]
    return {
        "wide_loads": len(re.findall(r"ld\.global\S*\.v4", ptx)),
        "wide_stores": len(re.findall(r"st\.global\S*\.v4", ptx)),
        "local": len(re.findall(r"(ld|st)\.local", ptx)),
        "atomics": len(re.findall(r"\b(atom|red)\.", ptx)),
    }


if __name__ == "__main__":
    found = [
        {"kernel": name, "arch": arch, "map": through} | compiled(module, name, constants, arch)
        for module, name, constants, through in KERNELS
        for arch in (80, 90, 100)
    ]
    print(json.dumps(found))
