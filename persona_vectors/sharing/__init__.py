"""Share vectors: safetensors files with metadata, GGUF control vectors, and model cards for the hub."""
