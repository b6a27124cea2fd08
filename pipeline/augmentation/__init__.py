"""Random transforms of training images: builds them, scales their strength, and withholds them from classes."""
