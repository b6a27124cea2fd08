"""Random transforms of training images: how they are built, scaled and withheld from classes."""
