"""A tiny pipeline of the released class, random but whole, saved to disk: loaded, used, stored, and damaged."""

import json
import shutil
from types import SimpleNamespace

import pytest
import tiny
import torch
from torchvision import transforms
from torchvision.transforms import functional

from synpos_lib.core.errors import Problem
from synpos_lib.data import positives
from synpos_lib.diffusion import hub


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Stable Diffusion image variations with a few thousand weights; CLIP sees 24 pixels, images have 32."""
    from diffusers import StableDiffusionImageVariationPipeline

    torch.manual_seed(0)
    pipeline = StableDiffusionImageVariationPipeline(
        image_encoder=tiny.clip(),
        feature_extractor=tiny.eyes(),
        **tiny.parts(),
    )
    place = tmp_path_factory.mktemp("hub") / "variations"
    pipeline.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def anchors():
    images = torch.randint(0, 256, (7, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return SimpleNamespace(images=images, fingerprint="f" * 64)


def test_variations_are_what_the_pipeline_itself_makes(folder, anchors):
    """One batch, with the released code's preparation written with torchvision, and the pipeline called directly."""
    generator = hub.image_variations(str(folder), steps=3)
    made = generator.generate(anchors.images, 2, seed=5)
    assert made.shape == (7, 2, 3, 20, 20) and made.dtype == torch.uint8
    prepare = transforms.Compose(
        [
            transforms.ToTensor(),
            transforms.Resize((24, 24), transforms.InterpolationMode.BICUBIC, antialias=False),
            transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )
    seen = torch.stack([prepare(functional.to_pil_image(image)) for image in anchors.images])
    assert torch.allclose(generator.condition(anchors.images), seen, atol=1e-5)
    noise = hub.runtime.generator(5, "variations", 0)
    direct = generator.pipeline(
        seen, num_images_per_prompt=2, num_inference_steps=3, guidance_scale=3.0, generator=noise, output_type="np"
    ).images  # (14, 32, 32, 3)
    small = functional.resize(
        torch.from_numpy(direct).permute(0, 3, 1, 2), [20, 20], functional.InterpolationMode.BICUBIC
    )
    assert (made.flatten(0, 1).float() - 255 * small.clamp(0, 1)).abs().max() <= 1


def test_the_defaults_are_the_released_ones(folder):
    settings = hub.image_variations(str(folder)).settings
    assert (settings["num_inference_steps"], settings["guidance_scale"]) == (50, 3.0)
    assert (hub.ImageVariations.NAME, hub.ImageVariations.REVISION) == (
        "lambdalabs/sd-image-variations-diffusers",
        "v2.0",
    )


def test_the_anchor_and_its_own_noise_decide(folder, anchors):
    generator = hub.image_variations(str(folder), steps=2)
    first, again, other = (generator.generate(anchors.images, 1, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    black = generator.generate(torch.zeros_like(anchors.images), 1, 0)
    assert not torch.equal(first, black)


def test_shards_of_variations_equal_the_whole_store(folder, anchors, tmp_path, monkeypatch):
    monkeypatch.setattr(positives, "CHUNK", 2)
    for name, shard in {"whole": (0, 1), "shard0": (0, 2), "shard1": (1, 2)}.items():
        generator = hub.image_variations(str(folder), steps=1)
        positives.make(tmp_path / name, anchors, generator, k=1, shard=shard)
    positives.merge([tmp_path / "shard0", tmp_path / "shard1"], tmp_path / "merged")
    whole, merged = (positives.read(tmp_path / name, anchors) for name in ("whole", "merged"))
    assert torch.equal(whole, merged) and len(whole.unique()) > 10


def other_class(place):
    index = json.loads((place / "model_index.json").read_text())
    (place / "model_index.json").write_text(json.dumps({**index, "_class_name": "StableDiffusionPipeline"}))


def cut(name):
    return lambda place: (place / name).write_bytes((place / name).read_bytes()[:-100])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda place: shutil.rmtree(place), "there is no folder"),
        (lambda place: (place / "model_index.json").unlink(), "damaged, or only part .*model_index.json"),
        (cut("model_index.json"), "damaged, or only part"),
        (other_class, "holds a StableDiffusionPipeline: give the folder of a StableDiffusionImageVariationPipeline"),
        (lambda place: shutil.rmtree(place / "vae"), "damaged, or only part .*vae"),
        (lambda place: (place / "unet" / "diffusion_pytorch_model.safetensors").unlink(), "damaged, or only part"),
        (cut("unet/diffusion_pytorch_model.safetensors"), "damaged, or only part"),
        (cut("image_encoder/model.safetensors"), "damaged, or only part"),
        (lambda place: (place / "image_encoder" / "config.json").unlink(), "damaged, or only part"),
    ],
)
def test_a_missing_or_half_downloaded_model_gives_one_clear_sentence(folder, tmp_path, harm, message):
    place = tmp_path / "model"
    shutil.copytree(folder, place)
    harm(place)
    with pytest.raises(Problem, match=message) as problem:
        hub.image_variations(str(place))
    assert "\n" not in str(problem.value) and str(place) in str(problem.value)


@pytest.fixture
def cache(folder, tmp_path, monkeypatch):
    """The hub's cache with the tiny model in it, under the released name and revision."""
    from huggingface_hub import constants

    place = tmp_path / "models--lambdalabs--sd-image-variations-diffusers"
    shutil.copytree(folder, place / "snapshots" / "0123abcd")
    (place / "refs").mkdir()
    (place / "refs" / "v2.0").write_text("0123abcd")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return place / "snapshots" / "0123abcd"


def test_a_model_in_the_hubs_cache_is_found_by_its_name(cache):
    assert hub.image_variations().settings["generator"] == "image variations"


def test_a_model_half_in_the_cache_gives_one_clear_sentence(cache):
    shutil.rmtree(cache / "unet")
    with pytest.raises(Problem, match="only part of a .*unet|not whole, in the hub's cache"):
        hub.image_variations()


def test_nothing_is_downloaded_unasked(tmp_path, monkeypatch):
    monkeypatch.delenv("SYNPOS_DOWNLOAD", raising=False)
    with pytest.raises(Problem, match=r"revision v2.0, is not.* downloads are not allowed: .*--download"):
        hub.image_variations()
    with pytest.raises(Problem, match="OWNER/NAME"):
        hub.image_variations("variations")
    monkeypatch.setenv("SYNPOS_DOWNLOAD", "1")
    with pytest.raises(Problem, match="could not be downloaded"):  # sockets are blocked
        hub.image_variations()


def test_versatile_diffusion_is_recognised_and_called_as_released(tmp_path, anchors):
    from diffusers import VersatileDiffusionImageVariationPipeline

    torch.manual_seed(0)
    parts = {name: part for name, part in tiny.parts().items() if "safety" not in name}
    VersatileDiffusionImageVariationPipeline(
        image_feature_extractor=tiny.eyes(),
        image_encoder=tiny.clip(),
        image_unet=parts.pop("unet"),
        **parts,
    ).save_pretrained(tmp_path)
    generator = hub.image_variations(str(tmp_path), steps=2)
    assert isinstance(generator, hub.VersatileVariations) and generator.options["guidance_scale"] == 3.0
    made = generator.generate(anchors.images, 2, seed=5)
    assert made.shape == (7, 2, 3, 20, 20) and made.dtype == torch.uint8
    pictures = [functional.resize(functional.to_pil_image(image), [512, 512], 3) for image in anchors.images]
    direct = generator.pipeline(
        pictures,
        num_images_per_prompt=2,
        num_inference_steps=2,
        guidance_scale=3.0,
        generator=hub.runtime.generator(5, "variations", 0),
        output_type="pt",
    ).images
    expected = hub.resize(direct, (20, 20)).unflatten(0, (7, 2))
    assert (made.int() - expected.int()).abs().float().mean() < 2  # the two resize to 512 pixels with other rounding
