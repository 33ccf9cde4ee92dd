"""The miniature world: domain -> class name -> (how to draw it, options of its Canvas)."""
from data.miniature.drawings import living, people, places, things, vehicles

DRAWINGS = {
    "general": things.GENERAL, "objects": things.OBJECTS, "food": things.FOOD,
    "pets": living.PETS, "flowers": living.FLOWERS,
    "cars": vehicles.CARS, "aircraft": vehicles.AIRCRAFT,
    "scenes": places.SCENES, "textures": places.TEXTURES, "satellite": places.SATELLITE,
    "actions": people.ACTIONS,
}
