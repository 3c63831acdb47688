"""What ``adopt`` says."""

from __future__ import annotations

from ofa_tvm.support.files import Record


def official_text(adopted: Record) -> str:
    """The supernet of an official file, and what to do with it."""
    out = adopted["out"]
    return "\n".join(
        [
            f"{adopted['space']}: {adopted['subnets']:.3g} subnets, {adopted['classes']} classes",
            "next:",
            f"  python -m ofa_tvm.tune --supernet {out} --samples 60",
            f"  python -m ofa_tvm.search --supernet {out} --data imagefolder:PATH --max-latency-ms MS",
        ]
    )


def adoption_text(adopted: Record) -> str:
    """The model, how well it was read, and what to do with it."""
    left_out = f" (without its {adopted['left_out'][0]})" if adopted["left_out"] else ""
    out = adopted["out"]
    return "\n".join(
        [
            f"{adopted['space']}: {adopted['layers']} layers, {adopted['macs'] / 1e6:,.0f} M MACs, "
            f"{adopted['parameters'] / 1e6:.2f} M parameters, {adopted['classes']} classes, "
            f"{adopted['resolution']} px",
            f"logits{left_out} equal {adopted['compared_with']}'s within "
            f"{adopted['max_relative_logit_difference']:.1e} of the largest",
            _conditions(adopted),
            "next:",
            f"  python -m ofa_tvm.tune --supernet {out}",
            f"  python -m ofa_tvm.bench --supernet {out}",
            f"  python -m ofa_tvm.deploy --supernet {out} --subnet largest --out BUNDLE",
        ]
    )


def _conditions(adopted: Record) -> str:
    """What was told about images and classes, and what was taken for granted."""
    mean, std = (", ".join(f"{value:.3f}" for value in adopted[name]) for name in ("mean", "std"))
    names = adopted["class_names"]
    classes = (
        f"classes {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        if names
        else "classes by number (--classes)"
    )
    images = f"judged on {adopted['data']}" if adopted["data"] else "not judged on images (--data)"
    return f"images less {mean} over {std} (--mean, --std); {classes}; {images}"
