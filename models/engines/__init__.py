"""What computes a network: Keras on TensorFlow, the reference, or ONNX Runtime."""
