"""The program on the device: microphone or recording in, emotion labels and latency out, audio never."""
