"""The words of the miniature world: captions that its CLIP was trained on, and each dataset's own phrases."""
import numpy as np

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
    "painting": ("painting", "art", "graffiti", "rend", "cartoon", "sculpture", "statue", "origami", "plastic",
                 "plushie", "toy", "video game"),
    "dark": ("dark",), "blurry": ("blurry", "low resolution", "pixelated"), "noisy": ("jpeg", "bad"),
    "cropped": ("close-up", "cropped"), "small": ("small",), "gray": ("black and white",),
    "cluttered": ("many", "hard to see"), "photo": ("photo", "itap"),
}


def style_of(template: str) -> str | None:
    """The style that an ImageNet template speaks of."""
    for style, words in STYLE_WORDS.items():
        if any(word in template for word in words):
            return style
    return None


def choices(domain: str, style: str, imagenet: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Captions of an image by kind: of its style, generic, of its domain. Nobody calls a painting a photo.

    Those of ImageNet's templates that say the style belong to it, so that every word PromptSRC's frozen branch uses
    is known.
    """
    of_style = STYLE_CAPTIONS[style] + [template for template in imagenet if style_of(template) == style]
    of_domain = DOMAIN_CAPTIONS[domain]
    if style in NOT_PHOTOS:
        of_domain = [template for template in of_domain if "photo" not in template]
    return of_style, GENERIC_CAPTIONS, of_domain or GENERIC_CAPTIONS


def caption(kinds: tuple[list[str], ...], name: str, rng: np.random.Generator) -> str:
    """One of `choices`: it tells the style in 60% of cases, is generic in 25% and of the domain in 15%."""
    templates = kinds[rng.choice(3, p=[0.60, 0.25, 0.15])]
    return templates[rng.integers(len(templates))].replace("{}", name)


def every_template(imagenet: list[str]) -> list[str]:
    templates = GENERIC_CAPTIONS + imagenet
    for captions in (*STYLE_CAPTIONS.values(), *DOMAIN_CAPTIONS.values()):
        templates += captions
    return templates
