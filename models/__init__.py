"""Keras classifiers of chest films and CT: arrays and weights, nothing of DICOM networking, databases or queues."""
