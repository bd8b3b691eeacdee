"""From a folder of labelled films to a package: data, training, evaluation."""
