"""Pets by ears, coat and markings; flowers by petals."""
from math import pi

UP = pi / 2


def pet(fur, ears, markings=None, second="white"):
    """A face. Ears: pointed, big, round or floppy; markings in the `second` colour: stripes, spots, mask or half."""

    def draw(c):
        coat = c.shade(fur)
        for side in (-1, 1):
            if ears == "pointed":
                c.triangle((side * 0.75, -0.95), (side * 0.15, -0.5), (side * 0.7, -0.1), coat)
            elif ears == "round":
                c.circle(side * 0.6, -0.6, 0.27, coat)
            elif ears == "big":
                c.triangle((side * 0.95, -1.0), (side * 0.1, -0.4), (side * 0.75, 0.1), "pink")
        c.circle(0, 0.05, 0.7, coat)
        if ears == "floppy":
            for side in (-1, 1):
                c.ellipse(side * 0.72, 0.05, 0.22, 0.55, second)
        face, u, v = c.disc(0, 0.05, 0.7), (c.u * 2.2) % 1 - 0.5, (c.v * 2.2) % 1 - 0.5
        if markings == "stripes":
            c.paint(face.clip(abs(u) - 0.17), second)
        elif markings == "spots":
            c.paint(face.clip((u**2 + v**2) ** 0.5 - 0.27), second)
        elif markings == "mask":
            c.circle(0, 0.25, 0.4, second)
        elif markings == "half":
            c.paint(face.clip(c.u), second)
        c.circle(-0.27, -0.1, 0.1, "black").circle(0.27, -0.1, 0.1, "black").circle(0, 0.25, 0.11, "black")

    return draw


PETS = {name: (pet(*looks), {}) for name, looks in {
    "tabby cat": ("gray", "pointed", "stripes", "dark"),
    "siamese cat": ("cream", "pointed", "mask", "brown"),
    "russian blue": ("slate", "pointed"),
    "bengal cat": ("orange", "pointed", "spots", "brown"),
    "sphynx cat": ("pink", "big"),
    "ginger cat": ("orange", "pointed", "stripes", "cream"),
    "beagle": ("white", "floppy", "half", "brown"),
    "pug": ("sand", "floppy", "mask", "black"),
    "samoyed": ("white", "round"),
    "dalmatian": ("white", "floppy", "spots", "black"),
    "poodle": ("cream", "floppy", None, "cream"),
    "rottweiler": ("black", "floppy", "mask", "brown"),
}.items()}


def blossom(petals, depth, colour, middle, radius=0.8, middle_radius=0.25):
    return lambda c: c.star(0, 0, radius * 0.75, petals, depth, colour, turn=UP).circle(0, 0, middle_radius, middle)


def rose(c):
    c.circle(0, 0, 0.7, "red").ring(0, 0, 0.5, 0.05, "black")
    c.ring(0.05, 0, 0.3, 0.05, "black").circle(0.08, 0, 0.1, "black")


def tulip(c):
    c.line(0, 0.1, 0, 1.1, 0.06, "green").ellipse(0, -0.2, 0.4, 0.45, "red")
    c.triangle((-0.4, -0.8), (-0.38, -0.1), (0, -0.2), "red").triangle((0.4, -0.8), (0.38, -0.1), (0, -0.2), "red")
    c.triangle((0, -0.85), (-0.2, -0.2), (0.2, -0.2), "red")


def bluebell(c):
    c.line(0, -1, 0, -0.3, 0.05, "green").triangle((0, -0.8), (-0.55, 0.4), (0.55, 0.4), "blue")
    c.star(0, 0.4, 0.4, 6, 0.2, "blue")


FLOWERS = {name: (draw, dict(rotation=0.5)) for name, draw in {
    "rose": rose,
    "tulip": tulip,
    "bluebell": bluebell,
    "daisy": blossom(12, 0.25, "white", "yellow"),
    "sunflower": blossom(14, 0.2, "yellow", "brown", 0.95, 0.42),
    "lily": blossom(6, 0.45, "pink", "yellow", 0.9, 0.12),
    "poppy": blossom(4, 0.15, "red", "black"),
    "violet": blossom(5, 0.3, "purple", "yellow", 0.8, 0.15),
    "iris": blossom(3, 0.45, "purple", "yellow", 0.95, 0.15),
    "lotus": blossom(8, 0.3, "pink", "cream"),
    "marigold": blossom(16, 0.12, "orange", "red", 0.9, 0.2),
    "forget-me-not": blossom(5, 0.25, "sky", "white", 0.8, 0.2),
}.items()}
