"""Everyday things, and food."""
from math import cos, pi, sin

UP = pi / 2  # turns a star's point upwards


def ladder(c):
    for x in (-0.4, 0.4):
        c.line(x, -0.9, x, 0.9, 0.07, "brown")
    for y in (-0.6, -0.2, 0.2, 0.6):
        c.line(-0.4, y, 0.4, y, 0.06, "brown")


def book(c):
    c.rect(-0.85, -0.55, -0.03, 0.6, "white").rect(0.03, -0.55, 0.85, 0.6, "white").line(0, -0.6, 0, 0.65, 0.07, "blue")
    for left in (-0.7, 0.2):
        for y in (-0.2, 0.1):
            c.line(left, y, left + 0.5, y, 0.04, "gray")


GENERAL = {name: (draw, options) for name, draw, options in [
    ("sun", lambda c: c.star(0, 0, 0.85, 10, 0.2, "yellow").circle(0, 0, 0.5, "orange"), {}),
    ("moon", lambda c: c.paint(c.disc(0, 0, 0.85).clip(-c.disc(0.4, -0.1, 0.7)), "cream"), {}),
    ("tree", lambda c: c.rect(-0.12, 0.2, 0.12, 0.95, "brown").circle(0, -0.25, 0.6, "green"), {}),
    ("house", lambda c: c.rect(-0.65, -0.1, 0.65, 0.85, "cream").triangle((-0.85, -0.1), (0.85, -0.1), (0, -0.9), "red")
        .rect(-0.15, 0.3, 0.15, 0.85, "brown"), {}),
    ("fish", lambda c: c.ellipse(-0.15, 0, 0.65, 0.4, "orange")
        .triangle((0.35, 0), (0.95, -0.45), (0.95, 0.45), "orange").circle(-0.5, -0.08, 0.09, "black"), {}),
    ("ladder", ladder, {}),
    ("heart", lambda c: c.circle(-0.38, -0.25, 0.42, "red").circle(0.38, -0.25, 0.42, "red")
        .triangle((-0.76, -0.08), (0.76, -0.08), (0, 0.9), "red"), {}),
    ("star", lambda c: c.star(0, 0, 0.75, 5, 0.32, "yellow", turn=UP), {}),
    ("mushroom", lambda c: c.rect(-0.2, 0, 0.2, 0.85, "cream").dome(0, 0.05, 0.8, 0.05, "red")
        .circle(-0.3, -0.3, 0.13, "white").circle(0.25, -0.4, 0.13, "white"), {}),
    ("ball", lambda c: c.circle(0, 0, 0.8, "blue").ellipse(0, 0, 0.8, 0.22, "white"), {}),
    ("clock", lambda c: c.circle(0, 0, 0.85, "brown").circle(0, 0, 0.7, "white").line(0, 0, 0, -0.5, 0.06, "black")
        .line(0, 0, 0.35, 0.1, 0.06, "black"), dict(mirror=False)),
    ("flag", lambda c: c.line(-0.7, -0.9, -0.7, 0.95, 0.07, "gray").rect(-0.65, -0.85, 0.8, 0.1, "red")
        .rect(-0.65, -0.53, 0.8, -0.22, "white"), {}),
    ("boat", lambda c: c.bowl(0, 0.1, 0.8, 0.3, "brown").line(0, -0.9, 0, 0.3, 0.05, "dark")
        .triangle((0.08, -0.85), (0.08, 0.2), (0.7, 0.2), "white"), {}),
    ("book", book, {}),
    ("snowman", lambda c: c.circle(0, 0.45, 0.5, "white").circle(0, -0.3, 0.35, "white")
        .rect(-0.3, -0.75, 0.3, -0.58, "black").rect(-0.2, -1, 0.2, -0.7, "black"), {}),
    ("candle", lambda c: c.rect(-0.22, -0.2, 0.22, 0.9, "cream").ellipse(0, -0.55, 0.14, 0.28, "orange"), {}),
    ("arrow", lambda c: c.rect(-0.9, -0.15, 0.2, 0.15, "green")
        .triangle((0.2, -0.5), (0.2, 0.5), (0.9, 0), "green"), {}),
    ("bell", lambda c: c.dome(0, 0, 0.6, 0, "yellow").triangle((0, -1.2), (-0.85, 0.55), (0.85, 0.55), "yellow")
        .circle(0, 0.65, 0.17, "brown"), {}),
    ("cross", lambda c: c.rect(-0.22, -0.85, 0.22, 0.85, "red").rect(-0.85, -0.22, 0.85, 0.22, "red"), {}),
    ("key", lambda c: c.ring(-0.5, 0, 0.32, 0.11, "yellow").rect(-0.18, -0.09, 0.9, 0.09, "yellow")
        .rect(0.5, 0, 0.62, 0.35, "yellow").rect(0.75, 0, 0.87, 0.35, "yellow"), {}),
]}

OBJECTS = {name: (draw, options) for name, draw, options in [
    ("cup", lambda c: c.ring(0.5, 0.05, 0.3, 0.09, "white").rect(-0.6, -0.6, 0.45, 0.7, "white"), {}),
    ("lamp", lambda c: c.line(0, -0.3, 0, 0.8, 0.06, "dark").rect(-0.4, 0.75, 0.4, 0.9, "dark")
        .triangle((0, -1.2), (-0.65, -0.05), (0.65, -0.05), "yellow"), {}),
    ("chair", lambda c: c.rect(-0.5, -0.9, -0.35, 0.9, "brown").rect(-0.5, 0.05, 0.5, 0.22, "brown")
        .rect(0.35, 0.05, 0.5, 0.9, "brown"), {}),
    ("umbrella", lambda c: c.line(0, -0.5, 0, 0.8, 0.05, "dark").dome(0, 0, 0.85, 0.02, "purple"), {}),
    ("anchor", lambda c: c.ring(0, -0.7, 0.18, 0.07, "dark").line(0, -0.5, 0, 0.8, 0.08, "dark")
        .paint((abs(c.disc(0, 0.1, 0.65)) - 0.09).clip(0.2 - c.v), "dark")
        .line(-0.35, -0.3, 0.35, -0.3, 0.07, "dark"), {}),
    ("pyramid", lambda c: c.triangle((-0.95, 0.7), (0.95, 0.7), (0, -0.8), "sand")
        .triangle((0.2, 0.7), (0.95, 0.7), (0, -0.8), "brown"), {}),
    ("stop sign", lambda c: c.rect(-0.07, 0.3, 0.07, 1, "gray").star(0, -0.25, 0.62, 8, 0.05, "red")
        .rect(-0.4, -0.36, 0.4, -0.14, "white"), {}),
    ("butterfly", lambda c: c.circle(-0.48, -0.32, 0.42, "orange").circle(0.48, -0.32, 0.42, "orange")
        .circle(-0.38, 0.42, 0.32, "yellow").circle(0.38, 0.42, 0.32, "yellow").ellipse(0, 0, 0.09, 0.65, "black"), {}),
    ("starfish", lambda c: c.star(0, 0, 0.62, 5, 0.5, "orange", turn=UP), dict(rotation=1.5)),
    ("phone", lambda c: c.rect(-0.45, -0.9, 0.45, 0.9, "black").rect(-0.35, -0.7, 0.35, 0.6, "sky")
        .circle(0, 0.75, 0.07, "gray"), {}),
    ("scissors", lambda c: c.line(-0.4, 0.3, 0.45, -0.9, 0.07, "gray").line(0.4, 0.3, -0.45, -0.9, 0.07, "gray")
        .ring(-0.45, 0.6, 0.25, 0.08, "red").ring(0.45, 0.6, 0.25, 0.08, "red"), {}),
    ("guitar", lambda c: c.rect(-0.08, -0.95, 0.08, 0.2, "dark").circle(0, 0.15, 0.33, "orange")
        .circle(0, 0.55, 0.43, "orange").circle(0, 0.4, 0.14, "black"), {}),
]}


def dots(c, colours, count, radius, distance):
    """`count` dots on a circle around the middle, in turn of these colours."""
    for i in range(count):
        angle = i * 2 * pi / count + 0.3
        c.circle(distance * cos(angle), distance * sin(angle), radius, colours[i % len(colours)])


def pizza(c):
    dots(c.circle(0, 0, 0.85, "brown").circle(0, 0, 0.72, "yellow"), ["red"], 6, 0.14, 0.4)


def salad(c):
    dots(c.circle(0, 0, 0.95, "white"), ["green", "green", "red"], 9, 0.22, 0.5)
    dots(c, ["green"], 4, 0.2, 0.2)


def soup(c):
    dots(c.circle(0, 0, 0.95, "white").circle(0, 0, 0.72, "orange"), ["green", "cream"], 4, 0.09, 0.35)


def french_fries(c):
    for i, x in enumerate((-0.5, -0.25, 0, 0.25, 0.5)):
        c.line(x, -0.8 + 0.15 * abs(i - 2), x * 0.7, 0.3, 0.08, "yellow")
    c.rect(-0.5, 0.1, 0.5, 0.9, "red")


FOOD = {name: (draw, {}) for name, draw in {
    "pizza": pizza,
    "donut": lambda c: c.ring(0, 0, 0.55, 0.3, "brown").ring(0, 0, 0.55, 0.2, "pink"),
    "hamburger": lambda c: c.paint(c.oval(0, 0, 0.8, 0.65).clip(c.v + 0.12), "orange")
        .rect(-0.85, -0.1, 0.85, 0.05, "green")
        .rect(-0.8, 0.07, 0.8, 0.27, "brown").rect(-0.75, 0.3, 0.75, 0.55, "orange"),
    "sushi": lambda c: c.circle(0, 0, 0.75, "black").circle(0, 0, 0.58, "white").circle(0, 0, 0.25, "orange"),
    "ice cream": lambda c: c.triangle((-0.45, 0), (0.45, 0), (0, 0.95), "orange").circle(0, -0.3, 0.5, "pink"),
    "fried egg": lambda c: c.star(0, 0, 0.75, 4, 0.1, "white", turn=0.6).circle(0.05, 0, 0.33, "yellow"),
    "pancakes": lambda c: c.ellipse(0, 0.45, 0.85, 0.25, "orange").ellipse(0, 0.2, 0.85, 0.25, "brown")
        .ellipse(0, -0.05, 0.85, 0.25, "orange").rect(-0.15, -0.25, 0.15, -0.02, "yellow"),
    "hot dog": lambda c: c.line(-0.6, 0, 0.6, 0, 0.36, "orange").line(-0.75, 0, 0.75, 0, 0.16, "red")
        .line(-0.5, 0, 0.5, 0, 0.04, "yellow"),
    "salad": salad,
    "cake": lambda c: c.rect(-0.7, 0, 0.7, 0.7, "brown").rect(-0.7, -0.3, 0.7, 0.05, "white")
        .line(0, -0.7, 0, -0.3, 0.06, "red"),
    "soup": soup,
    "french fries": french_fries,
}.items()}
