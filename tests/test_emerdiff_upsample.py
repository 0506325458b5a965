from __future__ import annotations

import pytest
import torch
from diffusers.models.upsampling import Upsample2D
from tiny_emerdiff import save_folder, tiny_unet, tiny_vae

from emerdiff.backbone import load_backbone
from emerdiff.backbones.parts import with_transposed_upsampling
from emerdiff.upsample import TransposedUpsample


@pytest.mark.parametrize(("channels", "out_channels", "size_hw"), [(3, 5, (4, 6)), (2, 2, (1, 1)), (4, 1, (7, 3))])
def test_one_layer_is_both(channels, out_channels, size_hw):
    torch.manual_seed(0)
    both = Upsample2D(channels, use_conv=True, out_channels=out_channels)
    hidden = torch.randn(2, channels, *size_hw)
    one = TransposedUpsample(both.conv)
    torch.testing.assert_close(one(hidden), both(hidden), rtol=1e-4, atol=1e-5)
    assert one.weight.shape == (channels, out_channels, 4, 4) and not one.weight.requires_grad


def test_another_size_is_an_error():
    layer = TransposedUpsample(torch.nn.Conv2d(2, 2, 3, padding=1))
    with pytest.raises(ValueError, match=r"upsampling to \(3, 5\) asked for"):
        layer(torch.zeros(1, 2, 2, 2), (3, 5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whole_models_give_the_same(dtype):
    torch.manual_seed(0)
    unet, vae = tiny_unet("sd1").eval().to(dtype), tiny_vae().eval().to(dtype)
    latent, prompt = torch.randn(1, 4, 16, 24, dtype=dtype), torch.randn(1, 5, 16, dtype=dtype)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.05}
    with torch.inference_mode():
        before = unet(latent, 21, prompt).sample, vae.decode(latent).sample
        with_transposed_upsampling(unet)
        with_transposed_upsampling(vae)
        after = unet(latent, 21, prompt).sample, vae.decode(latent).sample
    for one, both in zip(after, before, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one, both, **tolerance)


def test_loaded_models_have_it(tmp_path):
    backbone = load_backbone(save_folder(tmp_path / "sd1"), device="cpu")
    for model, count in ((backbone.unet, 3), (backbone.vae, 3)):
        layers = [module for module in model.modules() if isinstance(module, TransposedUpsample)]
        assert len(layers) == count
        assert not any(isinstance(module, Upsample2D) for module in model.modules())
