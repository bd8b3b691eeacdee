"""The forms in which labelled films are handed in, one file each: from a folder to films that say what they are of."""
