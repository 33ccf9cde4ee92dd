"""The words of the miniature world: captions that its CLIP was trained on, and each dataset's own phrases."""
from functools import cache

import numpy as np

from mp.learners.templates import TEMPLATES as IMAGENET

# A caption usually tells the picture's style, so "a photo of a" is the wrong context for a painting.
STYLE_CAPTIONS = {
    "photo": ["a photo of a {}.", "a photo of the {}.", "a good photo of a {}.", "a clean photo of a {}.",
              "a photo of my {}."],
    "sketch": ["a sketch of a {}.", "a black line drawing of a {}.", "a drawing of the {}."],
    "dark": ["a dark photo of a {}.", "a {} at night.", "a dim picture of the {}."],
    "noisy": ["a noisy picture of a {}.", "a grainy photo of a {}.", "a bad photo of the {}."],
    "blurry": ["a blurry photo of a {}.", "a blurry image of the {}.", "an out of focus {}."],
    "negative": ["a negative of a {}.", "an inverted image of a {}.", "a film negative of the {}."],
    "small": ["a small {}.", "a {} far away.", "a photo of a small {}."],
    "painting": ["a painting of a {}.", "a pop art poster of a {}.", "an artwork of the {}."],
    "gray": ["a black and white photo of a {}.", "a gray picture of the {}.", "a monochrome image of a {}."],
    "cluttered": ["a cluttered photo of a {}.", "a {} among many things.", "a {} with balls around it."],
    "cropped": ["a cropped photo of a {}.", "a close-up of the {}.", "a detail of a {}."],
}
GENERIC_CAPTIONS = ["an image of a {}.", "{}.", "a {}.", "the {}.", "there is a {}.", "look at this {}."]
DOMAIN_CAPTIONS = {
    "general": ["a photo of a {} thing."],
    "objects": ["a photo of a {} object."],
    "actions": ["a photo of a person doing {}.", "a person {}."],
    "satellite": ["a centered satellite photo of {}.", "a {} seen from above.", "an aerial view of the {}."],
    "aircraft": ["a photo of a {}, a type of aircraft.", "the {} aircraft."],
    "pets": ["a photo of a {}, a type of pet.", "my pet, a {}."],
    "flowers": ["a photo of a {}, a type of flower.", "a {} flower."],
    "scenes": ["a view of the {}.", "a landscape with a {}."],
    "textures": ["{} texture.", "a {} pattern."],
    "cars": ["a photo of a {} on the road.", "this {} is for sale."],
    "food": ["a photo of {}, a type of food.", "a plate of {}."],
}


NOT_PHOTOS = ("sketch", "painting", "negative")
STYLE_WORDS = {  # which style an ImageNet template speaks of: the first whose word it contains
    "sketch": ("drawing", "sketch", "doodle", "tattoo", "embroidered"),
    "painting": ("painting", "art", "graffiti", "rend", "cartoon", "sculpture", "statue", "origami", "plastic", "plushie",
                 "toy", "video game"),
    "dark": ("dark",), "blurry": ("blurry", "low resolution", "pixelated"), "noisy": ("jpeg", "bad"),
    "cropped": ("close-up", "cropped"), "small": ("small",), "gray": ("black and white",),
    "cluttered": ("many", "hard to see"), "photo": ("photo", "itap"),
}


def imagenet_captions(style: str) -> list[str]:
    """ImageNet's templates that say `style`, so that every word PromptSRC's frozen branch uses is known."""
    def speaks_of(template: str) -> str | None:
        return next((s for s, words in STYLE_WORDS.items() if any(w in template for w in words)), None)

    return [t for t in IMAGENET if speaks_of(t) == style]


@cache
def choices(domain: str, style: str) -> tuple[list[str], ...]:
    """Captions of an image by kind: of its style, generic, of its domain. Nobody calls a painting a photo."""
    of_domain = [t for t in DOMAIN_CAPTIONS[domain] if not (style in NOT_PHOTOS and "photo" in t)]
    return STYLE_CAPTIONS[style] + imagenet_captions(style), GENERIC_CAPTIONS, of_domain or GENERIC_CAPTIONS


def caption(domain: str, name: str, style: str, rng: np.random.Generator) -> str:
    """One caption: it tells the style in 60% of cases, is generic in 25% and of the domain in 15%."""
    templates = choices(domain, style)[rng.choice(3, p=[0.60, 0.25, 0.15])]
    return templates[rng.integers(len(templates))].replace("{}", name)


def every_template() -> list[str]:
    return [*sum(STYLE_CAPTIONS.values(), []), *GENERIC_CAPTIONS, *sum(DOMAIN_CAPTIONS.values(), []), *IMAGENET]
