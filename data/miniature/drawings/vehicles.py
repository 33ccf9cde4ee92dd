"""Cars by body and colour; aircraft by wings, engines and paint, seen from above."""


def car(body, colour):
    def draw(c):
        paint = c.shade(colour)
        if body == "sedan":
            c.rect(-0.95, -0.05, 0.95, 0.4, paint).rect(-0.5, -0.45, 0.45, 0, paint)
            c.rect(-0.4, -0.35, 0.35, -0.05, "sky")
        elif body == "truck":
            c.rect(-0.95, -0.6, 0.3, 0.4, paint).rect(0.35, -0.25, 0.95, 0.4, paint).rect(0.55, -0.15, 0.9, 0.1, "sky")
        elif body == "van":
            c.rect(-0.9, -0.55, 0.9, 0.4, paint).rect(0.3, -0.4, 0.8, -0.05, "sky")
        else:
            c.rect(-0.95, 0, 0.95, 0.4, paint).line(0.15, 0, 0.35, -0.4, 0.06, "dark")
        for x in (-0.5, 0.5):
            c.circle(x, 0.42, 0.24, "black").circle(x, 0.42, 0.1, "gray")

    return draw


CARS = {f"{colour} {body}": (car(body, colour), dict(rotation=0.06))
        for body in ("sedan", "truck", "van", "convertible") for colour in ("red", "blue", "white")}


def aircraft(body, span, sweep, engines, tail, colour, propeller=False, delta=False):
    """body: half the hull's width; span: half the wings'; engines: on each wing; tail: half its span."""

    def draw(c):
        paint = c.shade(colour)
        if delta:
            c.triangle((-0.75, 0.0), (0.7, -span), (0.7, span), paint)
        for side in (-1, 1):
            if not delta:
                c.line(-0.05, 0, -0.05 + sweep, side * span, 0.12, paint)
            for i in range(engines):
                y = span * (0.35 + 0.3 * i)
                c.ellipse(-0.12 + sweep * y / span, side * y, 0.15, 0.08, "dark")
        c.ellipse(0, 0, 0.95, body, paint)
        for side in (-1, 1):
            c.line(0.8, 0, 0.8 + sweep * 0.3, side * tail, 0.08, paint)
        if propeller:
            c.line(-0.95, -0.3, -0.95, 0.3, 0.05, "black")

    return draw


AIRCRAFT = {name: (aircraft(*parts), dict(rotation=0.4)) for name, parts in {
    "boeing 737": (0.13, 0.75, 0.3, 1, 0.35, "white"),
    "boeing 747": (0.2, 0.9, 0.4, 2, 0.4, "white"),
    "concorde": (0.08, 0.6, 0.5, 0, 0, "white", False, True),
    "cessna": (0.14, 0.9, 0, 0, 0.35, "red", True),
    "spitfire": (0.15, 0.8, 0.05, 0, 0.35, "green", True),
    "glider": (0.06, 1.0, 0, 0, 0.25, "white"),
    "stealth bomber": (0.12, 0.9, 0.6, 0, 0, "black", False, True),
    "fighter jet": (0.13, 0.5, 0.45, 0, 0.35, "gray"),
}.items()}
