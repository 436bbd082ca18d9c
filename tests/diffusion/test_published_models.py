"""Published models compute here what they compute where they come from."""

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

from synpos_lib.core.errors import Problem
from synpos_lib.core.fingerprint import weights_fingerprint
from synpos_lib.diffusion import published
from synpos_lib.diffusion.features import features, levels, zero
from synpos_lib.diffusion.generators import BottleneckMixing

OWN = dict(flip_sin_to_cos=False, freq_shift=1, downsample_padding=0, norm_eps=1e-6)  # as published
DOWN, UP = ("DownBlock2D", "AttnDownBlock2D"), ("AttnUpBlock2D", "UpBlock2D")
SMALL = dict(sample_size=8, block_out_channels=(32, 64), down_block_types=DOWN, up_block_types=UP, **OWN)
WHOLE = dict(
    sample_size=32,
    block_out_channels=(128, 256, 256, 256),
    down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    attention_head_dim=None,
    **OWN,
)


def predict(unet, x, t):
    """On whatever device the network is."""
    device = next(unet.parameters()).device
    with torch.no_grad():
        return unet(x.to(device), t.to(device)).cpu()


def network(**settings):
    torch.manual_seed(0)
    return UNet2DModel(**settings).eval()


@pytest.fixture
def small(tmp_path):
    """The folder of a small model of the published kind, and the model."""
    model = network(**SMALL)
    DDPMPipeline(model, DDPMScheduler()).save_pretrained(tmp_path / "small")
    return tmp_path / "small", model


def test_the_published_configuration_predicts_what_diffusers_does(tmp_path):
    model = network(**WHOLE)
    model.save_pretrained(tmp_path)  # both in one folder, as on the hub
    DDPMScheduler().save_pretrained(tmp_path)
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([3, 800])
    with torch.no_grad():
        wanted = model(x, t).sample
    torch.testing.assert_close(predict(published.load(str(tmp_path)), x, t), wanted, atol=2e-4, rtol=1e-4)


def test_a_pipelines_folder_predicts_what_the_pipeline_does(small):
    folder, model = small
    x, t = torch.randn(4, 3, 8, 8), torch.tensor([0, 10, 500, 999])
    with torch.no_grad():
        wanted = model(x, t).sample
    torch.testing.assert_close(predict(published.load(str(folder)), x, t), wanted, atol=1e-5, rtol=1e-4)


def test_our_own_time_features_would_predict_something_else(small):
    """So the settings of its own matter, and the tests above can fail."""
    model, x = small[1], torch.randn(1, 3, 8, 8)
    for name, value in {"flip_sin_to_cos": True, "freq_shift": 0, "downsample_padding": 1}.items():
        other = network(**SMALL | {name: value})
        other.load_state_dict(model.state_dict())
        with torch.no_grad():
            assert (other(x, 400).sample - model(x, 400).sample).abs().max() > 1e-3, name


def test_a_published_model_mixes_and_has_features(small):
    unet = published.load(str(small[0]))
    anchors = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    own, mixed = (BottleneckMixing(unet, w=w, steps=2).generate(anchors, 2, 0) for w in (1.0, 0.1))
    assert mixed.shape == (2, 2, 3, 8, 8)
    assert (own != mixed).any()
    assert list(levels(unet)) == ["bottleneck", "skips 4×4", "skips 8×8"]
    device = next(unet.parameters()).device
    x, t = torch.randn(1, 3, 8, 8, device=device), torch.tensor([10], device=device)
    with torch.no_grad():
        h, skips = unet.encode(x, t)
        with features(unet, ["mid"], edit=zero) as outputs:
            silenced = unet(x, t)
        torch.testing.assert_close(outputs["mid"], h)
        torch.testing.assert_close(unet.decode(torch.zeros_like(h), skips, t), silenced)


def test_other_settings_of_the_same_weights_are_another_model(small, tmp_path):
    folder, model = small
    other = network(**SMALL | {"freq_shift": 0})
    other.load_state_dict(model.state_dict())
    DDPMPipeline(other, DDPMScheduler()).save_pretrained(tmp_path / "other")
    prints = {weights_fingerprint(published.load(str(place))) for place in (folder, folder, tmp_path / "other")}
    assert len(prints) == 2


def test_a_folder_in_the_home_folder(small, monkeypatch):
    monkeypatch.setenv("HOME", str(small[0].parent))
    assert published.load("~/small").config.image_size == 8


# -------------------------------------------------------------------------------------------------- CLSP


class Layout:
    """CLSP's network written down once more, naively, over a dictionary of weights that grows as they are asked for."""

    def __init__(self):
        self.weights, self.random = {}, torch.Generator().manual_seed(1)

    def of(self, name, *shape, one=False):
        if name not in self.weights:
            fan_in = max(1, torch.Size(shape[1:]).numel())
            self.weights[name] = torch.randn(shape, generator=self.random) / fan_in**0.5 * (0.1 if one else 1) + one
        return self.weights[name]

    def linear(self, name, x, n):
        return F.linear(x, self.of(f"{name}.weight", n, x.shape[1]), self.of(f"{name}.bias", n))

    def conv(self, name, x, n, size=3, stride=1):
        weight = self.of(f"{name}.weight", n, x.shape[1], size, size)
        return F.conv2d(x, weight, self.of(f"{name}.bias", n), stride=stride, padding=size // 2)

    def norm(self, name, x):
        c = x.shape[1]
        return F.group_norm(x, 32, self.of(f"{name}.weight", c, one=True), self.of(f"{name}.bias", c))

    def block(self, name, x, emb, n, attention=False):
        h = self.conv(f"{name}.block1.2", F.silu(self.norm(f"{name}.block1.0", x)), n)
        h = h + self.linear(f"{name}.temb_proj.1", F.silu(emb), n)[:, :, None, None]
        h = self.conv(f"{name}.block2.3", F.silu(self.norm(f"{name}.block2.0", h)), n)
        x = h + (x if x.shape[1] == n else self.conv(f"{name}.shortcut", x, n, 1))
        if not attention:
            return x
        h = self.norm(f"{name}.attn.group_norm", x)
        q, k, v = (self.conv(f"{name}.attn.proj_{part}", h, n, 1).flatten(2) for part in "qkv")
        h = v @ ((q.transpose(1, 2) @ k) / n**0.5).softmax(2).transpose(1, 2)
        return x + self.conv(f"{name}.attn.proj", h.view_as(x), n, 1)

    def __call__(self, x, t):
        angles = t[:, None] * torch.exp(-torch.arange(0, 128, 2) / 128 * torch.log(torch.tensor(1e4)))
        emb = torch.stack([angles.sin(), angles.cos()], 2).flatten(1)  # sine, cosine, sine, …
        emb = self.linear("time_embedding.timembedding.1", emb, 512)
        emb = self.linear("time_embedding.timembedding.3", F.silu(emb), 512)
        h = self.conv("encoder.head", x, 128)
        skips, widths, at = [h], (128, 256, 256, 256), 0
        for level, n in enumerate(widths):
            for _ in range(2):
                h = self.block(f"encoder.downblocks.{at}", h, emb, n, level == 1)
                skips, at = [*skips, h], at + 1
            if level < 3:
                h = self.conv(f"encoder.downblocks.{at}.main", h, n, stride=2)
                skips, at = [*skips, h], at + 1
        for i in range(2):
            h = self.block(f"encoder.middleblocks.{i}", h, emb, 256, i == 0)
        at = 0
        for level in (3, 2, 1, 0):
            for _ in range(3):
                joined = torch.cat([h, skips.pop()], 1)
                h, at = self.block(f"decoder.upblocks.{at}", joined, emb, widths[level], level == 1), at + 1
            if level:
                doubled = F.interpolate(h, scale_factor=2)
                h, at = self.conv(f"decoder.upblocks.{at}.main", doubled, widths[level]), at + 1
        return self.conv("decoder.tail.2", F.silu(self.norm("decoder.tail.0", h)), 3)


@pytest.fixture(scope="module")
def clsp(tmp_path_factory):
    """A file of that layout with random weights, its weights, some noisy images and timesteps, and what it predicts."""
    file, layout = tmp_path_factory.mktemp("clsp") / "uncondition.pt", Layout()
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([7, 640])
    with torch.no_grad():
        prediction = layout(x, t)
    extra = {"encoder.projector.0.weight": torch.zeros(2, 2), "time_embedding.timembedding.0.weight": torch.zeros(2, 2)}
    torch.save(layout.weights | extra, file)
    return file, layout.weights, x, t, prediction


def test_clsps_weights_predict_what_their_network_does(clsp):
    file, weights, x, t, prediction = clsp
    unet = published.load(str(file))
    assert sum(value.numel() for value in weights.values()) == sum(value.numel() for value in unet.parameters())
    torch.testing.assert_close(predict(unet, x, t), prediction, atol=1e-3 * prediction.std().item(), rtol=1e-3)


@pytest.mark.parametrize("fault", ["lacks", "more", "shape", "bytes", "list", "none"])
def test_another_file_is_refused_in_a_sentence(clsp, tmp_path, fault):
    file, weights = tmp_path / "other.pt", dict(clsp[1])
    match fault:
        case "lacks":
            del weights["encoder.head.bias"]
        case "more":
            weights["cond_embedding.weight"] = torch.zeros(3)
        case "shape":
            weights["decoder.tail.2.weight"] = torch.zeros(6, 128, 3, 3)
    words = {
        "lacks": "lacks encoder.head.bias",
        "more": "has an unexpected cond_embedding.weight",
        "shape": r"shape \(6, 128, 3, 3\), not \(3, 128, 3, 3\)",
        "bytes": "read safely",
        "list": "lacks",
        "none": "there is no file",
    }
    if fault == "bytes":
        file.write_bytes(b"half a file")
    elif fault != "none":
        torch.save([1, 2] if fault == "list" else weights, file)
    with pytest.raises(Problem, match=words[fault]):
        published.load(str(file))


# --------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("settings", "scheduler", "words"),
    [
        ({"in_channels": 4, "out_channels": 4}, {}, "channels: "),
        ({"num_class_embeds": 10}, {}, "classes: 10, not None"),
        ({"center_input_sample": True}, {}, "centre: True"),
        ({"time_embedding_type": "fourier"}, {}, "time: fourier"),
        ({"sample_size": None}, {}, "size: None, not a whole number"),
        ({"mid_block_type": None}, {}, "middle: None"),
        ({"down_block_types": ("DownBlock2D", "ResnetDownsampleBlock2D")}, {}, "blocks: "),
        ({}, {"prediction_type": "v_prediction"}, "prediction: v_prediction"),
        ({}, {"beta_schedule": "squaredcos_cap_v2"}, "beta_schedule: squaredcos_cap_v2"),
        ({}, {"trained_betas": [0.1] * 1000}, "betas: "),
        ({}, {"rescale_betas_zero_snr": True}, "rescaled: True"),
        ({}, {"num_train_timesteps": 500}, "num_train_timesteps: 500"),
    ],
)
def test_a_model_of_another_kind_is_refused(tmp_path, settings, scheduler, words):
    network(**SMALL | settings).save_pretrained(tmp_path)
    DDPMScheduler(**scheduler).save_pretrained(tmp_path)
    with pytest.raises(Problem, match=words):
        published.load(str(tmp_path))


@pytest.mark.parametrize("lost", ["unet/diffusion_pytorch_model.safetensors", "unet/config.json", "scheduler"])
def test_a_folder_that_is_not_whole_is_refused(small, lost):
    folder = small[0]
    if lost == "scheduler":
        (folder / lost / "scheduler_config.json").unlink()
    else:
        (folder / lost).write_bytes((folder / lost).read_bytes()[:100])
    with pytest.raises(Problem, match="incomplete .*copy or download the whole model again"):
        published.load(str(folder))


def test_weights_that_lack_a_layer_are_refused(small):
    file = small[0] / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["conv_out.bias"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(Problem, match="disagree on conv_out.bias"):
        published.load(str(small[0]))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no such", "'no such' is neither a folder"),
        ("", "'' is neither a folder"),
        (published.DDPM, "allow its download"),
    ],
)
def test_a_model_that_is_not_here_is_named(name, words, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("SYNPOS_DOWNLOAD", raising=False)
    with pytest.raises(Problem, match=words):
        published.load(name)
