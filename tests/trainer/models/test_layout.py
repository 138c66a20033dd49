"""On a GPU, feature maps stay channels last and bf16 from one norm or convolution to the next."""

import pytest
import torch
from torch import Tensor

from tests.trainer.models.on_meta import Watching, fuse, is_last, like_a_gpu
from trainer.model_config import ModelConfig
from trainer.models import build_model

SIZE = 64
COPIES = {"_to_copy", "clone", "copy_", "contiguous"}


def moves(monkeypatch: pytest.MonkeyPatch, family: str, dropout: float) -> dict[str, list[str]]:
    """Trace a step; return copies between layouts, and float32 maps, of the two finest levels."""
    found: dict[str, list[str]] = {"layout": [], "float32": []}

    def map_of(x: Tensor) -> bool:
        return x.dim() == 4 and x.shape[1] > 8 and min(x.shape[2:]) >= SIZE // 2

    def first(x: Tensor) -> bool:
        return x.is_contiguous() and not is_last(x)

    def tell(name: str, given: list[Tensor], out: list[Tensor]) -> None:
        maps = [x for x in out if map_of(x)]
        said = f"{name} {[tuple(x.shape) for x in given]} -> {[tuple(x.shape) for x in out]}"
        if name in COPIES and any(map_of(x) and first(x) for x in [*given, *out]):
            found["layout"].append(said)
        if any(x.dtype == torch.float32 for x in maps):
            found["float32"].append(said)

    config = ModelConfig(family=family, width=16, depth=5, dropout=dropout)
    with torch.device("meta"):
        model = build_model(config, in_channels=5, image_size=SIZE, outputs_logits=False)
        x, images = torch.empty(2, 1, SIZE, SIZE), torch.empty(2, 5, SIZE, SIZE)
        t = torch.zeros(2, dtype=torch.int64)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fuse(model)
    with like_a_gpu(monkeypatch), Watching(tell):
        condition = model.condition(images)
        (model(x, t, condition).square().mean() + condition[0].square().mean()).backward()
    return found


@pytest.mark.parametrize("family", ["medsegdiff_v1", "medsegdiff_v2", "diffusion_unet"])
def test_no_map_changes_its_layout_and_only_the_heads_input_is_float32(
    monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    found = moves(monkeypatch, family, 0.0)
    assert found["layout"] == []
    # The cast for a head in full precision, and its gradient; V2 has two such heads.
    assert len(found["float32"]) == {"medsegdiff_v2": 4}.get(family, 2), found["float32"]


def test_a_norm_of_torchs_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.trainer.models.test_layout.fuse", lambda model: None)
    found = moves(monkeypatch, "medsegdiff_v1", 0.0)
    assert len(found["float32"]) > 20
