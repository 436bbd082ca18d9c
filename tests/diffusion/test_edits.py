"""Edits by prompt: the embedded editor and InstructPix2Pix, the latter with a tiny random pipeline saved to disk."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
import tiny
import torch
from nearly import same_images
from torchvision.transforms import functional

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.data import positives
from synpos_lib.data.scenes import SCENES
from synpos_lib.diffusion import edits, model, training
from synpos_lib.diffusion.sampling import inverted, sample
from synpos_lib.diffusion.schedule import alpha_bar
from synpos_lib.diffusion.unet import UNet

TINY = tiny.unet(patch=4, prediction="v_prediction")
BY_SCENE = dataclasses.replace(TINY, classes=len(SCENES))


def network(config=BY_SCENE, seed=0) -> UNet:
    torch.manual_seed(seed)
    return UNet(config).eval().requires_grad_(False)


def some_images(n=5, size=32):
    images = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return SimpleNamespace(images=images, labels=torch.arange(n) % 3, fingerprint="f" * 64)


# ------------------------------------------------------------------------------------- running backwards


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_noise_found_is_the_noise_a_perfect_network_knows(prediction):
    """A network that says the same noise everywhere is right about all times, and so inversion finds that noise."""
    noise = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    clean = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1

    def knows(x, t, labels=None):
        if prediction == "epsilon":
            return noise
        a = alpha_bar()[t][:, None, None, None]
        return (noise - (1 - a).sqrt() * x) / a.sqrt()  # v for which sqrt(a) v + s x is the noise

    perfect = network(dataclasses.replace(TINY, prediction=prediction))
    perfect.forward = knows
    found = inverted(perfect, clean, steps=10)
    assert torch.allclose(found, noise, atol=1e-3)
    again = sample(perfect, start=clean, noise=found, steps=10, eta=0.0)
    assert torch.allclose(again, clean, atol=1e-3)


def test_an_image_is_drawn_again_from_its_own_noise():
    unet, images = network(), some_images().images.float() / 127.5 - 1
    smooth = torch.nn.functional.avg_pool2d(images, 5, 1, 2)
    own = inverted(unet, smooth, steps=100)
    again = sample(unet, start=smooth, noise=own, steps=100, eta=0.0)
    other = sample(unet, start=smooth, steps=100, eta=0.0)
    assert (again - smooth).abs().mean() < 0.1 * (other - smooth).abs().mean()


# --------------------------------------------------------------------------------------------- scene edits


def test_candidate_j_follows_prompt_j_and_its_own_anchor(full_precision):
    generator, anchors = edits.SceneEdit(network(), steps=5), some_images().images
    made = generator.generate(anchors, 9, 0)
    assert made.shape == (5, 9, 3, 32, 32) and made.dtype == torch.uint8
    two = edits.SceneEdit(network(), ["sunset", "autumn"], steps=5).generate(anchors, 2, 0)
    assert same_images(two[:, 0], made[:, SCENES.index("sunset")])
    assert same_images(two[:, 1], made[:, SCENES.index("autumn")])
    changed = anchors.clone()
    changed[1] = 255 - changed[1]
    other = generator.generate(changed, 9, 0)
    assert [same_images(a, b) for a, b in zip(made, other, strict=True)] == [True, False, True, True, True]


def test_an_edit_starts_from_the_noise_of_its_anchor_whatever_the_seed():
    anchors, generator = some_images(2).images, edits.SceneEdit(network(), steps=5)
    assert torch.equal(generator.generate(anchors, 9, 0), generator.generate(anchors, 9, 1))


def test_an_edit_is_a_guided_sampling_that_starts_from_the_anchor(full_precision):
    unet, anchors = network(), some_images(3).images
    made = edits.SceneEdit(unet, ["mosaic"], guidance=1.5, steps=10).generate(anchors, 1, 0)
    x = anchors.float() / 127.5 - 1
    noise = inverted(unet, x, steps=10)
    a = alpha_bar()
    times = [999 - 100 * i for i in range(10)]
    x = a[times[0]].sqrt() * x + (1 - a[times[0]]).sqrt() * noise
    label = torch.full((3,), SCENES.index("mosaic"))
    for i, t in enumerate(times):
        now, then = a[t], a[times[i + 1]] if i < 9 else torch.ones(())
        t = torch.full((3,), t)
        v = 2.5 * unet(x, t, label) - 1.5 * unet(x, t, torch.full((3,), 9))
        x0, eps = now.sqrt() * x - (1 - now).sqrt() * v, now.sqrt() * v + (1 - now).sqrt() * x
        x = then.sqrt() * x0 + (1 - then).sqrt() * eps
    expected = ((x.clamp(-1, 1) * 0.5 + 0.5) * 255).to(torch.uint8)
    assert same_images(made[:, 0], expected)


def test_the_store_of_edits_is_sharded_and_loaded_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(positives, "CHUNK", 2)
    anchors = some_images()
    config = training.TrainingConfig(unet=BY_SCENE, steps=1, batch=4)
    training.train(tmp_path / "runs" / model.run_name("scenes-by-scene"), anchors, config, labels=torch.arange(5))
    generator = edits.SceneEdit(model.load("scenes-by-scene", tmp_path), steps=2)
    for name, shard in {"whole": (0, 1), "shard0": (0, 2), "shard1": (1, 2)}.items():
        positives.make(tmp_path / name, anchors, generator, k=9, shard=shard)
    positives.merge([tmp_path / "shard0", tmp_path / "shard1"], tmp_path / "merged")
    whole, merged = (positives.read(tmp_path / name, anchors) for name in ("whole", "merged"))
    assert whole.shape == (5, 9, 3, 32, 32) and torch.equal(whole, merged)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (["sunet"], "does not know the prompt 'sunet' .did you mean 'sunset'"),
        (["autumn", " "], "none of them empty"),
        ("autumn", "must be a list of words"),
        ([], "must be a list of words"),
        (["autumn", "autumn"], "name one twice"),
    ],
)
def test_bad_prompts_get_one_clear_sentence(prompts, message):
    with pytest.raises(Problem, match=message):
        edits.SceneEdit(network(), prompts).generate(some_images(1).images, 1, 0)


def test_other_mistakes_get_one_clear_sentence(tmp_path):
    with pytest.raises(Problem, match="8 candidates do not fit 9 prompts"):
        edits.SceneEdit(network()).generate(some_images(1).images, 8, 0)
    with pytest.raises(Problem, match="knows the 9 of them as classes, and this one knows 0"):
        edits.SceneEdit(network(TINY))
    with pytest.raises(Problem, match="no diffusion model of 'scenes-by-scenery'"):
        model.load("scenes-by-scenery", tmp_path)


# ----------------------------------------------------------------------------------------- InstructPix2Pix


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """InstructPix2Pix with a few thousand weights, and a tokenizer that knows letters."""
    from diffusers import StableDiffusionInstructPix2PixPipeline
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz-"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{c}</w>" for c in letters)]
    tokenizer = CLIPTokenizer({word: i for i, word in enumerate(words)}, [], model_max_length=20)
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        projection_dim=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=20,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    pipeline = StableDiffusionInstructPix2PixPipeline(
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        feature_extractor=None,
        **tiny.parts(in_channels=8),  # of the noise and of the image that is edited
    )
    place = tmp_path_factory.mktemp("hub") / "instruct"
    pipeline.save_pretrained(place)
    return place


def pix2pix(folder, prompts=("Autumn", "ukiyo-e"), **how):
    return edits.InstructPix2Pix.load(list(prompts), str(folder), **{"steps": 2, "size": 32, **how})


def test_it_is_the_pipeline_called_as_released(folder):
    anchors = some_images(3, 20).images
    generator = pix2pix(folder)
    made = generator.generate(anchors, 2, seed=5)
    assert made.shape == (3, 2, 3, 20, 20) and made.dtype == torch.uint8
    assert type(generator.pipeline.scheduler).__name__ == "EulerAncestralDiscreteScheduler"
    images = [functional.to_pil_image(image).resize((32, 32), 3) for image in anchors for _ in range(2)]
    direct = generator.pipeline(
        ["Autumn", "ukiyo-e"] * 3,
        image=images,
        num_inference_steps=2,
        guidance_scale=4,
        image_guidance_scale=1.5,
        generator=runtime.generator(5, "edits", 0),
        output_type="np",
    ).images  # (6, 32, 32, 3)
    small = functional.resize(
        torch.from_numpy(direct).permute(0, 3, 1, 2), [20, 20], functional.InterpolationMode.BICUBIC
    )
    difference = (made.flatten(0, 1).float() - 255 * small.clamp(0, 1)).abs()
    assert difference.mean() < 1.5  # Pillow rounds its resized pixels


def test_the_defaults_are_the_released_ones(folder):
    settings = edits.InstructPix2Pix.load(["Autumn"], str(folder)).settings
    wanted = {"guidance_scale": 4.0, "image_guidance_scale": 1.5, "num_inference_steps": 100, "size": 256}
    assert wanted.items() <= settings.items() and settings["prompts"] == ["Autumn"]
    assert edits.InstructPix2Pix.NAME == "timbrooks/instruct-pix2pix"


def test_the_prompt_and_the_anchor_decide(folder):
    anchors = some_images(2).images
    made = pix2pix(folder).generate(anchors, 2, 0)
    assert torch.equal(made, pix2pix(folder).generate(anchors, 2, 0))
    assert not torch.equal(made[:, 0], pix2pix(folder, ["snowy", "ukiyo-e"]).generate(anchors, 2, 0)[:, 0])
    assert not torch.equal(made, pix2pix(folder).generate(255 - anchors, 2, 0))


@pytest.mark.parametrize("size", [(31, 45), (8, 8), (50, 33)])
def test_odd_sizes_come_back_as_they_went(folder, size):
    anchors = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    assert pix2pix(folder, steps=1).generate(anchors, 2, 0).shape == (1, 2, 3, *size)


def test_shards_of_edits_equal_the_whole_store(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(positives, "CHUNK", 2)
    anchors = some_images()
    for name, shard in {"whole": (0, 1), "shard0": (0, 2), "shard1": (1, 2)}.items():
        positives.make(tmp_path / name, anchors, pix2pix(folder, steps=1), k=2, shard=shard)
    positives.merge([tmp_path / "shard0", tmp_path / "shard1"], tmp_path / "merged")
    whole, merged = (positives.read(tmp_path / name, anchors) for name in ("whole", "merged"))
    assert torch.equal(whole, merged) and len(whole.unique()) > 10


def test_a_missing_model_or_another_one_gets_one_clear_sentence(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("SYNPOS_DOWNLOAD", raising=False)
    with pytest.raises(Problem, match="timbrooks/instruct-pix2pix' is not, or not whole, in the hub's cache"):
        edits.InstructPix2Pix.load(["Autumn"])
    index = json.loads((folder / "model_index.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    (other / "model_index.json").write_text(json.dumps({**index, "_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(Problem, match="give the folder of a StableDiffusionInstructPix2PixPipeline"):
        pix2pix(other)
    with pytest.raises(Problem, match="none of them empty"):
        pix2pix(folder, [""])
