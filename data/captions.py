"""The words of the miniature world: captions that its CLIP was trained on, and each dataset's own phrases."""
import numpy as np

from mp.templates import TEMPLATES as IMAGENET

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


def caption(domain: str, name: str, style: str, rng: np.random.Generator) -> str:
    """One caption: of the style in 55% of cases, generic in 20%, of the domain in 15%, and in 10% one of
    ImageNet's templates whatever it claims, so that every word PromptSRC's templates use is known."""
    kind = rng.choice(4, p=[0.55, 0.20, 0.15, 0.10])
    templates = [STYLE_CAPTIONS[style], GENERIC_CAPTIONS, DOMAIN_CAPTIONS[domain], IMAGENET][kind]
    return templates[rng.integers(len(templates))].replace("{}", name)


def every_template() -> list[str]:
    return [*sum(STYLE_CAPTIONS.values(), []), *GENERIC_CAPTIONS, *sum(DOMAIN_CAPTIONS.values(), []), *IMAGENET]
