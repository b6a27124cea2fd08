"""Names of the problems of images and datasets, each with its meaning."""

OF_IMAGES = {
    "unreadable": "damaged or cut off",
    "not_an_image": "something else than an image",
    "bomb": "more pixels than prepare.max_pixels",
    "tiny": "a side shorter than prepare.min_side",
    "aspect": "one side longer than prepare.max_aspect times the other",
    "blank": "one colour, or nearly so",
    "low_range": "a picture of more than 8 bits without a value above a sixteenth of the level of white",
    "inverted": "a picture that stores white as 0, and was turned round",
    "white_drawing": "a white drawing on transparency, which white would erase, and was put on black",
    "duplicate": "the same pixels as an image before it",
    "near_duplicate": "nearly the same picture as an image before it",
    "conflicting_labels": "the same picture, or nearly, under two labels",
    "leak": "in the training split of the source, and the same picture, or nearly, in its val or test",
}
OF_DATASET = {
    "rare_class": "a class with fewer than prepare.min_per_class images",
    "imbalance": "classes whose sizes differ by more than prepare.max_imbalance times",
    "one_split": "a class that the source has in one split only",
    "large_group": "a group, or a chain of near duplicates, far larger than the others, which one split takes whole",
    "split_shift": "a split in which classes have other shares than in training, beyond chance",
    "shortcut": "the size of an image, its proportions or its name alone tell its class",
}
PROBLEMS = {**OF_IMAGES, **OF_DATASET}

UNDECODED = ("unreadable", "not_an_image", "bomb")
"""Problems of images that cannot be decoded."""
